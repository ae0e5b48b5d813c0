/*
 * profile_trie.c - templates of paths as a trie of segments.
 *
 * At each segment a literal is tried first, then parameters (with a literal end before those
 * without, a narrow class before a wide one, in the order of the file otherwise), then the tail,
 * which takes as few segments as it can. A branch that leads nowhere is taken back. A path that
 * could reach two templates therefore reaches the one that says more at the leftmost place where
 * they differ.
 */
#include "profile_internal.h"

/* ---- building ---- */

static struct profile_node *new_node(struct profile_builder *b)
{
    return pst_arena_zalloc(&b->profile->arena, sizeof(struct profile_node));
}

static struct profile_node *leaf_node(struct profile_builder *b, struct profile_node *node,
                                      struct pst_bytes literal)
{
    for (struct profile_leaf *l = node->leaves; l != NULL; l = l->next)
        if (pst_bytes_equal(l->literal, literal))
            return l->node;

    struct profile_leaf *leaf = pst_arena_zalloc(&b->profile->arena, sizeof(*leaf));
    if (leaf == NULL || pst_arena_copy(&b->profile->arena, literal, &leaf->literal) != PST_OK ||
        (leaf->node = new_node(b)) == NULL)
        return NULL;
    leaf->next = node->leaves;
    node->leaves = leaf;
    node->leaf_count++;
    return leaf->node;
}

/* True when a is tried before b. */
static bool is_narrower(const struct profile_branch *a, const struct profile_branch *b)
{
    if (a->suffix.len != b->suffix.len)
        return a->suffix.len > b->suffix.len;
    return a->class != NULL && b->class == NULL;
}

static struct profile_node *branch_node(struct profile_builder *b, struct profile_node *node,
                                        const struct profile_class *class, struct pst_bytes suffix)
{
    struct profile_branch **at = &node->branches;

    for (struct profile_branch *br = node->branches; br != NULL; br = br->next)
        if (br->class == class && pst_bytes_equal(br->suffix, suffix))
            return br->node;

    struct profile_branch *branch = pst_arena_zalloc(&b->profile->arena, sizeof(*branch));
    if (branch == NULL || pst_arena_copy(&b->profile->arena, suffix, &branch->suffix) != PST_OK ||
        (branch->node = new_node(b)) == NULL)
        return NULL;
    branch->class = class;
    branch->any = class == NULL && suffix.len == 0;
    while (*at != NULL && !is_narrower(branch, *at))
        at = &(*at)->next;
    branch->next = *at;
    *at = branch;
    return branch->node;
}

static const struct profile_class *class_of(const struct profile_builder *b, struct pst_bytes name)
{
    for (const struct profile_class *c = b->profile->classes; c != NULL; c = c->next)
        if (pst_bytes_equal(c->name, name))
            return c;
    return NULL;
}

/* A capture is a variable of the route; the same name in another prefix of the route is the same
 * one. */
static enum pst_status add_capture(struct profile_builder *b, const struct pst_node *at,
                                   struct pst_route *route, struct pst_bytes name)
{
    uint32_t index = route->capture_count;

    if (index == PROFILE_CAPTURES || route->var_count == PROFILE_VARS)
        return pst_node_fail(b->tree, at, b->error, "more than %u parameters in a path",
                             PROFILE_CAPTURES);
    if (profile_var_of(route, name) != PROFILE_VARS)
        return pst_node_fail(b->tree, at, b->error, "the parameter {%.*s} stands twice",
                             (int)name.len, name.ptr);
    struct profile_var *var = &route->vars[route->var_count++];
    *var = (struct profile_var){.place = PLACE_PATH, .capture = index};
    route->capture_count++;
    if (pst_bytes_equal(name, PST_LIT("token")))
        route->secret = index + 1;
    return pst_arena_copy(&b->profile->arena, name, &var->name);
}

/* The tail of a node: segments of one class, or of any characters. */
static enum pst_status add_tail(struct profile_builder *b, const struct pst_node *at,
                                const struct profile_class *class, struct profile_node **node)
{
    if ((*node)->tail == NULL) {
        (*node)->tail = new_node(b);
        (*node)->tail_class = class;
    }
    if ((*node)->tail_class != class)
        return pst_node_fail(b->tree, at, b->error, "two tails of different classes stand here");
    *node = (*node)->tail;
    return PST_OK;
}

