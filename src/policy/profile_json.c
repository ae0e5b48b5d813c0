/*
 * profile_json.c - ids out of a JSON body.
 *
 * jansson parses (doubled keys refused, UTF-8 checked, depth limited); this file walks. A field may
 * be written in snake_case or lowerCamelCase where the profile says so: both at once must agree.
 *
 * The app may act on every element of a list, so one that leads to no value is noted, not passed
 * over.
 */
#include "profile_internal.h"

#include <inttypes.h>
#include <jansson.h>

#define VALUES_MAX 100000u /* of one body */

/* struct profile_json is never defined: a json_t by another name, so that only this file sees
 * jansson. */
static json_t *root_of(const struct profile_json *json)
{
    union {
        const struct profile_json *in;
        json_t *out;
    } u = {.in = json};

    return u.out;
}

/* Behind the quote that ends the string which begins in front of `at`. */
static size_t string_end(struct pst_bytes body, size_t at)
{
    while (at < body.len && body.ptr[at] != '"')
        at += body.ptr[at] == '\\' ? 2 : 1;
    return at + 1;
}

/* Each value begins behind one of these; what stands in strings is text. A parsed value costs up to
 * a hundred times its bytes, and the loop that all requests share waits for it, so they are counted
 * before there are any. */
static bool has_too_many_values(struct pst_bytes body)
{
    size_t count = 0, at = 0;

    if (body.len <= VALUES_MAX)
        return false;
    while (at < body.len && count <= VALUES_MAX) {
        char c = body.ptr[at++];

        if (c == '"')
            at = string_end(body, at);
        else
            count += c == ',' || c == '[' || c == '{';
    }
    return count > VALUES_MAX;
}

enum pst_status profile_json_open(struct pst_bytes body, struct profile_json **out)
{
    json_error_t error;

    *out = NULL;
    if (has_too_many_values(body))
        return PST_E_LIMIT;
    json_t *root =
        json_loadb(body.ptr == NULL ? "" : body.ptr, body.len, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL)
        return json_error_code(&error) == json_error_out_of_memory ? PST_E_NOMEM : PST_E_INVALID;
    if (!json_is_object(root)) {
        json_decref(root);
        return PST_E_INVALID;
    }
    *out = (void *)root;
    return PST_OK;
}

void profile_json_close(struct profile_json *json)
{
    if (json != NULL)
        json_decref(root_of(json));
}

enum pst_status profile_values_add(struct pst_arena *arena, struct profile_values *values,
                                   struct pst_bytes item)
{
    if (values->count == PROFILE_VALUES)
        return PST_E_LIMIT;
    if (values->count == values->capacity) {
        uint32_t capacity = values->capacity == 0 ? 4 : values->capacity * 4;
        struct pst_bytes *items = pst_arena_array(arena, capacity, sizeof(*items));
        if (items == NULL)
            return PST_E_NOMEM;
        if (values->count != 0)
            memcpy(items, values->items, values->count * sizeof(*items));
        values->items = items;
        values->capacity = capacity;
    }
    values->items[values->count++] = item;
    return PST_OK;
}

/* trace_id -> traceId. False when the name has no other spelling or is too long for one. */
static bool camel_of(struct pst_bytes name, char out[64])
{
    size_t n = 0;

    if (name.len >= 64)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '_' && i + 1 < name.len && name.ptr[i + 1] >= 'a' && name.ptr[i + 1] <= 'z')
            c = (char)(name.ptr[++i] - ('a' - 'A'));
        out[n++] = c;
    }
    out[n] = '\0';
    return n != name.len;
}

static bool is_scalar_equal(const json_t *a, const json_t *b)
{
    return !json_is_object(a) && !json_is_array(a) && json_equal(a, b) == 1;
}

/* The member of an object, NULL when absent or null; *ambiguous when two spellings disagree. */
static json_t *member_of(const json_t *object, struct pst_bytes name, bool both, bool *ambiguous)
{
    char other[64];
    json_t *one = json_object_get(object, name.ptr); /* names of a profile end in NUL */
    json_t *two = both && camel_of(name, other) ? json_object_get(object, other) : NULL;

    if (one != NULL && two != NULL && !is_scalar_equal(one, two))
        *ambiguous = true;
    one = one != NULL ? one : two;
    return json_is_null(one) ? NULL : one;
}

struct walk {
    const struct profile_var *var;
    const struct profile_name *name; /* one of its names */
    bool both;
    struct pst_arena *arena;
    struct profile_values *out;
    bool *fault;
};

static enum pst_reason add_leaf(const struct walk *w, const json_t *leaf)
{
    struct pst_bytes text;
    enum pst_status status = PST_OK;

