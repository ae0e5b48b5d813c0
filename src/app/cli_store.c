/*
 * apply, diff, export, db: the store from the command line.
 */
#include "cli_internal.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/app/policies.h"
#include "postern/app/yaml.h"
#include "postern/base/clock.h"
#include "postern/base/secret.h"
#include "postern/manage/declare.h"
#include "postern/policy/level.h"

struct files {
    struct pst_tree trees[PST_CLI_REPEAT_MAX];
    const struct pst_tree *list[PST_CLI_REPEAT_MAX];
    uint32_t count;
};

static enum pst_status load_input(struct pst_tree *tree, struct pst_error *error)
{
    char *text = NULL, piece[16384];
    size_t len = 0, n;
    FILE *memory = open_memstream(&text, &len);
    enum pst_status status = memory == NULL ? PST_E_NOMEM : PST_OK;
    uint64_t left = PST_YAML_FILE_MAX;

    *tree = (struct pst_tree){0};
    while (status == PST_OK && (n = fread(piece, 1, sizeof(piece), stdin)) > 0) {
        if (n > left)
            status = PST_E_LIMIT;
        else if (fwrite(piece, 1, n, memory) != n)
            status = PST_E_NOMEM;
        left -= n;
    }
    if (status == PST_OK && ferror(stdin) != 0)
        status = PST_E_IO;
    if (memory != NULL && fclose(memory) != 0 && status == PST_OK)
        status = PST_E_NOMEM;
    status = status == PST_OK
                 ? pst_yaml_load_text(PST_LIT("-"), pst_bytes_of(text, len), tree, error)
                 : pst_error_set(error, status, "-", "standard input cannot be read whole");
    free(text);
    return status;
}

/* A path; "-": standard input; or "roles/mage.yaml" and the like: a shipped file, when there is no
 * such file here. */
static enum pst_status load_one(const char *path, struct pst_tree *tree, struct pst_error *error)
{
    if (path[0] == '-' && path[1] == '\0')
        return load_input(tree, error);
    enum pst_status status = pst_yaml_load_file(path, tree, error);

    if (status != PST_E_ABSENT || pst_policies_embedded(pst_bytes_of(path, strlen(path))).len == 0)
        return status;
    return pst_policies_load((struct pst_bytes){0}, pst_bytes_of(path, strlen(path)), tree, error);
}

static enum pst_status load_files(struct files *f, const char *const *paths, uint32_t count,
                                  struct pst_error *error)
{
    enum pst_status status = PST_OK;

    for (uint32_t i = 0; i < count && status == PST_OK; i++) {
        status = load_one(paths[i], &f->trees[i], error);
        f->list[i] = &f->trees[i];
        f->count++;
    }
    return status;
}

static void free_files(struct files *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        pst_tree_fini(&f->trees[i]);
    free(f);
}

static enum pst_status load_levels(struct pst_presets *presets, struct pst_error *error)
{
    struct pst_tree tree;
    enum pst_status status =
        pst_policies_load((struct pst_bytes){0}, PST_LIT("roles/levels.yaml"), &tree, error);

    if (status == PST_OK)
        status = pst_presets_load(&tree, presets, error);
    pst_tree_fini(&tree);
    return status;
}

/* Who does it, for the log: "cli:NAME". */
static struct pst_bytes actor(char *room, size_t cap)
{
    const struct passwd *user = getpwuid(geteuid());
    int n = user != NULL ? snprintf(room, cap, "cli:%s", user->pw_name)
                         : snprintf(room, cap, "cli:%u", geteuid());

    return pst_bytes_of(room, n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1);
}

struct store_args {
    const char *config, *store, *files[PST_CLI_REPEAT_MAX];
    uint32_t file_count;
    bool dry_run, prune, json, wait;
};

/* What is left to do once it is committed; none of it can fail the change any more. */
static void follow_up(const struct store_args *a, struct pst_store *store, uint64_t acked_ns,
                      struct pst_apply_report *report)
{
    uint8_t key[PST_FLEET_KEY_BYTES];
    struct pst_buf token = pst_buf_of(report->token, sizeof(report->token) - 1);

