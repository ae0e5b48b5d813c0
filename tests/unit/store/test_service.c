/* The service: replies, coalescing, bounds, faults. */
/* wrap: pst_store_log */
#include "../test.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "place.h"
#include "postern/base/clock.h"
#include "postern/store/service.h"

struct inbox {
    struct place place;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pst_facts_reply replies[64];
    size_t count;
    bool held; /* deliver blocks while set: keeps the service's thread away from its queue */
};

static int make_kind(void **state, enum place_kind kind)
{
    struct inbox *in = calloc(1, sizeof(*in));
    place_make_kind(&in->place, kind);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->wake, NULL);
    struct pst_store *s = place_open(&in->place, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t role = add_role(c, "viewer", 0);
    (void)bind_role(c, add_user(c, "alice"), role, 0);
    (void)add_user(c, "bob");
    (void)commit(c);
    pst_store_close(s);
    *state = in;
    return 0;
}

static int make(void **state)
{
    return make_kind(state, PLACE_SQLITE);
}

static int make_far(void **state)
{
    return make_kind(state, PLACE_POSTGRES);
}

static int drop(void **state)
{
    struct inbox *in = *state;
    for (size_t i = 0; i < in->count; i++)
        pst_facts_free(in->replies[i].facts);
    place_drop(&in->place);
    pthread_cond_destroy(&in->wake);
    pthread_mutex_destroy(&in->lock);
    free(in);
    return 0;
}

static void deliver(void *ctx, struct pst_facts_reply *reply)
{
    struct inbox *in = ctx;

    pthread_mutex_lock(&in->lock);
    in->replies[in->count++] = *reply;
    pthread_cond_broadcast(&in->wake);
    while (in->held)
        pthread_cond_wait(&in->wake, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

static void wait_for(struct inbox *in, size_t count)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&in->lock);
    while (in->count < count)
        assert_int_equal(pthread_cond_timedwait(&in->wake, &in->lock, &until), 0);
    pthread_mutex_unlock(&in->lock);
}

static void hold(struct inbox *in, bool held)
{
    pthread_mutex_lock(&in->lock);
    in->held = held;
    pthread_cond_broadcast(&in->wake);
    pthread_mutex_unlock(&in->lock);
}

static struct pst_service *start(struct inbox *in, uint32_t queue)
{
    struct pst_service_config config = {.url = text_of(in->place.url), .queue = queue};
    struct pst_service *service;
    MUST(pst_service_create(&config, &service, &why));
    return service;
}

static enum pst_status ask(struct pst_service *s, struct inbox *in, const char *subject,
                           uint64_t ticket)
{
    struct pst_facts_request r = {
        .who = {.kind = PST_WHO_SUBJECT,
                .issuer = PST_LIT("https://idp.test/"),
                .value = text_of(subject)},
        .ticket = ticket,
        .deliver = deliver,
        .ctx = in,
    };
    return pst_service_facts(s, &r);
}

static void test_answers(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);

    assert_int_equal(ask(s, in, "alice", 7), PST_PENDING);
    wait_for(in, 1);
    assert_int_equal(in->replies[0].ticket, 7);
    assert_int_equal(in->replies[0].status, PST_OK);
    assert_int_equal(in->replies[0].facts->binding_count, 1);
    assert_int_equal(in->replies[0].revision.n, 1);
    assert_int_not_equal(in->replies[0].revision.epoch, 0);
    assert_int_equal(ask(s, in, "nobody", 8), PST_PENDING);
    wait_for(in, 2);
    assert_int_equal(in->replies[1].status, PST_OK);
    assert_int_equal(in->replies[1].facts->user_id, 0);
    pst_service_destroy(s);
}

