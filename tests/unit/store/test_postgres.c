/* What only PostgreSQL has: urls and hosts, silence, guards of the schema, the holder of the lock.
 */
#include "../test.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "../../../src/store/statements.h"
#include "kinds.h"
#include "postern/base/clock.h"

/* "127.0.0.1:port" of the run's server. */
static const char *server_address(void)
{
    const char *at = strchr(place_server(PLACE_POSTGRES), '@');
    assert_non_null(at);
    return at + 1;
}

static const char *server_port(void)
{
    return strchr(server_address(), ':') + 1;
}

static enum pst_status open_url(const char *url, struct pst_error *error)
{
    struct pst_store *s;
    *error = (struct pst_error){0};
    enum pst_status status = pst_store_open(text_of(url), PST_STORE_READ, &s, error);
    pst_store_close(s);
    return status;
}

static void test_urls(void **state)
{
    static const struct {
        const char *url;
        enum pst_status status;
        const char *says;
    } CASES[] = {
        {"postgresql://u:hunter2%zz@h/d", PST_E_INVALID, "libpq does not understand"},
        {"postgresql://u:hunter2@h/d?nonsense=1", PST_E_INVALID, "libpq does not understand"},
        {"postgresql://u:hunter2@h/d?pgbouncer=yes", PST_E_INVALID, "true or false"},
        {"postgresql://u:hunter2@h/d?pgbouncer=true&options=-cx", PST_E_INVALID, "no options"},
        {"postgresql://u:hunter2@h/d?connect_timeout=0", PST_E_INVALID, "connect_timeout"},
        {"postgresql://u:hunter2@127.0.0.1:1/d", PST_E_IO, "refused"},
        {"postgresql+psycopg2://u:hunter2@127.0.0.1:1/d", PST_E_IO, "refused"},
        {"postgres://u:hunter2@127.0.0.1:1/d?sslmode=disable&pgbouncer=false", PST_E_IO, "refused"},
    };
    struct pst_error e;
    (void)state;

    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        assert_int_equal(open_url(CASES[i].url, &e), CASES[i].status);
        if (strstr(e.message, CASES[i].says) == NULL)
            fail_msg("%s: %s", CASES[i].url, e.message);
        assert_null(strstr(e.message, "hunter2"));
        assert_null(strstr(e.where, "hunter2"));
    }
    char url[2200];
    (void)snprintf(url, sizeof(url), "postgresql://h/%02100d", 0);
    assert_int_equal(open_url(url, &e), PST_E_INVALID);
}

/* Listens and never says a word. */
static int silent_server(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void test_hosts_one_after_the_other(void **state)
{
    const struct place *p = *state;
    char url[512];
    uint16_t port;
    struct pst_error e;
    struct pst_store *s;

    pst_store_close(place_open(p, PST_STORE_CREATE));
    int fd = silent_server(&port);
    /* dead, silent, alive */
    (void)snprintf(url, sizeof(url),
                   "postgresql://postgres@127.0.0.1:1,127.0.0.1:%u,%s/%s?connect_timeout=1", port,
                   server_address(), p->name);
    uint64_t began = pst_clock_boot_ns();
    MUST(pst_store_open(text_of(url), PST_STORE_READ, &s, &why));
    assert_true(pst_clock_boot_ns() - began >= 900 * PST_NS_PER_MS);
    pst_store_close(s);

    (void)snprintf(url, sizeof(url), "postgresql://127.0.0.1:%u/x?connect_timeout=1", port);
    began = pst_clock_boot_ns();
    assert_int_equal(open_url(url, &e), PST_E_IO);
    assert_non_null(strstr(e.message, "in time"));
    assert_true(pst_clock_boot_ns() - began < 5 * PST_NS_PER_S);
    (void)close(fd);

    /* A pooler is asked whether what is behind it takes writes. */
    const char *pooler = strchr(place_server(PLACE_PGBOUNCER), '@') + 1;
    (void)snprintf(url, sizeof(url), "postgresql://postgres@127.0.0.1:1,%s/%s?pgbouncer=true",
                   pooler, p->name);
    MUST(pst_store_open(text_of(url), PST_STORE_READ, &s, &why));
    pst_store_close(s);

    /* Of several, only one that takes writes. */
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s SET default_transaction_read_only = on",
                   p->name);
    place_command("postgres", sql);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@%s,%s/%s", server_address(),
                   server_address(), p->name);
    enum pst_status several = open_url(url, &e);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@%s/%s", server_address(), p->name);
    enum pst_status one = open_url(url, &(struct pst_error){0});
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s RESET ALL", p->name);
    place_command("postgres", sql);
    assert_int_equal(one, PST_OK);
    assert_int_equal(several, PST_E_IO);
    assert_non_null(strstr(e.message, "read-only"));
    assert_non_null(strstr(e.where, server_port()));
}

