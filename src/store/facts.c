/*
 * One thread, one connection, one bounded queue.
 *
 *   slots[]   every request is in one: free list -> waiting queue (first in, first out) -> free
 * list
 *
 * Invariants (under `lock`)
 *   I1  a slot is on the free list or in the queue, never both
 *   I2  a slot that the thread took out of the queue is in no list until its reply went out
 *
 * A read answers all equal requests that are in the queue when it is taken up.  One that comes
 * during the read waits for the next: rows read before a question was asked may be older than what
 * the asker has seen already.
 */
#include "postern/store/facts.h"

#include <pthread.h>
#include <stdlib.h>

#include "postern/base/clock.h"

#define QUEUE_MAX 65536
#define NIL       UINT32_MAX

struct slot {
    struct pst_facts_request request; /* its texts point into `text` */
    struct pst_new_user create;
    uint32_t next;
    char text[PST_FACTS_KEY_MAX];
};

struct pst_facts_service {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stop;
    struct slot *slots;
    uint32_t free, first, last;
    struct pst_facts_stats stats;

    char *url; /* the rest: the thread's only */
    size_t url_len;
    struct pst_store *store;
};

/* ---- queue; all under the lock ---- */

static void push(struct pst_facts_service *s, uint32_t at)
{
    s->slots[at].next = NIL;
    if (s->first == NIL)
        s->first = at;
    else
        s->slots[s->last].next = at;
    s->last = at;
}

static bool same_question(const struct slot *a, const struct slot *b)
{
    const struct pst_facts_request *x = &a->request, *y = &b->request;

    if (x->who.kind != y->who.kind || x->who.id != y->who.id ||
        !pst_bytes_equal(x->who.issuer, y->who.issuer) ||
        !pst_bytes_equal(x->who.value, y->who.value) || (x->create == NULL) != (y->create == NULL))
        return false;
    return x->create == NULL || (pst_bytes_equal(a->create.issuer, b->create.issuer) &&
                                 pst_bytes_equal(a->create.subject, b->create.subject) &&
                                 pst_bytes_equal(a->create.name, b->create.name) &&
                                 pst_bytes_equal(a->create.email, b->create.email) &&
                                 pst_bytes_equal(a->create.role, b->create.role));
}

/* Takes the first request and all equal ones out, as a chain in their order. */
static uint32_t take_equal(struct pst_facts_service *s)
{
    uint32_t head = s->first, tail = head;

    s->first = s->slots[head].next;
    s->slots[head].next = NIL;
    uint32_t *link = &s->first;
    s->last = NIL;
    while (*link != NIL) {
        uint32_t at = *link;
        if (!same_question(&s->slots[head], &s->slots[at])) {
            s->last = at;
            link = &s->slots[at].next;
            continue;
        }
        *link = s->slots[at].next;
        s->slots[at].next = NIL;
        s->slots[tail].next = at;
        tail = at;
        s->stats.coalesced++;
    }
    return head;
}

/* ---- answering; without the lock ---- */

static struct pst_facts *copy_facts(const struct pst_facts *f)
{
    size_t bindings = f->binding_count * sizeof(struct pst_binding);
    struct pst_facts *copy = malloc(sizeof(*copy) + bindings + f->name.len + 1);

    if (copy == NULL)
        return NULL;
    struct pst_binding *b = (struct pst_binding *)(void *)(copy + 1);
    char *name = (char *)(b + f->binding_count);
    *copy = *f;
    if (bindings > 0)
        memcpy(b, f->bindings, bindings);
    if (f->name.len > 0)
        memcpy(name, f->name.ptr, f->name.len);
    name[f->name.len] = '\0';
    copy->bindings = b;
    copy->name = pst_bytes_of(name, f->name.len);
    return copy;
}

/* Apps are told who calls in a field of the head, whose value loses the blanks at its ends: nobody
 * gets himself made whose name would be read there as another's. */
static bool may_be_made(const struct pst_new_user *user)
{
    return pst_bytes_trim(user->name).len == user->name.len;
}

