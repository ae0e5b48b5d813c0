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
    struct pst_bytes path;
    uint32_t starts[PROFILE_SEGMENTS], lengths[PROFILE_SEGMENTS];
    uint32_t count;
    uint32_t steps;
    uint32_t captured;
    struct profile_match *out;
};

static struct pst_bytes segment_at(const struct matching *m, uint32_t index)
{
    return pst_bytes_of(m->path.ptr + m->starts[index], m->lengths[index]);
}

static bool split_path(struct matching *m)
{
    const char *at = m->path.ptr + 1, *end = m->path.ptr + m->path.len;

    while (true) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        if (m->count == PROFILE_SEGMENTS)
            return false;
        m->starts[m->count] = (uint32_t)(at - m->path.ptr);
        m->lengths[m->count++] = (uint32_t)((slash == NULL ? end : slash) - at);
        if (slash == NULL)
            return true;
        at = slash + 1;
    }
}

/* node->slots is there. */
static const struct profile_node *leaf_of(const struct profile_node *node, struct pst_bytes segment)
{
    if (node->leaf_count == 1)
        return pst_bytes_equal(node->leaves->literal, segment) ? node->leaves->node : NULL;
    for (uint32_t at = profile_hash(segment) & node->slot_mask; node->slots[at] != NULL;
         at = (at + 1) & node->slot_mask)
        if (pst_bytes_equal(node->slots[at]->literal, segment))
            return node->slots[at]->node;
    return NULL;
}

/* What the parameter takes of the segment; false when it does not fit. */
static bool fits(const struct profile_branch *branch, struct pst_bytes segment, uint32_t *length)
{
    if (segment.len <= branch->suffix.len)
        return false;
    size_t own = segment.len - branch->suffix.len;
    if (branch->suffix.len != 0 &&
        memcmp(segment.ptr + own, branch->suffix.ptr, branch->suffix.len) != 0)
        return false;
    *length = (uint32_t)own;
    return branch->class == NULL ||
           profile_class_all(branch->class->bits, pst_bytes_of(segment.ptr, own));
}

static void capture(struct matching *m, uint32_t start, uint32_t length)
{
    if (m->captured < PROFILE_CAPTURES) {
        m->out->captures[2 * m->captured] = start;
        m->out->captures[2 * m->captured + 1] = length;
    }
    m->captured++;
}

static bool match_from(struct matching *m, const struct profile_node *node, uint32_t index);

static bool match_tail(struct matching *m, const struct profile_node *node, uint32_t index)
{
    const struct profile_class *class = node->tail_class;
    uint32_t mark = m->captured;

    for (uint32_t end = index; end < m->count; end++) {
        if (m->lengths[end] == 0 ||
            (class != NULL && !profile_class_all(class->bits, segment_at(m, end))))
            return false;
        capture(m, m->starts[index], m->starts[end] + m->lengths[end] - m->starts[index]);
        if (match_from(m, node->tail, end + 1))
            return true;
        m->captured = mark;
    }
    return false;
}

/* Where the path goes on without a choice: there is one parameter, or one literal and nothing else.
 * A way back is of no use then, so it is followed without recursion. */
static const struct profile_node *only_way(struct matching *m, const struct profile_node *node,
                                           const struct profile_node *leaf, uint32_t index)
{
    const struct profile_branch *br = node->branches;
    uint32_t length;

    if (br == NULL)
        return leaf;
    length = m->lengths[index];
    if (br->class == NULL && br->suffix.len == 0 ? length == 0
                                                 : !fits(br, segment_at(m, index), &length))
        return NULL;
    capture(m, m->starts[index], length);
    return br->node;
}

static bool has_choice(const struct profile_node *node, const struct profile_node *leaf)
{
    const struct profile_branch *br = node->branches;

    return node->tail != NULL || (br != NULL && (leaf != NULL || br->next != NULL));
}

/* Depth is bounded by the segments of the path and of the longest template. */
static bool match_from(struct matching *m, const struct profile_node *node, uint32_t index)
{
    const struct profile_node *leaf;
    uint32_t length;

    for (;; index++) {
        if (m->steps++ >= PROFILE_STEPS)
            return false;
        if (index == m->count) {
            m->out->node = node;
            return node->allow != NULL || node->any != NULL;
        }
        leaf = node->slots == NULL ? NULL : leaf_of(node, segment_at(m, index));
        if (has_choice(node, leaf))
            break;
        node = only_way(m, node, leaf, index);
        if (node == NULL)
            return false;
    }

    uint32_t mark = m->captured;
    if (leaf != NULL && match_from(m, leaf, index + 1))
        return true;
    for (const struct profile_branch *br = node->branches; br != NULL; br = br->next) {
        m->captured = mark;
        if (!fits(br, segment_at(m, index), &length))
            continue;
        capture(m, m->starts[index], length);
        if (match_from(m, br->node, index + 1))
            return true;
    }
    m->captured = mark;
    return node->tail != NULL && match_tail(m, node, index);
}

void profile_trie_match(const struct profile_node *root, struct pst_bytes path,
                        struct profile_match *out)
{
    struct matching m; /* the segments are written before they are read */

    m.path = path;
    m.count = m.steps = m.captured = 0;
    m.out = out;
    out->node = NULL;
    if (path.len == 0 || path.len > UINT32_MAX || path.ptr[0] != '/' || !split_path(&m))
        return;
    if (!match_from(&m, root, 0))
        out->node = NULL;
}
