/*
 * The steps of rule J2, in their order, each a function: split, decode, header, issuer, key,
 * signature, claims. A step that refuses ends the walk; no later step runs on what an earlier one
 * has not let pass.
 */
#include "postern/identity/token.h"

#include <stdlib.h>

#include "json_internal.h"
#include "keyset_internal.h"
#include "postern/identity/base64url.h"
#include "postern/identity/signature.h"
#include "token_internal.h"

/* The key set of one issuer as this thread last saw it. */
struct lane {
    const struct pst_keyset *set; /* a reference, or NULL */
    uint64_t generation;
    struct pst_key_use *uses; /* one per key of the set */
};

struct pst_checker {
    const struct pst_verifier *verifier;
    struct pst_signature *signature;
    struct lane *lanes;     /* one per issuer */
    unsigned char *scratch; /* the three decoded parts */
    size_t scratch_len;
};

struct parts {
    struct pst_bytes text[3];  /* as they stand */
    struct pst_bytes bytes[3]; /* decoded: header, payload, signature */
    struct pst_bytes signed_;  /* header.payload */
};

struct header {
    enum pst_alg alg;
    bool has_kid;
    char kid[PST_KEY_KID_MAX];
    size_t kid_len;
    bool kid_overlong; /* longer than any key's: matches none */
};

struct walk {
    struct pst_checker *checker;
    struct pst_token_outcome *out;
    struct parts parts;
    struct header header;
    uint32_t issuer;
    const struct pst_key *key;
    enum pst_status status;
};

static bool refuse(struct walk *w, enum pst_identity_reason reason)
{
    w->out->reason = reason;
    return false;
}

/* --- the thread's view of the key sets --- */

static void lane_clear(struct lane *lane)
{
    if (lane->uses != NULL)
        for (uint32_t i = 0; i < pst_keyset_count(lane->set); i++)
            pst_key_use_fini(&lane->uses[i]);
    free(lane->uses);
    pst_keyset_release(lane->set);
    *lane = (struct lane){0};
}

/* The issuer's lane, brought up to the slot. PST_E_NOMEM leaves it without a set. */
static enum pst_status lane_refresh(struct pst_checker *checker, uint32_t issuer, struct lane **out)
{
    struct lane *lane = *out = &checker->lanes[issuer];
    struct pst_keyslot *slot = checker->verifier->issuers[issuer].slot;

    if (pst_keyslot_generation(slot) == lane->generation)
        return PST_OK;
    lane_clear(lane);
    lane->set = pst_keyslot_take(slot, &lane->generation);
    if (lane->set == NULL)
        return PST_OK;
    lane->uses = calloc(pst_keyset_count(lane->set), sizeof(*lane->uses));
    if (lane->uses == NULL) {
        lane_clear(lane); /* generation 0: the next one tries again */
        return PST_E_NOMEM;
    }
    return PST_OK;
}

/* --- structure --- */

static bool split(struct walk *w, struct pst_bytes token)
{
    struct parts *p = &w->parts;
    size_t first = pst_bytes_find(token, '.');
    if (first == token.len)
        return refuse(w, PST_ID_MALFORMED);
    size_t second = first + 1 + pst_bytes_find(pst_bytes_from(token, first + 1), '.');
    if (second == token.len)
        return refuse(w, PST_ID_MALFORMED);

    p->text[0] = pst_bytes_of(token.ptr, first);
    p->text[1] = pst_bytes_of(token.ptr + first + 1, second - first - 1);
    p->text[2] = pst_bytes_from(token, second + 1);
    p->signed_ = pst_bytes_of(token.ptr, second);
    return true; /* a third dot is no base64url */
}

static bool decode(struct walk *w)
{
    unsigned char *at = w->checker->scratch, *end = at + w->checker->scratch_len;

    for (int i = 0; i < 3; i++) {
        size_t len;
        if (!pst_base64url_decode(w->parts.text[i], at, (size_t)(end - at), &len))
            return refuse(w, PST_ID_MALFORMED);
        w->parts.bytes[i] = pst_bytes_of(at, len);
        at += len;
    }
    return true;
}

/* --- header --- */

