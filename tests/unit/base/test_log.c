/* base/log: lines arrive whole and in order, a full ring drops and counts, files are reopened. */
#include "../test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postern/base/clock.h"
#include "postern/base/log.h"

struct fixture {
    char dir[64], path[96], moved[96];
    struct pst_log *log;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pst_error error;

    (void)snprintf(f->dir, sizeof(f->dir), "%s/pst-log-XXXXXX",
                   getenv("TMPDIR") == NULL ? "/var/tmp" : getenv("TMPDIR"));
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/access", f->dir);
    (void)snprintf(f->moved, sizeof(f->moved), "%s/access.1", f->dir);
    struct pst_log_config config = {.level = PST_LOG_INFO};
    config.paths[PST_LOG_ACCESS] = pst_bytes_of(f->path, strlen(f->path));
    assert_int_equal(pst_log_create(&config, &f->log, &error), PST_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    pst_log_destroy(f->log);
    (void)unlink(f->path);
    (void)unlink(f->moved);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static unsigned lines_of(const char *path, unsigned *last)
{
    FILE *in = fopen(path, "r");
    unsigned count = 0, n = 0;

    if (in == NULL)
        return 0;
    while (fscanf(in, "{\"n\":%u}\n", &n) == 1)
        count++;
    assert_true(feof(in));
    (void)fclose(in);
    *last = n;
    return count;
}

static void write_line(struct pst_log_ring *ring, unsigned n)
{
    struct pst_buf *line = pst_log_begin(ring, PST_LOG_ACCESS);

    if (line == NULL)
        return; /* no room; counted */
    pst_buf_lit(line, "{\"n\":");
    pst_buf_u64(line, n);
    pst_buf_char(line, '}');
    pst_log_commit(ring);
}

static void lines_arrive_in_order(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    unsigned last = 0;

    assert_int_equal(pst_log_ring_open(f->log, 1u << 20, &ring), PST_OK);
    for (unsigned n = 1; n <= 20000; n++)
        write_line(ring, n);
    pst_log_flush(f->log);
    unsigned count = lines_of(f->path, &last);
    assert_int_equal(count + pst_log_drops(f->log), 20000);
    assert_int_equal(last, 20000);
    pst_log_ring_close(ring);
}

/* Lines of all lengths, so that laps of the ring end anywhere. */
static void lines_stay_whole_over_the_end_of_the_ring(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    size_t bytes = 0;

    assert_int_equal(pst_log_ring_open(f->log, 65536, &ring), PST_OK);
    for (unsigned n = 0; n < 2000; n++) {
        struct pst_buf *line = pst_log_begin(ring, PST_LOG_ACCESS);
        assert_non_null(line);
        for (unsigned i = 0; i < n * 7 % 997 + 1; i++)
            pst_buf_char(line, (char)('a' + n % 26));
        bytes += line->len + 1;
        pst_log_commit(ring);
        if (n % 8 == 7)
            pst_log_flush(f->log);
    }
    pst_log_ring_close(ring);
    assert_int_equal(pst_log_drops(f->log), 0);

    FILE *in = fopen(f->path, "r");
    assert_non_null(in);
    for (unsigned n = 0; n < 2000; n++) {
        for (unsigned i = 0; i < n * 7 % 997 + 1; i++, bytes--)
            assert_int_equal(fgetc(in), 'a' + n % 26);
        assert_int_equal(fgetc(in), '\n');
        bytes--;
    }
    assert_int_equal(fgetc(in), EOF);
    (void)fclose(in);
    assert_int_equal(bytes, 0);
}

/* Reads what is there; counts whole lines and fails on anything else. */
static unsigned read_lines(int fd, char *kept, size_t *kept_len)
{
    char bytes[8192];
    unsigned lines = 0, n;
    ssize_t got;

    while ((got = read(fd, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] != '\n') {
                kept[(*kept_len)++] = bytes[i];
                assert_true(*kept_len < 64);
                continue;
            }
            kept[*kept_len] = '\0';
            assert_int_equal(sscanf(kept, "{\"n\":%u}", &n), 1);
            *kept_len = 0;
            lines++;
        }
    return lines;
}

/* A log whose reader is there and reads nothing by itself. */
static int open_to_reader(struct fixture *f, size_t bytes, struct pst_log **log,
                          struct pst_log_ring **ring)
{
    struct pst_log_config config = {.level = PST_LOG_INFO};
    struct pst_error error;

    assert_int_equal(mkfifo(f->moved, 0600), 0);
    int reader = open(f->moved, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    config.paths[PST_LOG_ACCESS] = pst_bytes_of(f->moved, strlen(f->moved));
    assert_int_equal(pst_log_create(&config, log, &error), PST_OK);
    assert_int_equal(pst_log_ring_open(*log, bytes, ring), PST_OK);
    return reader;
}

/* What is not written when a ring goes is counted. */
static void lines_that_nobody_reads_are_counted(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    struct pst_log *log;
    char kept[64];
    size_t kept_len = 0;
    int reader = open_to_reader(f, 1u << 20, &log, &ring);

    for (unsigned n = 1; n <= 20000; n++) /* more than a pipe holds */
        write_line(ring, n);
    pst_log_ring_close(ring);
    assert_true(pst_log_drops(log) > 0);
    assert_int_equal(read_lines(reader, kept, &kept_len) + pst_log_drops(log), 20000);
    pst_log_destroy(log);
    (void)close(reader);
}

static void an_off_stream_gives_no_line(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;

    assert_int_equal(pst_log_ring_open(f->log, 8192, &ring), PST_OK);
    assert_null(pst_log_begin(ring, PST_LOG_DECISIONS));
    pst_log_ring_close(ring);
}

static void an_overlong_line_is_dropped_and_counted(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    char big[PST_LOG_LINE_MAX]; /* and its end */
    unsigned last = 0;

    memset(big, 'x', sizeof(big));
    assert_int_equal(pst_log_ring_open(f->log, 8192, &ring), PST_OK);
    struct pst_buf *line = pst_log_begin(ring, PST_LOG_ACCESS);
    pst_buf_put(line, pst_bytes_of(big, sizeof(big)));
    pst_log_commit(ring);
    assert_int_equal(pst_log_drops(f->log), 1);
    write_line(ring, 7);
    pst_log_ring_close(ring);
    assert_int_equal(lines_of(f->path, &last), 1);
    assert_int_equal(pst_log_drops(f->log), 1); /* survives the ring */
}

static void reopening_follows_a_rotation(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    unsigned last = 0;

    assert_int_equal(pst_log_ring_open(f->log, 8192, &ring), PST_OK);
    write_line(ring, 1);
    pst_log_flush(f->log);
    assert_int_equal(rename(f->path, f->moved), 0);
    pst_log_reopen(f->log);
    pst_log_flush(f->log);
    write_line(ring, 2);
    pst_log_ring_close(ring);
    assert_int_equal(lines_of(f->moved, &last), 1);
    assert_int_equal(lines_of(f->path, &last), 1);
    assert_int_equal(last, 2);
}

static void *producer(void *arg)
{
    for (unsigned n = 1; n <= 5000; n++)
        write_line(arg, n);
    return NULL;
}

static void many_producers_lose_nothing_uncounted(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *rings[4];
    pthread_t threads[4];
    unsigned last = 0;

    for (int i = 0; i < 4; i++) {
        assert_int_equal(pst_log_ring_open(f->log, 65536, &rings[i]), PST_OK);
        assert_int_equal(pthread_create(&threads[i], NULL, producer, rings[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        pst_log_ring_close(rings[i]);
    }
    assert_int_equal(lines_of(f->path, &last) + pst_log_drops(f->log), 20000);
}

/* Whoever reads standard output may stop reading: nothing but its lines is lost, and nobody waits.
 */
static void a_reader_that_stops_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    struct pst_log_ring *ring;
    struct pst_log *log;
    char kept[64];
    size_t kept_len = 0;
    int reader = open_to_reader(f, 65536, &log, &ring);

    uint64_t begun = pst_clock_boot_ns();
    for (unsigned n = 1; n <= 20000; n++) /* more than a pipe and a ring hold */
        write_line(ring, n);
    for (int i = 0; i < 50; i++) { /* the thread has found the pipe full by the end */
        (void)usleep(10000);
        uint64_t asked = pst_clock_boot_ns();
        pst_log_event(log, PST_LOG_INFO, "any", "%s", "");
        (void)pst_log_drops(log);
        assert_true(pst_clock_boot_ns() - asked < 400 * PST_NS_PER_MS);
    }
    pst_log_flush(log);
    pst_log_flush(log);
    assert_true(pst_clock_boot_ns() - begun < 10 * PST_NS_PER_S);
    assert_true(pst_log_drops(log) > 0);

    unsigned lines = read_lines(reader, kept, &kept_len);
    pst_log_flush(log);
    lines += read_lines(reader, kept, &kept_len);
    write_line(ring, 1);
    pst_log_flush(log);
    lines += read_lines(reader, kept, &kept_len);
    assert_int_equal(kept_len, 0);
    assert_int_equal(lines + pst_log_drops(log), 20001);
    pst_log_ring_close(ring);
    pst_log_destroy(log);
    (void)close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_arrive_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_stay_whole_over_the_end_of_the_ring, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(lines_that_nobody_reads_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_off_stream_gives_no_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_overlong_line_is_dropped_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reopening_follows_a_rotation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_producers_lose_nothing_uncounted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_that_stops_holds_up_nobody, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
