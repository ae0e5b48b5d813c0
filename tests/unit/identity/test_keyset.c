/* identity/keyset: which keys may verify what, and how workers hold a set while it is replaced. */
#include "../test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "postern/identity/keyset.h"

/* A good EC key of Wycheproof's, as members without the braces. */
#define EC_XY                                                                                      \
    "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","      \
    "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw\""
#define ED_GOOD                                                                                    \
    "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"RSvI2fQ8RwLxHu09AngF8tTro5nGSJO6mAicbgp2wWU\""

static struct pst_keyset *load(const char *text)
{
    struct pst_keyset *set;
    struct pst_error error;

    if (pst_keyset_from_jwks(pst_bytes_of(text, strlen(text)), &set, NULL, &error) != PST_OK)
        fail_msg("%s: %s", text, error.message);
    return set;
}

static uint32_t algs_of(const char *members)
{
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "{\"keys\":[{%s,\"kid\":\"k\"},{" ED_GOOD ",\"kid\":\"other\"}]}", members);
    struct pst_keyset *set = load(text);
    const struct pst_key *key = pst_keyset_find(set, PST_LIT("k"));
    uint32_t algs = key == NULL ? 0 : pst_key_algs(key);
    pst_keyset_release(set);
    return algs;
}

static void a_key_says_what_it_verifies(void **state)
{
    (void)state;
    const uint32_t es256 = PST_ALG_BIT(PST_ALG_ES256);

    assert_int_equal(algs_of(EC_XY), es256);
    assert_int_equal(algs_of(EC_XY ",\"alg\":\"ES256\",\"use\":\"sig\""), es256);
    assert_int_equal(algs_of(EC_XY ",\"key_ops\":[\"verify\"]"), es256);
    assert_int_equal(algs_of(EC_XY ",\"alg\":\"ES384\""), 0);
    assert_int_equal(algs_of(EC_XY ",\"alg\":\"HS256\""), 0);
    assert_int_equal(algs_of(EC_XY ",\"alg\":\"none\""), 0);
    assert_int_equal(algs_of(EC_XY ",\"alg\":1"), 0);
    assert_int_equal(algs_of(EC_XY ",\"use\":\"enc\""), 0);
    assert_int_equal(algs_of(EC_XY ",\"use\":null"), 0);
    assert_int_equal(algs_of(EC_XY ",\"key_ops\":[\"sign\"]"), 0);
    assert_int_equal(algs_of(EC_XY ",\"key_ops\":\"verify\""), 0);
    assert_int_equal(algs_of(ED_GOOD ",\"alg\":\"EdDSA\""), PST_ALG_BIT(PST_ALG_EDDSA));
}

static void a_key_that_breaks_a_rule_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        EC_XY ",\"d\":\"AQ\"",
        "\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        "\"kty\":\"AKP\",\"pub\":\"AAAA\"",
        "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","
        "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgm0\"",
        "\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY\","
        "\"y\":\"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw\"",
        "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"",
        "\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"RSvI2fQ8RwLxHu09AngF8tTro5nGSJO6mAicbgp2wWU\"",
        /* Ed25519: y = 0, 1, p - 1, a point of order 8, y = p */
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"7P_______________________________________38\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"7f_______________________________________38\"",
        "\"kty\":\"RSA\",\"e\":\"AQAB\"",
        "\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"",
        "\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"",
        "\"kty\":1",
    };
    char text[2048];
    enum pst_identity_reason reason;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(text, sizeof(text),
                       "{\"keys\":[{" ED_GOOD ",\"kid\":\"good\"},{%s,\"kid\":\"bad\"}]}", bad[i]);
        struct pst_keyset *set = load(text);
        const struct pst_key *key = pst_keyset_find(set, PST_LIT("bad"));
        if (key == NULL || !pst_key_refused(key, &reason) || pst_key_algs(key) != 0)
            fail_msg("taken: %s", bad[i]);
        assert_false(pst_key_refused(pst_keyset_find(set, PST_LIT("good")), &reason));
        pst_keyset_release(set);
    }
}

