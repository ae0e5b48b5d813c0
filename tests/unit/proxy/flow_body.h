#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "flow.h"
#include "postern/net/listener.h"

/* ---- the fake engine ---- */

static struct pst_metrics the_metrics;

struct pst_metrics *flow_metrics(void)
{
    return &the_metrics;
}

struct pst_metrics *pst_engine_metrics(struct pst_engine *engine)
{
    (void)engine;
    return &the_metrics;
}

struct pst_log_ring *pst_engine_log(struct pst_engine *engine)
{
    (void)engine;
    return NULL;
}

static struct flow *the_flow;

static void allow(struct pst_decide *d)
{
    d->decision = (struct pst_decision){
        .verdict = PST_ALLOW,
        .reason = PST_R_GRANTED,
        .status = 200,
        .forward = true,
        .id = PST_LIT("0123456789abcdef0123456789abcdef"),
        .user = PST_LIT("alice"),
        .roles = PST_LIT("editor"),
        .workspace = PST_LIT("blue"),
        .revision = PST_LIT("1-7"),
        .revision_token = PST_LIT("1-7.ab"),
        .body_limit = UINT64_MAX,
    };
}

static void deny(struct pst_decide *d, enum pst_reason reason, unsigned status)
{
    allow(d);
    d->decision.verdict = PST_DENY;
    d->decision.reason = reason;
    d->decision.status = status;
    d->decision.forward = false;
}

static void resume_later(struct pst_worker *worker, void *payload)
{
    struct pst_decide *d = payload;

    (void)worker;
    allow(d);
    d->step = PST_STEP_DONE;
    d->resume(d);
}

static bool under(const struct pst_request *r, const char *prefix)
{
    return pst_bytes_starts(r->path, pst_bytes_of(prefix, strlen(prefix)));
}

enum pst_step pst_engine_begin(struct pst_engine *engine, struct pst_decide *d, uint32_t listener,
                               const struct pst_request *r, struct pst_arena *arena)
{
    (void)engine, (void)listener, (void)arena;
    allow(d);
    if (under(r, "/deny"))
        deny(d, PST_R_NOT_GRANTED, 403);
    if (under(r, "/unauth"))
        deny(d, PST_R_NO_CREDENTIAL, 401);
    if (under(r, "/small"))
        d->decision.body_limit = 10;
    if (under(r, "/template"))
        d->decision.workspace = PST_LIT("red");
    if (under(r, "/escape"))
        d->decision.workspace = PST_LIT("../../tmp/x");
    if (under(r, "/inspect")) {
        d->body_limit = 1000;
        return PST_STEP_BODY;
    }
    if (under(r, "/wait")) {
        assert_int_equal(pst_worker_post(the_flow->worker, resume_later, d), PST_OK);
        return PST_STEP_WAIT;
    }
    return PST_STEP_DONE;
}

/* As the readiness of a node that has to read the log first. */
enum pst_step pst_engine_begin_lease(struct pst_engine *engine, struct pst_decide *d)
{
    (void)engine;
    assert_int_equal(pst_worker_post(the_flow->worker, resume_later, d), PST_OK);
    return PST_STEP_WAIT;
}

void pst_engine_hold(struct pst_decide *d, void (*cut)(struct pst_decide *))
{
    the_flow->held++;
    if (the_flow->cut)
        cut(d);
}

enum pst_step pst_engine_body(struct pst_decide *d, struct pst_bytes body, bool too_large)
{
    allow(d);
    if (too_large)
        deny(d, PST_R_BODY_TOO_LARGE, 413);
    else if (memmem(body.ptr, body.len, "evil", 4) != NULL)
        deny(d, PST_R_DENIED, 403);
    return PST_STEP_DONE;
}

void pst_engine_end(struct pst_decide *d)
{
    (void)d;
}

void pst_engine_refusal_body(const struct pst_decision *d, struct pst_buf *out, const char **type)
{
    const char *name = pst_reason_name(d->reason);

    pst_buf_put(out, pst_bytes_of(name, strlen(name)));
    if (d->detail.len > 0) {
        pst_buf_lit(out, ": ");
        pst_buf_put(out, d->detail);
    }
    *type = "text/plain";
}

void pst_engine_challenge(const struct pst_decision *d, struct pst_buf *out)
{
    (void)d;
    pst_buf_lit(out, "Bearer realm=\"postern\"");
}

/* ---- the server ---- */

static void on_released(void *owner, const struct pst_server_config *config)
{
    (void)config;
    ((struct flow *)owner)->released++;
}

