/* Targets: the canonical form has its grammar, is its own canonical form, decodes to the same path.
 */
#include "fuzz_http.h"

#include "postern/http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_upper_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

static unsigned upper_hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

static bool is_unreserved(unsigned c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* Written from the rules, not from the code. */
static void check_path(struct pst_bytes path)
{
    struct pst_bytes rest = path, segment;

    CHECK(path.len > 0 && path.ptr[0] == '/');
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];

        CHECK(c > ' ' && c < 0x7f && memchr("\\#?\"<>^`{|}[]", c, 13) == NULL);
        if (c != '%')
            continue;
        CHECK(path.len - i > 2 && is_upper_hex(path.ptr[i + 1]) && is_upper_hex(path.ptr[i + 2]));
        unsigned value = upper_hex(path.ptr[i + 1]) << 4 | upper_hex(path.ptr[i + 2]);
        CHECK(!is_unreserved(value) && value >= 0x20 && value != 0x7f && value != '\\');
    }
    while (pst_path_next(&rest, &segment)) {
        CHECK(segment.len == 0 || segment.ptr[segment.len - 1] != '.');
        CHECK(segment.len < 3 || memcmp(segment.ptr + segment.len - 3, "%20", 3) != 0);
    }
    CHECK(rest.len == 0);
}

static void check_idempotent(const struct pst_target *once)
{
    char *copy = exact_copy(once->target.ptr, once->target.len);
    struct pst_target twice;
    struct pst_fault fault;

    CHECK(pst_target_parse(PST_METHOD_GET, pst_bytes_of(copy, once->target.len), NULL, NULL, 0,
                           &twice, &fault));
    CHECK(twice.target.ptr == copy && twice.target.len == once->target.len);
    CHECK(twice.path.len == once->path.len && twice.has_query == once->has_query);
    CHECK(twice.oddities == once->oddities);
    free(copy);
}

static void check_helpers(const struct pst_target *t)
{
    struct pst_bytes rest = t->query, decoded;
    struct pst_query_pair pair;
    char *space = exact_copy(t->target.ptr, t->target.len), uuid[PST_UUID_LEN];

    CHECK(pst_percent_decode(t->path, space, t->path.len, &decoded));
    (void)pst_uuid_read(decoded, uuid);
    while (pst_query_next(&rest, &pair)) {
        CHECK(is_within(pair.key, t->query.ptr, t->query.len));
        CHECK(is_within(pair.value, t->query.ptr, t->query.len));
        CHECK(pst_query_decode(pair.key, space, t->target.len, &decoded));
        CHECK(pst_query_key_is(pair.key, decoded));
    }
    free(space);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *raw = exact_copy(data, size), *space = exact_copy(data, size);
    struct pst_host host = {.text = PST_LIT("app.example"), .name = PST_LIT("app.example")};
    struct pst_target target;
    struct pst_fault fault = {0};

    if (!pst_target_parse(PST_METHOD_GET, pst_bytes_of(raw, size), &host, space, size, &target,
                          &fault)) {
        CHECK(fault.status == 400 || fault.status == 414);
    } else {
        check_path(target.path);
        check_idempotent(&target);
        check_helpers(&target);
    }
    free(space);
    free(raw);
    return 0;
}
