/* authz/engine between two revisions: what it does with rows that are older or newer than what it
 * was told (C4), and that no decision sees a half of a change (C7). */
/* wrap: malloc */
#include "../test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/site_build.h"
#include "postern/app/yaml.h"
#include "postern/authz/engine.h"
#include "postern/base/clock.h"
#include "postern/manage/declare.h"
#include "postern/store/service.h"
#include "postern/sync/tail.h"

static const char CONFIG[] =
    "state_dir: %s\n"
    "identity: {issuers: [{issuer: 'https://postern.local/', audiences: [postern]}]}\n"
    "listeners: [{kind: auth_request, address: '127.0.0.1:1', mounts: [{host: mlflow, prefix: /, "
    "profile: mlflow}, {host: '*', prefix: /, profile: rest}]}]\n";

static const char POLICY[] =
    "workspaces: [{name: blue, kind: project}, {name: red, kind: project}]\n"
    "roles:\n"
    "  - {name: all, workspace: blue, permissions: [{entity: '*', allow: [detail]}]}\n"
    "  - {name: wide, workspace: red, permissions: [{entity: '*', allow: [detail]}]}\n"
    "users: [{name: alice, identities: [{issuer: 'https://postern.local/', subject: alice}]}]\n"
    "bindings: [{user: alice, role: all, workspace: blue}]\n";

static _Thread_local bool malloc_fails;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    return malloc_fails ? NULL : __real_malloc(size);
}

struct world {
    char dir[64];
    struct pst_config *config;
    struct pst_arena arena;
    struct pst_bytes url;
    struct pst_key_ring ring;
    struct pst_site *site;
    struct pst_policy_hub *hub;
    struct pst_log *log;
    struct pst_service *service;
    struct pst_tail *tail;
    struct pst_shared_policy *policy;
    bool reading;
    bool follows; /* the tail reads when the engine wants a lease */
    unsigned wanted;
    struct pst_worker *worker;
    struct pst_engine *engine;
    struct pst_revision told;
    struct pst_decide decide;
    struct pst_request request;
    bool resumed;
    uint32_t cuts;
};

static void apply(struct world *w, const char *text)
{
    struct pst_tree tree;
    const struct pst_tree *list[] = {&tree};
    struct pst_error e = {0};
    struct pst_store *store;
    struct pst_apply_report report;
    const struct pst_apply_options options = {.actor = PST_LIT("test")};
    uint32_t steps;

    assert_int_equal(
        pst_yaml_load_text(PST_LIT("policy"), pst_bytes_of(text, strlen(text)), &tree, &e), PST_OK);
    assert_int_equal(pst_store_open(w->url, PST_STORE_CREATE, &store, &e), PST_OK);
    assert_int_equal(pst_store_migrate(store, &steps, &e), PST_OK);
    if (pst_apply(store, list, 1, &options, &e, &report) != PST_OK)
        fail_msg("%s: %s", e.where, e.message);
    pst_apply_report_fini(&report);
    pst_store_close(store);
    pst_tree_fini(&tree);
}

static const uint8_t KEY[PST_FLEET_KEY_BYTES] = {7};

static enum pst_status on_batch(void *ctx, const struct pst_tail_batch *batch,
                                struct pst_error *error)
{
    struct world *w = ctx;
    struct pst_policy *policy;
    struct pst_shared_policy *shared;
    struct pst_bundle *bundle;
    const struct pst_engine_news news = {.bundle = batch->model != NULL,
                                         .new_history = batch->new_history,
                                         .all_users = true,
                                         .epoch = batch->revision.epoch,
                                         .n = batch->revision.n,
                                         .lease_start_ns = batch->lease_start_ns,
                                         .lease_bound_ns = batch->bound_ns};

    w->told = batch->revision;
    if (batch->model != NULL) {
        assert_int_equal(
            pst_tail_compile(batch, w->policy == NULL ? NULL : w->policy->policy, &policy, error),
            PST_OK);
        assert_int_equal(pst_shared_policy_create(policy, &shared), PST_OK);
        assert_int_equal(pst_bundle_create(w->site, shared, &w->told, KEY, &bundle), PST_OK);
        pst_shared_policy_release(w->policy);
        w->policy = shared;
        pst_policy_publish(w->hub, &bundle->snapshot);
    }
    return pst_engine_tell(w->engine, &news);
}

