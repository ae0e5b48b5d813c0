#include "postern/net/fetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_MAX   64
#define THREADS_MAX 8 /* a server that is silent for its whole time holds up one */

/* --- which addresses --- */

struct network {
    uint8_t prefix[16];
    uint8_t bits;
};

/* As IPv6; IPv4 stands behind ::ffff:0:0/96. */
static const struct network special[] = {
    {{[10] = 0xff, [11] = 0xff, [12] = 0}, 104},                       /* this network */
    {{[10] = 0xff, [11] = 0xff, [12] = 10}, 104},                      /* private */
    {{[10] = 0xff, [11] = 0xff, [12] = 100, [13] = 64}, 106},          /* shared, carrier's NAT */
    {{[10] = 0xff, [11] = 0xff, [12] = 127}, 104},                     /* loopback */
    {{[10] = 0xff, [11] = 0xff, [12] = 169, [13] = 254}, 112},         /* link-local, metadata */
    {{[10] = 0xff, [11] = 0xff, [12] = 172, [13] = 16}, 108},          /* private */
    {{[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 0}, 120}, /* protocol assignments */
    {{[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 168}, 112},         /* private */
    {{[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 18}, 111},          /* benchmarks */
    {{[10] = 0xff, [11] = 0xff, [12] = 224}, 99}, /* multicast, reserved, broadcast */
    {{0}, 96},                                    /* ::, ::1, IPv4-compatible */
    {{0x00, 0x64, 0xff, 0x9b}, 32},               /* NAT64: carries an IPv4 address */
    {{0x01, 0x00}, 64},                           /* discard */
    {{0x20, 0x01, 0x00, 0x00}, 32},               /* Teredo: carries one */
    {{0x20, 0x02}, 16},                           /* 6to4: carries one */
    {{0xfc}, 7},                                  /* unique local */
    {{0xfe, 0x80}, 10},                           /* link-local */
    {{0xfe, 0xc0}, 10},                           /* site-local */
    {{0xff}, 8},                                  /* multicast */
};

bool pst_fetch_address_ok(const struct pst_address *address, const struct pst_cidr *allow,
                          uint32_t allow_count)
{
    sa_family_t family = address->sa.any.sa_family;

    if (family != AF_INET && family != AF_INET6)
        return false;
    if (pst_cidr_holds(allow, allow_count, address))
        return true;
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        struct pst_cidr net = {.bits = special[i].bits};
        memcpy(net.prefix, special[i].prefix, sizeof(net.prefix));
        if (pst_cidr_holds(&net, 1, address))
            return false;
    }
    return true;
}

/* --- one request --- */

struct transfer {
    const struct pst_fetch_request *request;
    struct pst_fetch_response *response;
    const _Atomic bool *given_up; /* NULL: nobody can */
    char *body;
    size_t body_len, body_cap, head_len;
    char etag[PST_FETCH_FIELD_MAX], cache_control[PST_FETCH_FIELD_MAX];
    size_t etag_len, cache_control_len;
    bool refused_address, too_long;
};

/* Called about once a second, and whenever something moves. Not 0 ends the transfer. */
static int go_on(void *ctx, curl_off_t to_get, curl_off_t got, curl_off_t to_send, curl_off_t sent)
{
    const struct transfer *t = ctx;

    (void)to_get, (void)got, (void)to_send, (void)sent;
    return t->given_up != NULL && atomic_load_explicit(t->given_up, memory_order_relaxed);
}

/* Called before each connection is made, with the address that will be used. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct transfer *t = ctx;
    struct pst_address address = {.len = to->addrlen};

    if (purpose != CURLSOCKTYPE_IPCXN || to->addrlen > sizeof(address.sa))
        return CURL_SOCKET_BAD;
    memcpy(&address.sa, &to->addr, to->addrlen);
    if (!pst_fetch_address_ok(&address, t->request->allow, t->request->allow_count)) {
        t->refused_address = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static size_t write_body(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * count; /* size is 1, says the manual */

    if (len > t->request->max_bytes - t->body_len) {
        t->too_long = true;
        return 0; /* ends the transfer */
    }
    if (len > t->body_cap - t->body_len) {
        size_t cap = t->body_cap + len + 8192; /* both are below max_bytes */
        char *grown = realloc(t->body, cap);
        if (grown == NULL)
            return 0;
        t->body = grown;
        t->body_cap = cap;
    }
    memcpy(t->body + t->body_len, data, len);
    t->body_len += len;
    return len;
}

static void keep_field(struct pst_bytes line, struct pst_bytes name, char *out, size_t *out_len)
{
    if (line.len <= name.len || !pst_bytes_equal_nocase(pst_bytes_of(line.ptr, name.len), name))
        return;
    struct pst_bytes value = pst_bytes_from(line, name.len);
    while (value.len > 0 && (value.ptr[value.len - 1] == '\n' || value.ptr[value.len - 1] == '\r'))
        value.len--;
    value = pst_bytes_trim(value);
    if (value.len > PST_FETCH_FIELD_MAX)
        return;
    memcpy(out, value.ptr, value.len);
    *out_len = value.len;
}

static size_t read_head(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    struct pst_bytes line = pst_bytes_of(data, size * count);

    if (line.len > PST_FETCH_HEAD_MAX - t->head_len) {
        t->too_long = true;
        return 0;
    }
    t->head_len += line.len;
    keep_field(line, PST_LIT("etag:"), t->etag, &t->etag_len);
    keep_field(line, PST_LIT("cache-control:"), t->cache_control, &t->cache_control_len);
    return line.len;
}

static bool is_printable(struct pst_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= 0x1f || (unsigned char)text.ptr[i] >= 0x7f)
            return false;
    return true;
}

