/* net/fetch: what it takes from a server, against a scripted one over real TLS on loopback. */
#include "../test.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/net/fetch.h"

/* --- certificates --- */

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
    char file[64];
};

static X509 *certificate_for(EVP_PKEY *key, const char *name, const char *san,
                             const struct authority *by, long from_s, long to_s)
{
    X509 *x = X509_new();
    X509V3_CTX v3;
    X509_NAME *subject = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), by == NULL ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, by == NULL ? subject : X509_get_subject_name(by->certificate));
    X509_set_pubkey(x, key);
    X509V3_set_ctx(&v3, by == NULL ? x : by->certificate, x, NULL, NULL, 0);
    X509_EXTENSION *e =
        X509V3_EXT_conf_nid(NULL, &v3, by == NULL ? NID_basic_constraints : NID_subject_alt_name,
                            by == NULL ? "critical,CA:TRUE" : san);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, by == NULL ? key : by->key, EVP_sha256()) > 0);
    return x;
}

static struct authority authority_new(void)
{
    struct authority a = {.key = EVP_EC_gen("prime256v1"), .file = "/tmp/postern-test-ca-XXXXXX"};

    a.certificate = certificate_for(a.key, "test authority", NULL, NULL, -3600, 3600);
    int fd = mkstemp(a.file);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    PEM_write_X509(f, a.certificate);
    fclose(f);
    return a;
}

static void authority_free(struct authority *a)
{
    unlink(a->file);
    X509_free(a->certificate);
    EVP_PKEY_free(a->key);
}

/* --- the server --- */

struct server {
    pthread_t thread;
    SSL_CTX *tls;
    int listener;
    uint16_t port;
    _Atomic bool stop;
    _Atomic uint32_t connections;
};

static void send_text(SSL *ssl, const char *text)
{
    (void)SSL_write(ssl, text, (int)strlen(text));
}

/* Goes on until the client has had enough. */
static void send_for_ever(struct server *s, SSL *ssl, const char *piece, size_t piece_len,
                          unsigned pause_us)
{
    while (!atomic_load(&s->stop) && SSL_write(ssl, piece, (int)piece_len) > 0)
        if (pause_us > 0)
            usleep(pause_us);
}