static void test_equal_questions_are_read_once(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 16);

    hold(in, true);
    assert_int_equal(ask(s, in, "bob", 0), PST_PENDING);
    wait_for(in, 1); /* the thread is held in deliver: what follows queues up */
    for (uint64_t i = 1; i <= 5; i++)
        assert_int_equal(ask(s, in, "alice", i), PST_PENDING);
    assert_int_equal(ask(s, in, "bob", 6), PST_PENDING);
    assert_int_equal(ask(s, in, "alice", 7), PST_PENDING);
    hold(in, false);
    wait_for(in, 8);
    struct pst_service_stats stats = pst_service_stats(s);
    assert_int_equal(stats.requests, 8);
    assert_int_equal(stats.coalesced, 5);
    bool seen[8] = {0};
    for (size_t i = 0; i < 8; i++) {
        const struct pst_facts_reply *r = &in->replies[i];
        assert_int_equal(r->status, PST_OK);
        seen[r->ticket] = true;
        bool bob = r->ticket == 0 || r->ticket == 6;
        assert_true(pst_bytes_equal(r->facts->name, bob ? PST_LIT("bob") : PST_LIT("alice")));
        assert_int_equal(r->facts->binding_count, bob ? 0 : 1);
        for (size_t k = 0; k < i; k++)
            assert_ptr_not_equal(r->facts, in->replies[k].facts); /* each owns its own */
    }
    for (size_t i = 0; i < 8; i++)
        assert_true(seen[i]);
    pst_service_destroy(s);
    assert_int_equal(stats.reads, 3);
    assert_int_equal(stats.batches, 2); /* both questions that waited went out together */
}

static void test_full_queue_and_stop(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 3);

    hold(in, true);
    assert_int_equal(ask(s, in, "bob", 0), PST_PENDING);
    wait_for(in, 1);
    assert_int_equal(ask(s, in, "alice", 1), PST_PENDING);
    assert_int_equal(ask(s, in, "x", 2), PST_PENDING);
    assert_int_equal(ask(s, in, "y", 3), PST_E_BUSY); /* the one in work holds its place */
    hold(in, false);
    wait_for(in, 3);

    char longer[PST_FACTS_KEY_MAX + 1];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(ask(s, in, longer, 4), PST_E_LIMIT);
    for (uint64_t i = 10; i < 40; i++) { /* places come back */
        assert_int_equal(ask(s, in, "bob", i), PST_PENDING);
        wait_for(in, i - 6);
    }
    pst_service_destroy(s);
}

static void test_destroy_answers_what_waits(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);

    /* Nothing here may be lost: every post gets its reply, read or BUSY, before destroy returns. */
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(ask(s, in, i % 2 == 0 ? "alice" : "bob", i), PST_PENDING);
    pst_service_destroy(s);
    assert_int_equal(in->count, 8);
    for (size_t i = 0; i < 8; i++)
        assert_true(in->replies[i].status == PST_OK || in->replies[i].status == PST_E_BUSY);
}

/* Messages that are run behind its end may ask: each of the three questions is refused, and at
 * once. */
static void test_a_stopped_service_refuses(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);

    pst_service_stop(s);
    assert_int_equal(ask(s, in, "alice", 0), PST_E_BUSY);
    assert_int_equal(pst_service_log(s, &(struct pst_log_request){0}), PST_E_BUSY);
    assert_int_equal(pst_service_node(s, &(struct pst_node_request){0}), PST_E_BUSY);
    pst_service_stop(s);
    assert_int_equal(in->count, 0);
    pst_service_destroy(s);
}

static void test_deadline(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);

    struct pst_facts_request r = {.who = {.kind = PST_WHO_NAME, .value = PST_LIT("alice")},
                                  .deadline_ns = 1,
                                  .deliver = deliver,
                                  .ctx = in};
    assert_int_equal(pst_service_facts(s, &r), PST_PENDING);
    wait_for(in, 1);
    assert_int_equal(in->replies[0].status, PST_E_BUSY);
    assert_null(in->replies[0].facts);
    r.deadline_ns = pst_clock_boot_ns() + 10 * PST_NS_PER_S;
    assert_int_equal(pst_service_facts(s, &r), PST_PENDING);
    wait_for(in, 2);
    assert_int_equal(in->replies[1].status, PST_OK);
    pst_service_destroy(s);
}