    if (pst_store_fleet_key(store, key, NULL) != PST_OK ||
        !pst_revision_token_write(key, &report->revision, &token))
        token.len = 0;
    report->token[token.len] = '\0';
    pst_secret_wipe(key, sizeof(key));
    if (a->dry_run)
        return;
    if (a->store == NULL && report->added + report->changed + report->removed > 0)
        pst_cli_publish(a->config, &report->revision);
    if (a->wait) {
        pst_barrier_wait(store, &report->revision, acked_ns, report->bound_before_s,
                         &report->barrier);
        report->waited = true;
    }
}

static enum pst_status open_for(const struct store_args *a, bool diff,
                                struct pst_cli_scratch *scratch, struct pst_store **store,
                                struct pst_error *error)
{
    if (!a->dry_run)
        return pst_cli_open_store(a->config, a->store, diff ? PST_STORE_WRITE : PST_STORE_CREATE,
                                  store, error);
    enum pst_status status = pst_cli_try_store(a->config, a->store, scratch, store, error);
    if (status == PST_OK && scratch->dir[0] != '\0')
        (void)fputs("postern: there is no database yet; seen against an empty one\n", stderr);
    return status;
}

static int declare(const struct store_args *a, bool diff)
{
    char room[128];
    struct pst_cli_scratch scratch = {0};
    struct pst_error error = {0};
    struct pst_store *store = NULL;
    struct pst_presets presets = {0};
    struct pst_apply_report report = {0};
    struct files *f = calloc(1, sizeof(*f));
    struct pst_apply_options options = {.dry_run = a->dry_run,
                                        .prune = a->prune,
                                        .actor = actor(room, sizeof(room)),
                                        .presets = &presets};
    enum pst_status status =
        f == NULL ? pst_error_set(&error, PST_E_NOMEM, NULL, "no memory") : PST_OK;

    if (status == PST_OK)
        status = load_levels(&presets, &error);
    if (status == PST_OK)
        status = load_files(f, a->files, a->file_count, &error);
    if (status == PST_OK)
        status = open_for(a, diff, &scratch, &store, &error);
    if (status == PST_OK)
        status = diff ? pst_diff(store, f->list, f->count, &options, &error, &report)
                      : pst_apply(store, f->list, f->count, &options, &error, &report);
    if (status == PST_OK && !diff)
        follow_up(a, store, pst_clock_boot_ns(), &report);
    if (status == PST_OK)
        status = a->json ? pst_report_json(&report, a->dry_run || diff, stdout)
                         : pst_report_text(&report, a->dry_run || diff, stdout);
    if (status != PST_OK && error.message[0] == '\0')
        pst_error_set(&error, status, NULL, "the report could not be written%s",
                      diff || a->dry_run ? "" : "; the change is made");
    int code = status != PST_OK ? pst_cli_fail(a->json, &error)
               : diff && report.added + report.changed + report.removed > 0 ? PST_EXIT_NO
                                                                            : PST_EXIT_YES;
    pst_apply_report_fini(&report);
    pst_store_close(store);
    pst_cli_scratch_remove(&scratch);
    pst_presets_fini(&presets);
    if (f != NULL)
        free_files(f);
    return code;
}

static int run_declare(const struct pst_command *command, int argc, char **argv, bool diff)
{
    struct store_args a = {0};
    const struct pst_option all[] = {
        {.name = "--file",
         .letter = 'f',
         .value = "FILE",
         .help =
             "declarations (again for more; - is standard input); shipped ones by name, such as "
             "roles/mage.yaml",
         .list = a.files,
         .list_count = &a.file_count},
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration that names the store",
         .text = &a.config},
        {.name = "--store",
         .value = "URL",
         .help = "the store itself, such as sqlite:////var/lib/postern/postern.db",
         .text = &a.store},
        {.name = "--json", .help = "as JSON", .flag = &a.json},
        {.name = "--dry-run", .help = "show what would change, change nothing", .flag = &a.dry_run},
        {.name = "--prune",
         .help = "delete what the files do not declare, of the kinds that they contain",
         .flag = &a.prune},
        {.name = "--wait",
         .help = "return when the change is in force on every node",
         .flag = &a.wait},
        {0},
    };
    struct pst_option options[8];
    memcpy(options, all, sizeof(options));
    if (diff)
        options[4] = (struct pst_option){0}; /* a diff has none of the last three */
    int code = pst_cli_options(command, options, argc, argv, a.files, &a.file_count);

    if (code >= 0)
        return code;
    if (a.file_count == 0) {
        (void)fprintf(stderr,
                      "postern %s: name at least one file with -f (see postern %s --help)\n",
                      command->name, command->name);
        return PST_EXIT_USAGE;
    }
    return declare(&a, diff);
}

