#include "cli_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/app/control.h"
#include "postern/app/site_build.h"

static const struct pst_command *const COMMANDS[] = {
    &pst_command_serve, &pst_command_check,  &pst_command_apply,   &pst_command_export,
    &pst_command_diff,  &pst_command_config, &pst_command_token,   &pst_command_policy,
    &pst_command_db,    &pst_command_nodes,  &pst_command_version,
};
#define COMMAND_COUNT (sizeof(COMMANDS) / sizeof(COMMANDS[0]))

/* --- options --- */

static void show_help(FILE *out, const struct pst_command *command,
                      const struct pst_option *options)
{
    (void)fprintf(out, "usage: postern %s %s\n\n%s\n\n", command->name, command->usage,
                  command->summary);
    for (const struct pst_option *o = options; o->name != NULL; o++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "%s%c%s%s%s%s", o->letter == 0 ? "    " : "-",
                       o->letter == 0 ? ' ' : o->letter, o->letter == 0 ? "" : ", ", o->name,
                       o->value == NULL ? "" : " ", o->value == NULL ? "" : o->value);
        (void)fprintf(out, "  %-32s %s\n", left, o->help);
    }
    (void)fprintf(out, "  %-32s %s\n", "-h, --help", "this text");
}

static const struct pst_option *find_option(const struct pst_option *options, const char *arg,
                                            const char **value)
{
    *value = NULL;
    for (const struct pst_option *o = options; o->name != NULL; o++) {
        size_t len = strlen(o->name);
        if (strncmp(arg, o->name, len) == 0 &&
            (arg[len] == '\0' || (arg[len] == '=' && o->value != NULL))) {
            *value = arg[len] == '=' ? arg + len + 1 : NULL;
            return o;
        }
        if (o->letter != 0 && arg[0] == '-' && arg[1] == o->letter &&
            (arg[2] == '\0' || o->value != NULL)) {
            *value = arg[2] == '\0' ? NULL : arg + 2;
            return o;
        }
    }
    return NULL;
}

static int wrong(const struct pst_command *command, const char *what, const char *arg)
{
    (void)fprintf(stderr, "postern %s: %s %s (see postern %s --help)\n", command->name, what, arg,
                  command->name);
    return PST_EXIT_USAGE;
}

static int take(const struct pst_command *command, const struct pst_option *o, const char *value)
{
    if (o->flag != NULL)
        *o->flag = true;
    else if (o->list == NULL)
        *o->text = value;
    else if (*o->list_count == PST_CLI_REPEAT_MAX)
        return wrong(command, "too often:", o->name);
    else
        o->list[(*o->list_count)++] = value;
    return -1;
}

int pst_cli_options(const struct pst_command *command, const struct pst_option *options, int argc,
                    char **argv, const char **rest, uint32_t *rest_count)
{
    for (int i = 0; i < argc; i++) {
        const char *value;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            show_help(stdout, command, options);
            return PST_EXIT_YES;
        }
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            if (rest == NULL || *rest_count == PST_CLI_REPEAT_MAX)
                return wrong(command, "unexpected argument", argv[i]);
            rest[(*rest_count)++] = argv[i];
            continue;
        }
        const struct pst_option *o = find_option(options, argv[i], &value);
        if (o == NULL)
            return wrong(command, "unknown option", argv[i]);
        if (o->value != NULL && value == NULL) {
            if (i + 1 == argc)
                return wrong(command, "a value is missing after", argv[i]);
            value = argv[++i];
        }
        int code = take(command, o, value);
        if (code >= 0)
            return code;
    }
    return -1;
}

void pst_cli_json(struct pst_bytes text)
{
    size_t cap = text.len * 6 + 2; /* all of it escaped, and the quotes */
    struct pst_buf b = pst_buf_of(malloc(cap), cap);

    if (b.data == NULL) {
        (void)fputs("null", stdout);
        return;
    }
    pst_buf_json(&b, text);
    (void)fwrite(b.data, 1, b.len, stdout);
    free(b.data);
}

void pst_cli_json_error(const struct pst_error *error)
{
    (void)printf("{\"status\":\"%s\",\"where\":", pst_status_name(error->status));
    pst_cli_json(pst_bytes_of(error->where, strlen(error->where)));
    (void)fputs(",\"message\":", stdout);
    pst_cli_json(pst_bytes_of(error->message, strlen(error->message)));
    (void)putchar('}');
}

int pst_cli_fail(bool json, const struct pst_error *error)
{
    if (json) {
        (void)fputs("{\"error\":", stdout);
        pst_cli_json_error(error);
        (void)puts("}");
    } else {
        (void)fprintf(stderr, "postern: %s%s%s\n", error->where,
                      error->where[0] != '\0' ? ": " : "",
                      error->message[0] != '\0' ? error->message : pst_status_name(error->status));
    }
    return strncmp(error->where, "--", 2) == 0 ? PST_EXIT_USAGE : PST_EXIT_FAILED;
}

const char *pst_cli_config_path(const char *given)
{
    return given != NULL ? given : getenv("POSTERN_CONFIG");
}

struct opening {
    enum pst_store_mode mode;
    bool migrates;                   /* what many share, too */
    struct pst_cli_scratch *scratch; /* not NULL: where one that is not there is stood in for */
};

/* What many share is made and brought up to date by `db migrate` alone: with other rights, and its
 * grants come behind it. */
