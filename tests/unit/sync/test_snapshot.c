/* The snapshot file: it comes back as it went, or not at all. */
/* wrap: calloc malloc */
#include "../test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../policy/policy_fixture.h"
#include "../store/place.h"
#include "postern/sync/snapshot.h"

static int fail_after = -1; /* the allocation that fails, counted from 0; -1: none */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    return fail_after >= 0 && fail_after-- == 0 ? NULL : __real_calloc(count, size);
}

void *__wrap_malloc(size_t size)
{
    return fail_after >= 0 && fail_after-- == 0 ? NULL : __real_malloc(size);
}

#define HEAD 64 /* bytes of the file's head; the image follows */

static const unsigned char KEY[PST_MAC_KEY_LEN] = {1, 2, 3};
static const struct pst_snapshot_about ABOUT = {
    .mark = {.revision = {.epoch = 5, .n = 77}, .stamp = {.hi = 8, .lo = 9}},
    .schema = 3,
    .max_staleness_s = 30};

struct world {
    struct place place;
    struct fixture policy;
    char path[128], beside[160];
};

static void write_file(const char *path, const char *data, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static size_t read_file(const char *path, char *data, size_t cap)
{
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    ssize_t n = read(fd, data, cap);
    assert_true(n > 0 && (size_t)n < cap);
    assert_int_equal(close(fd), 0);
    return (size_t)n;
}

static void setup(struct world *w)
{
    char id[16];

    place_make(&w->place);
    snprintf(w->path, sizeof(w->path), "%s/policy.snapshot", w->place.dir);
    snprintf(w->beside, sizeof(w->beside), "%s.new", w->path);
    fx_init(&w->policy);
    fx_role(&w->policy, 1, "r", 0);
    for (int i = 0; i < 4; i++) {
        snprintf(id, sizeof(id), "p%d", i);
        fx_grant(&w->policy, 1, "Pipeline", id, PST_A_UPDATE);
    }
    fx_bind(&w->policy, 1, 0);
    MUST(pst_policy_compile(&w->policy.model, &w->policy.policy, &why));
}

static void setup_saved(struct world *w)
{
    setup(w);
    MUST(pst_snapshot_save(w->path, KEY, &ABOUT, w->policy.policy, &why));
}

static void teardown(struct world *w)
{
    fx_fini(&w->policy);
    place_drop(&w->place);
}

static void expect(const char *path, const unsigned char key[PST_MAC_KEY_LEN],
                   enum pst_status expected, const char *about)
{
    struct pst_snapshot_about got;
    struct pst_policy *policy;
    struct pst_error error = {0};

    assert_int_equal(pst_snapshot_load(path, key, &got, &policy, &error), expected);
    assert_null(policy);
    assert_int_equal(got.mark.revision.epoch, 0);
    assert_non_null(strstr(error.message, about));
    assert_string_equal(error.where, path);
}

/* Loads what must be there and asks it. */
static void expect_loaded(struct world *w)
{
    struct pst_snapshot_about got;
    struct pst_policy *policy;

    MUST(pst_snapshot_load(w->path, KEY, &got, &policy, &why));
    assert_memory_equal(&got.mark, &ABOUT.mark, sizeof(got.mark));
    assert_int_equal(got.schema, 3);
    assert_int_equal(got.max_staleness_s, 30);
    assert_true(got.saved_at_wall_ns > 0);
    w->policy.question.policy = policy;
    fx_ask(&w->policy, 0, "Pipeline", "p3", PST_OP_UPDATE);
    assert_int_equal(pst_eval(&w->policy.question, &w->policy.detail), PST_ALLOW);
    fx_ask(&w->policy, 0, "Pipeline", "p4", PST_OP_UPDATE);
    assert_int_equal(pst_eval(&w->policy.question, &w->policy.detail), PST_DENY);
    pst_policy_destroy(policy);
}

static void test_it_comes_back_as_it_went(void **state)
{
    struct world w;
    struct stat st;

    (void)state;
    setup_saved(&w);
    expect_loaded(&w);
    assert_int_equal(stat(w.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(access(w.beside, F_OK), -1);
    teardown(&w);
}

static void test_a_missing_one_is_absent(void **state)
{
    struct world w;

    (void)state;
    setup(&w);
    expect(w.path, KEY, PST_E_ABSENT, "not there");
    teardown(&w);
}

static void test_others_must_not_have_access(void **state)
{
    static const mode_t MODES[] = {0640, 0620, 0604, 0602, 0610, 0601};
    struct world w;

    (void)state;
    setup_saved(&w);
    for (size_t i = 0; i < sizeof(MODES) / sizeof(MODES[0]); i++) {
        assert_int_equal(chmod(w.path, MODES[i]), 0);
        expect(w.path, KEY, PST_E_INVALID, "0600");
    }
    assert_int_equal(chmod(w.path, 0400), 0);
    expect_loaded(&w);
    teardown(&w);
}

static void test_another_users_file_is_not_taken(void **state)
{
    struct world w;
    const char *path = "/etc/passwd"; /* of root; root itself gives a file away */

    (void)state;
    setup_saved(&w);
    if (geteuid() == 0) {
        path = w.path;
        assert_int_equal(chown(path, 65534, 65534), 0);
    }
    expect(path, KEY, PST_E_INVALID, "another user");
    teardown(&w);
}

static void test_only_a_regular_file_is_taken(void **state)
{
    struct world w;
    char moved[160];

    (void)state;
    setup_saved(&w);
    snprintf(moved, sizeof(moved), "%s/moved", w.place.dir);
    assert_int_equal(rename(w.path, moved), 0);
    assert_int_equal(symlink(moved, w.path), 0);
    expect(w.path, KEY, PST_E_INVALID, "symbolic link");
    assert_int_equal(unlink(w.path), 0);
    assert_int_equal(mkfifo(w.path, 0600), 0);
    expect(w.path, KEY, PST_E_INVALID, "no regular file");
    expect(w.place.dir, KEY, PST_E_INVALID, "no regular file");
    teardown(&w);
}

static void test_another_key_fits_not(void **state)
{
    unsigned char other[PST_MAC_KEY_LEN];
    struct world w;

    (void)state;
    setup_saved(&w);
    memcpy(other, KEY, sizeof(other));
    other[31] ^= 1;
    expect(w.path, other, PST_E_INVALID, "MAC");
    teardown(&w);
}

static void test_no_byte_may_differ_or_lack(void **state)
{
    char data[4096];
    struct world w;

    (void)state;
    setup_saved(&w);
    size_t len = read_file(w.path, data, sizeof(data) - 1);
    for (size_t i = 0; i < len; i++) {
        data[i] ^= 0x10;
        write_file(w.path, data, len, 0600);
        expect(w.path, KEY, PST_E_INVALID, "MAC");
        data[i] ^= 0x10;
    }
    for (size_t i = 0; i < len; i++) {
        write_file(w.path, data, i, 0600);
        expect(w.path, KEY, PST_E_INVALID, i < HEAD + PST_MAC_LEN ? "too short" : "MAC");
    }
    data[len] = 0;
    write_file(w.path, data, len + 1, 0600);
    expect(w.path, KEY, PST_E_INVALID, "MAC");
    write_file(w.path, data, len, 0600);
    expect_loaded(&w);
    teardown(&w);
}

/* Changes one byte and signs the whole again, as another release of ours would have. */
static void expect_other_format(struct world *w, size_t at, const char *about)
{
    struct pst_mac *mac = pst_mac_create(KEY);
    char data[4096];

    assert_non_null(mac);
    size_t len = read_file(w->path, data, sizeof(data));
    data[at] ^= 1;
    pst_mac_add(mac, pst_bytes_of(data, len - PST_MAC_LEN));
    assert_true(pst_mac_end(mac, (unsigned char *)data + len - PST_MAC_LEN));
    pst_mac_destroy(mac);
    write_file(w->path, data, len, 0600);
    expect(w->path, KEY, PST_E_INVALID, about);
    MUST(pst_snapshot_save(w->path, KEY, &ABOUT, w->policy.policy, &why));
}

static void test_another_format_is_not_read(void **state)
{
    struct world w;

    (void)state;
    setup_saved(&w);
    expect_other_format(&w, 0, "no snapshot");
    expect_other_format(&w, 8, "no snapshot of this format");
    expect_other_format(&w, 20, "no snapshot");
    teardown(&w);
}

static void test_another_releases_image_is_not_read(void **state)
{
    struct pst_snapshot_about about;
    struct pst_policy *policy;
    struct pst_error error = {0};
    struct pst_mac *mac = pst_mac_create(KEY);
    struct world w;
    char data[4096];

    (void)state;
    setup_saved(&w);
    assert_non_null(mac);
    size_t len = read_file(w.path, data, sizeof(data));
    data[HEAD + 8] ^= 1;
    pst_mac_add(mac, pst_bytes_of(data, len - PST_MAC_LEN));
    assert_true(pst_mac_end(mac, (unsigned char *)data + len - PST_MAC_LEN));
    pst_mac_destroy(mac);
    write_file(w.path, data, len, 0600);
    assert_int_equal(pst_snapshot_load(w.path, KEY, &about, &policy, &error), PST_E_INVALID);
    assert_non_null(strstr(error.message, "another release"));
    teardown(&w);
}

/* What a writer left that was cut off is no snapshot, and in nobody's way: whatever it is. */
static void test_a_half_written_file_is_overwritten(void **state)
{
    struct world w;
    char victim[160], data[4096];
    struct stat st;

    (void)state;
    setup_saved(&w);
    write_file(w.beside, "half", 4, 0666);
    expect_loaded(&w);
    MUST(pst_snapshot_save(w.path, KEY, &ABOUT, w.policy.policy, &why));
    expect_loaded(&w);
    assert_int_equal(stat(w.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(victim, sizeof(victim), "%s/victim", w.place.dir);
    write_file(victim, "kept", 4, 0600);
    assert_int_equal(symlink(victim, w.beside), 0);
    MUST(pst_snapshot_save(w.path, KEY, &ABOUT, w.policy.policy, &why));
    expect_loaded(&w);
    assert_int_equal(read_file(victim, data, sizeof(data)), 4);
    teardown(&w);
}

static void test_a_save_that_fails_leaves_the_older_one(void **state)
{
    const struct rlimit small = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    struct rlimit usual;
    struct pst_error error = {0};
    struct world w;

    (void)state;
    setup_saved(&w);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum pst_status status = pst_snapshot_save(w.path, KEY, &ABOUT, w.policy.policy, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    assert_int_equal(status, PST_E_IO);
    assert_non_null(strstr(error.message, strerror(EFBIG)));
    assert_int_equal(access(w.beside, F_OK), -1);
    expect_loaded(&w);
    assert_int_equal(pst_snapshot_save("/nowhere/at/all", KEY, &ABOUT, w.policy.policy, NULL),
                     PST_E_IO);
    teardown(&w);
}

/* Killed at any moment of saving: the file is whole, the old one or the new. */
static void test_a_kill_leaves_a_whole_file(void **state)
{
    struct world w;

    (void)state;
    setup_saved(&w);
    for (unsigned turn = 0; turn < 20; turn++) {
        const struct timespec wait = {.tv_nsec = 2000000 + 700000 * (long)turn};
        pid_t child = fork();
        assert_true(child >= 0);
        while (child == 0)
            if (pst_snapshot_save(w.path, KEY, &ABOUT, w.policy.policy, NULL) != PST_OK)
                _exit(1);
        int status;
        assert_int_equal(nanosleep(&wait, NULL), 0);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); /* it was at it, and had not failed */
        expect_loaded(&w);
    }
    teardown(&w);
}

static void test_short_memory_at_every_step(void **state)
{
    struct pst_snapshot_about about;
    struct pst_policy *policy;
    struct world w;
    int failures = 0;

    (void)state;
    setup_saved(&w);
    for (int step = 0; step < 100; step++) {
        fail_after = step;
        enum pst_status status = pst_snapshot_load(w.path, KEY, &about, &policy, NULL);
        bool reached = fail_after == -1;
        fail_after = -1;
        if (!reached) {
            assert_int_equal(status, PST_OK);
            pst_policy_destroy(policy);
            break;
        }
        failures++;
        assert_int_equal(status, PST_E_NOMEM);
        assert_null(policy);
    }
    assert_true(failures > 5 && failures < 100);
    fail_after = 0;
    assert_int_equal(pst_snapshot_save(w.path, KEY, &ABOUT, w.policy.policy, NULL), PST_E_NOMEM);
    fail_after = -1;
    expect_loaded(&w);
    teardown(&w);
}

static void test_the_key_is_made_once(void **state)
{
    static const unsigned char ZERO[PST_MAC_KEY_LEN];
    unsigned char first[PST_MAC_KEY_LEN], again[PST_MAC_KEY_LEN], other[PST_MAC_KEY_LEN];
    struct place a, b;
    struct stat st;
    char path[128];

    (void)state;
    place_make(&a);
    place_make(&b);
    MUST(pst_snapshot_key(a.dir, first, &why));
    MUST(pst_snapshot_key(a.dir, again, &why));
    MUST(pst_snapshot_key(b.dir, other, &why));
    assert_memory_equal(first, again, sizeof(first));
    assert_memory_not_equal(first, other, sizeof(first));
    assert_memory_not_equal(first, ZERO, sizeof(first));
    snprintf(path, sizeof(path), "%s/snapshot.key", a.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    place_drop(&a);
    place_drop(&b);
}

static void expect_no_key(const char *dir, enum pst_status expected, const char *about)
{
    unsigned char key[PST_MAC_KEY_LEN];
    struct pst_error error = {0};

    assert_int_equal(pst_snapshot_key(dir, key, &error), expected);
    assert_non_null(strstr(error.message, about));
}

static void test_a_key_that_others_could_know_is_not_used(void **state)
{
    char path[128], moved[128];
    unsigned char key[PST_MAC_KEY_LEN];
    struct place p;

    (void)state;
    place_make(&p);
    snprintf(path, sizeof(path), "%s/snapshot.key", p.dir);
    snprintf(moved, sizeof(moved), "%s/moved", p.dir);
    write_file(path, "0123456789abcdef0123456789abcde", 31, 0600);
    expect_no_key(p.dir, PST_E_INVALID, "no key of 32 bytes");
    write_file(path, "0123456789abcdef0123456789abcdef+", 33, 0600);
    expect_no_key(p.dir, PST_E_INVALID, "no key of 32 bytes");
    write_file(path, "0123456789abcdef0123456789abcdef", 32, 0640);
    expect_no_key(p.dir, PST_E_INVALID, "0600");
    assert_int_equal(chmod(path, 0600), 0);
    MUST(pst_snapshot_key(p.dir, key, &why));
    assert_memory_equal(key, "0123456789abcdef0123456789abcdef", 32);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    expect_no_key(p.dir, PST_E_INVALID, "symbolic link");
    expect_no_key("/nowhere", PST_E_IO, "cannot be made");
    place_drop(&p);
}

#define STARTS 8

/* In a child: waits until `go` is closed, and tells the key. */
static void start_once(const char *dir, const int go[2], int out)
{
    unsigned char key[PST_MAC_KEY_LEN];
    char nothing;

    bool good = close(go[1]) == 0 && read(go[0], &nothing, 1) == 0 &&
                pst_snapshot_key(dir, key, NULL) == PST_OK &&
                write(out, key, sizeof(key)) == sizeof(key);
    _exit(good ? 0 : 1);
}

static unsigned count_files(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned files = 0;

    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        files += e->d_name[0] != '.';
    closedir(d);
    return files;
}

/* Many first starts at once agree on one key and leave nothing else behind. */
static void test_first_starts_agree_on_one_key(void **state)
{
    unsigned char key[PST_MAC_KEY_LEN], other[PST_MAC_KEY_LEN];

    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        struct place p;
        int go[2], keys[2], status;
        place_make(&p);
        assert_int_equal(pipe(go) + pipe(keys), 0);
        for (unsigned i = 0; i < STARTS; i++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0)
                start_once(p.dir, go, keys[1]);
        }
        assert_int_equal(close(go[1]), 0);
        for (unsigned i = 0; i < STARTS; i++) {
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        MUST(pst_snapshot_key(p.dir, key, &why));
        for (unsigned i = 0; i < STARTS; i++) {
            assert_int_equal(read(keys[0], other, sizeof(other)), sizeof(other));
            assert_memory_equal(other, key, sizeof(key));
        }
        assert_int_equal(count_files(p.dir), 1);
        assert_int_equal(close(go[0]) + close(keys[0]) + close(keys[1]), 0);
        place_drop(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_comes_back_as_it_went),
        cmocka_unit_test(test_a_missing_one_is_absent),
        cmocka_unit_test(test_others_must_not_have_access),
        cmocka_unit_test(test_another_users_file_is_not_taken),
        cmocka_unit_test(test_only_a_regular_file_is_taken),
        cmocka_unit_test(test_another_key_fits_not),
        cmocka_unit_test(test_no_byte_may_differ_or_lack),
        cmocka_unit_test(test_another_format_is_not_read),
        cmocka_unit_test(test_another_releases_image_is_not_read),
        cmocka_unit_test(test_a_half_written_file_is_overwritten),
        cmocka_unit_test(test_a_save_that_fails_leaves_the_older_one),
        cmocka_unit_test(test_a_kill_leaves_a_whole_file),
        cmocka_unit_test(test_short_memory_at_every_step),
        cmocka_unit_test(test_the_key_is_made_once),
        cmocka_unit_test(test_a_key_that_others_could_know_is_not_used),
        cmocka_unit_test(test_first_starts_agree_on_one_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