static void on_read_ended(void *ctx, enum pst_status status, const struct pst_error *error)
{
    struct world *w = ctx;

    if (status != PST_OK)
        fail_msg("%s: %s", error->where, error->message);
    w->reading = false;
}

static void want_lease(void *ctx)
{
    struct world *w = ctx;

    w->wanted++;
    if (w->follows)
        pst_tail_demand(w->tail);
}

static void poll_tail(struct world *w)
{
    w->reading = true;
    pst_tail_demand(w->tail);
    while (w->reading)
        pst_worker_turn(w->worker, 20);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct pst_error e = {0};
    struct pst_log_config log = {.level = PST_LOG_ERROR};
    const char *tmp = getenv("TMPDIR");
    char text[1024], base[80];
    struct pst_bytes dir;

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "%s/pst-news-XXXXXX", tmp == NULL ? "/var/tmp" : tmp);
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(text, sizeof(text), CONFIG, w->dir);
    (void)snprintf(base, sizeof(base), "%s/", w->dir);
    pst_arena_init(&w->arena, 4096, 1u << 20);
    assert_int_equal(pst_arena_copy(&w->arena, pst_bytes_of(base, strlen(base)), &dir), PST_OK);
    if (pst_config_load_text(PST_LIT("t.yaml"), pst_bytes_of(text, strlen(text)), dir, &w->config,
                             &e) != PST_OK ||
        pst_state_prepare(w->config, &e) != PST_OK ||
        pst_key_ring_create(w->config, &w->ring, &e) != PST_OK ||
        pst_site_build(w->config, &w->ring, &w->site, &e) != PST_OK)
        fail_msg("%s: %s", e.where, e.message);
    w->url = pst_store_url(w->config, &w->arena);
    apply(w, POLICY);
    struct pst_service_config service = {.url = w->url, .queue = 16};
    assert_int_equal(pst_log_create(&log, &w->log, &e), PST_OK);
    assert_int_equal(pst_policy_hub_create(&w->hub), PST_OK);
    assert_int_equal(pst_service_create(&service, &w->service, &e), PST_OK);
    assert_int_equal(pst_worker_create(0, &w->worker), PST_OK);
    struct pst_engine_config engine = {.worker = w->worker,
                                       .hub = w->hub,
                                       .service = w->service,
                                       .log = w->log,
                                       .token_cache = 16,
                                       .fact_cache = 16,
                                       .want_lease = want_lease,
                                       .ctx = w};
    assert_int_equal(pst_engine_create(&engine, &w->engine), PST_OK);
    struct pst_tail_config tail = {.worker = w->worker,
                                   .service = w->service,
                                   .apply = on_batch,
                                   .ended = on_read_ended,
                                   .ctx = w};
    assert_int_equal(pst_tail_create(&tail, &w->tail), PST_OK);
    poll_tail(w);
    pst_worker_turn(w->worker, 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const FILES[] = {
        "postern.db",      "postern.db-wal",        "postern.db-shm",
        "keys/issuer.pem", "keys/issuer.jwks.json", "keys"};
    struct world *w = *state;
    char path[128];

    pst_engine_end(&w->decide);
    pst_service_destroy(w->service);
    pst_worker_turn(w->worker, 0);
    pst_tail_destroy(w->tail);
    pst_engine_destroy(w->engine);
    pst_worker_destroy(w->worker);
    pst_policy_hub_destroy(w->hub);
    pst_shared_policy_release(w->policy);
    pst_site_release(w->site);
    pst_key_ring_destroy(&w->ring);
    pst_log_destroy(w->log);
    pst_config_free(w->config);
    pst_arena_fini(&w->arena);
    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", w->dir, FILES[i]);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    (void)rmdir(w->dir);
    free(w);
    return 0;
}

static const struct pst_who ALICE = {
    .kind = PST_WHO_SUBJECT, .issuer = {"https://postern.local/", 22}, .value = {"alice", 5}};

static void on_resume(struct pst_decide *d)
{
    pst_container_of(d, struct world, decide)->resumed = true;
}

