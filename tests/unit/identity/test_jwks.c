/* identity/jwks and wall: when keys are fetched, kept and taken away; and a clock that is set back.
 */
#include "../test.h"

#include <stdio.h>
#include <string.h>

#include "postern/base/clock.h"
#include "postern/identity/jwks.h"
#include "postern/identity/wall.h"

#define S PST_NS_PER_S
#define ED                                                                                         \
    "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"RSvI2fQ8RwLxHu09AngF8tTro5nGSJO6mAicbgp2wWU\""
#define KEYS_A "{\"keys\":[{" ED ",\"kid\":\"a\"}]}"
#define KEYS_B "{\"keys\":[{" ED ",\"kid\":\"b\"}]}"

struct world {
    struct pst_jwks *jwks;
    struct pst_keyslot *slot;
    struct pst_jwks_request request;
    unsigned requests, changes, events[PST_JWKS_WITHDRAWN + 1];
};

static void on_fetch(void *ctx, const struct pst_jwks_request *request)
{
    struct world *w = ctx;

    w->request = *request;
    w->requests++;
}

static void on_event(void *ctx, uint32_t source, enum pst_jwks_event event, const char *detail)
{
    struct world *w = ctx;

    assert_int_equal(source, 0);
    assert_non_null(detail);
    w->events[event]++;
}

static void on_change(void *ctx, uint32_t source)
{
    (void)source;
    ((struct world *)ctx)->changes++;
}

static void open_world(struct world *w)
{
    struct pst_jwks_limits limits = pst_jwks_limits_default();
    struct pst_jwks_ops ops = {
        .ctx = w, .fetch = on_fetch, .event = on_event, .changed = on_change};

    *w = (struct world){0};
    assert_int_equal(pst_keyslot_create(&w->slot), PST_OK);
    struct pst_jwks_source source = {
        .issuer = 3, .url = PST_LIT("https://idp.test/jwks.json"), .slot = w->slot};
    assert_int_equal(pst_jwks_create(&limits, &source, 1, &ops, &w->jwks, NULL), PST_OK);
}

static void close_world(struct world *w)
{
    pst_jwks_destroy(w->jwks);
    pst_keyslot_destroy(w->slot);
}

static void reply(struct world *w, unsigned status, const char *body, const char *etag,
                  const char *cache_control, uint64_t now_ns)
{
    struct pst_jwks_answer answer = {
        .status = status == 0 ? PST_E_IO : PST_OK,
        .http_status = status,
        .body = pst_bytes_of(body, strlen(body)),
        .etag = pst_bytes_of(etag, strlen(etag)),
        .cache_control = pst_bytes_of(cache_control, strlen(cache_control)),
    };

    pst_jwks_fetched(w->jwks, 0, &answer, now_ns);
}

static bool has_kid(struct world *w, const char *kid)
{
    uint64_t generation;
    const struct pst_keyset *set = pst_keyslot_take(w->slot, &generation);
    bool found = set != NULL && pst_keyset_find(set, pst_bytes_of(kid, strlen(kid))) != NULL;

    pst_keyset_release(set);
    return found;
}

static void it_fetches_at_the_start_and_then_within_the_jitter(void **state)
{
    (void)state;
    struct world w;
    uint64_t least = UINT64_MAX, most = 0;

    for (int i = 0; i < 200; i++) {
        open_world(&w);
        (void)pst_jwks_tick(w.jwks, 1000 * S);
        assert_int_equal(w.requests, 1);
        assert_false(pst_jwks_ready(w.jwks));
        (void)pst_jwks_tick(w.jwks, 1001 * S); /* one at a time */
        assert_int_equal(w.requests, 1);
        reply(&w, 200, KEYS_A, "", "", 1001 * S);
        assert_true(pst_jwks_ready(w.jwks) && has_kid(&w, "a"));
        uint64_t next = pst_jwks_tick(w.jwks, 1001 * S) - 1001 * S;
        least = next < least ? next : least;
        most = next > most ? next : most;
        (void)pst_jwks_tick(w.jwks, 1001 * S + next - 1);
        assert_int_equal(w.requests, 1);
        (void)pst_jwks_tick(w.jwks, 1001 * S + next);
        assert_int_equal(w.requests, 2);
        close_world(&w);
    }
    assert_true(least >= 270 * S && least < 285 * S);
    assert_true(most <= 330 * S && most > 315 * S);
}