static void test_creates_a_user(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);
    struct pst_new_user user = {.issuer = PST_LIT("https://idp.test/"),
                                .subject = PST_LIT("new"),
                                .name = PST_LIT("newcomer"),
                                .role = PST_LIT("viewer")};
    struct pst_facts_request r = {
        .who = {.kind = PST_WHO_SUBJECT, .issuer = user.issuer, .value = user.subject},
        .create = &user,
        .deliver = deliver,
        .ctx = in};

    assert_int_equal(pst_service_facts(s, &r), PST_PENDING);
    wait_for(in, 1);
    assert_int_equal(in->replies[0].status, PST_OK);
    assert_int_not_equal(in->replies[0].facts->user_id, 0);
    assert_int_equal(in->replies[0].facts->binding_count, 1);
    assert_int_equal(in->replies[0].revision.n, 2);
    user.subject = r.who.value = PST_LIT("other"); /* and takes nobody else's name */
    assert_int_equal(pst_service_facts(s, &r), PST_PENDING);
    wait_for(in, 2);
    assert_int_equal(in->replies[1].status, PST_E_EXISTS);
    assert_null(in->replies[1].facts);
    user.name =
        PST_LIT("newcomer "); /* nor one that is read as somebody else's where blanks are cut */
    assert_int_equal(pst_service_facts(s, &r), PST_PENDING);
    wait_for(in, 3);
    assert_int_equal(in->replies[2].status, PST_OK);
    assert_int_equal(in->replies[2].facts->user_id, 0);
    pst_service_destroy(s);
}

static void test_lost_and_replaced_database(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);
    char aside[160];

    assert_int_equal(ask(s, in, "alice", 0), PST_PENDING);
    wait_for(in, 1);
    (void)snprintf(aside, sizeof(aside), "%s.old", in->place.path);
    assert_int_equal(rename(in->place.path, aside), 0);
    assert_int_equal(ask(s, in, "alice", 1), PST_PENDING);
    wait_for(in, 2);
    assert_int_not_equal(in->replies[1].status, PST_OK);
    assert_null(in->replies[1].facts);

    pst_store_close(place_open(&in->place, PST_STORE_CREATE)); /* an empty one in its place */
    (void)usleep(60000); /* after a failure it is not looked for at once */
    assert_int_equal(ask(s, in, "alice", 2), PST_PENDING);
    wait_for(in, 3);
    assert_int_equal(in->replies[2].status, PST_OK);
    assert_int_equal(in->replies[2].facts->user_id, 0);
    assert_int_not_equal(in->replies[2].revision.epoch, in->replies[0].revision.epoch);
    pst_service_destroy(s);
}

/* ---- the log ---- */

struct log_inbox {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pst_log_reply reply;
    unsigned count;
};

static void deliver_log(void *ctx, struct pst_log_reply *reply)
{
    struct log_inbox *in = ctx;

    pthread_mutex_lock(&in->lock);
    in->reply = *reply;
    in->count++;
    pthread_cond_broadcast(&in->wake);
    pthread_mutex_unlock(&in->lock);
}

static struct pst_log_reply *read_log(struct pst_service *s, struct log_inbox *in,
                                      const struct pst_log_mark *since)
{
    struct pst_log_request r = {.since = *since, .deliver = deliver_log, .ctx = in};
    unsigned count = in->count;

    assert_int_equal(pst_service_log(s, &r), PST_PENDING);
    pthread_mutex_lock(&in->lock);
    while (in->count == count)
        pthread_cond_wait(&in->wake, &in->lock);
    pthread_mutex_unlock(&in->lock);
    return &in->reply;
}

static void test_asked_all_the_time_it_comes_back(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);
    struct log_inbox log = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct pst_log_mark none = {0};
    char aside[160];

    (void)snprintf(aside, sizeof(aside), "%s.old", in->place.path);
    assert_int_equal(rename(in->place.path, aside), 0);
    assert_int_not_equal(read_log(s, &log, &none)->status, PST_OK);
    assert_int_equal(rename(aside, in->place.path), 0);
    uint64_t end_ns = pst_clock_boot_ns() + PST_NS_PER_S;
    while (read_log(s, &log, &none)->status != PST_OK)
        assert_true(pst_clock_boot_ns() < end_ns);
    pst_store_free_model(log.reply.model);
    pst_log_page_fini(&log.reply.page);
    pst_service_destroy(s);
}