static void on_drain_end(void *owner)
{
    ((struct flow *)owner)->drained++;
}

static const struct pst_server_ops flow_ops = {on_released, on_drain_end};

static int listen_any(uint16_t *port)
{
    struct pst_address address, bound;
    struct pst_host_port parts;
    int fd;

    assert_int_equal(pst_address_parse(PST_LIT("127.0.0.1:0"), &address, &parts), PST_OK);
    assert_int_equal(pst_listen(&address, &fd, &bound, NULL), PST_OK);
    *port = pst_address_port(&bound);
    return fd;
}

static void flow_config(struct flow *f)
{
    uint16_t port;

    f->upstream_listener = listen_any(&port);
    int len = snprintf(f->upstream_text, sizeof(f->upstream_text), "127.0.0.1:%u", port);
    f->upstream = (struct pst_upstream_config){
        .name = PST_LIT("app"),
        .address = pst_bytes_of(f->upstream_text, (size_t)len),
        .idle_s = 4,
        .connect_s = 1,
        .first_byte_s = 60,
        .response_head_s = 60,
        .idle_body_s = 60,
        .max_idle = 64,
    };
    f->listener = (struct pst_listener_config){.name = PST_LIT("proxy"), .trusted = &f->trusted};
    f->config = (struct pst_server_config){
        .listeners = &f->listener,
        .listener_count = 1,
        .upstreams = &f->upstream,
        .upstream_count = 1,
        .limits = pst_server_limits_default,
        .identity = {PST_LIT("X-Postern-User"), PST_LIT("X-Postern-Roles"),
                     PST_LIT("X-Postern-Workspace"), PST_LIT("X-Postern-Decision-Id"),
                     PST_LIT("X-Postern-Revision")},
        .credential_cookie = PST_LIT("postern_token"),
    };
    pst_filter_init(&f->config.filter);
}

/* After flow_config, so that a test can change the configuration before. */
static void flow_run(struct flow *f)
{
    the_flow = f;
    memset(&the_metrics, 0, sizeof(the_metrics));
    assert_int_equal(pst_worker_create(0, &f->worker), PST_OK);
    assert_int_equal(pst_server_create(f->worker, NULL, &f->config, &flow_ops, f, &f->server),
                     PST_OK);
    int fd = listen_any(&f->port);
    assert_int_equal(pst_server_listen(f->server, 0, fd), PST_OK);
    assert_int_equal(pst_worker_start(f->worker), PST_OK);
}

void flow_start(struct flow *f)
{
    memset(f, 0, sizeof(*f));
    flow_config(f);
    flow_run(f);
}

void flow_stop(struct flow *f)
{
    pst_worker_stop(f->worker);
    pst_worker_join(f->worker);
    pst_server_destroy(f->server);
    pst_worker_destroy(f->worker);
    close(f->upstream_listener);
}

/* ---- sockets ---- */

int flow_connect(const struct flow *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static bool ready(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) == 1;
}

int flow_accept(struct flow *f)
{
    if (!ready(f->upstream_listener, 2000))
        return -1;
    return accept4(f->upstream_listener, NULL, NULL, SOCK_CLOEXEC);
}

bool flow_no_accept(struct flow *f, int ms)
{
    return !ready(f->upstream_listener, ms);
}

void flow_send_bytes(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the other side is gone: what it answered tells */
        at += n;
        len -= (size_t)n;
    }
}

void flow_send(int fd, const char *text)
{
    flow_send_bytes(fd, text, strlen(text));
}

static char read_space[1 << 18];

const char *flow_read_until(int fd, const char *end)
{
    size_t len = 0;

    while (len < sizeof(read_space) - 1 && ready(fd, 2000)) {
        ssize_t n =
            recv(fd, read_space + len, end[0] == '\0' ? sizeof(read_space) - 1 - len : 1, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        if (end[0] != '\0' && len >= strlen(end) &&
            memcmp(read_space + len - strlen(end), end, strlen(end)) == 0)
            break;
    }
    read_space[len] = '\0';
    return read_space;
}

const char *flow_read_head(int fd)
{
    return flow_read_until(fd, "\r\n\r\n");
}

bool flow_is_closed(int fd, int ms)
{
    char drop[4096];

    while (ready(fd, ms)) {
        ssize_t n = recv(fd, drop, sizeof(drop), 0);
        if (n <= 0)
            return true;
    }
    return false;
}

bool flow_is_quiet(int fd, int ms)
{
    return !ready(fd, ms);
}
