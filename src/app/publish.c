/*
 * From the change log to the workers: the model is compiled, bundled with the site and published;
 * one message a worker makes the snapshot, the touched users and the lease effective at once.
 */
#include "control_internal.h"

#include <stdlib.h>

#include "postern/base/clock.h"

static enum pst_status publish(struct control *c)
{
    struct pst_bundle *bundle;
    enum pst_status status =
        pst_bundle_create(c->setup->site, c->policy, &c->revision, c->fleet_key, &bundle);

    if (status == PST_OK)
        pst_policy_publish(c->hub, &bundle->snapshot);
    return status;
}

enum pst_status pst_control_tell_all(struct control *c, const struct pst_engine_news *news)
{
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
        status = pst_engine_tell(c->lanes[i].engine, news);
    return status;
}

const struct pst_policy *pst_control_base(void *ctx)
{
    const struct control *c = ctx;

    return c->policy == NULL ? NULL : c->policy->policy;
}

static enum pst_status take_model(struct control *c, const struct pst_tail_batch *batch,
                                  struct pst_error *error)
{
    struct pst_policy *policy;
    struct pst_shared_policy *shared;
    enum pst_status status = pst_tail_compile(batch, pst_control_base(c), &policy, error);

    if (status == PST_OK)
        status = pst_shared_policy_create(policy, &shared);
    if (status != PST_OK)
        return status;
    pst_shared_policy_release(c->policy);
    c->policy = shared;
    return PST_OK;
}

static enum pst_status collect_users(const struct pst_tail_batch *batch,
                                     struct pst_engine_news *news, uint64_t **room)
{
    *room = calloc(2 * batch->key_count + 1, sizeof(**room));
    if (*room == NULL)
        return PST_E_NOMEM;
    uint64_t *users = *room, *changes = *room + batch->key_count;
    for (size_t i = 0; i < batch->key_count; i++)
        if (batch->keys[i].kind == PST_LOG_USER) {
            users[news->user_count] = batch->keys[i].id;
            changes[news->user_count++] = batch->keys[i].n;
        }
    news->users = users;
    news->changes = changes;
    return PST_OK;
}

/* The tail's callback: everything of the batch becomes effective in one message a worker. */
enum pst_status pst_control_apply(void *ctx, const struct pst_tail_batch *batch,
                                  struct pst_error *error)
{
    struct control *c = ctx;
    bool moved = c->untold || batch->new_history || batch->revision.epoch != c->revision.epoch ||
                 batch->revision.n != c->revision.n;
    uint64_t *users = NULL;
    struct pst_engine_news news = {
        .new_history = batch->new_history,
        .all_users = batch->all_users,
        .epoch = batch->revision.epoch,
        .n = batch->revision.n,
        .lease_start_ns = batch->lease_start_ns,
        .lease_bound_ns = batch->bound_ns,
        .number = ++c->batches,
        .bundle = true, /* for one that could not take it the last time */
    };

    if (batch->fleet_key != NULL)
        memcpy(c->fleet_key, batch->fleet_key, sizeof(c->fleet_key));
    enum pst_status status = batch->model == NULL ? PST_OK : take_model(c, batch, error);
    if (status == PST_OK && (moved || batch->model != NULL)) {
        c->revision = batch->revision;
        c->untold = true;
        status = publish(c);
    }
    if (status == PST_OK)
        status = collect_users(batch, &news, &users);
    if (status == PST_OK)
        status = pst_control_tell_all(c, &news);
    if (status == PST_OK) {
        c->moved = c->untold;
        c->untold = false;
        if (batch->model != NULL)
            pst_control_note_roles(c);
    }
    free(users);
    return status;
}