/* A connection that is lost between its making and its first statement: found out in a second. */
static void test_silence_at_the_first_statement(void **state)
{
    const struct place *p = *state;
    struct pst_store *s;
    struct pst_error e = {0};

    pst_store_close(place_open(p, PST_STORE_CREATE));
    PGconn *other = place_admin(p->name);
    PQclear(PQexec(other, "BEGIN; LOCK TABLE meta IN ACCESS EXCLUSIVE MODE"));
    uint64_t began = pst_clock_boot_ns();
    enum pst_status status = pst_store_open(text_of(p->url), PST_STORE_WRITE, &s, &e);
    uint64_t took = pst_clock_boot_ns() - began;
    PQfinish(other);
    assert_int_equal(status, PST_E_IO);
    assert_non_null(strstr(e.message, "in time"));
    assert_in_range(took, 900 * PST_NS_PER_MS, 3 * PST_NS_PER_S);
    MUST(pst_store_open(text_of(p->url), PST_STORE_WRITE, &s, &why));
    pst_store_close(s);
}

/* The program's own stands before the library's, also for libpq: names end in .test here, and how
 * slow a name server is, and where it says that they are, is the test's. */
static _Atomic unsigned resolver_ms, resolver_asked;

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name == NULL || strstr(name, ".test") == NULL)
        return real(name, service, hints, out);
    if ((hints->ai_flags & AI_NUMERICHOST) != 0)
        return EAI_NONAME;
    atomic_fetch_add(&resolver_asked, 1);
    (void)usleep(resolver_ms * 1000);
    if (strcmp(name, "both.test") == 0) { /* the replica first */
        int code = real("127.0.0.2", service, hints, out);
        return code != 0 ? code : real("127.0.0.1", service, hints, &(*out)->ai_next);
    }
    return strcmp(name, "db.test") == 0 ? real("127.0.0.1", service, hints, out) : EAI_NONAME;
}

/* Says that it is a replica, to whoever connects, and no more. */
static void *replica(void *arg)
{
    static const char GREETING[] = "R\0\0\0\x08\0\0\0\0"
                                   "S\0\0\0\x18server_version\0"
                                   "15.0\0"
                                   "S\0\0\0\x16in_hot_standby\0on\0"
                                   "S\0\0\0\x26"
                                   "default_transaction_read_only\0off\0"
                                   "K\0\0\0\x0c\0\0\0\x01\0\0\0\x01"
                                   "Z\0\0\0\x05I";
    const int *listening = arg;
    char room[1024];

    for (int fd; (fd = accept(*listening, NULL, NULL)) >= 0; close(fd))
        if (read(fd, room, sizeof(room)) > 0 &&
            write(fd, GREETING, sizeof(GREETING) - 1) == (ssize_t)sizeof(GREETING) - 1)
            while (read(fd, room, sizeof(room)) > 0)
                ;
    return NULL;
}

