/*
 * ms to make a policy of a million permissions (100 roles of 10^4): whole, from an older one after
 * a change of one role, and from its image. The rows are prepared; what is timed is the compiler
 * and the reader alone.
 *
 * Two kinds of policy: `ids`, rows on distinct ids of one entity, and `mixed`, which has 40
 * entities and lists of attributes in every tenth row. The fastest of some turns is printed.
 *
 * Prints: compile_ms KIND MS; patch_ms KIND MS; image_write_ms KIND MS; image_read_ms KIND MS;
 * image_bytes_per_permission KIND N.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "postern/policy/image.h"

#define ROLES   100u
#define ROWS    10000u /* of a role */
#define TURNS   3
#define PATCHES 60

static void die(const char *what)
{
    fprintf(stderr, "bench_patch: %s\n", what);
    exit(2);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A uuid that only depends on its number. */
static struct pst_bytes write_id(char out[40], uint32_t number)
{
    uint64_t a = number * UINT64_C(0x9e3779b97f4a7c15), b = a ^ (a >> 29);

    int n =
        snprintf(out, 40, "%08" PRIx32 "-%04" PRIx64 "-4%03" PRIx64 "-8%03" PRIx64 "-%012" PRIx64,
                 (uint32_t)(b >> 32), a & 0xffff, a >> 16 & 0xfff, a >> 28 & 0xfff,
                 b & UINT64_C(0xffffffffffff));
    return pst_bytes_of(out, (size_t)n);
}

static void add_rows(struct pst_model *model, uint32_t role, bool mixed)
{
    static const struct pst_bytes NAMES[] = {{"name", 4}, {"id", 2}, {"created_at", 10}};
    char id[40], entity[16];

    for (uint32_t i = 0; i < ROWS; i++) {
        int n = snprintf(entity, sizeof(entity), "Entity%u", mixed ? i * 7 % 40 : 0);
        struct pst_permission_row row = {.id = role * ROWS + i + 1,
                                         .role = role,
                                         .has_access = true,
                                         .entity = pst_bytes_of(entity, (size_t)n),
                                         .has_entity_id = true,
                                         .entity_id = write_id(id, role * ROWS + i),
                                         .access = i % 16 == 15 ? PST_A_DISABLE_UPDATE
                                                                : PST_A_DETAIL | PST_A_UPDATE};
        if (mixed && i % 10 == 0) {
            row.attributes[PST_ATTR_READ] = NAMES;
            row.attribute_count[PST_ATTR_READ] = 1 + i / 10 % 3;
        }
        if (pst_model_add_permission(model, &row) != PST_OK)
            die("permission");
    }
}

static void add_role(struct pst_model *model, uint32_t id, bool mixed)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "role-%u", id);
    struct pst_role_row row = {.id = id, .name = pst_bytes_of(text, (size_t)n)};

    if (pst_model_add_role(model, &row) != PST_OK)
        die("role");
    add_rows(model, id, mixed);
}

static struct pst_policy *compile(const char *kind, bool mixed)
{
    struct pst_policy *policy = NULL;
    struct pst_error error;
    struct pst_model model;
    double best = 0;

    pst_model_init(&model, SIZE_MAX / 2);
    for (uint32_t i = 1; i <= ROLES; i++)
        add_role(&model, i, mixed);
    for (int turn = 0; turn < TURNS; turn++) {
        pst_policy_destroy(policy);
        double from = now_ms();
        if (pst_policy_compile(&model, &policy, &error) != PST_OK)
            die(error.message);
        double ms = now_ms() - from;
        best = turn == 0 || ms < best ? ms : best;
    }
    printf("compile_ms %s %.1f\n", kind, best);
    pst_model_fini(&model);
    return policy;
}

struct image {
    char *data;
    size_t len, cap;
};

static enum pst_status append(void *ctx, struct pst_bytes bytes)
{
    struct image *image = ctx;

    if (bytes.len > image->cap - image->len)
        return PST_E_LIMIT;
    memcpy(image->data + image->len, bytes.ptr, bytes.len);
    image->len += bytes.len;
    return PST_OK;
}

static void measure_image(const char *kind, const struct pst_policy *policy)
{
    struct image image = {.cap = (size_t)ROLES * ROWS * 128};
    struct pst_error error;
    double write = 0, read = 0;

    image.data = malloc(image.cap);
    if (image.data == NULL)
        die("memory");
    for (int turn = 0; turn < TURNS; turn++) {
        struct pst_policy *again;
        image.len = 0;
        double from = now_ms();
        if (pst_policy_image_write(policy, append, &image) != PST_OK)
            die("image");
        double between = now_ms();
        if (pst_policy_image_read(pst_bytes_of(image.data, image.len), &again, &error) != PST_OK)
            die(error.message);
        double to = now_ms();
        write = turn == 0 || between - from < write ? between - from : write;
        read = turn == 0 || to - between < read ? to - between : read;
        pst_policy_destroy(again);
    }
    printf("image_write_ms %s %.1f\nimage_read_ms %s %.1f\nimage_bytes_per_permission %s %.1f\n",
           kind, write, kind, read, kind, (double)image.len / (ROLES * ROWS));
    free(image.data);
}

static void measure(const char *kind, bool mixed)
{
    struct pst_policy *policy = compile(kind, mixed), *patched;
    const uint32_t touched[] = {ROLES / 2};
    struct pst_error error;
    struct pst_model model;
    double best = 0;

    pst_model_init(&model, SIZE_MAX / 2);
    add_role(&model, touched[0], mixed);
    struct pst_policy_patch patch = {.model = &model, .touched = touched, .touched_count = 1};
    for (int turn = 0; turn < PATCHES; turn++) {
        double from = now_ms();
        if (pst_policy_patch(policy, &patch, &patched, &error) != PST_OK)
            die(error.message);
        double ms = now_ms() - from;
        best = turn == 0 || ms < best ? ms : best;
        pst_policy_destroy(policy);
        policy = patched;
    }
    printf("patch_ms %s %.2f\n", kind, best);
    pst_model_fini(&model);
    measure_image(kind, policy);
    pst_policy_destroy(policy);
}

int main(void)
{
    measure("ids", false);
    measure("mixed", true);
    return 0;
}
