/*
 * bench_h1.c - what the http layer costs per request, for a head of 985 bytes like a browser's with
 * a 600-byte token: the parse whole and in three pieces, the target, and the filter over all
 * fields.
 *
 * Prints one line per figure: name, nanoseconds of CPU time per operation (median of nine
 * rounds).
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "postern/http/filter.h"
#include "postern/http/h1.h"
#include "postern/http/target.h"

#define HEAD_BYTES 985
#define ROUNDS     9
#define REPEATS    100000

static char request[HEAD_BYTES];
static struct pst_filter filter;
static volatile size_t sink;

static void build_request(void)
{
    static const char before[] =
        "GET /w/blue/pipelines/11111111-1111-4111-8111-111111111111?limit=20 HTTP/1.1\r\n"
        "Host: app.example\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n"
        "Accept: application/json, text/plain, */*\r\n"
        "Accept-Language: en-US,en;q=0.5\r\n"
        "Accept-Encoding: gzip, deflate, br\r\n"
        "Connection: keep-alive\r\n"
        "Sec-Fetch-Mode: cors\r\n"
        "Authorization: Bearer ";
    static const char after[] = "\r\n\r\n";
    size_t head = sizeof(before) - 1, tail = sizeof(after) - 1;

    memset(request, 'a', sizeof(request));
    memcpy(request, before, head);
    memcpy(request + sizeof(request) - tail, after, tail);
}

static void parse_cut(struct pst_head *head, size_t pieces)
{
    struct pst_h1_parser parser;
    enum pst_h1_result got = PST_H1_MORE;

    pst_h1_init_request(&parser, &pst_h1_limits_default);
    for (size_t i = 1; i <= pieces; i++)
        got = pst_h1_parse(&parser, pst_bytes_of(request, sizeof(request) * i / pieces), head);
    if (got != PST_H1_DONE) {
        fprintf(stderr, "bench_h1: %s\n", parser.fault.reason);
        exit(1);
    }
    sink += head->count;
}

static void run_whole(struct pst_head *head)
{
    parse_cut(head, 1);
}

static void run_pieces(struct pst_head *head)
{
    parse_cut(head, 3);
}

static void run_target(struct pst_head *head)
{
    char space[1024];
    struct pst_target target;
    struct pst_fault fault;

    if (!pst_target_parse(head->method, head->target, NULL, space, sizeof(space), &target, &fault))
        exit(1);
    sink += target.path.len;
}

static void run_filter(struct pst_head *head)
{
    for (size_t i = 0; i < head->count; i++)
        sink += pst_filter_request(&filter, head, i) == PST_FIELD_PASS;
}

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const char *name, void (*run)(struct pst_head *), struct pst_head *head)
{
    double took[ROUNDS];

    for (size_t r = 0; r < ROUNDS; r++) {
        double start = now_ns();

        for (size_t i = 0; i < REPEATS; i++)
            run(head);
        took[r] = (now_ns() - start) / REPEATS;
    }
    qsort(took, ROUNDS, sizeof(took[0]), by_value);
    printf("%s %.1f ns\n", name, took[ROUNDS / 2]);
}

int main(void)
{
    static struct pst_head head;

    build_request();
    pst_filter_init(&filter);
    if (pst_filter_add(&filter, PST_LIT("X-Workspace")) != PST_OK)
        return 1;
    measure("h1_parse_985", run_whole, &head);
    measure("h1_parse_985_in_3_pieces", run_pieces, &head);
    measure("target_parse", run_target, &head);
    measure("filter_request", run_filter, &head);
    return 0;
}
