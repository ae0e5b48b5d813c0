/*
 * Two lanes, each a thread with a connection; one bounded pool of slots.
 *
 *   quick   what nodes tell first, then log reads, then questions about users, up to 64 different
 *           ones in a round trip
 *   slow    whole models and first sign-ins; its connection is closed when nothing waits
 *
 *   slots[]  every question about a user is in one: free list -> a lane's queue -> free list
 *
 * Invariants (under `lock`)
 *   I1  a slot is on the free list, in one queue, or taken by a lane's thread
 *   I2  a slot that was taken is in no list until its reply went out
 *   I3  there is one log question at most; `log_state` says whose turn it is; so with `node`
 *
 * A read answers all equal questions that are in the queue when it is taken up.  One that comes
 * during the read waits for the next: rows read before a question was asked may be older than what
 * the asker has seen already.
 */
#include "postern/store/service.h"

#include <stdlib.h>
#include <time.h>

#include "postern/base/clock.h"
#include "postern/base/secret.h"
#include "service_internal.h"

#define QUEUE_MAX 65536
#define NIL       UINT32_MAX
#define HINT_NS   (50 * PST_NS_PER_MS) /* how often a database that gives hints is looked at */

struct slot {
    struct pst_facts_request request; /* its texts point into `text` */
    struct pst_new_user create;
    uint64_t hash; /* of the question */
    uint32_t next; /* in its list */
    uint32_t twin; /* the next one with the same question, once taken */
    char text[PST_FACTS_KEY_MAX];
};

/* ---- queues; all under the lock ---- */

static void push(struct pst_service *s, struct queue *q, uint32_t at)
{
    s->slots[at].next = NIL;
    if (q->first == NIL)
        q->first = at;
    else
        s->slots[q->last].next = at;
    q->last = at;
}

static bool same_question(const struct slot *a, const struct slot *b)
{
    const struct pst_facts_request *x = &a->request, *y = &b->request;

    if (a->hash != b->hash || x->who.kind != y->who.kind || x->who.id != y->who.id ||
        !pst_bytes_equal(x->who.issuer, y->who.issuer) ||
        !pst_bytes_equal(x->who.value, y->who.value) || (x->create == NULL) != (y->create == NULL))
        return false;
    return x->create == NULL || (pst_bytes_equal(a->create.issuer, b->create.issuer) &&
                                 pst_bytes_equal(a->create.subject, b->create.subject) &&
                                 pst_bytes_equal(a->create.name, b->create.name) &&
                                 pst_bytes_equal(a->create.email, b->create.email) &&
                                 pst_bytes_equal(a->create.role, b->create.role));
}

/* Takes the first question and all equal ones out, linked through `twin`. NIL: the queue is empty.
 */
static uint32_t take_equal(struct pst_service *s, struct queue *q)
{
    uint32_t head = q->first, tail = head;

    if (head == NIL)
        return NIL;
    q->first = s->slots[head].next;
    s->slots[head].twin = NIL;
    uint32_t *link = &q->first;
    q->last = NIL;
    while (*link != NIL) {
        uint32_t at = *link;
        if (!same_question(&s->slots[head], &s->slots[at])) {
            q->last = at;
            link = &s->slots[at].next;
            continue;
        }
        *link = s->slots[at].next;
        s->slots[at].twin = NIL;
        s->slots[tail].twin = at;
        tail = at;
        s->stats.coalesced++;
    }
    return head;
}

/* A taken chain goes to the slow lane. */
static void hand_over(struct pst_service *s, uint32_t chain)
{
    pthread_mutex_lock(&s->lock);
    while (chain != NIL) {
        uint32_t twin = s->slots[chain].twin;
        push(s, &s->slow.queue, chain);
        chain = twin;
    }
    pthread_cond_signal(&s->slow.wake);
    pthread_mutex_unlock(&s->lock);
}