/* A connection that failed is given up: the next read opens a new one. */
static enum pst_status read_once(struct pst_facts_service *s, const struct slot *q,
                                 struct pst_facts **facts, struct pst_revision *revision)
{
    uint64_t id;
    enum pst_status status = PST_OK;

    *facts = NULL;
    if (s->store == NULL)
        status = pst_store_open(pst_bytes_of(s->url, s->url_len), PST_STORE_WRITE, &s->store, NULL);
    if (status == PST_OK)
        status = pst_store_load_facts(s->store, &q->request.who, facts, revision, NULL);
    if (status == PST_OK && (*facts)->user_id == 0 && q->request.create != NULL &&
        may_be_made(&q->create)) {
        pst_facts_free(*facts);
        *facts = NULL;
        status = pst_store_ensure_user(s->store, &q->create, &id, NULL);
        if (status == PST_OK)
            status = pst_store_load_facts(s->store, &q->request.who, facts, revision, NULL);
    }
    if (status == PST_E_IO) {
        pst_store_close(s->store);
        s->store = NULL;
    }
    return status;
}

static enum pst_status read_question(struct pst_facts_service *s, const struct slot *q,
                                     struct pst_facts **facts, struct pst_revision *revision)
{
    bool had_connection = s->store != NULL;
    enum pst_status status = read_once(s, q, facts, revision);

    /* A file that was replaced shows itself at the first use of the old connection. */
    if (status == PST_E_IO && had_connection)
        status = read_once(s, q, facts, revision);
    return status;
}

static void deliver(const struct slot *q, enum pst_status status, struct pst_facts *facts,
                    struct pst_revision revision)
{
    struct pst_facts_reply reply = {
        .ticket = q->request.ticket, .status = status, .facts = facts, .revision = revision};

    q->request.deliver(q->request.ctx, &reply);
}

static bool expired(const struct slot *q, uint64_t now_ns)
{
    return q->request.deadline_ns != 0 && now_ns > q->request.deadline_ns;
}

/* Answers a chain; each but the last gets a copy. */
static void answer(struct pst_facts_service *s, uint32_t chain)
{
    struct pst_facts *facts = NULL;
    struct pst_revision revision = {0};
    enum pst_status status = PST_OK;
    uint64_t now = pst_clock_boot_ns(), expired_count = 0;
    uint32_t alive = NIL;

    for (uint32_t at = chain; at != NIL; at = s->slots[at].next) {
        if (expired(&s->slots[at], now))
            expired_count++;
        else if (alive == NIL)
            alive = at;
    }
    if (alive != NIL)
        status = read_question(s, &s->slots[alive], &facts, &revision);
    pthread_mutex_lock(&s->lock); /* before the replies: who has one finds it counted */
    s->stats.expired += expired_count;
    s->stats.reads += alive != NIL;
    s->stats.failed += status != PST_OK;
    pthread_mutex_unlock(&s->lock);
    for (uint32_t at = chain; at != NIL; at = s->slots[at].next) {
        const struct slot *q = &s->slots[at];
        struct pst_facts *own = NULL;
        enum pst_status told = status;
        if (expired(q, now))
            told = PST_E_BUSY;
        else if (status == PST_OK && (own = copy_facts(facts)) == NULL)
            told = PST_E_NOMEM;
        deliver(q, told, own, revision);
    }
    pst_facts_free(facts);

    pthread_mutex_lock(&s->lock);
    while (chain != NIL) {
        uint32_t next = s->slots[chain].next;
        s->slots[chain].next = s->free;
        s->free = chain;
        chain = next;
    }
    pthread_mutex_unlock(&s->lock);
}

