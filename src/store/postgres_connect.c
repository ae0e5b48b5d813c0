/*
 * Connecting to PostgreSQL: the url, its hosts one after the other, none of them longer than it
 * may.
 *
 * libpq tries several hosts by itself, but in its non-blocking form it has no clock: a first host
 * that is silent would keep it from the second for ever.  So each host is an attempt of its own
 * here, and each address of one that has several (postgres_resolve.c).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "postern/base/buf.h"
#include "postern/base/clock.h"
#include "postgres_internal.h"

#define URL_MAX        2048
#define HOSTS_MAX      16
#define PARAMETERS_MAX 64
#define CONNECT_S      2 /* per host, unless the url's connect_timeout says otherwise, and */
#define SILENCE_S      1 /* without a word of it: or a lease would be back too late when it is */

/* The url as libpq takes it. */
struct target {
    char url[URL_MAX];
    PQconninfoOption *options; /* parsed */
    bool pgbouncer;
    unsigned hosts;
    uint64_t patience_ns, silence_ns; /* per host */
    bool writes;                      /* the store was not opened to read */
    bool chooses; /* the host that is tried has several addresses: perhaps of several servers */
};

static enum pst_status bad_url(struct pst_error *error, const char *why)
{
    return pst_error_set(error, PST_E_INVALID, NULL,
                         "the store's url: %s (postgresql://user@host:port/database?parameters)",
                         why);
}

/* Copies `where` without our own parameter, which libpq would refuse. */
static enum pst_status copy_url(struct pst_bytes where, struct target *t, struct pst_error *error)
{
    struct pst_buf b = pst_buf_of(t->url, sizeof(t->url) - 1);
    size_t mark = pst_bytes_find(where, '?');
    bool first = true;

    pst_buf_lit(&b, "postgresql://");
    pst_buf_put(&b, pst_bytes_of(where.ptr, mark));
    for (struct pst_bytes rest = pst_bytes_from(where, mark); rest.len > 0;) {
        rest = pst_bytes_from(rest, 1); /* ? or & */
        struct pst_bytes one = pst_bytes_of(rest.ptr, pst_bytes_find(rest, '&'));
        rest = pst_bytes_from(rest, one.len);
        if (pst_bytes_starts(one, PST_LIT("pgbouncer="))) {
            t->pgbouncer = pst_bytes_equal(one, PST_LIT("pgbouncer=true"));
            if (!t->pgbouncer && !pst_bytes_equal(one, PST_LIT("pgbouncer=false")))
                return bad_url(error, "pgbouncer is true or false");
            continue;
        }
        pst_buf_char(&b, first ? '?' : '&');
        pst_buf_put(&b, one);
        first = false;
    }
    if (b.full || memchr(where.ptr, '\0', where.len) != NULL)
        return bad_url(error, "it is too long, or holds a NUL");
    t->url[b.len] = '\0';
    return PST_OK;
}

static const char *option(const struct target *t, const char *name)
{
    for (const PQconninfoOption *o = t->options; o->keyword != NULL; o++)
        if (strcmp(o->keyword, name) == 0)
            return o->val;
    return NULL;
}

static unsigned count_items(const char *list)
{
    unsigned count = list == NULL ? 0 : 1;

    for (const char *at = list; at != NULL && *at != '\0'; at++)
        count += *at == ',';
    return count;
}

/* The item of a list; the only one of a list of one. Empty when there is none. */
static struct pst_bytes item_of(const char *list, unsigned index)
{
    struct pst_bytes rest = list == NULL ? PST_LIT("") : pst_bytes_of(list, strlen(list));
    unsigned count = count_items(list);

    for (unsigned i = 0; count > 1 && i < index && rest.len > 0; i++) {
        size_t comma = pst_bytes_find(rest, ',');
        rest = pst_bytes_from(rest, comma < rest.len ? comma + 1 : comma);
    }
    return pst_bytes_of(rest.ptr, pst_bytes_find(rest, ','));
}

/* libpq's own words about a url may quote the password: they are not passed on. */
static enum pst_status read_url(struct pst_bytes where, struct target *t, struct pst_error *error)
{
    char *words = NULL;
    uint64_t seconds = 0;
    enum pst_status status = copy_url(where, t, error);

