/*
 * What a lane of the service does for the change log and for the nodes: one question at a time of
 * each, on the quick lane; a whole model on the slow one.
 */
#include "postern/base/clock.h"
#include "service_internal.h"

#define NODE_CALL_NS PST_NS_PER_S
#define ANSWER_NS    (200 * PST_NS_PER_MS) /* what a read has at least, once it is begun */
#define FRESH_NS     (500 * PST_NS_PER_MS) /* and the first one of a connection */
#define TOUCHED_NS   (2 * PST_NS_PER_S)    /* of silence, where what a few roles need is loaded */
#define REST_NS      (50 * PST_NS_PER_MS)  /* between a failure and the next attempt */

/* ---- the database; without the lock ---- */

enum pst_status pst_lane_open(struct lane *lane, struct pst_error *error)
{
    struct pst_service *s = lane->service;
    struct pst_error own = {0};

    if (lane->store != NULL)
        return PST_OK;
    if (pst_clock_boot_ns() < lane->rest_until_ns) {
        if (error != NULL)
            *error = lane->failure;
        return lane->failure.status;
    }
    enum pst_status status =
        pst_store_open(pst_bytes_of(s->url, s->url_len), PST_STORE_WRITE, &lane->store, &own);
    if (status != PST_OK)
        pst_lane_rest(lane, status, &own);
    if (status != PST_OK && error != NULL)
        *error = own;
    return status;
}

void pst_lane_rest(struct lane *lane, enum pst_status status, const struct pst_error *why)
{
    uint64_t now_ns = pst_clock_boot_ns();

    if (now_ns < lane->rest_until_ns)
        return; /* nothing was tried: or those who ask all the time would make it rest for ever */
    lane->rest_until_ns = now_ns + REST_NS;
    lane->failure = *why;
    lane->failure.status = status;
}

void pst_lane_deadline(struct lane *lane, uint64_t at_ns, bool fresh)
{
    uint64_t least_ns = pst_clock_boot_ns() + (fresh ? FRESH_NS : ANSWER_NS);

    pst_store_set_deadline(lane->store, at_ns != 0 && at_ns < least_ns ? least_ns : at_ns);
}

void pst_lane_close(struct lane *lane)
{
    pst_store_close(lane->store);
    lane->store = NULL;
}

/* ---- the log ---- */

/* Ids of the roles that the page names; *workspaces: it names one. SIZE_MAX: too many for anything
 * but the whole model. */
static size_t touched_roles(const struct pst_log_page *page, uint32_t *ids, bool *workspaces)
{
    size_t count = 0;

    *workspaces = false;
    for (size_t i = 0; i < page->key_count; i++) {
        const struct pst_log_key *key = &page->keys[i];
        if (key->kind == PST_LOG_WORKSPACE)
            *workspaces = true;
        if (key->kind != PST_LOG_ROLE)
            continue;
        if (count == PST_LOAD_ROLES_MAX || key->id > UINT32_MAX)
            return SIZE_MAX;
        ids[count++] = (uint32_t)key->id;
    }
    return count;
}

/* The proof and the whole model, of one moment. */
static enum pst_status load_whole(struct lane *lane, const struct pst_log_request *q,
                                  struct pst_log_reply *reply)
{
    struct pst_revision revision;
    enum pst_status status = pst_lane_open(lane, &reply->error);

    if (status != PST_OK)
        return status;
    status = pst_store_view(lane->store, &reply->error);
    if (status == PST_OK)
        status = pst_store_log(lane->store, &q->since, q->node, &reply->page, &reply->error);
    if (status == PST_OK) {
        reply->read_ns = pst_clock_boot_ns();
        status = pst_store_fleet_key(lane->store, reply->fleet_key, &reply->error);
        if (status == PST_OK)
            status = pst_store_load_model(lane->store, &reply->model, &revision, &reply->error);
        if (status != PST_OK)
            pst_log_page_fini(&reply->page);
    }
    pst_store_view_end(lane->store);
    reply->has_key = reply->whole = true;
    return status;
}

