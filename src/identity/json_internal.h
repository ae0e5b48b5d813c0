/*
 * json_internal.h - JSON as identity accepts it: jansson behind a guard.
 *
 * jansson refuses duplicate names (asked to), trailing bytes, invalid UTF-8, lone surrogates, NUL in
 * strings and numbers that overflow.  It recurses up to 2048 levels and allocates as it goes, so the
 * depth is counted before it sees the text.  Only objects are wanted here.
 */
#ifndef POSTERN_IDENTITY_JSON_INTERNAL_H
#define POSTERN_IDENTITY_JSON_INTERNAL_H

#include <jansson.h>

#include "postern/base/bytes.h"

/* The object in `text`, to be given to json_decref; NULL when it is anything else. */
json_t *pst_json_object(struct pst_bytes text, unsigned depth_max);

/* The bytes of a JSON string; not to be called with anything else. */
static inline struct pst_bytes pst_json_text(const json_t *string)
{
    return pst_bytes_of(json_string_value(string), json_string_length(string));
}

/* What a text holds under a name at its top level, read without believing any of it. */
enum pst_peek {
    PST_PEEK_MALFORMED = 0, /* no object, or broken before the end was found */
    PST_PEEK_ABSENT,
    PST_PEEK_OTHER, /* there, but no string, or one that does not fit `cap` */
    PST_PEEK_STRING,
};

/* Looks for the member `name` without building anything and copies its string value, simple escapes
 * resolved, to out[cap]. What it finds only chooses the keys to try: the whole text is parsed once
 * its signature holds. */
enum pst_peek pst_json_peek(struct pst_bytes text, struct pst_bytes name, char *out, size_t cap, size_t *len);

#endif
