/*
 * head | policy image (policy/image.h) | HMAC of both
 *
 * The whole file is read into memory while the MAC is taken, so that what is parsed is what was
 * checked, whatever happens to the file meanwhile.
 */
#include "postern/sync/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/policy/image.h"

#define FORMAT 1
#define PIECE  ((size_t)1 << 18) /* is still in the cache when the MAC is taken of it */

struct head {
    char magic[8];
    uint32_t format, schema, max_staleness_s, zero;
    uint64_t epoch, n, stamp_hi, stamp_lo, saved_at_ns;
};
_Static_assert(sizeof(struct head) == 64, "has no padding");

static const struct head HEAD = {.magic = "PSTSNAP", .format = FORMAT};

static enum pst_status io_error(struct pst_error *error, const char *path, const char *what)
{
    return pst_error_set(error, PST_E_IO, path, "%s: %s", what, strerror(errno));
}

static bool write_all(int fd, struct pst_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes = pst_bytes_from(bytes, (size_t)n);
    }
    return true;
}

/* Less than `len` only at the end of the file; -1 with errno. */
static ssize_t read_all(int fd, char *to, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, to + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static bool name_beside(char out[PATH_MAX], const char *path, const char *suffix)
{
    int n = snprintf(out, PATH_MAX, "%s%s", path, suffix);

    return n > 0 && n < PATH_MAX;
}

/* A rename or a link is on the disk when its directory is. */
static bool sync_directory_of(const char *path)
{
    char dir[PATH_MAX];

    if (!name_beside(dir, path, ""))
        return false;
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        memcpy(dir, ".", 2);
    else
        slash[slash == dir] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        (void)close(fd);
    return good;
}

/* Opens what only the own user could have written. */
static enum pst_status open_trusted(const char *path, int *out, size_t *size,
                                    struct pst_error *error)
{
    /* not blocking: a pipe in its place would keep us waiting */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const char *wrong = NULL;
    struct stat st;

    *out = -1;
    *size = 0;
    if (fd < 0 && errno == ENOENT)
        return pst_error_set(error, PST_E_ABSENT, path, "is not there");
    if (fd < 0 && errno == ELOOP)
        return pst_error_set(error, PST_E_INVALID, path, "is a symbolic link: not followed");
    if (fd < 0)
        return io_error(error, path, "cannot be opened");
    if (fstat(fd, &st) != 0)
        wrong = "cannot be looked at";
    else if (!S_ISREG(st.st_mode))
        wrong = "is no regular file";
    else if (st.st_uid != geteuid())
        wrong = "belongs to another user";
    else if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        wrong = "can be used by group or others: its mode must be 0600";
    if (wrong != NULL) {
        (void)close(fd);
        return pst_error_set(error, PST_E_INVALID, path, "%s", wrong);
    }
    *out = fd;
    *size = (size_t)st.st_size;
    return PST_OK;
}

/* A new file of the own user's; what stood there was left by a writer that ended early. */
static int create_new(const char *path)
{
    (void)unlink(path);
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
}

/* ---- saving ---- */

struct writing {
    int fd;
    struct pst_mac *mac;
};

static enum pst_status put(void *ctx, struct pst_bytes bytes)
{
    const struct writing *w = ctx;

    pst_mac_add(w->mac, bytes);
    return write_all(w->fd, bytes) ? PST_OK : PST_E_IO;
}

static bool write_content(struct writing *w, const struct pst_snapshot_about *about,
                          const struct pst_policy *policy)
{
    unsigned char tag[PST_MAC_LEN];
    struct head head = HEAD;

    head.schema = about->schema;
    head.max_staleness_s = about->max_staleness_s;
    head.epoch = about->mark.revision.epoch;
    head.n = about->mark.revision.n;
    head.stamp_hi = about->mark.stamp.hi;
    head.stamp_lo = about->mark.stamp.lo;
    head.saved_at_ns = pst_clock_wall_ns();
    return put(w, pst_bytes_of(&head, sizeof(head))) == PST_OK &&
           pst_policy_image_write(policy, put, w) == PST_OK && pst_mac_end(w->mac, tag) &&
           write_all(w->fd, pst_bytes_of(tag, sizeof(tag))) && fsync(w->fd) == 0;
}

enum pst_status pst_snapshot_save(const char *path, const unsigned char key[PST_MAC_KEY_LEN],
                                  const struct pst_snapshot_about *about,
                                  const struct pst_policy *policy, struct pst_error *error)
{
    struct writing w = {.mac = pst_mac_create(key)};
    char beside[PATH_MAX];

    if (w.mac == NULL)
        return pst_error_set(error, PST_E_NOMEM, path, "no memory for a snapshot");
    errno = ENAMETOOLONG;
    w.fd = name_beside(beside, path, ".new") ? create_new(beside) : -1;
    bool good = w.fd >= 0 && write_content(&w, about, policy);
    if (w.fd >= 0 && close(w.fd) != 0)
        good = false;
    pst_mac_destroy(w.mac);
    if (good && rename(beside, path) == 0)
        return sync_directory_of(path) ? PST_OK
                                       : io_error(error, path, "its directory is not synced");
    enum pst_status status = io_error(error, path, "cannot be written");
    if (w.fd >= 0)
        (void)unlink(beside);
    return status;
}

/* ---- loading ---- */

/* *mac is what the file's bytes before its last PST_MAC_LEN have. */
static enum pst_status read_file(int fd, const char *path, char *data, size_t len,
                                 struct pst_mac *mac, struct pst_error *error)
{
    for (size_t at = 0; at < len;) {
        size_t piece = len - at < PIECE ? len - at : PIECE;
        ssize_t n = read_all(fd, data + at, piece);
        if (n < 0)
            return io_error(error, path, "cannot be read");
        if ((size_t)n < piece)
            return pst_error_set(error, PST_E_INVALID, path, "became shorter while it was read");
        size_t covered = len - PST_MAC_LEN;
        if (at < covered)
            pst_mac_add(mac, pst_bytes_of(data + at, covered - at < piece ? covered - at : piece));
        at += piece;
    }
    return PST_OK;
}

static enum pst_status parse(struct pst_bytes content, const char *path,
                             struct pst_snapshot_about *about, struct pst_policy **policy,
                             struct pst_error *error)
{
    struct head head;

    memcpy(&head, content.ptr, sizeof(head));
    if (memcmp(head.magic, HEAD.magic, sizeof(head.magic)) != 0 || head.format != FORMAT ||
        head.zero != 0)
        return pst_error_set(error, PST_E_INVALID, path, "is no snapshot of this format");
    enum pst_status status =
        pst_policy_image_read(pst_bytes_from(content, sizeof(head)), policy, error);
    if (status == PST_OK)
        *about = (struct pst_snapshot_about){
            .mark = {.revision = {.epoch = head.epoch, .n = head.n},
                     .stamp = {.hi = head.stamp_hi, .lo = head.stamp_lo}},
            .schema = head.schema,
            .max_staleness_s = head.max_staleness_s,
            .saved_at_wall_ns = head.saved_at_ns};
    return status;
}

static enum pst_status load_open(int fd, const char *path, size_t size, char *data,
                                 struct pst_mac *mac, struct pst_snapshot_about *about,
                                 struct pst_policy **policy, struct pst_error *error)
{
    unsigned char tag[PST_MAC_LEN];
    size_t covered = size - PST_MAC_LEN;

    if (data == NULL || mac == NULL)
        return pst_error_set(error, PST_E_NOMEM, path, "no memory for %zu bytes", size);
    enum pst_status status = read_file(fd, path, data, size, mac, error);
    if (status != PST_OK)
        return status;
    if (!pst_mac_end(mac, tag) || !pst_secret_equal(pst_bytes_of(tag, sizeof(tag)),
                                                    pst_bytes_of(data + covered, PST_MAC_LEN)))
        return pst_error_set(error, PST_E_INVALID, path,
                             "does not carry the MAC of this node's snapshot.key");
    return parse(pst_bytes_of(data, covered), path, about, policy, error);
}

enum pst_status pst_snapshot_load(const char *path, const unsigned char key[PST_MAC_KEY_LEN],
                                  struct pst_snapshot_about *about, struct pst_policy **policy,
                                  struct pst_error *error)
{
    size_t size;
    int fd;

    *policy = NULL;
    *about = (struct pst_snapshot_about){0};
    enum pst_status status = open_trusted(path, &fd, &size, error);
    if (status != PST_OK)
        return status;
    if (size < sizeof(struct head) + PST_MAC_LEN) {
        (void)close(fd);
        return pst_error_set(error, PST_E_INVALID, path, "is too short for a snapshot");
    }
    char *data = malloc(size);
    struct pst_mac *mac = pst_mac_create(key);
    status = load_open(fd, path, size, data, mac, about, policy, error);
    pst_mac_destroy(mac);
    free(data);
    (void)close(fd);
    return status;
}

/* ---- the key ---- */

static enum pst_status read_key(const char *path, unsigned char key[PST_MAC_KEY_LEN],
                                struct pst_error *error)
{
    size_t size;
    int fd;

    enum pst_status status = open_trusted(path, &fd, &size, error);
    if (status != PST_OK)
        return status;
    if (size != PST_MAC_KEY_LEN || read_all(fd, (char *)key, size) != PST_MAC_KEY_LEN)
        status =
            pst_error_set(error, PST_E_INVALID, path, "is no key of %d bytes", PST_MAC_KEY_LEN);
    (void)close(fd);
    return status;
}

/* Linked into place, because a rename would put a second key over one that is in use. */
static enum pst_status make_key(const char *path, struct pst_error *error)
{
    unsigned char key[PST_MAC_KEY_LEN];
    char beside[PATH_MAX], suffix[32];
    uint64_t number;

    pst_random(key, sizeof(key));
    pst_random(&number, sizeof(number));
    snprintf(suffix, sizeof(suffix), ".%016llx", (unsigned long long)number);
    errno = ENAMETOOLONG;
    int fd = name_beside(beside, path, suffix) ? create_new(beside) : -1;
    bool good = fd >= 0 && write_all(fd, pst_bytes_of(key, sizeof(key))) && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        good = false;
    pst_secret_wipe(key, sizeof(key));
    if (good)
        good = link(beside, path) == 0 ? sync_directory_of(path) : errno == EEXIST;
    enum pst_status status = good ? PST_OK : io_error(error, path, "cannot be made");
    if (fd >= 0)
        (void)unlink(beside);
    return status;
}

enum pst_status pst_snapshot_key(const char *state_dir, unsigned char key[PST_MAC_KEY_LEN],
                                 struct pst_error *error)
{
    char path[PATH_MAX];

    if (!name_beside(path, state_dir, "/snapshot.key"))
        return pst_error_set(error, PST_E_INVALID, state_dir, "the path is too long");
    enum pst_status status = read_key(path, key, error);
    if (status != PST_E_ABSENT)
        return status;
    status = make_key(path, error);
    return status == PST_OK ? read_key(path, key, error) : status;
}