static void give_back(struct pst_service *s, uint32_t chain)
{
    pthread_mutex_lock(&s->lock);
    while (chain != NIL) {
        uint32_t twin = s->slots[chain].twin;
        s->slots[chain].next = s->free;
        s->free = chain;
        chain = twin;
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- users ---- */

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

static bool expired(const struct slot *q, uint64_t now_ns)
{
    return q->request.deadline_ns != 0 && now_ns > q->request.deadline_ns;
}

/* The first of the chain that still waits, or NIL; *latest is the latest deadline (0: none). */
static uint32_t alive(const struct pst_service *s, uint32_t chain, uint64_t now_ns,
                      uint64_t *latest, uint64_t *expired_count)
{
    uint32_t found = NIL;

    for (uint32_t at = chain; at != NIL; at = s->slots[at].twin) {
        if (expired(&s->slots[at], now_ns)) {
            (*expired_count)++;
            continue;
        }
        uint64_t deadline = s->slots[at].request.deadline_ns;
        *latest = deadline == 0 || *latest == 0 ? 0 : deadline > *latest ? deadline : *latest;
        if (found == NIL)
            found = at;
    }
    return found;
}

static void deliver(const struct slot *q, enum pst_status status, struct pst_facts *facts,
                    struct pst_revision revision)
{
    struct pst_facts_reply reply = {
        .ticket = q->request.ticket, .status = status, .facts = facts, .revision = revision};

    q->request.deliver(q->request.ctx, &reply);
}

/* Answers a chain; each gets a copy. Takes `facts`, and gives the slots back. */
static void answer(struct pst_service *s, uint32_t chain, uint64_t now_ns, enum pst_status status,
                   struct pst_facts *facts, struct pst_revision revision)
{
    for (uint32_t at = chain; at != NIL; at = s->slots[at].twin) {
        const struct slot *q = &s->slots[at];
        struct pst_facts *own = NULL;
        enum pst_status told = status;
        if (expired(q, now_ns))
            told = PST_E_BUSY;
        else if (facts != NULL && (own = copy_facts(facts)) == NULL)
            told = PST_E_NOMEM;
        deliver(q, told, own, revision);
    }
    pst_facts_free(facts);
    give_back(s, chain);
}

struct batch {
    uint32_t chains[PST_FACTS_QUESTIONS_MAX];                     /* as taken */
    struct pst_facts_question questions[PST_FACTS_QUESTIONS_MAX]; /* of those that are alive */
    uint32_t asked[PST_FACTS_QUESTIONS_MAX]; /* index into chains, by question */
    unsigned chain_count, count;
    uint64_t now_ns, deadline_ns;
};

static void read_batch(struct lane *lane, struct batch *b)
{
    bool had_connection = lane->store != NULL;
    struct pst_error why = {0};
    enum pst_status status = pst_lane_open(lane, &why);

    for (unsigned tries = 0; status == PST_OK && tries < 2; tries++) {
        pst_lane_deadline(lane, b->deadline_ns, !had_connection);
        status = pst_store_load_many_facts(lane->store, b->questions, b->count, &why);
        if (status == PST_OK)
            return;
        for (unsigned i = 0; i < b->count; i++)
            pst_facts_free(b->questions[i].facts);
        pst_lane_close(lane);
        /* A file that was replaced, or a server that went, shows itself at the first use of the old
         * connection. */
        if (!had_connection || (b->deadline_ns != 0 && pst_clock_boot_ns() > b->deadline_ns)) {
            pst_lane_rest(lane, status, &why);
            break;
        }
        had_connection = false;
        status = pst_lane_open(lane, &why);
    }
    for (unsigned i = 0; i < b->count; i++) {
        b->questions[i].status = status == PST_OK ? PST_E_IO : status;
        b->questions[i].facts = NULL;
    }
}

static void answer_batch(struct pst_service *s, struct batch *b)
{
    for (unsigned i = 0, q = 0; i < b->chain_count; i++) {
        struct pst_facts_question *question =
            q < b->count && b->asked[q] == i ? &b->questions[q++] : NULL;
        if (question == NULL) { /* all of the chain came too late */
            answer(s, b->chains[i], b->now_ns, PST_E_BUSY, NULL, (struct pst_revision){0});
            continue;
        }
        const struct slot *head = &s->slots[b->chains[i]];
        if (question->status == PST_OK && question->facts->user_id == 0 &&
            head->request.create != NULL && may_be_made(&head->create)) {
            pst_facts_free(question->facts);
            hand_over(s, b->chains[i]);
            continue;
        }
        answer(s, b->chains[i], b->now_ns, question->status, question->facts, question->revision);
    }
}

/* The chains were taken under the lock. */
static void run_batch(struct lane *lane, struct batch *b)
{
    struct pst_service *s = lane->service;
    uint64_t expired_count = 0;

    b->now_ns = pst_clock_boot_ns();
    b->deadline_ns = 1;
    b->count = 0;
    for (unsigned i = 0; i < b->chain_count; i++) {
        uint32_t at = alive(s, b->chains[i], b->now_ns, &b->deadline_ns, &expired_count);
        if (at == NIL)
            continue;
        b->asked[b->count] = i;
        b->questions[b->count++].who = &s->slots[at].request.who;
    }
    if (b->count > 0)
        read_batch(lane, b);
    uint64_t failed = 0;
    for (unsigned i = 0; i < b->count; i++)
        failed += b->questions[i].status != PST_OK;
    pthread_mutex_lock(&s->lock); /* before the replies: who has one finds it counted */
    s->stats.expired += expired_count;
    s->stats.reads += b->count;
    s->stats.batches += b->count > 0;
    s->stats.failed += failed;
    pthread_mutex_unlock(&s->lock);
    answer_batch(s, b);
}

/* Slow lane: makes the user and reads what he is then. */
static void run_creation(struct lane *lane, uint32_t chain)
{
    struct pst_service *s = lane->service;
    uint64_t now = pst_clock_boot_ns(), latest = 1, late = 0, id;
    uint32_t at = alive(s, chain, now, &latest, &late);
    struct pst_facts *facts = NULL;
    struct pst_revision revision = {0};
    enum pst_status status = at == NIL ? PST_E_BUSY : pst_lane_open(lane, NULL);

    if (status == PST_OK) {
        const struct slot *q = &s->slots[at];
        status = pst_store_ensure_user(lane->store, &q->create, &id, NULL);
        if (status == PST_OK)
            status = pst_store_load_facts(lane->store, &q->request.who, &facts, &revision, NULL);
        if (status == PST_E_IO)
            pst_lane_close(lane);
    }
    answer(s, chain, now, status, facts, revision);
}

/* ---- the threads ---- */

static bool waits(const struct pst_service *s)
{
    return s->quick.queue.first == NIL && s->log_state != LOG_ASKED && !s->node_asked && !s->stop;
}

/* With the lock. Waits for something to do, or until it is time to look for changes. */
static void wait_quick(struct pst_service *s)
{
    while (waits(s)) {
        if (!s->hints) {
            pthread_cond_wait(&s->quick.wake, &s->lock);
            continue;
        }
        uint64_t until_ns = pst_clock_ns_(CLOCK_MONOTONIC) + HINT_NS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / PST_NS_PER_S),
                                 .tv_nsec = (long)(until_ns % PST_NS_PER_S)};
        if (pthread_cond_timedwait(&s->quick.wake, &s->lock, &until) != 0)
            return;
    }
}