/* One name of all servers, as orchestrators make it. */
static void test_the_primary_among_the_addresses_of_a_name(void **state)
{
    const struct place *p = *state;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(server_port())),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    struct pst_store *s;
    char url[512];

    pst_store_close(place_open(p, PST_STORE_CREATE));
    assert_int_equal(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listening, 8), 0);
    assert_int_equal(pthread_create(&thread, NULL, replica, &listening), 0);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@both.test:%s/%s?sslmode=disable",
                   server_port(), p->name);
    resolver_ms = 0;
    MUST(pst_store_open(text_of(url), PST_STORE_WRITE, &s, &why));
    pst_store_close(s);
    (void)shutdown(listening, SHUT_RDWR);
    (void)pthread_join(thread, NULL);
    close(listening);
}

/* A name server that is silent costs what a silent host does; a slow one delays. */
static void test_names(void **state)
{
    const struct place *p = *state;
    struct pst_store *s;
    struct pst_error e = {0};
    char url[512], other[512];

    pst_store_close(place_open(p, PST_STORE_CREATE));
    (void)snprintf(url, sizeof(url), "postgresql://postgres@db.test:%s/%s", server_port(), p->name);
    (void)snprintf(other, sizeof(other), "postgresql://postgres@no.test:%s/%s", server_port(),
                   p->name);
    resolver_ms = resolver_asked = 0;
    MUST(pst_store_open(text_of(url), PST_STORE_WRITE, &s, &why));
    pst_store_close(s);
    assert_int_equal(resolver_asked, 1);
    assert_int_equal(open_url(other, &e), PST_E_IO);
    assert_non_null(strstr(e.message, "no.test"));

    resolver_ms = 2000;
    uint64_t began = pst_clock_boot_ns();
    assert_int_equal(open_url(url, &e), PST_E_IO);
    assert_non_null(strstr(e.message, "in time"));
    assert_in_range(pst_clock_boot_ns() - began, 900 * PST_NS_PER_MS, 1800 * PST_NS_PER_MS);
    enum pst_status status = PST_E_IO; /* and who goes on asks no second time */
    for (unsigned i = 0; i < 20 && status != PST_OK; i++)
        status = pst_store_open(text_of(url), PST_STORE_WRITE, &s, &e);
    assert_int_equal(status, PST_OK);
    pst_store_close(s);
    assert_int_equal(resolver_asked, 3);

    resolver_ms = 0; /* the next host of the url, at last */
    (void)snprintf(other, sizeof(other), "postgresql://postgres@no.test,db.test:%s/%s",
                   server_port(), p->name);
    MUST(pst_store_open(text_of(other), PST_STORE_WRITE, &s, &why));
    pst_store_close(s);
}

/* The server's process behind the one connection of the store. */
static pid_t backend_of(const struct place *p)
{
    char sql[256];
    (void)snprintf(
        sql, sizeof(sql),
        "SELECT pid FROM pg_stat_activity WHERE datname = '%s'"
        " AND application_name = 'postern' AND client_addr IS NOT NULL", /* no pooler's */
        p->name);
    return (pid_t)raw_number(p, sql);
}

static void test_silence_costs_a_deadline(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_who who = {.kind = PST_WHO_NAME, .value = PST_LIT("x")};
    struct pst_facts_question questions[3] = {{.who = &who}, {.who = &who}, {.who = &who}};
    struct pst_log_mark none = {0};
    struct pst_log_page page;
    struct pst_error e = {0};
    struct pst_change *c;

    pst_store_set_deadline(s, pst_clock_boot_ns() + 5 * PST_NS_PER_S);
    MUST(pst_store_load_many_facts(s, questions, 3, &why));
    for (unsigned i = 0; i < 3; i++)
        pst_facts_free(questions[i].facts);

    pid_t pid = backend_of(p);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    uint64_t began = pst_clock_boot_ns();
    pst_store_set_deadline(s, began + 200 * PST_NS_PER_MS);
    enum pst_status status = pst_store_load_many_facts(s, questions, 3, &e);
    uint64_t took = pst_clock_boot_ns() - began;
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(status, PST_E_IO);
    assert_non_null(strstr(e.message, "in time"));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(questions[i].status, PST_E_IO);
        assert_null(questions[i].facts);
    }
    assert_true(took >= 200 * PST_NS_PER_MS);
    assert_true(took < 1000 * PST_NS_PER_MS);

    /* Late answers are nobody's: the connection stays broken. */
    pst_store_set_deadline(s, 0);
    assert_int_equal(pst_store_log(s, &none, PST_LIT(""), &page, NULL), PST_E_IO);
    assert_int_equal(pst_store_view(s, NULL), PST_E_IO);
    assert_int_equal(pst_change_begin(s, PST_LIT("t"), &c, NULL), PST_E_IO);
    began = pst_clock_boot_ns();
    pst_store_close(s);
    assert_true(pst_clock_boot_ns() - began < PST_NS_PER_S);
}

