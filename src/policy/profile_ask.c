/*
 * profile_ask.c - templates and variables become requirements.
 *
 * A template that names a variable with many values becomes one requirement per value, and one more
 * for the elements of its list that lack it. One whose variable has no value falls away (the
 * variable's `missing` decided that this is right); one whose variable only the upstream knows asks
 * for an unknown id.
 */
#include "profile_internal.h"

static bool no_memory(struct profile_asking *ask)
{
    return profile_refuse(ask, PST_R_OVERLOAD, PST_LIT("memory of one request"));
}

static bool grow(struct profile_asking *ask)
{
    uint32_t capacity = ask->capacity == 0 ? 4 : ask->capacity * 4;
    struct pst_requirement *more = NULL;
    size_t size;

    if (!__builtin_mul_overflow(capacity, sizeof(*more), &size))
        more = pst_arena_alloc(ask->arena, size);
    if (more == NULL)
        return no_memory(ask);
    if (ask->count != 0)
        memcpy(more, ask->requirements, ask->count * sizeof(*more));
    ask->requirements = more;
    ask->capacity = capacity;
    return true;
}

struct pst_requirement *profile_ask_room(struct profile_asking *ask)
{
    return ask->count == ask->capacity && !grow(ask) ? NULL : &ask->requirements[ask->count];
}

bool profile_ask_push(struct profile_asking *ask, const struct pst_requirement *requirement)
{
    struct pst_requirement *r = profile_ask_room(ask);

    if (r == NULL)
        return false;
    *r = *requirement;
    ask->count++;
    return true;
}

/* As in a URL's path: unreserved bytes stay. */
static bool put_quoted(char *to, size_t room, size_t *n, struct pst_bytes text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (room - *n < 3)
            return false;
        if (plain) {
            to[(*n)++] = (char)c;
        } else {
            to[(*n)++] = '%';
            to[(*n)++] = hex[c >> 4];
            to[(*n)++] = hex[c & 15];
        }
    }
    return true;
}

struct instance { /* of one template */
    const struct pst_route *route;
    uint32_t many_var; /* whose value number `index` is meant; PROFILE_VARS: none */
    uint32_t index;
};

static struct pst_bytes piece_text(const struct profile_asking *ask, const struct instance *in,
                                   const struct profile_piece *piece)
{
    if (piece->var == PROFILE_VARS)
        return piece->text;
    return ask->vars[piece->var].values.items[piece->var == in->many_var ? in->index : 0];
}

static bool compose(struct profile_asking *ask, const struct instance *in,
                    const struct profile_key *key, struct pst_bytes *out)
{
    char buffer[2048];
    size_t n = 0;

    for (uint32_t i = 0; i < key->piece_count; i++) {
        struct pst_bytes text = piece_text(ask, in, &key->pieces[i]);
        bool fits = key->pieces[i].quoted ? put_quoted(buffer, sizeof(buffer), &n, text)
                                          : text.len <= sizeof(buffer) - n;
        if (!fits)
            return profile_refuse(ask, PST_R_BAD_ID, PST_LIT("an id of more than 2048 bytes"));
        if (!key->pieces[i].quoted) {
            memcpy(buffer + n, text.ptr, text.len);
            n += text.len;
        }
    }
    return pst_arena_copy(ask->arena, pst_bytes_of(buffer, n), out) == PST_OK || no_memory(ask);
}

/* The form that ids of this entity have, whatever variable they came from. */
bool profile_ask_form(struct profile_asking *ask, const struct profile_entity *entity,
                      struct pst_bytes *id)
{
    bool fault;

    if (entity == NULL || profile_form_is(entity->form, *id))
        return true;
    enum pst_reason reason = profile_form_check(ask->arena, entity->form, id, &fault);
    if (fault)
        return no_memory(ask);
    return reason == PST_R_INTERNAL || profile_refuse(ask, reason, entity->name);
}

static bool fill_key(struct profile_asking *ask, const struct instance *in,
                     const struct profile_key *from, struct pst_key *to)
{
    const struct profile_entity *known = from->known;

    *to = (struct pst_key){.entity = from->entity, .id_state = from->id_state, .op = from->op};
    if (from->entity_var != PROFILE_VARS) {
        to->entity = ask->vars[from->entity_var].values.items[0];
        known = from->entity_var == in->route->entity_var ? ask->entity : NULL;
    }
    if (!from->composed)
        return true;
    if ((from->piece_vars & ask->unknown) != 0) {
        to->id_state = PST_ID_UNKNOWN;
        return true;
    }
    if (from->piece_count == 1 && !from->pieces[0].quoted)
        to->id = piece_text(ask, in, &from->pieces[0]);
    else if (!compose(ask, in, from, &to->id))
        return false;
    return known == NULL || profile_ask_form(ask, known, &to->id);
}

