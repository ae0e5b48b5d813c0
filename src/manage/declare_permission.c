/*
 * One permission: from a node to a row, and from a row to the texts that compare and name it.
 *
 * Lists are kept in the store's canonical form, a JSON array without blanks and escapes; names that
 * would need an escape are refused here.
 */
#include <stdlib.h>

#include "declare_internal.h"
#include "postern/base/buf.h"

static const char *const KEYS[] = {"entity",
                                   "id",
                                   "access",
                                   "allow",
                                   "deny",
                                   "level",
                                   "direct",
                                   "scope",
                                   "entity_type",
                                   "attributes_only",
                                   "conditions",
                                   "query_attributes",
                                   "read_attributes",
                                   "write_attributes",
                                   NULL};

static const uint64_t ALLOW[PST_OPS] = {
    [PST_OP_LIST] = PST_A_LIST,     [PST_OP_DETAIL] = PST_A_DETAIL, [PST_OP_CREATE] = PST_A_CREATE,
    [PST_OP_UPDATE] = PST_A_UPDATE, [PST_OP_DELETE] = PST_A_DELETE, [PST_OP_USE] = PST_A_USE,
    [PST_OP_MANAGE] = PST_A_MANAGE};
static const uint64_t DENY[PST_OPS] = {
    [PST_OP_LIST] = PST_A_DISABLE_LIST,     [PST_OP_DETAIL] = PST_A_DISABLE_DETAIL,
    [PST_OP_CREATE] = PST_A_DISABLE_CREATE, [PST_OP_UPDATE] = PST_A_DISABLE_UPDATE,
    [PST_OP_DELETE] = PST_A_DISABLE_DELETE, [PST_OP_USE] = PST_A_DISABLE_USE,
    [PST_OP_MANAGE] = PST_A_DISABLE_MANAGE};

struct reading {
    struct declared *d;
    const struct pst_tree *tree;
    const struct pst_node *node;
    struct pst_row_permission row;
    struct pst_error *error;
    bool says_access; /* any of access, allow, deny, level */
};

/* ---- access ---- */

static enum pst_status read_names(struct reading *r, const struct pst_node *list)
{
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        uint64_t bit = n->kind == PST_NODE_SCALAR ? pst_access_of(n->text) : 0;
        if (bit == 0)
            return pst_node_fail(r->tree, n, r->error, "\"%s\" is no access bit",
                                 n->kind == PST_NODE_SCALAR ? n->text.ptr : "(list)");
        r->row.access |= bit;
    }
    return PST_OK;
}

static enum pst_status read_access(struct reading *r)
{
    const struct pst_node *n = pst_node_get(r->node, "access");
    uint64_t number;

    if (n == NULL)
        return PST_OK;
    r->says_access = true;
    if (n->kind == PST_NODE_NULL) {
        r->row.has_access = false;
        return PST_OK;
    }
    r->row.has_access = true;
    if (n->kind == PST_NODE_LIST)
        return read_names(r, n);
    if (n->kind != PST_NODE_SCALAR || !pst_bytes_u63(n->text, &number))
        return pst_node_fail(r->tree, n, r->error,
                             "expected a list of access bits, a number, or null");
    if ((number & ~PST_A_KNOWN) != 0)
        return pst_node_fail(r->tree, n, r->error, "%llu holds bits that mean nothing (0x%llx)",
                             (unsigned long long)number,
                             (unsigned long long)(number & ~PST_A_KNOWN));
    r->row.access |= number;
    return PST_OK;
}

static enum pst_status read_operations(struct reading *r, const char *key, const uint64_t *bits)
{
    const struct pst_node *list = pst_node_get(r->node, key);

    if (list == NULL)
        return PST_OK;
    if (list->kind != PST_NODE_LIST)
        return pst_node_fail(r->tree, list, r->error, "expected a list of operations");
    r->says_access = r->row.has_access = true;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        uint64_t bit = n->kind == PST_NODE_SCALAR ? bits[pst_op_of(n->text)] : 0;
        if (bit == 0)
            return pst_node_fail(
                r->tree, n, r->error,
                "\"%s\" is no operation (list, detail, create, update, delete, use, "
                "manage)",
                n->kind == PST_NODE_SCALAR ? n->text.ptr : "(list)");
        r->row.access |= bit;
    }
    return PST_OK;
}

