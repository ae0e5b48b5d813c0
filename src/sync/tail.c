/*
 * Following the log.
 *
 *   poll    hint unchanged and lease young  -> nothing
 *           else read()
 *   read    sent = now; view: prove against `mark`, load the model if a role or workspace was
 * touched; apply(batch); mark = head; lease = sent
 *
 * Invariants
 *   I1  `mark` is the last row whose batch was applied: a batch that failed comes again
 *   I2  the lease is written last, and holds the instant before the read was sent
 *   I3  model and keys of one batch come from one view of the database
 */
#include "postern/sync/tail.h"

#include <stdlib.h>

#define RETRY_NS PST_NS_PER_S /* a model that does not compile is not loaded at every poll */

struct pst_tail {
    struct pst_tail_config config;
    struct pst_store *store; /* NULL: to be opened */
    struct pst_log_mark mark;
    uint64_t hint; /* at the last read that was applied */
    bool hint_known;
    uint64_t bound_ns;
    uint64_t given_bound_ns; /* 0: the database's */
    uint64_t retry_ns;       /* after a batch that could not be applied: not before */
    struct pst_lease lease;
    struct pst_tail_stats stats;
    char url[];
};

enum pst_status pst_tail_create(const struct pst_tail_config *config, struct pst_tail **out)
{
    *out = NULL;
    if (config->apply == NULL || config->url.len == 0)
        return PST_E_INVALID;
    struct pst_tail *t = calloc(1, sizeof(*t) + config->url.len);
    if (t == NULL)
        return PST_E_NOMEM;
    memcpy(t->url, config->url.ptr, config->url.len);
    t->config = *config;
    t->config.url.ptr = t->url;
    if (t->config.now_ns == NULL)
        t->config.now_ns = pst_clock_boot_ns;
    *out = t;
    return PST_OK;
}

static void let_go(struct pst_tail *t)
{
    pst_store_close(t->store);
    t->store = NULL;
    t->hint_known = false;
}

void pst_tail_destroy(struct pst_tail *tail)
{
    if (tail == NULL)
        return;
    let_go(tail);
    free(tail);
}

void pst_tail_set_bound(struct pst_tail *tail, uint64_t bound_ns)
{
    tail->given_bound_ns = bound_ns;
    tail->hint_known = false;
}

static bool touches_model(const struct pst_log_page *page)
{
    for (size_t i = 0; i < page->key_count; i++)
        if (page->keys[i].kind != PST_LOG_USER)
            return true;
    return page->all;
}

/* The proof and all that is to be loaded, of one moment. */
static enum pst_status read_view(struct pst_tail *t, struct pst_log_page *page,
                                 struct pst_model **model, struct pst_error *error)
{
    struct pst_revision revision;

    *model = NULL;
    enum pst_status status = pst_store_view(t->store, error);
    if (status != PST_OK)
        return status;
    status = pst_store_log(t->store, &t->mark, page, error);
    if (status == PST_OK && touches_model(page)) {
        t->stats.reloads++;
        status = pst_store_load_model(t->store, model, &revision, error);
        if (status != PST_OK)
            pst_log_page_fini(page);
    }
    pst_store_view_end(t->store);
    return status;
}

static void move_lease(struct pst_tail *t, uint64_t sent_ns)
{
    struct pst_lease *l = &t->lease;

    atomic_store_explicit(&l->bound_ns, t->bound_ns, memory_order_relaxed);
    atomic_store_explicit(&l->applied_n, t->mark.revision.n, memory_order_relaxed);
    atomic_store_explicit(&l->epoch, t->mark.revision.epoch, memory_order_relaxed);
    /* Pairs with the acquire of pst_lease_holds: who sees this start sees what was applied. */
    atomic_store_explicit(&l->start_ns, sent_ns, memory_order_release);
}

static enum pst_status apply_page(struct pst_tail *t, const struct pst_log_page *page,
                                  struct pst_model *model, uint64_t sent_ns,
                                  struct pst_error *error)
{
    struct pst_tail_batch batch = {
        .revision = page->head.revision,
        .new_history = !page->proved,
        .model = model,
        .all_users = page->all,
        .keys = page->all ? NULL : page->keys,
        .key_count = page->all ? 0 : page->key_count,
        .lease_start_ns = sent_ns,
        .bound_ns =
            t->given_bound_ns != 0 ? t->given_bound_ns : page->max_staleness_s * PST_NS_PER_S,
    };

    enum pst_status status = t->config.apply(t->config.ctx, &batch, error);
    if (status != PST_OK)
        return status;
    if (batch.new_history && t->mark.revision.epoch != 0)
        t->stats.histories++;
    if (model != NULL || batch.key_count > 0 || batch.all_users)
        t->stats.batches++;
    t->mark = page->head;
    t->bound_ns = batch.bound_ns;
    move_lease(t, sent_ns);
    return PST_OK;
}

static enum pst_status read_log(struct pst_tail *t, struct pst_error *error)
{
    struct pst_log_page page;
    struct pst_model *model;
    uint64_t hint = 0, sent_ns = t->config.now_ns();
    enum pst_status status = PST_OK;

    if (t->store == NULL)
        status = pst_store_open(t->config.url, PST_STORE_READ, &t->store, error);
    if (status != PST_OK)
        return status;
    /* The hint before the read: a commit in between differs from it at the next poll. */
    bool hinted = pst_store_hint(t->store, &hint, NULL) == PST_OK;
    t->stats.reads++;
    status = read_view(t, &page, &model, error);
    if (status != PST_OK) {
        let_go(t); /* it may be another file by now: open anew */
        return status;
    }
    status = apply_page(t, &page, model, sent_ns, error);
    pst_log_page_fini(&page);
    t->retry_ns = status == PST_OK ? 0 : sent_ns + RETRY_NS;
    t->hint = hint;
    t->hint_known = hinted && status == PST_OK;
    return status;
}

/* A replaced file shows itself at the first use: one more try with a new connection. */
enum pst_status pst_tail_read(struct pst_tail *tail, struct pst_error *error)
{
    bool had_connection = tail->store != NULL;
    enum pst_status status = read_log(tail, error);

    if (status == PST_E_IO && had_connection && tail->store == NULL)
        status = read_log(tail, error);
    if (status != PST_OK)
        tail->stats.failures++;
    return status;
}

static bool is_quiet(struct pst_tail *t)
{
    uint64_t hint;
    uint64_t start = atomic_load_explicit(&t->lease.start_ns, memory_order_relaxed);

    if (t->store == NULL || !t->hint_known || t->config.now_ns() - start >= t->bound_ns / 2)
        return false;
    return pst_store_hint(t->store, &hint, NULL) == PST_OK && hint == t->hint;
}

enum pst_status pst_tail_poll(struct pst_tail *tail, struct pst_error *error)
{
    tail->stats.polls++;
    if (tail->config.now_ns() < tail->retry_ns)
        return pst_error_set(error, PST_E_BUSY, NULL,
                             "waiting after a change that could not be applied");
    return is_quiet(tail) ? PST_OK : pst_tail_read(tail, error);
}

const struct pst_lease *pst_tail_lease(const struct pst_tail *tail)
{
    return &tail->lease;
}

struct pst_tail_stats pst_tail_stats(const struct pst_tail *tail)
{
    return tail->stats;
}
