/*
 * profile_value.c - bytes of a request become values: one decoding, and the form that an id must
 * have.
 *
 * An id is compared with the ids of grants byte for byte, so two spellings that the app reads as
 * one object must never reach the comparison as two: they are made one (UUID) or refused (the
 * rest).
 */
#include "profile_internal.h"

/* FNV-1a. The tables hold only keys of the profile's own; a client chooses what is looked up, not
 * what is stored, so the hash needs no key. */
uint32_t profile_hash(struct pst_bytes text)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.ptr[i]) * 16777619u;
    return h;
}

/* Value + 1 of a hex digit. */
static const uint8_t hex_digits[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static int hex_of(char c)
{
    return hex_digits[(unsigned char)c] - 1;
}

/* Eight bytes as one number: each of them is judged in its own place, the verdict in its top bit.
 */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))
#define TOPS       EACH(0x80)

/* True when all are visible ASCII or blanks. */
static bool are_plain(uint64_t word)
{
    uint64_t del = word ^ EACH(0x7f);

    return ((((word - EACH(0x20)) & ~word) | ((del - EACH(1)) & ~del) | word) & TOPS) == 0;
}

static uint64_t load_4_4(const char *low, const char *high)
{
    return (uint64_t)pst_load_4(high) << 32 | pst_load_4(low);
}

/* True when there are some, and all are visible ASCII or blanks. */
static bool is_plain(struct pst_bytes text)
{
    size_t i = 0;

    if (text.len >= 8) {
        for (; text.len - i > 8; i += 8)
            if (!are_plain(pst_load_8(text.ptr + i)))
                return false;
        return are_plain(pst_load_8(text.ptr + text.len - 8));
    }
    if (text.len >= 4)
        return are_plain(load_4_4(text.ptr, text.ptr + text.len - 4));
    while (i < text.len && text.ptr[i] >= 0x20 && text.ptr[i] < 0x7f)
        i++;
    return i == text.len && i > 0;
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

#define UUID_TEXT   36u
#define UUID_DIGITS 32u

#ifdef __SSE2__
/* Hex digits in lower case, and hyphens where `hyphens` has bits. */
static bool is_canonical_part(const char *at, int hyphens)
{
    __m128i v = pst_load_16(at);
    __m128i hyphen = _mm_cmpeq_epi8(v, _mm_set1_epi8('-'));
    /* the highest of each range becomes 127, what is above it negative */
    __m128i digit = _mm_cmpgt_epi8(_mm_add_epi8(v, _mm_set1_epi8(127 - '9')), _mm_set1_epi8(117));
    __m128i letter = _mm_cmpgt_epi8(_mm_add_epi8(v, _mm_set1_epi8(127 - 'f')), _mm_set1_epi8(121));

    return _mm_movemask_epi8(hyphen) == hyphens &&
           _mm_movemask_epi8(_mm_or_si128(hyphen, _mm_or_si128(digit, letter))) == 0xffff;
}
#else
/* True when all are 0-9 or a-f. */
static bool are_digits(uint64_t word)
{
    uint64_t low = word & ~TOPS; /* so that no sum reaches the next byte */
    uint64_t number = (low + EACH(0x80 - '0')) & ~(low + EACH(0x80 - '9' - 1));
    uint64_t letter = (low + EACH(0x80 - 'a')) & ~(low + EACH(0x80 - 'f' - 1));

    return ((number | letter) & ~word & TOPS) == TOPS;
}
#endif

/* The one spelling that ids are kept in, which is nearly always the one that is sent. */
static bool is_canonical(struct pst_bytes text)
{
    const char *p = text.ptr;

    if (text.len != UUID_TEXT)
        return false;
#ifdef __SSE2__
    return is_canonical_part(p, 1 << 8 | 1 << 13) && is_canonical_part(p + 16, 1 << 2 | 1 << 7) &&
           is_canonical_part(p + 20, 1 << 3);
#else
    return p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-' &&
           are_digits(pst_load_8(p)) && are_digits(load_4_4(p + 9, p + 14)) &&
           are_digits(load_4_4(p + 19, p + 24)) && are_digits(pst_load_8(p + 28));
#endif
}

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

/* The decimal digits of Unicode 17, by their zeros: some languages read each of them as a digit. */
static bool is_foreign_digit(uint32_t point)
{
    static const uint32_t zeros[] = {
        0x0660,  0x06f0,  0x07c0,  0x0966,  0x09e6,  0x0a66,  0x0ae6,  0x0b66,  0x0be6,  0x0c66,
        0x0ce6,  0x0d66,  0x0de6,  0x0e50,  0x0ed0,  0x0f20,  0x1040,  0x1090,  0x17e0,  0x1810,
        0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,
        0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x10d40, 0x11066,
        0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da,
        0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11de0, 0x11f50, 0x16a60,
        0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140,
        0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
    };

    for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++)
        if (point >= zeros[i] && point - zeros[i] < 10)
            return true;
    return false;
}

