/*
 * A state directory of a moment: for what needs a database or a key pair and must leave neither.
 */
#include "cli_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum pst_status pst_cli_scratch_make(struct pst_cli_scratch *s, struct pst_error *error)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(s->dir, sizeof(s->dir), "%s/postern-XXXXXX",
                   tmp == NULL || tmp[0] != '/' || strlen(tmp) > 40 ? "/var/tmp" : tmp);
    if (mkdtemp(s->dir) != NULL)
        return PST_OK;
    enum pst_status status = pst_error_set(
        error, PST_E_IO, s->dir, "no temporary directory can be made (TMPDIR names where)");
    s->dir[0] = '\0';
    return status;
}

void pst_cli_scratch_remove(struct pst_cli_scratch *s)
{
    static const char *const FILES[] = {
        "postern.db",      "postern.db-wal",        "postern.db-shm",
        "keys/issuer.pem", "keys/issuer.jwks.json", "keys",
    };
    char path[160];

    if (s->dir[0] == '\0')
        return;
    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", s->dir, FILES[i]);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    (void)rmdir(s->dir);
    s->dir[0] = '\0';
}