static void test_a_lost_connection(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    struct pst_revision r;
    char sql[64];

    (void)add_role(c, "r", 0);
    (void)snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)::int", (int)backend_of(p));
    assert_int_equal(raw_number(p, sql), 1);
    assert_int_equal(pst_change_commit(c, &r, NULL), PST_E_IO);
    assert_int_equal(pst_store_revision(s, &r, NULL), PST_E_IO);
    pst_store_close(s);
    assert_int_equal(raw_number(p, "SELECT n FROM log_head"), 0);
}

/* One question that fails leaves the others alone. */
static void test_each_question_has_its_answer(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint64_t alice = add_user(c, "alice");
    struct pst_revision at = commit(c);
    struct pst_who good = {.kind = PST_WHO_NAME, .value = PST_LIT("alice")},
                   bad = {.kind = PST_WHO_NAME, .value = PST_LIT("\xff\xfe")},
                   none = {.kind = PST_WHO_ID, .id = 4711};
    struct pst_facts_question q[4] = {
        {.who = &good}, {.who = &bad}, {.who = &none}, {.who = &good}};

    for (unsigned round = 0; round < 2; round++) { /* the second time all is prepared */
        MUST(pst_store_load_many_facts(s, q, 4, &why));
        assert_int_equal(q[0].status, PST_OK);
        assert_int_equal(q[0].facts->user_id, alice);
        assert_int_equal(q[0].revision.n, at.n);
        assert_int_equal(q[0].revision.epoch, at.epoch);
        assert_int_equal(q[1].status, PST_E_INVALID);
        assert_null(q[1].facts);
        assert_int_equal(q[2].facts->user_id, 0);
        assert_int_equal(q[3].facts->user_id, alice);
        for (unsigned i = 0; i < 4; i++)
            pst_facts_free(q[i].facts);
    }
    pst_store_close(s);
}

#define NUMBER "BEGIN; UPDATE log_head SET n = n + 1, open = 1;"
#define ROW                                                                                        \
    " INSERT INTO change_log (n, stamp, at, actor)"                                                \
    " SELECT n, repeat('0', 32), 0, 'x' FROM log_head;"