static int run_apply(int argc, char **argv)
{
    return run_declare(&pst_command_apply, argc, argv, false);
}

static int run_diff(int argc, char **argv)
{
    return run_declare(&pst_command_diff, argc, argv, true);
}

const struct pst_command pst_command_apply = {
    "apply", "Makes the store hold what files declare, in one transaction.",
    "-f FILE [-f FILE ...] [--dry-run] [--prune] [--wait] [-c CONFIG | --store URL] [--json]",
    run_apply};
const struct pst_command pst_command_diff = {
    "diff", "Shows how the store differs from files. Exit code 1 when it does.",
    "-f FILE [-f FILE ...] [-c CONFIG | --store URL] [--json]", run_diff};

/* --- export --- */

static void put_json(const struct pst_node *n)
{
    uint64_t number;

    if (n->kind == PST_NODE_LIST || n->kind == PST_NODE_MAP) {
        bool map = n->kind == PST_NODE_MAP;
        (void)putchar(map ? '{' : '[');
        for (const struct pst_node *c = n->first; c != NULL; c = c->next) {
            if (c != n->first)
                (void)putchar(',');
            if (map) {
                pst_cli_json(c->key);
                (void)putchar(':');
            }
            put_json(c);
        }
        (void)putchar(map ? '}' : ']');
        return;
    }
    if (n->kind == PST_NODE_NULL) {
        (void)fputs("null", stdout);
        return;
    }
    bool bare = !n->quoted &&
                (pst_bytes_u63(n->text, &number) || pst_bytes_equal(n->text, PST_LIT("true")) ||
                 pst_bytes_equal(n->text, PST_LIT("false")));
    if (bare)
        (void)fwrite(n->text.ptr, 1, n->text.len, stdout);
    else
        pst_cli_json(n->text);
}

/* The export is YAML; as JSON it is the same document, read back. */
static enum pst_status export_json(struct pst_store *store, struct pst_error *error)
{
    char *text = NULL;
    size_t len = 0;
    struct pst_tree tree = {0};
    FILE *memory = open_memstream(&text, &len);

    if (memory == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    enum pst_status status = pst_export(store, memory, error);
    if (fclose(memory) != 0 && status == PST_OK)
        status = pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    if (status == PST_OK)
        status = pst_yaml_load_text(PST_LIT("export"), pst_bytes_of(text, len), &tree, error);
    if (status == PST_OK) {
        put_json(tree.root);
        (void)fputc('\n', stdout);
    }
    pst_tree_fini(&tree);
    free(text);
    return status;
}

static int run_export(int argc, char **argv)
{
    struct store_args a = {0};
    const struct pst_option options[] = {
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration that names the store",
         .text = &a.config},
        {.name = "--store", .value = "URL", .help = "the store itself", .text = &a.store},
        {.name = "--json", .help = "as JSON", .flag = &a.json},
        {0},
    };
    struct pst_error error = {0};
    struct pst_store *store;
    int code = pst_cli_options(&pst_command_export, options, argc, argv, NULL, NULL);

    if (code >= 0)
        return code;
    enum pst_status status = pst_cli_open_store(a.config, a.store, PST_STORE_READ, &store, &error);
    if (status == PST_OK)
        status = a.json ? export_json(store, &error) : pst_export(store, stdout, &error);
    pst_store_close(store);
    return status == PST_OK ? PST_EXIT_YES : pst_cli_fail(a.json, &error);
}

const struct pst_command pst_command_export = {
    "export", "Writes everything that apply understands, sorted; apply takes it back.",
    "[-c CONFIG | --store URL] [--json]", run_export};

/* --- db --- */