/* Whether a path that was made canonical can hold this byte as it is, or '%' before an escape. */
static bool stands_in_paths(unsigned char c)
{
    const struct pst_bytes others = PST_LIT("-._~!$&'()*+,;=:@%");

    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           pst_bytes_find(others, (char)c) < others.len;
}

/* A literal that no path could ever match is a slip of the pen. */
static enum pst_status check_literal(struct profile_builder *b, const struct pst_node *at,
                                     struct pst_bytes text, bool in_url)
{
    if (in_url && (pst_bytes_equal(text, PST_LIT(".")) || pst_bytes_equal(text, PST_LIT(".."))))
        return pst_node_fail(b->tree, at, b->error, "no path has a segment '%.*s'", (int)text.len,
                             text.ptr);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '{' || c == '}')
            return pst_node_fail(b->tree, at, b->error,
                                 "a parameter begins its segment, and a segment has one: '%.*s'",
                                 (int)text.len, text.ptr);
        if (in_url && !stands_in_paths(c))
            return pst_node_fail(b->tree, at, b->error,
                                 "no path holds '%.*s': in a URL that byte is %%%02X",
                                 (int)text.len, text.ptr, c);
    }
    return PST_OK;
}

/* "{name:class}suffix" or "{name:class...}"; *node moves on. */
static enum pst_status add_parameter(struct profile_builder *b, const struct pst_node *at,
                                     struct pst_bytes segment, bool in_url, struct pst_route *route,
                                     struct profile_node **node)
{
    size_t close = pst_bytes_find(segment, '}');
    if (close == segment.len)
        return pst_node_fail(b->tree, at, b->error, "'{' without '}' in a path");
    struct pst_bytes name = pst_bytes_of(segment.ptr + 1, close - 1);
    struct pst_bytes suffix = pst_bytes_from(segment, close + 1);
    const struct profile_class *class = NULL;
    bool tail = name.len > 3 && memcmp(name.ptr + name.len - 3, "...", 3) == 0;

    if (tail)
        name.len -= 3;
    size_t colon = pst_bytes_find(name, ':');
    if (colon != name.len) {
        class = class_of(b, pst_bytes_from(name, colon + 1));
        if (class == NULL)
            return pst_node_fail(b->tree, at, b->error, "no such class of characters: %.*s",
                                 (int)name.len, name.ptr);
        name.len = colon;
    }
    if (name.len == 0 || (tail && suffix.len != 0))
        return pst_node_fail(b->tree, at, b->error, "not a parameter: %.*s", (int)segment.len,
                             segment.ptr);
    enum pst_status status = check_literal(b, at, suffix, in_url);
    if (status != PST_OK)
        return status;
    if (tail)
        status = add_tail(b, at, class, node);
    else
        *node = branch_node(b, *node, class, suffix);
    if (status != PST_OK)
        return status;
    return *node == NULL ? PST_E_NOMEM : add_capture(b, at, route, name);
}

enum pst_status profile_trie_add(struct profile_builder *b, struct profile_node *root,
                                 const struct pst_node *at, struct pst_bytes path,
                                 struct pst_route *route, struct profile_node **out)
{
    struct profile_node *node = root;
    bool in_url = root == b->profile->root; /* else inside a value, which is decoded */

    if (path.len == 0 || path.ptr[0] != '/')
        return pst_node_fail(b->tree, at, b->error, "a path begins with '/'");
    path = pst_bytes_from(path, 1);
    while (true) {
        size_t end = pst_bytes_find(path, '/');
        struct pst_bytes segment = pst_bytes_of(path.ptr, end);
        bool parameter = segment.len > 0 && segment.ptr[0] == '{';
        if (segment.len == 0 && end < path.len)
            return pst_node_fail(b->tree, at, b->error, "an empty segment: no path has one");
        enum pst_status status = parameter ? add_parameter(b, at, segment, in_url, route, &node)
                                           : check_literal(b, at, segment, in_url);
        if (status != PST_OK)
            return status;
        if (!parameter)
            node = leaf_node(b, node, segment);
        if (node == NULL)
            return PST_E_NOMEM;
        if (end == path.len)
            break;
        path = pst_bytes_from(path, end + 1);
    }
    *out = node;
    return PST_OK;
}

static const char *const method_names[METHODS] = {"GET",   "HEAD",   "POST",   "PUT",
                                                  "PATCH", "DELETE", "OPTIONS"};

static enum pst_status seal_allow(struct pst_arena *arena, struct profile_node *node)
{
    struct pst_bytes text = pst_bytes_of("", 0);
    bool any = false;