static struct pst_bytes without_application(struct pst_bytes text)
{
    struct pst_bytes prefix = PST_LIT("application/");

    if (text.len > prefix.len && pst_bytes_equal_nocase(pst_bytes_of(text.ptr, prefix.len), prefix))
        return pst_bytes_from(text, prefix.len);
    return text;
}

static bool typ_fits(const struct pst_verifier *v, const json_t *typ)
{
    if (typ == NULL)
        return !v->typ_required;
    if (!json_is_string(typ))
        return false;
    struct pst_bytes kind = without_application(pst_json_text(typ));
    for (uint32_t i = 0; i < v->typ_count; i++)
        if (pst_bytes_equal_nocase(v->typ[i], kind))
            return true;
    return false;
}

/* crit is refused whatever it holds, as nothing is understood; only the reason tells a broken one
 * (RFC 7515 4.1.11: not empty, strings, no twins, no registered names) from a foreign one. */
static enum pst_identity_reason crit_reason(const json_t *crit)
{
    static const char *const registered[] = {"alg", "jku",      "jwk", "kid", "x5u", "x5c",
                                             "x5t", "x5t#S256", "typ", "cty", "crit"};
    size_t i, k;
    const json_t *one;

    if (!json_is_array(crit) || json_array_size(crit) == 0)
        return PST_ID_MALFORMED;
    json_array_foreach(crit, i, one)
    {
        if (!json_is_string(one))
            return PST_ID_MALFORMED;
        struct pst_bytes name = pst_json_text(one);
        for (k = 0; k < sizeof(registered) / sizeof(registered[0]); k++)
            if (pst_bytes_equal(name, pst_bytes_of(registered[k], strlen(registered[k]))))
                return PST_ID_MALFORMED;
        for (k = 0; k < i; k++)
            if (pst_bytes_equal(name, pst_json_text(json_array_get(crit, k))))
                return PST_ID_MALFORMED;
    }
    return PST_ID_CRIT;
}

static bool is_nested(const json_t *cty)
{
    if (cty == NULL)
        return false;
    if (!json_is_string(cty))
        return true;
    struct pst_bytes kind = without_application(pst_json_text(cty)), jwt = PST_LIT("jwt");
    return kind.len >= jwt.len &&
           pst_bytes_equal_nocase(pst_bytes_from(kind, kind.len - jwt.len), jwt);
}

/* alg and kid, by type. */
static bool read_names(struct walk *w, const json_t *header)
{
    const json_t *alg = json_object_get(header, "alg"), *kid = json_object_get(header, "kid");
    struct header *h = &w->header;

    if (!json_is_string(alg) || !(kid == NULL || json_is_null(kid) || json_is_string(kid)))
        return refuse(w, PST_ID_MALFORMED);
    h->alg = pst_alg_find(pst_json_text(alg));
    if (json_is_string(kid)) {
        h->has_kid = true;
        h->kid_len = json_string_length(kid);
        h->kid_overlong = h->kid_len > sizeof(h->kid);
        memcpy(h->kid, json_string_value(kid), h->kid_overlong ? 0 : h->kid_len);
    }
    return true;
}

static bool judge_header(struct walk *w, const json_t *header)
{
    const struct pst_verifier *v = w->checker->verifier;
    const json_t *crit = json_object_get(header, "crit");

    if (json_object_size(header) > v->header_max_members || !read_names(w, header))
        return refuse(w, PST_ID_MALFORMED);
    if (crit != NULL)
        return refuse(w, crit_reason(crit));
    if (json_object_get(header, "b64") != NULL || json_object_get(header, "zip") != NULL ||
        json_object_get(header, "enc") != NULL || is_nested(json_object_get(header, "cty")))
        return refuse(w, PST_ID_MALFORMED);
    if (!pst_alg_in(v->algorithms, w->header.alg))
        return refuse(w, PST_ID_ALG_NOT_ALLOWED);
    if (!typ_fits(v, json_object_get(header, "typ")))
        return refuse(w, PST_ID_TYP);
    return true;
}

static bool read_header(struct walk *w)
{
    json_t *header = pst_json_object(w->parts.bytes[0], w->checker->verifier->header_max_depth);
    bool good = header != NULL && judge_header(w, header);

    json_decref(header);
    return good; /* the reason is malformed unless told otherwise */
}

