/*
 * The store as declarations.
 *
 * Every name is written so that any YAML 1.1 or 1.2 reader takes it as the same text: bare only
 * when it begins with a letter, holds letters, digits, '-' and '_', and is no word that YAML gives
 * a meaning; else in double quotes, with what YAML takes for a line's end or does not print as an
 * escape.
 */
#include <stdlib.h>

#include "declare_internal.h"

#define BOUND_DEFAULT_S 5 /* of a new database: left out */

struct kept_role {
    struct kept_role *next;
    uint32_t id;
    bool builtin;
    struct pst_bytes name, workspace;
};

struct kept_user {
    struct kept_user *next;
    struct pst_row_user row;
};

struct kept_workspace {
    struct kept_workspace *next;
    struct pst_row_workspace row;
};

struct exporting {
    struct pst_store *store;
    FILE *out;
    struct pst_error *error;
    struct pst_arena arena;
    struct kept_workspace *workspaces, **workspaces_end;
    struct kept_role *roles, **roles_end;
    struct kept_user *users, **users_end;
    bool any; /* something of the current list was written */
};

/* ---- texts ---- */

static bool is_word(struct pst_bytes text)
{
    static const char *const MEANT[] = {"true", "false", "yes", "no",  "on", "off",
                                        "null", "y",     "n",   "nan", "inf"};

    if (text.len == 0 || pst_lower(text.ptr[0]) < 'a' || pst_lower(text.ptr[0]) > 'z')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = pst_lower(text.ptr[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    for (size_t i = 0; i < sizeof(MEANT) / sizeof(MEANT[0]); i++)
        if (pst_bytes_equal_nocase(text, pst_bytes_of(MEANT[i], strlen(MEANT[i]))))
            return false;
    return true;
}

static void put(struct exporting *x, const char *text)
{
    (void)fputs(text, x->out);
}

/* How many bytes at `i` are one character that YAML does not print, or takes for the end of a line:
 * U+0080 to U+009F, U+2028, U+2029, U+FEFF, and U+FFFE and U+FFFF of every plane. 0: an ordinary
 * byte. Texts are UTF-8. */
static size_t unprinted(struct pst_bytes text, size_t i, uint32_t *code)
{
    const unsigned char *c = (const unsigned char *)text.ptr + i;
    size_t len = c[0] < 0xc0 ? 1 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;

    if (len == 1 || len > text.len - i)
        return 0;
    *code = c[0] & (0xffu >> (len + 1));
    for (size_t k = 1; k < len; k++)
        *code = *code << 6 | (c[k] & 0x3fu);
    return *code < 0xa0 || *code == 0x2028 || *code == 0x2029 || *code == 0xfeff ||
                   (*code & 0xfffe) == 0xfffe
               ? len
               : 0;
}

/* What stands between double quotes. */
static void put_quoted(struct exporting *x, struct pst_bytes text)
{
    uint32_t code = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        size_t len = unprinted(text, i, &code);
        if (len > 0)
            (void)fprintf(x->out, "\\U%08x", code);
        else if (c == '"' || c == '\\')
            (void)fprintf(x->out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            (void)fprintf(x->out, "\\x%02x", c);
        else
            (void)fputc(c, x->out);
        i += len > 0 ? len - 1 : 0;
    }
}

static void put_text(struct exporting *x, struct pst_bytes text)
{
    if (is_word(text)) {
        (void)fwrite(text.ptr, 1, text.len, x->out);
        return;
    }
    put(x, "\"");
    put_quoted(x, text);
    put(x, "\"");
}

static void put_key(struct exporting *x, const char *key, struct pst_bytes text)
{
    put(x, key);
    put_text(x, text);
}

/* A list column stands in JSON already, which is a YAML flow list; blanks make it pleasant. No name
 * holds a quote, so every second part between quotes is one. */
static void put_list(struct exporting *x, const char *key, struct pst_bytes list)
{
    if (list.len == 0)
        return;
    put(x, key);
    for (bool inside = false; list.len > 0; inside = !inside) {
        size_t len = pst_bytes_find(list, '"');
        struct pst_bytes part = pst_bytes_of(list.ptr, len);
        if (inside)
            put_quoted(x, part);
        else
            put(x, part.ptr[0] == ',' ? ", " : part.ptr[0] == '[' ? "[" : "]");
        if (len < list.len)
            put(x, "\"");
        list = pst_bytes_from(list, len < list.len ? len + 1 : len);
    }
}

static void put_access(struct exporting *x, const struct pst_row_permission *p)
{
    bool named = p->access != 0;
    const char *between = "";

    if (!p->has_access) {
        put(x, ", access: null");
        return;
    }
    for (unsigned i = 0; i < 64; i++)
        if ((p->access & UINT64_C(1) << i) != 0 && pst_access_name(UINT64_C(1) << i) == NULL)
            named = false;
    if (!named) {
        (void)fprintf(x->out, ", access: %llu", (unsigned long long)p->access);
        return;
    }
    put(x, ", access: [");
    for (unsigned i = 0; i < 64; i++) {
        if ((p->access & UINT64_C(1) << i) == 0)
            continue;
        put(x, between);
        put(x, pst_access_name(UINT64_C(1) << i));
        between = ", ";
    }
    put(x, "]");
}

/* ---- workspaces, roles, users: kept, because the store answers one question at a time ---- */

static enum pst_status nomem(struct exporting *x)
{
    return pst_declare_nomem(x->error);
}

static enum pst_status keep_workspace(void *ctx, const struct pst_row_workspace *row)
{
    struct exporting *x = ctx;
    struct kept_workspace *w = pst_arena_zalloc(&x->arena, sizeof(*w));

    if (w == NULL)
        return nomem(x);
    w->row.id = row->id;
    if (pst_arena_copy(&x->arena, row->name, &w->row.name) != PST_OK ||
        pst_arena_copy(&x->arena, row->kind, &w->row.kind) != PST_OK ||
        pst_arena_copy(&x->arena, row->organization, &w->row.organization) != PST_OK)
        return nomem(x);
    *x->workspaces_end = w;
    x->workspaces_end = &w->next;
    return PST_OK;
}

static struct pst_bytes workspace_name(const struct exporting *x, uint32_t id)
{
    for (const struct kept_workspace *w = x->workspaces; w != NULL; w = w->next)
        if (w->row.id == id)
            return w->row.name;
    return (struct pst_bytes){.ptr = "", .len = 0};
}

static enum pst_status keep_role(void *ctx, const struct pst_row_role *row)
{
    struct exporting *x = ctx;
    struct kept_role *r = pst_arena_zalloc(&x->arena, sizeof(*r));

    if (r == NULL || pst_arena_copy(&x->arena, row->name, &r->name) != PST_OK)
        return nomem(x);
    r->id = row->id;
    r->builtin = row->builtin;
    /* Roles come in the order of their workspaces, so the neighbour often has the answer. */
    r->workspace = row->workspace == 0 ? (struct pst_bytes){.ptr = "", .len = 0}
                                       : workspace_name(x, row->workspace);
    *x->roles_end = r;
    x->roles_end = &r->next;
    return PST_OK;
}

static enum pst_status keep_user(void *ctx, const struct pst_row_user *row)
{
    struct exporting *x = ctx;
    struct kept_user *u = pst_arena_zalloc(&x->arena, sizeof(*u));

    if (u == NULL)
        return nomem(x);
    u->row = *row;
    if (pst_arena_copy(&x->arena, row->name, &u->row.name) != PST_OK ||
        pst_arena_copy(&x->arena, row->email, &u->row.email) != PST_OK)
        return nomem(x);
    *x->users_end = u;
    x->users_end = &u->next;
    return PST_OK;
}

/* ---- writing ---- */

static void write_workspaces(struct exporting *x)
{
    put(x, x->workspaces == NULL ? "workspaces: []\n" : "workspaces:\n");
    for (const struct kept_workspace *w = x->workspaces; w != NULL; w = w->next) {
        put_key(x, "  - {name: ", w->row.name);
        put_key(x, ", kind: ", w->row.kind);
        put_key(x, ", organization: ", w->row.organization);
        put(x, "}\n");
    }
}

static void write_permission(struct exporting *x, const struct pst_row_permission *p)
{
    put_key(x, "      - {entity: ", p->entity);
    if (p->has_entity_id)
        put_key(x, ", id: ", p->entity_id);
    if (p->entity_type.len > 0)
        put_key(x, ", entity_type: ", p->entity_type);
    if (p->direct)
        put(x, ", direct: true");
    if (!pst_bytes_equal(p->scope, PST_LIT("global")))
        put_key(x, ", scope: ", p->scope);
    put_access(x, p);
    put_list(x, ", conditions: ", p->conditions);
    put_list(x, ", query_attributes: ", p->query_attributes);
    put_list(x, ", read_attributes: ", p->read_attributes);
    put_list(x, ", write_attributes: ", p->write_attributes);
    put(x, "}\n");
}

struct permissions {
    struct pst_arena *arena;
    struct declared_permission *first, **end;
    size_t count;
};

static enum pst_status keep_permission(void *ctx, const struct pst_row_permission *row)
{
    struct permissions *c = ctx;
    struct declared_permission *p = pst_arena_zalloc(c->arena, sizeof(*p));

    if (p == NULL || pst_permission_copy(c->arena, row, &p->row) != PST_OK)
        return PST_E_NOMEM;
    p->key = pst_permission_key(c->arena, &p->row);
    if (p->key.ptr == NULL)
        return PST_E_NOMEM;
    *c->end = p;
    c->end = &p->next;
    c->count++;
    return PST_OK;
}

/* Sorted by content: the order in which rows were written is nobody's business. */
static enum pst_status write_permissions(struct exporting *x, struct pst_arena *arena,
                                         uint32_t role)
{
    struct permissions c = {.arena = arena, .end = &c.first};
    enum pst_status status =
        pst_store_each_permission(x->store, role, keep_permission, &c, x->error);
    size_t n = 0;

    if (status != PST_OK)
        return status;
    struct declared_permission **all = pst_arena_array(arena, c.count + 1, sizeof(*all));
    if (all == NULL)
        return nomem(x);
    for (struct declared_permission *p = c.first; p != NULL; p = p->next)
        all[n++] = p;
    if (n > 1)
        qsort(all, n, sizeof(*all), pst_permission_order);
    put(x, n == 0 ? "    permissions: []\n" : "    permissions:\n");
    for (size_t i = 0; i < n; i++)
        write_permission(x, &all[i]->row);
    return PST_OK;
}

static enum pst_status write_roles(struct exporting *x)
{
    struct pst_arena arena;
    enum pst_status status = PST_OK;

    pst_arena_init(&arena, 65536, PST_DECLARED_MAX);
    put(x, x->roles == NULL ? "roles: []\n" : "roles:\n");
    for (const struct kept_role *r = x->roles; r != NULL && status == PST_OK; r = r->next) {
        put_key(x, "  - name: ", r->name);
        if (r->workspace.len > 0)
            put_key(x, "\n    workspace: ", r->workspace);
        if (r->builtin)
            put(x, "\n    builtin: true");
        put(x, "\n");
        status = write_permissions(x, &arena, r->id);
        pst_arena_reset(&arena);
    }
    pst_arena_fini(&arena);
    return status;
}

static enum pst_status write_identity(void *ctx, const struct pst_row_identity *row)
{
    struct exporting *x = ctx;

    if (!x->any)
        put(x, "    identities:\n");
    x->any = true;
    put_key(x, "      - {issuer: ", row->issuer);
    put_key(x, ", subject: ", row->subject);
    put(x, "}\n");
    return PST_OK;
}

static enum pst_status write_users(struct exporting *x)
{
    enum pst_status status = PST_OK;

    put(x, x->users == NULL ? "users: []\n" : "users:\n");
    for (const struct kept_user *u = x->users; u != NULL && status == PST_OK; u = u->next) {
        put_key(x, "  - name: ", u->row.name);
        if (u->row.email.len > 0)
            put_key(x, "\n    email: ", u->row.email);
        put(x, u->row.disabled ? "\n    disabled: true" : "\n    disabled: false");
        if (u->row.legacy_level != 0)
            (void)fprintf(x->out, "\n    legacy_level: %u", u->row.legacy_level);
        if (u->row.sessions_from != 0)
            (void)fprintf(x->out, "\n    sessions_from: %llu",
                          (unsigned long long)u->row.sessions_from);
        put(x, "\n");
        x->any = false;
        status = pst_store_each_identity(x->store, u->row.id, write_identity, x, x->error);
        if (status == PST_OK && !x->any)
            put(x, "    identities: []\n");
    }
    return status;
}

static enum pst_status write_binding(void *ctx, const struct pst_row_named_binding *row)
{
    struct exporting *x = ctx;

    if (!x->any)
        put(x, "bindings:\n");
    x->any = true;
    put_key(x, "  - {user: ", row->user);
    put_key(x, ", role: ", row->role);
    if (row->shadowed ||
        (row->role_workspace.len > 0 && !pst_bytes_equal(row->role_workspace, row->workspace)))
        put_key(x, ", role_workspace: ", row->role_workspace);
    if (row->workspace.len > 0)
        put_key(x, ", workspace: ", row->workspace);
    put(x, "}\n");
    return PST_OK;
}

static enum pst_status write_bound(struct exporting *x)
{
    uint32_t seconds;
    enum pst_status status = pst_store_bound(x->store, &seconds, x->error);

    if (status == PST_OK && seconds != BOUND_DEFAULT_S)
        (void)fprintf(x->out, "max_staleness_s: %u\n", seconds);
    return status;
}

static enum pst_status write_all(struct exporting *x)
{
    enum pst_status status = write_bound(x);

    if (status == PST_OK)
        status = pst_store_each_workspace(x->store, keep_workspace, x, x->error);

    if (status == PST_OK)
        status = pst_store_each_role(x->store, keep_role, x, x->error);
    if (status == PST_OK)
        status = pst_store_each_user(x->store, keep_user, x, x->error);
    if (status != PST_OK)
        return status;
    write_workspaces(x);
    status = write_roles(x);
    if (status == PST_OK)
        status = write_users(x);
    x->any = false;
    if (status == PST_OK)
        status = pst_store_each_named_binding(x->store, write_binding, x, x->error);
    if (status == PST_OK && !x->any)
        put(x, "bindings: []\n");
    return status;
}

enum pst_status pst_export(struct pst_store *store, FILE *out, struct pst_error *error)
{
    struct exporting x = {.store = store, .out = out, .error = error};

    enum pst_status status = pst_store_view(store, error);
    if (status != PST_OK)
        return status;
    x.workspaces_end = &x.workspaces;
    x.roles_end = &x.roles;
    x.users_end = &x.users;
    pst_arena_init(&x.arena, 65536, PST_DECLARED_MAX);
    status = write_all(&x);
    pst_arena_fini(&x.arena);
    pst_store_view_end(store);
    if (status == PST_OK && (fflush(out) != 0 || ferror(out) != 0))
        status = pst_error_set(error, PST_E_IO, NULL, "the export could not be written");
    return status;
}