static struct pst_bytes own_pipeline(const struct profile_asking *ask, const struct pst_key *key)
{
    struct pst_bytes none = {0};

    if (ask->entity == NULL)
        return none;
    if (ask->entity->pipeline_self && key->id_state == PST_ID_KNOWN)
        return key->id;
    if (ask->entity->pipeline_parent && ask->route->pipeline_var != PROFILE_VARS)
        return ask->vars[ask->route->pipeline_var].values.items[0];
    if (ask->entity->pipeline_parent && ask->parent != NULL && ask->parent->pipeline_self &&
        ask->route->parent_id_var != PROFILE_VARS)
        return ask->vars[ask->route->parent_id_var].values.items[0];
    return none;
}

/* All of it but the keys, of which only those that count are ever set; nobody reads the others. */
static void start(struct pst_requirement *r, const struct profile_need *need)
{
    size_t after = offsetof(struct pst_requirement, keys) + sizeof(r->keys);

    memset(r, 0, offsetof(struct pst_requirement, keys));
    memset((char *)r + after, 0, sizeof(*r) - after);
    if (need->key_count == 0)
        r->keys[0] = (struct pst_key){0};
    r->need = need->need;
    r->or_next = need->or_next;
    r->closed = need->closed;
    r->key_count = need->key_count;
}

/* The requirement of one world: registered models, or prompts. */
static bool push_world(struct profile_asking *ask, const struct instance *in,
                       const struct profile_need *need, bool other)
{
    struct pst_requirement *r = profile_ask_room(ask);

    if (r == NULL)
        return false;
    start(r, need);
    for (uint32_t i = 0; i < need->key_count; i++) {
        if (!fill_key(ask, in, &need->keys[i], &r->keys[i]))
            return false;
        if (other && need->keys[i].or_entity.len != 0)
            r->keys[i].entity = need->keys[i].or_entity;
    }
    if (need->self_var != PROFILE_VARS)
        r->self = ask->vars[need->self_var].values.items[0];
    if (need->key_count != 0 && ask->entity != NULL)
        r->pipeline = own_pipeline(ask, &r->keys[0]);
    if (!other && need->key_count == 1)
        r->or_entity = need->keys[0].or_entity;
    ask->count++;
    return true;
}

/* Where a fallback has two worlds too, both are asked: nothing is passed that one of them refuses.
 */
static bool push_need(struct profile_asking *ask, const struct instance *in,
                      const struct profile_need *need)
{
    return push_world(ask, in, need, false) &&
           (!need->two_worlds || push_world(ask, in, need, true));
}

/* False: the template names a variable without a value. */
static bool is_askable(const struct profile_asking *ask, const struct profile_need *need)
{
    return (need->present_vars & ~ask->present) == 0 &&
           (need->named_vars & ~(ask->present | ask->unknown)) == 0;
}

/* The variable with many values that the group of alternatives from `need` on names, if it has many
 * now. There is one at most: profile_need.c refuses more. */
static uint32_t many_var(const struct profile_asking *ask, const struct profile_need *need)
{
    uint32_t var = need->many_var;

    return var != PROFILE_VARS && (ask->unknown >> var & 1) == 0 && ask->vars[var].values.count > 1
               ? var
               : PROFILE_VARS;
}

/* The alternatives from `need` on, joined by or_next. */
static bool push_choices(struct profile_asking *ask, const struct instance *in,
                         const struct profile_need *need)
{
    uint32_t first = ask->count;
    bool more = true;

    for (; more; need = need->next) {
        more = need->or_next;
        if (is_askable(ask, need) && !push_need(ask, in, need))
            return false;
    }
    if (ask->count > first) /* an alternative that fell away must not join what follows */
        ask->requirements[ask->count - 1].or_next = false;
    return true;
}

/* What an element without the variable asks is what a request without it does. */
static void take_away(struct profile_asking *ask, const struct pst_route *route, uint32_t var)
{
    uint32_t bit = UINT32_C(1) << var;

    ask->present &= ~bit;
    if (route->vars[var].missing == MISSING_UNKNOWN)
        ask->unknown |= bit;
}

/* A group, once for each value of the variable that has many. */
static __attribute__((noinline)) bool push_group(struct profile_asking *ask,
                                                 const struct pst_route *route,
                                                 const struct profile_need *need)
{
    struct instance in = {.route = route, .many_var = many_var(ask, need)};
    uint32_t count = in.many_var == PROFILE_VARS ? 1 : ask->vars[in.many_var].values.count;
    bool lacks = need->many_var != PROFILE_VARS && ask->vars[need->many_var].values.lacks;
    uint32_t present = ask->present, unknown = ask->unknown;

    for (in.index = 0; in.index < count + lacks; in.index++) {
        if (in.index == count)
            take_away(ask, route, need->many_var);
        if (!push_choices(ask, &in, need))
            return false;
    }
    ask->present = present;
    ask->unknown = unknown;
    return true;
}

