/*
 * profile_need.c - requirement texts become templates.
 *
 *   need   := ["if" VARIABLE] choice ("or" choice)*
 *   choice := "authenticated" | "admin" | "workspace-admin" | "workspace-use" | "needs-lookup" |
 *             "needs-filter" | "closed" | "self" $VARIABLE | "workspace-manage" $VARIABLE |
 *             "workspace-view" $VARIABLE | ["filter"] key ("else" key)*
 *   key    := ENTITY ["|" ENTITY] [":" ID] [OPERATION]
 *   ID     := "*" | "?" | (literal | "$" VARIABLE ["!"])+     (! quotes the value as in a URL)
 *
 * A text whose first word is a shape stands for the texts of the shape, with the shape's parameters
 * replaced by the words that follow. $op is the operation word of the method.
 */
#include "profile_internal.h"

#include <stdio.h>

#define NEED_WORDS   24u
#define SHAPE_DEPTH  4u
#define SHAPE_PARAMS 6u

struct words {
    struct pst_bytes items[NEED_WORDS];
    uint32_t count, at;
};

struct parsing {
    struct profile_builder *b;
    struct pst_route *route;
    const struct pst_node *node; /* for messages */
    struct pst_bytes op_word;
    struct profile_need ***tail;
    uint32_t depth;
    uint32_t if_var; /* of the text, or of the one that names the shape */
};

static bool split_words(struct pst_bytes text, struct words *out)
{
    *out = (struct words){0};
    while (true) {
        text = pst_bytes_trim(text);
        if (text.len == 0)
            return true;
        size_t end = pst_bytes_find(text, ' ');
        if (out->count == NEED_WORDS)
            return false;
        out->items[out->count++] = pst_bytes_of(text.ptr, end);
        text = pst_bytes_from(text, end);
    }
}

static struct pst_bytes next_word(struct words *w)
{
    return w->at < w->count ? w->items[w->at++] : pst_bytes_of("", 0);
}

static bool take_word(struct words *w, const char *word)
{
    if (w->at == w->count || !pst_bytes_equal(w->items[w->at], pst_bytes_of(word, strlen(word))))
        return false;
    w->at++;
    return true;
}

static enum pst_status fail(const struct parsing *p, const char *what, struct pst_bytes word)
{
    return pst_node_fail(p->b->tree, p->node, p->b->error, "%s: '%.*s'", what, (int)word.len,
                         word.ptr);
}

uint32_t profile_var_of(const struct pst_route *route, struct pst_bytes name)
{
    for (uint32_t i = 0; i < route->var_count; i++)
        if (pst_bytes_equal(route->vars[i].name, name))
            return i;
    return PROFILE_VARS;
}

enum pst_op profile_word_op(const struct profile_builder *b, struct pst_bytes word)
{
    if (b->words != NULL)
        for (const struct pst_node *n = b->words->first; n != NULL; n = n->next)
            if (pst_bytes_equal(n->key, word))
                return pst_op_of(n->text);
    return pst_op_of(word);
}

/* "$name" or "name". */
static enum pst_status read_var(const struct parsing *p, struct pst_bytes word, uint32_t *out)
{
    if (word.len > 0 && word.ptr[0] == '$')
        word = pst_bytes_from(word, 1);
    *out = profile_var_of(p->route, word);
    return *out == PROFILE_VARS ? fail(p, "the route has no such variable", word) : PST_OK;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static enum pst_status read_piece(const struct parsing *p, struct pst_bytes *text,
                                  struct profile_key *key)
{
    struct profile_piece *piece = &key->pieces[key->piece_count];
    size_t len = text->ptr[0] == '$' ? 1 : pst_bytes_find(*text, '$');