/* Begins a decision about alice, whose rows are not in memory, and waits until their reply is in
 * the mail. */
static void begin(struct world *w, const char *path)
{
    w->request = (struct pst_request){
        .method = PST_LIT("GET"), .host = PST_LIT("h"), .path = pst_bytes_of(path, strlen(path))};
    w->decide = (struct pst_decide){.resume = on_resume};
    assert_int_equal(pst_engine_begin_as(w->engine, &w->decide, 0, &w->request, &w->arena, &ALICE),
                     PST_STEP_WAIT);
    while (pst_service_stats(w->service).reads == 0)
        (void)usleep(1000);
    (void)usleep(20000); /* counted before it is sent */
}

static uint64_t id_of_alice(struct world *w)
{
    struct pst_store *store;
    struct pst_facts *facts;
    struct pst_revision revision;

    assert_int_equal(pst_store_open(w->url, PST_STORE_READ, &store, NULL), PST_OK);
    assert_int_equal(pst_store_load_facts(store, &ALICE, &facts, &revision, NULL), PST_OK);
    uint64_t id = facts->user_id;
    pst_facts_free(facts);
    pst_store_close(store);
    assert_true(id != 0);
    return id;
}

static void run_until_resumed(struct world *w)
{
    uint64_t end_ns = pst_clock_boot_ns() + 10 * PST_NS_PER_S;

    while (!w->resumed && pst_clock_boot_ns() < end_ns)
        pst_worker_turn(w->worker, 20);
    assert_true(w->resumed);
    assert_int_equal(w->decide.step, PST_STEP_DONE);
}

/* Nothing else is told for up to half of the lease: who waited for it would wait in vain. */
static void rows_that_a_change_has_touched_are_read_again_at_once(void **state)
{
    struct world *w = *state;
    uint64_t user = id_of_alice(w), n = w->told.n + 1;
    const struct pst_engine_news news = {
        .users = &user, .changes = &n, .user_count = 1, .epoch = w->told.epoch, .n = n};

    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    begin(w, "/w/blue/x/1"); /* reads what was before the change; the reply comes behind the news */
    apply(w, "users: [{name: alice, disabled: true}]");
    run_until_resumed(w);
    assert_int_equal(w->decide.decision.reason, PST_R_USER_DISABLED);
}

static void steady_writes_starve_nobody(void **state)
{
    struct world *w = *state;

    apply(w, "workspaces: [{name: green, kind: project}]");
    begin(w, "/w/blue/x/1");
    pst_worker_turn(w->worker, 0);
    assert_false(w->resumed);
    apply(w, "workspaces: [{name: grey, kind: project}]");
    const struct pst_engine_news news = {.epoch = w->told.epoch,
                                         .n = w->told.n + 1}; /* the first of the two */
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    pst_worker_turn(w->worker, 0);
    assert_true(w->resumed);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
}

/* One transaction makes a role harmless and gives it to alice: at no revision may she read in red.
 */
static void new_rows_are_never_judged_by_an_old_policy(void **state)
{
    struct world *w = *state;

    apply(w,
          "roles: [{name: wide, workspace: red, permissions: [{entity: none, allow: [detail]}]}]\n"
          "bindings: [{user: alice, role: wide, workspace: red}]");
    begin(w, "/w/red/x/1"); /* with the policy from before, and the rows from after the change */
    pst_worker_turn(w->worker, 0);
    assert_false(w->resumed);
    poll_tail(w);
    run_until_resumed(w);
    assert_int_equal(w->decide.decision.verdict, PST_DENY);
    assert_int_equal(w->decide.decision.reason, PST_R_NOT_GRANTED);
}

static enum pst_reason decide(struct world *w)
{
    w->resumed = false;
    w->request = (struct pst_request){
        .method = PST_LIT("GET"), .host = PST_LIT("h"), .path = PST_LIT("/w/blue/x/1")};
    w->decide = (struct pst_decide){.resume = on_resume};
    if (pst_engine_begin_as(w->engine, &w->decide, 0, &w->request, &w->arena, &ALICE) !=
        PST_STEP_DONE)
        run_until_resumed(w);
    enum pst_reason reason = w->decide.decision.reason;
    pst_engine_end(&w->decide);
    return reason;
}