/* "name: value" as a further header field; a value with line ends would be more than one. */
static bool add_field(struct curl_slist **list, const char *name, struct pst_bytes value)
{
    char line[PST_FETCH_FIELD_MAX * 8];

    if (value.len == 0)
        return true;
    int n = snprintf(line, sizeof(line), "%s: %.*s", name, (int)value.len, value.ptr);
    if (!is_printable(value) || n < 0 || (size_t)n >= sizeof(line))
        return false;
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        return false;
    *list = longer;
    return true;
}

static bool set_options(CURL *curl, struct transfer *t, const char *url,
                        const struct curl_slist *fields)
{
    const struct pst_fetch_request *r = t->request;
    bool good = true;

    good = curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           good; /* nor one of the environment */
    good = curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           good;
    good = curl_easy_setopt(curl, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           good;
    good = curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_USERAGENT, "postern") == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, t) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, write_body) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_WRITEDATA, t) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, read_head) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_HEADERDATA, t) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, go_on) == CURLE_OK && good;
    good = curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t) == CURLE_OK && good;
    if (r->ca_file != NULL) /* instead of the system's, not beside them */
        good = curl_easy_setopt(curl, CURLOPT_CAINFO, r->ca_file) == CURLE_OK &&
               curl_easy_setopt(curl, CURLOPT_CAPATH, NULL) == CURLE_OK && good;
    return good;
}

static void fail(struct pst_fetch_response *response, enum pst_status status, const char *why)
{
    response->status = status;
    (void)snprintf(response->failure, sizeof(response->failure), "%s", why);
}

/* The answer's texts in one block. */
static void hand_over(struct transfer *t)
{
    struct pst_fetch_response *r = t->response;
    size_t fields = t->etag_len + t->cache_control_len;
    char *block = realloc(t->body, t->body_len + fields + 1);

    if (block == NULL) {
        fail(r, PST_E_NOMEM, "out of memory");
        return;
    }
    t->body = NULL; /* the response owns it now */
    memcpy(block + t->body_len, t->etag, t->etag_len);
    memcpy(block + t->body_len + t->etag_len, t->cache_control, t->cache_control_len);
    r->memory_ = block;
    r->body = pst_bytes_of(block, t->body_len);
    r->etag = pst_bytes_of(block + t->body_len, t->etag_len);
    r->cache_control = pst_bytes_of(block + t->body_len + t->etag_len, t->cache_control_len);
}

static void perform(CURL *curl, struct transfer *t)
{
    long http_status = 0;
    CURLcode code = curl_easy_perform(curl);

    if (t->too_long)
        fail(t->response, PST_E_LIMIT, "the answer is too long");
    else if (t->refused_address)
        fail(t->response, PST_E_IO, "the name leads to an address that may not be connected to");
    else if (code != CURLE_OK ||
             curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status) != CURLE_OK)
        fail(t->response, PST_E_IO, curl_easy_strerror(code));
    else
        hand_over(t);
    t->response->http_status = (unsigned)http_status;
}

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort(); /* at start-up: there is nothing to go on with */
}

static void run(const struct pst_fetch_request *request, const _Atomic bool *given_up,
                struct pst_fetch_response *response)
{
    struct transfer t = {.request = request, .response = response, .given_up = given_up};
    char url[PST_FETCH_URL_MAX];
    struct curl_slist *fields = NULL;

    *response = (struct pst_fetch_response){0};
    (void)pthread_once(&global_once, global_init);
    if (request->url.len >= sizeof(url) || !is_printable(request->url) ||
        !pst_bytes_starts(request->url, PST_LIT("https://"))) {
        fail(response, PST_E_INVALID, "no https URL");
        return;
    }
    memcpy(url, request->url.ptr, request->url.len);
    url[request->url.len] = '\0';

    CURL *curl = curl_easy_init();
    if (curl == NULL)
        fail(response, PST_E_NOMEM, "out of memory");
    else if (!add_field(&fields, "If-None-Match", request->etag) ||
             !add_field(&fields, "Authorization", request->authorization) ||
             !set_options(curl, &t, url, fields))
        fail(response, PST_E_INVALID, "the request cannot be made");
    else
        perform(curl, &t);
    curl_slist_free_all(fields);
    curl_easy_cleanup(curl);
    free(t.body);
}