static void *run_quick(void *arg)
{
    struct lane *lane = arg;
    struct pst_service *s = lane->service;
    struct batch *b = s->batch;

    pthread_setname_np(pthread_self(), "store");
    for (bool stop = false; !stop;) {
        struct pst_log_request log = {0};
        struct pst_node_request node = {0};
        pthread_mutex_lock(&s->lock);
        wait_quick(s);
        stop = s->stop;
        if (!stop && s->node_asked) {
            node = s->node;
        } else if (!stop && s->log_state == LOG_ASKED) {
            s->log_state = LOG_TAKEN;
            log = s->log;
        }
        b->chain_count = 0;
        while (!stop && log.deliver == NULL && node.deliver == NULL &&
               b->chain_count < PST_FACTS_QUESTIONS_MAX && s->quick.queue.first != NIL)
            b->chains[b->chain_count++] = take_equal(s, &s->quick.queue);
        pthread_mutex_unlock(&s->lock);

        if (node.deliver != NULL)
            pst_lane_node(lane, &node);
        else if (log.deliver != NULL)
            pst_lane_log(lane, &log);
        else if (b->chain_count > 0)
            run_batch(lane, b);
        uint64_t now = pst_clock_boot_ns();
        if (!stop && s->hints && now >= s->hint_due_ns) {
            pst_lane_look(lane);
            s->hint_due_ns = now + HINT_NS;
        }
    }
    pst_lane_close(lane);
    return NULL;
}