static void test_log_comes_with_what_it_touches(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);
    struct log_inbox log = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct pst_log_mark mark = {0};

    struct pst_log_reply *reply = read_log(s, &log, &mark);
    assert_int_equal(reply->status, PST_OK);
    assert_false(reply->page.proved);
    assert_int_equal(reply->model->role_count, 1);
    mark = reply->page.head;
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);

    reply = read_log(s, &log, &mark); /* nothing new */
    assert_true(reply->page.proved);
    assert_null(reply->model);
    pst_log_page_fini(&reply->page);

    struct pst_store *store = place_open(&in->place, PST_STORE_WRITE);
    struct pst_change *c = begin(store);
    (void)add_user(c, "carol");
    (void)commit(c);
    reply = read_log(s, &log, &mark); /* a user is no model */
    assert_int_equal(reply->page.key_count, 1);
    assert_null(reply->model);
    mark = reply->page.head;
    pst_log_page_fini(&reply->page);

    c = begin(store);
    (void)add_role(c, "second", 0);
    (void)commit(c);
    pst_store_close(store);
    reply = read_log(s, &log, &mark);
    assert_true(reply->page.proved);
    assert_non_null(reply->model);
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);
    pst_service_destroy(s);
}

/* What comes between a read of the log and the next one. */
static const struct place *changed_behind; /* once, then NULL */

enum pst_status __real_pst_store_log(struct pst_store *store, const struct pst_log_mark *since,
                                     struct pst_bytes node, struct pst_log_page *out,
                                     struct pst_error *error);
enum pst_status __wrap_pst_store_log(struct pst_store *store, const struct pst_log_mark *since,
                                     struct pst_bytes node, struct pst_log_page *out,
                                     struct pst_error *error);
enum pst_status __wrap_pst_store_log(struct pst_store *store, const struct pst_log_mark *since,
                                     struct pst_bytes node, struct pst_log_page *out,
                                     struct pst_error *error)
{
    enum pst_status status = __real_pst_store_log(store, since, node, out, error);
    const struct place *place = changed_behind;

    changed_behind = NULL;
    if (place == NULL)
        return status;
    struct pst_store *s = place_open(place, PST_STORE_WRITE);
    struct pst_change *c = begin(s);
    add_permission(c, add_role(c, "third", add_workspace(c, "blue")), "x", 1);
    (void)commit(c);
    pst_store_close(s);
    return status;
}

/* The roles that come are those of the page that comes. */
static void test_a_change_between_two_reads_of_the_log(void **state)
{
    struct inbox *in = *state;
    struct pst_service *s = start(in, 8);
    struct log_inbox log = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct pst_log_mark mark = {0};

    struct pst_log_reply *reply = read_log(s, &log, &mark);
    mark = reply->page.head;
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);
    struct pst_store *store = place_open(&in->place, PST_STORE_WRITE);
    struct pst_change *c = begin(store);
    uint32_t second = add_role(c, "second", 0);
    add_permission(c, second, "x", 1);
    (void)commit(c);

    changed_behind = &in->place;
    reply = read_log(s, &log, &mark);
    assert_int_equal(reply->status, PST_OK);
    assert_null(changed_behind);
    assert_true(reply->page.proved);
    assert_int_equal(reply->page.head.revision.n, mark.revision.n + 2);
    assert_false(reply->whole);
    assert_int_equal(reply->model->role_count, 2);
    assert_int_equal(reply->model->permission_count, 2);
    assert_int_equal(reply->model->workspace_count, 1);
    mark = reply->page.head;
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);

    c = begin(store); /* the view of the read before has ended */
    add_permission(c, second, "y", 1);
    (void)commit(c);
    pst_store_close(store);
    reply = read_log(s, &log, &mark);
    assert_int_equal(reply->page.head.revision.n, mark.revision.n + 1);
    assert_int_equal(reply->model->role_count, 1);
    assert_int_equal(reply->model->permission_count, 2);
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);
    pst_service_destroy(s);
}