static enum pst_status open_store(struct pst_bytes url, const struct opening *how,
                                  struct pst_store **out, struct pst_error *error)
{
    bool creates = how->mode == PST_STORE_CREATE &&
                   (how->migrates || pst_bytes_starts(url, PST_LIT("sqlite:")));

    enum pst_status status = pst_store_open(
        url, how->mode == PST_STORE_CREATE && !creates ? PST_STORE_WRITE : how->mode, out, error);
    if (status != PST_E_ABSENT || how->scratch == NULL ||
        !pst_bytes_starts(url, PST_LIT("sqlite:")))
        return status;
    status = pst_cli_scratch_make(how->scratch, error);
    if (status != PST_OK)
        return status;
    char room[sizeof(how->scratch->dir) + 32];
    int n = snprintf(room, sizeof(room), "sqlite:///%s/postern.db", how->scratch->dir);
    return pst_store_open(pst_bytes_of(room, (size_t)n), PST_STORE_CREATE, out, error);
}

static enum pst_status open_configured(const char *config_path, const char *url,
                                       const struct opening *how, struct pst_store **out,
                                       struct pst_error *error)
{
    struct pst_config *config;
    struct pst_arena arena;

    *out = NULL;
    if (url != NULL) {
        enum pst_status status = open_store(pst_bytes_of(url, strlen(url)), how, out, error);
        if (status == PST_E_INVALID && error->where[0] == '\0') /* no url at all */
            (void)snprintf(error->where, sizeof(error->where), "--store");
        return status;
    }
    enum pst_status status = pst_config_load(pst_cli_config_path(config_path), &config, error);
    if (status != PST_OK)
        return status;
    pst_arena_init(&arena, 4096, 1u << 20);
    if (how->mode == PST_STORE_CREATE)
        status = pst_state_prepare(config, error);
    if (status == PST_OK)
        status = open_store(pst_store_url(config, &arena), how, out, error);
    pst_arena_fini(&arena);
    pst_config_free(config);
    return status;
}

enum pst_status pst_cli_open_store(const char *config_path, const char *url,
                                   enum pst_store_mode mode, struct pst_store **out,
                                   struct pst_error *error)
{
    return open_configured(config_path, url, &(struct opening){.mode = mode}, out, error);
}

enum pst_status pst_cli_try_store(const char *config_path, const char *url,
                                  struct pst_cli_scratch *scratch, struct pst_store **out,
                                  struct pst_error *error)
{
    return open_configured(config_path, url,
                           &(struct opening){.mode = PST_STORE_WRITE, .scratch = scratch}, out,
                           error);
}

enum pst_status pst_cli_migrate_store(const char *config_path, const char *url,
                                      struct pst_store **out, struct pst_error *error)
{
    return open_configured(config_path, url,
                           &(struct opening){.mode = PST_STORE_CREATE, .migrates = true}, out,
                           error);
}

/* --- the small commands --- */

static int run_serve(int argc, char **argv)
{
    const char *config = NULL;
    bool json = false;
    const struct pst_option options[] = {
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration; none: the embedded default",
         .text = &config},
        {.name = "--json", .help = "a failure to start as JSON", .flag = &json},
        {0},
    };
    struct pst_error error = {0};
    int code = pst_cli_options(&pst_command_serve, options, argc, argv, NULL, NULL);

    if (code >= 0)
        return code;
    return pst_control_serve(pst_cli_config_path(config), &error) == PST_OK
               ? PST_EXIT_YES
               : pst_cli_fail(json, &error);
}

const struct pst_command pst_command_serve = {
    "serve", "Runs Postern: listeners, policy, proxy. SIGHUP reloads, SIGTERM drains.",
    "[-c FILE] [--json]", run_serve};

static int run_version(int argc, char **argv)
{
    bool json = false;
    const struct pst_option options[] = {{.name = "--json", .help = "as JSON", .flag = &json}, {0}};
    int code = pst_cli_options(&pst_command_version, options, argc, argv, NULL, NULL);

    if (code >= 0)
        return code;
    (void)printf(json ? "{\"name\":\"postern\",\"version\":\"%s\"}\n" : "postern %s\n",
                 PST_VERSION);
    return PST_EXIT_YES;
}

const struct pst_command pst_command_version = {"version", "Shows the version.", "[--json]",
                                                run_version};

/* --- main --- */

static void show_commands(FILE *out)
{
    (void)fprintf(out, "usage: postern COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "  %-8s %s\n", COMMANDS[i]->name, COMMANDS[i]->summary);
    (void)fprintf(
        out,
        "\npostern COMMAND --help tells more.\n"
        "Exit codes: 0 yes or done, 1 no, 2 the command line is wrong, 3 it could not be done.\n");
}

/* What was asked for has not arrived when it could not be written. */
static int written(int code)
{
    bool failed = ferror(stdout) != 0;

    if (fflush(stdout) == 0 && !failed)
        return code;
    (void)fprintf(stderr, "postern: the output could not be written: %s\n", strerror(errno));
    return PST_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        show_commands(stderr);
        return PST_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        show_commands(stdout);
        return written(PST_EXIT_YES);
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, COMMANDS[i]->name) == 0)
            return written(COMMANDS[i]->run(argc - 2, argv + 2));
    (void)fprintf(stderr, "postern: there is no command \"%s\" (see postern --help)\n", argv[1]);
    return PST_EXIT_USAGE;
}
