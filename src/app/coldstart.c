/*
 * The compiled policy in the state directory: the next start takes it as its base and needs only
 * the log's tail.  Saving is a thread of its own for as long as it takes; it holds the policy that
 * it saves.
 *
 * Small policies are loaded as quickly from the database, and are not saved.
 */
#include "control_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "postern/base/clock.h"
#include "postern/base/secret.h"
#include "postern/sync/snapshot.h"

#define ROWS_WORTH_IT 10000u
#define SAVE_EVERY_NS (60 * PST_NS_PER_S)
#define SCHEMA        2 /* of the tables that the image was made from */

struct saving {
    struct pst_message message; /* first */
    struct control *control;
    struct pst_shared_policy *policy; /* counted */
    struct pst_snapshot_about about;
    struct pst_error error;
    enum pst_status status;
    pthread_t thread;
    struct pst_arena arena;
    struct pst_bytes path; /* in the arena: the configuration may go meanwhile */
};

static struct pst_bytes path_of(const struct control *c, struct pst_arena *arena, const char *name)
{
    return pst_state_path(c->setup->config, arena, name);
}

static enum pst_status take(struct control *c, const struct pst_snapshot_about *about,
                            struct pst_policy *policy)
{
    struct pst_shared_policy *shared;
    enum pst_status status = pst_shared_policy_create(policy, &shared);

    if (status != PST_OK)
        return status;
    c->policy = shared;
    pst_tail_resume(c->tail, &about->mark);
    c->coldstart.saved_n = about->mark.revision.n;
    pst_log_event(c->log, PST_LOG_INFO, "snapshot.loaded", "\"revision\":\"%016llx-%llu\"",
                  (unsigned long long)about->mark.revision.epoch,
                  (unsigned long long)about->mark.revision.n);
    return PST_OK;
}

/* Whatever is wrong with the file, the database has everything. */
void pst_coldstart_load(struct control *c)
{
    struct pst_snapshot_about about;
    struct pst_policy *policy = NULL;
    struct pst_error error = {0};
    struct pst_arena arena;

    pst_arena_init(&arena, 4096, 1u << 16);
    struct pst_bytes dir = pst_config_path(c->setup->config, &arena, c->setup->config->state_dir);
    (void)mkdir(dir.ptr, 0700); /* a node whose state is elsewhere may have none, and go without */
    enum pst_status status = pst_snapshot_key(dir.ptr, c->coldstart.key, &error);
    c->coldstart.usable = status == PST_OK;
    if (status == PST_OK)
        status = pst_snapshot_load(path_of(c, &arena, "policy.snapshot").ptr, c->coldstart.key,
                                   &about, &policy, &error);
    if (status == PST_OK && about.schema != SCHEMA) {
        pst_policy_destroy(policy);
        status = pst_error_set(&error, PST_E_INVALID, NULL, "the snapshot is of another schema");
    } else if (status == PST_OK) {
        status = take(c, &about, policy);
    }
    if (status != PST_OK && status != PST_E_ABSENT)
        pst_control_log_failure(c, "snapshot.refused", &error);
    pst_arena_fini(&arena);
}

static void *save(void *arg)
{
    struct saving *s = arg;

    pthread_setname_np(pthread_self(), "snapshot");
    s->status = pst_snapshot_save(s->path.ptr, s->control->coldstart.key, &s->about,
                                  s->policy->policy, &s->error);
    pst_worker_send(s->control->loop, &s->message);
    return NULL;
}

static void on_saved(struct pst_worker *worker, struct pst_message *message)
{
    struct saving *s = (struct saving *)(void *)message;
    struct control *c = s->control;

    (void)worker;
    (void)pthread_join(s->thread, NULL);
    pst_shared_policy_release(s->policy);
    c->coldstart.saving = NULL;
    if (s->status == PST_OK)
        c->coldstart.saved_n = s->about.mark.revision.n;
    else
        pst_control_log_failure(c, "snapshot.not_saved", &s->error);
    pst_arena_fini(&s->arena);
    free(s);
}

static bool is_worth_it(const struct control *c)
{
    struct pst_policy_stats stats;

    if (!c->coldstart.usable || c->coldstart.saving != NULL || c->policy == NULL ||
        c->revision.epoch == 0 || c->revision.n == c->coldstart.saved_n)
        return false;
    pst_policy_stats(c->policy->policy, &stats);
    return stats.rows >= ROWS_WORTH_IT;
}

static void begin(struct control *c)
{
    struct saving *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return; /* at the next turn */
    pst_arena_init(&s->arena, 4096, 1u << 16);
    s->path = path_of(c, &s->arena, "policy.snapshot");
    s->message.run = on_saved;
    s->control = c;
    s->policy = c->policy;
    s->about.mark = pst_tail_mark(c->tail);
    s->about.schema = SCHEMA;
    s->about.max_staleness_s =
        (uint32_t)(atomic_load_explicit(&pst_tail_lease(c->tail)->bound_ns, memory_order_relaxed) /
                   PST_NS_PER_S);
    s->policy->refs_++;
    if (s->path.ptr == NULL || pthread_create(&s->thread, NULL, save, s) != 0) {
        pst_shared_policy_release(s->policy);
        pst_arena_fini(&s->arena);
        free(s);
        return;
    }
    c->coldstart.saving = s;
    c->coldstart.tried_ns = pst_clock_boot_ns();
}

void pst_coldstart_tick(struct control *c, uint64_t now_ns)
{
    bool due = c->coldstart.tried_ns == 0 || now_ns - c->coldstart.tried_ns >= SAVE_EVERY_NS;

    if (due && is_worth_it(c))
        begin(c);
}

void pst_coldstart_stop(struct control *c)
{
    if (c->loop == NULL || c->tail == NULL)
        return;
    while (c->coldstart.saving != NULL)
        pst_worker_turn(c->loop, 20);
    if (is_worth_it(c))
        begin(c);
    while (c->coldstart.saving != NULL)
        pst_worker_turn(c->loop, 20);
    pst_secret_wipe(c->coldstart.key, sizeof(c->coldstart.key));
}
