/*
 * I1  A query belongs to libevent until on_resolved ran, then to the run queue until deliver ran.
 * I2  query->lookup is NULL exactly when nobody waits; then the resolver may be gone, too.
 */
#include "postern/net/resolver.h"

#include <stdlib.h>

#include <event2/dns.h>
#include <event2/util.h>

struct pst_resolver {
    struct pst_worker *worker;
    struct evdns_base *dns; /* NULL: not needed yet */
};

struct pst_query {
    struct pst_resolver *resolver;
    struct pst_lookup *lookup;
    struct pst_deferred deferred;
    bool answered;
    uint16_t port;
    uint8_t count;
    struct pst_address addresses[PST_LOOKUP_ADDRESSES];
};

enum pst_status pst_resolver_create(struct pst_worker *worker, struct pst_resolver **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return PST_E_NOMEM;
    (*out)->worker = worker;
    return PST_OK;
}

void pst_resolver_destroy(struct pst_resolver *resolver)
{
    if (resolver == NULL)
        return;
    if (resolver->dns != NULL)
        evdns_base_free(resolver->dns, 1);
    free(resolver);
}

static struct evdns_base *dns_of(struct pst_resolver *r)
{
    if (r->dns != NULL)
        return r->dns;
    r->dns = evdns_base_new(r->worker->base,
                            EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (r->dns != NULL)
        return r->dns;
    /* no usable resolver configuration: names of the hosts file still work */
    r->dns = evdns_base_new(r->worker->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (r->dns != NULL)
        evdns_base_load_hosts(r->dns, "/etc/hosts");
    return r->dns;
}

static void deliver(struct pst_deferred *deferred)
{
    struct pst_query *q = pst_container_of(deferred, struct pst_query, deferred);
    struct pst_lookup *lookup = q->lookup;

    lookup->query_ = NULL;
    lookup->done(lookup, q->addresses, q->count);
    free(q);
}

static void take_addresses(struct pst_query *q, const struct evutil_addrinfo *at)
{
    for (; at != NULL && q->count < PST_LOOKUP_ADDRESSES; at = at->ai_next) {
        struct pst_address *address = &q->addresses[q->count];
        if (at->ai_addrlen > sizeof(address->sa) ||
            (at->ai_family != AF_INET && at->ai_family != AF_INET6))
            continue;
        *address = (struct pst_address){.len = at->ai_addrlen};
        memcpy(&address->sa, at->ai_addr, at->ai_addrlen);
        pst_address_set_port(address, q->port);
        q->count++;
    }
}

static void on_resolved(int result, struct evutil_addrinfo *list, void *arg)
{
    struct pst_query *q = arg;

    if (result == 0)
        take_addresses(q, list);
    if (list != NULL)
        evutil_freeaddrinfo(list);
    if (q->lookup == NULL) {
        free(q);
        return;
    }
    q->answered = true;
    pst_worker_defer(q->resolver->worker, &q->deferred);
}

enum pst_status pst_lookup_start(struct pst_resolver *resolver, struct pst_lookup *lookup,
                                 const char *host, uint16_t port)
{
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct evdns_base *dns = dns_of(resolver);
    struct pst_query *q = calloc(1, sizeof(*q));

    if (q == NULL)
        return PST_E_NOMEM;
    *q = (struct pst_query){
        .resolver = resolver, .lookup = lookup, .deferred.run = deliver, .port = port};
    lookup->query_ = q;
    if (dns == NULL)
        on_resolved(EVUTIL_EAI_FAIL, NULL, q);
    else
        (void)evdns_getaddrinfo(dns, host, NULL, &hints, on_resolved, q); /* may answer at once */
    return PST_OK;
}

/* evdns_getaddrinfo_cancel would call back later as well, and into a resolver that may be gone. */
void pst_lookup_cancel(struct pst_lookup *lookup)
{
    struct pst_query *q = lookup->query_;

    if (q == NULL)
        return;
    lookup->query_ = NULL;
    q->lookup = NULL;
    if (q->answered) {
        pst_deferred_cancel(&q->deferred);
        free(q);
    }
}