    if (status != PST_OK)
        return status;
    t->options = PQconninfoParse(t->url, &words);
    PQfreemem(words);
    if (t->options == NULL)
        return bad_url(error, "libpq does not understand it");
    unsigned hosts = count_items(option(t, "host")), addresses = count_items(option(t, "hostaddr"));
    t->hosts = hosts > addresses ? hosts : addresses;
    if (t->hosts == 0)
        t->hosts = 1;
    if (t->hosts > HOSTS_MAX)
        return bad_url(error, "it names too many hosts");
    const char *given = option(t, "connect_timeout");
    if (given != NULL && (!pst_bytes_u63(pst_bytes_of(given, strlen(given)), &seconds) ||
                          seconds < 1 || seconds > 60))
        return bad_url(error, "connect_timeout is 1 to 60 seconds");
    if (t->pgbouncer && option(t, "options") != NULL)
        return bad_url(error, "pgbouncer takes no options");
    t->patience_ns = (seconds == 0 ? CONNECT_S : seconds) * PST_NS_PER_S;
    t->silence_ns = (seconds == 0 ? SILENCE_S : seconds) * PST_NS_PER_S;
    return PST_OK;
}

/* Host `index` of the url, at `address` unless that is NULL. What is copied stands in `room`. */
static PGconn *start(const struct target *t, unsigned index, const char *address, char *room,
                     size_t cap)
{
    const char *keys[PARAMETERS_MAX], *values[PARAMETERS_MAX];
    struct pst_buf b = pst_buf_of(room, cap);
    unsigned n = 0;

    for (const PQconninfoOption *o = t->options; o->keyword != NULL && n < PARAMETERS_MAX - 6;
         o++) {
        if (o->val == NULL)
            continue;
        keys[n] = o->keyword;
        values[n] = o->val;
        if (strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0 ||
            strcmp(o->keyword, "port") == 0) {
            values[n] = room + b.len;
            pst_buf_put(&b, item_of(o->val, index));
            pst_buf_char(&b, '\0');
        }
        n++;
    }
    if ((t->hosts > 1 || t->chooses) && option(t, "target_session_attrs") == NULL) {
        keys[n] = "target_session_attrs"; /* a replica answers, too, and must not be asked */
        values[n++] = "read-write";
    }
    if (option(t, "gssencmode") == NULL) {
        keys[n] = "gssencmode"; /* or Kerberos is looked for before each connection */
        values[n++] = "disable";
    }
    if (address != NULL) {
        keys[n] = "hostaddr"; /* the last one counts */
        values[n++] = address;
    }
    keys[n] = "client_encoding";
    values[n++] = "UTF8";
    keys[n] = "fallback_application_name";
    values[n++] = "postern";
    keys[n] = values[n] = NULL;
    return b.full ? NULL : PQconnectStartParams(keys, values, 0);
}

void pst_pg_line(const char *message, char *out, size_t cap)
{
    struct pst_bytes text = pst_bytes_of(message, strlen(message));
    size_t len = pst_bytes_find(text, '\n');

    if (len > cap - 1)
        len = cap - 1;
    memcpy(out, message, len);
    out[len] = '\0';
}