void pst_fetch_run(const struct pst_fetch_request *request, struct pst_fetch_response *response)
{
    run(request, NULL, response);
}

void pst_fetch_response_fini(struct pst_fetch_response *response)
{
    free(response->memory_);
    *response = (struct pst_fetch_response){.status = PST_E_IO};
}

/* --- the threads --- */

struct job {
    struct job *next;
    struct pst_fetch_request request; /* texts are in `texts` */
    pst_fetch_done *done;
    void *ctx;
    uint64_t tag;
    char texts[];
};

struct pst_fetcher {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic bool stop; /* set under the lock */
    struct {
        struct job *first, **last;
        uint32_t count, idle; /* jobs that wait, threads that do */
        pthread_t threads[THREADS_MAX];
        uint32_t thread_count;
    } locked;
};

static struct job *next_job(struct pst_fetcher *f, bool *stop)
{
    pthread_mutex_lock(&f->lock);
    f->locked.idle++;
    while (f->locked.first == NULL && !f->stop)
        pthread_cond_wait(&f->wake, &f->lock);
    f->locked.idle--;
    struct job *job = f->locked.first;
    if (job != NULL) {
        f->locked.first = job->next;
        f->locked.count--;
        if (job->next == NULL)
            f->locked.last = &f->locked.first;
    }
    *stop = f->stop;
    pthread_mutex_unlock(&f->lock);
    return job;
}

static void *work(void *arg)
{
    struct pst_fetcher *f = arg;
    struct pst_fetch_response response;
    bool stop;

    pthread_setname_np(pthread_self(), "fetch");
    for (struct job *job; (job = next_job(f, &stop)) != NULL; free(job)) {
        if (stop) {
            response = (struct pst_fetch_response){0};
            fail(&response, PST_E_IO, "shutting down");
        } else {
            run(&job->request, &f->stop, &response);
        }
        job->done(job->ctx, job->tag, &response);
        pst_fetch_response_fini(&response);
    }
    return NULL;
}

/* Under the lock, or before there is another thread. */
static bool add_thread(struct pst_fetcher *f)
{
    if (pthread_create(&f->locked.threads[f->locked.thread_count], NULL, work, f) != 0)
        return false;
    f->locked.thread_count++;
    return true;
}

enum pst_status pst_fetcher_create(struct pst_fetcher **out)
{
    struct pst_fetcher *f = *out = calloc(1, sizeof(*f));

    if (f == NULL)
        return PST_E_NOMEM;
    (void)pthread_once(&global_once, global_init);
    f->locked.last = &f->locked.first;
    bool lock = pthread_mutex_init(&f->lock, NULL) == 0,
         wake = lock && pthread_cond_init(&f->wake, NULL) == 0;
    if (wake && add_thread(f))
        return PST_OK;
    if (wake)
        pthread_cond_destroy(&f->wake);
    if (lock)
        pthread_mutex_destroy(&f->lock);
    free(f);
    *out = NULL;
    return PST_E_NOMEM;
}

void pst_fetcher_destroy(struct pst_fetcher *f)
{
    if (f == NULL)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; i < f->locked.thread_count; i++) /* none is added any more */
        pthread_join(f->locked.threads[i], NULL);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static struct pst_bytes take_text(char **at, struct pst_bytes text)
{
    struct pst_bytes copy = pst_bytes_of(*at, text.len);

    if (text.len > 0)
        memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

enum pst_status pst_fetcher_submit(struct pst_fetcher *f, const struct pst_fetch_request *request,
                                   pst_fetch_done *done, void *ctx, uint64_t tag)
{
    if (request->url.len > PST_FETCH_URL_MAX || request->etag.len > PST_FETCH_FIELD_MAX ||
        request->authorization.len > PST_FETCH_FIELD_MAX * 4)
        return PST_E_LIMIT;
    struct job *job =
        malloc(sizeof(*job) + request->url.len + request->etag.len + request->authorization.len);
    if (job == NULL)
        return PST_E_NOMEM;
    char *at = job->texts;
    *job = (struct job){.request = *request, .done = done, .ctx = ctx, .tag = tag};
    job->request.url = take_text(&at, request->url);
    job->request.etag = take_text(&at, request->etag);
    job->request.authorization = take_text(&at, request->authorization);

    pthread_mutex_lock(&f->lock);
    bool room = f->locked.count < QUEUE_MAX && !f->stop;
    if (room) {
        *f->locked.last = job;
        f->locked.last = &job->next;
        f->locked.count++;
        if (f->locked.count > f->locked.idle && f->locked.thread_count < THREADS_MAX)
            (void)add_thread(f); /* failed: those that are there come to it */
        pthread_cond_signal(&f->wake);
    }
    pthread_mutex_unlock(&f->lock);
    if (!room)
        free(job);
    return room ? PST_OK : PST_E_LIMIT;
}