static bool is_foreign_blank(uint32_t point)
{
    return point == 0x85 || point == 0xa0 || point == 0x1680 ||
           (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 ||
           point == 0x202f || point == 0x205f || point == 0x3000;
}

/* The code point at the start of text, which is not empty; *length 0: no UTF-8. */
static uint32_t point_at(struct pst_bytes text, size_t *length)
{
    unsigned char lead = (unsigned char)text.ptr[0];
    size_t len = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t point = len == 1 ? lead : lead & (0xffu >> (len + 1));

    *length = len <= text.len ? len : 0;
    for (size_t i = 1; i < *length; i++) {
        unsigned char next = (unsigned char)text.ptr[i];
        if ((next & 0xc0) != 0x80)
            *length = 0;
        else
            point = point << 6 | (next & 0x3fu);
    }
    return point;
}

/* Number readers take `_` between digits, a sign, 0x, blanks around and digits of other scripts,
 * and some take the urn out wherever it stands. So 32 of all these, hyphens and braces aside, are a
 * UUID to somebody: to Python, (fullwidth 2)2222222-2222-... */
static bool is_loose_uuid(struct pst_bytes text)
{
    size_t count = 0, length = 1;

    for (; text.len > 0; text = pst_bytes_from(text, length)) {
        struct pst_bytes rest = text;
        strip(&rest, PST_LIT("urn:"));
        strip(&rest, PST_LIT("uuid:"));
        length = text.len - rest.len;
        if (length > 0)
            continue;
        uint32_t point = point_at(text, &length);
        bool skipped = point == '-' || point == '{' || point == '}';
        if (length == 0 || (!skipped && length == 1 && hex_of((char)point) < 0 && point != '_' &&
                            point != '+' && point != 'x' && point != 'X' && point != ' '))
            return false;
        if (length > 1 && !is_foreign_digit(point) && !is_foreign_blank(point))
            return false;
        count += !skipped;
    }
    return count == UUID_DIGITS;
}

/* The spellings are those that common libraries read as the same UUID: any case, urn: and uuid:
 * before it, braces, hyphens left out or elsewhere. */
enum profile_uuid profile_uuid_read(struct pst_bytes text, char canonical[36])
{
    struct pst_bytes core = text;
    size_t length;

    if (text.len < UUID_DIGITS)
        return UUID_NO;
    if (is_canonical(text)) {
        memcpy(canonical, text.ptr, UUID_TEXT);
        return UUID_YES;
    }
    strip(&core, PST_LIT("urn:"));
    strip(&core, PST_LIT("uuid:"));
    if (core.len >= 2 && core.ptr[0] == '{' && core.ptr[core.len - 1] == '}')
        core = pst_bytes_of(core.ptr + 1, core.len - 2);
    if (hex_run(core, &length) == UUID_DIGITS && length == core.len) {
        uuid_write(core, canonical);
        return UUID_YES;
    }
    for (size_t i = 0; i < text.len; i += length + 1)
        if (hex_run(pst_bytes_from(text, i), &length) >= UUID_DIGITS)
            return UUID_AND_MORE;
    return is_loose_uuid(text) ? UUID_AND_MORE : UUID_NO;
}

static enum pst_reason check_uuid(struct pst_arena *arena, bool only, struct pst_bytes *id,
                                  bool *fault)
{
    char canonical[UUID_TEXT];

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

/* In shortest form (RFC 3629). Of other bytes every reader makes what it likes, and many make the
 * same of all: an id of such bytes is one object here and another there. */
static bool is_utf8(struct pst_bytes id)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length;

    for (; id.len > 0; id = pst_bytes_from(id, length)) {
        uint32_t point = point_at(id, &length);
        if (length == 0 || point < least[length] || point > 0x10ffff ||
            (point >= 0xd800 && point <= 0xdfff))
            return false;
    }
    return true;
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

bool profile_form_is(enum profile_form form, struct pst_bytes id)
{
    switch (form) {
    case FORM_EXACT:
        return true;
    case FORM_NAME:
        return is_plain(id);
    case FORM_UUID:
        if (id.len < UUID_DIGITS)
            return is_plain(id);
        return is_canonical(id);
    case FORM_UUID_ONLY:
        return is_canonical(id);
    case FORM_PATH:
    case FORM_ARTIFACT:
    case FORM_INTEGER:
        break;
    }
    return false;
}

enum pst_reason profile_form_check(struct pst_arena *arena, enum profile_form form,
                                   struct pst_bytes *id, bool *fault)
{
    *fault = false;
    if (profile_form_is(form, *id))
        return PST_R_INTERNAL;

    bool bad = !is_plain(*id) && (id->len == 0 || has_control(*id) || !is_utf8(*id));
    switch (form) {
    case FORM_EXACT:
    case FORM_NAME:
        break;
    case FORM_UUID:
    case FORM_UUID_ONLY:
        if (!bad && id->len < UUID_DIGITS)
            bad = form == FORM_UUID_ONLY;
        else if (!bad)
            return check_uuid(arena, form == FORM_UUID_ONLY, id, fault);
        break;
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
