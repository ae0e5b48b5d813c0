/*
 * suite_jwt - the cases of kind token and scenario of DIR/jwt_cases.json.
 *
 * Tokens go through the verifier and, where a header field can carry them, through the search for
 * the credential. Scenarios run on a fake clock with the manager of key sets and a scripted
 * transport (jwt_scenario.h). The vectors of Wycheproof are suite_wycheproof's.
 */
#include "jwt_scenario.h"

static struct tally tally;

static void report(const json_t *c, const char *what, const char *why)
{
    printf("%s: FAIL %s%s%s: %s\n", tally.file, tally_text(c, "id"), *what ? " / " : "", what, why);
}

/* One way of carrying a token; false and a line when it did not end as expected. */
static bool judge(const json_t *c, const json_t *t, const struct result *r, const char *way)
{
    bool want = is_word(json_object_get(t, "expect"), "accept");
    const char *what = json_string_value(json_object_get(t, "what"));
    char why[800];

    if (r->accepted == want && (!want || principal_fits(json_object_get(t, "principal"), r))) {
        const char *advice = json_string_value(json_object_get(t, "reason_code"));
        if (getenv("SUITE_VERBOSE") != NULL && !want && advice != NULL &&
            strcmp(advice, pst_identity_reason_name(r->reason)) != 0) {
            (void)snprintf(why, sizeof(why), "note (%s): %s instead of %s", way,
                           pst_identity_reason_name(r->reason), advice);
            report(c, what == NULL ? "" : what, why);
        }
        return true;
    }
    (void)snprintf(why, sizeof(why), "%s: expected %s, got %s (%s) %s", way,
                   want ? "accept" : "reject", r->accepted ? "accept" : "reject",
                   r->accepted ? r->user : pst_identity_reason_name(r->reason), r->issuer);
    report(c, what == NULL ? "" : what, why);
    return false;
}

static bool run_one(struct world *w, const json_t *c, const json_t *t, int64_t now_s)
{
    const json_t *case_http = json_object_get(c, "http"), *http = json_object_get(t, "http");
    char *owned;
    struct pst_bytes token = token_of(t, &owned);
    bool good = true;

    if (http == NULL && json_is_null(case_http))
        http = case_http;
    if (http == NULL || json_is_null(http)) {
        struct result r = verify(w, token, now_s);
        good = judge(c, t, &r, "verifier");
        r = verify(w, token, now_s); /* and out of the cache */
        good = good && judge(c, t, &r, "again");
    }
    if (!json_is_null(http) && good) {
        struct result r = request(w, token, http, now_s);
        good = judge(c, t, &r, "request");
    }
    free(owned);
    return good;
}

/* What is left of the keys when those of the case were refused at load. */
static json_t *keys_without(const json_t *meta, const json_t *c)
{
    json_t *keys = json_deep_copy(json_object_get(meta, "keys")), *value;
    const char *name;

    json_object_foreach(json_object_get(c, "keys"), name, value)(void) json_object_del(keys, name);
    return keys;
}

static bool run_token(const json_t *meta, const json_t *c)
{
    int64_t now_s = (int64_t)json_number_value(json_object_get(c, "now"));
    json_t *more = json_object_get(c, "more"), *one;
    struct world w;
    size_t i;

    if (!world_open(&w, meta, c, NULL, false) &&
        is_word(json_object_get(c, "load"), "may-refuse")) {
        json_t *keys = keys_without(meta, c);
        world_close(&w);
        (void)world_open(&w, meta, NULL, keys, false);
        json_decref(keys);
    }
    bool good = run_one(&w, c, c, now_s);
    json_array_foreach(more, i, one) good = good && run_one(&w, c, one, now_s);
    world_close(&w);
    return good;
}

/* What is strange about a configuration, NULL: nothing. Its words are those of the meta. */
static const char *strange_config(const json_t *meta, const json_t *own, const char **word)
{
    const json_t *known = json_object_get(meta, "config");
    json_t *patch = json_object_get(own, "config"), *value;

    json_object_foreach(patch, *word,
                        value) if (json_object_get(known, *word) == NULL) return "config";
    return NULL;
}

/* What is strange about one token and its expectation, NULL: nothing. */
static const char *strange_token(const json_t *c, const json_t *t, const char **word)
{
    static const char *const EXPECTS[] = {"accept", "reject", NULL};

    *word = tally_text(t, "expect");
    if (!tally_among(*word, EXPECTS))
        return "expect";
    *word = "";
    return json_is_string(json_object_get(t, "token")) ||
                   json_object_get(t, "token_zlib_b64") != NULL ||
                   json_is_object(json_object_get(t, "http")) ||
                   json_is_object(json_object_get(c, "http"))
               ? NULL
               : "token";
}

static const char *strange_case(const json_t *meta, const json_t *c, const char **word)
{
    static const char *const KINDS[] = {"token", "scenario", NULL};
    const json_t *more = json_object_get(c, "more"), *steps = json_object_get(c, "steps"), *one;
    bool scenario = is_word(json_object_get(c, "kind"), "scenario");
    size_t i;

    *word = tally_text(c, "kind");
    if (!tally_among(*word, KINDS))
        return "kind";
    const char *what = strange_config(meta, c, word);
    if (what == NULL && !scenario)
        what = strange_token(c, c, word);
    for (i = 0; what == NULL && (one = json_array_get(more, i)) != NULL; i++)
        what = strange_token(c, one, word);
    for (i = 0; what == NULL && scenario && (one = json_array_get(steps, i)) != NULL; i++) {
        what = strange_step(one, word);
        if (what == NULL)
            what = strange_config(meta, one, word);
    }
    return what;
}

static void run_case(const json_t *meta, const json_t *c)
{
    static const char *const NOW[] = {"clock", "jwks_url", "restart", NULL};
    static const char *const LATER[] = {"revocation", "websocket",  "discovery",
                                        "stream",     "management", NULL};
    const char *id = tally_text(c, "id"), *word;

    if (is_word(json_object_get(c, "kind"), "vectors")) /* Wycheproof's have a suite of their own */
        return;
    if (tally_needs(&tally, c, id, NOW, LATER))
        return;
    const char *what = strange_case(meta, c, &word);
    if (what != NULL) {
        tally_strange(&tally, id, what, word);
        return;
    }
    if (is_word(json_object_get(c, "kind"), "scenario") ? run_scenario(meta, c)
                                                        : run_token(meta, c))
        tally.passed++;
    else
        tally.failed++;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : TALLY_OWN;
    json_t *one;
    size_t i;

    tally = tally_of(dir, "jwt_cases.json");
    json_t *file = tally_load(&tally, dir, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL);
    json_array_foreach(json_object_get(file, "cases"), i, one)
    {
        if (argc <= 2 ||
            is_word(json_object_get(one, "id"), argv[2])) /* one case alone, by its id */
            run_case(json_object_get(file, "meta"), one);
    }
    json_decref(file);
    tally_close(&tally);
    printf("suite jwt: %u passed, %u failed, %u not applicable\n", tally.passed, tally.failed,
           tally.skipped);
    return tally.failed > 0;
}
