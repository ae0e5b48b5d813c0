/* The tail: what it brings, when the lease moves, and when it must not. */
#include "../test.h"

#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../store/place.h"
#include "postern/sync/tail.h"

struct world {
    struct place place;
    struct pst_worker *worker;
    struct pst_service *service;
    struct pst_tail *tail;
    struct pst_store *writer;
    unsigned ended; /* reads */
    enum pst_status ended_with;
    struct pst_error error;
    _Atomic unsigned hints;  /* that the service gave */
    struct pst_node_row row; /* of this node; its name empty: there is none */
    bool unregistered;       /* what `registers` says */
    unsigned unlisted;       /* times */
    /* of the last batch */
    unsigned batches, models;
    struct pst_revision revision;
    bool new_history, all_users;
    uint32_t roles, rows;
    bool partial; /* the first role */
    uint64_t lease_start_ns, bound_ns;
    struct pst_log_key keys[16];
    size_t key_count;
    /* what apply does */
    enum pst_status answer;
    struct pst_policy *policy; /* made of the batches when `compiles` */
    bool compiles;
    const struct pst_lease *lease;
    uint64_t start_seen; /* the lease word while apply ran */
    uint64_t takes_ns;   /* what the clock moves on while it runs */
};

static uint64_t now_ns; /* the fake clock */

static uint64_t read_clock(void)
{
    return now_ns;
}

static enum pst_status apply(void *ctx, const struct pst_tail_batch *b, struct pst_error *error)
{
    struct world *w = ctx;

    w->batches++;
    w->revision = b->revision;
    w->new_history = b->new_history;
    w->all_users = b->all_users;
    w->lease_start_ns = b->lease_start_ns;
    w->bound_ns = b->bound_ns;
    w->key_count = b->key_count;
    assert_true(b->key_count <= 16);
    if (b->key_count > 0)
        memcpy(w->keys, b->keys, b->key_count * sizeof(*b->keys));
    if (b->model != NULL) {
        w->models++;
        w->roles = b->model->role_count;
        w->rows = b->model->permission_count;
        w->partial = w->roles > 0 && b->model->roles[0].partial;
    }
    if (b->model != NULL && w->compiles && w->answer == PST_OK) {
        struct pst_policy *next;
        MUST(pst_tail_compile(b, w->policy, &next, &why));
        pst_policy_destroy(w->policy);
        w->policy = next;
    } else {
        pst_store_free_model(b->model);
    }
    w->start_seen = atomic_load(&w->lease->start_ns);
    now_ns += w->takes_ns;
    return w->answer == PST_OK ? PST_OK : pst_error_set(error, w->answer, NULL, "told to fail");
}

static const struct pst_policy *base(void *ctx)
{
    return ((struct world *)ctx)->policy;
}

static void on_ended(void *ctx, enum pst_status status, const struct pst_error *error)
{
    struct world *w = ctx;

    w->ended++;
    w->ended_with = status;
    w->error = *error;
}

static void on_changed(void *ctx)
{
    atomic_fetch_add(&((struct world *)ctx)->hints, 1);
}

static const struct pst_node_row *registers(void *ctx)
{
    struct world *w = ctx;
    const struct pst_node_row *row = w->unregistered ? &w->row : NULL;

    w->unregistered = false;
    return row;
}

static void on_unlisted(void *ctx)
{
    struct world *w = ctx;

    w->unlisted++;
    w->unregistered = true;
    pst_tail_drop_lease(w->tail);
    pst_tail_demand(w->tail);
}

static void start(struct world *w, uint64_t (*clock)(void))
{
    struct pst_service_config service = {
        .url = text_of(w->place.url), .queue = 4, .changed = on_changed, .ctx = w};
    assert_int_equal(pst_worker_create(0, &w->worker), PST_OK);
    MUST(pst_service_create(&service, &w->service, &why));
    struct pst_tail_config config = {.worker = w->worker,
                                     .service = w->service,
                                     .apply = apply,
                                     .ended = on_ended,
                                     .base = base,
                                     .node = w->row.node,
                                     .registers = registers,
                                     .unlisted = on_unlisted,
                                     .ctx = w,
                                     .now_ns = clock};
    assert_int_equal(pst_tail_create(&config, &w->tail), PST_OK);
    w->lease = pst_tail_lease(w->tail);
}

