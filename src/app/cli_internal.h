/*
 * cli_internal.h - what the subcommands share: options, exit codes, the way errors are told.
 *
 * Exit codes: 0 yes or done; 1 no (denied, differences, a failing case); 2 the command line is
 * wrong; 3 it could not be done.
 */
#ifndef POSTERN_APP_CLI_INTERNAL_H
#define POSTERN_APP_CLI_INTERNAL_H

#include "postern/app/config.h"
#include "postern/store/change.h"

enum { PST_EXIT_YES = 0, PST_EXIT_NO = 1, PST_EXIT_USAGE = 2, PST_EXIT_FAILED = 3 };

#define PST_CLI_REPEAT_MAX 256

/* One option of a subcommand. `text` takes a value, `flag` none, `list` may come again. */
struct pst_option {
    const char *name;  /* "--file" */
    char letter;       /* 'f', or 0 */
    const char *value; /* name of the value for the help text; NULL: a flag */
    const char *help;
    const char **text;
    bool *flag;
    const char **list; /* room for PST_CLI_REPEAT_MAX */
    uint32_t *list_count;
};

struct pst_command {
    const char *name, *summary, *usage;
    int (*run)(int argc, char **argv);
};

/* Reads options; arguments that are none go to rest (NULL: refused). Returns -1 to go on, else the
 * exit code (help was shown, or the line is wrong). */
int pst_cli_options(const struct pst_command *command, const struct pst_option *options, int argc,
                    char **argv, const char **rest, uint32_t *rest_count);
/* Writes text to standard output as a JSON string, whatever its length. */
void pst_cli_json(struct pst_bytes text);
/* Writes {"status":...,"where":...,"message":...} to standard output. */
void pst_cli_json_error(const struct pst_error *error);
/* Writes {"error":...} or a line to standard error; returns PST_EXIT_FAILED, of an error whose place
 * is an option ("--ttl") PST_EXIT_USAGE. */
int pst_cli_fail(bool json, const struct pst_error *error);

/* -c, or POSTERN_CONFIG, or NULL: the embedded default. */
const char *pst_cli_config_path(const char *given);
/* The store of a configuration, or of --store URL. PST_STORE_CREATE makes an embedded database and
 * brings it up to date; one that many share has to be there already. */
enum pst_status pst_cli_open_store(const char *config_path, const char *url,
                                   enum pst_store_mode mode, struct pst_store **out,
                                   struct pst_error *error);

/* A directory of a moment. A zeroed one is none; one that was made has to be removed. */
struct pst_cli_scratch {
    char dir[64];
};
enum pst_status pst_cli_scratch_make(struct pst_cli_scratch *scratch, struct pst_error *error);
void pst_cli_scratch_remove(struct pst_cli_scratch *scratch);

/* To be read and to try changes on: in place of an embedded database that is not there yet an empty
 * one in `scratch`, to be removed when the store is closed. */
enum pst_status pst_cli_try_store(const char *config_path, const char *url,
                                  struct pst_cli_scratch *scratch, struct pst_store **out,
                                  struct pst_error *error);

/* The same, made and brought up to date in any case. */
enum pst_status pst_cli_migrate_store(const char *config_path, const char *url,
                                      struct pst_store **out, struct pst_error *error);

/* After a commit: tells the nodes through the configuration's Redis, if it names one. */
void pst_cli_publish(const char *config_path, const struct pst_revision *revision);

extern const struct pst_command pst_command_serve, pst_command_check, pst_command_apply,
    pst_command_export, pst_command_diff, pst_command_config, pst_command_token, pst_command_policy,
    pst_command_db, pst_command_nodes, pst_command_version;

#endif
