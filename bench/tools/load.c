/* load.c - the load generator of the bench: HTTP/1.1 keep-alive, closed loop, one thread
 *
 *   load [--connections N] [--seconds S | --ms N | --count N] [--rate N] [--warmup N] \
 *        [--status CODE] [--hold] PORT FILE
 *
 * FILE holds the bytes of one or more requests without a body; they are sent in turn. Each
 * connection sends one, waits for the whole answer (framed by Content-Length), and sends the next:
 * one recv and one send per request, so that it stays ahead of the servers that it drives.
 * Prints one line of JSON: what was asked for, how long it took, how it went.
 *
 *   --rate N     so many requests a second, what is due at once each millisecond, on the
 * connections that are free: the server's work then comes in the same portions whatever else the
 *                generator's core has to do
 *   --warmup N   answers (in all) before anything counts; opens every pooled connection behind
 *   --hold       after the warm-up print "ready" and wait for a line on standard input; after the
 *                result keep the connections until standard input ends, or with another line, if
 *                all answers were good, do it all again. Whoever measures the server can so look at
 *                its clock, or attach a tracer, while nothing is under way, and connection set-up and
 *                tear-down stay out of the figures
 *
 * Exit code: 0 all answers good, 1 some were not, 2 no run.
 *
 * A connection that the server closed between two answers is opened again and counted in
 * `reopened`; one that ends inside an answer is an error. */
#include "tool.h"

#include <time.h>

#define REQUESTS_MAX   4096
#define HISTOGRAM_SUBS 32
#define HISTOGRAM_SIZE (HISTOGRAM_SUBS * 40)
#define REOPENED_MAX   20000
#define GRACE_NS       UINT64_C(5000000000)
#define PORTION_NS     UINT64_C(1000000)

struct conn {
    int fd;
    bool in_flight;
    size_t used; /* bytes of the answer so far, 0 = none */
    size_t rest; /* bytes of its body that are still to come */
    uint64_t sent_ns;
    char bytes[8192];
};

struct request {
    const char *bytes;
    size_t size;
};

/* What was asked for, then what happened in the run that is under way. */
static struct {
    uint16_t port;
    size_t connections;
    uint64_t limit_ns; /* one of these two is 0 */
    uint64_t count;
    uint64_t rate; /* 0: each answer is the next request's signal */
    uint64_t warmup;
    bool hold;
    char status[4];
    struct request *requests;
    size_t request_count;
} plan = {.connections = 64, .status = "200"};

static struct {
    size_t next_request;
    uint64_t to_send; /* requests that may still be started */
    uint64_t in_flight;
    uint64_t good;
    uint64_t errors;
    uint64_t reopened;
    uint64_t unanswered; /* of the errors: still under way when the server was given up */
    char bad_status[4];  /* of the first bad answer */
    uint64_t deadline_ns;
    uint64_t latency[HISTOGRAM_SIZE];
} run;

static int epoll;
static struct conn *conns;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Buckets are 1/32 of an octave wide: 3 % at most between a latency and what is printed. */
static void note_latency(uint64_t ns)
{
    uint64_t value = ns < HISTOGRAM_SUBS ? HISTOGRAM_SUBS : ns;
    unsigned octave = 63 - (unsigned)__builtin_clzll(value);
    size_t bucket =
        (size_t)(octave - 5) * HISTOGRAM_SUBS + (value >> (octave - 5)) - HISTOGRAM_SUBS;
    run.latency[bucket < HISTOGRAM_SIZE ? bucket : HISTOGRAM_SIZE - 1]++;
}

static double percentile_us(double share)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HISTOGRAM_SIZE; i++)
        total += run.latency[i];
    uint64_t wanted = (uint64_t)((double)total * share);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_SIZE; i++) {
        seen += run.latency[i];
        if (seen > wanted)
            return (double)((i % HISTOGRAM_SUBS + HISTOGRAM_SUBS) << (i / HISTOGRAM_SUBS)) / 1000;
    }
    return 0;
}

static void open_conn(struct conn *conn)
{
    conn->fd = tool_connect(plan.port);
    if (conn->fd < 0)
        tool_die("connect");
    conn->in_flight = false;
    conn->used = 0;
    conn->rest = 0;
    tool_watch(epoll, conn->fd, conn);
}

static void reopen_conn(struct conn *conn)
{
    close(conn->fd);
    open_conn(conn);
}