/* --- issuer and key --- */

static bool choose_issuer(struct walk *w)
{
    const struct pst_verifier *v = w->checker->verifier;
    char name[PST_KEY_KID_MAX];
    size_t len;

    switch (pst_json_peek(w->parts.bytes[1], PST_LIT("iss"), name, sizeof(name), &len)) {
    case PST_PEEK_MALFORMED:
        return refuse(w, PST_ID_MALFORMED);
    case PST_PEEK_ABSENT:
        return refuse(w, PST_ID_MISSING_CLAIM);
    case PST_PEEK_OTHER:
        return refuse(w, PST_ID_ISS);
    case PST_PEEK_STRING:
        break;
    }
    for (w->issuer = 0; w->issuer < v->issuers_count; w->issuer++)
        if (pst_bytes_equal(v->issuers[w->issuer].name, pst_bytes_of(name, len)))
            return pst_alg_in(v->issuers[w->issuer].algorithms, w->header.alg) ||
                   refuse(w, PST_ID_ALG_NOT_ALLOWED);
    return refuse(w, PST_ID_ISS);
}

/* Why the issuer has no key of this kid: another one has it, or nobody. */
static enum pst_identity_reason absent_reason(struct walk *w, struct pst_bytes kid)
{
    for (uint32_t i = 0; i < w->checker->verifier->issuers_count; i++) {
        const struct pst_keyset *set = w->checker->lanes[i].set;
        if (i != w->issuer && set != NULL && pst_keyset_find(set, kid) != NULL)
            return PST_ID_KEY_ISSUER_MISMATCH;
    }
    return PST_ID_UNKNOWN_KID;
}

static bool find_key(struct walk *w, const struct pst_keyset *set)
{
    const struct header *h = &w->header;
    struct pst_bytes kid = pst_bytes_of(h->kid, h->kid_len);

    if (!h->has_kid) {
        w->key = w->checker->verifier->missing_kid == PST_MISSING_KID_SINGLE
                     ? pst_keyset_single(set, h->alg)
                     : NULL;
        return w->key != NULL || refuse(w, PST_ID_UNKNOWN_KID);
    }
    if (h->kid_overlong)
        return refuse(w, PST_ID_UNKNOWN_KID);
    w->key = pst_keyset_find(set, kid);
    if (w->key != NULL)
        return true;
    w->out->refresh_issuer = w->issuer; /* the set may be older than the key */
    return refuse(w, absent_reason(w, kid));
}

static bool choose_key(struct walk *w)
{
    struct lane *lane;
    enum pst_identity_reason reason;

    w->status = lane_refresh(w->checker, w->issuer, &lane);
    if (w->status != PST_OK)
        return false;
    if (lane->set == NULL)
        return refuse(w, PST_ID_KEYS_UNAVAILABLE);
    if (!find_key(w, lane->set))
        return false;
    if (pst_key_refused(w->key, &reason))
        return refuse(w, reason);
    if (!pst_alg_in(pst_key_type_algs(w->key), w->header.alg))
        return refuse(w, PST_ID_KEY_TYPE_MISMATCH);
    return pst_alg_in(pst_key_algs(w->key), w->header.alg) || refuse(w, PST_ID_KEY_ALG_MISMATCH);
}

static bool signature_holds(struct walk *w)
{
    struct lane *lane = &w->checker->lanes[w->issuer];

    if (pst_signature_holds(w->checker->signature, w->key,
                            &lane->uses[pst_key_index(lane->set, w->key)], w->header.alg,
                            w->parts.signed_, w->parts.bytes[2]))
        return true;
    w->out->tried_issuer = w->issuer;
    w->out->tried_generation = lane->generation;
    return refuse(w, PST_ID_BAD_SIGNATURE);
}

/* --- claims --- */