static void stop(struct world *w)
{
    pst_service_destroy(w->service);
    pst_worker_turn(w->worker, 0);
    pst_tail_destroy(w->tail);
    pst_worker_destroy(w->worker);
}

static int make(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    place_make(&w->place);
    w->writer = place_open(&w->place, PST_STORE_CREATE);
    now_ns = 100 * PST_NS_PER_S;
    start(w, read_clock);
    *state = w;
    return 0;
}

static int drop(void **state)
{
    struct world *w = *state;
    stop(w);
    pst_store_close(w->writer);
    place_drop(&w->place);
    pst_policy_destroy(w->policy);
    free(w);
    return 0;
}

static void wait_ended(struct world *w, unsigned count)
{
    uint64_t end_ns = pst_clock_boot_ns() + 10 * PST_NS_PER_S;

    while (w->ended < count) {
        assert_true(pst_clock_boot_ns() < end_ns);
        pst_worker_turn(w->worker, 20);
    }
}

/* What a worker that waits for a lease makes the tail do. */
static enum pst_status demand(struct world *w)
{
    unsigned ended = w->ended;

    pst_tail_demand(w->tail);
    wait_ended(w, ended + 1);
    assert_int_equal(pst_tail_demanded_since(w->tail), 0);
    return w->ended_with;
}

static void read_ok(struct world *w)
{
    if (demand(w) != PST_OK)
        fail_msg("%s: %s", w->error.where, w->error.message);
}

/* True when it read. */
static bool tick(struct world *w, bool at_work)
{
    unsigned ended = w->ended;
    uint64_t reads = pst_tail_stats(w->tail).reads;

    pst_tail_tick(w->tail, at_work);
    if (pst_tail_stats(w->tail).reads == reads)
        return false;
    wait_ended(w, ended + 1);
    return true;
}

static void step_ms(uint64_t ms)
{
    now_ns += ms * PST_NS_PER_MS;
}

static void test_first_poll_loads(void **state)
{
    struct world *w = *state;

    assert_false(pst_lease_holds(w->lease, now_ns));
    struct pst_change *c = begin(w->writer);
    (void)add_role(c, "r", 0);
    struct pst_revision at = commit(c);
    read_ok(w);
    assert_int_equal(w->batches, 1);
    assert_true(w->new_history && w->all_users);
    assert_int_equal(w->roles, 1);
    assert_int_equal(w->revision.n, at.n);
    assert_int_equal(w->revision.epoch, at.epoch);
    assert_int_equal(w->bound_ns, 5 * PST_NS_PER_S);
    assert_int_equal(w->start_seen, 0); /* the lease moves after apply, not before */
    assert_true(pst_lease_holds(w->lease, now_ns));
    assert_int_equal(atomic_load(&w->lease->applied_n), at.n);
    assert_int_equal(atomic_load(&w->lease->epoch), at.epoch);
}

/* A slow load takes from the lease: it counts from the sending of the read, not from its reply. */
static void test_lease_counts_from_the_sending(void **state)
{
    struct world *w = *state;
    uint64_t sent_ns = now_ns;

    w->takes_ns = 3 * PST_NS_PER_S;
    read_ok(w);
    assert_int_equal(w->lease_start_ns, sent_ns);
    assert_int_equal(atomic_load(&w->lease->start_ns), sent_ns);
    assert_true(pst_lease_holds(w->lease, sent_ns + 5 * PST_NS_PER_S));
    assert_false(pst_lease_holds(w->lease, now_ns + 5 * PST_NS_PER_S));
}

/* C14: half of B used up is a read, and nothing before it. */
static void test_a_node_at_work_renews(void **state)
{
    struct world *w = *state;

    read_ok(w);
    uint64_t reads = pst_tail_stats(w->tail).reads;
    for (unsigned i = 0; i < 12; i++) { /* 2.4 s: less than half of B */
        step_ms(200);
        assert_false(tick(w, true));
    }
    assert_int_equal(w->batches, 1);
    step_ms(200);
    assert_true(tick(w, true));
    assert_int_equal(pst_tail_stats(w->tail).reads, reads + 1);
    assert_int_equal(w->lease_start_ns, now_ns);
    assert_int_equal(atomic_load(&w->lease->start_ns), now_ns);
    assert_false(w->all_users || w->new_history);
    assert_int_equal(w->models, 1);
    assert_int_equal(w->key_count, 0);
}

