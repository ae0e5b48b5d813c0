/*
 * Names of PostgreSQL's hosts, without waiting for a resolver that is silent.
 *
 * libpq resolves names where a connection is begun, and name servers that do not answer would hold
 * the service's thread for as long as resolv.conf says.  Here a thread of its own asks, and whoever
 * wants to connect waits no longer than for a host.  An answer that comes later is kept for the
 * next attempt: name servers that are slow delay a connection, and do not prevent it.
 *
 *   idle -> asked (a thread runs) -> answered -> idle (somebody took the answer)
 */
#include <netdb.h>
#include <pthread.h>
#include <time.h>

#include "postern/base/buf.h"
#include "postern/base/clock.h"
#include "postgres_internal.h"

#define NAMES_MAX 32
#define KEEP_NS   (10 * PST_NS_PER_S) /* an answer that came too late for its asker */

struct name {
    char text[NI_MAXHOST]; /* never changes while asked */
    bool asked, answered;
    int code; /* of getaddrinfo */
    uint64_t answered_ns;
    struct pst_pg_addresses addresses;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct name names[NAMES_MAX];

static void take_list(const struct addrinfo *list, struct pst_pg_addresses *out)
{
    out->count = 0;
    for (; list != NULL && out->count < PST_PG_ADDRESSES_MAX; list = list->ai_next)
        if (getnameinfo(list->ai_addr, list->ai_addrlen, out->text[out->count],
                        sizeof(out->text[0]), NULL, 0, NI_NUMERICHOST) == 0)
            out->count++;
}

static int look_up(const char *name, int flags, struct pst_pg_addresses *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(name, NULL, &hints, &list);

    out->count = 0;
    if (code == 0)
        take_list(list, out);
    if (list != NULL)
        freeaddrinfo(list);
    return code == 0 && out->count == 0 ? EAI_NONAME : code;
}

static void *run(void *arg)
{
    struct name *n = arg;
    struct pst_pg_addresses found;

    pthread_setname_np(pthread_self(), "resolve");
    int code = look_up(n->text, 0, &found);
    pthread_mutex_lock(&lock);
    n->code = code;
    n->addresses = found;
    n->answered_ns = pst_clock_boot_ns();
    n->asked = false;
    n->answered = true;
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* With the lock. NULL: so many others are asked for. */
static struct name *find(const char *text)
{
    struct name *free_one = NULL;

    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (strcmp(names[i].text, text) == 0)
            return &names[i];
        if (free_one == NULL && !names[i].asked)
            free_one = &names[i];
    }
    if (free_one != NULL) {
        struct pst_buf b = pst_buf_of(free_one->text, sizeof(free_one->text));
        *free_one = (struct name){0};
        pst_buf_put(&b, pst_bytes_of(text, strlen(text) + 1));
    }
    return free_one;
}

/* With the lock. False: no thread can be had. */
static bool begin(struct name *n)
{
    pthread_t thread;

    n->answered = false;
    n->asked = pthread_create(&thread, NULL, run, n) == 0;
    if (n->asked)
        (void)pthread_detach(thread);
    return n->asked;
}

/* With the lock. */
static void wait_for(const struct name *n, uint64_t patience_ns)
{
    uint64_t until_ns = pst_clock_ns_(CLOCK_MONOTONIC) + patience_ns;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / PST_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % PST_NS_PER_S)};

    while (n->asked && pthread_cond_clockwait(&wake, &lock, CLOCK_MONOTONIC, &until) == 0)
        ;
}

enum pst_status pst_pg_resolve(const char *name, uint64_t patience_ns, struct pst_pg_addresses *out,
                               struct pst_error *error)
{
    if (strlen(name) >= NI_MAXHOST)
        return pst_error_set(error, PST_E_INVALID, NULL, "the name of a host is too long");
    if (look_up(name, AI_NUMERICHOST, out) == 0)
        return PST_OK;
    pthread_mutex_lock(&lock);
    struct name *n = find(name);
    bool kept = n != NULL && n->answered && pst_clock_boot_ns() - n->answered_ns < KEEP_NS;
    bool good = n != NULL && (kept || n->asked || begin(n));
    if (good)
        wait_for(n, patience_ns);
    bool answered = good && n->answered;
    int code = answered ? n->code : 0;
    if (answered) {
        *out = n->addresses;
        n->answered = false;
    }
    pthread_mutex_unlock(&lock);
    if (!good)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    if (!answered)
        return pst_error_set(error, PST_E_IO, NULL, "no name server told where %s is in time",
                             name);
    return code == 0
               ? PST_OK
               : pst_error_set(error, PST_E_IO, NULL, "where %s is: %s", name, gai_strerror(code));
}