static void test_guards_refuse(void **state)
{
    const struct place *p = *state;
    static const char *const REFUSED[] = {
        "INSERT INTO users (name) VALUES ('eve')",
        "UPDATE users SET disabled = 0",
        "UPDATE users SET disabled = 0 WHERE false",
        "DELETE FROM bindings",
        "TRUNCATE bindings",
        "TRUNCATE users CASCADE",
        "COPY roles (name) FROM PROGRAM 'echo eve'",
        "INSERT INTO permissions (role_id, access) VALUES (1, 1)",
        "UPDATE roles SET name = 'x'",
        "DELETE FROM workspaces",
        "UPDATE organizations SET name = 'x'",
        "UPDATE identities SET subject = 'eve'",
        "UPDATE meta SET max_staleness_s = 60",
        "DELETE FROM meta",
        /* replication's way past ordinary triggers */
        "SET session_replication_role = replica; UPDATE users SET disabled = 0",
        "SET session_replication_role = replica; DELETE FROM change_log",
        /* a snapshot from before, and somebody else's number */
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT n FROM log_head; UPDATE users SET email = "
        "'x'",
        "BEGIN; SELECT n FROM log_head FOR UPDATE; UPDATE users SET email = 'x'",
        /* numbered, but no log row */
        NUMBER " UPDATE users SET disabled = 1; COMMIT",
        NUMBER " COMMIT",
        /* a log row that is never completed; a log that is never closed */
        NUMBER ROW " UPDATE users SET disabled = 1; COMMIT",
        NUMBER ROW " SET CONSTRAINTS ALL IMMEDIATE",
        NUMBER ROW " UPDATE change_log SET keys = '[]' WHERE keys IS NULL; COMMIT",
        NUMBER ROW " UPDATE log_head SET open = 0",
        /* policy after the log was closed */
        NUMBER ROW " UPDATE change_log SET keys = '[]' WHERE keys IS NULL;"
                   " UPDATE log_head SET open = 0; UPDATE users SET disabled = 1; COMMIT",
        "UPDATE log_head SET n = n + 2, open = 1",
        "UPDATE log_head SET n = 0",
        "UPDATE log_head SET xid = pg_current_xact_id(), open = 1",
        "DELETE FROM log_head",
        "TRUNCATE log_head",
        "INSERT INTO log_head (id, n) VALUES (1, 5)",
        "INSERT INTO change_log (n, stamp, at, actor, keys) VALUES (2, repeat('0', 32), 0, 'x', "
        "'[]')",
        "INSERT INTO change_log (n, stamp, at, actor) VALUES (2, repeat('0', 32), 0, 'x')",
        "UPDATE change_log SET keys = '[]'",
        "UPDATE change_log SET stamp = repeat('0', 32)",
        "DELETE FROM change_log",
        "TRUNCATE change_log",
        "UPDATE audit SET actor = 'x'",
        "DELETE FROM audit",
        "TRUNCATE audit",
    };

    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    uint32_t w = add_workspace(c, "blue");
    uint32_t role = add_role(c, "r", w);
    add_permission(c, role, "Pipeline", 16);
    (void)bind_role(c, add_user(c, "alice"), role, w);
    struct pst_revision at = commit(c), r;
    for (size_t i = 0; i < sizeof(REFUSED) / sizeof(REFUSED[0]); i++)
        if (raw(p, REFUSED[i]) != RAW_REFUSED)
            fail_msg("not refused: %s", REFUSED[i]);
    assert_int_equal(raw_number(p, "SELECT count(*) FROM users WHERE disabled = 0 AND email = ''"),
                     1);
    MUST(pst_store_revision(s, &r, &why));
    assert_int_equal(r.n, at.n);
    MUST(pst_store_check(s, &why));

    /* The guards let a proper change pass, whoever makes it, also one with a savepoint. */
    assert_int_equal(raw_change(p, "SAVEPOINT a; UPDATE users SET disabled = 1", "all"), RAW_DONE);
    MUST(pst_store_revision(s, &r, &why));
    assert_int_equal(r.n, at.n + 1);
    pst_store_close(s);
}

static void test_check_finds(void **state)
{
    const struct place *p = *state;
    static const struct {
        const char *sql, *says;
    } CASES[] = {
        {"ALTER TABLE bindings DROP CONSTRAINT bindings_role_id_fkey", "bindings_role_id_fkey"},
        {"ALTER TABLE users ENABLE TRIGGER users_policy", "users.users_policy"},
        {"ALTER TABLE users ENABLE ALWAYS TRIGGER users_policy;"
         " DROP TRIGGER audit_stays ON audit",
         "audit.audit_stays"},
    };
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_error e = {0};

    MUST(pst_store_check(s, &why));
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        assert_int_equal(raw(p, CASES[i].sql), RAW_DONE);
        assert_int_equal(pst_store_check(s, &e), PST_E_INVALID);
        if (strstr(e.message, CASES[i].says) == NULL)
            fail_msg("%s: %s", CASES[i].sql, e.message);
    }
    pst_store_close(s);

    char sql[256];
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s SET synchronous_commit = off", p->name);
    place_command("postgres", sql);
    s = place_open(p, PST_STORE_READ);
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s RESET ALL", p->name);
    place_command("postgres", sql);
    assert_int_equal(pst_store_check(s, &e), PST_E_INVALID);
    assert_non_null(strstr(e.message, "synchronous_commit"));
    pst_store_close(s);
}