static void test_an_idle_node_reads_nothing(void **state)
{
    struct world *w = *state;

    assert_true(tick(w, false)); /* the first load is for whoever comes */
    uint64_t reads = pst_tail_stats(w->tail).reads;
    for (unsigned i = 0; i < 600; i++) {
        step_ms(100);
        assert_false(tick(w, false));
    }
    assert_false(pst_lease_holds(w->lease, now_ns));
    pst_tail_notice(
        w->tail); /* a change: nothing is decided by what is known, so nobody is harmed */
    assert_int_equal(pst_tail_stats(w->tail).reads, reads);
    assert_int_equal(demand(w), PST_OK); /* somebody comes: one read */
    assert_int_equal(pst_tail_stats(w->tail).reads, reads + 1);
    assert_true(pst_lease_holds(w->lease, now_ns));
}

static void test_polls_at_the_pace_that_is_given(void **state)
{
    struct world *w = *state;

    read_ok(w);
    pst_tail_set_poll(w->tail, 500 * PST_NS_PER_MS);
    unsigned reads = 0;
    for (unsigned i = 0; i < 100; i++) { /* 5 s */
        step_ms(50);
        reads += tick(w, true);
    }
    assert_in_range(reads, 9, 10);
    for (unsigned i = 0; i < 100; i++) {
        step_ms(50);
        assert_false(tick(w, false));
    }
}

static void test_notices_read_at_once_and_never_too_few(void **state)
{
    struct world *w = *state;

    read_ok(w);
    uint64_t reads = pst_tail_stats(w->tail).reads;
    unsigned ended = w->ended;
    step_ms(5);
    pst_tail_notice(w->tail);
    assert_true(pst_tail_reading(w->tail));
    pst_tail_notice(w->tail); /* while the first is read, which may have begun before this change */
    pst_tail_notice(w->tail);
    wait_ended(w, ended + 2);
    assert_int_equal(pst_tail_stats(w->tail).reads, reads + 2);
    pst_tail_demand(w->tail);
    pst_tail_demand(w->tail); /* who waits joins what is under way */
    wait_ended(w, ended + 3);
    assert_int_equal(pst_tail_stats(w->tail).reads, reads + 3);
}

static void test_very_many_notices_share_reads(void **state)
{
    struct world *w = *state;

    stop(w);
    start(w, NULL); /* the real clock */
    read_ok(w);
    uint64_t reads = pst_tail_stats(w->tail).reads, began_ns = pst_clock_boot_ns(), took_ns;
    do {
        pst_tail_notice(w->tail);
        pst_worker_turn(w->worker, 1);
        took_ns = pst_clock_boot_ns() - began_ns;
    } while (took_ns < 100 * PST_NS_PER_MS);
    reads = pst_tail_stats(w->tail).reads - reads;
    assert_in_range(reads, 1, took_ns / (5 * PST_NS_PER_MS) + 1);
    unsigned ended = w->ended;
    pst_tail_notice(w->tail); /* and yet none is without one */
    wait_ended(w, ended + 1);
}

static void test_keys_and_models(void **state)
{
    struct world *w = *state;

    read_ok(w);
    struct pst_change *c = begin(w->writer);
    uint64_t alice = add_user(c, "alice");
    (void)commit(c);
    read_ok(w);
    assert_int_equal(w->batches, 2);
    assert_int_equal(w->models, 1); /* a user's change loads no model */
    assert_int_equal(w->key_count, 1);
    assert_int_equal(w->keys[0].kind, PST_LOG_USER);
    assert_int_equal(w->keys[0].id, alice);
    assert_false(w->all_users);

    c = begin(w->writer);
    uint32_t role = add_role(c, "r", 0);
    (void)bind_role(c, alice, role, 0);
    (void)commit(c);
    read_ok(w);
    assert_int_equal(w->models, 2);
    assert_int_equal(w->roles, 1);
    assert_int_equal(w->key_count, 2);
    assert_int_equal(w->revision.n, 2);
}

