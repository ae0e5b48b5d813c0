/* Streams over socket pairs, the loop turned by hand: what one turn does is seen exactly. */
#include "../test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "postern/net/listener.h"
#include "postern/net/stream.h"

struct end {
    struct pst_stream stream;
    int readable, drained, connected;
};

static void on_readable(struct pst_stream *s)
{
    pst_container_of(s, struct end, stream)->readable++;
}

static void on_drained(struct pst_stream *s)
{
    pst_container_of(s, struct end, stream)->drained++;
}

static void on_connected(struct pst_stream *s)
{
    pst_container_of(s, struct end, stream)->connected++;
}

static const struct pst_stream_ops ops = {on_readable, on_drained, on_connected};

struct pair {
    struct pst_worker *worker;
    struct end end;
    int peer;
};

static void open_pair(struct pair *p)
{
    int fds[2];

    memset(p, 0, sizeof(*p));
    assert_int_equal(pst_worker_create(0, &p->worker), PST_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(pst_stream_open(&p->end.stream, p->worker, &ops, fds[0]), PST_OK);
    p->peer = fds[1];
}

static void close_pair(struct pair *p)
{
    pst_stream_close(&p->end.stream);
    pst_stream_close(&p->end.stream);
    assert_int_equal(p->worker->own.blocks_out, 0); /* nothing kept, nothing lost */
    if (p->peer >= 0)
        close(p->peer);
    pst_worker_destroy(p->worker);
}

static enum pst_status send_text(struct pst_stream *s, const char *a, const char *b)
{
    struct iovec pieces[2] = {{(char *)(uintptr_t)a, strlen(a)}, {(char *)(uintptr_t)b, strlen(b)}};

    return pst_stream_send(s, pieces, 2);
}

static void reads_what_comes_and_holds_nothing_when_idle(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    assert_int_equal(write(p.peer, "abc", 3), 3);
    pst_worker_turn(p.worker, 100);
    assert_int_equal(p.end.readable, 1);
    assert_true(pst_bytes_equal(pst_stream_in(&p.end.stream), PST_LIT("abc")));
    pst_stream_consume(&p.end.stream, 1);
    assert_int_equal(write(p.peer, "d", 1), 1);
    pst_worker_turn(p.worker, 100);
    assert_true(pst_bytes_equal(pst_stream_in(&p.end.stream), PST_LIT("bcd")));
    pst_stream_consume(&p.end.stream, 3);
    assert_int_equal(p.worker->own.blocks_out, 0);
    close_pair(&p);
}

static void end_and_pause(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    pst_stream_pause(&p.end.stream);
    assert_int_equal(write(p.peer, "x", 1), 1);
    pst_worker_turn(p.worker, 20);
    assert_int_equal(p.end.readable, 0);
    pst_stream_resume(&p.end.stream);
    pst_worker_turn(p.worker, 100);
    assert_int_equal(p.end.readable, 1);
    close(p.peer);
    p.peer = -1;
    pst_worker_turn(p.worker, 100);
    assert_true(p.end.stream.eof);
    assert_int_equal(p.end.readable, 2);
    assert_false(event_pending(&p.end.stream.read_event_, EV_READ, NULL)); /* no spinning */
    pst_worker_turn(p.worker, 20); /* told once, not again and again */
    assert_int_equal(p.end.readable, 2);
    assert_int_equal(pst_stream_in(&p.end.stream).len, 1);
    close_pair(&p);
}

static void keeps_what_the_kernel_does_not_take(void **state)
{
    struct pair p;
    static char big[1 << 20], got[1 << 20];
    size_t have = 0;
    (void)state;
    open_pair(&p);
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 31 + i / 251);
    struct iovec piece = {big, sizeof(big)};
    assert_int_equal(pst_stream_send(&p.end.stream, &piece, 1), PST_OK);
    assert_true(pst_stream_sending(&p.end.stream));
    assert_true(p.end.stream.stalled_ns != 0);
    assert_int_equal(send_text(&p.end.stream, "tail", "!"), PST_OK); /* stays behind */
    pst_stream_finish(&p.end.stream);
    while (have < sizeof(big)) {
        ssize_t n = read(p.peer, got + have, sizeof(got) - have);
        if (n > 0)
            have += (size_t)n;
        else
            assert_int_equal(errno, EAGAIN);
        pst_worker_turn(p.worker, 0);
    }
    assert_memory_equal(big, got, sizeof(big));
    pst_worker_turn(p.worker, 0);
    assert_int_equal(read(p.peer, got, sizeof(got)), 5);
    assert_memory_equal(got, "tail!", 5);
    assert_int_equal(read(p.peer, got, 1), 0); /* and the end, after everything */
    assert_int_equal(p.end.drained, 1);
    assert_false(pst_stream_sending(&p.end.stream));
    close_pair(&p);
}

static void a_gone_peer_is_an_error_of_send(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    close(p.peer);
    p.peer = -1;
    assert_int_equal(send_text(&p.end.stream, "a", "b"), PST_E_IO);
    assert_true(p.end.stream.send_broken);
    assert_int_equal(send_text(&p.end.stream, "a", "b"), PST_E_IO);
    close_pair(&p);
}

/* ---- listener and connect ---- */

