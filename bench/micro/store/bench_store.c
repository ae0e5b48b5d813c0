/* What the store costs in CPU time: loading a model, one user's facts, a log read, a quiet poll, a
 * change. Arguments: number of permissions (default 10^6). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/store/change.h"
#include "postern/store/log.h"

#define ROLES 1000

static void must(enum pst_status status, const struct pst_error *error)
{
    if (status == PST_OK)
        return;
    (void)fprintf(stderr, "bench_store: %s: %s\n", pst_status_name(status), error->message);
    exit(1);
}

static uint64_t cpu_ns(void)
{
    return pst_clock_ns_(CLOCK_PROCESS_CPUTIME_ID);
}

static void fill(struct pst_store *s, unsigned permissions, unsigned users)
{
    struct pst_error error = {0};
    struct pst_change *c;
    struct pst_revision r;
    uint32_t roles[ROLES];
    char name[32];

    must(pst_change_begin(s, PST_LIT("bench"), &c, &error), &error);
    for (unsigned i = 0; i < ROLES; i++) {
        (void)snprintf(name, sizeof(name), "role-%u", i);
        struct pst_row_role row = {.name = pst_bytes_of(name, strlen(name))};
        must(pst_change_put_role(c, &row, &error), &error);
        roles[i] = row.id;
    }
    for (unsigned i = 0; i < permissions; i++) {
        (void)snprintf(name, sizeof(name), "object-%u", i);
        struct pst_row_permission row = {.role = roles[i % ROLES],
                                         .scope = PST_LIT("global"),
                                         .entity = PST_LIT("pipelines"),
                                         .has_entity_id = true,
                                         .entity_id = pst_bytes_of(name, strlen(name)),
                                         .has_access = true,
                                         .access = PST_A_LIST | PST_A_DETAIL};
        must(pst_change_add_permission(c, &row, &error), &error);
    }
    for (unsigned i = 0; i < users; i++) {
        (void)snprintf(name, sizeof(name), "user-%u", i);
        struct pst_row_user row = {.name = pst_bytes_of(name, strlen(name))};
        must(pst_change_put_user(c, &row, &error), &error);
        struct pst_row_identity id = {
            .user = row.id, .issuer = PST_LIT("https://idp.test/"), .subject = row.name};
        must(pst_change_add_identity(c, &id, &error), &error);
        for (unsigned k = 0; k < 3; k++) {
            struct pst_row_binding b = {.user = row.id, .role = roles[(i + k) % ROLES]};
            must(pst_change_add_binding(c, &b, &error), &error);
        }
    }
    must(pst_change_commit(c, &r, &error), &error);
}

static void report(const char *what, uint64_t start_ns, unsigned count)
{
    double ns = (double)(cpu_ns() - start_ns) / count;

    if (ns > 1e7)
        (void)printf("%-40s %10.1f ms\n", what, ns / 1e6);
    else
        (void)printf("%-40s %10.2f us\n", what, ns / 1e3);
}

static void run(struct pst_store *s)
{
    struct pst_error error = {0};
    struct pst_log_mark none = {0};
    struct pst_log_page page;
    struct pst_model *model;
    struct pst_revision r;
    uint64_t start = cpu_ns(), hint;

    must(pst_store_load_model(s, &model, &r, &error), &error);
    report("load the model", start, 1);
    start = cpu_ns();
    pst_store_free_model(model);
    report("free it", start, 1);

    start = cpu_ns();
    for (unsigned i = 0; i < 20000; i++) {
        char name[32];
        struct pst_facts *facts;
        (void)snprintf(name, sizeof(name), "user-%u", (i * 7919) % 100000);
        struct pst_who who = {.kind = PST_WHO_SUBJECT,
                              .issuer = PST_LIT("https://idp.test/"),
                              .value = pst_bytes_of(name, strlen(name))};
        must(pst_store_load_facts(s, &who, &facts, &r, &error), &error);
        if (facts->binding_count != 3)
            exit(1);
        pst_facts_free(facts);
    }
    report("facts of one user", start, 20000);

    must(pst_store_log(s, &none, PST_LIT(""), &page, &error), &error);
    struct pst_log_mark mark = page.head;
    pst_log_page_fini(&page);
    start = cpu_ns();
    for (unsigned i = 0; i < 20000; i++) {
        must(pst_store_log(s, &mark, PST_LIT(""), &page, &error), &error);
        pst_log_page_fini(&page);
    }
    report("proving log read, nothing new", start, 20000);
    start = cpu_ns();
    for (unsigned i = 0; i < 20000; i++)
        must(pst_store_hint(s, &hint, &error), &error);
    report("hint", start, 20000);

    start = cpu_ns();
    for (unsigned i = 0; i < 200; i++) {
        struct pst_change *c;
        struct pst_row_user u = {.id = 1 + i, .email = PST_LIT("x@x.test")};
        char name[32];
        (void)snprintf(name, sizeof(name), "user-%u", i);
        u.name = pst_bytes_of(name, strlen(name));
        must(pst_change_begin(s, PST_LIT("bench"), &c, &error), &error);
        must(pst_change_put_user(c, &u, &error), &error);
        must(pst_change_commit(c, &r, &error), &error);
    }
    report("change of one user, on disk", start, 200);
}

int main(int argc, char **argv)
{
    unsigned permissions = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
    char dir[] = "/tmp/postern-bench-XXXXXX", url[128], path[96];
    struct pst_error error = {0};
    struct pst_store *s;

    if (mkdtemp(dir) == NULL)
        return 1;
    (void)snprintf(path, sizeof(path), "%s/bench.db", dir);
    (void)snprintf(url, sizeof(url), "sqlite:///%s", path);
    must(pst_store_open(pst_bytes_of(url, strlen(url)), PST_STORE_CREATE, &s, &error), &error);
    uint64_t start = cpu_ns();
    fill(s, permissions, 100000);
    (void)printf("%u permissions, 100000 users\n", permissions);
    report("write them in one change", start, 1);
    run(s);
    pst_store_close(s);
    (void)unlink(path);
    (void)rmdir(dir);
    return 0;
}