static void max_age_is_honoured_between_the_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        uint64_t min, max;
    } cases[] = {{"max-age=0", 60, 66},
                 {"no-store", 270, 330},
                 {"public, Max-Age=600", 540, 660},
                 {"max-age=31536000", 3240, 3600},
                 {"max-age=-1", 270, 330},
                 {"max-age=99999999999999999999", 270, 330},
                 {"s-maxage=5", 270, 330},
                 {"max-age=100", 90, 110}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world w;
        open_world(&w);
        (void)pst_jwks_tick(w.jwks, 0);
        reply(&w, 200, KEYS_A, "", cases[i].field, 0);
        uint64_t next = pst_jwks_tick(w.jwks, 0);
        if (next < cases[i].min * S || next > cases[i].max * S)
            fail_msg("%s: %lu", cases[i].field, (unsigned long)(next / S));
        close_world(&w);
    }
}

static void failures_keep_the_set_and_are_tried_again_ever_later(void **state)
{
    (void)state;
    struct world w;
    uint64_t now = 0, last = 0;
    static const struct {
        unsigned status;
        const char *body;
    } bad[] = {{0, KEYS_B}, {404, KEYS_B}, {302, KEYS_B}, {200, "{\"keys\":[]}"},
               {200, "x"},  {304, ""},     {500, ""},     {0, ""}};

    open_world(&w);
    (void)pst_jwks_tick(w.jwks, now);
    reply(&w, 200, KEYS_A, "", "", now);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t next = pst_jwks_tick(w.jwks, now);
        if (i > 0)
            assert_true(next - now <= 66 * S && (next - now > last || last > 54 * S));
        last = i > 0 ? (next - now) * 5 / 4 : 0; /* doubling, even after the jitter */
        now = next;
        (void)pst_jwks_tick(w.jwks, now);
        assert_int_equal(w.requests, i + 2);
        reply(&w, bad[i].status, bad[i].body, "", "", now);
        assert_true(has_kid(&w, "a") && pst_jwks_ready(w.jwks));
        assert_int_equal(w.events[PST_JWKS_FAILED], i + 1);
    }
    assert_int_equal(pst_jwks_stats(w.jwks, 0, now).failures, 8);
    close_world(&w);
}

static void keys_not_confirmed_for_a_day_are_withdrawn(void **state)
{
    (void)state;
    struct world w;
    uint64_t now = 0;

    open_world(&w);
    (void)pst_jwks_tick(w.jwks, 0);
    reply(&w, 200, KEYS_A, "\"v1\"", "", 0);
    while (now < 86400 * S) {
        assert_true(has_kid(&w, "a"));
        unsigned before = w.requests;
        now = pst_jwks_tick(w.jwks, now);
        if (now >= 86400 * S)
            break;
        (void)pst_jwks_tick(w.jwks, now);
        assert_int_equal(w.requests, before + 1);
        reply(&w, 0, "", "", "", now);
    }
    (void)pst_jwks_tick(w.jwks, 86400 * S);
    assert_false(has_kid(&w, "a"));
    assert_false(pst_jwks_ready(w.jwks));
    assert_int_equal(w.events[PST_JWKS_WITHDRAWN], 1);
    /* and with them the ETag: a 304 would confirm nothing */
    if (w.request.etag.len > 0)
        reply(&w, 304, "", "", "", 86400 * S);
    assert_false(has_kid(&w, "a"));
    now = pst_jwks_tick(w.jwks, 86400 * S);
    (void)pst_jwks_tick(w.jwks, now);
    assert_int_equal(w.request.etag.len, 0);
    reply(&w, 200, KEYS_A, "", "", now);
    assert_true(has_kid(&w, "a"));
    close_world(&w);
}