/* libpq would write them to stderr. */
static void forget_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static enum pst_status connect_one(const struct target *t, PGconn *conn, struct pst_error *error)
{
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    uint64_t heard_ns = pst_clock_boot_ns(), end_ns = heard_ns + t->patience_ns;
    char line[256];

    (void)PQsetNoticeProcessor(conn, forget_notice, NULL);
    while (PQstatus(conn) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
           state != PGRES_POLLING_FAILED) {
        uint64_t now = pst_clock_boot_ns();
        uint64_t until_ns = heard_ns + t->silence_ns < end_ns ? heard_ns + t->silence_ns : end_ns;
        struct pollfd p = {.fd = PQsocket(conn),
                           .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (now >= until_ns)
            return pst_error_set(error, PST_E_IO, NULL,
                                 "the database did not answer a new connection in time");
        if (poll(&p, 1, (int)((until_ns - now) / PST_NS_PER_MS) + 1) > 0) {
            state = PQconnectPoll(conn);
            heard_ns = pst_clock_boot_ns();
        }
    }
    if (PQstatus(conn) == CONNECTION_OK)
        return PST_OK;
    pst_pg_line(PQerrorMessage(conn), line, sizeof(line));
    return pst_error_set(error, PST_E_IO, NULL, "%s", line);
}

static enum pst_status connect_at(const struct target *t, unsigned index, const char *address,
                                  struct pst_backend *b, struct pst_error *error)
{
    char room[URL_MAX];

    PQfinish(b->conn);
    b->conn = start(t, index, address, room, sizeof(room));
    return b->conn == NULL ? pst_error_set(error, PST_E_NOMEM, NULL, "out of memory")
                           : connect_one(t, b->conn, error);
}

/* The path of a socket, and a host whose address is given, need no name server. */
static enum pst_status connect_host(struct target *t, unsigned index, struct pst_backend *b,
                                    struct pst_error *error)
{
    struct pst_bytes host = item_of(option(t, "host"), index);
    struct pst_pg_addresses addresses;
    char name[URL_MAX];
    struct pst_buf room = pst_buf_of(name, sizeof(name));

    t->chooses = false;
    if (host.len == 0 || host.ptr[0] == '/' || host.ptr[0] == '@' ||
        item_of(option(t, "hostaddr"), index).len > 0)
        return connect_at(t, index, NULL, b, error);
    pst_buf_put(&room, host);
    pst_buf_char(&room, '\0');
    enum pst_status status = pst_pg_resolve(name, t->silence_ns, &addresses, error);
    if (status != PST_OK)
        return status;
    t->chooses = t->writes && addresses.count > 1;
    status = PST_E_IO;
    for (unsigned i = 0; i < addresses.count && status != PST_OK; i++)
        status = connect_at(t, index, addresses.text[i], b, error);
    return status;
}

static enum pst_status connect_any(struct target *t, struct pst_backend *b, struct pst_error *error)
{
    enum pst_status status = PST_E_IO;

    for (unsigned i = 0; i < t->hosts && status != PST_OK; i++)
        status = connect_host(t, i, b, error);
    if (status == PST_OK &&
        (PQsetnonblocking(b->conn, 1) != 0 || PQenterPipelineMode(b->conn) != 1))
        status = pst_error_set(error, PST_E_IO, NULL, "libpq refuses pipelines");
    return status;
}

/* Where it was, without who and with what password. */
static void name_target(const struct target *t, struct pst_error *error)
{
    const char *host = option(t, "host"), *port = option(t, "port"), *db = option(t, "dbname");

    if (error == NULL || error->where[0] != '\0')
        return;
    (void)snprintf(error->where, sizeof(error->where), "postgresql://%s%s%s/%s",
                   host == NULL ? "" : host, port == NULL ? "" : ":", port == NULL ? "" : port,
                   db == NULL ? "" : db);
}

enum pst_status pst_pg_connect(struct pst_bytes where, enum pst_store_mode mode,
                               struct pst_backend **out, struct pst_error *error)
{
    struct target *t = calloc(1, sizeof(*t));

    *out = calloc(1, sizeof(**out));
    if (*out == NULL || t == NULL) {
        free(t);
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    }
    enum pst_status status = read_url(where, t, error);
    if (status == PST_OK) {
        t->writes = mode == PST_STORE_WRITE || mode == PST_STORE_CREATE;
        (*out)->mode = mode;
        (*out)->pgbouncer = t->pgbouncer;
        status = connect_any(t, *out, error);
        (*out)->deadline_ns = pst_clock_boot_ns() + t->silence_ns; /* of its first statement */
        if (status != PST_OK)
            name_target(t, error);
    }
    PQconninfoFree(t->options);
    explicit_bzero(t, sizeof(*t));
    free(t);
    return status;
}

void pst_pg_close(struct pst_backend *b)
{
    if (b == NULL)
        return;
    PQfinish(b->conn);
    free(b);
}
