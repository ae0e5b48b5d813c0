/*
 * What the command line has to do with other nodes: tells them of a commit, waits for them, lists
 * them.
 */
#include "cli_internal.h"

#include <stdio.h>
#include <time.h>

#include "postern/base/clock.h"
#include "postern/base/secret.h"
#include "postern/manage/barrier.h"
#include "postern/sync/feed.h"

#define PUBLISH_MS 500

/* Nothing depends on it: whoever does not hear of the commit finds it by himself. */
void pst_cli_publish(const char *config_path, const struct pst_revision *revision)
{
    struct pst_config *config;
    struct pst_feed_config feed;
    struct pst_arena arena;

    if (revision->n == 0 ||
        pst_config_load(pst_cli_config_path(config_path), &config, NULL) != PST_OK)
        return;
    pst_arena_init(&arena, 4096, 1u << 20);
    if (config->sync.feed.address_count > 0 &&
        pst_config_feed(config, &arena, &feed, NULL) == PST_OK) {
        struct pst_error error = {0};
        feed.node = PST_LIT("cli");
        if (pst_feed_publish_once(&feed, revision->epoch, revision->n - 1, revision->n,
                                  PST_FEED_CHANGE, PUBLISH_MS, &error) != PST_OK)
            (void)fprintf(stderr,
                          "postern: Redis was not told: %s (nodes find the change themselves)\n",
                          error.message);
        pst_secret_wipe((void *)(uintptr_t)feed.password.ptr, feed.password.len);
        pst_secret_wipe((void *)(uintptr_t)feed.sentinel_password.ptr, feed.sentinel_password.len);
    }
    pst_arena_fini(&arena);
    pst_config_free(config);
}

/* --- nodes --- */

struct listing {
    bool json;
    unsigned count;
};

static enum pst_status on_node(void *ctx, const struct pst_node_row *row)
{
    struct listing *l = ctx;
    const char *state = row->bound_ms == 0 ? "asleep" : row->draining ? "draining" : "awake";
    bool lapsed = row->bound_ms > 0 && row->lease_age_ms + row->silent_ms > row->bound_ms;

    if (!l->json) {
        if (l->count++ == 0)
            (void)printf("%-32s %-8s %-40s %6s %12s %12s %s\n", "NODE", "STATE", "APPLIED", "B ms",
                         "LEASE AGE ms", "REPORT AGO s", "VERSION");
        (void)printf("%-32.*s %-8s %016llx-%-23llu %6llu %12llu %12llu %.*s%s\n",
                     (int)row->node.len, row->node.ptr, state,
                     (unsigned long long)row->applied.epoch, (unsigned long long)row->applied.n,
                     (unsigned long long)row->bound_ms, (unsigned long long)row->lease_age_ms,
                     (unsigned long long)row->silent_ms / 1000, (int)row->version.len,
                     row->version.ptr,
                     row->exempt > 0 ? "  (has routes that B does not bind)" : "");
        return PST_OK;
    }
    (void)printf("%s{\"node\":", l->count++ == 0 ? "" : ",");
    pst_cli_json(row->node);
    (void)printf(",\"state\":\"%s\",\"applied\":\"%016llx-%llu\",\"bound_ms\":%llu,"
                 "\"lease_age_ms\":%llu,\"lease_lapsed\":%s,\"report_ago_ms\":%llu,\"exempt\":%llu,"
                 "\"version\":",
                 state, (unsigned long long)row->applied.epoch, (unsigned long long)row->applied.n,
                 (unsigned long long)row->bound_ms, (unsigned long long)row->lease_age_ms,
                 row->bound_ms == 0 || lapsed ? "true" : "false",
                 (unsigned long long)row->silent_ms, (unsigned long long)row->exempt);
    pst_cli_json(row->version);
    (void)putchar('}');
    return PST_OK;
}

static enum pst_status list_nodes(struct pst_store *store, bool json, struct pst_error *error)
{
    struct listing l = {.json = json};

    if (json)
        (void)fputs("{\"nodes\":[", stdout);
    enum pst_status status = pst_store_each_node(store, on_node, &l, error);
    if (json && status != PST_OK) { /* one document, whatever comes of it */
        (void)fputs("],\"error\":", stdout);
        pst_cli_json_error(error);
        (void)puts("}");
    } else if (json) {
        (void)puts("]}");
    } else if (l.count == 0 && status == PST_OK) {
        (void)puts("no node is registered");
    }
    return status;
}