static void *run(void *arg)
{
    struct pst_facts_service *s = arg;

    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (s->first == NIL && !s->stop)
            pthread_cond_wait(&s->wake, &s->lock);
        bool stop = s->stop;
        uint32_t chain = stop ? s->first : take_equal(s);
        pthread_mutex_unlock(&s->lock);
        if (!stop) {
            answer(s, chain);
            continue;
        }
        for (uint32_t at = chain; at != NIL; at = s->slots[at].next)
            deliver(&s->slots[at], PST_E_BUSY, NULL, (struct pst_revision){0});
        pst_store_close(s->store);
        s->store = NULL;
        return NULL;
    }
}

/* ---- public ---- */

enum pst_status pst_facts_service_create(const struct pst_facts_config *config,
                                         struct pst_facts_service **out, struct pst_error *error)
{
    *out = NULL;
    if (config->queue < 1 || config->queue > QUEUE_MAX)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the queue of facts holds 1 to %d requests", QUEUE_MAX);
    struct pst_facts_service *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->first = s->last = NIL;
    s->free = 0;
    s->slots = calloc(config->queue, sizeof(*s->slots));
    s->url = malloc(config->url.len + 1);
    s->url_len = config->url.len;
    if (s->slots == NULL || s->url == NULL) {
        pst_facts_service_destroy(s);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    if (config->url.len > 0)
        memcpy(s->url, config->url.ptr, config->url.len);
    for (uint32_t i = 0; i < config->queue; i++)
        s->slots[i].next = i + 1 == config->queue ? NIL : i + 1;
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        pst_facts_service_destroy(s);
        return pst_error_set(error, PST_E_NOMEM, NULL, "cannot start the thread of facts");
    }
    s->running = true;
    *out = s;
    return PST_OK;
}

void pst_facts_service_destroy(struct pst_facts_service *service)
{
    if (service == NULL)
        return;
    if (service->running) {
        pthread_mutex_lock(&service->lock);
        service->stop = true;
        pthread_cond_signal(&service->wake);
        pthread_mutex_unlock(&service->lock);
        pthread_join(service->thread, NULL);
    }
    pthread_cond_destroy(&service->wake);
    pthread_mutex_destroy(&service->lock);
    free(service->slots);
    free(service->url);
    free(service);
}

/* Copies *text behind what is used of the slot's room and lets it point there. */
static bool keep(struct slot *q, size_t *used, struct pst_bytes *text)
{
    if (text->len > sizeof(q->text) - *used)
        return false;
    if (text->len > 0)
        memcpy(q->text + *used, text->ptr, text->len);
    text->ptr = q->text + *used;
    *used += text->len;
    return true;
}

static bool fill(struct slot *q, const struct pst_facts_request *request)
{
    size_t used = 0;

    q->request = *request;
    q->create = (struct pst_new_user){0};
    if (request->create != NULL)
        q->create = *request->create;
    q->request.create = request->create == NULL ? NULL : &q->create;
    return keep(q, &used, &q->request.who.issuer) && keep(q, &used, &q->request.who.value) &&
           keep(q, &used, &q->create.issuer) && keep(q, &used, &q->create.subject) &&
           keep(q, &used, &q->create.name) && keep(q, &used, &q->create.email) &&
           keep(q, &used, &q->create.role);
}

enum pst_status pst_facts_post(struct pst_facts_service *service,
                               const struct pst_facts_request *request)
{
    enum pst_status status = PST_PENDING;

    pthread_mutex_lock(&service->lock);
    uint32_t at = service->free;
    if (at == NIL || service->stop) {
        status = PST_E_BUSY;
    } else if (!fill(&service->slots[at], request)) {
        status = PST_E_LIMIT;
    } else {
        service->free = service->slots[at].next;
        push(service, at);
        service->stats.requests++;
        pthread_cond_signal(&service->wake);
    }
    service->stats.refused += status != PST_PENDING;
    pthread_mutex_unlock(&service->lock);
    return status;
}

struct pst_facts_stats pst_facts_service_stats(struct pst_facts_service *service)
{
    pthread_mutex_lock(&service->lock);
    struct pst_facts_stats stats = service->stats;
    pthread_mutex_unlock(&service->lock);
    return stats;
}
