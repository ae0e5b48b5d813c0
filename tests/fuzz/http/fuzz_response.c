/* A stream of responses, to GET and to HEAD: heads whole and in pieces, filtered fields. */
#include "fuzz_http.h"

#include "postern/http/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fields(const struct pst_head *h)
{
    static struct pst_filter filter;

    pst_filter_init(&filter);
    for (size_t i = 0; i < h->count; i++) {
        char space[64];

        if (pst_filter_response(&filter, h, i) == PST_FIELD_DROP)
            continue;
        struct pst_bytes folded = pst_name_fold(h->fields[i].name, space, sizeof(space));
        CHECK(!pst_bytes_starts(folded, PST_LIT("x-postern-")));
        CHECK(!pst_bytes_starts(folded, PST_LIT("x-accel-")));
        CHECK(!pst_bytes_equal(folded, PST_LIT("content-length")));
        CHECK(!pst_bytes_equal(folded, PST_LIT("transfer-encoding")));
    }
}

static void read_stream(struct pst_bytes rest, uint32_t seed, enum pst_method asked)
{
    static struct pst_head head;
    struct pst_h1_parser parser;

    pst_h1_init_response(&parser, &pst_h1_limits_default, asked);
    while (rest.len > 0 && parse_both(&parser, rest, seed, &head) == PST_H1_DONE) {
        CHECK(head.status >= 100 && head.status <= 599);
        CHECK(head.framing != PST_FRAMING_UNTIL_CLOSE || !head.keep_alive);
        CHECK(asked != PST_METHOD_HEAD || head.framing == PST_FRAMING_NONE);
        if (head.status < 200 || head.status == 204 || head.status == 304)
            CHECK(head.framing == PST_FRAMING_NONE);
        check_fields(&head);
        rest = pst_bytes_from(rest, head.size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size);

    read_stream(pst_bytes_of(text, size), seed_of(data, size), PST_METHOD_GET);
    read_stream(pst_bytes_of(text, size), seed_of(data, size), PST_METHOD_HEAD);
    free(text);
    return 0;
}