/* What it was about must not come back to life with the next lease. */
static void news_that_were_lost_count_until_they_are_made_up_for(void **state)
{
    struct world *w = *state;
    uint64_t user = id_of_alice(w), n = w->told.n + 1;
    struct pst_bundle *bundle;
    struct pst_engine_news news = {.bundle = true,
                                   .users = &user,
                                   .changes = &n,
                                   .user_count = 1,
                                   .epoch = w->told.epoch,
                                   .n = n,
                                   .lease_start_ns = pst_clock_boot_ns(),
                                   .lease_bound_ns = 60 * PST_NS_PER_S};

    w->follows = false;
    assert_int_equal(decide(w), PST_R_GRANTED);
    apply(w, "users: [{name: alice, disabled: true}]");
    w->told.n = n;
    assert_int_equal(pst_bundle_create(w->site, w->policy, &w->told, KEY, &bundle), PST_OK);
    pst_policy_publish(w->hub, &bundle->snapshot);
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    malloc_fails = true;
    pst_worker_turn(w->worker, 0);
    malloc_fails = false;
    assert_int_equal(decide(w), PST_R_STALE);

    news.bundle = false;
    news.user_count = 0;
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    pst_worker_turn(w->worker, 0);
    assert_int_equal(decide(w), PST_R_STALE);

    news.bundle = true;
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    pst_worker_turn(w->worker, 0);
    assert_int_equal(decide(w), PST_R_USER_DISABLED);
}

/* ---- revisions that callers name (C5) ---- */

static void begin_at(struct world *w, const struct pst_revision *min, const uint8_t *key)
{
    static char room[PST_REVISION_TEXT_MAX];
    struct pst_buf text = pst_buf_of(room, sizeof(room));

    assert_true(pst_revision_token_write(key, min, &text));
    w->request = (struct pst_request){.method = PST_LIT("GET"),
                                      .host = PST_LIT("h"),
                                      .path = PST_LIT("/w/blue/x/1"),
                                      .min_revision = pst_buf_bytes(&text)};
    w->decide = (struct pst_decide){.resume = on_resume};
    w->resumed = false;
    w->wanted = 0;
    if (pst_engine_begin_as(w->engine, &w->decide, 0, &w->request, &w->arena, &ALICE) ==
        PST_STEP_DONE) {
        w->resumed = true;
        w->decide.step = PST_STEP_DONE;
    }
}

static void decide_at(struct world *w, const struct pst_revision *min, const uint8_t *key)
{
    begin_at(w, min, key);
    run_until_resumed(w);
}

static void a_revision_is_waited_for(void **state)
{
    struct world *w = *state;
    struct pst_revision at = w->told;

    w->follows = true;
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
    assert_int_equal(w->wanted, 0);
    pst_engine_end(&w->decide);

    apply(w, "users: [{name: alice, disabled: true}]"); /* and nobody has told this node */
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW); /* as old as was asked for */
    pst_engine_end(&w->decide);
    at.n++;
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.reason, PST_R_USER_DISABLED);
    assert_true(w->wanted > 0);
}

static void one_that_is_never_reached_is_refused_in_time(void **state)
{
    struct world *w = *state;
    struct pst_revision at = {w->told.epoch, w->told.n + 100};
    uint64_t began = pst_clock_boot_ns();

    w->follows = true;
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.reason, PST_R_STALE);
    assert_true(pst_clock_boot_ns() - began < 500 * PST_NS_PER_MS);
    pst_engine_end(&w->decide);

    w->follows = false; /* nobody answers: its own deadline, at most a tick late */
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.reason, PST_R_STALE);
}

static void one_of_another_history_is_said_to_be(void **state)
{
    struct world *w = *state;
    struct pst_revision at = {w->told.epoch + 1, 0};

    w->follows = true;
    decide_at(w, &at, KEY);
    assert_int_equal(w->decide.decision.reason, PST_R_UNKNOWN_REVISION);
    assert_int_equal(w->decide.decision.status, 412);
}

