#include "postern/manage/barrier.h"

#include <time.h>

#include "postern/base/clock.h"
#include "postern/store/change.h"

#define LOOK_NS  (10 * PST_NS_PER_MS)
#define BOUND_MS 60000 /* the longest that B may be */

struct look {
    const struct pst_revision *revision;
    struct pst_barrier *out;
    uint64_t bound_ms; /* of the slowest that is waited for */
};

static enum pst_status on_node(void *ctx, const struct pst_node_row *row)
{
    struct look *l = ctx;

    l->out->exempt += row->exempt > 0;
    struct pst_buf routes = pst_buf_of(l->out->routes, sizeof(l->out->routes));
    routes.len = l->out->routes_len;
    for (struct pst_bytes rest = row->routes, route; pst_node_routes_next(&rest, &route);)
        pst_node_routes_add(&routes, route);
    l->out->routes_len = routes.len;
    if (row->bound_ms == 0)
        return PST_OK;
    l->out->nodes++;
    if (row->applied.epoch == l->revision->epoch && row->applied.n >= l->revision->n)
        return PST_OK;
    l->out->pending++;
    if (row->bound_ms > l->bound_ms)
        l->bound_ms = row->bound_ms;
    return PST_OK;
}

void pst_barrier_wait(struct pst_store *store, const struct pst_revision *revision,
                      uint64_t acked_ns, uint32_t bound_before_s, struct pst_barrier *out)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    uint32_t bound_s;
    /* The fleet's B; a node that knows of it may use no longer one, who does not the one before. */
    uint64_t bound_ms = pst_store_bound(store, &bound_s, NULL) == PST_OK
                            ? (bound_s > bound_before_s ? bound_s : bound_before_s) * UINT64_C(1000)
                            : BOUND_MS;
    uint64_t unlisted_ms =
        bound_ms; /* what a list that fails may hide: at least what the last had */

    for (;;) {
        struct look l = {.revision = revision, .out = out, .bound_ms = bound_ms};
        *out = (struct pst_barrier){0};
        out->listed = pst_store_each_node(store, on_node, &l, NULL) == PST_OK;
        if (out->listed || l.bound_ms > unlisted_ms)
            unlisted_ms = l.bound_ms;
        uint64_t passed_ns = pst_clock_boot_ns() - acked_ns;
        out->waited_ms = passed_ns / PST_NS_PER_MS;
        if ((out->listed && out->pending == 0) || passed_ns > unlisted_ms * PST_NS_PER_MS)
            return;
        (void)nanosleep(&pause, NULL);
    }
}
