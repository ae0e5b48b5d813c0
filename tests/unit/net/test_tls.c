/* A stream with TLS against a server of OpenSSL's own in a child process: what plain streams do,
 * it does. The server echoes, or does what the test names. */
#include "../certs.h"

#include <arpa/inet.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "postern/net/tls.h"

static char dir[] = "/tmp/postern-tls-XXXXXX";
static char ca[64];

enum manner {
    ECHO = 0,  /* until the client ends, then end as well */
    HANG_UP,   /* a few bytes, then the socket without close_notify */
    FULL_END,  /* 256 KiB and a clean end at once */
    FULL_STAY, /* 100 bytes more than a block, and no end */
    OLD_TLS,   /* TLS 1.1 */
    HALF_HELLO /* ends within the handshake */
};

static void serve(SSL *ssl, int fd, enum manner manner)
{
    static char space[256 * 1024];
    int n;

    if (manner == HALF_HELLO) {
        (void)!recv(fd, space, 16, 0);
        return;
    }
    if (SSL_accept(ssl) != 1)
        return;
    if (manner == HANG_UP) {
        SSL_write(ssl, "abc", 3);
        return;
    }
    memset(space, 'f', sizeof(space));
    if (manner == FULL_STAY) {
        SSL_write(ssl, space, PST_BLOCK_BYTES + 100);
        return;
    }
    if (manner == FULL_END) {
        SSL_write(ssl, space, sizeof(space));
        SSL_shutdown(ssl);
        return;
    }
    while ((n = SSL_read(ssl, space, sizeof(space))) > 0)
        SSL_write(ssl, space, n);
    SSL_shutdown(ssl);
}

static void run_server(int listener, enum manner manner)
{
    char path[96];
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    (void)snprintf(path, sizeof(path), "%s/good.pem", dir);
    SSL_CTX_use_certificate_chain_file(context, path);
    (void)snprintf(path, sizeof(path), "%s/good.key", dir);
    SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM);
    if (manner == OLD_TLS) {
        SSL_CTX_set_security_level(context, 0);
        SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
    }
    int fd = accept(listener, NULL, NULL);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    serve(ssl, fd, manner);
    if (manner != HANG_UP && manner != HALF_HELLO)
        (void)!recv(fd, path, 1, 0); /* else unread bytes could turn the end into a reset */
    _exit(0);
}

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
    struct pst_tls_client *client;
    struct end end;
    pid_t server;
};

/* Connects; the handshake is still to be made. */
static void open_pair(struct pair *p, enum manner manner, const char *name)
{
    struct pst_tls_config config = {.ca_file = pst_bytes_of(ca, strlen(ca))};
    struct pst_address to = {.len = sizeof(to.sa.v4)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    memset(p, 0, sizeof(*p));
    to.sa.v4.sin_family = AF_INET;
    to.sa.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, &to.sa.any, to.len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, &to.sa.any, &to.len), 0);
    p->server = fork();
    assert_true(p->server >= 0);
    if (p->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_server(listener, manner);
    }
    close(listener);
    assert_int_equal(pst_worker_create(0, &p->worker), PST_OK);
    assert_int_equal(pst_tls_client_create(&config, &p->client, NULL), PST_OK);
    assert_int_equal(pst_stream_connect_tls(&p->end.stream, p->worker, &ops, &to, p->client, name),
                     PST_PENDING);
    pst_tls_client_destroy(p->client); /* the stream keeps what it needs */
}

static void shake(struct pair *p)
{
    for (int i = 0; i < 500 && p->end.connected == 0; i++)
        pst_worker_turn(p->worker, 20);
    assert_int_equal(p->end.connected, 1);
}

static void close_pair(struct pair *p)
{
    pst_stream_close(&p->end.stream);
    pst_stream_close(&p->end.stream);
    assert_int_equal(p->worker->own.blocks_out, 0);
    pst_worker_destroy(p->worker);
    kill(p->server, SIGKILL);
    waitpid(p->server, NULL, 0);
}

static void big_both_ways_and_a_clean_end(void **state)
{
    struct pair p;
    static char big[1 << 20], got[1 << 20];
    size_t have = 0;
    (void)state;

    open_pair(&p, ECHO, "localhost");
    struct iovec piece = {big, sizeof(big)};
    assert_int_equal(pst_stream_send(&p.end.stream, &piece, 1), PST_E_BUSY); /* not yet */
    shake(&p);
    assert_false(p.end.stream.broken);
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 31 + i / 251);
    struct iovec pieces[2] = {{big, 100}, {big + 100, sizeof(big) - 100}};
    assert_int_equal(pst_stream_send(&p.end.stream, pieces, 2), PST_OK);
    for (int i = 0; i < 5000 && have < sizeof(big); i++) {
        pst_worker_turn(p.worker, 20);
        struct pst_bytes in = pst_stream_in(&p.end.stream);
        assert_true(in.len <= sizeof(got) - have);
        if (in.len == 0)
            continue;
        memcpy(got + have, in.ptr, in.len);
        have += in.len;
        pst_stream_consume(&p.end.stream, in.len);
    }
    assert_int_equal(have, sizeof(big));
    assert_memory_equal(big, got, sizeof(big));
    assert_false(pst_stream_sending(&p.end.stream));
    pst_stream_finish(&p.end.stream);
    for (int i = 0; i < 500 && !p.end.stream.eof; i++)
        pst_worker_turn(p.worker, 20);
    assert_true(p.end.stream.eof);
    assert_false(p.end.stream.broken);
    close_pair(&p);
}