/* Of roles that this connection is none of. */
static void test_check_finds_what_roles_have(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_error e = {0};
    char sql[256];

    MUST(pst_store_check(s, &why));
    (void)snprintf(sql, sizeof(sql),
                   "ALTER ROLE CURRENT_USER IN DATABASE %s SET synchronous_commit = off", p->name);
    place_command("postgres", sql);
    assert_int_equal(pst_store_check(s, &e), PST_E_INVALID);
    assert_non_null(strstr(e.message, "for the role postgres"));
    pst_store_close(s);
    (void)snprintf(sql, sizeof(sql), "ALTER ROLE CURRENT_USER IN DATABASE %s RESET ALL", p->name);
    place_command("postgres", sql);
}

static void test_holder_is_named(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c;
    struct pst_error e = {0};
    char says[64];

    PGconn *other = place_admin(p->name);
    PQclear(PQexec(other, "SET application_name = 'import'; BEGIN;"
                          " UPDATE log_head SET n = n + 1, open = 1"));
    (void)snprintf(says, sizeof(says), "pid %d, import", PQbackendPID(other));
    assert_int_equal(pst_change_begin(s, PST_LIT("t"), &c, &e), PST_E_BUSY);
    PQfinish(other);
    if (strstr(e.message, says) == NULL)
        fail_msg("%s", e.message);
    c = begin(s); /* the connection is as good as before */
    (void)add_role(c, "r", 0);
    assert_int_equal(commit(c).n, 1);
    pst_store_close(s);
}

/* Not only who has the log's row can hold up a change. */
static void test_holder_of_another_lock_is_named(void **state)
{
    static const char *const LOCKS[] = {"BEGIN; LOCK TABLE users IN SHARE MODE",
                                        "BEGIN; SELECT FROM users FOR UPDATE",
                                        "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE"};
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_row_user user = {.name = PST_LIT("u")};
    struct pst_change *c = begin(s);

    MUST(pst_change_put_user(c, &user, &why));
    (void)commit(c);
    for (size_t i = 0; i < sizeof(LOCKS) / sizeof(LOCKS[0]); i++) {
        struct pst_error e = {0};
        char says[64];
        PGconn *other = place_admin(p->name);
        PQclear(PQexec(other, "SET application_name = 'import'"));
        PQclear(PQexec(other, LOCKS[i]));
        (void)snprintf(says, sizeof(says), "pid %d, import", PQbackendPID(other));
        c = begin(s);
        user.legacy_level++;
        assert_int_equal(pst_change_put_user(c, &user, &e), PST_E_BUSY);
        pst_change_abort(c);
        PQfinish(other);
        if (strstr(e.message, says) == NULL)
            fail_msg("%s: %s", LOCKS[i], e.message);
    }
    pst_store_close(s);
}