static int show_status(struct pst_store *store, bool json, struct pst_error *error)
{
    struct pst_store_status s;
    enum pst_status status = pst_store_status(store, &s, error);

    if (status != PST_OK)
        return pst_cli_fail(json, error);
    (void)printf(json ? "{\"backend\":\"%s\",\"schema\":%u,\"schema_newest\":%u,\"epoch\":\"%"
                        "016llx\",\"n\":%llu,"
                        "\"workspaces\":%llu,\"users\":%llu,\"roles\":%llu,\"permissions\":%llu,"
                        "\"bindings\":%llu}\n"
                      : "backend      %s\nschema       %u of %u\nrevision     "
                        "%016llx-%llu\nworkspaces   %llu\nusers        %llu\n"
                        "roles        %llu\npermissions  %llu\nbindings     %llu\n",
                 pst_store_backend(store), s.schema, s.schema_newest,
                 (unsigned long long)s.revision.epoch, (unsigned long long)s.revision.n,
                 (unsigned long long)s.workspaces, (unsigned long long)s.users,
                 (unsigned long long)s.roles, (unsigned long long)s.permissions,
                 (unsigned long long)s.bindings);
    return PST_EXIT_YES;
}

static int show_check(struct pst_store *store, bool json, struct pst_error *error)
{
    if (pst_store_check(store, error) != PST_OK) {
        (void)pst_cli_fail(json, error);
        return PST_EXIT_NO;
    }
    (void)puts(json ? "{\"ok\":true}" : "ok");
    return PST_EXIT_YES;
}

static int show_restored(struct pst_store *store, bool json, struct pst_error *error)
{
    struct pst_revision revision;

    if (pst_store_restored(store, &revision, error) != PST_OK)
        return pst_cli_fail(json, error);
    (void)printf(json ? "{\"epoch\":\"%016llx\",\"n\":%llu}\n"
                      : "a new history begins at revision %016llx-%llu; every node reloads\n",
                 (unsigned long long)revision.epoch, (unsigned long long)revision.n);
    return PST_EXIT_YES;
}

static const char *const DB_ACTIONS[] = {"migrate", "status", "check", "restored"};

enum db_action { DB_MIGRATE, DB_STATUS, DB_CHECK, DB_RESTORED, DB_UNKNOWN };

static enum db_action find_action(const char *name)
{
    unsigned i = 0;

    while (i < DB_UNKNOWN && strcmp(name, DB_ACTIONS[i]) != 0)
        i++;
    return (enum db_action)i;
}

static int run_db_action(enum db_action action, const struct store_args *a)
{
    struct pst_error error = {0};
    struct pst_store *store;
    int code;
    enum pst_status status =
        action == DB_MIGRATE
            ? pst_cli_migrate_store(a->config, a->store, &store, &error)
            : pst_cli_open_store(a->config, a->store, PST_STORE_ANY, &store, &error);

    if (status != PST_OK)
        code = pst_cli_fail(a->json, &error);
    else if (action == DB_CHECK)
        code = show_check(store, a->json, &error);
    else if (action == DB_RESTORED)
        code = show_restored(store, a->json, &error);
    else
        code = show_status(store, a->json, &error);
    pst_store_close(store);
    return code;
}

static int run_db(int argc, char **argv)
{
    struct store_args a = {0};
    const char *rest[PST_CLI_REPEAT_MAX];
    uint32_t rest_count = 0;
    const struct pst_option options[] = {
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration that names the store",
         .text = &a.config},
        {.name = "--store", .value = "URL", .help = "the store itself", .text = &a.store},
        {.name = "--json", .help = "as JSON", .flag = &a.json},
        {0},
    };
    int code = pst_cli_options(&pst_command_db, options, argc, argv, rest, &rest_count);

    if (code >= 0)
        return code;
    enum db_action action = rest_count == 1 ? find_action(rest[0]) : DB_UNKNOWN;
    if (action == DB_UNKNOWN) {
        (void)fprintf(
            stderr,
            "postern db: expected migrate, status, check or restored (see postern db --help)\n");
        return PST_EXIT_USAGE;
    }
    return run_db_action(action, &a);
}

const struct pst_command pst_command_db = {
    "db",
    "Brings the schema up to date, shows the store's state, checks it; restored: after a restore "
    "from a backup, so that no node takes the new history for the old.",
    "migrate|status|check|restored [-c CONFIG | --store URL] [--json]", run_db};
