/*
 * profile_value.c - bytes of a request become values: one decoding, and the form that an id must
 * have.
 *
 * An id is compared with the ids of grants byte for byte, so two spellings that the app reads as
 * one object must never reach the comparison as two: they are made one (UUID) or refused (the
 * rest).
 */
#include "profile_internal.h"

bool profile_class_has(const uint32_t bits[8], char c)
{
    unsigned char u = (unsigned char)c;

    return (bits[u >> 5] >> (u & 31) & 1u) != 0;
}

bool profile_class_all(const uint32_t bits[8], struct pst_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!profile_class_has(bits, text.ptr[i]))
            return false;
    return true;
}

/* FNV-1a. The tables hold only keys of the profile's own; a client chooses what is looked up, not
 * what is stored, so the hash needs no key. */
uint32_t profile_hash(struct pst_bytes text)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.ptr[i]) * 16777619u;
    return h;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = pst_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum pst_status profile_decode(struct pst_arena *arena, struct pst_bytes text, bool plus,
                               struct pst_bytes *out)
{
    *out = text;
    if (pst_bytes_find(text, '%') == text.len && (!plus || pst_bytes_find(text, '+') == text.len))
        return PST_OK;

    char *to = pst_arena_alloc(arena, text.len);
    size_t n = 0;
    if (to == NULL)
        return PST_E_NOMEM;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '+' && plus)
            c = ' ';
        if (c == '%') {
            int high = text.len - i > 2 ? hex_of(text.ptr[i + 1]) : -1;
            int low = text.len - i > 2 ? hex_of(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return PST_E_INVALID;
            c = (char)(high * 16 + low);
            i += 2;
        }
        to[n++] = c;
    }
    *out = pst_bytes_of(to, n);
    return PST_OK;
}

/* ---- UUID ---- */

/* Hex digits of the run of hex digits and hyphens at the start of text; *length is that of the run.
 */
static size_t hex_run(struct pst_bytes text, size_t *length)
{
    size_t digits = 0, i = 0;

    for (; i < text.len && (text.ptr[i] == '-' || hex_of(text.ptr[i]) >= 0); i++)
        digits += text.ptr[i] != '-';
    *length = i;
    return digits;
}

static void uuid_write(struct pst_bytes text, char canonical[36])
{
    size_t from = 0;

    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            canonical[i] = '-';
            continue;
        }
        while (text.ptr[from] == '-')
            from++;
        canonical[i] = pst_lower(text.ptr[from++]);
    }
}

static void strip(struct pst_bytes *text, struct pst_bytes prefix)
{
    if (text->len >= prefix.len &&
        pst_bytes_equal_nocase(pst_bytes_of(text->ptr, prefix.len), prefix))
        *text = pst_bytes_from(*text, prefix.len);
}

/* The spellings are those that common libraries read as the same UUID: any case, urn: and uuid:
 * before it, braces, hyphens left out or elsewhere. */
enum profile_uuid profile_uuid_read(struct pst_bytes text, char canonical[36])
{
    struct pst_bytes core = text;
    size_t length;

    strip(&core, PST_LIT("urn:"));
    strip(&core, PST_LIT("uuid:"));
    if (core.len >= 2 && core.ptr[0] == '{' && core.ptr[core.len - 1] == '}')
        core = pst_bytes_of(core.ptr + 1, core.len - 2);
    if (hex_run(core, &length) == 32 && length == core.len) {
        uuid_write(core, canonical);
        return UUID_YES;
    }
    for (size_t i = 0; i < text.len; i += length + 1)
        if (hex_run(pst_bytes_from(text, i), &length) >= 32)
            return UUID_AND_MORE;
    return UUID_NO;
}

static enum pst_reason check_uuid(struct pst_arena *arena, bool only, struct pst_bytes *id,
                                  bool *fault)
{
    char canonical[36];

    switch (profile_uuid_read(*id, canonical)) {
    case UUID_YES:
        *fault = pst_arena_copy(arena, pst_bytes_of(canonical, sizeof(canonical)), id) != PST_OK;
        return PST_R_INTERNAL;
    case UUID_AND_MORE:
        return PST_R_BAD_ID;
    case UUID_NO:
        break;
    }
    return only ? PST_R_BAD_ID : PST_R_INTERNAL;
}

/* ---- other forms ---- */

static bool has_control(struct pst_bytes id)
{
    for (size_t i = 0; i < id.len; i++)
        if ((unsigned char)id.ptr[i] < 0x20 || id.ptr[i] == 0x7f)
            return true;
    return false;
}

/* Empty, "." and ".." segments, and ones that some file system cuts. */
static bool is_folded_path(struct pst_bytes id)
{
    while (true) {
        size_t len = pst_bytes_find(id, '/');
        char last = len == 0 ? '.' : id.ptr[len - 1];
        if (last == '.' || last == ' ')
            return true;
        if (len == id.len)
            return false;
        id = pst_bytes_from(id, len + 1);
    }
}

static bool contains_any(struct pst_bytes id, const char *set, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pst_bytes_find(id, set[i]) != id.len)
            return true;
    return false;
}

/* Some database or language would read it as a number, and it is not how that number is written:
 * 1.0, +1, 01, 0x1, 1_0, " 1", digits of other scripts. */
static bool is_folded_number(struct pst_bytes id)
{
    uint64_t value;
    bool digits = false, numeric = true;

    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        if ((unsigned char)c >= 0x80)
            return true;
        digits = digits || (c >= '0' && c <= '9');
        numeric = numeric && (hex_of(c) >= 0 || c == '_' || c == '+' || c == '-' || c == '.' ||
                              c == ' ' || c == 'x' || c == 'X' || c == 'o' || c == 'O');
    }
    char first = pst_bytes_trim(id).len == 0 ? ' ' : pst_bytes_trim(id).ptr[0];
    bool starts = (first >= '0' && first <= '9') || first == '+' || first == '-' || first == '.' ||
                  first == ' ';
    if (!digits || !numeric || !starts)
        return false;
    return !pst_bytes_u63(id, &value) || (id.len > 1 && id.ptr[0] == '0');
}

enum pst_reason profile_form_check(struct pst_arena *arena, enum profile_form form,
                                   struct pst_bytes *id, bool *fault)
{
    bool bad = id->len == 0 || has_control(*id);

    *fault = false;
    switch (form) {
    case FORM_EXACT:
        bad = false;
        break;
    case FORM_NAME:
        break;
    case FORM_UUID:
    case FORM_UUID_ONLY:
        return bad ? PST_R_BAD_ID : check_uuid(arena, form == FORM_UUID_ONLY, id, fault);
    case FORM_PATH:
        bad = bad || is_folded_path(*id) || contains_any(*id, "\\", 1);
        break;
    case FORM_ARTIFACT:
        bad = bad || is_folded_path(*id) || contains_any(*id, "\\%?#", 4);
        break;
    case FORM_INTEGER:
        bad = bad || is_folded_number(*id);
        break;
    }
    return bad ? PST_R_BAD_ID : PST_R_INTERNAL;
}

static char fold_field(char c)
{
    return c == '_' || c == '.' ? '-' : pst_lower(c);
}

bool profile_field_equal(struct pst_bytes a, struct pst_bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (fold_field(a.ptr[i]) != fold_field(b.ptr[i]))
            return false;
    return true;
}