static void one_that_no_node_wrote_is_ignored(void **state)
{
    static const uint8_t OTHER[PST_FLEET_KEY_BYTES] = {8};
    struct world *w = *state;
    struct pst_revision at = {w->told.epoch, w->told.n + 100};

    decide_at(w, &at, OTHER);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
    assert_int_equal(w->wanted, 0);
}

/* ---- leases (C3) ---- */

static void lose_lease(struct world *w)
{
    const struct pst_engine_news news = {.lease_start_ns = 1, .lease_bound_ns = 1};

    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    pst_worker_turn(w->worker, 0);
}

static void a_lapsed_lease_costs_one_read_and_sees_what_it_brings(void **state)
{
    struct world *w = *state;
    struct pst_revision none = {1, 0};
    static const uint8_t OTHER[PST_FLEET_KEY_BYTES] = {8};

    w->follows = true;
    decide_at(w, &none, OTHER); /* alice is in memory */
    pst_engine_end(&w->decide);
    lose_lease(w);
    uint64_t reads = pst_tail_stats(w->tail).reads;
    decide_at(w, &none, OTHER);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
    assert_int_equal(pst_tail_stats(w->tail).reads, reads + 1);
    pst_engine_end(&w->decide);

    apply(w, "users: [{name: alice, disabled: true}]");
    lose_lease(w);
    decide_at(w, &none, OTHER);
    assert_int_equal(w->decide.decision.reason, PST_R_USER_DISABLED);
    pst_engine_end(&w->decide);

    /* what memory refuses is as stale as what it allows */
    apply(w, "users: [{name: alice, disabled: false}]");
    lose_lease(w);
    decide_at(w, &none, OTHER);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
}

static void no_lease_is_refused_when_it_is_said(void **state)
{
    struct world *w = *state;
    struct pst_revision none = {1, 0};
    static const uint8_t OTHER[PST_FLEET_KEY_BYTES] = {8};
    const struct pst_engine_news refused = {.refused = true};

    decide_at(w, &none, OTHER);
    pst_engine_end(&w->decide);
    lose_lease(w);
    begin_at(w, &none, OTHER);
    assert_false(w->resumed);
    assert_int_equal(pst_engine_tell(w->engine, &refused), PST_OK);
    pst_worker_turn(w->worker, 0);
    assert_true(w->resumed);
    assert_int_equal(w->decide.decision.reason, PST_R_STALE);
    assert_int_equal(w->decide.decision.status, 503);
    assert_true(w->decide.decision.retry_after_s > 0);
}

/* ---- bodies: a decision that waits for its client while the log goes on ---- */

static const char SEARCH[] = "{\"experiment_ids\":[\"1\"]}";

/* Alice, who is in memory, sends the head of a request whose body is looked into. */
static void begin_body(struct world *w, const struct pst_revision *min)
{
    static const struct pst_field BLUE = {.name = {"X-MLFLOW-WORKSPACE", 18}, .value = {"blue", 4}};
    static char room[PST_REVISION_TEXT_MAX];
    struct pst_buf text = pst_buf_of(room, sizeof(room));

    if (min != NULL)
        assert_true(pst_revision_token_write(KEY, min, &text));
    w->request = (struct pst_request){.method = PST_LIT("POST"),
                                      .host = PST_LIT("mlflow"),
                                      .path = PST_LIT("/api/2.0/mlflow/runs/search"),
                                      .fields = &BLUE,
                                      .field_count = 1,
                                      .has_body = true,
                                      .min_revision = pst_buf_bytes(&text)};
    w->decide = (struct pst_decide){.resume = on_resume};
    w->resumed = false;
    assert_int_equal(pst_engine_begin_as(w->engine, &w->decide, 0, &w->request, &w->arena, &ALICE),
                     PST_STEP_BODY);
}

static void read_for_another(struct world *w)
{
    poll_tail(w);
    pst_worker_turn(w->worker, 0);
}

static enum pst_reason end_body(struct world *w)
{
    w->decide.step = pst_engine_body(&w->decide, pst_bytes_of(SEARCH, sizeof(SEARCH) - 1), false);
    w->resumed = w->decide.step == PST_STEP_DONE;
    run_until_resumed(w);
    enum pst_reason reason = w->decide.decision.reason;
    pst_engine_end(&w->decide);
    return reason;
}