/* Who sets it for a role, or through a pooler for everybody, has other transactions in mind. */
static void test_a_change_is_on_the_disk_when_it_is_acknowledged(void **state)
{
    const struct place *p = *state;
    char sql[128];
    struct pst_store *s = place_open(p, PST_STORE_CREATE);

    pst_store_close(s);
    place_command(
        p->name,
        "CREATE TABLE seen (setting text); CREATE FUNCTION see() RETURNS trigger LANGUAGE"
        " plpgsql AS $$BEGIN INSERT INTO seen SELECT current_setting('synchronous_commit');"
        " RETURN NULL; END$$; CREATE TRIGGER seen AFTER INSERT ON audit FOR EACH ROW"
        " EXECUTE FUNCTION see()");
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s SET synchronous_commit = off", p->name);
    place_command("postgres", sql);
    s = place_open(p, PST_STORE_WRITE);
    struct pst_change *c = begin(s);
    (void)add_role(c, "r", 0);
    (void)commit(c);
    pst_store_close(s);
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s SET synchronous_commit = remote_write",
                   p->name);
    place_command("postgres", sql);
    s = place_open(p, PST_STORE_WRITE);
    c = begin(s);
    (void)add_role(c, "q", 0);
    (void)commit(c);
    pst_store_close(s);
    PGconn *admin = place_admin(p->name);
    PGresult *r = PQexec(admin, "SELECT string_agg(setting, ',') FROM seen");
    assert_string_equal(PQgetvalue(r, 0, 0), "on,remote_write");
    PQclear(r);
    PQfinish(admin);
    (void)snprintf(sql, sizeof(sql), "ALTER DATABASE %s RESET ALL", p->name);
    place_command("postgres", sql);
}