/* Reads the log once more, now together with the roles that it touched, in a view; *ids are those
 * of the first page. The page is the later one: when that touches others, they are read for it, and
 * when it says `all`, the slow lane's turn comes. The view is left open: whoever waits for the rows
 * does not wait for its end. */
static enum pst_status load_touched(struct lane *lane, const struct pst_log_request *q,
                                    struct pst_log_reply *reply)
{
    uint32_t ids[PST_LOAD_ROLES_MAX], later_ids[PST_LOAD_ROLES_MAX];
    struct pst_revision revision;
    bool workspaces, later_workspaces;
    size_t count = touched_roles(&reply->page, ids, &workspaces);

    if (count == SIZE_MAX) {
        reply->page.all = true;
        return PST_OK;
    }
    const struct pst_log_roles which = {.since = &q->since,
                                        .node = q->node,
                                        .ids = ids,
                                        .count = count,
                                        .workspaces = workspaces,
                                        .base = q->base};
    pst_log_page_fini(&reply->page);
    enum pst_status status = pst_store_view(lane->store, &reply->error);
    if (status == PST_OK)
        status =
            pst_store_log_roles(lane->store, &which, &reply->page, &reply->model, &reply->error);
    if (status != PST_OK)
        return status;
    size_t later = touched_roles(&reply->page, later_ids, &later_workspaces);
    reply->page.all = reply->page.all || later == SIZE_MAX;
    if (!reply->page.all && later == count && workspaces == later_workspaces &&
        memcmp(ids, later_ids, count * sizeof(*ids)) == 0)
        return PST_OK;
    pst_store_free_model(reply->model);
    reply->model = NULL;
    if (!reply->page.all)
        status = pst_store_load_roles(lane->store, later_ids, later, later_workspaces,
                                      &reply->model, &revision, &reply->error);
    return status;
}

void pst_service_deliver_log(struct pst_service *s, const struct pst_log_request *q,
                             struct pst_log_reply *reply, enum pst_status status)
{
    reply->status = status;
    if (status != PST_OK && reply->error.status == PST_OK)
        (void)pst_error_set(&reply->error, status, NULL, "the change log cannot be read: %s",
                            pst_status_name(status));
    pthread_mutex_lock(&s->lock); /* before the reply: its receiver may ask again */
    s->log_state = LOG_NONE;
    s->stats.loads += reply->model != NULL;
    pthread_mutex_unlock(&s->lock);
    q->deliver(q->ctx, reply);
}

void pst_lane_load(struct lane *lane, const struct pst_log_request *q)
{
    struct pst_log_reply reply = {0};
    enum pst_status status = load_whole(lane, q, &reply);

    if (status != PST_OK)
        pst_lane_close(lane);
    pst_service_deliver_log(lane->service, q, &reply, status);
}

/* ---- nodes ---- */

static enum pst_status run_node_call(struct lane *lane, const struct pst_node_request *q,
                                     struct pst_node_reply *reply)
{
    enum pst_status status = pst_lane_open(lane, &reply->error);

    if (status != PST_OK) /* a database that is not there says nothing about the row */
        return status == PST_E_ABSENT ? PST_E_IO : status;
    /* What tells others of us holds up what we decide by no longer than it must. */
    pst_store_set_deadline(lane->store,
                           pst_clock_boot_ns() +
                               (q->call == PST_NODE_UNREGISTER ? NODE_CALL_NS : NODE_CALL_NS / 5));
    switch (q->call) {
    case PST_NODE_REPORT:
        return pst_store_node_report(lane->store, &q->row, &reply->error);
    case PST_NODE_UNREGISTER:
        return pst_store_node_unregister(lane->store, q->row.node, &reply->error);
    case PST_NODE_CLAIM:
        return pst_store_publisher_claim(lane->store, q->row.node, q->ttl_ms, &reply->mine,
                                         &reply->head, &reply->error);
    }
    return PST_E_INVALID;
}

/* Behind a report, which a node at work sends every ten seconds. */
static enum pst_status tidy(struct lane *lane, struct pst_bytes node)
{
    uint64_t now = pst_clock_boot_ns();

