/*
 * A changed configuration takes over while requests run: everything is built and every socket
 * opened first; once the first message is sent nothing can fail any more.
 */
#include "control_internal.h"

#include <stdlib.h>
#include <unistd.h>

struct swap_message {
    struct lane *lane;
    const struct setup *setup;
    uint32_t new_count;
    struct {
        uint32_t index;
        int fd;
    } opened[];
};

static void on_swap(void *ctx)
{
    struct swap_message *m = ctx;

    pst_server_swap(m->lane->server, &m->setup->doors);
    for (uint32_t i = 0; i < m->new_count; i++)
        if (pst_server_listen(m->lane->server, m->opened[i].index, m->opened[i].fd) != PST_OK)
            pst_log_event(m->lane->control->log, PST_LOG_ERROR, "listener.failed", "\"index\":%u",
                          m->opened[i].index);
    free(m);
}

static const struct pst_listener_source *find_listener(const struct pst_config *config,
                                                       struct pst_bytes name)
{
    for (uint32_t i = 0; i < config->listener_count; i++)
        if (pst_bytes_equal(config->listeners[i].name, name))
            return &config->listeners[i];
    return NULL;
}

static bool same_feed(const struct pst_sync_source *a, const struct pst_sync_source *b)
{
    const struct pst_feed_config *x = &a->feed, *y = &b->feed;
    const struct pst_bytes pairs[][2] = {
        {x->master, y->master},
        {x->user, y->user},
        {x->sentinel_user, y->sentinel_user},
        {x->ca_file, y->ca_file},
        {x->cert_file, y->cert_file},
        {x->key_file, y->key_file},
        {x->server_name, y->server_name},
        {x->channel, y->channel},
        {a->password_file, b->password_file},
        {a->sentinel_password_file, b->sentinel_password_file},
    };
    bool same =
        x->tls == y->tls && x->publish == y->publish && x->address_count == y->address_count;

    for (uint32_t i = 0; same && i < x->address_count; i++)
        same = pst_bytes_equal(x->addresses[i], y->addresses[i]);
    for (size_t i = 0; same && i < sizeof(pairs) / sizeof(pairs[0]); i++)
        same = pst_bytes_equal(pairs[i][0], pairs[i][1]);
    return same;
}

static bool same_log(const struct pst_log_config *a, const struct pst_log_config *b)
{
    bool same = a->level == b->level;

    for (size_t i = 0; i < PST_LOG_STREAMS; i++)
        same = same && pst_bytes_equal(a->paths[i], b->paths[i]);
    return same;
}

static enum pst_status check_reload(const struct pst_config *old, const struct pst_config *new,
                                    struct pst_error *error)
{
    for (uint32_t i = 0; i < new->listener_count; i++) {
        const struct pst_listener_source *was = find_listener(old, new->listeners[i].name);
        if (was != NULL && !pst_bytes_equal(was->address_text, new->listeners[i].address_text))
            return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr,
                                 "listener \"%s\": its address cannot change while it runs; give "
                                 "it a new name, or restart",
                                 new->listeners[i].name.ptr);
    }
    if (!pst_bytes_equal(old->store_url, new->store_url) ||
        !pst_bytes_equal(old->state_dir, new->state_dir))
        return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr,
                             "state_dir and store.url change with a restart only");
    if (!same_feed(&old->sync, &new->sync) || !pst_bytes_equal(old->node, new->node))
        return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr,
                             "sync and node change with a restart only");
    if (old->workers != new->workers || !same_log(&old->log, &new->log) ||
        old->token_cache != new->token_cache || old->fact_cache != new->fact_cache)
        return pst_error_set(error, PST_E_INVALID, new->tree.name.ptr,
                             "workers, log, identity.token_cache and identity.fact_cache change "
                             "with a restart only");
    return PST_OK;
}

static enum pst_status open_new(struct control *c, const struct setup *s,
                                struct swap_message **messages, struct pst_error *error)
{
    int *fds = calloc(c->lane_count, sizeof(*fds));
    enum pst_status status = fds == NULL ? PST_E_NOMEM : PST_OK;

    for (uint32_t l = 0; l < s->config->listener_count && status == PST_OK; l++) {
        if (find_listener(c->setup->config, s->config->listeners[l].name) != NULL)
            continue;
        status = pst_control_open_listener(c, s, l, fds, error);
        for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
            struct swap_message *m = messages[i];
            m->opened[m->new_count].index = l;
            m->opened[m->new_count++].fd = fds[i];
        }
    }
    free(fds);
    return status;
}