    if (key->piece_count == PROFILE_PIECES)
        return fail(p, "an id of too many pieces", *text);
    *piece = (struct profile_piece){.var = PROFILE_VARS};
    if (text->ptr[0] == '$') {
        while (len < text->len && is_name_char(text->ptr[len]))
            len++;
        enum pst_status status = read_var(p, pst_bytes_of(text->ptr, len), &piece->var);
        if (status != PST_OK)
            return status;
        if (len < text->len && text->ptr[len] == '!') {
            piece->quoted = true;
            len++;
        }
    } else {
        enum pst_status status =
            pst_arena_copy(&p->b->profile->arena, pst_bytes_of(text->ptr, len), &piece->text);
        if (status != PST_OK)
            return status;
    }
    key->piece_count++;
    *text = pst_bytes_from(*text, len);
    return PST_OK;
}

static enum pst_status read_id(const struct parsing *p, struct pst_bytes id,
                               struct profile_key *key)
{
    if (id.len == 0)
        return fail(p, "an empty id", id);
    if (pst_bytes_equal(id, PST_LIT("?"))) {
        key->id_state = PST_ID_UNKNOWN;
        return PST_OK;
    }
    if (pst_bytes_equal(id, PST_LIT("*")))
        return PST_OK;
    key->id_state = PST_ID_KNOWN;
    key->composed = true;
    while (id.len > 0) {
        enum pst_status status = read_piece(p, &id, key);
        if (status != PST_OK)
            return status;
    }
    return PST_OK;
}

static enum pst_status read_entity(const struct parsing *p, struct pst_bytes name,
                                   struct profile_key *key)
{
    struct pst_arena *arena = &p->b->profile->arena;
    size_t bar = pst_bytes_find(name, '|');

    key->entity_var = PROFILE_VARS;
    if (name.len > 0 && name.ptr[0] == '$')
        return read_var(p, name, &key->entity_var);
    if (bar == 0 || name.len == 0)
        return fail(p, "no entity", name);
    enum pst_status status = pst_arena_copy(arena, pst_bytes_of(name.ptr, bar), &key->entity);
    if (status == PST_OK && bar != name.len)
        status = pst_arena_copy(arena, pst_bytes_from(name, bar + 1), &key->or_entity);
    key->known = profile_entity_of(p->b->profile, key->entity);
    return status;
}

static bool ends_key(const struct words *w)
{
    return w->at == w->count || pst_bytes_equal(w->items[w->at], PST_LIT("else")) ||
           pst_bytes_equal(w->items[w->at], PST_LIT("or"));
}

/* One key; without an operation word it takes `inherited`. */
static enum pst_status read_key(const struct parsing *p, struct words *w, enum pst_op inherited,
                                struct profile_key *key)
{
    struct pst_bytes target = next_word(w);
    size_t colon = pst_bytes_find(target, ':');

    *key = (struct profile_key){.op = inherited};
    enum pst_status status = read_entity(p, pst_bytes_of(target.ptr, colon), key);
    if (status == PST_OK && colon != target.len)
        status = read_id(p, pst_bytes_from(target, colon + 1), key);
    if (status != PST_OK)
        return status;
    if (!ends_key(w)) {
        struct pst_bytes word = next_word(w);
        if (pst_bytes_equal(word, PST_LIT("$op"))) {
            word = p->op_word;
            if (word.len == 0)
                return fail(p, "`methods` or `operations` say what a method does", target);
        }
        key->op = profile_word_op(p->b, word);
        if (key->op == PST_OP_NONE)
            return fail(p, "no such operation", word);
        if (key->op == PST_OP_NOT_DENIED && p->b->profile->combining == PST_DENY_OVERRIDES)
            return fail(p, "combining deny-overrides does not ask this; most-specific does", word);
    }
    return key->op == PST_OP_NONE ? fail(p, "no operation is asked", target) : PST_OK;
}

static enum pst_status read_keys(const struct parsing *p, struct words *w,
                                 struct profile_need *need)
{
    enum pst_op op = PST_OP_NONE;

    do {
        if (need->key_count == PST_KEYS_MAX)
            return fail(p, "too many keys", w->items[0]);
        enum pst_status status = read_key(p, w, op, &need->keys[need->key_count]);
        if (status != PST_OK)
            return status;
        op = need->keys[need->key_count++].op;
    } while (take_word(w, "else"));
    /* There every row that matches is asked at once, and no key comes before another. */
    if (need->key_count > 1 && p->b->profile->combining == PST_DENY_OVERRIDES)
        return fail(p,
                    "combining deny-overrides asks one key (most-specific has fallbacks; \"or\" "
                    "has alternatives)",
                    PST_LIT("else"));
    return PST_OK;
}

static enum pst_status read_choice(const struct parsing *p, struct words *w,
                                   struct profile_need *need)
{
    static const struct {
        const char *word;
        enum pst_need need;
        enum pst_reason closed;
        bool takes_var;
    } plain[] = {
        {"authenticated", PST_NEED_AUTHENTICATED, PST_R_INTERNAL, false},
        {"admin", PST_NEED_ADMIN, PST_R_INTERNAL, false},
        {"workspace-admin", PST_NEED_WORKSPACE_ADMIN, PST_R_INTERNAL, false},
        {"workspace-use", PST_NEED_WORKSPACE_USE, PST_R_INTERNAL, false},
        {"needs-lookup", PST_NEED_CLOSED, PST_R_NEEDS_LOOKUP, false},
        {"needs-filter", PST_NEED_CLOSED, PST_R_NEEDS_FILTER, false},
        {"closed", PST_NEED_CLOSED, PST_R_ROUTE_CLOSED, false},
        {"self", PST_NEED_SELF, PST_R_INTERNAL, true},
        {"workspace-manage", PST_NEED_WORKSPACE_MANAGE, PST_R_INTERNAL, true},
        {"workspace-view", PST_NEED_WORKSPACE_VIEW, PST_R_INTERNAL, true},
    };

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (!take_word(w, plain[i].word))
            continue;
        need->need = plain[i].need;
        need->closed = plain[i].closed;
        return plain[i].takes_var ? read_var(p, next_word(w), &need->self_var) : PST_OK;
    }
    if (take_word(w, "filter"))
        need->closed = PST_R_NEEDS_FILTER;
    return read_keys(p, w, need);
}

