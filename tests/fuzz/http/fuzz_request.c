/* A stream of requests: heads whole and in pieces, canonical targets, filtered fields, bodies. */
#include "fuzz_http.h"

#include "postern/http/body.h"
#include "postern/http/filter.h"
#include "postern/http/host.h"
#include "postern/http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pst_filter filter;

static void check_target(const struct pst_head *h)
{
    char host_space[PST_HOST_MAX], space[8192 + 256];
    struct pst_host host;
    struct pst_target target;
    struct pst_fault fault;

    CHECK(pst_host_parse(h->host, host_space, &host));
    if (!pst_target_parse(h->method, h->target, &host, space, sizeof(space), &target, &fault))
        return;
    CHECK(target.asterisk || target.target.ptr[0] == '/');
    for (size_t i = 0; i < target.target.len; i++)
        CHECK(target.target.ptr[i] > ' ' && target.target.ptr[i] < 0x7f &&
              target.target.ptr[i] != '\\' && target.target.ptr[i] != '#');
}

/* No field with a protected name goes on, however it is spelled. */
static void check_fields(const struct pst_head *h)
{
    struct pst_fault fault;
    bool connection = pst_filter_connection(&filter, h, &fault);

    CHECK(connection || fault.status == 400);
    for (size_t i = 0; i < h->count; i++) {
        if (pst_filter_request(&filter, h, i) == PST_FIELD_DROP)
            continue;
        CHECK(!pst_filter_is_protected(&filter, h->fields[i].name));
        CHECK(pst_bytes_find(h->fields[i].name, '_') == h->fields[i].name.len);
        CHECK(h->ids[i] != PST_FIELD_CONNECTION && h->ids[i] != PST_FIELD_CONTENT_LENGTH &&
              h->ids[i] != PST_FIELD_TRANSFER_ENCODING && h->ids[i] != PST_FIELD_HOST);
    }
}

/* The bytes of the body; SIZE_MAX if it does not end. */
static size_t skip_body(const struct pst_head *h, struct pst_bytes rest)
{
    struct pst_body body;
    enum pst_body_result got = PST_BODY_MORE;
    size_t at = 0;

    pst_body_init(&body, h, &pst_body_limits_default);
    if (pst_body_is_done(&body))
        return 0;
    while (got == PST_BODY_MORE && at < rest.len) {
        struct pst_bytes span;
        size_t used;

        got = pst_body_feed(&body, pst_bytes_from(rest, at), &used, &span);
        CHECK(got == PST_BODY_FAIL || used > 0);
        at += used;
    }
    return got == PST_BODY_DONE ? at : SIZE_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pst_head head;
    char *text = exact_copy(data, size);
    struct pst_bytes rest = pst_bytes_of(text, size);
    uint32_t seed = seed_of(data, size);
    struct pst_h1_parser parser;

    pst_filter_init(&filter);
    if (pst_filter_add(&filter, PST_LIT("X-Workspace")) != PST_OK)
        abort();
    pst_h1_init_request(&parser, &pst_h1_limits_default);
    while (rest.len > 0 && parse_both(&parser, rest, seed, &head) == PST_H1_DONE) {
        CHECK(head.framing != PST_FRAMING_UNTIL_CLOSE && head.host.len > 0);
        CHECK(head.upgrade != PST_UPGRADE_WEBSOCKET || head.content_length == 0);
        check_target(&head);
        check_fields(&head);
        rest = pst_bytes_from(rest, head.size);
        size_t body = skip_body(&head, rest);
        if (body == SIZE_MAX)
            break;
        rest = pst_bytes_from(rest, body);
    }
    free(text);
    return 0;
}