static enum pst_status read_level(struct reading *r)
{
    struct pst_bytes name = {0};
    uint64_t access = 0;

    enum pst_status status = pst_node_text(r->tree, r->node, "level", &name, r->error);
    if (status != PST_OK || name.ptr == NULL)
        return status;
    if (r->d->presets == NULL || !pst_presets_find(r->d->presets, name, &access))
        return pst_node_fail(r->tree, pst_node_get(r->node, "level"), r->error,
                             "there is no level \"%s\"", name.ptr);
    r->says_access = r->row.has_access = true;
    r->row.access |= access;
    return PST_OK;
}

static enum pst_status read_all_access(struct reading *r)
{
    bool only = false;

    enum pst_status status = read_access(r);
    if (status == PST_OK)
        status = read_operations(r, "allow", ALLOW);
    if (status == PST_OK)
        status = read_operations(r, "deny", DENY);
    if (status == PST_OK)
        status = read_level(r);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, r->node, "attributes_only", &only, r->error);
    if (status != PST_OK)
        return status;
    if (!r->says_access)
        return pst_node_fail(r->tree, r->node, r->error,
                             "a permission needs access, allow, deny or level");
    if (only && !r->row.has_access)
        return pst_node_fail(r->tree, r->node, r->error,
                             "attributes_only says nothing without access");
    if (only)
        r->row.access |= PST_A_ATTRIBUTES_ONLY;
    return PST_OK;
}

/* ---- texts and lists ---- */

static bool is_plain(struct pst_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f || text.ptr[i] == '"' ||
            text.ptr[i] == '\\')
            return false;
    return text.len > 0;
}

static enum pst_status read_text(struct reading *r, const char *key, size_t max,
                                 struct pst_bytes *out)
{
    enum pst_status status = pst_node_text(r->tree, r->node, key, out, r->error);

    if (status != PST_OK || out->len <= max)
        return status;
    return pst_node_fail(r->tree, pst_node_get(r->node, key), r->error, "longer than %zu bytes",
                         max);
}

/* The canonical text of a list of names; the bytes were counted by the first pass. */
static struct pst_bytes join_list(struct pst_arena *arena, const struct pst_node *list,
                                  size_t bytes)
{
    char *text = pst_arena_alloc(arena, bytes + 1);

    if (text == NULL)
        return (struct pst_bytes){0};
    struct pst_buf b = pst_buf_of(text, bytes);
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        pst_buf_put(&b, n == list->first ? PST_LIT("[\"") : PST_LIT(",\""));
        pst_buf_put(&b, n->text);
        pst_buf_char(&b, '"');
    }
    pst_buf_char(&b, ']');
    return pst_buf_bytes(&b);
}

static enum pst_status read_list(struct reading *r, const char *key, uint32_t max,
                                 struct pst_bytes *out)
{
    const struct pst_node *list = pst_node_get(r->node, key);
    size_t bytes = 1;

    if (list == NULL || list->kind == PST_NODE_NULL)
        return PST_OK;
    if (list->kind != PST_NODE_LIST)
        return pst_node_fail(r->tree, list, r->error, "expected a list of names");
    if (list->count > max)
        return pst_node_fail(r->tree, list, r->error, "more than %u names", max);
    for (const struct pst_node *n = list->first; n != NULL; n = n->next) {
        if (n->kind != PST_NODE_SCALAR || !is_plain(n->text) || n->text.len > PST_ATTRIBUTE_MAX)
            return pst_node_fail(r->tree, n, r->error,
                                 "expected a name of 1 to %d bytes without quotes, backslashes and "
                                 "control characters",
                                 PST_ATTRIBUTE_MAX);
        bytes += n->text.len + 3;
    }
    if (list->count == 0)
        return PST_OK;
    *out = join_list(&r->d->arena, list, bytes);
    return out->ptr == NULL ? pst_declare_nomem(r->error) : PST_OK;
}

static enum pst_status check_conditions(struct reading *r)
{
    const struct pst_node *list = pst_node_get(r->node, "conditions");