static void add_rows(struct world *w, uint32_t role, unsigned count)
{
    struct pst_change *c = begin(w->writer);

    for (unsigned i = 0; i < count; i++)
        add_permission(c, role, "things", PST_A_LIST);
    (void)commit(c);
}

/* Rows that are known are not read again; but when a batch could not be applied, all of them. */
static void test_reads_what_is_not_known(void **state)
{
    struct world *w = *state;
    struct pst_change *c = begin(w->writer);
    uint32_t role = add_role(c, "r", 0), count;
    uint32_t *ids;

    (void)commit(c);
    w->compiles = true;
    read_ok(w);
    add_rows(w, role, 300);
    read_ok(w);
    assert_false(w->partial);
    assert_int_equal(w->rows, 300);
    add_rows(w, role, 2);
    read_ok(w);
    assert_true(w->partial);
    assert_int_equal(w->rows, 2);
    add_rows(w, role, 3);
    w->answer = PST_E_INVALID;
    assert_int_equal(demand(w), PST_E_INVALID);
    assert_true(w->partial);
    w->answer = PST_OK;
    step_ms(1000);
    read_ok(w);
    assert_false(w->partial);
    assert_int_equal(w->rows, 305);
    add_rows(w, role, 1);
    read_ok(w);
    assert_true(w->partial);
    ids = pst_policy_permissions(w->policy, role, &count);
    assert_int_equal(count, 306);
    free(ids);
}

static void test_failed_apply_comes_again(void **state)
{
    struct world *w = *state;

    read_ok(w);
    uint64_t start_before = atomic_load(&w->lease->start_ns);
    struct pst_change *c = begin(w->writer);
    (void)add_role(c, "r", 0);
    (void)commit(c);
    step_ms(100);
    w->answer = PST_E_NOMEM;
    assert_int_equal(demand(w), PST_E_NOMEM);
    assert_int_equal(atomic_load(&w->lease->start_ns), start_before);
    assert_int_equal(atomic_load(&w->lease->applied_n), 0);
    step_ms(100);
    assert_false(tick(w, true)); /* not at every turn */
    pst_tail_notice(w->tail);
    pst_tail_demand(w->tail);
    assert_false(pst_tail_reading(w->tail));
    assert_int_equal(w->batches, 2);

    w->answer = PST_OK;
    step_ms(1000);
    read_ok(w);
    assert_int_equal(w->revision.n, 1);
    assert_int_equal(w->key_count, 1); /* the same batch again */
    assert_int_equal(w->roles, 1);
    assert_int_equal(atomic_load(&w->lease->start_ns), now_ns);
}

static void test_lease_runs_out(void **state)
{
    struct world *w = *state;
    char aside[160];

    read_ok(w);
    uint64_t start_ns = now_ns;
    assert_true(pst_lease_holds(w->lease, start_ns + 5 * PST_NS_PER_S));
    assert_false(pst_lease_holds(w->lease, start_ns + 5 * PST_NS_PER_S + 1));

    (void)snprintf(aside, sizeof(aside), "%s.gone", w->place.path);
    assert_int_equal(rename(w->place.path, aside), 0);
    for (unsigned i = 0; i < 30; i++) {
        step_ms(200);
        assert_int_not_equal(demand(w), PST_OK);
    }
    assert_int_equal(atomic_load(&w->lease->start_ns), start_ns);
    assert_false(pst_lease_holds(w->lease, now_ns));
    assert_int_equal(w->batches, 1);

    assert_int_equal(rename(aside, w->place.path), 0); /* it comes back */
    (void)usleep(60000);                               /* and is not looked for at every turn */
    read_ok(w);
    assert_true(pst_lease_holds(w->lease, now_ns));
    assert_false(w->new_history); /* and it is the same history */
}

/* The write-ahead log of the file that was moved away would be taken for that of its successor. */
static void drop_wal(const struct world *w)
{
    char path[160];

    (void)snprintf(path, sizeof(path), "%s-wal", w->place.path);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s-shm", w->place.path);
    (void)unlink(path);
}