/* The head came when there was no lease; another request's read of the log brings one, and the
 * change, before the body is there. */
static void a_lease_that_came_with_the_body_is_not_that_of_the_head(void **state)
{
    struct world *w = *state;

    w->follows = true;
    assert_int_equal(decide(w), PST_R_GRANTED);
    begin_body(w, NULL);
    assert_int_equal(end_body(w), PST_R_GRANTED);

    lose_lease(w);
    begin_body(w, NULL);
    apply(w, "users: [{name: alice, disabled: true}]");
    read_for_another(w);
    assert_int_equal(end_body(w), PST_R_USER_DISABLED);
}

static void nor_is_its_policy(void **state)
{
    struct world *w = *state;

    w->follows = true;
    assert_int_equal(decide(w), PST_R_GRANTED);
    lose_lease(w);
    begin_body(w, NULL);
    apply(w, "roles: [{name: all, workspace: blue, permissions: [{entity: y, allow: [detail]}]}]");
    read_for_another(w);
    assert_int_equal(end_body(w), PST_R_NOT_GRANTED);
}

/* The revision that was asked for is reached while the body comes: it counts from then on. */
static void a_revision_that_came_with_the_body_is_decided_at(void **state)
{
    struct world *w = *state;
    struct pst_revision at = {w->told.epoch, w->told.n + 1};

    w->follows = true;
    assert_int_equal(decide(w), PST_R_GRANTED);
    apply(w, "users: [{name: alice, disabled: true}]");
    begin_body(w, &at);
    read_for_another(w);
    assert_int_equal(end_body(w), PST_R_USER_DISABLED);
}

/* ---- what outlasts its decision (C10) ---- */

static void on_cut(struct pst_decide *d)
{
    pst_container_of(d, struct world, decide)->cuts++;
    pst_engine_end(d);
}

static void turn_for(struct world *w, uint64_t ms)
{
    uint64_t end_ns = pst_clock_boot_ns() + ms * PST_NS_PER_MS;

    while (w->cuts == 0 && pst_clock_boot_ns() < end_ns)
        pst_worker_turn(w->worker, 20);
}

static char path_room[] = "/w/blue/x/1";

static void allow_one(struct world *w)
{
    memcpy(path_room, "/w/blue/x/1", sizeof(path_room));
    begin(w, path_room);
    run_until_resumed(w);
    assert_int_equal(w->decide.decision.verdict, PST_ALLOW);
}

/* The request is gone: what is held must not look at it again. */
static void hold(struct world *w)
{
    pst_engine_hold(&w->decide, on_cut);
    memset(path_room, '?', sizeof(path_room) - 1);
    w->request = (struct pst_request){0};
}

static void what_is_held_needs_no_request_and_no_bundle(void **state)
{
    struct world *w = *state;

    allow_one(w);
    hold(w);
    assert_int_equal(w->site->streams_, 1);
    apply(w, "workspaces: [{name: green, kind: project}]");
    poll_tail(w);
    turn_for(w, 300);
    assert_int_equal(w->cuts, 0);
    assert_true(pst_policy_reap(w->hub) > 0); /* the one that it began with */
    apply(w, "roles: [{name: all, workspace: blue, permissions: [{entity: y, allow: [detail]}]}]");
    poll_tail(w);
    turn_for(w, 1000);
    assert_int_equal(w->cuts, 1);
    assert_int_equal(w->decide.decision.verdict, PST_DENY);
    assert_int_equal(w->decide.decision.reason, PST_R_NOT_GRANTED);
    assert_int_equal(w->site->streams_, 0);
    assert_int_equal(pst_engine_metrics(w->engine)->streams_cut[PST_R_NOT_GRANTED], 1);
    assert_int_equal(pst_engine_metrics(w->engine)->streams_held, 0);
}

/* Between the decision and the moment in which it is handed over. */
static void a_change_before_it_was_held_counts(void **state)
{
    struct world *w = *state;

    allow_one(w);
    apply(w, "users: [{name: alice, disabled: true}]");
    poll_tail(w);
    hold(w);
    turn_for(w, 1000);
    assert_int_equal(w->cuts, 1);
    assert_int_equal(w->decide.decision.reason, PST_R_USER_DISABLED);
}