static void an_etag_is_sent_and_304_renews(void **state)
{
    (void)state;
    struct world w;

    open_world(&w);
    (void)pst_jwks_tick(w.jwks, 0);
    assert_int_equal(w.request.etag.len, 0);
    reply(&w, 200, KEYS_A, "\"v1\"", "", 0);
    uint64_t now = pst_jwks_tick(w.jwks, 0), generation = pst_keyslot_generation(w.slot);
    (void)pst_jwks_tick(w.jwks, now);
    assert_true(pst_bytes_equal(w.request.etag, PST_LIT("\"v1\"")));
    reply(&w, 304, "", "", "", now);
    assert_int_equal(pst_jwks_stats(w.jwks, 0, now).age_ns, 0);
    assert_int_equal(pst_keyslot_generation(w.slot), generation); /* nobody has to look again */
    now = pst_jwks_tick(w.jwks, now);
    (void)pst_jwks_tick(w.jwks, now);
    reply(&w, 200, KEYS_A, "\"v2\"", "", now); /* the same words */
    assert_int_equal(pst_keyslot_generation(w.slot), generation);
    now = pst_jwks_tick(w.jwks, now);
    (void)pst_jwks_tick(w.jwks, now);
    reply(&w, 200, KEYS_B, "", "", now);
    assert_int_not_equal(pst_keyslot_generation(w.slot), generation);
    assert_true(has_kid(&w, "b") && !has_kid(&w, "a"));
    close_world(&w);
}

static void an_unknown_kid_causes_one_fetch_in_thirty_seconds(void **state)
{
    (void)state;
    struct world w;
    char kid[16];

    open_world(&w);
    (void)pst_jwks_tick(w.jwks, 0);
    reply(&w, 200, KEYS_A, "", "", 0);
    assert_int_equal(pst_jwks_want(w.jwks, 7, PST_LIT("x"), 10 * S),
                     PST_E_BUSY); /* no URL of that issuer */
    assert_int_equal(w.requests, 1);
    for (int i = 0; i < 100; i++) { /* all at once: all wait for the one */
        int n = snprintf(kid, sizeof(kid), "k%d", i);
        assert_int_equal(pst_jwks_want(w.jwks, 3, pst_bytes_of(kid, (size_t)n), 10 * S),
                         PST_PENDING);
    }
    assert_int_equal(w.requests, 2);
    reply(&w, 200, KEYS_A, "", "", 11 * S);
    assert_int_equal(w.changes, 2);
    assert_int_equal(pst_jwks_want(w.jwks, 3, PST_LIT("other"), 39 * S), PST_E_BUSY);
    assert_int_equal(pst_jwks_want(w.jwks, 3, PST_LIT("k0"), 41 * S),
                     PST_E_BUSY); /* in vain already */
    assert_int_equal(pst_jwks_want(w.jwks, 3, PST_LIT("other"), 41 * S), PST_PENDING);
    assert_int_equal(w.requests, 3);
    reply(&w, 200, KEYS_B, "", "", 41 * S);
    assert_true(has_kid(&w, "b"));
    assert_int_equal(pst_jwks_want(w.jwks, 3, PST_LIT("k0"), 72 * S),
                     PST_PENDING); /* other keys: worth asking again */
    close_world(&w);
}

static void who_follows_inherits_the_keys_with_their_age(void **state)
{
    (void)state;
    struct world old, new, empty;

    open_world(&old);
    open_world(&new);
    open_world(&empty);
    pst_jwks_inherit(new.jwks, 0, empty.jwks, 0); /* nothing to be had */
    assert_false(pst_jwks_ready(new.jwks));
    (void)pst_jwks_tick(old.jwks, 1000 * S);
    reply(&old, 200, KEYS_A, "\"v1\"", "", 1000 * S);
    pst_jwks_inherit(new.jwks, 0, old.jwks, 0);
    close_world(&old);
    assert_true(pst_jwks_ready(new.jwks) && has_kid(&new, "a"));

    (void)pst_jwks_tick(new.jwks, 2000 * S); /* asked anew at once, and with the tag */
    assert_int_equal(new.requests, 1);
    assert_true(pst_bytes_equal(new.request.etag, PST_LIT("\"v1\"")));
    reply(&new, 503, "", "", "", 2000 * S);
    assert_true(pst_jwks_ready(new.jwks));
    (void)pst_jwks_tick(new.jwks, (1000 + 86400) * S - 1);
    assert_true(has_kid(&new, "a"));
    (void)pst_jwks_tick(new.jwks,
                        (1000 + 86400) * S); /* a day since the old one had them confirmed */
    assert_false(has_kid(&new, "a"));
    assert_int_equal(new.events[PST_JWKS_WITHDRAWN], 1);
    close_world(&new);
    close_world(&empty);
}

