/*
 * message_internal.h - where a name is looked up among those with an id.
 */
#ifndef POSTERN_HTTP_MESSAGE_INTERNAL_H
#define POSTERN_HTTP_MESSAGE_INTERNAL_H

#include <endian.h>

#include "postern/http/message.h"

/* Each known name in small letters and the colon behind it, filled up with NUL. A longer one does
 * not compile. */
#define PST_NAME_ROW 32
extern const char pst_name_rows_[PST_FIELD_COUNT][PST_NAME_ROW];

/* The length, the first letter and the last two; capitals are made small. */
#define PST_NAME_KEY(len, a, yz)                                                                   \
    ((uint32_t)(len) << 24 | (uint32_t)(unsigned char)(a) << 16 | (yz) | 0x202020u)
#define PST_NAME_END(y, z) ((uint32_t)(unsigned char)(z) << 8 | (uint32_t)(unsigned char)(y))

/* The multiplier was searched for: it gives each known name a place of its own. When a new name
 * shares one, the table does not compile (a place is filled twice), and another multiplier is due.
 */
#define PST_NAME_SLOTS     512u
#define PST_NAME_SLOT(key) (((key)*0x313dfc6bu & 0xffffffffu) >> 23)
extern const uint8_t pst_name_slots_[PST_NAME_SLOTS];

/* The only id that a name of these at least two bytes, at most 255, can have. */
static inline enum pst_field_id pst_name_candidate(const char *name, size_t len)
{
    uint16_t end;

    memcpy(&end, name + len - 2, sizeof(end));
    return pst_name_slots_[PST_NAME_SLOT(PST_NAME_KEY(len, name[0], le16toh(end)))];
}

#endif
