/*
 * ms from a change of one role until its policy is compiled, without what hands it on: the log and
 * the role's rows are read as the service's quick lane does, and the policy is patched.
 *
 * A policy of 20 roles (more change nothing), in the PostgreSQL of POSTERN_TEST_PG:
 *     tests/with_postgres.sh build/release/bench/micro/store/bench_role [whole] [scattered]
 * whole: all rows of the role are read, as who does not know them does. scattered: rows of all
 * roles were written in turns, so those of one are on twenty times as many pages.
 *
 * Prints the fastest and the median of some turns: role_read_ms FASTEST MEDIAN; role_patch_ms the
 * same; role_cpu_ms the reader's own CPU time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "postern/base/clock.h"
#include "postern/policy/compile.h"
#include "postern/store/change.h"
#include "postern/store/log.h"

#define ROLES 20u
#define ROWS  10000u /* of a role */
#define TURNS 60

static struct pst_error why;

static void must(enum pst_status status)
{
    if (status == PST_OK)
        return;
    (void)fprintf(stderr, "bench_role: %s: %s\n", pst_status_name(status), why.message);
    exit(1);
}

static void fill(struct pst_store *s, uint32_t ids[ROLES], bool scattered)
{
    struct pst_change *c;
    struct pst_revision revision;
    char text[32];

    must(pst_change_begin(s, PST_LIT("bench"), &c, &why));
    for (unsigned i = 0; i < ROLES; i++) {
        int n = snprintf(text, sizeof(text), "role-%u", i);
        struct pst_row_role row = {.name = pst_bytes_of(text, (size_t)n)};
        must(pst_change_put_role(c, &row, &why));
        ids[i] = row.id;
    }
    for (unsigned i = 0; i < ROLES * ROWS; i++) {
        int n = snprintf(text, sizeof(text), "pipeline-%u", i);
        struct pst_row_permission row = {.role = ids[scattered ? i % ROLES : i / ROWS],
                                         .scope = PST_LIT("global"),
                                         .entity = PST_LIT("Pipeline"),
                                         .has_entity_id = true,
                                         .entity_id = pst_bytes_of(text, (size_t)n),
                                         .has_access = true,
                                         .access = PST_A_LIST | PST_A_DETAIL};
        must(pst_change_add_permission(c, &row, &why));
    }
    must(pst_change_commit(c, &revision, &why));
}

static struct pst_log_mark touch(struct pst_store *s, uint32_t role, unsigned turn)
{
    struct pst_log_mark none = {0}, mark;
    struct pst_log_page page;
    struct pst_change *c;
    struct pst_revision revision;
    char text[32];

    must(pst_store_log(s, &none, PST_LIT(""), &page, &why));
    mark = page.head;
    pst_log_page_fini(&page);
    int n = snprintf(text, sizeof(text), "new-%u", turn);
    struct pst_row_permission row = {.role = role,
                                     .scope = PST_LIT("global"),
                                     .entity = PST_LIT("Pipeline"),
                                     .has_entity_id = true,
                                     .entity_id = pst_bytes_of(text, (size_t)n),
                                     .has_access = true,
                                     .access = PST_A_LIST};
    must(pst_change_begin(s, PST_LIT("bench"), &c, &why));
    must(pst_change_add_permission(c, &row, &why));
    must(pst_change_commit(c, &revision, &why));
    return mark;
}

static int compare(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

    return (a > b) - (a < b);
}

static void print(const char *name, uint64_t ns[TURNS])
{
    qsort(ns, TURNS, sizeof(*ns), compare);
    printf("%s %.2f %.2f\n", name, (double)ns[0] / 1e6, (double)ns[TURNS / 2] / 1e6);
}

static void measure(struct pst_store *s, uint32_t role, bool whole)
{
    static uint64_t read[TURNS], patched[TURNS], cpu[TURNS];
    struct pst_model *model;
    struct pst_policy *policy, *next;
    struct pst_revision revision;
    struct pst_log_page page;

    must(pst_store_load_model(s, &model, &revision, &why));
    must(pst_policy_compile(model, &policy, &why));
    pst_store_free_model(model);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        struct pst_log_mark mark = touch(s, role, turn);
        uint64_t from = pst_clock_boot_ns(), used = pst_clock_ns_(CLOCK_THREAD_CPUTIME_ID);
        must(pst_store_view(s, &why));
        const struct pst_log_roles which = {
            .since = &mark, .ids = &role, .count = 1, .base = whole ? NULL : policy};
        must(pst_store_log_roles(s, &which, &page, &model, &why));
        read[turn] = pst_clock_boot_ns() - from;
        cpu[turn] = pst_clock_ns_(CLOCK_THREAD_CPUTIME_ID) - used;
        struct pst_policy_patch patch = {.model = model, .touched = &role, .touched_count = 1};
        from = pst_clock_boot_ns();
        must(pst_policy_patch(policy, &patch, &next, &why));
        patched[turn] = pst_clock_boot_ns() - from;
        pst_store_view_end(s);
        pst_store_free_model(model);
        pst_log_page_fini(&page);
        pst_policy_destroy(policy);
        policy = next;
    }
    pst_policy_destroy(policy);
    print("role_read_ms", read);
    print("role_patch_ms", patched);
    print("role_cpu_ms", cpu);
}

int main(int argc, char **argv)
{
    const char *server = getenv("POSTERN_TEST_PG");
    bool whole = false, scattered = false;
    uint32_t ids[ROLES];
    struct pst_store *s;
    char url[256];

    for (int i = 1; i < argc; i++) {
        whole = whole || argv[i][0] == 'w';
        scattered = scattered || argv[i][0] == 's';
    }
    int n = snprintf(url, sizeof(url), "%s/postgres", server == NULL ? "" : server);
    must(pst_store_open(pst_bytes_of(url, (size_t)n), PST_STORE_CREATE, &s, &why));
    fill(s, ids, scattered);
    measure(s, ids[ROLES / 2], whole);
    pst_store_close(s);
    return 0;
}