static void a_document_is_one_or_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1]}",
        "{\"keys\":[{" ED_GOOD "}]} x",
        "{\"keys\":[{" ED_GOOD "}],\"keys\":[]}",
        "{\"keys\":[{" ED_GOOD ",\"kid\":1}]}",
        "{\"keys\":[{" ED_GOOD ",\"kid\":\"a\"},{" EC_XY ",\"kid\":\"a\"}]}",
        "{\"keys\":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}",
    };
    struct pst_keyset *set;
    struct pst_error error;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (pst_keyset_from_jwks(pst_bytes_of(bad[i], strlen(bad[i])), &set, NULL, &error) ==
            PST_OK)
            fail_msg("taken: %s", bad[i]);
        assert_null(set);
        assert_true(error.message[0] != '\0');
    }
}

static void a_leaked_private_key_is_reported(void **state)
{
    (void)state;
    struct pst_keyset_report report;
    struct pst_keyset *set;
    struct pst_bytes text =
        PST_LIT("{\"keys\":[{" ED_GOOD ",\"kid\":\"a\"},{" EC_XY ",\"d\":\"AQ\",\"kid\":\"b\"}]}");

    assert_int_equal(pst_keyset_from_jwks(text, &set, &report, NULL), PST_OK);
    assert_true(report.private_published);
    assert_int_equal(report.usable, 1);
    assert_int_equal(report.refused, 1);
    assert_string_equal(report.first_refusal, "key 1: bad_key");
    pst_keyset_release(set);
}