static void drop_messages(struct control *c, struct swap_message **messages)
{
    for (uint32_t i = 0; i < c->lane_count; i++) {
        for (uint32_t f = 0; messages[i] != NULL && f < messages[i]->new_count; f++)
            close(messages[i]->opened[f].fd);
        free(messages[i]);
    }
    free(messages);
}

static struct swap_message **make_messages(struct control *c, const struct setup *s)
{
    struct swap_message **messages = calloc(c->lane_count, sizeof(struct swap_message *));
    bool good = messages != NULL;

    for (uint32_t i = 0; i < c->lane_count && good; i++) {
        struct swap_message *m =
            calloc(1, sizeof(*m) + s->config->listener_count * sizeof(m->opened[0]));
        messages[i] = m;
        good = m != NULL;
        if (good) {
            m->lane = &c->lanes[i];
            m->setup = s;
        }
    }
    if (!good && messages != NULL) {
        drop_messages(c, messages);
        messages = NULL;
    }
    return messages;
}

/* Nothing can fail any more once the first worker is told. */
static void tell_swap(struct lane *lane, struct swap_message *m)
{
    const struct pst_engine_news news = {.bundle = true, .with = on_swap, .with_ctx = m};

    /* A worker that keeps the old doors would get the new site with the next change of the policy.
     */
    if (pst_engine_tell(lane->engine, &news) != PST_OK)
        abort();
}

static enum pst_status install_setup(struct control *c, struct setup *s, struct pst_error *error)
{
    struct swap_message **messages = make_messages(c, s);
    struct pst_bundle *bundle = NULL;
    enum pst_status status =
        messages == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    if (status == PST_OK)
        status = open_new(c, s, messages, error);
    if (status == PST_OK && c->policy != NULL)
        status = pst_bundle_create(s->site, c->policy, &c->revision, c->fleet_key, &bundle);
    if (status != PST_OK) {
        if (messages != NULL)
            drop_messages(c, messages);
        return status;
    }
    s->older = c->setup;
    c->setup = s;
    atomic_store_explicit(&c->serving, s, memory_order_release);
    c->jwks_due_ns = 0;
    pst_tail_set_bound(c->tail, s->config->max_staleness_s * PST_NS_PER_S);
    c->fleet.report_due = true; /* routes that B does not bind */
    atomic_store_explicit(&s->lent, c->lane_count, memory_order_relaxed);
    if (bundle != NULL)
        pst_policy_publish(c->hub, &bundle->snapshot);
    for (uint32_t i = 0; i < c->lane_count; i++)
        tell_swap(&c->lanes[i], messages[i]);
    free(messages);
    return PST_OK;
}

void pst_control_log_failure(struct control *c, const char *event, const struct pst_error *error)
{
    char room[1024];
    struct pst_buf b = pst_buf_of(room, sizeof(room) - 1);

    pst_buf_lit(&b, "\"where\":");
    pst_buf_json(&b, pst_bytes_of(error->where, strlen(error->where)));
    pst_buf_lit(&b, ",\"message\":");
    pst_buf_json(&b, pst_bytes_of(error->message, strlen(error->message)));
    room[b.len] = '\0';
    pst_log_event(c->log, PST_LOG_ERROR, event, "%s", b.full ? "" : room);
}

void pst_control_reload(struct control *c)
{
    struct pst_error error = {0};
    struct pst_config *config;
    struct setup *s = NULL;

    pst_log_reopen(c->log);
    if (atomic_load_explicit(&c->draining, memory_order_relaxed))
        return; /* nothing opens any more */
    enum pst_status status = pst_config_load(c->config_path, &config, &error);
    if (status == PST_OK) {
        status = check_reload(c->setup->config, config, &error);
        if (status != PST_OK)
            pst_config_free(config);
    }
    if (status == PST_OK)
        status = pst_setup_make(c, config, &s, &error);
    if (status == PST_OK) {
        status = install_setup(c, s, &error);
        if (status != PST_OK && c->setup != s)
            pst_setup_free(s);
    }
    if (status != PST_OK) {
        pst_control_log_failure(c, "config.refused", &error);
        return;
    }
    pst_log_event(c->log, PST_LOG_INFO, "config.reloaded", "%s", "");
    pst_control_warn(c);
    pst_control_note_roles(c);
}