/* The peer's bytes and its end are all received, while the owner takes them slowly: nothing of them
 * is lost, and the loop is not waited for in vain. */
static void a_full_block_loses_nothing(void **state)
{
    struct pair p;
    size_t have = 0;
    (void)state;

    open_pair(&p, FULL_END, "127.0.0.1");
    shake(&p);
    for (int i = 0; i < 100 && !p.end.stream.paused; i++)
        pst_worker_turn(p.worker, 20);
    assert_true(p.end.stream.paused); /* one block is full */
    assert_int_equal(pst_stream_in(&p.end.stream).len, PST_BLOCK_BYTES);
    for (int i = 0; i < 1000 && !p.end.stream.eof; i++) {
        size_t len = pst_stream_in(&p.end.stream).len;
        have += len;
        if (len > 0)
            pst_stream_consume(&p.end.stream, len);
        assert_false(p.end.stream.broken);
        if (p.end.stream.paused)
            pst_stream_resume(&p.end.stream);
        pst_worker_turn(p.worker, 20);
    }
    have += pst_stream_in(&p.end.stream).len;
    assert_int_equal(have, 256 * 1024);
    assert_true(p.end.stream.eof);
    close_pair(&p);
}

/* The rest was received already: the socket will not say that there is more. */
static void what_waits_for_room_comes(void **state)
{
    struct pair p;
    (void)state;

    open_pair(&p, FULL_STAY, "localhost");
    shake(&p);
    usleep(100000); /* all of it has come */
    for (int i = 0; i < 100 && !p.end.stream.paused; i++)
        pst_worker_turn(p.worker, 20);
    assert_int_equal(pst_stream_in(&p.end.stream).len, PST_BLOCK_BYTES);
    pst_stream_consume(&p.end.stream, PST_BLOCK_BYTES);
    pst_stream_resume(&p.end.stream);
    for (int i = 0; i < 50 && pst_stream_in(&p.end.stream).len == 0; i++)
        pst_worker_turn(p.worker, 20);
    assert_int_equal(pst_stream_in(&p.end.stream).len, 100);
    close_pair(&p);
}

static void an_end_without_notice_is_broken(void **state)
{
    struct pair p;
    (void)state;

    open_pair(&p, HANG_UP, "localhost");
    shake(&p);
    for (int i = 0; i < 500 && !p.end.stream.broken; i++)
        pst_worker_turn(p.worker, 20);
    assert_true(p.end.stream.broken);
    assert_false(p.end.stream.eof);
    assert_true(pst_bytes_equal(pst_stream_in(&p.end.stream), PST_LIT("abc")));
    close_pair(&p);
}

static void fails(enum manner manner, const char *name, const char *why)
{
    struct pair p;

    open_pair(&p, manner, name);
    shake(&p);
    assert_true(p.end.stream.broken);
    assert_int_equal(p.end.readable, 0);
    const char *failure = pst_stream_tls_failure(&p.end.stream);
    assert_non_null(failure);
    if (strstr(failure, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", failure, why);
    close_pair(&p);
}

static void handshakes_that_fail(void **state)
{
    (void)state;
    fails(ECHO, "elsewhere.test", "hostname mismatch");
    fails(ECHO, "127.0.0.2", "IP address mismatch");
    fails(ECHO, "local", "hostname mismatch");
    fails(OLD_TLS, "localhost", "");
    fails(HALF_HELLO, "localhost", "ended in the handshake");
}

static void no_name_is_no_connection(void **state)
{
    struct pst_tls_config config = {.ca_file = pst_bytes_of(ca, strlen(ca))};
    struct pst_address to = {.len = sizeof(to.sa.v4)};
    struct pst_tls_client *client;
    struct pst_worker *worker;
    struct end end = {0};
    struct pst_error error = {0};
    (void)state;

    to.sa.v4.sin_family = AF_INET;
    assert_int_equal(pst_worker_create(0, &worker), PST_OK);
    assert_int_equal(pst_tls_client_create(&config, &client, NULL), PST_OK);
    assert_true(pst_stream_connect_tls(&end.stream, worker, &ops, &to, client, "") != PST_PENDING);
    pst_tls_client_destroy(client);
    pst_worker_destroy(worker);
    config.ca_file = PST_LIT("/nonexistent");
    assert_int_equal(pst_tls_client_create(&config, &client, &error), PST_E_INVALID);
    assert_null(client);
    assert_string_equal(error.where, "/nonexistent");
    pst_tls_client_destroy(NULL);
}

static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    make_authority(dir, "ca");
    make_certificate(dir, "ca", "good", "DNS:localhost,IP:127.0.0.1", 2);
    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    return 0;
}

static int stop(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(big_both_ways_and_a_clean_end),
        cmocka_unit_test(a_full_block_loses_nothing),
        cmocka_unit_test(what_waits_for_room_comes),
        cmocka_unit_test(an_end_without_notice_is_broken),
        cmocka_unit_test(handshakes_that_fail),
        cmocka_unit_test(no_name_is_no_connection),
    };
    return cmocka_run_group_tests_name("net/tls", tests, start, stop);
}