    for (unsigned m = 0; m < METHODS; m++) {
        if (node->routes[m] == NULL)
            continue;
        node->some = node->some == NULL ? node->routes[m] : node->some;
        text = pst_arena_printf(arena, "%.*s%s%s", (int)text.len, text.ptr, any ? ", " : "",
                                method_names[m]);
        if (text.len == 0)
            return PST_E_NOMEM;
        any = true;
    }
    node->allow = any ? text.ptr : NULL;
    return PST_OK;
}

static enum pst_status seal_leaves(struct pst_arena *arena, struct profile_node *node)
{
    uint32_t size = 2;

    if (node->leaf_count == 0)
        return PST_OK;
    while (size < node->leaf_count * 2)
        size *= 2;
    node->slots = pst_arena_array(arena, size, sizeof(struct profile_leaf *));
    if (node->slots == NULL)
        return PST_E_NOMEM;
    node->slot_mask = size - 1;
    for (struct profile_leaf *l = node->leaves; l != NULL; l = l->next) {
        uint32_t at = profile_hash(l->literal) & node->slot_mask;
        while (node->slots[at] != NULL)
            at = (at + 1) & node->slot_mask;
        node->slots[at] = l;
    }
    return PST_OK;
}

/* Recursion is as deep as the longest template of the file. */
enum pst_status profile_trie_seal(struct pst_arena *arena, struct profile_node *node)
{
    enum pst_status status = seal_leaves(arena, node);

    if (status == PST_OK)
        status = seal_allow(arena, node);
    node->choice = node->tail != NULL || (node->branches != NULL &&
                                          (node->leaves != NULL || node->branches->next != NULL));
    for (struct profile_leaf *l = node->leaves; l != NULL && status == PST_OK; l = l->next)
        status = profile_trie_seal(arena, l->node);
    for (struct profile_branch *br = node->branches; br != NULL && status == PST_OK; br = br->next)
        status = profile_trie_seal(arena, br->node);
    if (node->tail != NULL && status == PST_OK)
        status = profile_trie_seal(arena, node->tail);
    return status;
}

/* ---- matching ---- */

struct matching {
    const char *path;
    size_t len;
    size_t blocks; /* at how many places a block of 16 bytes begins */
    uint32_t steps;
    struct pst_span *captures;
};

/* To go back is to go on from an older one. */
struct place {
    const struct profile_node *node;
    size_t at;                 /* where the next segment begins; past the path's end: nowhere */
    uint32_t behind, captured; /* how many segments and captures there were */
};

/* Where the segment at `at` ends: a slash, or the path's end. */
static inline __attribute__((always_inline)) size_t segment_end(const struct matching *m, size_t at)
{
#ifdef __SSE2__
    const __m128i slash = _mm_set1_epi8('/');
    unsigned mask;

    for (; at < m->blocks; at += 16) {
        __m128i v = pst_load_16(m->path + at);
        mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, slash));
        if (mask != 0)
            return at + (unsigned)__builtin_ctz(mask);
    }
    if (m->blocks != 0) { /* the last sixteen bytes, without those before `at` */
        __m128i v = pst_load_16(m->path + m->blocks - 1);
        mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, slash)) >> (at - (m->blocks - 1));
        return mask == 0 ? m->len : at + (unsigned)__builtin_ctz(mask);
    }
#endif
    while (at < m->len && m->path[at] != '/')
        at++;
    return at;
}

/* NULL: the node has no such literal. */
static inline const struct profile_node *leaf_of(const struct profile_node *node,
                                                 struct pst_bytes segment)
{
    if (node->leaf_count <= 1)
        return node->leaf_count == 1 && pst_short_equal(node->leaves->literal, segment)
                   ? node->leaves->node
                   : NULL;
    for (uint32_t at = profile_hash(segment) & node->slot_mask; node->slots[at] != NULL;
         at = (at + 1) & node->slot_mask)
        if (pst_short_equal(node->slots[at]->literal, segment))
            return node->slots[at]->node;
    return NULL;
}

/* How much of the segment the parameter takes; 0: it does not fit. */
static size_t fit(const struct profile_branch *branch, struct pst_bytes segment)
{
    if (segment.len <= branch->suffix.len)
        return 0;
    size_t own = segment.len - branch->suffix.len;
    if (branch->suffix.len != 0 &&
        memcmp(segment.ptr + own, branch->suffix.ptr, branch->suffix.len) != 0)
        return 0;
    return branch->class == NULL ||
                   profile_all_inside(branch->class->bytes, pst_bytes_of(segment.ptr, own))
               ? own
               : 0;
}

