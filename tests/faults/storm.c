/* storm.c - clients that give up at any byte and an app that fails in every way, both around one
 * node
 *
 *   storm COUNT CLIENTS SEED UPSTREAM_PORT PROXY_PORT FILE
 *
 * FILE holds "user token may" a line; may is 1 for whoever gets answers. Each request carries a
 * nonce, each good answer of the app echoes nonce and user as the app saw them. Prints one line of
 * JSON; exit code 1 when anybody got what was not his, or nothing at all was right. One thread. */
#include "tool.h"

#include <time.h>

#define USERS_MAX  16
#define HANG_NS    UINT64_C(20000000000)
#define ABORT_EACH 10 /* one in so many requests is given up in the middle, as many answers are */

struct user {
    char name[32], token[1024];
    bool may;
};

enum kind { LISTENER, APP, CLIENT };

struct conn {
    enum kind kind;
    int fd;
    size_t used;
    unsigned number; /* of a client */
    const struct user *user;
    bool waits, leaves; /* for an answer; closes at its first byte */
    uint64_t since_ns;
    char nonce[32], bytes[16384];
};

static struct user users[USERS_MAX];
static size_t user_count;
static uint64_t left, sent, good, refused, failed, given_up, wrong, hung, unexpected;
static uint64_t dice;
static int epoll;
static uint16_t proxy_port;
static char first_wrong[512];

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)(dice >> 32) % sides;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void put(int fd, const char *bytes, size_t size)
{
    ssize_t done = send(fd, bytes, size, MSG_NOSIGNAL);
    (void)done; /* a peer that is gone shows when it is read */
}

/* Half of the ends are resets. */
static void hang_up(int fd)
{
    struct linger hard = {.l_onoff = 1};
    if (roll(2) == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

/* ---- the app ---- */

static bool value_of(const struct conn *c, size_t size, const char *name, char *out, size_t cap)
{
    const char *at = memmem(c->bytes, size, name, strlen(name));
    const char *end = at == NULL ? NULL : memchr(at, '\r', size - (size_t)(at - c->bytes));
    if (end == NULL)
        return false;
    at += strlen(name);
    size_t length = (size_t)(end - at) < cap - 1 ? (size_t)(end - at) : cap - 1;
    memcpy(out, at, length);
    out[length] = '\0';
    return true;
}

/* Sends the answer as it should be, or worse; behind it is room for another one. False: the
 * connection ends. */
static bool send_somehow(int fd, char *text, size_t size)
{
    static const char garbage[] = "HTTP/1.1 2x0 OK\r\n\r\n",
                      twice[] =
                          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                      late[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
                      interim[] = "HTTP/1.1 100 Continue\r\n\r\n";

    switch (roll(100)) {
    case 0:
    case 1:
        return false;
    case 2:
        put(fd, text, 1 + roll((uint32_t)size - 1));
        return false;
    case 3: /* An answer that nobody asked for. In one piece: what comes behind the next request is
               its answer. */
        memcpy(text + size, text, size);
        put(fd, text, 2 * size);
        return true;
    case 4:
        put(fd, garbage, sizeof garbage - 1);
        return false;
    case 5:
        put(fd, text, size);
        put(fd, late, sizeof late - 1);
        return false;
    case 6:
        put(fd, twice, sizeof twice - 1);
        return false;
    case 7:
        put(fd, interim, sizeof interim - 1);
        break;
    default:
        break;
    }
    size_t cut = roll(8) == 0 ? roll((uint32_t)size) : size;
    put(fd, text, cut);
    put(fd, text + cut, size - cut);
    return true;
}

static bool answer(struct conn *c, size_t size)
{
    static const size_t pads[] = {0, 10, 3000};
    char user[64] = "nobody", text[8192], body[4096];
    const char *space = memchr(c->bytes, ' ', size);
    const char *end =
        space == NULL ? NULL : memchr(space + 1, ' ', size - (size_t)(space + 1 - c->bytes));
    const char *slash = end;

    if (end == NULL)
        return false;
    while (slash > space && *slash != '/')
        slash--;
    (void)value_of(c, size, "X-Postern-User: ", user, sizeof user);
    int length =
        snprintf(body, sizeof body, "nonce=%.*s user=%s", (int)(end - slash - 1), slash + 1, user);
    size_t pad = pads[roll(3)], whole = (size_t)length + pad;
    memset(body + length, '.', pad);
    int head = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", whole);
    memcpy(text + head, body, whole);
    return send_somehow(c->fd, text, (size_t)head + whole);
}

static void close_conn(struct conn *c)
{
    hang_up(c->fd);
    free(c);
}

static void serve(struct conn *c)
{
    ssize_t got = recv(c->fd, c->bytes + c->used, sizeof c->bytes - c->used, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            close_conn(c);
        return;
    }
    c->used += (size_t)got;
    for (size_t size; (size = tool_message_size(c->bytes, c->used)) != 0 && size <= c->used;) {
        if (!answer(c, size)) {
            close_conn(c);
            return;
        }
        c->used -= size;
        memmove(c->bytes, c->bytes + size, c->used);
    }
}

static void accept_all(int listener)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL)
            tool_die("calloc");
        c->kind = APP;
        c->fd = fd;
        tool_nodelay(fd);
        tool_watch(epoll, fd, c);
    }
}