static void a_leaked_key_raises_an_alarm(void **state)
{
    (void)state;
    struct world w;

    open_world(&w);
    (void)pst_jwks_tick(w.jwks, 0);
    reply(&w, 200, "{\"keys\":[{" ED ",\"kid\":\"a\"},{" ED ",\"d\":\"AQ\",\"kid\":\"b\"}]}", "",
          "", 0);
    assert_int_equal(w.events[PST_JWKS_KEY_LEAKED], 1);
    assert_int_equal(w.events[PST_JWKS_KEY_REFUSED], 1);
    assert_true(has_kid(&w, "a"));
    close_world(&w);
}

static void urls_are_plain_https(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "http://x/",
                                      "https://",
                                      "https:///x",
                                      "https://u@x/",
                                      "https://x#f",
                                      "https://x/ y",
                                      "https://x/\r\n",
                                      "https://u:p@x/k",
                                      "https://x\\@y/",
                                      "https://:1/"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (pst_jwks_url_ok(pst_bytes_of(bad[i], strlen(bad[i]))))
            fail_msg("%s", bad[i]);
    assert_true(pst_jwks_url_ok(PST_LIT("https://idp.test:8443/keys?x=@")));
}

static void a_clock_set_back_does_not_run_back(void **state)
{
    (void)state;
    struct pst_wall w = {.leeway_s = 30, .hold_s = 86400};
    const uint64_t wall = 1800000000 * S, boot = 500 * S;

    assert_int_equal(pst_wall_now_s(&w, wall, boot), 1800000000);
    assert_int_equal(pst_wall_now_s(&w, wall + 9 * S, boot + 10 * S),
                     1800000009); /* small: followed */
    assert_int_equal(pst_wall_now_s(&w, wall - 3600 * S, boot + 20 * S), 1800000019);
    assert_int_equal(w.steps_back, 1);
    assert_int_equal(pst_wall_now_s(&w, wall - 3500 * S, boot + 120 * S), 1800000119);
    assert_int_equal(w.steps_back, 1); /* one step, one alarm */
    assert_int_equal(pst_wall_now_s(&w, wall + 200 * S, boot + 200 * S),
                     1800000200); /* it has been put right */
    assert_int_equal(pst_wall_now_s(&w, wall, boot + 300 * S), 1800000300);
    assert_int_equal(w.steps_back, 2);
    assert_int_equal(pst_wall_now_s(&w, wall + 86500 * S, boot + (300 + 86500) * S),
                     1800000000 + 86500); /* believed at last */
}

static void the_way_back_from_a_step_ahead_is_followed(void **state)
{
    (void)state;
    struct pst_wall w = {.leeway_s = 30, .hold_s = 86400};
    const uint64_t wall = 1800000000 * S, boot = 500 * S;

    (void)pst_wall_now_s(&w, wall, boot);
    assert_int_equal(pst_wall_now_s(&w, wall + 3601 * S, boot + 1 * S), 1800003601);
    assert_int_equal(pst_wall_now_s(&w, wall + 5 * S, boot + 5 * S), 1800000005);
    assert_int_equal(w.steps_back, 1);
    assert_int_equal(pst_wall_now_s(&w, wall - 95 * S, boot + 6 * S),
                     1800000006); /* further back than it came from */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_fetches_at_the_start_and_then_within_the_jitter),
        cmocka_unit_test(max_age_is_honoured_between_the_bounds),
        cmocka_unit_test(failures_keep_the_set_and_are_tried_again_ever_later),
        cmocka_unit_test(keys_not_confirmed_for_a_day_are_withdrawn),
        cmocka_unit_test(an_etag_is_sent_and_304_renews),
        cmocka_unit_test(an_unknown_kid_causes_one_fetch_in_thirty_seconds),
        cmocka_unit_test(who_follows_inherits_the_keys_with_their_age),
        cmocka_unit_test(a_leaked_key_raises_an_alarm),
        cmocka_unit_test(urls_are_plain_https),
        cmocka_unit_test(a_clock_set_back_does_not_run_back),
        cmocka_unit_test(the_way_back_from_a_step_ahead_is_followed),
    };
    return cmocka_run_group_tests_name("identity/jwks", tests, NULL, NULL);
}