struct forgetting {
    struct pst_bytes node;
    uint64_t bound_ms, reported_ms;
    bool found;
};

static enum pst_status on_forgotten(void *ctx, const struct pst_node_row *row)
{
    struct forgetting *f = ctx;

    if (!pst_bytes_equal(row->node, f->node))
        return PST_OK;
    f->found = true;
    f->bound_ms = row->bound_ms;
    f->reported_ms = row->reported_ms;
    return PST_OK;
}

/* One that decides would be waited for by nobody until it finds its row gone. A node at work
 * reports at least every 10 s, and a lease that it has then ends with its bound. That is counted
 * here: the database's clock may have jumped since its last report. */
static enum pst_status watch_node(struct pst_store *store, struct forgetting *seen,
                                  struct pst_error *error)
{
    const struct timespec pause = {.tv_nsec = 250000000};
    uint64_t begun_ns = pst_clock_boot_ns();

    for (;;) {
        struct forgetting f = {.node = seen->node};
        enum pst_status status = pst_store_each_node(store, on_forgotten, &f, error);
        if (status == PST_OK && !f.found)
            return pst_error_set(error, PST_E_ABSENT, NULL,
                                 "no node of that name is registered (postern nodes lists them)");
        if (status == PST_OK && seen->found && f.reported_ms != seen->reported_ms)
            return pst_error_set(error, PST_E_BUSY, NULL,
                                 "it has just reported, and may still decide: stop it first");
        if (status != PST_OK)
            return status;
        uint64_t over_ms = f.bound_ms + UINT64_C(10000);
        if (f.bound_ms > 0 && !seen->found)
            (void)fprintf(stderr, "postern nodes: looks for %llu s whether it reports\n",
                          (unsigned long long)over_ms / 1000);
        *seen = f;
        if (f.bound_ms == 0 || pst_clock_boot_ns() - begun_ns > over_ms * PST_NS_PER_MS)
            return PST_OK;
        (void)nanosleep(&pause, NULL);
    }
}

static enum pst_status forget_node(struct pst_store *store, const char *name,
                                   struct pst_error *error)
{
    struct forgetting f = {.node = pst_bytes_of(name, strlen(name))};
    bool gone;
    enum pst_status status = watch_node(store, &f, error);

    return status == PST_OK ? pst_store_node_forget(store, f.node, f.reported_ms, &gone, error)
                            : status;
}

static int run_nodes(int argc, char **argv)
{
    const char *config = NULL, *url = NULL, *rest[PST_CLI_REPEAT_MAX];
    bool json = false;
    uint32_t rest_count = 0;
    const struct pst_option options[] = {
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration that names the store",
         .text = &config},
        {.name = "--store", .value = "URL", .help = "the store itself", .text = &url},
        {.name = "--json", .help = "as JSON", .flag = &json},
        {0},
    };
    struct pst_error error = {0};
    struct pst_store *store;
    int code = pst_cli_options(&pst_command_nodes, options, argc, argv, rest, &rest_count);

    if (code >= 0)
        return code;
    bool forget = rest_count == 2 && strcmp(rest[0], "forget") == 0;
    if (rest_count != 0 && !forget) {
        (void)fprintf(
            stderr, "postern nodes: expected nothing, or forget NODE (see postern nodes --help)\n");
        return PST_EXIT_USAGE;
    }
    enum pst_status status =
        pst_cli_open_store(config, url, forget ? PST_STORE_WRITE : PST_STORE_READ, &store, &error);
    if (status == PST_OK)
        status = forget ? forget_node(store, rest[1], &error) : list_nodes(store, json, &error);
    bool told = json && !forget && store != NULL;
    pst_store_close(store);
    if (status == PST_OK)
        return PST_EXIT_YES;
    return told ? PST_EXIT_FAILED : pst_cli_fail(json, &error);
}

const struct pst_command pst_command_nodes = {
    "nodes", "Lists the nodes of the fleet; forgets one that will not come back.",
    "[forget NODE] [-c CONFIG | --store URL] [--json]", run_nodes};
