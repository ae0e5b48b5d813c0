#include "list.h"

bool pst_text_list_next(struct pst_bytes *at, struct pst_bytes *item)
{
    struct pst_bytes b = *at;

    /* Here: '[' or ',' of the element to come. */
    if (b.len < 3 || (b.ptr[0] != '[' && b.ptr[0] != ',') || b.ptr[1] != '"')
        return false;
    b = pst_bytes_from(b, 2);
    size_t len = pst_bytes_find(b, '"');
    if (len == b.len || pst_bytes_find(pst_bytes_of(b.ptr, len), '\\') < len)
        return false;
    *item = pst_bytes_of(b.ptr, len);
    b = pst_bytes_from(b, len + 1);
    if (b.len == 1 && b.ptr[0] == ']')
        b.len = 0;
    else if (b.len == 0 || b.ptr[0] != ',')
        return false;
    *at = b;
    return true;
}

bool pst_list_read(struct pst_bytes text, struct pst_bytes *items, uint32_t max, uint32_t *count)
{
    struct pst_bytes at = text, item;

    *count = 0;
    if (text.len == 0 || pst_bytes_equal(text, PST_LIT("[]")))
        return true;
    while (at.len > 0) {
        if (*count == max || (at.ptr[0] == '[') != (at.ptr == text.ptr) ||
            !pst_text_list_next(&at, &item))
            return false;
        items[(*count)++] = item;
    }
    return true;
}