static void answer(struct server *s, SSL *ssl, const char *head)
{
    char spaces[16384];

    memset(spaces, ' ', sizeof(spaces));
    if (strncmp(head, "GET /ok ", 8) == 0) {
        if (strstr(head, "If-None-Match: \"v1\"") != NULL)
            send_text(
                ssl,
                "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=90\r\n\r\n");
        else
            send_text(ssl,
                      "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nCache-Control: public, max-age=60\r\n"
                      "Content-Length: 11\r\n\r\n{\"keys\":[]}");
    } else if (strncmp(head, "GET /redirect ", 14) == 0) {
        send_text(ssl, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
    } else if (strncmp(head, "GET /error ", 11) == 0) {
        send_text(ssl, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    } else if (strncmp(head, "GET /long ", 10) == 0) {
        send_text(ssl, "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n");
        for (int i = 0; i < 65; i++)
            if (SSL_write(ssl, spaces, sizeof(spaces)) <= 0)
                return;
    } else if (strncmp(head, "GET /endless ", 13) == 0) {
        send_text(ssl, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[");
        send_for_ever(s, ssl, spaces, sizeof(spaces), 0);
    } else if (strncmp(head, "GET /cut ", 9) == 0) {
        send_text(ssl, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":[");
    } else if (strncmp(head, "GET /heads ", 11) == 0) {
        send_text(ssl, "HTTP/1.1 200 OK\r\n");
        send_for_ever(s, ssl, "X-Filler: ffffffffffffffffffffffffffffff\r\n", 42, 0);
    } else if (strncmp(head, "GET /drip ", 10) == 0) {
        send_text(ssl, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        send_for_ever(s, ssl, " ", 1, 20000);
    } else { /* /silent */
        while (!atomic_load(&s->stop) && SSL_pending(ssl) == 0 && usleep(20000) == 0)
            if (poll(&(struct pollfd){.fd = SSL_get_fd(ssl), .events = POLLIN}, 1, 0) > 0)
                return; /* the client has gone */
    }
}

static void serve_one(struct server *s, int fd)
{
    char head[2048];
    SSL *ssl = SSL_new(s->tls);

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        int n = SSL_read(ssl, head, sizeof(head) - 1);
        if (n > 0) {
            head[n] = '\0';
            answer(s, ssl, head);
            SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
    close(fd);
}

static void *serve(void *arg)
{
    struct server *s = arg;

    while (!atomic_load(&s->stop)) {
        struct pollfd p = {.fd = s->listener, .events = POLLIN};
        if (poll(&p, 1, 50) <= 0)
            continue;
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&s->connections, 1);
        serve_one(s, fd);
    }
    return NULL;
}

static void server_start(struct server *s, const struct authority *by, const char *san, long to_s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    EVP_PKEY *key = EVP_EC_gen("prime256v1");
    X509 *certificate = certificate_for(key, "test server", san, by, -7200, to_s);

    *s = (struct server){.tls = SSL_CTX_new(TLS_server_method()),
                         .listener = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(SSL_CTX_use_certificate(s->tls, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->tls, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
    close(s->listener);
    SSL_CTX_free(s->tls);
}

/* --- what all tests have --- */

static struct authority authority;
static struct server server;
static struct pst_cidr loopback;

static int set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* clients go away in the middle of an answer */
    authority = authority_new();
    server_start(&server, &authority, "IP:127.0.0.1", 3600);
    return pst_cidr_parse(PST_LIT("127.0.0.0/8"), &loopback) == PST_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    server_stop(&server);
    authority_free(&authority);
    return 0;
}

static char url[128];

static struct pst_fetch_request request_for(const char *host, uint16_t port, const char *path)
{
    int n = snprintf(url, sizeof(url), "https://%s:%u%s", host, port, path);

    return (struct pst_fetch_request){
        .url = pst_bytes_of(url, (size_t)n),
        .ca_file = authority.file,
        .allow = &loopback,
        .allow_count = 1,
        .max_bytes = 1048576,
        .timeout_ms = 5000,
    };
}

static struct pst_fetch_response get(const char *path)
{
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, path);
    struct pst_fetch_response response;

    pst_fetch_run(&request, &response);
    return response;
}

static void gives_body_and_the_fields_of_caching(void **state)
{
    (void)state;
    struct pst_fetch_response r = get("/ok");

    assert_int_equal(r.status, PST_OK);
    assert_int_equal(r.http_status, 200);
    assert_true(pst_bytes_equal(r.body, PST_LIT("{\"keys\":[]}")));
    assert_true(pst_bytes_equal(r.etag, PST_LIT("\"v1\"")));
    assert_true(pst_bytes_equal(r.cache_control, PST_LIT("public, max-age=60")));
    pst_fetch_response_fini(&r);
}

static void asks_whether_it_has_changed(void **state)
{
    (void)state;
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/ok");
    struct pst_fetch_response r;

    request.etag = PST_LIT("\"v1\"");
    pst_fetch_run(&request, &r);
    assert_int_equal(r.status, PST_OK);
    assert_int_equal(r.http_status, 304);
    assert_int_equal(r.body.len, 0);
    assert_true(pst_bytes_equal(r.cache_control, PST_LIT("max-age=90")));
    pst_fetch_response_fini(&r);

    request.etag = PST_LIT("a\r\nX: y"); /* would be a field of its own */
    pst_fetch_run(&request, &r);
    assert_int_equal(r.status, PST_E_INVALID);
    pst_fetch_response_fini(&r);
}

static void a_redirect_is_told_not_followed(void **state)
{
    (void)state;
    uint32_t before = atomic_load(&server.connections);
    struct pst_fetch_response r = get("/redirect");

    assert_int_equal(r.status, PST_OK);
    assert_int_equal(r.http_status, 302);
    assert_int_equal(atomic_load(&server.connections), before + 1);
    pst_fetch_response_fini(&r);
    r = get("/error");
    assert_int_equal(r.http_status, 500);
    pst_fetch_response_fini(&r);
}

static void an_answer_is_bounded_and_whole(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum pst_status status;
    } cases[] = {{"/long", PST_E_LIMIT},
                 {"/endless", PST_E_LIMIT},
                 {"/heads", PST_E_LIMIT},
                 {"/cut", PST_E_IO}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_fetch_response r = get(cases[i].path);
        assert_int_equal(r.status, cases[i].status);
        assert_int_equal(r.body.len, 0);
        assert_true(r.failure[0] != '\0');
        pst_fetch_response_fini(&r);
    }
}

static void time_is_bounded_from_end_to_end(void **state)
{
    (void)state;
    static const char *const paths[] = {"/silent", "/drip"};

    for (size_t i = 0; i < 2; i++) {
        struct pst_fetch_request request = request_for("127.0.0.1", server.port, paths[i]);
        struct pst_fetch_response r;
        request.timeout_ms = 300;
        uint64_t from = pst_clock_boot_ns();
        pst_fetch_run(&request, &r);
        assert_int_equal(r.status, PST_E_IO);
        assert_true(pst_clock_boot_ns() - from <
                    3 * PST_NS_PER_S); /* a busy machine has its time, too */
        pst_fetch_response_fini(&r);
    }
}

static enum pst_status status_of(const struct pst_fetch_request *request)
{
    struct pst_fetch_response r;

    pst_fetch_run(request, &r);
    enum pst_status status = r.status;
    pst_fetch_response_fini(&r);
    return status;
}

static void the_certificate_must_hold(void **state)
{
    (void)state;
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/ok");
    struct authority other = authority_new();
    struct server expired, misnamed;

    request.ca_file = NULL; /* the system does not know our authority */
    assert_int_equal(status_of(&request), PST_E_IO);
    request.ca_file = other.file;
    assert_int_equal(status_of(&request), PST_E_IO);
    authority_free(&other);

    server_start(&expired, &authority, "IP:127.0.0.1", -3600);
    request = request_for("127.0.0.1", expired.port, "/ok");
    assert_int_equal(status_of(&request), PST_E_IO);
    server_stop(&expired);

    server_start(&misnamed, &authority, "IP:127.0.0.2,DNS:idp.example", 3600);
    request = request_for("127.0.0.1", misnamed.port, "/ok");
    assert_int_equal(status_of(&request), PST_E_IO);
    server_stop(&misnamed);
}

static void an_unlisted_loopback_is_never_connected_to(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1",  "localhost", "[::ffff:127.0.0.1]",
                                        "2130706433", "0x7f.1",    "0"};
    uint32_t before = atomic_load(&server.connections);

    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct pst_fetch_request request = request_for(hosts[i], server.port, "/ok");
        request.allow_count = 0;
        assert_int_not_equal(status_of(&request), PST_OK);
    }
    assert_int_equal(atomic_load(&server.connections), before);
}

static void only_plain_https_urls_are_asked(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://127.0.0.1/",
                                       "file:///etc/passwd",
                                       "https://",
                                       "",
                                       "https://user:secret@127.0.0.1/",
                                       "https://127.0.0.1/\r\nX: y"};
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/ok");

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        request.url = pst_bytes_of(urls[i], strlen(urls[i]));
        assert_int_not_equal(status_of(&request), PST_OK);
    }
}

static bool is_ok(const char *text, const struct pst_cidr *allow, uint32_t count)
{
    struct pst_address address;
    struct pst_host_port parts;

    assert_int_equal(pst_address_parse(pst_bytes_of(text, strlen(text)), &address, &parts), PST_OK);
    return pst_fetch_address_ok(&address, allow, count);
}

static void special_addresses_are_known(void **state)
{
    (void)state;
    static const char *const special[] = {
        "127.0.0.1:1",       "127.255.255.255:1",    "10.1.2.3:1",           "172.16.0.1:1",
        "172.31.255.255:1",  "192.168.0.1:1",        "169.254.169.254:1",    "0.0.0.0:1",
        "100.64.0.1:1",      "224.0.0.1:1",          "255.255.255.255:1",    "[::]:1",
        "[::1]:1",           "[::ffff:127.0.0.1]:1", "[::ffff:a9fe:a9fe]:1", "[fe80::1]:1",
        "[fd00:ec2::254]:1", "[2002:7f00:1::]:1",    "[64:ff9b::7f00:1]:1",  "[ff02::1]:1",
        "[::7f00:1]:1",      "unix:/tmp/x",
    };
    static const char *const ordinary[] = {"8.8.8.8:1", "172.32.0.1:1", "100.128.0.1:1",
                                           "[2606:4700::1]:1", "192.169.0.1:1"};
    struct pst_cidr listed;

    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        if (is_ok(special[i], NULL, 0))
            fail_msg("%s may be connected to", special[i]);
    for (size_t i = 0; i < sizeof(ordinary) / sizeof(ordinary[0]); i++)
        if (!is_ok(ordinary[i], NULL, 0))
            fail_msg("%s may not be connected to", ordinary[i]);
    assert_int_equal(pst_cidr_parse(PST_LIT("10.0.0.0/8"), &listed), PST_OK);
    assert_true(is_ok("10.1.2.3:1", &listed, 1));
    assert_false(is_ok("127.0.0.1:1", &listed, 1));
}

struct tally {
    pthread_mutex_t lock;
    uint32_t good, failed;
    uint64_t tags;
};

static void count_answer(void *ctx, uint64_t tag, const struct pst_fetch_response *response)
{
    struct tally *t = ctx;

    pthread_mutex_lock(&t->lock);
    t->tags |= UINT64_C(1) << tag;
    if (response->status == PST_OK)
        t->good++;
    else
        t->failed++;
    pthread_mutex_unlock(&t->lock);
}

static void every_submitted_request_is_answered_once(void **state)
{
    (void)state;
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/ok");
    struct tally t = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct pst_fetcher *fetcher;
    uint32_t good = 0;

    assert_int_equal(pst_fetcher_create(&fetcher), PST_OK);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(pst_fetcher_submit(fetcher, &request, count_answer, &t, i), PST_OK);
    while (good < 3) {
        usleep(1000);
        pthread_mutex_lock(&t.lock);
        good = t.good + t.failed;
        pthread_mutex_unlock(&t.lock);
    }
    assert_int_equal(t.good, 3);
    for (uint64_t i = 3; i < 9; i++)
        assert_int_equal(pst_fetcher_submit(fetcher, &request, count_answer, &t, i), PST_OK);
    pst_fetcher_destroy(fetcher); /* some are made, the rest is told */
    assert_int_equal(t.good + t.failed, 9);
    assert_int_equal(t.tags, 0x1ff);
    pst_fetcher_destroy(NULL);
}

static void a_silent_server_does_not_hold_up_the_end(void **state)
{
    (void)state;
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/silent");
    struct tally t = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct pst_fetcher *fetcher;

    request.timeout_ms = 60000;
    assert_int_equal(pst_fetcher_create(&fetcher), PST_OK);
    assert_int_equal(pst_fetcher_submit(fetcher, &request, count_answer, &t, 0), PST_OK);
    usleep(200000);
    uint64_t asked_ns = pst_clock_boot_ns();
    pst_fetcher_destroy(fetcher);
    assert_true(pst_clock_boot_ns() - asked_ns < 5 * PST_NS_PER_S);
    assert_int_equal(t.good, 0);
    assert_int_equal(t.failed, 1);
}

/* One issuer's server that hangs must not keep another issuer's keys away. */
static void a_silent_server_does_not_hold_up_the_others(void **state)
{
    (void)state;
    struct server other;
    struct tally silent = {.lock = PTHREAD_MUTEX_INITIALIZER},
                 quick = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct pst_fetcher *fetcher;
    uint32_t good = 0;

    server_start(&other, &authority, "IP:127.0.0.1", 3600);
    assert_int_equal(pst_fetcher_create(&fetcher), PST_OK);
    struct pst_fetch_request request = request_for("127.0.0.1", server.port, "/silent");
    request.timeout_ms = 60000;
    assert_int_equal(pst_fetcher_submit(fetcher, &request, count_answer, &silent, 0), PST_OK);
    request = request_for("127.0.0.1", other.port, "/ok");
    for (uint64_t i = 0; i < 8; i++) /* also those that find no thread of their own */
        assert_int_equal(pst_fetcher_submit(fetcher, &request, count_answer, &quick, i), PST_OK);
    for (unsigned i = 0; i < 20000 && good < 8; i++) {
        usleep(1000);
        pthread_mutex_lock(&quick.lock);
        good = quick.good;
        pthread_mutex_unlock(&quick.lock);
    }
    assert_int_equal(good, 8);
    pst_fetcher_destroy(fetcher);
    assert_int_equal(silent.failed, 1);
    server_stop(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_body_and_the_fields_of_caching),
        cmocka_unit_test(asks_whether_it_has_changed),
        cmocka_unit_test(a_redirect_is_told_not_followed),
        cmocka_unit_test(an_answer_is_bounded_and_whole),
        cmocka_unit_test(time_is_bounded_from_end_to_end),
        cmocka_unit_test(the_certificate_must_hold),
        cmocka_unit_test(an_unlisted_loopback_is_never_connected_to),
        cmocka_unit_test(only_plain_https_urls_are_asked),
        cmocka_unit_test(special_addresses_are_known),
        cmocka_unit_test(every_submitted_request_is_answered_once),
        cmocka_unit_test(a_silent_server_does_not_hold_up_the_end),
        cmocka_unit_test(a_silent_server_does_not_hold_up_the_others),
    };
    return cmocka_run_group_tests_name("net/fetch", tests, set_up, tear_down);
}