static void *run_slow(void *arg)
{
    struct lane *lane = arg;
    struct pst_service *s = lane->service;

    pthread_setname_np(pthread_self(), "store-whole");
    for (;;) {
        struct pst_log_request log = {0};
        pthread_mutex_lock(&s->lock);
        if (lane->queue.first == NIL && s->log_state != LOG_SLOW) {
            pthread_mutex_unlock(&s->lock);
            pst_lane_close(lane); /* not a connection more than is used */
            pthread_mutex_lock(&s->lock);
        }
        while (lane->queue.first == NIL && s->log_state != LOG_SLOW && !s->stop)
            pthread_cond_wait(&lane->wake, &s->lock);
        bool stop = s->stop;
        if (!stop && s->log_state == LOG_SLOW) {
            s->log_state = LOG_SLOW_TAKEN;
            log = s->log;
        }
        uint32_t chain = stop ? NIL : take_equal(s, &lane->queue);
        pthread_mutex_unlock(&s->lock);
        if (stop)
            break;
        if (log.deliver != NULL)
            pst_lane_load(lane, &log);
        if (chain != NIL)
            run_creation(lane, chain);
    }
    pst_lane_close(lane);
    return NULL;
}

/* ---- public ---- */

/* Waits are measured on a clock that nobody sets. */
static bool init_lane(struct pst_service *s, struct lane *lane)
{
    pthread_condattr_t attr;

    lane->service = s;
    lane->queue = (struct queue){NIL, NIL};
    if (pthread_condattr_init(&attr) != 0)
        return false;
    bool good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(&lane->wake, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return good;
}

static bool start_lane(struct lane *lane, void *(*run)(void *))
{
    lane->running = pthread_create(&lane->thread, NULL, run, lane) == 0;
    return lane->running;
}

enum pst_status pst_service_create(const struct pst_service_config *config,
                                   struct pst_service **out, struct pst_error *error)
{
    *out = NULL;
    if (config->queue < 1 || config->queue > QUEUE_MAX)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the queue of facts holds 1 to %d requests", QUEUE_MAX);
    struct pst_service *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->changed = config->changed;
    s->ctx = config->ctx;
    s->key = pst_random_hash_key();
    s->slots = calloc(config->queue, sizeof(*s->slots));
    s->batch = calloc(1, sizeof(*s->batch));
    s->url = malloc(config->url.len + 1);
    s->url_len = config->url.len;
    bool good = init_lane(s, &s->quick) && init_lane(s, &s->slow) && s->slots != NULL &&
                s->batch != NULL && s->url != NULL;
    if (good && config->url.len > 0)
        memcpy(s->url, config->url.ptr, config->url.len);
    for (uint32_t i = 0; i < config->queue && s->slots != NULL; i++)
        s->slots[i].next = i + 1 == config->queue ? NIL : i + 1;
    if (!good || !start_lane(&s->quick, run_quick) || !start_lane(&s->slow, run_slow)) {
        pst_service_destroy(s);
        return pst_error_set(error, PST_E_NOMEM, NULL, "the database's threads cannot be started");
    }
    *out = s;
    return PST_OK;
}

static void refuse_waiting(struct pst_service *s, struct queue *q)
{
    for (uint32_t at = q->first; at != NIL; at = s->slots[at].next)
        deliver(&s->slots[at], PST_E_BUSY, NULL, (struct pst_revision){0});
    *q = (struct queue){NIL, NIL};
}

static void end_lane(struct lane *lane)
{
    if (lane->running)
        pthread_join(lane->thread, NULL);
    lane->running = false;
}

void pst_service_stop(struct pst_service *service)
{
    struct pst_service *s = service;

    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->quick.wake);
    pthread_cond_signal(&s->slow.wake);
    pthread_mutex_unlock(&s->lock);
    end_lane(&s->quick);
    end_lane(&s->slow);
    if (s->log_state != LOG_NONE) {
        struct pst_log_reply reply = {0};
        pst_service_deliver_log(s, &s->log, &reply, PST_E_BUSY);
    }
    if (s->node_asked) {
        const struct pst_node_reply reply = {.call = s->node.call, .status = PST_E_BUSY};
        s->node.deliver(s->node.ctx, &reply);
        s->node_asked = false;
    }
    if (s->slots != NULL) {
        refuse_waiting(s, &s->quick.queue);
        refuse_waiting(s, &s->slow.queue);
    }
}

