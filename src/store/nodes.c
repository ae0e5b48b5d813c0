#include "postern/store/nodes.h"

#include "internal.h"

bool pst_node_routes_next(struct pst_bytes *list, struct pst_bytes *route)
{
    bool found = list->len > 0;

    *route = pst_bytes_of(list->ptr, pst_bytes_find(*list, '\n'));
    *list = pst_bytes_from(*list, route->len < list->len ? route->len + 1 : route->len);
    return found;
}

void pst_node_routes_add(struct pst_buf *list, struct pst_bytes route)
{
    static const struct pst_bytes MORE = {"...", 3};
    struct pst_bytes rest = pst_buf_bytes(list), other;

    while (pst_node_routes_next(&rest, &other))
        if (pst_bytes_equal(other, route))
            return;
    bool more = pst_bytes_equal(route, MORE);
    if (route.len + 1 + (more ? 0 : MORE.len + 1) <= list->cap - list->len) {
        pst_buf_put(list, route);
        pst_buf_char(list, '\n');
    } else if (!more) {
        pst_node_routes_add(list, MORE);
    }
}

static enum pst_status on_done(void *ctx, const struct pst_sql_value *row)
{
    *(bool *)ctx = row[0].kind == PST_SQL_INT;
    return PST_OK;
}

static enum pst_status check_name(struct pst_bytes node, struct pst_error *error)
{
    return node.len >= 1 && node.len <= PST_NODE_NAME_MAX
               ? PST_OK
               : pst_error_set(error, PST_E_INVALID, NULL, "a node's name has 1 to %d bytes",
                               PST_NODE_NAME_MAX);
}

static struct pst_sql_value epoch_text(uint64_t epoch, char out[16])
{
    struct pst_buf b = pst_buf_of(out, 16);

    pst_buf_hex(&b, epoch, 16);
    return pst_sql_text(pst_buf_bytes(&b));
}

enum pst_status pst_store_node_register(struct pst_store *store, const struct pst_node_row *row,
                                        struct pst_error *error)
{
    char epoch[16];
    bool done = false;
    enum pst_status status = check_name(row->node, error);

    if (status != PST_OK)
        return status;
    return PST_RUN(store, PST_SQL_NODE_REGISTER, on_done, &done, error, pst_sql_text(row->node),
                   pst_sql_text(row->version), epoch_text(row->applied.epoch, epoch),
                   pst_sql_int(row->applied.n), pst_sql_int(row->lease_age_ms),
                   pst_sql_int(row->bound_ms), pst_sql_int(row->exempt), pst_sql_text(row->routes),
                   pst_sql_int(row->draining));
}

enum pst_status pst_store_node_report(struct pst_store *store, const struct pst_node_row *row,
                                      struct pst_error *error)
{
    char epoch[16];
    bool done = false;
    enum pst_status status = check_name(row->node, error);

    if (status == PST_OK)
        status = PST_RUN(store, PST_SQL_NODE_REPORT, on_done, &done, error,
                         epoch_text(row->applied.epoch, epoch), pst_sql_int(row->applied.n),
                         pst_sql_int(row->lease_age_ms), pst_sql_int(row->bound_ms),
                         pst_sql_int(row->exempt), pst_sql_text(row->routes),
                         pst_sql_int(row->draining), pst_sql_text(row->node));
    if (status == PST_OK && !done)
        status = pst_error_set(error, PST_E_ABSENT, NULL, "the node is not registered");
    return status;
}

enum pst_status pst_store_node_unregister(struct pst_store *store, struct pst_bytes node,
                                          struct pst_error *error)
{
    bool done;

    return PST_RUN(store, PST_SQL_NODE_UNREGISTER, on_done, &done, error, pst_sql_text(node));
}

enum pst_status pst_store_node_forget(struct pst_store *store, struct pst_bytes node,
                                      uint64_t reported_ms, bool *gone, struct pst_error *error)
{
    *gone = false;
    return PST_RUN(store, PST_SQL_NODE_FORGET, on_done, gone, error, pst_sql_text(node),
                   pst_sql_int(reported_ms));
}

struct siblings {
    const struct pst_node_watch *before;
    struct pst_node_watch now;
    bool same[PST_NODE_WATCH_MAX]; /* of `now`: as it was before */
};

