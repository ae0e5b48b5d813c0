/*
 * The state directory: mode 0700, the own key pair in keys/ (private key 0600), the embedded
 * database.
 */
#include "postern/app/site_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/identity/mint.h"

struct pst_bytes pst_state_path(const struct pst_config *config, struct pst_arena *arena,
                                const char *name)
{
    struct pst_bytes dir = pst_config_path(config, arena, config->state_dir);

    return pst_arena_printf(arena, "%s/%s", dir.ptr, name);
}

struct pst_bytes pst_store_url(const struct pst_config *config, struct pst_arena *arena)
{
    if (config->store_url.len > 0)
        return config->store_url;
    struct pst_bytes path = pst_state_path(config, arena, "postern.db");
    return pst_arena_printf(arena, "sqlite:///%s", path.ptr);
}

static enum pst_status make_dir(const char *path, struct pst_error *error)
{
    struct stat st;

    if (mkdir(path, 0700) == 0)
        return PST_OK;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return PST_OK;
    return pst_error_set(error, PST_E_IO, path, "the directory cannot be made: %s",
                         strerror(errno));
}

/* Whole or not at all: written beside, synced, renamed. */
static enum pst_status write_file(struct pst_arena *arena, struct pst_bytes path, mode_t mode,
                                  struct pst_bytes text, struct pst_error *error)
{
    struct pst_bytes beside = pst_arena_printf(arena, "%s.new", path.ptr);
    int fd = open(beside.ptr, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

    bool good = fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        good = false;
    if (good && rename(beside.ptr, path.ptr) == 0)
        return PST_OK;
    return pst_error_set(error, PST_E_IO, path.ptr, "cannot be written: %s", strerror(errno));
}

static enum pst_status make_own_key_alone(const struct pst_config *config, struct pst_arena *arena,
                                          struct pst_error *error)
{
    struct pst_bytes private_path = pst_state_path(config, arena, "keys/issuer.pem");
    struct pst_bytes public_path = pst_state_path(config, arena, "keys/issuer.jwks.json");
    struct pst_bytes pem, jwks, kid;

    if (access(private_path.ptr, F_OK) == 0 && access(public_path.ptr, F_OK) == 0)
        return PST_OK;
    enum pst_status status = pst_mint_key_new(PST_ALG_ES256, arena, &pem, &jwks, &kid, error);
    if (status == PST_OK)
        status = write_file(arena, private_path, 0600, pem, error);
    if (status == PST_OK)
        status = write_file(arena, public_path, 0644, jwks, error);
    return status;
}

/* Several programs may start for the first time at once: one makes the pair, the others wait for
 * it. */
static enum pst_status make_own_key(const struct pst_config *config, struct pst_arena *arena,
                                    struct pst_error *error)
{
    struct pst_bytes private_path = pst_state_path(config, arena, "keys/issuer.pem");
    struct pst_bytes public_path = pst_state_path(config, arena, "keys/issuer.jwks.json");
    struct pst_bytes dir = pst_state_path(config, arena, "keys");

    if (access(private_path.ptr, F_OK) == 0 && access(public_path.ptr, F_OK) == 0)
        return PST_OK;
    int fd = open(dir.ptr, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        enum pst_status status =
            pst_error_set(error, PST_E_IO, dir.ptr, "cannot be locked: %s", strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return status;
    }
    enum pst_status status = make_own_key_alone(config, arena, error); /* which looks again */
    (void)close(fd);
    return status;
}

static bool has_own_issuer(const struct pst_config *config)
{
    bool own = false;

    for (uint32_t i = 0; i < config->identity.issuers_count; i++)
        own = own || config->sources[i].kind == PST_KEYS_OWN;
    return own;
}

/* Whether files can be made in a directory, which is there or can be made itself. */
static enum pst_status can_fill(struct pst_arena *arena, struct pst_bytes dir,
                                struct pst_error *error)
{
    struct stat st;
    size_t len = dir.len;

    if (stat(dir.ptr, &st) == 0) {
        errno = ENOTDIR;
        if (S_ISDIR(st.st_mode) && access(dir.ptr, W_OK | X_OK) == 0)
            return PST_OK;
        return pst_error_set(error, PST_E_IO, dir.ptr, "nothing can be made in it: %s",
                             strerror(errno));
    }
    while (len > 0 && dir.ptr[len - 1] == '/')
        len--;
    while (len > 0 && dir.ptr[len - 1] != '/')
        len--;
    struct pst_bytes parent = pst_arena_printf(arena, "%.*s", (int)len, dir.ptr);
    if (errno == ENOENT && access(len == 0 ? "." : parent.ptr, W_OK | X_OK) == 0)
        return PST_OK;
    return pst_error_set(error, PST_E_IO, dir.ptr, "the directory cannot be made: %s",
                         strerror(errno));
}

enum pst_status pst_state_look(const struct pst_config *config, bool *missing,
                               struct pst_error *error)
{
    struct pst_arena arena;
    enum pst_status status = PST_OK;

    pst_arena_init(&arena, 4096, 1u << 20);
    struct pst_bytes dir = pst_config_path(config, &arena, config->state_dir);
    struct pst_bytes keys = pst_state_path(config, &arena, "keys");
    bool database = config->store_url.len > 0 ||
                    access(pst_state_path(config, &arena, "postern.db").ptr, F_OK) == 0;
    *missing = has_own_issuer(config) &&
               (access(pst_state_path(config, &arena, "keys/issuer.pem").ptr, F_OK) != 0 ||
                access(pst_state_path(config, &arena, "keys/issuer.jwks.json").ptr, F_OK) != 0);
    if (*missing || !database)
        status = can_fill(&arena, dir, error);
    if (status == PST_OK && *missing && access(dir.ptr, F_OK) == 0)
        status = can_fill(&arena, keys, error);
    if (status != PST_OK)
        pst_config_blame(config, pst_node_get(config->tree.root, "state_dir"), error);
    pst_arena_fini(&arena);
    return status;
}

enum pst_status pst_state_prepare(const struct pst_config *config, struct pst_error *error)
{
    struct pst_arena arena;
    bool own = has_own_issuer(config);

    pst_arena_init(&arena, 4096, 1u << 20);
    enum pst_status status = PST_OK;
    if (own || config->store_url.len == 0)
        status = make_dir(pst_config_path(config, &arena, config->state_dir).ptr, error);
    if (status == PST_OK && own)
        status = make_dir(pst_state_path(config, &arena, "keys").ptr, error);
    if (status == PST_OK && own)
        status = make_own_key(config, &arena, error);
    pst_arena_fini(&arena);
    return status;
}
