/*
 * config check: everything that a start would read is read, and nothing is made.
 */
#include "cli_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/app/site_build.h"

static enum pst_status check_ca_files(const struct pst_config *config, struct pst_arena *arena,
                                      struct pst_error *error)
{
    for (uint32_t i = 0; i < config->identity.issuers_count; i++) {
        const struct pst_issuer_source *s = &config->sources[i];
        if (s->kind != PST_KEYS_JWKS_URL || s->ca_file.len == 0)
            continue;
        struct pst_bytes path = pst_config_path(config, arena, s->ca_file);
        if (path.ptr == NULL || access(path.ptr, R_OK) != 0) {
            (void)pst_error_set(error, PST_E_IO, path.ptr, "the ca_file cannot be read: %s",
                                strerror(errno));
            const struct pst_node *issuers =
                pst_node_get(pst_node_get(config->tree.root, "identity"), "issuers");
            pst_config_blame(config, pst_node_get(pst_node_at(issuers, i), "keys"), error);
            return PST_E_IO;
        }
    }
    return PST_OK;
}

/* Whether a file that is not there yet can be made at `path`. */
static bool can_be_made(struct pst_bytes path, char *dir, size_t cap)
{
    size_t len = path.len;

    while (len > 0 && path.ptr[len - 1] != '/')
        len--;
    (void)snprintf(dir, cap, "%.*s", (int)len, len == 0 ? "" : path.ptr);
    return access(len == 0 ? "." : dir, W_OK | X_OK) == 0;
}

/* What is understood and yet does nothing, or refuses everybody. */
static void warn_of_settings(const struct pst_config *config, FILE *warnings)
{
    const struct pst_node *root = config->tree.root;
    const struct pst_node *listeners = pst_node_get(root, "listeners"),
                          *issuers = pst_node_get(pst_node_get(root, "identity"), "issuers");
    struct pst_error error = {0};

    for (uint32_t i = 0; i < config->listener_count; i++) {
        if (config->listeners[i].kind != PST_DOOR_AUTH_REQUEST ||
            config->listeners[i].trusted_count > 0)
            continue;
        (void)pst_node_fail(&config->tree, pst_node_at(listeners, i), &error,
                            "without trusted_peers it answers nobody");
        (void)fprintf(warnings, "%s: %s\n", error.where, error.message);
    }
    for (uint32_t i = 0; i < config->identity.issuers_count; i++) {
        if (config->sources[i].create_users || config->sources[i].default_role.len == 0)
            continue;
        (void)pst_node_fail(&config->tree, pst_node_get(pst_node_at(issuers, i), "default_role"),
                            &error, "nobody gets it without unknown_users: create");
        (void)fprintf(warnings, "%s: %s\n", error.where, error.message);
    }
}

/* They may come later: no fault, but nothing is given by a role that is not there. */
static void warn_of_roles(const struct pst_config *config, struct pst_store *store, FILE *warnings)
{
    struct pst_named_role named;
    struct pst_row_role row;

    for (uint32_t i = 0; pst_config_named_role(config, i, &named); i++) {
        struct pst_error error = {0};
        if (pst_store_find_role(store, named.role, 0, &row, NULL) != PST_E_ABSENT)
            continue;
        (void)pst_node_fail(&config->tree, named.at, &error, "there is no global role \"%s\" yet",
                            named.role.ptr);
        (void)fprintf(warnings, "%s: %s\n", error.where, error.message);
    }
}

/* A database that is not there yet is made by the first start, in a folder that is. */
static enum pst_status check_store(const struct pst_config *config, struct pst_bytes url,
                                   FILE *warnings, struct pst_error *error)
{
    static const struct pst_bytes SQLITE = {"sqlite:///", 10};
    const struct pst_node *at = pst_node_get(pst_node_get(config->tree.root, "store"), "url");
    struct pst_store *store;
    char dir[1024];
    enum pst_status status = pst_store_open(url, PST_STORE_ANY, &store, error);

    if (status == PST_OK)
        warn_of_roles(config, store, warnings);
    pst_store_close(store);
    if (status == PST_E_ABSENT && (at == NULL || !pst_bytes_starts(url, SQLITE) ||
                                   can_be_made(pst_bytes_from(url, SQLITE.len), dir, sizeof(dir))))
        return PST_OK;
    if (status == PST_E_ABSENT)
        (void)pst_error_set(error, status, dir, "no database can be made there: %s",
                            strerror(errno));
    if (status != PST_OK)
        pst_config_blame(config, at, error);
    return status;
}

/* Nothing is opened: a check leaves no file behind. */
static enum pst_status check_logs(const struct pst_config *config, struct pst_error *error)
{
    static const char *const KEYS[PST_LOG_STREAMS] = {[PST_LOG_EVENTS] = "events",
                                                      [PST_LOG_ACCESS] = "access",
                                                      [PST_LOG_DECISIONS] = "decisions"};
    static const char *const WORDS[] = {"off", "stdout", "stderr"};
    char dir[1024];

    for (unsigned s = 0; s < PST_LOG_STREAMS; s++) {
        struct pst_bytes path = config->log.paths[s];
        struct stat st;
        bool word = path.len == 0;
        for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
            word = word || pst_bytes_equal(path, pst_bytes_of(WORDS[i], strlen(WORDS[i])));
        if (word)
            continue;
        bool there = stat(path.ptr, &st) == 0;
        if (there ? !S_ISDIR(st.st_mode) && access(path.ptr, W_OK) == 0
                  : can_be_made(path, dir, sizeof(dir)))
            continue;
        return pst_node_fail(&config->tree,
                             pst_node_get(pst_node_get(config->tree.root, "log"), KEYS[s]), error,
                             "%s: the log file cannot be opened: %s", path.ptr,
                             strerror(there && S_ISDIR(st.st_mode) ? EISDIR : errno));
    }
    return PST_OK;
}