static inline void capture(const struct matching *m, struct place *p, size_t start, size_t length)
{
    if (p->captured < PROFILE_CAPTURES)
        m->captures[p->captured++] = (struct pst_span){(uint32_t)start, (uint32_t)length};
}

/* Where there is one parameter, or literals and nothing else, a way back is of no use: such a path
 * is followed without recursion, up to its end, a choice, or (node is NULL) nowhere. */
static inline __attribute__((always_inline)) void follow(struct matching *m, struct place *p)
{
    uint32_t before = p->behind;

    for (; p->at <= m->len && !p->node->choice; p->behind++) {
        size_t end = segment_end(m, p->at), length = end - p->at;
        const struct profile_branch *br = p->node->branches;
        if (br == NULL) {
            p->node = leaf_of(p->node, pst_bytes_of(m->path + p->at, length));
        } else {
            length = br->any ? length : fit(br, pst_bytes_of(m->path + p->at, length));
            p->node = length == 0 ? NULL : br->node;
            capture(m, p, p->at, length);
        }
        if (p->node == NULL)
            break;
        p->at = end + 1;
    }
    m->steps += p->behind - before + 1;
    if (m->steps > PROFILE_STEPS)
        p->node = NULL;
}

static const struct profile_node *match_choice(struct matching *m, const struct profile_node *node,
                                               size_t start, uint32_t behind, uint32_t captured);

/* On from a place, with whatever way is open; NULL: none leads to a route. */
static inline const struct profile_node *match_from(struct matching *m, struct place place)
{
    follow(m, &place);
    if (place.node == NULL)
        return NULL;
    if (place.at <= m->len)
        return match_choice(m, place.node, place.at, place.behind, place.captured);
    return place.behind <= PROFILE_SEGMENTS &&
                   (place.node->allow != NULL || place.node->any != NULL)
               ? place.node
               : NULL;
}

static const struct profile_node *match_tail(struct matching *m, const struct profile_node *node,
                                             size_t start, uint32_t behind, uint32_t captured)
{
    const struct profile_class *class = node->tail_class;
    const struct profile_node *found = NULL;

    for (size_t at = start; found == NULL && at <= m->len && behind < PROFILE_SEGMENTS;) {
        size_t end = segment_end(m, at);
        struct pst_bytes segment = pst_bytes_of(m->path + at, end - at);
        if (segment.len == 0 || (class != NULL && !profile_all_inside(class->bytes, segment)))
            return NULL;
        at = end + 1;
        behind++;
        struct place next = {.node = node->tail, .at = at, .behind = behind, .captured = captured};
        capture(m, &next, start, end - start);
        found = match_from(m, next);
    }
    return found;
}

/* One way after the other, as the trie's order has them. Depth is bounded by the segments of the
 * path and of the longest template. */
static const struct profile_node *match_choice(struct matching *m, const struct profile_node *node,
                                               size_t start, uint32_t behind, uint32_t captured)
{
    size_t end = segment_end(m, start), length;
    struct pst_bytes segment = pst_bytes_of(m->path + start, end - start);
    const struct profile_branch *br = node->branches;
    const struct profile_node *leaf = leaf_of(node, segment), *found = NULL;

    while (found == NULL && (leaf != NULL || br != NULL)) {
        struct place next = {
            .node = leaf, .at = end + 1, .behind = behind + 1, .captured = captured};
        if (leaf == NULL) {
            length = fit(br, segment);
            next.node = br->node;
            br = br->next;
            if (length == 0)
                continue;
            capture(m, &next, start, length);
        }
        leaf = NULL;
        found = match_from(m, next);
    }
    return found == NULL && node->tail != NULL ? match_tail(m, node, start, behind, captured)
                                               : found;
}

const struct profile_node *profile_trie_match(const struct profile_node *root,
                                              struct pst_bytes path,
                                              struct pst_span captures[PROFILE_CAPTURES])
{
    struct matching m = {.path = path.ptr,
                         .len = path.len,
                         .blocks = path.len < 16 ? 0 : path.len - 15,
                         .captures = captures};

    if (path.len == 0 || path.len > UINT32_MAX || path.ptr[0] != '/')
        return NULL;
    return match_from(&m, (struct place){.node = root, .at = 1});
}
