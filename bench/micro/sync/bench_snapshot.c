/*
 * ms to save and to load a snapshot of a million permissions (100 roles of 10^4 rows on uuids), in
 * a temporary directory: MAC, file and policy, with the file in the page cache.
 *
 * Prints: snapshot_save_ms MS; snapshot_load_ms MS; snapshot_bytes N; and by how much loading
 * raised the peak of the process's memory, beside what the policy itself takes: load_peak_kib,
 * policy_kib. Saving runs in a child, so that its rows do not count for that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/sync/snapshot.h"

#define ROLES 100u
#define ROWS  10000u /* of a role */
#define TURNS 5

static void die(const char *what)
{
    fprintf(stderr, "bench_snapshot: %s\n", what);
    exit(2);
}

static double now_ms(void)
{
    return (double)pst_clock_boot_ns() / 1e6;
}

static long peak_kib(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss : 0;
}

static void add_role(struct pst_model *model, uint32_t id)
{
    const struct pst_role_row role = {.id = id, .name = PST_LIT("role")};
    char text[40];

    if (pst_model_add_role(model, &role) != PST_OK)
        die("role");
    for (uint32_t i = 0; i < ROWS; i++) {
        int n = snprintf(text, sizeof(text), "%08" PRIx32 "-0000-4000-8000-%012" PRIx32,
                         (id * ROWS + i) * UINT32_C(0x9e3779b1), i);
        struct pst_permission_row row = {.id = id * ROWS + i + 1,
                                         .role = id,
                                         .has_access = true,
                                         .access = PST_A_DETAIL | PST_A_UPDATE,
                                         .entity = PST_LIT("Pipeline"),
                                         .has_entity_id = true,
                                         .entity_id = pst_bytes_of(text, (size_t)n)};
        if (pst_model_add_permission(model, &row) != PST_OK)
            die("permission");
    }
}

static void save(const char *path, const unsigned char *key)
{
    const struct pst_snapshot_about about = {.mark = {.revision = {.epoch = 1, .n = 1}}};
    struct pst_policy *policy;
    struct pst_error error = {0};
    struct pst_model model;
    double best = 0;

    pst_model_init(&model, SIZE_MAX / 2);
    for (uint32_t i = 1; i <= ROLES; i++)
        add_role(&model, i);
    if (pst_policy_compile(&model, &policy, &error) != PST_OK)
        die(error.message);
    for (int turn = 0; turn < TURNS; turn++) {
        double from = now_ms();
        if (pst_snapshot_save(path, key, &about, policy, &error) != PST_OK)
            die(error.message);
        double ms = now_ms() - from;
        best = turn == 0 || ms < best ? ms : best;
    }
    printf("snapshot_save_ms %.1f\n", best);
    pst_policy_destroy(policy);
    pst_model_fini(&model);
}

static void load(const char *path, const unsigned char *key)
{
    struct pst_snapshot_about about;
    struct pst_policy_stats stats;
    struct pst_policy *policy;
    struct pst_error error = {0};
    double best = 0;
    long before = peak_kib();

    for (int turn = 0; turn < TURNS; turn++) {
        double from = now_ms();
        if (pst_snapshot_load(path, key, &about, &policy, &error) != PST_OK)
            die(error.message);
        double ms = now_ms() - from;
        best = turn == 0 || ms < best ? ms : best;
        pst_policy_stats(policy, &stats);
        pst_policy_destroy(policy);
    }
    printf("snapshot_load_ms %.1f\nload_peak_kib %ld\n", best, peak_kib() - before);
    printf("policy_kib %" PRIu64 "\n", stats.bytes / 1024);
}

int main(void)
{
    char dir[] = "/tmp/postern-bench-XXXXXX", path[64];
    unsigned char key[PST_MAC_KEY_LEN];
    struct stat st;
    int status;

    if (mkdtemp(dir) == NULL)
        die("directory");
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    pst_random(key, sizeof(key));
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        save(path, key);
        return 0;
    }
    if (waitpid(child, &status, 0) != child || status != 0 || stat(path, &st) != 0)
        die("saving");
    load(path, key);
    printf("snapshot_bytes %lld\n", (long long)st.st_size);
    (void)unlink(path);
    (void)rmdir(dir);
    return 0;
}