    pst_store_set_deadline(lane->store, now + NODE_CALL_NS / 5);
    return pst_store_node_tidy(lane->store, node, now, &lane->service->watch);
}

void pst_lane_node(struct lane *lane, const struct pst_node_request *q)
{
    struct pst_service *s = lane->service;
    struct pst_node_reply reply = {.call = q->call};
    bool at_work = q->call == PST_NODE_REPORT && q->row.bound_ms > 0;

    reply.status = run_node_call(lane, q, &reply);
    if (reply.status == PST_E_IO ||
        (reply.status == PST_OK && at_work && tidy(lane, q->row.node) == PST_E_IO))
        pst_lane_close(lane);
    pthread_mutex_lock(&s->lock); /* before the reply: its receiver may ask again */
    s->node_asked = false;
    pthread_mutex_unlock(&s->lock);
    q->deliver(q->ctx, &reply);
}

/* ---- the log, quick ---- */

static bool touches_model(const struct pst_log_page *page)
{
    for (size_t i = 0; i < page->key_count; i++)
        if (page->keys[i].kind != PST_LOG_USER)
            return true;
    return false;
}

static enum pst_status read_log(struct lane *lane, const struct pst_log_request *q,
                                struct pst_log_reply *reply)
{
    *reply = (struct pst_log_reply){0};
    bool fresh = lane->store == NULL;
    enum pst_status status = pst_lane_open(lane, &reply->error);
    if (status != PST_OK)
        return status;
    /* The hint before the read: a commit in between differs from it at the next look. */
    lane->service->hints = pst_store_hint(lane->store, &lane->service->hint, NULL) == PST_OK;
    pst_lane_deadline(lane, q->deadline_ns, fresh);
    if (q->registers != NULL)
        status = pst_store_node_register(lane->store, q->registers, &reply->error);
    if (status == PST_OK)
        status = pst_store_log(lane->store, &q->since, q->node, &reply->page, &reply->error);
    reply->read_ns = pst_clock_boot_ns();
    if (status == PST_OK && q->want_key) {
        status = pst_store_fleet_key(lane->store, reply->fleet_key, &reply->error);
        reply->has_key = true;
    }
    if (status == PST_OK && !reply->page.all && touches_model(&reply->page)) {
        /* The read is answered: what it brings is awaited, but not from a server that is gone. */
        pst_store_set_patience(lane->store, TOUCHED_NS);
        status = load_touched(lane, q, reply);
    }
    if (status != PST_OK) {
        pst_log_page_fini(&reply->page);
        pst_lane_close(lane);
    }
    return status;
}

void pst_lane_log(struct lane *lane, const struct pst_log_request *q)
{
    struct pst_service *s = lane->service;
    struct pst_log_reply reply = {0};
    bool had_connection = lane->store != NULL;
    enum pst_status status = read_log(lane, q, &reply);

    if (status == PST_E_IO && had_connection &&
        (q->deadline_ns == 0 || pst_clock_boot_ns() < q->deadline_ns))
        status = read_log(lane, q, &reply);
    if (status != PST_OK)
        pst_lane_rest(lane, status, &reply.error);
    pthread_mutex_lock(&s->lock);
    s->stats.log_reads++;
    bool whole = status == PST_OK && reply.page.all;
    if (whole) {
        s->log_state = LOG_SLOW;
        pthread_cond_signal(&s->slow.wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (whole)
        pst_log_page_fini(&reply.page);
    else
        pst_service_deliver_log(s, q, &reply, status);
    if (lane->store != NULL)
        pst_store_view_end(lane->store);
}

/* ---- hints ---- */

void pst_lane_look(struct lane *lane)
{
    struct pst_service *s = lane->service;
    uint64_t hint;

    if (!s->hints || lane->store == NULL || s->changed == NULL)
        return;
    /* An error is news too: the log read will tell what it is. */
    enum pst_status status = pst_store_hint(lane->store, &hint, NULL);
    if (status == PST_OK && hint == s->hint)
        return;
    if (status == PST_OK)
        s->hint = hint;
    else
        s->hints = false; /* until the next log read opened the database anew */
    s->changed(s->ctx);
}