/* Steady news about a user who cannot be read are no way to go on. */
static void one_whose_user_cannot_be_read_is_cut_in_time(void **state)
{
    struct world *w = *state;
    uint64_t user = id_of_alice(w), n = w->told.n + 1000;
    const struct pst_engine_news news = {
        .users = &user, .changes = &n, .user_count = 1, .epoch = w->told.epoch, .n = n};

    allow_one(w);
    hold(w);
    turn_for(w, 100);
    assert_int_equal(w->cuts, 0);
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK); /* no rows are as new as that */
    turn_for(w, 1000);
    assert_int_equal(w->cuts, 1);
    assert_int_equal(w->decide.decision.reason, PST_R_UNAVAILABLE);
}

static void without_a_lease_it_is_cut(void **state)
{
    struct world *w = *state;

    allow_one(w);
    hold(w);
    turn_for(w, 600);
    assert_int_equal(w->cuts, 0);
    lose_lease(w);
    turn_for(w, 1000);
    assert_int_equal(w->cuts, 1);
    assert_int_equal(w->decide.decision.reason, PST_R_STALE);
}

static void one_that_ends_in_the_middle_of_a_look_is_forgotten(void **state)
{
    struct world *w = *state;
    uint64_t user = id_of_alice(w), n = w->told.n + 1000;
    const struct pst_engine_news news = {
        .users = &user, .changes = &n, .user_count = 1, .epoch = w->told.epoch, .n = n};

    allow_one(w);
    hold(w);
    assert_int_equal(pst_engine_tell(w->engine, &news), PST_OK);
    pst_worker_turn(w->worker, 0); /* its rows are being read */
    pst_engine_end(&w->decide);
    assert_int_equal(w->site->streams_, 0);
    turn_for(w, 700);
    assert_int_equal(w->cuts, 0);
}

/* ---- the lease alone (C13) ---- */

static void readiness_asks_for_a_lease_and_counts_as_nothing(void **state)
{
    struct world *w = *state;
    uint64_t active_ns = pst_engine_active_ns(w->engine);

    w->decide = (struct pst_decide){.resume = on_resume};
    assert_int_equal(pst_engine_begin_lease(w->engine, &w->decide), PST_STEP_DONE);
    assert_true(w->decide.decision.forward);
    pst_engine_end(&w->decide);
    lose_lease(w);
    w->follows = true;
    w->decide = (struct pst_decide){.resume = on_resume};
    assert_int_equal(pst_engine_begin_lease(w->engine, &w->decide), PST_STEP_WAIT);
    run_until_resumed(w);
    assert_true(w->decide.decision.forward);
    pst_engine_end(&w->decide);

    w->follows = false;
    lose_lease(w);
    w->resumed = false;
    w->decide = (struct pst_decide){.resume = on_resume};
    assert_int_equal(pst_engine_begin_lease(w->engine, &w->decide), PST_STEP_WAIT);
    run_until_resumed(w);
    assert_false(w->decide.decision.forward);
    assert_int_equal(w->decide.decision.status, 503);
    assert_int_equal(pst_engine_active_ns(w->engine), active_ns);
    assert_int_equal(pst_engine_metrics(w->engine)->requests[PST_DENY][PST_R_STALE], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_that_a_change_has_touched_are_read_again_at_once,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(steady_writes_starve_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_rows_are_never_judged_by_an_old_policy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(news_that_were_lost_count_until_they_are_made_up_for,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_revision_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_never_reached_is_refused_in_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_of_another_history_is_said_to_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_no_node_wrote_is_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lapsed_lease_costs_one_read_and_sees_what_it_brings,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_lease_is_refused_when_it_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lease_that_came_with_the_body_is_not_that_of_the_head,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(nor_is_its_policy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_revision_that_came_with_the_body_is_decided_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_needs_no_request_and_no_bundle, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_change_before_it_was_held_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_whose_user_cannot_be_read_is_cut_in_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_a_lease_it_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_ends_in_the_middle_of_a_look_is_forgotten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(readiness_asks_for_a_lease_and_counts_as_nothing, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("authz/engine news", tests, NULL, NULL);
}