static void more_than_a_hundred_keys_are_refused(void **state)
{
    (void)state;
    static char text[32768];
    struct pst_keyset *set;
    size_t at = 0;

    for (int i = 0; i < 101; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s{" ED_GOOD ",\"kid\":\"%d\"}",
                               i == 0 ? "{\"keys\":[" : ",", i);
    (void)snprintf(text + at, sizeof(text) - at, "]}");
    assert_int_equal(pst_keyset_from_jwks(pst_bytes_of(text, strlen(text)), &set, NULL, NULL),
                     PST_E_LIMIT);
}

static void secrets_have_the_length_of_their_hash(void **state)
{
    (void)state;
    static const char bytes[64];
    struct pst_keyset *set;
    struct pst_secret_key two[2] = {{PST_LIT("a"), PST_ALG_HS256, pst_bytes_of(bytes, 32)},
                                    {PST_LIT("a"), PST_ALG_HS512, pst_bytes_of(bytes, 64)}};

    assert_int_equal(pst_keyset_from_secrets(two, 2, &set, NULL), PST_E_INVALID); /* one kid */
    two[1].kid = PST_LIT("b");
    assert_int_equal(pst_keyset_from_secrets(two, 2, &set, NULL), PST_OK);
    assert_ptr_equal(pst_keyset_single(set, PST_ALG_HS512), pst_keyset_at(set, 1));
    assert_null(pst_keyset_single(set, PST_ALG_HS384));
    pst_keyset_release(set);
    two[1].secret.len = 63;
    assert_int_equal(pst_keyset_from_secrets(two, 2, &set, NULL), PST_E_INVALID);
    two[0].secret.len = 31;
    assert_int_equal(pst_keyset_from_secrets(two, 1, &set, NULL), PST_E_INVALID);
    two[0] = (struct pst_secret_key){PST_LIT("a"), PST_ALG_RS256, pst_bytes_of(bytes, 64)};
    assert_int_equal(pst_keyset_from_secrets(two, 1, &set, NULL), PST_E_INVALID);
}

static void pem_and_document_of_one_key_are_the_same_key(void **state)
{
    (void)state;
    static const struct pst_bytes pem = {
        .ptr = "-----BEGIN PUBLIC KEY-----\n"
               "MCowBQYDK2VwAyEARSvI2fQ8RwLxHu09AngF8tTro5nGSJO6mAicbgp2wWU=\n"
               "-----END PUBLIC KEY-----\n",
        .len = 26 + 1 + 60 + 1 + 24 + 1,
    };
    struct pst_keyset *a, *b = load("{\"keys\":[{" ED_GOOD "}]}");

    assert_int_equal(pst_keyset_from_pem(pem, PST_LIT("k"), PST_ALG_EDDSA, &a, NULL), PST_OK);
    assert_memory_equal(pst_key_thumbprint(pst_keyset_at(a, 0)),
                        pst_key_thumbprint(pst_keyset_at(b, 0)), PST_THUMBPRINT_BYTES);
    assert_null(pst_keyset_find(b, PST_LIT(""))); /* no kid is no name */
    pst_keyset_release(a);
    assert_int_equal(pst_keyset_from_pem(pem, PST_LIT("k"), PST_ALG_RS256, &a, NULL),
                     PST_E_INVALID);
    assert_int_equal(
        pst_keyset_from_pem(PST_LIT("nothing"), PST_LIT("k"), PST_ALG_UNKNOWN, &a, NULL),
        PST_E_INVALID);
    pst_keyset_release(b);
}

/* --- many threads --- */

struct reader {
    pthread_t thread;
    struct pst_keyslot *slot;
    const _Atomic bool *stop;
    _Atomic uint32_t changes;
    uint32_t bad;
};

static void *read_sets(void *arg)
{
    struct reader *r = arg;
    const struct pst_keyset *set = NULL;
    uint64_t generation = 0;

    while (!atomic_load(r->stop)) {
        if (pst_keyslot_generation(r->slot) != generation) {
            pst_keyset_release(set);
            uint64_t before = generation;
            set = pst_keyslot_take(r->slot, &generation);
            r->bad += generation <= before;
            atomic_fetch_add(&r->changes, 1);
        }
        if (set != NULL)
            r->bad += pst_keyset_find(set, PST_LIT("k")) == NULL;
    }
    pst_keyset_release(set);
    return NULL;
}

static void readers_never_see_a_set_that_is_gone(void **state)
{
    (void)state;
    enum { READERS = 4, CHANGES = 100, PUBLICATIONS_MAX = 200000 };
    struct reader readers[READERS];
    struct pst_keyslot *slot;
    _Atomic bool stop = false;
    uint32_t least = 0;

    assert_int_equal(pst_keyslot_create(&slot), PST_OK);
    assert_int_equal(pst_keyslot_generation(slot), 0);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.slot = slot, .stop = &stop};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_sets, &readers[i]), 0);
    }
    for (uint32_t n = 0; least < CHANGES && n < PUBLICATIONS_MAX; n++) {
        pst_keyslot_publish(slot,
                            n % 7 == 6 ? NULL : load("{\"keys\":[{" ED_GOOD ",\"kid\":\"k\"}]}"));
        sched_yield();
        least = UINT32_MAX;
        for (int i = 0; i < READERS; i++) {
            uint32_t changes = atomic_load(&readers[i].changes);
            least = changes < least ? changes : least;
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].bad, 0);
    }
    assert_true(least >= CHANGES);
    pst_keyslot_destroy(slot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_says_what_it_verifies),
        cmocka_unit_test(a_key_that_breaks_a_rule_is_refused_by_name),
        cmocka_unit_test(a_document_is_one_or_none),
        cmocka_unit_test(a_leaked_private_key_is_reported),
        cmocka_unit_test(more_than_a_hundred_keys_are_refused),
        cmocka_unit_test(secrets_have_the_length_of_their_hash),
        cmocka_unit_test(pem_and_document_of_one_key_are_the_same_key),
        cmocka_unit_test(readers_never_see_a_set_that_is_gone),
    };
    return cmocka_run_group_tests_name("identity/keyset", tests, NULL, NULL);
}
