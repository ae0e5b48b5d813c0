/*
 * A name is recognised by its length and three of its letters, which lead to the one candidate in a
 * table without collisions (see message_internal.h), and one comparison eight bytes at a time.
 * Setting the bit 0x20 makes capitals small; of the other token bytes it changes only `^` and `_`,
 * which become bytes that stand in no known name.
 */
#include "message_internal.h"

/* PST_LIT is no constant expression, which a table needs. */
#define TEXT(s)                                                                                    \
    {                                                                                              \
        .ptr = "" s, .len = sizeof(s) - 1                                                          \
    }

static const struct pst_bytes method_texts[PST_METHOD_COUNT] = {
    [PST_METHOD_GET] = TEXT("GET"),           [PST_METHOD_HEAD] = TEXT("HEAD"),
    [PST_METHOD_POST] = TEXT("POST"),         [PST_METHOD_PUT] = TEXT("PUT"),
    [PST_METHOD_PATCH] = TEXT("PATCH"),       [PST_METHOD_DELETE] = TEXT("DELETE"),
    [PST_METHOD_OPTIONS] = TEXT("OPTIONS"),   [PST_METHOD_CONNECT] = TEXT("CONNECT"),
    [PST_METHOD_TRACE] = TEXT("TRACE"),       [PST_METHOD_TRACK] = TEXT("TRACK"),
    [PST_METHOD_PROPFIND] = TEXT("PROPFIND"), [PST_METHOD_PROPPATCH] = TEXT("PROPPATCH"),
    [PST_METHOD_MKCOL] = TEXT("MKCOL"),       [PST_METHOD_COPY] = TEXT("COPY"),
    [PST_METHOD_MOVE] = TEXT("MOVE"),         [PST_METHOD_LOCK] = TEXT("LOCK"),
    [PST_METHOD_UNLOCK] = TEXT("UNLOCK"),
};

_Static_assert(PST_FIELDS_MAX < UINT8_MAX, "a field's place, and one more, fit into a byte");

_Alignas(PST_NAME_ROW) const char pst_name_rows_[PST_FIELD_COUNT][PST_NAME_ROW] = {
#define FIELD_ROW(id, name, a, y, z) [PST_FIELD_##id] = name ":",
    PST_FIELD_LIST(FIELD_ROW)
#undef FIELD_ROW
};

static const uint8_t name_lens[PST_FIELD_COUNT] = {
#define FIELD_LEN(id, name, a, y, z) [PST_FIELD_##id] = sizeof(name) - 1,
    PST_FIELD_LIST(FIELD_LEN)
#undef FIELD_LEN
};

enum pst_method pst_method_of_other_(struct pst_bytes text)
{
    for (unsigned m = PST_METHOD_GET + 1; m < PST_METHOD_COUNT; m++)
        if (pst_bytes_equal(text, method_texts[m]))
            return (enum pst_method)m;
    return PST_METHOD_OTHER;
}

struct pst_bytes pst_method_text(enum pst_method method)
{
    return method_texts[method];
}

const uint8_t pst_name_slots_[PST_NAME_SLOTS] = {
#define FIELD_SLOT(id, text, a, y, z)                                                              \
    [PST_NAME_SLOT(PST_NAME_KEY(sizeof(text) - 1, a, PST_NAME_END(y, z)))] = PST_FIELD_##id,
    PST_FIELD_LIST(FIELD_SLOT)
#undef FIELD_SLOT
};

/* Eight bytes, or rather whether they differ from those of a known name, which are small. */
static uint64_t differ8(const char *name, const char *known)
{
    uint64_t word, wanted;

    memcpy(&word, name, sizeof(word));
    memcpy(&wanted, known, sizeof(wanted));
    return (word | 0x2020202020202020u) ^ wanted;
}

static bool same_name(const char *name, const char *known, size_t len)
{
    size_t i = 0;

    for (; len - i >= 8; i += 8)
        if (differ8(name + i, known + i) != 0)
            return false;
    if (i > 0) /* the rest, as the end of eight bytes that overlap those seen */
        return differ8(name + len - 8, known + len - 8) == 0;
    for (; i < len; i++)
        if ((name[i] | 0x20) != known[i])
            return false;
    return true;
}

enum pst_field_id pst_field_id_of(struct pst_bytes name)
{
    if (name.len < 2 || name.len > UINT8_MAX)
        return PST_FIELD_OTHER;

    enum pst_field_id id = pst_name_candidate(name.ptr, name.len);
    if (name_lens[id] != name.len || !same_name(name.ptr, pst_name_rows_[id], name.len))
        return PST_FIELD_OTHER;
    return id;
}

struct pst_bytes pst_field_name(enum pst_field_id id)
{
    return pst_bytes_of(pst_name_rows_[id], name_lens[id]);
}

size_t pst_head_find_name(const struct pst_head *head, struct pst_bytes name, size_t from)
{
    while (from < head->count && !pst_bytes_equal_nocase(head->fields[from].name, name))
        from++;
    return from;
}

bool pst_list_next(struct pst_bytes *rest, struct pst_bytes *element)
{
    while (rest->len > 0) {
        size_t comma = pst_bytes_find(*rest, ',');

        *element = pst_bytes_trim(pst_bytes_of(rest->ptr, comma));
        *rest = pst_bytes_from(*rest, comma < rest->len ? comma + 1 : comma);
        if (element->len > 0)
            return true;
    }
    *element = (struct pst_bytes){0};
    return false;
}

bool pst_cookie_next(struct pst_bytes *rest, struct pst_bytes *name, struct pst_bytes *value)
{
    while (rest->len > 0) {
        size_t end = pst_bytes_find(*rest, ';');
        struct pst_bytes pair = pst_bytes_trim(pst_bytes_of(rest->ptr, end));

        *rest = pst_bytes_from(*rest, end < rest->len ? end + 1 : end);
        if (pair.len == 0)
            continue;

        size_t equals = pst_bytes_find(pair, '=');
        bool named = equals < pair.len;
        *name = pst_bytes_trim(pst_bytes_of(pair.ptr, named ? equals : 0));
        *value = pst_bytes_trim(named ? pst_bytes_from(pair, equals + 1) : pair);
        return true;
    }
    *name = *value = (struct pst_bytes){0};
    return false;
}