static void test_garbage_gives_no_lease(void **state)
{
    struct world *w = *state;
    char aside[160];

    read_ok(w);
    uint64_t start_ns = now_ns;
    (void)snprintf(aside, sizeof(aside), "%s.old", w->place.path);
    assert_int_equal(rename(w->place.path, aside), 0);
    drop_wal(w);
    FILE *f = fopen(w->place.path, "w");
    assert_non_null(f);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(fputs("this is no database ", f) >= 0);
    assert_int_equal(fclose(f), 0);
    step_ms(3000);
    assert_int_not_equal(demand(w), PST_OK);
    assert_int_equal(atomic_load(&w->lease->start_ns), start_ns);
}

static void test_replaced_database_is_a_new_history(void **state)
{
    struct world *w = *state;
    char aside[160];

    struct pst_change *c = begin(w->writer);
    (void)add_role(c, "a", 0);
    (void)add_role(c, "b", 0);
    (void)commit(c);
    read_ok(w);
    uint64_t epoch = w->revision.epoch;
    (void)snprintf(aside, sizeof(aside), "%s.old", w->place.path);
    assert_int_equal(rename(w->place.path, aside), 0);
    pst_store_close(w->writer);
    w->writer = place_open(&w->place, PST_STORE_CREATE);
    c = begin(w->writer);
    (void)add_role(c, "only", 0);
    (void)commit(c);
    step_ms(200);
    read_ok(w);
    assert_true(w->new_history && w->all_users);
    assert_int_equal(w->roles, 1);
    assert_int_equal(w->revision.n, 1); /* the same number as before, and yet noticed */
    assert_int_not_equal(w->revision.epoch, epoch);
}

/* A copy of the database goes back in time and grows past what was applied: same epoch, same
 * numbers, other changes (C8). */