/* A server that is silent while a few roles are loaded holds up the lease for two seconds, not for
 * as long as the whole policy may take. */
static void test_silence_behind_the_log(void **state)
{
    struct inbox *in = *state;
    struct log_inbox log = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct pst_log_mark mark = {0};

    struct pst_service *s = start(in, 8);
    struct pst_log_reply *reply = read_log(s, &log, &mark);
    assert_int_equal(reply->status, PST_OK);
    mark = reply->page.head;
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);

    PGconn *other = place_admin(in->place.name);
    PQclear(PQexec(other, "BEGIN; LOCK TABLE permissions IN ACCESS EXCLUSIVE MODE"));
    assert_int_equal(raw_change(&in->place, "SELECT 1", "[\"role:1\"]"), RAW_DONE);
    uint64_t began_ns = pst_clock_boot_ns();
    reply = read_log(s, &log, &mark);
    uint64_t took_ns = pst_clock_boot_ns() - began_ns;
    assert_int_equal(reply->status, PST_E_IO);
    assert_non_null(strstr(reply->error.message, "in time"));
    assert_in_range(took_ns, 1900 * PST_NS_PER_MS, 6 * PST_NS_PER_S); /* asked twice */
    PQfinish(other);
    (void)usleep(60000);
    reply = read_log(s, &log, &mark);
    assert_int_equal(reply->status, PST_OK);
    pst_store_free_model(reply->model);
    pst_log_page_fini(&reply->page);
    pst_service_destroy(s);
}

/* A reply is never lost: also the log's question that waits at the end is answered. */
static void test_destroy_answers_the_log(void **state)
{
    struct inbox *in = *state;
    struct log_inbox log = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

    for (unsigned i = 1; i <= 20; i++) {
        struct pst_service *s = start(in, 8);
        struct pst_log_request r = {.deliver = deliver_log, .ctx = &log};
        assert_int_equal(pst_service_log(s, &r), PST_PENDING);
        assert_int_equal(pst_service_log(s, &r), PST_E_BUSY);
        pst_service_destroy(s);
        assert_int_equal(log.count, i);
        pst_store_free_model(log.reply.model);
        pst_log_page_fini(&log.reply.page);
        assert_true(log.reply.status == PST_OK || log.reply.status == PST_E_BUSY);
    }
}

static void test_refuses_bad_configuration(void **state)
{
    struct inbox *in = *state;
    struct pst_service_config config = {.url = text_of(in->place.url), .queue = 0};
    struct pst_service *s;

    assert_int_equal(pst_service_create(&config, &s, NULL), PST_E_INVALID);
    assert_null(s);
    pst_service_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, make, drop),
        cmocka_unit_test_setup_teardown(test_equal_questions_are_read_once, make, drop),
        cmocka_unit_test_setup_teardown(test_full_queue_and_stop, make, drop),
        cmocka_unit_test_setup_teardown(test_destroy_answers_what_waits, make, drop),
        cmocka_unit_test_setup_teardown(test_a_stopped_service_refuses, make, drop),
        cmocka_unit_test_setup_teardown(test_deadline, make, drop),
        cmocka_unit_test_setup_teardown(test_creates_a_user, make, drop),
        cmocka_unit_test_setup_teardown(test_lost_and_replaced_database, make, drop),
        cmocka_unit_test_setup_teardown(test_asked_all_the_time_it_comes_back, make, drop),
        cmocka_unit_test_setup_teardown(test_log_comes_with_what_it_touches, make, drop),
        cmocka_unit_test_setup_teardown(test_a_change_between_two_reads_of_the_log, make, drop),
        cmocka_unit_test_setup_teardown(test_silence_behind_the_log, make_far, drop),
        cmocka_unit_test_setup_teardown(test_destroy_answers_the_log, make, drop),
        cmocka_unit_test_setup_teardown(test_refuses_bad_configuration, make, drop),
    };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