    if (json_is_string(leaf)) {
        status = pst_arena_copy(
            w->arena, pst_bytes_of(json_string_value(leaf), json_string_length(leaf)), &text);
    } else if (json_is_integer(leaf)) {
        text = pst_arena_printf(w->arena, "%" JSON_INTEGER_FORMAT, json_integer_value(leaf));
        status = text.len == 0 ? PST_E_NOMEM : PST_OK;
    } else {
        return PST_R_BAD_ID;
    }
    if (status == PST_OK)
        status = profile_values_add(w->arena, w->out, text);
    if (status == PST_E_LIMIT)
        return PST_R_BAD_REQUEST;
    *w->fault = status != PST_OK;
    return PST_R_INTERNAL;
}

static bool is_none(const struct walk *w, const json_t *leaf)
{
    return leaf == NULL ||
           (w->var->empty_absent && json_is_string(leaf) && json_string_length(leaf) == 0);
}

/* Whether something stands at the end of `name`. What it is, that name's own walk judges. */
static bool leads(const struct walk *w, const struct profile_name *name, const json_t *at,
                  uint32_t step)
{
    bool ambiguous = false, found = false;

    if (step == name->step_count)
        return !is_none(w, at);
    if (!json_is_object(at))
        return false;
    const json_t *next = member_of(at, name->steps[step], w->both, &ambiguous);
    if (!name->walks[step])
        return leads(w, name, next, step + 1);
    for (size_t i = 0; i < json_array_size(next) && !found; i++)
        found = leads(w, name, json_array_get(next, i), step + 1);
    return found;
}

static bool is_same_list(const struct profile_name *a, const struct profile_name *b, uint32_t step)
{
    for (uint32_t i = 0; i <= step; i++)
        if (i >= b->step_count || a->walks[i] != b->walks[i] ||
            !pst_bytes_equal(a->steps[i], b->steps[i]))
            return false;
    return true;
}

/* Of items[].document|items[].doc, each element has the one or the other. */
static bool has_by_another_name(const struct walk *w, const json_t *element, uint32_t step)
{
    for (const struct profile_name *n = w->var->names; n != NULL; n = n->next)
        if (n != w->name && is_same_list(w->name, n, step) && leads(w, n, element, step + 1))
            return true;
    return false;
}

/* Depth is bounded by PROFILE_JSON_STEPS. */
static enum pst_reason walk_from(const struct walk *w, const json_t *at, uint32_t step)
{
    bool ambiguous = false;

    if (step == w->name->step_count)
        return is_none(w, at) ? PST_R_INTERNAL : add_leaf(w, at);
    if (at == NULL)
        return PST_R_INTERNAL;
    if (!json_is_object(at))
        return PST_R_BAD_ID;
    json_t *next = member_of(at, w->name->steps[step], w->both, &ambiguous);
    if (ambiguous)
        return PST_R_AMBIGUOUS;
    if (!w->name->walks[step])
        return walk_from(w, next, step + 1);
    if (next == NULL)
        return PST_R_INTERNAL;
    if (!json_is_array(next))
        return PST_R_BAD_ID;
    for (size_t i = 0; i < json_array_size(next); i++) {
        const json_t *element = json_array_get(next, i);
        uint32_t before = w->out->count;
        enum pst_reason reason = walk_from(w, element, step + 1);
        if (reason != PST_R_INTERNAL || *w->fault)
            return reason;
        w->out->lacks =
            w->out->lacks || (w->out->count == before && !has_by_another_name(w, element, step));
    }
    return PST_R_INTERNAL;
}

enum pst_reason profile_json_get(const struct profile_json *json, const struct profile_var *var,
                                 const struct profile_name *name, bool both_cases,
                                 struct pst_arena *arena, struct profile_values *out, bool *fault)
{
    struct walk walk = {
        .var = var, .name = name, .both = both_cases, .arena = arena, .out = out, .fault = fault};

    *fault = false;
    return json == NULL ? PST_R_INTERNAL : walk_from(&walk, root_of(json), 0);
}

static enum pst_status add_keys(json_t *object, struct pst_arena *arena, struct profile_values *out)
{
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        const char *name = json_object_iter_key(it);
        struct pst_bytes copy;
        enum pst_status status = pst_arena_copy(arena, pst_bytes_of(name, strlen(name)), &copy);
        if (status == PST_OK)
            status = profile_values_add(arena, out, copy);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

enum pst_status profile_json_keys(const struct profile_json *json, struct pst_bytes folded,
                                  struct pst_arena *arena, struct profile_values *out)
{
    char name[128];
    size_t length;

    if (json == NULL)
        return PST_OK;
    /* jansson iterates over non-const objects only; nothing is changed. */
    json_t *root = json_incref(root_of(json));
    enum pst_status status = PST_OK;
    for (void *it = json_object_iter(root); it != NULL && status == PST_OK;
         it = json_object_iter_next(root, it)) {
        const char *key = json_object_iter_key(it);
        json_t *value = json_object_iter_value(it);
        if (!profile_fold_name(pst_bytes_of(key, strlen(key)), name, sizeof(name), &length) ||
            !pst_bytes_equal(folded, pst_bytes_of(name, length)) || json_is_null(value))
            continue;
        status = json_is_object(value) ? add_keys(value, arena, out) : PST_E_INVALID;
    }
    json_decref(root);
    return status;
}