bool profile_ask_needs(struct profile_asking *ask, const struct pst_route *route,
                       const struct profile_need *needs)
{
    const struct instance alone = {.route = route, .many_var = PROFILE_VARS};

    for (const struct profile_need *n = needs; n != NULL; n = n->next) {
        if (!n->or_next && n->many_var == PROFILE_VARS) { /* a group of one, once */
            if (is_askable(ask, n) && !push_need(ask, &alone, n))
                return false;
            continue;
        }
        if (!push_group(ask, route, n))
            return false;
        while (n->or_next)
            n = n->next;
    }
    return true;
}

/* ---- attributes ---- */

static bool is_ignored(const struct pst_profile *profile, struct pst_bytes key)
{
    if (key.len > 0 && key.ptr[0] == '_')
        return true;
    for (uint32_t i = 0; i < profile->ignored_count; i++)
        if (pst_bytes_equal(key, profile->ignored[i]))
            return true;
    return false;
}

static bool keep(struct profile_asking *ask, struct profile_values *values, struct pst_bytes key)
{
    for (uint32_t i = 0; i < values->count; i++)
        if (pst_bytes_equal(values->items[i], key))
            return true;
    enum pst_status status = profile_values_add(ask->arena, values, key);
    if (status == PST_E_LIMIT)
        return profile_refuse(ask, PST_R_BAD_REQUEST, PST_LIT("too many keys"));
    return status == PST_OK || no_memory(ask);
}

static bool asks_query(enum pst_op op)
{
    return op != PST_OP_CREATE && op != PST_OP_DELETE;
}

static bool asks_write(enum pst_op op)
{
    return op == PST_OP_CREATE || op == PST_OP_UPDATE;
}

/* All of them: of those in an object, no app ignores any by its name alone. */
static bool write_keys(struct profile_asking *ask, struct profile_values *out)
{
    struct profile_values all = {0};
    enum pst_status status = profile_json_keys(ask->json, ask->entity->payload, ask->arena, &all);

    if (status == PST_OK && ask->entity->as_child.len != 0)
        status = profile_json_keys(ask->json, ask->entity->as_child, ask->arena, &all);
    if (status == PST_E_INVALID || status == PST_E_LIMIT)
        return profile_refuse(ask, PST_R_BAD_BODY, ask->entity->payload);
    if (status != PST_OK)
        return no_memory(ask);
    for (uint32_t i = 0; i < all.count; i++)
        if (!keep(ask, out, all.items[i]))
            return false;
    return true;
}

static bool holds(const struct pst_bytes *names, uint32_t count, struct pst_bytes name)
{
    for (uint32_t i = 0; i < count; i++)
        if (pst_bytes_equal(names[i], name))
            return true;
    return false;
}

/* A key that makes the app take another object than the one in the URL: which, it alone knows. */
static bool ask_elsewhere(struct profile_asking *ask, const struct profile_values *write)
{
    const struct profile_entity *e = ask->entity;
    struct pst_requirement other = ask->requirements[0];
    bool named = false;

    for (uint32_t i = 0; i < ask->query.count; i++)
        named = named || holds(e->elsewhere, e->elsewhere_count, ask->query.pairs[i].key);
    for (uint32_t i = 0; i < write->count; i++)
        named = named || holds(e->elsewhere, e->elsewhere_count, write->items[i]);
    if (!named || other.keys[0].id_state != PST_ID_KNOWN)
        return true;
    other.keys[0].id_state = PST_ID_UNKNOWN;
    return profile_ask_push(ask, &other);
}

bool profile_ask_attributes(struct profile_asking *ask)
{
    struct pst_requirement *r = ask->count == 0 ? NULL : &ask->requirements[0];
    struct profile_values query = {0}, write = {0};

    if (r == NULL || r->key_count == 0 || ask->entity == NULL)
        return true;
    enum pst_op op = r->keys[0].op;
    for (uint32_t i = 0; asks_query(op) && i < ask->query.count; i++) {
        if (ask->query.pairs[i].doubtful)
            return profile_refuse(ask, PST_R_AMBIGUOUS, PST_LIT("';' in the query"));
        if (!is_ignored(ask->profile, ask->query.pairs[i].whole) &&
            !keep(ask, &query, ask->query.pairs[i].whole))
            return false;
    }
    if (asks_write(op) && !write_keys(ask, &write))
        return false;
    r->attributes[PST_ATTR_QUERY] = query.items;
    r->attribute_count[PST_ATTR_QUERY] = query.count;
    r->attributes[PST_ATTR_WRITE] = write.items;
    r->attribute_count[PST_ATTR_WRITE] = write.count;
    r->attributes[PST_ATTR_READ] = ask->entity->read[op];
    r->attribute_count[PST_ATTR_READ] = ask->entity->read_count[op];
    return ask->entity->elsewhere_count == 0 || ask_elsewhere(ask, &write);
}