/* Starts a request if one is left to start. */
static void send_request(struct conn *conn, uint64_t now)
{
    if (run.to_send == 0 || now >= run.deadline_ns)
        return;
    const struct request *request = &plan.requests[run.next_request];
    run.next_request = run.next_request + 1 == plan.request_count ? 0 : run.next_request + 1;
    run.to_send--;
    if (send(conn->fd, request->bytes, request->size, MSG_NOSIGNAL) != (ssize_t)request->size) {
        run.errors++;
        reopen_conn(conn);
        return;
    }
    run.in_flight++;
    conn->in_flight = true;
    conn->sent_ns = now;
}

static void end_answer(struct conn *conn, bool good)
{
    uint64_t now = now_ns();
    conn->in_flight = false;
    conn->used = 0;
    run.in_flight--;
    run.good += good;
    run.errors += !good;
    if (!good && run.bad_status[0] == '\0')
        for (size_t i = 0; i < 3; i++)
            run.bad_status[i] =
                conn->bytes[9 + i] >= '0' && conn->bytes[9 + i] <= '9' ? conn->bytes[9 + i] : '?';
    note_latency(now - conn->sent_ns);
    if (plan.rate == 0)
        send_request(conn, now);
}

/* The connection is gone: with a request under way and no byte of an answer the server closed it
 * while the request travelled, and the request is started anew; else an answer was cut short. */
static void lose_conn(struct conn *conn)
{
    bool in_flight = conn->in_flight;
    bool cut = in_flight && conn->used > 0;
    run.in_flight -= in_flight;
    run.errors += cut;
    run.to_send += in_flight && !cut && run.to_send < UINT64_MAX;
    run.reopened++;
    errno = 0;
    if (run.reopened > REOPENED_MAX)
        tool_die("the server closes its connections");
    reopen_conn(conn);
    if (in_flight)
        send_request(conn, now_ns());
}

static void read_answer(struct conn *conn)
{
    size_t room = sizeof conn->bytes - conn->used;
    ssize_t got = recv(conn->fd, conn->bytes + conn->used, room, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            lose_conn(conn);
        return;
    }
    if (!conn->in_flight) { /* bytes that nobody asked for */
        run.errors++;
        reopen_conn(conn);
        return;
    }
    size_t size = conn->used + (size_t)got;
    if (conn->rest > 0) {
        conn->rest = (size_t)got < conn->rest ? conn->rest - (size_t)got : 0;
    } else {
        size_t message = tool_message_size(conn->bytes, size);
        conn->used = size;
        if (message == 0 && size < sizeof conn->bytes)
            return;
        conn->rest = message > size ? message - size : 0;
        if (message == 0 || message < size) { /* endless head, or more than one answer */
            conn->in_flight = false;
            run.in_flight--;
            run.errors++;
            reopen_conn(conn);
            return;
        }
    }
    if (conn->rest > 0) {
        conn->used = 12; /* the status line stays, the body is read over */
        return;
    }
    end_answer(conn, size > 12 && memcmp(conn->bytes, "HTTP/1.1 ", 9) == 0 &&
                         memcmp(conn->bytes + 9, plan.status, 3) == 0);
}

/* What is due by now, as far as connections are free; what is not sent now is due the next time. */
static void send_due(uint64_t count, uint64_t start, uint64_t now)
{
    uint64_t due = (uint64_t)((double)(now - start) * (double)plan.rate / 1e9) + 1;
    for (size_t i = 0; i < plan.connections && count - run.to_send < due; i++)
        if (!conns[i].in_flight)
            send_request(&conns[i], now);
}

/* Runs until no request is left and all are answered; a server that hangs is given five seconds. */
static double drive(uint64_t count, uint64_t limit_ns)
{
    uint64_t start = now_ns();
    memset(&run, 0, sizeof run);
    run.to_send = count;
    run.deadline_ns = limit_ns == 0 ? UINT64_MAX : start + limit_ns;
    for (size_t i = 0; plan.rate == 0 && i < plan.connections; i++)
        send_request(&conns[i], start);
    uint64_t last = start, portion = 0;
    while (run.in_flight > 0 || (plan.rate > 0 && run.to_send > 0 && last < run.deadline_ns)) {
        struct epoll_event events[TOOL_EVENTS];
        int ready = epoll_wait(epoll, events, TOOL_EVENTS, plan.rate == 0 ? 1000 : 1);
        for (int i = 0; i < ready; i++)
            read_answer(events[i].data.ptr);
        uint64_t now = now_ns();
        if (plan.rate > 0 && now - portion >= PORTION_NS) {
            portion = now;
            send_due(count, start, now);
        }
        if (ready > 0)
            last = now;
        else if (now - last > GRACE_NS) {
            run.unanswered = run.in_flight;
            run.errors += run.in_flight;
            break;
        }
    }
    return (double)(now_ns() - start) / 1e9;
}