static enum pst_status on_sibling(void *ctx, const struct pst_sql_value *row)
{
    struct siblings *s = ctx;

    if (s->now.count == PST_NODE_WATCH_MAX)
        return PST_OK;
    struct pst_node_seen *seen = &s->now.seen[s->now.count];
    memcpy(seen->digits, row[0].text.ptr + row[0].text.len - PST_NODE_OWN_DIGITS,
           PST_NODE_OWN_DIGITS);
    seen->reported_ms = pst_sql_u64(&row[1]);
    for (unsigned i = 0; i < s->before->count; i++)
        s->same[s->now.count] |= memcmp(&s->before->seen[i], seen, sizeof(*seen)) == 0;
    s->now.count++;
    return PST_OK;
}

enum pst_status pst_store_node_tidy(struct pst_store *store, struct pst_bytes node, uint64_t now_ns,
                                    struct pst_node_watch *watch)
{
    struct siblings s = {.before = watch, .now.since_ns = now_ns};
    char name[PST_NODE_NAME_MAX];
    bool gone;

    if ((watch->since_ns != 0 && now_ns - watch->since_ns < PST_NODE_SILENCE_NS) ||
        node.len <= PST_NODE_OWN_DIGITS || node.len > sizeof(name))
        return PST_OK;
    memcpy(name, node.ptr, node.len);
    enum pst_status status =
        PST_RUN(store, PST_SQL_NODE_SIBLINGS, on_sibling, &s, NULL, pst_sql_text(node));
    for (unsigned i = 0; i < s.now.count && status == PST_OK; i++) {
        memcpy(name + node.len - PST_NODE_OWN_DIGITS, s.now.seen[i].digits, PST_NODE_OWN_DIGITS);
        if (s.same[i])
            status = pst_store_node_forget(store, pst_bytes_of(name, node.len),
                                           s.now.seen[i].reported_ms, &gone, NULL);
    }
    *watch = s.now;
    return status;
}

struct each_node {
    pst_each_node_fn *each;
    void *ctx;
};

static enum pst_status on_node(void *ctx, const struct pst_sql_value *row)
{
    const struct each_node *e = ctx;
    struct pst_node_row n = {
        .node = row[0].text,
        .version = row[1].text,
        .started_ms = pst_sql_u64(&row[2]),
        .reported_ms = pst_sql_u64(&row[3]),
        .applied.n = pst_sql_u64(&row[5]),
        .lease_age_ms = pst_sql_u64(&row[6]),
        .bound_ms = pst_sql_u64(&row[7]),
        .exempt = pst_sql_u64(&row[8]),
        .routes = row[9].text,
        .draining = pst_sql_u64(&row[10]) != 0,
        .silent_ms = pst_sql_u64(&row[11]),
    };

    if (!pst_bytes_hex(row[4].text, 16, &n.applied.epoch))
        return PST_E_IO;
    return e->each(e->ctx, &n);
}

enum pst_status pst_store_each_node(struct pst_store *store, pst_each_node_fn *each, void *ctx,
                                    struct pst_error *error)
{
    struct each_node e = {.each = each, .ctx = ctx};

    return store->ops->run(store->backend, PST_SQL_NODES, NULL, 0, on_node, &e, error);
}

struct claim {
    bool mine;
    struct pst_revision head;
};

static enum pst_status on_claim(void *ctx, const struct pst_sql_value *row)
{
    struct claim *c = ctx;

    c->mine = pst_sql_u64(&row[0]) == 1;
    return pst_revision_read(&row[3], &row[1], &row[2], &c->head) ? PST_OK : PST_E_IO;
}

enum pst_status pst_store_publisher_claim(struct pst_store *store, struct pst_bytes node,
                                          uint64_t ttl_ms, bool *mine, struct pst_revision *head,
                                          struct pst_error *error)
{
    struct claim c = {0};
    enum pst_status status = check_name(node, error);

    if (status == PST_OK)
        status = PST_RUN(store, PST_SQL_PUBLISHER_CLAIM, on_claim, &c, error, pst_sql_text(node),
                         pst_sql_int(ttl_ms));
    *mine = status == PST_OK && c.mine;
    *head = c.head;
    return status;
}
