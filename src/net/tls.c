/*
 *   socket --recv--> in (memory) --SSL_read--> stream's `in`
 *   socket <--send or `out`-- out (memory) <--SSL_write-- owner's pieces
 *
 * I1  `out` of OpenSSL is empty whenever a function of this file returns: all of it was sent, or
 *     kept by the stream.
 * I2  At most two recvs' worth of records wait in `in`: nothing more is received before one was
 * read.
 */
#include "postern/net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "stream_internal.h"

#define SEALED_BYTES 16384

struct pst_tls_client {
    SSL_CTX *context;
};

struct pst_tls {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    bool handshaking;
    bool ended; /* the socket has nothing more to say; `in` may have */
    const char *failure;
};

/* ---- the client's context ---- */

static const char *openssl_reason(void)
{
    unsigned long error = ERR_get_error();
    const char *reason = ERR_SYSTEM_ERROR(error) ? strerrordesc_np(ERR_GET_REASON(error))
                                                 : ERR_reason_error_string(error);

    return reason == NULL ? "TLS failed" : reason;
}

static enum pst_status load_files(SSL_CTX *context, const struct pst_tls_config *config,
                                  struct pst_error *error)
{
    ERR_clear_error();
    if (config->ca_file.len > 0) {
        if (SSL_CTX_load_verify_file(context, config->ca_file.ptr) != 1)
            return pst_error_set(error, PST_E_INVALID, config->ca_file.ptr,
                                 "no certificates of authorities: %s", openssl_reason());
    } else if (SSL_CTX_set_default_verify_paths(context) != 1) {
        return pst_error_set(error, PST_E_IO, NULL, "the system's certificates: %s",
                             openssl_reason());
    }
    if (config->cert_file.len == 0)
        return PST_OK;
    if (SSL_CTX_use_certificate_chain_file(context, config->cert_file.ptr) != 1)
        return pst_error_set(error, PST_E_INVALID, config->cert_file.ptr, "no certificate: %s",
                             openssl_reason());
    const char *key = config->key_file.len > 0 ? config->key_file.ptr : config->cert_file.ptr;
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return pst_error_set(error, PST_E_INVALID, key, "no key of the certificate: %s",
                             openssl_reason());
    return PST_OK;
}

/* A key with a pass phrase is not asked for at a terminal. */
static int no_pass_phrase(char *out, int size, int writing, void *ctx)
{
    (void)out, (void)size, (void)writing, (void)ctx;
    return -1;
}

enum pst_status pst_tls_client_create(const struct pst_tls_config *config,
                                      struct pst_tls_client **out, struct pst_error *error)
{
    struct pst_tls_client *client = *out = calloc(1, sizeof(*client));