/* Reads passwords and certificates; nothing is connected to. */
static enum pst_status check_feed(const struct pst_config *config, struct pst_arena *arena,
                                  struct pst_error *error)
{
    static const struct pst_feed_ops ops = {0};
    struct pst_feed_config feed_config;
    struct pst_worker *worker = NULL;
    struct pst_feed *feed = NULL;

    if (config->sync.feed.address_count == 0)
        return PST_OK;
    enum pst_status status = pst_config_feed(config, arena, &feed_config, error);
    if (status == PST_OK) {
        status = pst_worker_create(0, &worker);
        feed_config.node = PST_LIT("check");
    }
    if (status == PST_OK)
        status = pst_feed_create(worker, &feed_config, &ops, NULL, &feed, error);
    pst_feed_destroy(feed);
    pst_worker_destroy(worker);
    return status;
}

/* As a start would find the keys; a pair that it would make is made elsewhere. */
static enum pst_status check_keys(const struct pst_config *config, struct pst_key_ring *ring,
                                  struct pst_error *error)
{
    struct pst_config stand_in = *config;
    struct pst_cli_scratch scratch = {0};
    bool missing;
    enum pst_status status = pst_state_look(config, &missing, error);

    if (status == PST_OK && missing)
        status = pst_cli_scratch_make(&scratch, error);
    if (status == PST_OK && missing) {
        stand_in.state_dir = pst_bytes_of(scratch.dir, strlen(scratch.dir));
        status = pst_state_prepare(&stand_in, error);
    }
    if (status == PST_OK)
        status = pst_key_ring_create(&stand_in, ring, error);
    pst_cli_scratch_remove(&scratch);
    return status;
}

/* Builds everything that a start would build, and throws it away. */
static enum pst_status check_config(const struct pst_config *config, FILE *warnings,
                                    struct pst_error *error)
{
    struct pst_key_ring ring = {0};
    struct pst_site *site = NULL;
    struct pst_server_config doors;
    struct pst_arena arena;

    pst_arena_init(&arena, 16384, 16u << 20);
    enum pst_status status = check_keys(config, &ring, error);
    if (status == PST_OK)
        status = pst_site_build(config, &ring, &site, error);
    if (status == PST_OK)
        status = pst_doors_build(config, NULL, &arena, &doors, error);
    if (status == PST_OK)
        status = check_ca_files(config, &arena, error);
    if (status == PST_OK)
        status = check_feed(config, &arena, error);
    if (status == PST_OK)
        status = check_logs(config, error);
    if (status == PST_OK)
        warn_of_settings(config, warnings);
    if (status == PST_OK)
        status = check_store(config, pst_store_url(config, &arena), warnings, error);
    pst_site_release(site);
    pst_key_ring_destroy(&ring);
    pst_arena_fini(&arena);
    return status;
}

/* Lines, on a terminal beside the answer and in JSON within it. */
static void show_warnings(struct pst_bytes lines, bool json)
{
    const char *between = "";

    if (!json) {
        (void)fwrite(lines.ptr, 1, lines.len, stderr);
        (void)puts("ok");
        return;
    }
    (void)fputs("{\"ok\":true,\"warnings\":[", stdout);
    while (lines.len > 0) {
        size_t end = pst_bytes_find(lines, '\n');
        (void)fputs(between, stdout);
        pst_cli_json(pst_bytes_of(lines.ptr, end));
        lines = pst_bytes_from(lines, end + 1);
        between = ",";
    }
    (void)puts("]}");
}

static int run_config(int argc, char **argv)
{
    const char *path = NULL, *rest[PST_CLI_REPEAT_MAX];
    char *warnings = NULL;
    size_t len = 0;
    uint32_t rest_count = 0;
    bool json = false;
    const struct pst_option options[] = {
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration; none: the embedded default",
         .text = &path},
        {.name = "--json", .help = "as JSON", .flag = &json},
        {0},
    };
    struct pst_config *config;
    struct pst_error error = {0};
    int code = pst_cli_options(&pst_command_config, options, argc, argv, rest, &rest_count);

    if (code >= 0)
        return code;
    if (rest_count < 1 || strcmp(rest[0], "check") != 0 || rest_count > 2) {
        (void)fprintf(stderr,
                      "postern config: expected check [FILE] (see postern config --help)\n");
        return PST_EXIT_USAGE;
    }
    if (rest_count == 2)
        path = rest[1];
    FILE *memory = open_memstream(&warnings, &len);
    enum pst_status status = PST_E_NOMEM;
    if (memory == NULL)
        (void)pst_error_set(&error, status, NULL, "no memory");
    else
        status = pst_config_load(pst_cli_config_path(path), &config, &error);
    if (status == PST_OK) {
        status = check_config(config, memory, &error);
        pst_config_free(config);
    }
    if (memory != NULL && fclose(memory) != 0 && status == PST_OK)
        status = pst_error_set(&error, PST_E_NOMEM, NULL, "no memory");
    if (status == PST_OK)
        show_warnings(pst_bytes_of(warnings, len), json);
    else
        (void)pst_cli_fail(json, &error);
    free(warnings);
    return status == PST_OK ? PST_EXIT_YES : PST_EXIT_NO;
}

const struct pst_command pst_command_config = {
    "config", "Checks a configuration and everything it names, without starting.",
    "check [-c] [FILE] [--json]", run_config};
