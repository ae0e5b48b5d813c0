/* Chunked bodies: at once and in pieces they are the same data, the same end, the same fault. */
#include "fuzz_http.h"

#include "postern/http/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    enum pst_body_result result;
    struct pst_body body;
    size_t used, len;
    uint32_t hash; /* of the data */
};

static void add_data(struct outcome *o, struct pst_bytes data)
{
    o->len += data.len;
    for (size_t i = 0; i < data.len; i++)
        o->hash = (o->hash ^ (unsigned char)data.ptr[i]) * 16777619u;
}

static struct outcome decode(const struct pst_head *head, const struct pst_body_limits *limits,
                             struct pst_bytes text, uint32_t seed, bool cut)
{
    struct outcome o = {.result = PST_BODY_MORE};

    pst_body_init(&o.body, head, limits);
    while (o.result == PST_BODY_MORE && o.used < text.len) {
        size_t left = text.len - o.used, len = cut ? next_cut(&seed, left) : left, used;
        char *piece = exact_copy(text.ptr + o.used, len);
        struct pst_bytes data;

        o.result = pst_body_feed(&o.body, pst_bytes_of(piece, len), &used, &data);
        CHECK(used <= len && is_within(data, piece, used));
        CHECK(o.result != PST_BODY_MORE || used > 0);
        add_data(&o, data);
        o.used += used;
        free(piece);
    }
    CHECK(o.body.data_bytes == o.len || o.result == PST_BODY_FAIL);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_body_limits limits = pst_body_limits_default;
    struct pst_head head = {.framing = PST_FRAMING_CHUNKED};
    struct pst_bytes text = pst_bytes_of(data, size);
    uint32_t seed = seed_of(data, size);

    if (seed % 2 == 0) { /* limits that short inputs can reach */
        limits.body_bytes = 40;
        limits.overhead_bytes = 60;
        limits.extension_bytes = 6;
        limits.field_bytes = 10;
        limits.trailer_bytes = 30;
        limits.fields = 3;
    }
    struct outcome whole = decode(&head, &limits, text, seed, false);
    struct outcome pieces = decode(&head, &limits, text, seed, true);

    CHECK(whole.result == pieces.result && whole.len == pieces.len && whole.hash == pieces.hash);
    CHECK(whole.result == PST_BODY_FAIL || whole.used == pieces.used);
    CHECK(whole.body.fault.status == pieces.body.fault.status);
    if (limits.body_bytes != 0)
        CHECK(whole.len <= limits.body_bytes);
    CHECK(pst_body_ends_here(&whole.body) == (whole.result == PST_BODY_DONE));
    return 0;
}