static bool has_two_entities(const struct profile_need *need)
{
    for (uint32_t i = 0; i < need->key_count; i++)
        if (need->keys[i].or_entity.len != 0)
            return true;
    return false;
}

static bool is_one_value(const struct profile_var *var)
{
    return !var->many && var->place != PLACE_LOOKUP && var->missing != MISSING_UNKNOWN;
}

/* Each requirement is asked once per value of a variable, so a group of alternatives can name only
 * one variable of many values, and not as an entity or a user. */
static enum pst_status check_many(const struct parsing *p, const struct profile_need *need,
                                  uint32_t *many)
{
    const struct profile_var *vars = p->route->vars;

    if (need->self_var != PROFILE_VARS && !is_one_value(&vars[need->self_var]))
        return fail(p, "one value that the request names is due here", vars[need->self_var].name);
    for (uint32_t k = 0; k < need->key_count; k++) {
        const struct profile_key *key = &need->keys[k];
        if (key->entity_var != PROFILE_VARS && !is_one_value(&vars[key->entity_var]))
            return fail(p, "one value that the request names is due here",
                        vars[key->entity_var].name);
        for (uint32_t i = 0; i < key->piece_count; i++) {
            uint32_t var = key->pieces[i].var;
            if (var == PROFILE_VARS || !vars[var].many || var == *many)
                continue;
            if (*many != PROFILE_VARS)
                return fail(p, "a second variable of many values in one requirement",
                            vars[var].name);
            *many = var;
        }
    }
    return PST_OK;
}

static uint32_t bit_of(uint32_t var)
{
    return var == PROFILE_VARS ? 0 : UINT32_C(1) << var;
}

/* What is_askable and key_unknown of profile_ask.c would otherwise gather for each request. */
static void note_vars(struct profile_need *need)
{
    need->present_vars = bit_of(need->if_var) | bit_of(need->self_var);
    for (uint32_t k = 0; k < need->key_count; k++) {
        struct profile_key *key = &need->keys[k];
        need->present_vars |= bit_of(key->entity_var);
        for (uint32_t i = 0; i < key->piece_count; i++)
            key->piece_vars |= bit_of(key->pieces[i].var);
        need->named_vars |= key->piece_vars;
        need->two_worlds |= need->key_count > 1 && key->or_entity.len != 0;
    }
}

static enum pst_status read_need(const struct parsing *p, struct words *w)
{
    struct profile_need *head = NULL;
    uint32_t many = PROFILE_VARS;

    while (true) {
        struct profile_need *need = pst_arena_zalloc(&p->b->profile->arena, sizeof(*need));
        if (need == NULL)
            return PST_E_NOMEM;
        need->if_var = p->if_var;
        need->self_var = PROFILE_VARS;
        enum pst_status status = read_choice(p, w, need);
        if (status == PST_OK)
            status = check_many(p, need, &many);
        if (status != PST_OK)
            return status;
        note_vars(need);
        need->or_next = take_word(w, "or");
        if (need->key_count > 1 && has_two_entities(need) && (need->or_next || head != NULL))
            return fail(p, "a choice cannot have fallbacks and ENTITY|ENTITY", w->items[0]);
        head = head == NULL ? need : head;
        head->many_var = many;
        **p->tail = need;
        *p->tail = &need->next;
        if (!need->or_next)
            return w->at == w->count ? PST_OK : fail(p, "what is this", w->items[w->at]);
    }
}

