/* Streams over socket pairs, the loop turned by hand: what one turn does is seen exactly. */
#include "../test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

/* ---- what is put off to the end of the turn ---- */

static void nothing_has_come(const struct pair *p)
{
    char byte;

    assert_int_equal(read(p->peer, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

static void has_come(const struct pair *p, const char *text)
{
    char got[64];

    assert_int_equal(read(p->peer, got, sizeof(got)), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void what_is_gathered_goes_out_at_the_end_of_the_turn(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    p.end.stream.gathers = true;
    assert_int_equal(send_text(&p.end.stream, "a", "b"), PST_OK);
    assert_int_equal(send_text(&p.end.stream, "c", ""), PST_OK);
    assert_int_equal(p.end.stream.sent, 3);
    assert_false(pst_stream_sending(&p.end.stream)); /* whoever sent need not wait */
    nothing_has_come(&p);
    pst_worker_turn(p.worker, 0);
    has_come(&p, "abc");
    assert_int_equal(p.end.drained, 0);
    assert_int_equal(p.worker->own.blocks_out, 0);
    pst_worker_turn(p.worker, 0);
    nothing_has_come(&p);
    close_pair(&p);
}

static void what_is_written_in_place_is_gathered_too(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    assert_null(pst_stream_room(&p.end.stream, 3)); /* it does not gather */
    p.end.stream.gathers = true;
    assert_int_equal(send_text(&p.end.stream, "a", "b"), PST_OK);
    assert_null(pst_stream_room(&p.end.stream, PST_BLOCK_BYTES));
    char *room = pst_stream_room(&p.end.stream, 8);
    assert_non_null(room);
    memcpy(room, "cd", 2);
    pst_stream_commit(&p.end.stream, 2);
    assert_int_equal(send_text(&p.end.stream, "e", ""), PST_OK);
    assert_int_equal(p.end.stream.sent, 5);
    nothing_has_come(&p);
    pst_worker_turn(p.worker, 0);
    has_come(&p, "abcde");

    assert_non_null(pst_stream_room(&p.end.stream, 8)); /* and nothing came of it */
    pst_stream_commit(&p.end.stream, 0);
    pst_worker_turn(p.worker, 0);
    nothing_has_come(&p);
    assert_int_equal(p.worker->own.blocks_out, 0);
    close_pair(&p);
}

static void what_is_gathered_goes_before_what_comes_later(void **state)
{
    struct pair p;
    static char big[8192], got[8192 + 1];
    struct iovec piece = {big, sizeof(big)};
    (void)state;
    open_pair(&p);
    p.end.stream.gathers = true;
    assert_int_equal(send_text(&p.end.stream, "a", ""), PST_OK);
    assert_int_equal(pst_stream_send(&p.end.stream, &piece, 1),
                     PST_OK); /* too much to be put off */
    assert_int_equal(read(p.peer, got, sizeof(got)), sizeof(got));
    assert_int_equal(got[0], 'a');
    assert_int_equal(send_text(&p.end.stream, "b", ""), PST_OK);
    pst_stream_finish(&p.end.stream);
    nothing_has_come(&p);
    pst_worker_turn(p.worker, 0);
    has_come(&p, "b");
    assert_int_equal(read(p.peer, got, 1), 0); /* and the end behind it */
    pst_worker_turn(p.worker, 0);
    close_pair(&p);

    open_pair(&p);
    p.end.stream.gathers = true;
    assert_int_equal(send_text(&p.end.stream, "last", ""), PST_OK);
    pst_stream_close(&p.end.stream);
    has_come(&p, "last");
    pst_worker_turn(p.worker, 0);
    close_pair(&p);
}

static void what_is_gathered_can_be_taken_back(void **state)
{
    struct pair p;
    (void)state;
    open_pair(&p);
    p.end.stream.gathers = true;
    assert_int_equal(send_text(&p.end.stream, "a", ""), PST_OK);
    pst_worker_turn(p.worker, 0);
    assert_int_equal(send_text(&p.end.stream, "bc", ""), PST_OK);
    assert_int_equal(p.end.stream.sent, 3);
    assert_int_equal(pst_stream_taken(&p.end.stream), 1);
    pst_stream_take_back(&p.end.stream);
    assert_int_equal(p.end.stream.sent, 1);
    assert_int_equal(p.worker->own.blocks_out, 0);
    pst_worker_turn(p.worker, 0);
    has_come(&p, "a");
    nothing_has_come(&p);
    pst_stream_take_back(&p.end.stream); /* nothing to take back is allowed */
    assert_int_equal(send_text(&p.end.stream, "d", ""), PST_OK);
    pst_worker_turn(p.worker, 0);
    has_come(&p, "d");
    close_pair(&p);
}

static void what_is_gathered_and_not_taken_is_told(void **state)
{
    struct pair p;
    static char big[4096], got[1 << 20];
    struct iovec piece = {big, sizeof(big)};
    uint64_t have = 0;
    (void)state;
    open_pair(&p);
    p.end.stream.gathers = true;
    while (p.end.drained == 0) { /* a turn each, until the kernel has enough */
        assert_false(pst_stream_sending(&p.end.stream));
        assert_int_equal(pst_stream_send(&p.end.stream, &piece, 1), PST_OK);
        pst_worker_turn(p.worker, 0);
    }
    assert_true(pst_stream_sending(&p.end.stream));
    assert_true(p.end.stream.stalled_ns != 0);
    for (ssize_t n; (n = read(p.peer, got, sizeof(got))) > 0;) {
        have += (uint64_t)n;
        pst_worker_turn(p.worker, 0);
    }
    assert_int_equal(p.end.drained, 2);
    assert_false(pst_stream_sending(&p.end.stream));
    assert_int_equal(p.end.stream.sent, have);
    assert_int_equal(have % sizeof(big), 0);

    assert_int_equal(send_text(&p.end.stream, "x", ""), PST_OK);
    close(p.peer);
    p.peer = -1;
    pst_worker_turn(p.worker, 0);
    assert_true(p.end.stream.send_broken);
    assert_int_equal(p.end.drained, 3);
    assert_int_equal(p.end.stream.sent, have);
    close_pair(&p);
}

static struct end *other;
static size_t other_had;

static void look_at_the_other(struct pst_stream *s)
{
    if (s != &other->stream) {
        other_had = pst_stream_in(&other->stream).len;
        assert_int_equal(pst_stream_has_news(&other->stream), other->readable == 0);
    }
    on_readable(s);
}

static void all_that_is_ready_is_read_before_anybody_is_told(void **state)
{
    static const struct pst_stream_ops looks = {look_at_the_other, on_drained, on_connected};
    struct pair p;
    struct end second;
    int fds[2];
    (void)state;
    open_pair(&p);
    memset(&second, 0, sizeof(second));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(pst_stream_open(&second.stream, p.worker, &looks, fds[0]), PST_OK);
    p.end.stream.ops = &looks;
    for (int i = 0; i < 2; i++) { /* whichever is told first */
        other = i == 0 ? &p.end : &second;
        p.end.readable = second.readable = 0;
        other_had = 0;
        assert_int_equal(write(p.peer, "abc", 3), 3);
        assert_int_equal(write(fds[1], "abc", 3), 3);
        pst_worker_turn(p.worker, 100);
        assert_int_equal(other_had, 3);
        assert_int_equal(p.end.readable + second.readable, 2);
        pst_stream_consume(&p.end.stream, 3);
        pst_stream_consume(&second.stream, 3);
    }
    pst_stream_close(&second.stream);
    close(fds[1]);
    close_pair(&p);
}

static uint32_t most_blocks;

static void consume_all(struct pst_stream *s)
{
    if (s->worker->own.blocks_out > most_blocks)
        most_blocks = s->worker->own.blocks_out;
    pst_stream_consume(s, pst_stream_in(s).len);
    on_readable(s);
}

static void a_flood_does_not_take_a_block_for_each(void **state)
{
    enum { MANY = PST_BLOCKS_KEPT + 40, ROUNDS = 12 }; /* the loop looks at more and more at once */
    static const struct pst_stream_ops consumes = {consume_all, on_drained, on_connected};
    static struct end ends[MANY];
    static int fds[MANY][2];
    struct pst_worker *worker;
    (void)state;
    most_blocks = 0;
    memset(ends, 0, sizeof(ends));
    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        assert_int_equal(pst_stream_open(&ends[i].stream, worker, &consumes, fds[i][0]), PST_OK);
    }
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < MANY; i++)
            assert_int_equal(write(fds[i][1], "x", 1), 1);
        for (int turn = 0; turn < 100 && ends[0].readable + ends[MANY - 1].readable < 2 * round;
             turn++)
            pst_worker_turn(worker, 0);
    }
    for (int i = 0; i < 10; i++)
        pst_worker_turn(worker, 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(ends[i].stream.received, ROUNDS);
        pst_stream_close(&ends[i].stream);
        close(fds[i][1]);
    }
    assert_int_equal(worker->own.blocks_out, 0);
    assert_int_equal(most_blocks, PST_BLOCKS_KEPT); /* reached, and not passed */
    pst_worker_destroy(worker);
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

/* A slip in a configuration costs nobody a file. */
static void nothing_else_is_replaced(const char *text)
{
    struct pst_address address;
    struct pst_host_port parts;
    struct stat st;
    int fd;

    FILE *f = fopen(text + 5, "w");
    assert_non_null(f);
    assert_int_equal(fputs("data", f) < 0 || fclose(f) != 0, 0);
    assert_int_equal(pst_address_parse(pst_bytes_of(text, strlen(text)), &address, &parts), PST_OK);
    assert_int_equal(pst_listen(&address, &fd, NULL, NULL), PST_E_IO);
    assert_int_equal(stat(text + 5, &st), 0);
    assert_true(S_ISREG(st.st_mode) && st.st_size == 4);
    unlink(text + 5);
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
    nothing_else_is_replaced(text);
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
        cmocka_unit_test(what_is_gathered_goes_out_at_the_end_of_the_turn),
        cmocka_unit_test(what_is_written_in_place_is_gathered_too),
        cmocka_unit_test(what_is_gathered_goes_before_what_comes_later),
        cmocka_unit_test(what_is_gathered_can_be_taken_back),
        cmocka_unit_test(what_is_gathered_and_not_taken_is_told),
        cmocka_unit_test(all_that_is_ready_is_read_before_anybody_is_told),
        cmocka_unit_test(a_flood_does_not_take_a_block_for_each),
        cmocka_unit_test(a_gone_peer_is_an_error_of_send),
        cmocka_unit_test(tcp_and_unix),
        cmocka_unit_test(refused_is_told),
        cmocka_unit_test(sheds_when_descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