void pst_service_destroy(struct pst_service *service)
{
    struct pst_service *s = service;

    if (s == NULL)
        return;
    pst_service_stop(s);
    pthread_cond_destroy(&s->quick.wake);
    pthread_cond_destroy(&s->slow.wake);
    pthread_mutex_destroy(&s->lock);
    free(s->slots);
    free(s->batch);
    free(s->url);
    free(s);
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

enum pst_status pst_service_facts(struct pst_service *service,
                                  const struct pst_facts_request *request)
{
    uint64_t hash = pst_hash(&service->key, request->who.value) ^ request->who.id;
    enum pst_status status = PST_PENDING;

    pthread_mutex_lock(&service->lock);
    uint32_t at = service->free;
    if (at == NIL || service->stop) {
        status = PST_E_BUSY;
    } else if (!fill(&service->slots[at], request)) {
        status = PST_E_LIMIT;
    } else {
        service->free = service->slots[at].next;
        service->slots[at].hash = hash;
        push(service, &service->quick.queue, at);
        service->stats.requests++;
        pthread_cond_signal(&service->quick.wake);
    }
    service->stats.refused += status != PST_PENDING;
    pthread_mutex_unlock(&service->lock);
    return status;
}

enum pst_status pst_service_log(struct pst_service *service, const struct pst_log_request *request)
{
    enum pst_status status = PST_E_BUSY;

    pthread_mutex_lock(&service->lock);
    if (service->log_state == LOG_NONE && !service->stop) {
        service->log_state = LOG_ASKED;
        service->log = *request;
        pthread_cond_signal(&service->quick.wake);
        status = PST_PENDING;
    }
    pthread_mutex_unlock(&service->lock);
    return status;
}

enum pst_status pst_service_node(struct pst_service *service,
                                 const struct pst_node_request *request)
{
    enum pst_status status = PST_E_BUSY;

    pthread_mutex_lock(&service->lock);
    if (!service->node_asked && !service->stop) {
        service->node_asked = true;
        service->node = *request;
        pthread_cond_signal(&service->quick.wake);
        status = PST_PENDING;
    }
    pthread_mutex_unlock(&service->lock);
    return status;
}

struct pst_service_stats pst_service_stats(struct pst_service *service)
{
    pthread_mutex_lock(&service->lock);
    struct pst_service_stats stats = service->stats;
    pthread_mutex_unlock(&service->lock);
    return stats;
}