    if (list == NULL || list->kind != PST_NODE_LIST)
        return PST_OK;
    for (const struct pst_node *n = list->first; n != NULL; n = n->next)
        if (pst_condition_of(n->text) == 0)
            return pst_node_fail(r->tree, n, r->error, "\"%s\" is no condition", n->text.ptr);
    return PST_OK;
}

static enum pst_status read_texts(struct reading *r)
{
    static const char *const SCOPES[] = {"global", "project", "pipeline", NULL};
    struct pst_row_permission *p = &r->row;
    unsigned scope = 0;

    enum pst_status status = read_text(r, "entity", PST_ENTITY_MAX, &p->entity);
    if (status == PST_OK)
        status = read_text(r, "id", PST_ENTITY_ID_MAX, &p->entity_id);
    p->has_entity_id = p->entity_id.ptr != NULL;
    if (status == PST_OK)
        status = read_text(r, "entity_type", PST_ENTITY_MAX, &p->entity_type);
    if (status == PST_OK)
        status = pst_node_bool(r->tree, r->node, "direct", &p->direct, r->error);
    if (status == PST_OK)
        status = pst_node_enum(r->tree, r->node, "scope", SCOPES, &scope, r->error);
    p->scope = pst_bytes_of(SCOPES[scope], strlen(SCOPES[scope]));
    if (status == PST_OK)
        status = read_list(r, "conditions", 32, &p->conditions);
    if (status == PST_OK)
        status = check_conditions(r);
    if (status == PST_OK)
        status = read_list(r, "query_attributes", PST_ATTRIBUTES_MAX, &p->query_attributes);
    if (status == PST_OK)
        status = read_list(r, "read_attributes", PST_ATTRIBUTES_MAX, &p->read_attributes);
    if (status == PST_OK)
        status = read_list(r, "write_attributes", PST_ATTRIBUTES_MAX, &p->write_attributes);
    if (status == PST_OK && p->entity.len == 0 && !p->direct)
        status = pst_node_fail(r->tree, r->node, r->error,
                               "a permission needs an entity (\"*\" is every one)");
    return status;
}

/* ---- warnings ---- */

static enum pst_status warn(struct reading *r, const struct declared_role *role, const char *what)
{
    struct pst_bytes name =
        pst_arena_printf(&r->d->arena, "%.*s", (int)role->name.len, role->name.ptr);
    struct pst_bytes detail = pst_arena_printf(
        &r->d->arena, "%s:%u: %s: %s", r->tree->name.len == 0 ? "-" : r->tree->name.ptr,
        r->node->line, pst_permission_text(&r->d->arena, &r->row), what);

    return pst_report_add(r->d->report, PST_EDIT_WARN, "permission", name.ptr, detail.ptr);
}

static enum pst_status warn_list(struct reading *r, const struct declared_role *role,
                                 struct pst_bytes list, uint64_t bits, const char *what)
{
    uint64_t groups = PST_A_OWNER | PST_A_ADMIN | PST_A_EDITOR | PST_A_VIEWER;

    if (list.len == 0 || (r->row.access & (bits | groups)) != 0)
        return PST_OK;
    return warn(r, role, what);
}

static enum pst_status warn_all(struct reading *r, const struct declared_role *role)
{
    const struct pst_row_permission *p = &r->row;
    enum pst_status status = PST_OK;

    if (p->entity_type.len > 0)
        status = warn(
            r, role,
            "a grant with an entity_type grants nothing where the object's subtype is not known");
    if (status == PST_OK)
        status = warn_list(r, role, p->query_attributes, PST_A_QUERY | PST_A_DISABLE_QUERY,
                           "query_attributes are not asked without QUERY or DISABLE_QUERY");
    if (status == PST_OK)
        status = warn_list(r, role, p->read_attributes, PST_A_READ | PST_A_DISABLE_READ,
                           "read_attributes are not asked without READ or DISABLE_READ");
    if (status == PST_OK)
        status = warn_list(r, role, p->write_attributes, PST_A_WRITE | PST_A_DISABLE_WRITE,
                           "write_attributes are not asked without WRITE or DISABLE_WRITE");
    return status;
}

