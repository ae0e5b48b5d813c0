/*
 * profile_fold.c - resource names as the app's own router folds them.
 *
 * Mage takes the singular of a path segment by English rules, splits it at '_', capitalises each
 * part and joins the parts to a class name; so ROLES, role, _roles and role_ are all Role. Postern
 * folds the other way: the resource names of the profile's entities and the segment both become
 * lower-case singular without underscores at the joints, and are looked up by that.
 */
#include "profile_internal.h"

struct ending {
    const char *plural, *singular;
    uint8_t plural_len, singular_len;
};

#define E(plural, singular)                                                                        \
    {                                                                                              \
        plural, singular, sizeof(plural) - 1, sizeof(singular) - 1                                 \
    }

/* The longest that fits counts. Words that are their own singular end the search. */
static const struct ending endings[] = {
    E("statuses", "status"),
    E("status", "status"),
    E("statistics", "statistics"),
    E("analyses", "analysis"),
    E("processes", "process"),
    E("process", "process"),
    E("branches", "branch"),
    E("matches", "match"),
    E("indices", "index"),
    E("caches", "cache"),
    E("series", "series"),
    E("databases", "database"),
    E("classes", "class"),
    E("class", "class"),
    E("access", "access"),
    E("boxes", "box"),
    E("summaries", "summary"),
    E("queries", "query"),
    E("entries", "entry"),
    E("news", "news"),
    E("ches", "ch"),
    E("shes", "sh"),
    E("sses", "ss"),
    E("xes", "x"),
    E("ies", "y"),
    E("us", "us"),
    E("ss", "ss"),
    E("is", "is"),
    E("s", ""),
};

static size_t singular(char *name, size_t length)
{
    const struct ending *best = NULL;

    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        const struct ending *e = &endings[i];
        if ((best == NULL || e->plural_len > best->plural_len) && e->plural_len <= length &&
            memcmp(name + length - e->plural_len, e->plural, e->plural_len) == 0)
            best = e;
    }
    if (best == NULL)
        return length;
    memcpy(name + length - best->plural_len, best->singular, best->singular_len);
    return length - best->plural_len + best->singular_len;
}

bool profile_fold_name(struct pst_bytes segment, char *out, size_t capacity, size_t *length)
{
    size_t n = 0, kept = 0;

    if (segment.len == 0 || segment.len > capacity)
        return false;
    for (size_t i = 0; i < segment.len; i++)
        out[n++] = pst_lower(segment.ptr[i]);
    n = singular(out, n);
    for (size_t i = 0; i < n;
         i++) /* each part keeps its start: block__run is BlockRun, blockrun Blockrun */
        if (out[i] != '_' || (kept > 0 && out[kept - 1] != '_'))
            out[kept++] = out[i];
    if (kept > 0 && out[kept - 1] == '_')
        kept--;
    *length = kept;
    return kept > 0;
}

const struct profile_entity *profile_fold(const struct pst_profile *profile,
                                          struct pst_bytes segment)
{
    char name[128];
    size_t length;

    if (profile->entity_slots == NULL || !profile_fold_name(segment, name, sizeof(name), &length))
        return NULL;
    struct pst_bytes folded = pst_bytes_of(name, length);
    for (uint32_t at = profile_hash(folded) & profile->entity_mask;
         profile->entity_slots[at] != NULL; at = (at + 1) & profile->entity_mask)
        if (pst_bytes_equal(profile->entity_slots[at]->payload, folded))
            return profile->entity_slots[at];
    return NULL;
}

const struct profile_entity *profile_entity_of(const struct pst_profile *profile,
                                               struct pst_bytes name)
{
    for (const struct profile_entity *e = profile->entities; e != NULL; e = e->next)
        if (pst_bytes_equal(e->name, name))
            return e;
    return NULL;
}
