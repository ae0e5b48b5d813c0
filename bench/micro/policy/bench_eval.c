/*
 * ns per evaluation as the number of permissions grows, and bytes per permission.
 *
 * 100 roles hold COUNT permissions on distinct ids of one entity (a share of them denies); every
 * user holds 3 to 5 roles. Each question asks one operation on one id, half of them on an id that a
 * role of the caller names. The questions are prepared; what is timed is pst_eval alone. Each count
 * is measured in many short turns, and the fastest turn is printed: a turn that shared its core or
 * the memory bus with somebody else says nothing about the evaluator.
 *
 * Prints: decision_ns COUNT NS; bytes_per_permission N (at the largest count); a summary on stderr.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "postern/policy/eval.h"

#define ROLES     100
#define QUESTIONS 256
#define COUNTS    3
#define TURNS     25
#define ROUNDS    160 /* times QUESTIONS per turn */

struct world {
    uint32_t count;
    struct pst_policy *policy;
    struct pst_facts facts[QUESTIONS];
    struct pst_binding bindings[QUESTIONS][5];
    struct pst_requirement requirements[QUESTIONS];
    struct pst_question questions[QUESTIONS];
    char ids[QUESTIONS][40];
    double ns[TURNS];
};

static const struct pst_policy_settings SETTINGS;

static void die(const char *what)
{
    fprintf(stderr, "bench_eval: %s\n", what);
    exit(2);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A uuid that only depends on its number. */
static struct pst_bytes write_id(char out[40], uint32_t number)
{
    uint64_t a = number * UINT64_C(0x9e3779b97f4a7c15), b = a ^ (a >> 29);

    int n = snprintf(
        out, 40, "%08" PRIx32 "-%04" PRIx64 "-4%03" PRIx64 "-8%03" PRIx64 "-%012" PRIx64, number,
        a & 0xffff, a >> 16 & 0xfff, a >> 28 & 0xfff, b & UINT64_C(0xffffffffffff));
    return pst_bytes_of(out, (size_t)n);
}

static void fill_model(struct pst_model *model, uint32_t count)
{
    char text[40];

    for (uint32_t i = 1; i <= ROLES; i++) {
        int n = snprintf(text, sizeof(text), "role-%u", i);
        struct pst_role_row row = {.id = i, .name = pst_bytes_of(text, (size_t)n)};
        if (pst_model_add_role(model, &row) != PST_OK)
            die("role");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct pst_permission_row row = {.id = i + 1,
                                         .role = i % ROLES + 1,
                                         .has_access = true,
                                         .entity = PST_LIT("Pipeline"),
                                         .has_entity_id = true,
                                         .entity_id = write_id(text, i),
                                         .access = i % 16 == 15 ? PST_A_DISABLE_UPDATE
                                                                : PST_A_DETAIL | PST_A_UPDATE};
        if (pst_model_add_permission(model, &row) != PST_OK)
            die("permission");
    }
}

static void prepare(struct world *w, uint32_t count)
{
    uint64_t seed = 42;
    struct pst_model model;
    struct pst_error error;

    w->count = count;
    pst_model_init(&model, SIZE_MAX / 2);
    fill_model(&model, count);
    if (pst_policy_compile(&model, &w->policy, &error) != PST_OK)
        die(error.message);
    pst_model_fini(&model);
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        uint32_t held = 3 + (uint32_t)(next_random(&seed) % 3);
        for (uint32_t k = 0; k < held; k++)
            w->bindings[i][k] = (struct pst_binding){
                .id = k + 1, .role = (uint32_t)(next_random(&seed) % ROLES) + 1};
        uint32_t number = (uint32_t)(next_random(&seed) % count);
        if (i % 2 == 0) /* an id that the first role names */
            number = number / ROLES * ROLES + w->bindings[i][0].role - 1;
        w->facts[i] = (struct pst_facts){.user_id = i + 1,
                                         .name = PST_LIT("user"),
                                         .binding_count = held,
                                         .bindings = w->bindings[i]};
        w->requirements[i].key_count = 1;
        w->requirements[i].keys[0] = (struct pst_key){.entity = PST_LIT("Pipeline"),
                                                      .id_state = PST_ID_KNOWN,
                                                      .id = write_id(w->ids[i], number),
                                                      .op = PST_OP_UPDATE};
        w->questions[i] = (struct pst_question){.policy = w->policy,
                                                .settings = &SETTINGS,
                                                .caller = {.facts = &w->facts[i]},
                                                .requirements = &w->requirements[i],
                                                .requirement_count = 1};
    }
}

static double measure(const struct world *w, uint64_t *allowed)
{
    struct pst_eval_detail detail;
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < QUESTIONS; i++)
            *allowed += pst_eval(&w->questions[i], &detail) == PST_ALLOW;
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
           ((double)ROUNDS * QUESTIONS);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(void)
{
    static const uint32_t SIZES[COUNTS] = {100, 10000, 1000000};
    struct world *worlds = calloc(COUNTS, sizeof(*worlds));
    struct pst_policy_stats stats;
    uint64_t allowed[COUNTS] = {0};

    if (worlds == NULL)
        die("memory");
    for (unsigned c = 0; c < COUNTS; c++)
        prepare(&worlds[c], SIZES[c]);
    for (unsigned turn = 0; turn < TURNS; turn++)
        for (unsigned c = 0; c < COUNTS; c++)
            worlds[c].ns[turn] = measure(&worlds[c], &allowed[c]);
    for (unsigned c = 0; c < COUNTS; c++) {
        qsort(worlds[c].ns, TURNS, sizeof(double), compare);
        printf("decision_ns %u %.1f\n", SIZES[c], worlds[c].ns[0]);
        fprintf(stderr, "%u permissions: %.1f ns (median %.1f, slowest %.1f), %.0f%% allowed\n",
                SIZES[c], worlds[c].ns[0], worlds[c].ns[TURNS / 2], worlds[c].ns[TURNS - 1],
                100.0 * (double)allowed[c] / ((double)TURNS * ROUNDS * QUESTIONS));
    }
    pst_policy_stats(worlds[COUNTS - 1].policy, &stats);
    printf("bytes_per_permission %.1f\n", (double)stats.bytes / (double)stats.permissions);
    for (unsigned c = 0; c < COUNTS; c++)
        pst_policy_destroy(worlds[c].policy);
    free(worlds);
    return 0;
}