static void test_restored_and_regrown(void **state)
{
    struct world *w = *state;
    char copy[160], sql[256];

    struct pst_change *c = begin(w->writer);
    (void)add_role(c, "a", 0);
    (void)commit(c);
    (void)snprintf(copy, sizeof(copy), "%s.copy", w->place.path);
    (void)snprintf(sql, sizeof(sql), "VACUUM INTO '%s'", copy);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(w->place.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    c = begin(w->writer);
    (void)add_role(c, "lost", 0);
    (void)commit(c);
    read_ok(w);
    assert_int_equal(w->revision.n, 2);
    uint64_t epoch = w->revision.epoch;

    pst_store_close(w->writer);
    w->writer = NULL;
    assert_int_equal(rename(copy, w->place.path), 0);
    drop_wal(w);
    w->writer = place_open(&w->place, PST_STORE_WRITE);
    for (unsigned i = 0; i < 3; i++) {
        char name[8];
        c = begin(w->writer);
        (void)snprintf(name, sizeof(name), "n%u", i);
        (void)add_role(c, name, 0);
        (void)commit(c);
    }
    step_ms(200);
    read_ok(w);
    assert_int_equal(w->revision.epoch, epoch);
    assert_int_equal(w->revision.n, 4);
    assert_true(w->new_history && w->all_users);
    assert_int_equal(w->roles, 4);
    assert_int_equal(pst_tail_stats(w->tail).histories, 1);
}

static void test_bound_comes_from_the_database(void **state)
{
    struct world *w = *state;
    sqlite3 *db;

    read_ok(w);
    assert_int_equal(sqlite3_open(w->place.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "PRAGMA foreign_keys = ON; BEGIN IMMEDIATE;"
                                  "UPDATE log_head SET n = n + 1, open = 1;"
                                  "INSERT INTO change_log (n, stamp, at, actor)"
                                  " SELECT n, lower(hex(randomblob(16))), 0, 'x' FROM log_head;"
                                  "UPDATE meta SET max_staleness_s = 2;"
                                  "UPDATE change_log SET keys = '[]' WHERE n = 1;"
                                  "UPDATE log_head SET open = 0; COMMIT",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    read_ok(w);
    assert_int_equal(w->bound_ns, 2 * PST_NS_PER_S);
    assert_true(pst_lease_holds(w->lease, now_ns + 2 * PST_NS_PER_S));
    assert_false(pst_lease_holds(w->lease, now_ns + 2 * PST_NS_PER_S + 1));
}

/* A shorter bound is kept by reading more often, not by being stale in between; a longer one than
 * the fleet's is none. */
static void test_bound_that_is_given(void **state)
{
    struct world *w = *state;

    read_ok(w);
    unsigned ended = w->ended;
    pst_tail_set_bound(w->tail, 1 * PST_NS_PER_S);
    wait_ended(w, ended + 1);
    uint64_t reads = pst_tail_stats(w->tail).reads;
    for (unsigned i = 0; i < 50; i++) {
        (void)tick(w, true);
        assert_int_equal(w->bound_ns, 1 * PST_NS_PER_S);
        assert_true(pst_lease_holds(w->lease, now_ns));
        step_ms(100);
        assert_true(pst_lease_holds(w->lease, now_ns));
    }
    assert_in_range(pst_tail_stats(w->tail).reads - reads, 8, 12); /* at half of the bound */
    ended = w->ended;
    pst_tail_set_bound(w->tail, 60 * PST_NS_PER_S);
    wait_ended(w, ended + 1);
    assert_int_equal(w->bound_ns, 5 * PST_NS_PER_S);
}

/* C9: who is not in the list that barriers read decides nothing. What the read brought comes with
 * the next one. */
static void test_no_lease_without_a_row(void **state)
{
    struct world *w = *state;

    stop(w);
    w->row = (struct pst_node_row){
        .node = PST_LIT("n.00000000"), .version = PST_LIT("1"), .bound_ms = 60000};
    w->unregistered = true;
    start(w, read_clock);
    read_ok(w);
    assert_int_equal(w->unlisted, 0);
    for (unsigned how = 0; how < 2; how++) { /* forgotten; told to be asleep by a late report */
        struct pst_node_row asleep = w->row;
        struct pst_change *c = begin(w->writer);
        (void)add_user(c, how == 0 ? "a" : "b");
        (void)commit(c);
        asleep.bound_ms = 0;
        if (how == 0)
            MUST(pst_store_node_unregister(w->writer, w->row.node, &why));
        else
            MUST(pst_store_node_report(w->writer, &asleep, &why));
        unsigned batches = w->batches;
        step_ms(100);
        read_ok(w);
        assert_int_equal(w->unlisted, how + 1);
        assert_int_equal(w->batches, batches + 1); /* that of the read behind the registration */
        assert_int_equal(w->start_seen, 1);        /* and until then there was no lease */
        assert_int_equal(w->key_count, 1);
        assert_int_equal(w->revision.n, how + 1);
        assert_true(pst_lease_holds(w->lease, now_ns));
        step_ms(100);
        read_ok(w);
        assert_int_equal(w->unlisted, how + 1);
    }
}

/* A barrier that begins when B is short again finds in the row how long it really was. */
static void test_no_longer_bound_than_the_row_says(void **state)
{
    struct world *w = *state;

    stop(w);
    w->row = (struct pst_node_row){
        .node = PST_LIT("n.00000000"), .version = PST_LIT("1"), .bound_ms = 2000};
    w->unregistered = true;
    start(w, read_clock);
    assert_int_equal(pst_tail_wanted_bound(w->tail), 0);
    read_ok(w);
    assert_int_equal(w->bound_ns, 2 * PST_NS_PER_S);
    assert_int_equal(pst_tail_wanted_bound(w->tail), 5 * PST_NS_PER_S);
    w->row.bound_ms = 5000;
    MUST(pst_store_node_report(w->writer, &w->row, &why));
    assert_true(pst_lease_holds(w->lease, now_ns + 2 * PST_NS_PER_S));
    assert_false(pst_lease_holds(w->lease, now_ns + 2 * PST_NS_PER_S + 1));
    read_ok(w);
    assert_int_equal(w->bound_ns, 5 * PST_NS_PER_S);
    w->row.bound_ms = 60000; /* which is nobody's */
    MUST(pst_store_node_report(w->writer, &w->row, &why));
    read_ok(w);
    assert_int_equal(w->bound_ns, 5 * PST_NS_PER_S);
}

/* Another process: commits a role for each byte that it reads, and tells how that went. */
static void write_on_demand(const struct world *w, int in, int out)
{
    char name[16], byte;

    for (unsigned i = 0; read(in, &byte, 1) == 1; i++) {
        struct pst_store *s;
        struct pst_change *c;
        struct pst_revision r;
        (void)snprintf(name, sizeof(name), "role-%u", i);
        struct pst_row_role row = {.name = text_of(name)};
        byte = pst_store_open(text_of(w->place.url), PST_STORE_WRITE, &s, NULL) == PST_OK &&
               pst_change_begin(s, PST_LIT("child"), &c, NULL) == PST_OK &&
               pst_change_put_role(c, &row, NULL) == PST_OK &&
               pst_change_commit(c, &r, NULL) == PST_OK;
        if (write(out, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static void test_other_process_within_a_second(void **state)
{
    struct world *w = *state;
    int order[2], done[2];
    char byte = 0;

    stop(w);
    pst_store_close(w->writer);
    w->writer = NULL;
    assert_int_equal(pipe(order) | pipe(done), 0);
    pid_t child = fork(); /* before there are threads, whose locks it would inherit */
    if (child == 0) {
        (void)close(order[1]);
        write_on_demand(w, order[0], done[1]);
    }
    (void)close(order[0]);
    start(w, NULL); /* the real clock */
    read_ok(w);
    for (unsigned round = 0; round < 3; round++) {
        uint64_t n = w->revision.n;
        assert_int_equal(write(order[1], &byte, 1), 1);
        assert_int_equal(read(done[0], &byte, 1), 1);
        assert_int_equal(byte, 1);
        uint64_t committed = pst_clock_boot_ns();
        while (w->revision.n == n) {
            assert_true(pst_clock_boot_ns() - committed < PST_NS_PER_S);
            pst_worker_turn(w->worker, 5);
            if (atomic_exchange(&w->hints, 0) > 0)
                pst_tail_notice(w->tail);
        }
        assert_int_equal(w->revision.n, n + 1);
        assert_int_equal(w->roles, 1); /* only what was touched */
    }
    (void)close(order[1]);
    (void)close(done[0]);
    (void)close(done[1]);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

static void test_configuration(void **state)
{
    struct world *w = *state;
    struct pst_tail *t;
    struct pst_tail_config config = {.worker = w->worker, .service = w->service};

    assert_int_equal(pst_tail_create(&config, &t), PST_E_INVALID);
    assert_null(t);
    config.apply = apply;
    config.worker = NULL;
    assert_int_equal(pst_tail_create(&config, &t), PST_E_INVALID);
    pst_tail_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_poll_loads, make, drop),
        cmocka_unit_test_setup_teardown(test_lease_counts_from_the_sending, make, drop),
        cmocka_unit_test_setup_teardown(test_a_node_at_work_renews, make, drop),
        cmocka_unit_test_setup_teardown(test_an_idle_node_reads_nothing, make, drop),
        cmocka_unit_test_setup_teardown(test_polls_at_the_pace_that_is_given, make, drop),
        cmocka_unit_test_setup_teardown(test_notices_read_at_once_and_never_too_few, make, drop),
        cmocka_unit_test_setup_teardown(test_very_many_notices_share_reads, make, drop),
        cmocka_unit_test_setup_teardown(test_keys_and_models, make, drop),
        cmocka_unit_test_setup_teardown(test_reads_what_is_not_known, make, drop),
        cmocka_unit_test_setup_teardown(test_failed_apply_comes_again, make, drop),
        cmocka_unit_test_setup_teardown(test_lease_runs_out, make, drop),
        cmocka_unit_test_setup_teardown(test_garbage_gives_no_lease, make, drop),
        cmocka_unit_test_setup_teardown(test_replaced_database_is_a_new_history, make, drop),
        cmocka_unit_test_setup_teardown(test_restored_and_regrown, make, drop),
        cmocka_unit_test_setup_teardown(test_bound_comes_from_the_database, make, drop),
        cmocka_unit_test_setup_teardown(test_bound_that_is_given, make, drop),
        cmocka_unit_test_setup_teardown(test_no_lease_without_a_row, make, drop),
        cmocka_unit_test_setup_teardown(test_no_longer_bound_than_the_row_says, make, drop),
        cmocka_unit_test_setup_teardown(test_other_process_within_a_second, make, drop),
        cmocka_unit_test_setup_teardown(test_configuration, make, drop),
    };
    return cmocka_run_group_tests_name("tail", tests, NULL, NULL);
}
