/*
 * Workers with their engines and servers, and the sockets that they accept on.
 */
#include "control_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/net/listener.h"

static void config_released(void *owner, const struct pst_server_config *config)
{
    struct setup *s =
        (struct setup *)(uintptr_t)((const char *)config - offsetof(struct setup, doors));

    (void)owner;
    atomic_fetch_sub_explicit(&s->lent, 1, memory_order_release); /* pairs with free_old_setups */
}

static void lane_drained(void *owner)
{
    struct lane *lane = owner;

    atomic_fetch_add_explicit(&lane->control->drained, 1, memory_order_release);
}

enum pst_status pst_lane_make(struct control *c, uint32_t index, struct pst_error *error)
{
    static const struct pst_server_ops OPS = {.config_released = config_released,
                                              .drained = lane_drained};
    struct lane *lane = &c->lanes[index];
    const struct pst_config *config = c->setup->config;

    lane->control = c;
    enum pst_status status = pst_worker_create(index, &lane->worker);
    struct pst_engine_config engine = {
        .worker = lane->worker,
        .hub = c->hub,
        .service = c->service,
        .log = c->log,
        .token_cache = config->token_cache,
        .fact_cache = config->fact_cache,
        .want_keys = pst_control_want_keys,
        .want_lease = pst_control_want_lease,
        .took = pst_control_took,
        .ctx = c,
    };
    if (status == PST_OK)
        status = pst_engine_create(&engine, &lane->engine);
    if (status == PST_OK) {
        status = pst_server_create(lane->worker, lane->engine, &c->setup->doors, &OPS, lane,
                                   &lane->server);
        if (status == PST_OK)
            atomic_fetch_add_explicit(&c->setup->lent, 1, memory_order_relaxed);
    }
    return status == PST_OK ? status
                            : pst_error_set(error, status, NULL, "worker %u cannot be made: %s",
                                            index, pst_status_name(status));
}

static void announce(struct control *c, const struct pst_listener_source *l,
                     const struct pst_address *bound)
{
    char room[PST_ADDRESS_TEXT_MAX + 1];
    struct pst_buf text = pst_buf_of(room, sizeof(room) - 1);
    static const char *const KINDS[] = {"proxy", "auth_request", "ops"};

    pst_address_text(bound, &text);
    room[text.len] = '\0';
    pst_log_event(c->log, PST_LOG_INFO, "listener.open",
                  "\"name\":\"%.*s\",\"kind\":\"%s\",\"address\":\"%s\"", (int)l->name.len,
                  l->name.ptr, KINDS[l->kind], room);
}

/* A listener that got another name by a reload takes over its address from the one that still has
 * it. */
static bool listens_at(const struct setup *current, const struct setup *wanted,
                       struct pst_bytes address)
{
    for (uint32_t i = 0; current != wanted && i < current->config->listener_count; i++)
        if (pst_bytes_equal(current->config->listeners[i].address_text, address))
            return true;
    return false;
}

/* A socket a worker: TCP shares the port by SO_REUSEPORT, unix sockets are duplicated. */
enum pst_status pst_control_open_listener(struct control *c, const struct setup *s, uint32_t index,
                                          int *fds, struct pst_error *error)
{
    const struct pst_listener_source *l = &s->config->listeners[index];
    struct pst_address bound = l->address;
    enum pst_status status =
        listens_at(c->setup, s, l->address_text) ? PST_OK : pst_listen_is_free(&l->address, error);

    for (uint32_t i = 0; i < c->lane_count; i++)
        fds[i] = -1;
    for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++) {
        if (i > 0 && l->address.sa.any.sa_family == AF_UNIX)
            fds[i] = dup(fds[0]);
        else
            status = pst_listen(&bound, &fds[i], i == 0 ? &bound : NULL, error);
        if (status == PST_OK && fds[i] < 0)
            status = pst_error_set(error, PST_E_IO, l->name.ptr, "no file descriptor: %s",
                                   strerror(errno));
    }
    if (status == PST_OK) {
        announce(c, l, &bound);
        return PST_OK;
    }
    for (uint32_t i = 0; i < c->lane_count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return status;
}

enum pst_status pst_control_open_listeners(struct control *c, struct pst_error *error)
{
    int *fds = calloc(c->lane_count, sizeof(*fds));
    enum pst_status status =
        fds == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    for (uint32_t l = 0; l < c->setup->config->listener_count && status == PST_OK; l++) {
        status = pst_control_open_listener(c, c->setup, l, fds, error);
        for (uint32_t i = 0; i < c->lane_count && status == PST_OK; i++)
            status = pst_server_listen(c->lanes[i].server, l, fds[i]);
    }
    free(fds);
    return status;
}

/* Adoption must not be forgotten: each profile that lets refused requests pass is named, loudly. So
 * is a door that is shut to everybody. */
void pst_control_warn(struct control *c)
{
    /* These switches may have been meant for the app: its own variables have the same names. */
    if (!c->setup->config->authentication)
        pst_log_event(c->log, PST_LOG_WARN, "authentication.off",
                      "\"message\":\"nobody is asked who he is\"");
    if (!c->setup->config->permissions)
        pst_log_event(c->log, PST_LOG_WARN, "permissions.off",
                      "\"message\":\"levels decide in place of permissions\"");
    for (uint32_t i = 0; i < c->setup->config->listener_count; i++) {
        const struct pst_listener_source *l = &c->setup->config->listeners[i];
        if (l->kind == PST_DOOR_AUTH_REQUEST && l->trusted_count == 0)
            pst_log_event(
                c->log, PST_LOG_WARN, "listener.trusts_nobody",
                "\"name\":\"%.*s\",\"message\":\"without trusted_peers it refuses every check\"",
                (int)l->name.len, l->name.ptr);
    }
    const struct pst_site *site = c->setup->site;

    for (uint32_t i = 0; i < site->profile_count; i++) {
        const struct pst_profile *profile = site->profiles[i].profile;
        if (profile == NULL || !pst_profile_shadows(profile))
            continue;
        struct pst_bytes name = pst_profile_name(profile);
        pst_log_event(c->log, PST_LOG_WARN, "profile.shadow",
                      "\"profile\":\"%.*s\",\"message\":\"refused requests are forwarded\"",
                      (int)name.len, name.ptr);
    }
}