/* Through a pooler nothing of a session is used; without one, statements are prepared. */
static void test_prepared_statements(void **state)
{
    const struct place *p = *state;
    struct pst_store *s = place_open(p, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    (void)add_role(c, "r", 0);
    (void)commit(c);
    pst_facts_free(facts_of(s, "x"));
    pst_store_close(s);

    char url[256];
    (void)snprintf(url, sizeof(url), "%s/%s", place_server(p->kind), p->name);
    PGconn *conn = PQconnectdb(url); /* pgbouncer: the server connection that the store had */
    PGresult *r = PQexec(conn, "SELECT count(*) FROM pg_prepared_statements");
    assert_string_equal(PQgetvalue(r, 0, 0), "0");
    PQclear(r);
    PQfinish(conn);

    if (p->kind == PLACE_PGBOUNCER) { /* who forgets to say that there is one is told */
        struct pst_error e = {0};
        struct pst_store *a, *b;
        MUST(pst_store_open(text_of(url), PST_STORE_READ, &a, &why));
        MUST(pst_store_open(text_of(url), PST_STORE_READ, &b, &why));
        struct pst_revision at;
        enum pst_status first = pst_store_revision(a, &at, &e);
        enum pst_status second = first == PST_OK ? pst_store_revision(b, &at, &e) : first;
        assert_int_equal(second, PST_E_IO);
        assert_non_null(strstr(e.message, "pgbouncer=true"));
        pst_store_close(a);
        pst_store_close(b);
    }
}

/* The log is read by its key, however long it is: a plan that joins by a filter reads all of it. */
static void test_the_log_is_read_by_its_key(void **state)
{
    const struct place *p = *state;
    char sql[1024];

    pst_store_close(place_open(p, PST_STORE_CREATE));
    PGconn *conn = place_admin(p->name);
    (void)snprintf(
        sql, sizeof(sql),
        "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; PREPARE l AS %s",
        pst_statements[PST_SQL_LOG_READ].postgres);
    PQclear(PQexec(conn, sql));
    PGresult *r = PQexec(conn, "EXPLAIN EXECUTE l ('n', 1, 2)");
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    for (int i = 0; i < PQntuples(r); i++)
        if (strstr(PQgetvalue(r, i, 0), "Join Filter") != NULL)
            fail_msg("%s", PQgetvalue(r, i, 0));
    PQclear(r);
    PQfinish(conn);
}

static enum pst_status stop_at_second(void *ctx, const struct pst_row_role *row)
{
    unsigned *seen = ctx;
    (void)row;
    return ++*seen == 2 ? PST_E_LIMIT : PST_OK;
}

struct permissions {
    unsigned seen, stop_at;
    uint64_t sum;
};

static enum pst_status count_permission(void *ctx, const struct pst_row_permission *row)
{
    struct permissions *p = ctx;

    assert_true(pst_bytes_equal(row->entity, PST_LIT("thing")));
    assert_false(row->has_entity_id);
    p->sum += row->access;
    return ++p->seen == p->stop_at ? PST_E_LIMIT : PST_OK;
}

/* Permissions come as a COPY: all of them, none, and not to the end. */
static void test_many_permissions(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct permissions p = {0};
    struct pst_error e = {0};

    MUST(pst_store_each_permission(s, 0, count_permission, &p, &why));
    assert_int_equal(p.seen, 0);
    struct pst_change *c = begin(s);
    uint32_t role = add_role(c, "r", 0);
    for (unsigned i = 1; i <= 3000; i++)
        add_permission(c, role, "thing", (uint64_t)i << 32);
    (void)commit(c);
    for (unsigned round = 0; round < 2; round++) {
        p = (struct permissions){.stop_at = round == 0 ? 2 : 0};
        MUST(pst_store_view(s, &why));
        if (round == 0)
            assert_int_equal(pst_store_each_permission(s, 0, count_permission, &p, &e),
                             PST_E_LIMIT);
        else
            MUST(pst_store_each_permission(s, 0, count_permission, &p, &why));
        struct pst_revision r; /* the connection goes on */
        MUST(pst_store_revision(s, &r, &why));
        pst_store_view_end(s);
        assert_int_equal(p.seen, round == 0 ? 2 : 3000);
    }
    assert_int_equal(p.sum, (UINT64_C(3000) * 3001 / 2) << 32);
    assert_int_equal(raw(*state, "ALTER TABLE permissions RENAME TO elsewhere"), RAW_DONE);
    assert_int_equal(pst_store_each_permission(s, 0, count_permission, &p, &e), PST_E_IO);
    assert_non_null(strstr(e.message, "does not exist"));
    MUST(pst_store_view(s, &why)); /* and goes on after that, too */
    pst_store_view_end(s);
    pst_store_close(s);
}

static void test_a_list_can_be_ended(void **state)
{
    struct pst_store *s = place_open(*state, PST_STORE_CREATE);
    struct pst_change *c = begin(s);
    for (unsigned i = 0; i < 5000; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "r%u", i);
        (void)add_role(c, name, 0);
    }
    (void)commit(c);
    unsigned seen = 0;
    struct pst_error e = {0};
    assert_int_equal(pst_store_each_role(s, stop_at_second, &seen, &e), PST_E_LIMIT);
    assert_int_equal(seen, 2);
    struct pst_revision r;
    MUST(pst_store_revision(s, &r, &why));
    assert_int_equal(r.n, 1);
    pst_store_close(s);
}

int main(void)
{
#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, make_postgres, drop),                                    \
        cmocka_unit_test_setup_teardown(test, make_pgbouncer, drop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test_setup_teardown(test_hosts_one_after_the_other, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_the_primary_among_the_addresses_of_a_name,
                                        make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_names, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_silence_at_the_first_statement, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_silence_costs_a_deadline, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_a_lost_connection, make_postgres, drop),
        BOTH(test_each_question_has_its_answer),
        cmocka_unit_test_setup_teardown(test_guards_refuse, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_check_finds, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_check_finds_what_roles_have, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_holder_is_named, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_holder_of_another_lock_is_named, make_postgres, drop),
        cmocka_unit_test_setup_teardown(test_a_change_is_on_the_disk_when_it_is_acknowledged,
                                        make_postgres, drop),
        BOTH(test_prepared_statements),
        BOTH(test_a_list_can_be_ended),
        BOTH(test_many_permissions),
        cmocka_unit_test_setup_teardown(test_the_log_is_read_by_its_key, make_postgres, drop),
    };
    return cmocka_run_group_tests_name("postgres", tests, NULL, NULL);
}