/* ---- shapes ---- */

struct binding {
    struct pst_bytes names[SHAPE_PARAMS], values[SHAPE_PARAMS];
    uint32_t count;
};

static const struct pst_bytes *value_of(const struct binding *binding, struct pst_bytes name)
{
    for (uint32_t i = 0; i < binding->count; i++)
        if (pst_bytes_equal(binding->names[i], name))
            return &binding->values[i];
    return NULL;
}

/* Replaces each $parameter of `text`; other variables stay. */
static enum pst_status substitute(const struct parsing *p, const struct binding *binding,
                                  struct pst_bytes text, struct pst_bytes *out)
{
    char buffer[512];
    size_t n = 0;

    while (text.len > 0) {
        struct pst_bytes piece = pst_bytes_of(text.ptr, 1);
        if (text.ptr[0] == '$') {
            while (piece.len < text.len && is_name_char(text.ptr[piece.len]))
                piece.len++;
            const struct pst_bytes *value = value_of(binding, pst_bytes_from(piece, 1));
            text = pst_bytes_from(text, piece.len);
            piece = value != NULL ? *value : piece;
        } else {
            text = pst_bytes_from(text, 1);
        }
        if (piece.len > sizeof(buffer) - n)
            return fail(p, "a requirement that grows too long", piece);
        memcpy(buffer + n, piece.ptr, piece.len);
        n += piece.len;
    }
    return pst_arena_copy(&p->b->profile->arena, pst_bytes_of(buffer, n), out);
}

static enum pst_status parse(const struct parsing *p, struct pst_bytes text);

static enum pst_status bind(const struct parsing *p, const struct pst_node *params, struct words *w,
                            struct binding *out)
{
    *out = (struct binding){0};
    for (const struct pst_node *n = params == NULL ? NULL : params->first; n != NULL; n = n->next) {
        if (out->count == SHAPE_PARAMS || w->at == w->count)
            return fail(p, "a shape lacks a word for its parameter", n->text);
        out->names[out->count] = n->text;
        out->values[out->count++] = next_word(w);
    }
    return w->at == w->count ? PST_OK : fail(p, "a shape takes no more words", w->items[w->at]);
}

static enum pst_status expand(const struct parsing *p, const struct profile_shape *shape,
                              struct words *w)
{
    struct binding binding;
    struct parsing inner = *p;
    const struct pst_node *list = pst_node_get(shape->node, "all");

    inner.depth++;
    if (inner.depth > SHAPE_DEPTH)
        return fail(p, "shapes nested too deep", shape->name);
    if (list == NULL || list->kind != PST_NODE_LIST || list->count == 0)
        return fail(p, "a shape without a list `all`", shape->name);
    enum pst_status status = bind(p, pst_node_get(shape->node, "params"), w, &binding);
    for (const struct pst_node *n = list == NULL ? NULL : list->first;
         n != NULL && status == PST_OK; n = n->next) {
        struct pst_bytes text = {0};
        status = substitute(p, &binding, n->text, &text);
        if (status == PST_OK)
            status = parse(&inner, text);
    }
    return status;
}

static enum pst_status parse(const struct parsing *outer, struct pst_bytes text)
{
    struct parsing p = *outer;
    struct words w;

    if (!split_words(text, &w) || w.count == 0)
        return fail(&p, "no requirement, or one of too many words", text);
    if (take_word(&w, "if")) {
        enum pst_status status = read_var(&p, next_word(&w), &p.if_var);
        if (status != PST_OK)
            return status;
        if (p.route->vars[p.if_var].place == PLACE_LOOKUP)
            return fail(&p, "no request names what only a look-up tells", text);
        if (outer->if_var != PROFILE_VARS)
            return fail(&p, "an 'if' inside an 'if'", text);
    }
    for (const struct profile_shape *s = p.b->shapes; s != NULL && w.at < w.count; s = s->next) {
        if (!pst_bytes_equal(s->name, w.items[w.at]))
            continue;
        w.at++;
        return expand(&p, s, &w);
    }
    return read_need(&p, &w);
}

enum pst_status profile_need_parse(struct profile_builder *b, struct pst_route *route,
                                   const struct pst_node *at, struct pst_bytes text,
                                   struct pst_bytes op_word, struct profile_need ***tail)
{
    struct parsing p = {.b = b,
                        .route = route,
                        .node = at,
                        .op_word = op_word,
                        .tail = tail,
                        .if_var = PROFILE_VARS};

    return parse(&p, text);
}