/* ---- the clients ---- */

static void open_client(struct conn *c)
{
    c->fd = tool_connect(proxy_port);
    if (c->fd < 0)
        tool_die("connect");
    c->used = 0;
    c->waits = false;
    tool_watch(epoll, c->fd, c);
}

static void reopen(struct conn *c)
{
    hang_up(c->fd);
    open_client(c);
}

static void ask(struct conn *c)
{
    while (left > 0) {
        static const size_t sizes[] = {0, 5, 2000};
        char text[8192];
        size_t body = roll(4) == 0 ? sizes[roll(3)] : 0;
        bool post = body > 0;

        left--;
        sent++;
        c->user = &users[roll((uint32_t)user_count)];
        snprintf(c->nonce, sizeof c->nonce, "%u-%llu", c->number, (unsigned long long)sent);
        int head = snprintf(
            text, sizeof text,
            "%s /w/blue/things/%s HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer %s\r\n"
            "Content-Length: %zu\r\n\r\n",
            post ? "POST" : "GET", c->nonce, c->user->token, body);
        memset(text + head, 'x', body);
        size_t whole = (size_t)head + body;
        if (roll(ABORT_EACH) == 0) {
            put(c->fd, text, 1 + roll((uint32_t)whole - 1));
            given_up++;
            reopen(c);
            continue;
        }
        put(c->fd, text, whole);
        c->used = 0;
        c->waits = true;
        c->leaves = roll(ABORT_EACH) == 0;
        c->since_ns = now_ns();
        return;
    }
    c->waits = false;
}

static void note_wrong(const struct conn *c, const char *what)
{
    if (wrong++ == 0)
        snprintf(first_wrong, sizeof first_wrong, "%s: asked %s for %s, got %.200s", what, c->nonce,
                 c->user->name, c->bytes);
}

/* Of what came so far, whole or not. */
static void judge(const struct conn *c, size_t size, bool whole)
{
    char mine[128];
    int length = snprintf(mine, sizeof mine, "nonce=%s user=%s", c->nonce, c->user->name);
    const char *end = memmem(c->bytes, c->used, "\r\n\r\n", 4);
    const char *status = c->bytes + 9;

    if (end == NULL || c->used < 12)
        return;
    if (memcmp(status, "200", 3) != 0) {
        bool denied = memcmp(status, "403", 3) == 0;
        refused += denied && whole;
        failed += !denied && whole;
        if (denied && c->user->may)
            unexpected++;
        return;
    }
    if (!c->user->may) {
        note_wrong(c, "an answer for one who may not");
        return;
    }
    size_t body = c->used - (size_t)(end + 4 - c->bytes);
    size_t compare = body < (size_t)length ? body : (size_t)length;
    if (memcmp(end + 4, mine, compare) != 0 || (whole && compare < (size_t)length))
        note_wrong(c, whole ? "a whole answer" : "a part of an answer");
    else if (whole && c->used > size)
        note_wrong(c, "bytes behind the answer");
    else
        good += whole;
}