static void load_requests(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        tool_die(path);
    static char bytes[4 * 1024 * 1024];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    plan.requests = calloc(REQUESTS_MAX, sizeof *plan.requests);
    if (plan.requests == NULL)
        tool_die("calloc");
    for (size_t at = 0; at < size && plan.request_count < REQUESTS_MAX;) {
        size_t length = tool_message_size(bytes + at, size - at);
        if (length == 0 || length > size - at)
            tool_die("incomplete request in FILE");
        plan.requests[plan.request_count++] = (struct request){bytes + at, length};
        at += length;
    }
    if (plan.request_count == 0)
        tool_die("no request in FILE");
}

static void usage(void)
{
    fprintf(stderr, "usage: load [--connections N] [--seconds S | --ms N | --count N] "
                    "[--rate N] [--warmup N] [--status CODE] [--hold] PORT FILE\n");
    exit(2);
}

static void read_arguments(int argc, char **argv)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--hold") == 0) {
            plan.hold = true;
            continue;
        }
        if (at + 1 >= argc)
            usage();
        const char *name = argv[at++];
        if (strcmp(name, "--connections") == 0)
            plan.connections = (size_t)tool_number(argv[at], 10000);
        else if (strcmp(name, "--seconds") == 0)
            plan.limit_ns = tool_number(argv[at], 3600) * UINT64_C(1000000000);
        else if (strcmp(name, "--ms") == 0)
            plan.limit_ns = tool_number(argv[at], 3600000) * UINT64_C(1000000);
        else if (strcmp(name, "--count") == 0)
            plan.count = tool_number(argv[at], UINT32_MAX);
        else if (strcmp(name, "--rate") == 0)
            plan.rate = tool_number(argv[at], 10000000);
        else if (strcmp(name, "--warmup") == 0)
            plan.warmup = tool_number(argv[at], UINT32_MAX);
        else if (strcmp(name, "--status") == 0 && strlen(argv[at]) == 3)
            memcpy(plan.status, argv[at], 3);
        else
            usage();
    }
    if (argc - at != 2 || plan.connections == 0 || (plan.limit_ns == 0) == (plan.count == 0))
        usage();
    plan.port = (uint16_t)tool_number(argv[at], UINT16_MAX);
    load_requests(argv[at + 1]);
}

/* False at the end of standard input. */
static bool wait_for_line(void)
{
    char byte = 0;
    ssize_t got;
    while ((got = read(STDIN_FILENO, &byte, 1)) == 1 && byte != '\n')
        ;
    return got == 1;
}

static void warm_up(void)
{
    drive(plan.warmup, 0);
    if (run.errors > 0) {
        fprintf(stderr, "load: %llu bad answers in the warm-up; one connection last read: %.300s\n",
                (unsigned long long)run.errors, conns[0].bytes);
        exit(2);
    }
}

/* True: all answers were good. */
static bool measure(void)
{
    double seconds = drive(plan.count == 0 ? UINT64_MAX : plan.count, plan.limit_ns);
    printf("{\"requests\": %llu, \"errors\": %llu, \"reopened\": %llu, "
           "\"unanswered\": %llu, \"bad_status\": \"%s\", \"seconds\": %.6f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           (unsigned long long)run.good, (unsigned long long)run.errors,
           (unsigned long long)run.reopened, (unsigned long long)run.unanswered, run.bad_status,
           seconds, percentile_us(0.50), percentile_us(0.99));
    fflush(stdout);
    return run.errors == 0 && run.good > 0;
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(plan.connections, sizeof *conns);
    if (epoll < 0 || conns == NULL)
        tool_die("set-up");
    for (size_t i = 0; i < plan.connections; i++)
        open_conn(&conns[i]);
    bool good;
    do {
        if (plan.warmup > 0)
            warm_up();
        if (plan.hold) {
            puts("ready");
            fflush(stdout);
            if (!wait_for_line())
                return 2;
        }
        good = measure();
    } while (plan.hold && wait_for_line() && good);
    return good ? 0 : 1;
}