static bool read_claims(struct walk *w, int64_t now_s, struct pst_arena *arena)
{
    struct pst_claims *claims = &w->out->claims;
    bool good = false;

    w->status = pst_claims_read(w->checker->verifier, w->issuer, w->parts.bytes[1], now_s, arena,
                                claims, &w->out->reason, &good);
    if (w->status == PST_OK && good)
        w->status = pst_arena_copy(arena, pst_key_kid(w->key), &claims->kid);
    if (w->status != PST_OK || !good) {
        *claims = (struct pst_claims){0};
        return false;
    }
    claims->alg = w->header.alg;
    claims->keys_generation = w->checker->lanes[w->issuer].generation;
    memcpy(claims->thumbprint, pst_key_thumbprint(w->key), PST_THUMBPRINT_BYTES);
    return true;
}

enum pst_status pst_token_verify(struct pst_checker *checker, struct pst_bytes token, int64_t now_s,
                                 struct pst_arena *arena, struct pst_token_outcome *out)
{
    struct walk w; /* not cleared as a whole: the kid is 1 KiB */

    *out =
        (struct pst_token_outcome){.refresh_issuer = PST_NO_ISSUER, .tried_issuer = PST_NO_ISSUER};
    w.checker = checker;
    w.out = out;
    w.key = NULL;
    w.status = PST_OK;
    w.header.has_kid = w.header.kid_overlong = false;
    w.header.kid_len = 0;
    if (token.len > checker->verifier->max_token_bytes) {
        out->reason = PST_ID_TOO_LARGE;
        return PST_OK;
    }
    out->accepted = split(&w, token) && decode(&w) && read_header(&w) && choose_issuer(&w) &&
                    choose_key(&w) && signature_holds(&w) && read_claims(&w, now_s, arena);
    if (out->refresh_issuer != PST_NO_ISSUER && w.status == PST_OK)
        w.status =
            pst_arena_copy(arena, pst_bytes_of(w.header.kid, w.header.kid_len), &out->wanted_kid);
    return w.status;
}

bool pst_checker_key_stands(struct pst_checker *checker, struct pst_claims *claims)
{
    struct lane *lane;

    if (claims->issuer >= checker->verifier->issuers_count)
        return false;
    if (pst_keyslot_generation(checker->verifier->issuers[claims->issuer].slot) ==
        claims->keys_generation)
        return true;
    if (lane_refresh(checker, claims->issuer, &lane) != PST_OK || lane->set == NULL)
        return false;
    const struct pst_key *key = claims->kid.len > 0 ? pst_keyset_find(lane->set, claims->kid)
                                                    : pst_keyset_single(lane->set, claims->alg);
    if (key == NULL || !pst_alg_in(pst_key_algs(key), claims->alg) ||
        memcmp(pst_key_thumbprint(key), claims->thumbprint, PST_THUMBPRINT_BYTES) != 0)
        return false;
    claims->keys_generation = lane->generation;
    return true;
}

enum pst_status pst_checker_create(const struct pst_verifier *verifier, struct pst_checker **out)
{
    struct pst_checker *checker = *out = calloc(1, sizeof(*checker));

    if (checker == NULL)
        return PST_E_NOMEM;
    checker->verifier = verifier;
    checker->scratch_len = pst_base64url_bytes(verifier->max_token_bytes) + 8;
    checker->scratch = malloc(checker->scratch_len);
    checker->lanes = calloc(verifier->issuers_count + 1, sizeof(*checker->lanes));
    if (checker->scratch == NULL || checker->lanes == NULL ||
        pst_signature_create(&checker->signature) != PST_OK) {
        pst_checker_destroy(checker); /* copes with a half-built one */
        *out = NULL;
        return PST_E_NOMEM;
    }
    return PST_OK;
}

void pst_checker_destroy(struct pst_checker *checker)
{
    if (checker == NULL)
        return;
    if (checker->lanes != NULL)
        for (uint32_t i = 0; i < checker->verifier->issuers_count; i++)
            lane_clear(&checker->lanes[i]);
    free(checker->lanes);
    free(checker->scratch);
    pst_signature_destroy(checker->signature);
    free(checker);
}

const struct pst_verifier *pst_checker_verifier(const struct pst_checker *checker)
{
    return checker->verifier;
}

uint64_t pst_checker_generation(const struct pst_checker *checker, uint32_t issuer)
{
    const struct pst_verifier *v = checker->verifier;

    return issuer < v->issuers_count ? pst_keyslot_generation(v->issuers[issuer].slot) : 0;
}