    if (client != NULL)
        client->context = SSL_CTX_new(TLS_client_method());
    if (client == NULL || client->context == NULL ||
        SSL_CTX_set_min_proto_version(client->context, TLS1_2_VERSION) != 1) {
        pst_tls_client_destroy(client);
        *out = NULL;
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    }
    SSL_CTX_set_default_passwd_cb(client->context, no_pass_phrase);
    SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_options(client->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(client->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(client->context, SSL_MODE_RELEASE_BUFFERS);
    enum pst_status status = load_files(client->context, config, error);
    if (status != PST_OK) {
        pst_tls_client_destroy(client);
        *out = NULL;
    }
    return status;
}

void pst_tls_client_destroy(struct pst_tls_client *client)
{
    if (client == NULL)
        return;
    SSL_CTX_free(client->context);
    free(client);
}

/* ---- sending ---- */

static enum pst_status send_records(struct pst_stream *s)
{
    char *data = NULL;
    long len = BIO_get_mem_data(s->tls_->out, &data);
    struct iovec piece = {data, len > 0 ? (size_t)len : 0};

    if (len <= 0)
        return PST_OK;
    enum pst_status status = pst_stream_send_raw_(s, &piece, 1);
    (void)BIO_reset(s->tls_->out);
    return status;
}

enum pst_status pst_tls_send_(struct pst_stream *s, const struct iovec *pieces, int count)
{
    if (s->fd < 0 || s->send_broken)
        return PST_E_IO;
    if (s->connecting || s->tls_->handshaking)
        return PST_E_BUSY;
    for (int i = 0; i < count; i++) {
        size_t written;
        if (pieces[i].iov_len == 0)
            continue;
        ERR_clear_error();
        if (SSL_write_ex(s->tls_->ssl, pieces[i].iov_base, pieces[i].iov_len, &written) != 1) {
            s->send_broken = true; /* into memory: nothing but lack of it, or a dead session */
            return PST_E_IO;
        }
    }
    return send_records(s);
}

void pst_tls_finish_(struct pst_stream *s)
{
    if (s->tls_->handshaking || s->send_broken)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(s->tls_->ssl);
    if (send_records(s) != PST_OK)
        s->send_broken = true;
}

/* ---- the handshake ---- */

static void end_handshake(struct pst_stream *s, const char *failure)
{
    s->tls_->handshaking = false;
    s->tls_->failure = failure;
    if (failure != NULL)
        pst_stream_break_(s);
    s->ops->connected(s);
}

static void shake_hands(struct pst_stream *s)
{
    struct pst_tls *tls = s->tls_;

    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    int why = SSL_get_error(tls->ssl, done);
    long verified = SSL_get_verify_result(tls->ssl);
    const char *failure = NULL;
    if (done != 1 && why != SSL_ERROR_WANT_READ)
        failure =
            verified != X509_V_OK ? X509_verify_cert_error_string(verified) : openssl_reason();
    if (send_records(s) != PST_OK && failure == NULL) /* an alert, too, is sent */
        failure = "the connection ended in the handshake";
    if (done == 1 || failure != NULL)
        end_handshake(s, failure);
}

void pst_tls_begin_(struct pst_stream *s)
{
    shake_hands(s);
}

/* ---- reading ---- */

/* True when the stream has something to tell. */
static bool open_records(struct pst_stream *s)
{
    struct pst_tls *tls = s->tls_;
    bool news = false;

    for (;;) {
        size_t n = 0;
        if (!pst_stream_room_(s)) {
            if (s->in.data == NULL)
                pst_stream_break_(s); /* no memory for one block: this connection ends */
            else
                pst_stream_pause(s);
            return news || s->broken;
        }
        ERR_clear_error();
        int ok = SSL_read_ex(tls->ssl, s->in.data + s->in.end, s->in.cap - s->in.end, &n);
        int why = SSL_get_error(tls->ssl, ok);
        if (ok == 1) {
            s->in.end += n;
            news = true;
            continue;
        }
        if (why == SSL_ERROR_ZERO_RETURN) {
            s->eof = true;
            pst_stream_set_reading_(s, false);
        } else if (why != SSL_ERROR_WANT_READ) {
            pst_stream_break_(s);
        }
        break;
    }
    if (!s->broken && send_records(s) != PST_OK) /* an answer to a change of keys */
        s->send_broken = true;
    if (s->in.end == 0)
        pst_stream_drop_in_(s);
    return news || s->eof || s->broken;
}

static void receive(struct pst_stream *s)
{
    char sealed[SEALED_BYTES];

    if (s->tls_->ended || BIO_ctrl_pending(s->tls_->in) >= SEALED_BYTES)
        return; /* I2 */
    ssize_t n = recv(s->fd, sealed, sizeof(sealed), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || BIO_write(s->tls_->in, sealed, (int)n) != (int)n) {
        s->tls_->ended = true;
        return;
    }
    s->received += (uint64_t)n;
}

bool pst_tls_read_(struct pst_stream *s)
{
    struct pst_tls *tls = s->tls_;

    receive(s);
    if (tls->handshaking) {
        shake_hands(s);
        if (s->fd < 0 || s->tls_ != tls)
            return false; /* `connected` closed it */
        if (tls->handshaking && tls->ended)
            end_handshake(s, "the connection ended in the handshake");
        if (s->fd < 0 || s->tls_ != tls || tls->handshaking || s->broken)
            return false;
    }
    bool news = open_records(s);
    if (tls->ended && !s->eof && !s->broken && !s->paused) {
        pst_stream_break_(s); /* no close_notify: something may have been cut off */
        news = true;
    }
    return news;
}

bool pst_tls_pending_(const struct pst_stream *s)
{
    return !s->tls_->handshaking &&
           (s->tls_->ended || SSL_pending(s->tls_->ssl) > 0 || BIO_ctrl_pending(s->tls_->in) > 0);
}

/* ---- life ---- */

void pst_tls_free_(struct pst_stream *s)
{
    SSL_free(s->tls_->ssl);
    free(s->tls_);
    s->tls_ = NULL;
}

static bool is_ip(const char *text)
{
    unsigned char space[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, space) == 1 || inet_pton(AF_INET6, text, space) == 1;
}

static bool name_peer(SSL *ssl, const char *name)
{
    if (name[0] == '\0')
        return false; /* OpenSSL would take any name */
    if (is_ip(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 &&
           SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                    (void *)(uintptr_t)name) == 1;
}

static struct pst_tls *new_session(struct pst_tls_client *client, const char *name)
{
    struct pst_tls *tls = calloc(1, sizeof(*tls));
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    if (tls != NULL)
        tls->ssl = SSL_new(client->context);
    if (tls == NULL || in == NULL || out == NULL || tls->ssl == NULL) {
        BIO_free(in);
        BIO_free(out);
        if (tls != NULL)
            SSL_free(tls->ssl);
        free(tls);
        return NULL;
    }
    tls->in = in;
    tls->out = out;
    SSL_set_bio(tls->ssl, in, out);
    SSL_set_connect_state(tls->ssl);
    tls->handshaking = true;
    if (!name_peer(tls->ssl, name)) {
        SSL_free(tls->ssl);
        free(tls);
        return NULL;
    }
    return tls;
}

enum pst_status pst_stream_connect_tls(struct pst_stream *stream, struct pst_worker *worker,
                                       const struct pst_stream_ops *ops,
                                       const struct pst_address *address,
                                       struct pst_tls_client *client, const char *server_name)
{
    struct pst_tls *tls = new_session(client, server_name);

    if (tls == NULL)
        return PST_E_NOMEM;
    enum pst_status status = pst_stream_connect(stream, worker, ops, address);
    if (status != PST_OK && status != PST_PENDING) {
        SSL_free(tls->ssl);
        free(tls);
        return status;
    }
    stream->tls_ = tls;
    if (status == PST_OK) /* a unix socket: on the loop, as if it had taken a while */
        pst_stream_connect_later_(stream);
    return PST_PENDING;
}

const char *pst_stream_tls_failure(const struct pst_stream *stream)
{
    return stream->tls_ == NULL ? NULL : stream->tls_->failure;
}