/* ---- public to manage ---- */

enum pst_status pst_declared_permission(struct declared *d, const struct pst_tree *tree,
                                        const struct pst_node *node,
                                        const struct declared_role *role,
                                        struct declared_permission **out, struct pst_error *error)
{
    struct reading r = {.d = d, .tree = tree, .node = node, .error = error};

    *out = NULL;
    enum pst_status status = pst_node_only(tree, node, KEYS, error);
    if (status == PST_OK)
        status = read_all_access(&r);
    if (status == PST_OK)
        status = read_texts(&r);
    if (status != PST_OK)
        return status;
    struct declared_permission *p = pst_arena_zalloc(&d->arena, sizeof(*p));
    if (p == NULL)
        return pst_declare_nomem(error);
    p->place = (struct place){tree, node};
    p->row = r.row;
    p->key = pst_permission_key(&d->arena, &p->row);
    if (p->key.ptr == NULL || warn_all(&r, role) != PST_OK)
        return pst_declare_nomem(error);
    *out = p;
    return PST_OK;
}

/* Texts hold no control characters, so 0x1f parts them. */
struct pst_bytes pst_permission_key(struct pst_arena *arena, const struct pst_row_permission *row)
{
    const struct pst_bytes texts[] = {
        row->entity,     row->entity_id,        row->entity_type,     row->scope,
        row->conditions, row->query_attributes, row->read_attributes, row->write_attributes};
    size_t bytes = 32;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        bytes += texts[i].len + 2;
    char *text = pst_arena_alloc(arena, bytes);
    if (text == NULL)
        return (struct pst_bytes){0};
    struct pst_buf b = pst_buf_of(text, bytes);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        pst_buf_put(&b, texts[i]);
        pst_buf_char(&b, '\x1f');
    }
    pst_buf_char(&b, row->has_entity_id ? '=' : '-');
    pst_buf_char(&b, row->direct ? 'd' : '-');
    pst_buf_char(&b, row->has_access ? 'a' : '-');
    pst_buf_hex(&b, row->has_access ? row->access : 0, 16);
    return pst_buf_bytes(&b);
}

enum pst_status pst_permission_copy(struct pst_arena *arena, const struct pst_row_permission *row,
                                    struct pst_row_permission *out)
{
    *out = *row;
    struct pst_bytes *const texts[] = {
        &out->entity,     &out->entity_id,        &out->entity_type,     &out->scope,
        &out->conditions, &out->query_attributes, &out->read_attributes, &out->write_attributes};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (pst_arena_copy(arena, *texts[i], texts[i]) != PST_OK)
            return PST_E_NOMEM;
    return PST_OK;
}

const char *pst_permission_text(struct pst_arena *arena, const struct pst_row_permission *row)
{
    char names[512];
    struct pst_buf b = pst_buf_of(names, sizeof(names) - 1);

    for (unsigned i = 0; i < 64 && row->has_access; i++) {
        uint64_t bit = UINT64_C(1) << i;
        const char *name = (row->access & bit) == 0 ? NULL : pst_access_name(bit);
        if (name == NULL)
            continue;
        if (b.len > 0)
            pst_buf_char(&b, ',');
        pst_buf_put(&b, pst_bytes_of(name, strlen(name)));
    }
    struct pst_bytes id =
        row->has_entity_id ? row->entity_id : (struct pst_bytes){.ptr = "", .len = 0};
    struct pst_bytes text = pst_arena_printf(
        arena, "%s%.*s%s%.*s %.*s", row->direct ? "direct " : "", (int)row->entity.len,
        row->entity.len == 0 ? "" : row->entity.ptr, row->has_entity_id ? "/" : "", (int)id.len,
        id.len == 0 ? "" : id.ptr, (int)b.len, names);
    return text.ptr == NULL ? "" : text.ptr;
}

int pst_permission_order(const void *a, const void *b)
{
    const struct declared_permission *x = *(const struct declared_permission *const *)a;
    const struct declared_permission *y = *(const struct declared_permission *const *)b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = memcmp(x->key.ptr, y->key.ptr, len);

    return order != 0 ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}