struct accepted {
    int count, fd;
    struct pst_address peer;
};

static void on_accepted(void *owner, int fd, const struct pst_address *peer)
{
    struct accepted *a = owner;

    if (a->fd >= 0)
        close(a->fd);
    a->fd = fd;
    a->peer = *peer;
    a->count++;
}

static const struct pst_acceptor_ops acceptor_ops = {on_accepted};

static void listen_and_connect(const char *text)
{
    struct pst_worker *worker;
    struct pst_acceptor *acceptor;
    struct pst_address address, bound;
    struct pst_host_port parts;
    struct accepted got = {.fd = -1};
    struct end end = {0};
    int fd;

    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    assert_int_equal(pst_address_parse(pst_bytes_of(text, strlen(text)), &address, &parts), PST_OK);
    assert_int_equal(pst_listen(&address, &fd, &bound, NULL), PST_OK);
    assert_int_equal(pst_acceptor_open(worker, fd, &acceptor_ops, &got, &acceptor), PST_OK);
    enum pst_status status = pst_stream_connect(&end.stream, worker, &ops, &bound);
    assert_true(status == PST_OK || status == PST_PENDING);
    assert_int_equal(send_text(&end.stream, "early", ""), PST_OK); /* before it stands: kept */
    for (int i = 0; i < 10 && (got.count == 0 || (status == PST_PENDING && end.connected == 0));
         i++)
        pst_worker_turn(worker, 100);
    assert_int_equal(got.count, 1);
    for (int i = 0; i < 10 && pst_stream_sending(&end.stream); i++)
        pst_worker_turn(worker, 20);
    char space[8];
    assert_int_equal(read(got.fd, space, sizeof(space)), 5);
    close(got.fd);
    pst_stream_close(&end.stream);
    pst_acceptor_close(acceptor);
    pst_worker_destroy(worker);
}

static void tcp_and_unix(void **state)
{
    char path[] = "/tmp/postern-test-XXXXXX", text[64] = "unix:";
    (void)state;

    listen_and_connect("127.0.0.1:0");
    assert_non_null(mkdtemp(path));
    memcpy(text + 5, path, sizeof(path) - 1);
    memcpy(text + 5 + sizeof(path) - 1, "/s", 3);
    listen_and_connect(text);
    listen_and_connect(text); /* the socket file of one that is gone is replaced */
    unlink(text + 5);
    rmdir(path);
}

static void refused_is_told(void **state)
{
    struct pst_worker *worker;
    struct pst_address address, bound;
    struct pst_host_port parts;
    struct end end = {0};
    int fd;
    (void)state;

    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    assert_int_equal(pst_address_parse(PST_LIT("127.0.0.1:0"), &address, &parts), PST_OK);
    assert_int_equal(pst_listen(&address, &fd, &bound, NULL), PST_OK);
    close(fd);
    if (pst_stream_connect(&end.stream, worker, &ops, &bound) == PST_PENDING) {
        for (int i = 0; i < 10 && end.connected == 0; i++)
            pst_worker_turn(worker, 100);
        assert_int_equal(end.connected, 1);
        assert_true(end.stream.broken);
    }
    pst_stream_close(&end.stream);
    pst_worker_destroy(worker);
}

/* Out of descriptors: the client is told at once, and the loop does not spin. */
static void sheds_when_descriptors_run_out(void **state)
{
    struct pst_worker *worker;
    struct pst_acceptor *acceptor;
    struct pst_address address, bound;
    struct pst_host_port parts;
    struct accepted got = {.fd = -1};
    struct rlimit before, tight;
    int fd;
    (void)state;

    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    assert_int_equal(pst_address_parse(PST_LIT("127.0.0.1:0"), &address, &parts), PST_OK);
    assert_int_equal(pst_listen(&address, &fd, &bound, NULL), PST_OK);
    assert_int_equal(pst_acceptor_open(worker, fd, &acceptor_ops, &got, &acceptor), PST_OK);
    int client = socket(AF_INET, SOCK_STREAM, 0), second = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, &bound.sa.any, bound.len), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)second + 1; /* every lower number is taken */
    int probe = dup(client);
    if (probe >= 0 && (rlim_t)probe < tight.rlim_cur)
        fail_msg("descriptors are not dense");
    close(probe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    pst_worker_turn(worker, 200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(got.count, 0);
    char byte;
    assert_true(recv(client, &byte, 1, 0) <= 0);
    assert_int_equal(connect(second, &bound.sa.any, bound.len), 0);
    for (int i = 0; i < 20 && got.count == 0; i++)
        pst_worker_turn(worker, 100); /* after a rest it accepts again */
    assert_int_equal(got.count, 1);
    close(client);
    close(second);
    close(got.fd);
    pst_acceptor_close(acceptor);
    pst_worker_destroy(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_comes_and_holds_nothing_when_idle),
        cmocka_unit_test(end_and_pause),
        cmocka_unit_test(keeps_what_the_kernel_does_not_take),
        cmocka_unit_test(a_gone_peer_is_an_error_of_send),
        cmocka_unit_test(tcp_and_unix),
        cmocka_unit_test(refused_is_told),
        cmocka_unit_test(sheds_when_descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