static void lose(struct conn *c)
{
    judge(c, 0, false);
    failed += c->waits;
    reopen(c);
    ask(c);
}

static void hear(struct conn *c)
{
    ssize_t got = recv(c->fd, c->bytes + c->used, sizeof c->bytes - 1 - c->used, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            lose(c);
        return;
    }
    c->used += (size_t)got;
    c->bytes[c->used] = '\0';
    if (!c->waits) {
        note_wrong(c, "an answer to nothing");
        reopen(c);
        return;
    }
    size_t size = tool_message_size(c->bytes, c->used);
    if (c->leaves) {
        judge(c, 0, false);
        given_up++;
        reopen(c);
        ask(c);
        return;
    }
    if (size == 0 || size > c->used)
        return;
    judge(c, size, true);
    c->waits = false;
    if (memmem(c->bytes, size, "onnection: close", 16) != NULL)
        reopen(c);
    ask(c);
}

/* ---- the run ---- */

static void read_users(const char *path)
{
    FILE *f = fopen(path, "r");
    int may;

    if (f == NULL)
        tool_die(path);
    while (user_count < USERS_MAX &&
           fscanf(f, "%31s %1023s %d", users[user_count].name, users[user_count].token, &may) == 3)
        users[user_count++].may = may != 0;
    fclose(f);
    if (user_count == 0)
        tool_die("no users in FILE");
}

static void look_for_hung(struct conn **clients, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (clients[i]->waits && now_ns() - clients[i]->since_ns > HANG_NS) {
            hung++;
            reopen(clients[i]);
            ask(clients[i]);
        }
}

static bool waiting(struct conn **clients, size_t count)
{
    bool any = left > 0;
    for (size_t i = 0; i < count; i++)
        any = any || clients[i]->waits;
    return any;
}

int main(int argc, char **argv)
{
    static struct conn *clients[256];
    static struct conn listener = {.kind = LISTENER};

    if (argc != 7)
        tool_die("usage: storm COUNT CLIENTS SEED UPSTREAM_PORT PROXY_PORT FILE");
    left = tool_number(argv[1], UINT32_MAX);
    size_t count = (size_t)tool_number(argv[2], 256);
    dice = tool_number(argv[3], UINT32_MAX) * 2654435761u + 1;
    proxy_port = (uint16_t)tool_number(argv[5], UINT16_MAX);
    read_users(argv[6]);
    tool_stop_on_term();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener.fd = tool_listen((uint16_t)tool_number(argv[4], UINT16_MAX));
    tool_watch(epoll, listener.fd, &listener);
    for (size_t i = 0; i < count; i++) {
        clients[i] = calloc(1, sizeof **clients);
        if (clients[i] == NULL)
            tool_die("calloc");
        clients[i]->kind = CLIENT;
        clients[i]->number = (unsigned)i;
        open_client(clients[i]);
        ask(clients[i]);
    }
    uint64_t began = now_ns();
    while (!tool_stopped && waiting(clients, count)) {
        struct epoll_event events[TOOL_EVENTS];
        int ready = epoll_wait(epoll, events, TOOL_EVENTS, 1000);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->kind == LISTENER)
                accept_all(c->fd);
            else if (c->kind == APP)
                serve(c);
            else
                hear(c);
        }
        if (ready == 0)
            look_for_hung(clients, count);
    }
    printf("{\"requests\": %llu, \"good\": %llu, \"refused\": %llu, \"failed\": %llu, "
           "\"given_up\": %llu, "
           "\"hung\": %llu, \"unexpected\": %llu, \"wrong_user\": %llu, \"seconds\": %.1f, "
           "\"first\": \"",
           (unsigned long long)sent, (unsigned long long)good, (unsigned long long)refused,
           (unsigned long long)failed, (unsigned long long)given_up, (unsigned long long)hung,
           (unsigned long long)unexpected, (unsigned long long)wrong,
           (double)(now_ns() - began) / 1e9);
    for (const char *at = first_wrong; *at != '\0'; at++)
        putchar(*at < ' ' || *at == '"' || *at == '\\' ? ' ' : *at);
    puts("\"}");
    return wrong == 0 && hung == 0 && unexpected == 0 && good > sent / 4 ? 0 : 1;
}
