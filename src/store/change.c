/*
 * Changes: one transaction, numbered before its first row, closed with its log row.
 *
 *   begin    BEGIN (SQLite: IMMEDIATE); log_head n + 1, open (PostgreSQL: its row lock); change_log
 *            row without keys
 *   writes   rows, and the keys of what they touch
 *   commit   keys, open back to 0, audit row, COMMIT        (or ROLLBACK when nothing was written)
 *
 * Any failure marks the change as failed: it can only be aborted.
 */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"
#include "postern/base/buf.h"
#include "postern/base/clock.h"
#include "postern/base/secret.h"

#define LOG_KEEP      100000 /* rows; a node that is further behind loads everything */
#define LOG_CUT_EVERY 1000
#define KEYS_TEXT_MAX (PST_CHANGE_KEYS_MAX * 36 + 8)

static enum pst_status on_u64(void *ctx, const struct pst_sql_value *row)
{
    *(uint64_t *)ctx = pst_sql_u64(&row[0]);
    return PST_OK;
}

/* ---- begin, commit ---- */

static struct pst_sql_value stamp_text(char out[32])
{
    struct pst_stamp stamp;
    struct pst_buf b = pst_buf_of(out, 32);

    pst_random(&stamp, sizeof(stamp));
    pst_buf_hex(&b, stamp.hi, 16);
    pst_buf_hex(&b, stamp.lo, 16);
    return pst_sql_text(pst_buf_bytes(&b));
}

static enum pst_status number_change(struct pst_store *store, struct pst_error *error)
{
    struct pst_change *c = &store->change;
    char stamp[32];

    enum pst_status status =
        store->ops->run(store->backend, PST_SQL_HEAD_OPEN, NULL, 0, on_u64, &c->n, error);
    if (status == PST_OK && c->n == 0)
        status = pst_error_set(error, PST_E_IO, NULL, "the database has no log head");
    if (status != PST_OK)
        return status;
    return PST_RUN(store, PST_SQL_LOG_INSERT, NULL, NULL, error, pst_sql_int(c->n),
                   stamp_text(stamp), pst_sql_int(pst_clock_wall_ns() / PST_NS_PER_MS),
                   pst_sql_text(pst_bytes_of(c->actor, c->actor_len)));
}

enum pst_status pst_change_begin(struct pst_store *store, struct pst_bytes actor,
                                 struct pst_change **out, struct pst_error *error)
{
    struct pst_change *c = &store->change;

    *out = NULL;
    if (store->viewing || c->store != NULL) {
        (void)pst_error_set(error, PST_E_EXISTS, NULL, "the store has a view or a change already");
        return PST_E_EXISTS;
    }
    enum pst_status status = store->ops->begin_write(store->backend, error);
    if (status != PST_OK)
        return status;

    *c = (struct pst_change){.store = store};
    c->actor_len = actor.len < sizeof(c->actor) ? actor.len : sizeof(c->actor);
    if (c->actor_len > 0)
        memcpy(c->actor, actor.ptr, c->actor_len);
    status = number_change(store, error);
    if (status != PST_OK) {
        pst_change_abort(c);
        return status;
    }
    *out = c;
    return PST_OK;
}

void pst_change_abort(struct pst_change *change)
{
    if (change == NULL || change->store == NULL)
        return;
    change->store->ops->rollback(change->store->backend);
    change->store = NULL;
}

bool pst_change_dirty(const struct pst_change *change)
{
    return change->dirty;
}

void pst_change_describe(struct pst_change *change, const char *action, const char *detail)
{
    (void)snprintf(change->action, sizeof(change->action), "%s", action);
    (void)snprintf(change->detail, sizeof(change->detail), "%s", detail);
}

static const char *const KEY_NAMES[] = {
    [PST_LOG_USER] = "user:", [PST_LOG_ROLE] = "role:", [PST_LOG_WORKSPACE] = "workspace:"};

static void write_keys(const struct pst_change *c, struct pst_buf *b)
{
    if (c->all) {
        pst_buf_lit(b, "all");
        return;
    }
    pst_buf_char(b, '[');
    for (size_t i = 0; i < c->key_count; i++) {
        const char *name = KEY_NAMES[c->keys[i].kind];
        pst_buf_put(b, i == 0 ? PST_LIT("\"") : PST_LIT(",\""));
        pst_buf_put(b, pst_bytes_of(name, strlen(name)));
        pst_buf_u64(b, c->keys[i].id);
        pst_buf_char(b, '"');
    }
    pst_buf_char(b, ']');
}

static enum pst_status close_log(struct pst_change *c, struct pst_error *error)
{
    struct pst_store *store = c->store;
    char *text = malloc(KEYS_TEXT_MAX);

    if (text == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    struct pst_buf b = pst_buf_of(text, KEYS_TEXT_MAX);
    write_keys(c, &b);
    enum pst_status status = PST_RUN(store, PST_SQL_LOG_KEYS, NULL, NULL, error,
                                     pst_sql_text(pst_buf_bytes(&b)), pst_sql_int(c->n));
    free(text);
    if (status == PST_OK)
        status = store->ops->run(store->backend, PST_SQL_HEAD_CLOSE, NULL, 0, NULL, NULL, error);
    if (status == PST_OK && c->n % LOG_CUT_EVERY == 0)
        status = PST_RUN(store, PST_SQL_LOG_CUT, NULL, NULL, error, pst_sql_int(LOG_KEEP));
    if (status != PST_OK)
        return status;
    return PST_RUN(store, PST_SQL_AUDIT_INSERT, NULL, NULL, error,
                   pst_sql_int(pst_clock_wall_ns() / PST_NS_PER_MS),
                   pst_sql_text(pst_bytes_of(c->actor, c->actor_len)),
                   pst_sql_text(pst_bytes_of(c->action, strlen(c->action))),
                   pst_sql_text(pst_bytes_of(c->detail, strlen(c->detail))));
}

enum pst_status pst_change_commit(struct pst_change *change, struct pst_revision *revision,
                                  struct pst_error *error)
{
    struct pst_store *store = change->store;
    enum pst_status status = PST_OK;

    *revision = (struct pst_revision){0};
    if (change->failed) {
        pst_change_abort(change);
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "a change that failed cannot be committed");
    }
    if (!change->dirty) {
        pst_change_abort(change);
        return pst_store_revision(store, revision, error);
    }
    status = pst_store_revision(store, revision, error);
    if (status == PST_OK)
        status = close_log(change, error);
    if (status == PST_OK)
        status = store->ops->commit(store->backend, error);
    if (status != PST_OK)
        *revision = (struct pst_revision){0};
    pst_change_abort(change); /* after a commit there is nothing left to roll back */
    return status;
}

/* ---- keys ---- */

static bool has_key(const struct pst_change *c, enum pst_log_key_kind kind, uint64_t id)
{
    for (size_t i = c->key_count; i-- > 0;)
        if (c->keys[i].kind == kind && c->keys[i].id == id)
            return true;
    return false;
}

static void touch(struct pst_change *c, enum pst_log_key_kind kind, uint64_t id)
{
    c->dirty = true;
    if (c->all || has_key(c, kind, id))
        return;
    if (c->key_count == PST_CHANGE_KEYS_MAX)
        c->all = true;
    else
        c->keys[c->key_count++] = (struct pst_log_key){.kind = kind, .id = id, .n = c->n};
}

static enum pst_status on_touched_user(void *ctx, const struct pst_sql_value *row)
{
    touch(ctx, PST_LOG_USER, pst_sql_u64(&row[0]));
    return PST_OK;
}

static enum pst_status done(struct pst_change *c, enum pst_status status)
{
    if (status != PST_OK)
        c->failed = true;
    return status;
}

static enum pst_status absent(struct pst_change *c, const char *what, uint64_t id,
                              struct pst_error *error)
{
    c->failed = true;
    return pst_error_set(error, PST_E_ABSENT, NULL, "there is no %s %llu", what,
                         (unsigned long long)id);
}

/* ---- what a row may hold, beyond what the schema checks ---- */

static enum pst_status check_text(struct pst_change *c, const char *what, struct pst_bytes text,
                                  size_t max, struct pst_error *error)
{
    if (text.len > max)
        return done(
            c, pst_error_set(error, PST_E_LIMIT, NULL, "%s is longer than %zu bytes", what, max));
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return done(
                c, pst_error_set(error, PST_E_INVALID, NULL, "%s holds a control character", what));
    return PST_OK;
}

static enum pst_status put_organization(struct pst_change *c, struct pst_bytes name, uint64_t *id,
                                        struct pst_error *error)
{
    struct pst_bytes org = name.len == 0 ? PST_LIT("default") : name;

    *id = 0;
    enum pst_status status = check_text(c, "the organization", org, PST_NAME_MAX, error);
    if (status == PST_OK)
        status = PST_RUN(c->store, PST_SQL_ORGANIZATION_FIND, on_u64, id, error, pst_sql_text(org));
    if (status == PST_OK && *id == 0)
        status =
            PST_RUN(c->store, PST_SQL_ORGANIZATION_INSERT, on_u64, id, error, pst_sql_text(org));
    return done(c, status);
}

enum pst_status pst_change_put_workspace(struct pst_change *change, struct pst_row_workspace *row,
                                         struct pst_error *error)
{
    struct pst_store *store = change->store;
    uint64_t organization, id = 0;

    enum pst_status status = put_organization(change, row->organization, &organization, error);
    if (status != PST_OK)
        return status;
    if (row->id == 0)
        status =
            PST_RUN(store, PST_SQL_WORKSPACE_INSERT, on_u64, &id, error, pst_sql_text(row->name),
                    pst_sql_text(row->kind), pst_sql_int(organization));
    else
        status =
            PST_RUN(store, PST_SQL_WORKSPACE_UPDATE, on_u64, &id, error, pst_sql_text(row->name),
                    pst_sql_text(row->kind), pst_sql_int(organization), pst_sql_int(row->id));
    if (status != PST_OK)
        return done(change, status);
    if (id == 0 || id > UINT32_MAX)
        return absent(change, "workspace", row->id, error);
    row->id = (uint32_t)id;
    touch(change, PST_LOG_WORKSPACE, id);
    return PST_OK;
}

struct put_user {
    uint64_t id, same_email;
};

static enum pst_status on_put_user(void *ctx, const struct pst_sql_value *row)
{
    *(struct put_user *)ctx =
        (struct put_user){.id = pst_sql_u64(&row[0]), .same_email = pst_sql_u64(&row[1])};
    return PST_OK;
}

enum pst_status pst_change_put_user(struct pst_change *change, struct pst_row_user *row,
                                    struct pst_error *error)
{
    struct pst_store *store = change->store;
    struct put_user put = {0};

    enum pst_status status = check_text(change, "the user's name", row->name, PST_NAME_MAX, error);
    if (status == PST_OK)
        status = check_text(change, "the e-mail address", row->email, PST_SUBJECT_MAX, error);
    if (status != PST_OK)
        return status;
    if (row->id == 0)
        status =
            PST_RUN(store, PST_SQL_USER_INSERT, on_put_user, &put, error, pst_sql_text(row->name),
                    pst_sql_text(row->email), pst_sql_int(row->disabled),
                    pst_sql_int(row->legacy_level), pst_sql_int(row->sessions_from));
    else
        status = PST_RUN(store, PST_SQL_USER_UPDATE, on_put_user, &put, error,
                         pst_sql_text(row->name), pst_sql_text(row->email),
                         pst_sql_int(row->disabled), pst_sql_int(row->legacy_level),
                         pst_sql_int(row->sessions_from), pst_sql_int(row->id));
    if (status != PST_OK)
        return done(change, status);
    if (put.id == 0)
        return absent(change, "user", row->id, error);
    row->id = put.id;
    touch(change, PST_LOG_USER, put.id);
    if (put.same_email != 0)
        touch(change, PST_LOG_USER, put.same_email);
    return PST_OK;
}

enum pst_status pst_change_put_role(struct pst_change *change, struct pst_row_role *row,
                                    struct pst_error *error)
{
    struct pst_store *store = change->store;
    uint64_t id = 0;

    enum pst_status status = check_text(change, "the role's name", row->name, PST_NAME_MAX, error);
    if (status != PST_OK)
        return status;
    if (row->id == 0)
        status = PST_RUN(store, PST_SQL_ROLE_INSERT, on_u64, &id, error, pst_sql_text(row->name),
                         pst_sql_id(row->workspace), pst_sql_int(row->builtin));
    else
        status =
            PST_RUN(store, PST_SQL_ROLE_UPDATE, on_u64, &id, error, pst_sql_text(row->name),
                    pst_sql_id(row->workspace), pst_sql_int(row->builtin), pst_sql_int(row->id));
    if (status != PST_OK)
        return done(change, status);
    if (id == 0 || id > UINT32_MAX)
        return absent(change, "role", row->id, error);
    row->id = (uint32_t)id;
    touch(change, PST_LOG_ROLE, id);
    return PST_OK;
}

enum pst_status pst_change_add_identity(struct pst_change *change,
                                        const struct pst_row_identity *row, struct pst_error *error)
{
    enum pst_status status = check_text(change, "the issuer", row->issuer, PST_SUBJECT_MAX, error);
    if (status == PST_OK)
        status = check_text(change, "the subject", row->subject, PST_SUBJECT_MAX, error);
    if (status == PST_OK)
        status = done(change, PST_RUN(change->store, PST_SQL_IDENTITY_INSERT, NULL, NULL, error,
                                      pst_sql_text(row->issuer), pst_sql_text(row->subject),
                                      pst_sql_int(row->user)));
    if (status == PST_OK)
        touch(change, PST_LOG_USER, row->user);
    return status;
}

static enum pst_status check_permission(struct pst_change *c, const struct pst_row_permission *row,
                                        struct pst_error *error)
{
    enum pst_status status = check_text(c, "the entity", row->entity, PST_ENTITY_MAX, error);

    if (status == PST_OK)
        status = check_text(c, "the entity's id", row->entity_id, PST_ENTITY_ID_MAX, error);
    if (status == PST_OK)
        status = check_text(c, "the entity's type", row->entity_type, PST_ENTITY_MAX, error);
    return status;
}

enum pst_status pst_change_add_permission(struct pst_change *change, struct pst_row_permission *row,
                                          struct pst_error *error)
{
    uint64_t id = 0;
    enum pst_status status = check_permission(change, row, error);

    if (status == PST_OK)
        status = done(
            change, PST_RUN(change->store, PST_SQL_PERMISSION_INSERT, on_u64, &id, error,
                            pst_sql_int(row->role), pst_sql_int(row->direct),
                            pst_sql_text(row->scope), pst_sql_text(row->entity),
                            row->has_entity_id ? pst_sql_text(row->entity_id) : pst_sql_null(),
                            pst_sql_text(row->entity_type), pst_sql_list(row->conditions),
                            row->has_access ? pst_sql_int(row->access) : pst_sql_null(),
                            pst_sql_list(row->query_attributes), pst_sql_list(row->read_attributes),
                            pst_sql_list(row->write_attributes)));
    if (status != PST_OK)
        return status;
    row->id = id;
    touch(change, PST_LOG_ROLE, row->role);
    return PST_OK;
}

static size_t permission_bytes(const struct pst_row_permission *row)
{
    return 128 + 6 * (row->scope.len + row->entity.len + row->entity_id.len + row->entity_type.len +
                      row->conditions.len + row->query_attributes.len + row->read_attributes.len +
                      row->write_attributes.len);
}

static void put_text(struct pst_buf *b, bool there, struct pst_bytes text)
{
    pst_buf_char(b, ',');
    if (there)
        pst_buf_json(b, text);
    else
        pst_buf_lit(b, "null");
}

static void put_permission(struct pst_buf *b, const struct pst_row_permission *row)
{
    pst_buf_char(b, b->len == 0 ? '[' : ',');
    pst_buf_char(b, '[');
    pst_buf_u64(b, row->role);
    pst_buf_put(b, row->direct ? PST_LIT(",1") : PST_LIT(",0"));
    put_text(b, true, row->scope);
    put_text(b, true, row->entity);
    put_text(b, row->has_entity_id, row->entity_id);
    put_text(b, true, row->entity_type);
    put_text(b, row->conditions.len > 0, row->conditions);
    pst_buf_char(b, ',');
    if (row->has_access)
        pst_buf_u64(b, row->access);
    else
        pst_buf_lit(b, "null");
    put_text(b, row->query_attributes.len > 0, row->query_attributes);
    put_text(b, row->read_attributes.len > 0, row->read_attributes);
    put_text(b, row->write_attributes.len > 0, row->write_attributes);
    pst_buf_char(b, ']');
}

static enum pst_status insert_permissions(struct pst_change *c,
                                          struct pst_row_permission *const *rows, size_t count,
                                          struct pst_error *error)
{
    size_t cap = 16;

    for (size_t i = 0; i < count; i++)
        cap += permission_bytes(rows[i]);
    char *text = malloc(cap);
    if (text == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "out of memory");
    struct pst_buf b = pst_buf_of(text, cap);
    for (size_t i = 0; i < count; i++)
        put_permission(&b, rows[i]);
    pst_buf_char(&b, ']');
    enum pst_status status = PST_RUN(c->store, PST_SQL_PERMISSIONS_INSERT, NULL, NULL, error,
                                     pst_sql_text(pst_buf_bytes(&b)));
    free(text);
    return status;
}

enum pst_status pst_change_add_permissions(struct pst_change *change,
                                           struct pst_row_permission *const *rows, size_t count,
                                           size_t *failed, struct pst_error *error)
{
    bool far = change->store->ops->far;
    enum pst_status status = PST_OK;

    for (*failed = 0; *failed < count; ++*failed) {
        struct pst_row_permission *row = rows[*failed];
        status = far ? check_permission(change, row, error)
                     : pst_change_add_permission(change, row, error);
        if (status != PST_OK)
            return status;
    }
    *failed = 0;
    if (!far || count == 0)
        return PST_OK;
    status = done(change, insert_permissions(change, rows, count, error));
    for (size_t i = 0; i < count && status == PST_OK; i++)
        touch(change, PST_LOG_ROLE, rows[i]->role);
    return status;
}

enum pst_status pst_change_add_binding(struct pst_change *change, struct pst_row_binding *row,
                                       struct pst_error *error)
{
    uint64_t id = 0;
    enum pst_status status =
        done(change,
             PST_RUN(change->store, PST_SQL_BINDING_INSERT, on_u64, &id, error,
                     pst_sql_int(row->user), pst_sql_int(row->role), pst_sql_id(row->workspace)));
    if (status != PST_OK)
        return status;
    row->id = id;
    touch(change, PST_LOG_USER, row->user);
    return PST_OK;
}

enum pst_status pst_store_bound(struct pst_store *store, uint32_t *seconds, struct pst_error *error)
{
    uint64_t value = 0;
    enum pst_status status =
        store->ops->run(store->backend, PST_SQL_BOUND, NULL, 0, on_u64, &value, error);

    *seconds = (uint32_t)value;
    return status;
}

enum pst_status pst_change_set_bound(struct pst_change *change, uint32_t seconds,
                                     struct pst_error *error)
{
    uint32_t now;
    enum pst_status status = done(change, pst_store_bound(change->store, &now, error));

    if (status != PST_OK || now == seconds)
        return status;
    status = done(
        change, PST_RUN(change->store, PST_SQL_BOUND_SET, NULL, NULL, error, pst_sql_int(seconds)));
    change->dirty = change->dirty || status == PST_OK; /* touches nobody's rows */
    return status;
}

/* ---- deletions ---- */

static enum pst_status delete_one(struct pst_change *c, unsigned sql, const char *what, uint64_t id,
                                  struct pst_error *error)
{
    uint64_t gone = 0;
    enum pst_status status = PST_RUN(c->store, sql, on_u64, &gone, error, pst_sql_int(id));

    if (status == PST_OK && gone == 0)
        return absent(c, what, id, error);
    return done(c, status);
}

enum pst_status pst_change_delete_role(struct pst_change *change, uint32_t id,
                                       struct pst_error *error)
{
    struct pst_store *store = change->store;
    enum pst_status status =
        PST_RUN(store, PST_SQL_ROLE_UNBIND, on_touched_user, change, error, pst_sql_int(id));

    if (status == PST_OK)
        status = PST_RUN(store, PST_SQL_ROLE_EMPTY, NULL, NULL, error, pst_sql_int(id));
    if (status == PST_OK)
        status = delete_one(change, PST_SQL_ROLE_DELETE, "role", id, error);
    if (status == PST_OK)
        touch(change, PST_LOG_ROLE, id);
    return done(change, status);
}

enum pst_status pst_change_delete_user(struct pst_change *change, uint64_t id,
                                       struct pst_error *error)
{
    struct pst_store *store = change->store;
    enum pst_status status =
        PST_RUN(store, PST_SQL_USER_UNBIND, on_touched_user, change, error, pst_sql_int(id));

    if (status == PST_OK)
        status = PST_RUN(store, PST_SQL_USER_UNIDENTIFY, NULL, NULL, error, pst_sql_int(id));
    if (status == PST_OK)
        status = delete_one(change, PST_SQL_USER_DELETE, "user", id, error);
    if (status == PST_OK)
        touch(change, PST_LOG_USER, id);
    return done(change, status);
}

struct id_list {
    uint32_t *ids;
    size_t count, cap;
};

static enum pst_status on_id(void *ctx, const struct pst_sql_value *row)
{
    struct id_list *l = ctx;

    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 16 : l->cap * 2;
        uint32_t *more = realloc(l->ids, cap * sizeof(*more));
        if (more == NULL)
            return PST_E_NOMEM;
        l->ids = more;
        l->cap = cap;
    }
    l->ids[l->count++] = pst_sql_u32(&row[0]);
    return PST_OK;
}

enum pst_status pst_change_delete_workspace(struct pst_change *change, uint32_t id,
                                            struct pst_error *error)
{
    struct pst_store *store = change->store;
    struct id_list roles = {0};
    enum pst_status status =
        PST_RUN(store, PST_SQL_WORKSPACE_UNBIND, on_touched_user, change, error, pst_sql_int(id));

    if (status == PST_OK)
        status = PST_RUN(store, PST_SQL_WORKSPACE_ROLES, on_id, &roles, error, pst_sql_int(id));
    for (size_t i = 0; i < roles.count && status == PST_OK; i++)
        status = pst_change_delete_role(change, roles.ids[i], error);
    free(roles.ids);
    if (status == PST_OK)
        status = delete_one(change, PST_SQL_WORKSPACE_DELETE, "workspace", id, error);
    if (status == PST_OK)
        touch(change, PST_LOG_WORKSPACE, id);
    return done(change, status);
}

enum pst_status pst_change_delete_identity(struct pst_change *change,
                                           const struct pst_row_identity *row,
                                           struct pst_error *error)
{
    uint64_t gone = 0;
    enum pst_status status =
        done(change, PST_RUN(change->store, PST_SQL_IDENTITY_DELETE, on_u64, &gone, error,
                             pst_sql_text(row->issuer), pst_sql_text(row->subject),
                             pst_sql_int(row->user)));

    if (status == PST_OK && gone == 0)
        return absent(change, "identity of user", row->user, error);
    if (status == PST_OK)
        touch(change, PST_LOG_USER, row->user);
    return status;
}

enum pst_status pst_change_delete_permission(struct pst_change *change, uint64_t id, uint32_t role,
                                             struct pst_error *error)
{
    uint64_t gone = 0;
    enum pst_status status =
        done(change, PST_RUN(change->store, PST_SQL_PERMISSION_DELETE, on_u64, &gone, error,
                             pst_sql_int(id), pst_sql_int(role)));

    if (status == PST_OK && gone == 0)
        return absent(change, "permission", id, error);
    if (status == PST_OK)
        touch(change, PST_LOG_ROLE, role);
    return status;
}

enum pst_status pst_change_delete_binding(struct pst_change *change,
                                          const struct pst_row_binding *row,
                                          struct pst_error *error)
{
    uint64_t gone = 0;
    enum pst_status status =
        done(change, PST_RUN(change->store, PST_SQL_BINDING_DELETE, on_u64, &gone, error,
                             pst_sql_int(row->id), pst_sql_int(row->user)));

    if (status == PST_OK && gone == 0)
        return absent(change, "binding", row->id, error);
    if (status == PST_OK)
        touch(change, PST_LOG_USER, row->user);
    return status;
}

/* ---- first sign-in ---- */

static enum pst_status create_user(struct pst_change *c, const struct pst_new_user *user,
                                   uint64_t *id, struct pst_error *error)
{
    struct pst_row_user row = {.name = user->name.len == 0 ? user->subject : user->name,
                               .email = user->email};
    struct pst_row_role role;

    enum pst_status status = pst_change_put_user(c, &row, error);
    if (status != PST_OK)
        return status;
    *id = row.id;
    struct pst_row_identity identity = {
        .user = row.id, .issuer = user->issuer, .subject = user->subject};
    status = pst_change_add_identity(c, &identity, error);
    if (status != PST_OK || user->role.len == 0)
        return status;
    status = pst_store_find_role(c->store, user->role, 0, &role, error);
    if (status != PST_OK)
        return status;
    struct pst_row_binding binding = {.user = row.id, .role = role.id};
    return pst_change_add_binding(c, &binding, error);
}

enum pst_status pst_store_ensure_user(struct pst_store *store, const struct pst_new_user *user,
                                      uint64_t *id, struct pst_error *error)
{
    struct pst_change *c;
    struct pst_revision revision;

    *id = 0;
    enum pst_status status = PST_RUN(store, PST_SQL_IDENTITY_FIND, on_u64, id, error,
                                     pst_sql_text(user->issuer), pst_sql_text(user->subject));
    if (status != PST_OK || *id != 0)
        return status;
    status = pst_change_begin(store, PST_LIT("postern:sign-in"), &c, error);
    if (status != PST_OK)
        return status;
    /* Again, under the lock: another process may have been first. */
    status = PST_RUN(store, PST_SQL_IDENTITY_FIND, on_u64, id, error, pst_sql_text(user->issuer),
                     pst_sql_text(user->subject));
    if (status == PST_OK && *id == 0) {
        pst_change_describe(c, "user.create", "first sign-in");
        status = create_user(c, user, id, error);
    }
    if (status == PST_OK)
        return pst_change_commit(c, &revision, error);
    pst_change_abort(c);
    *id = 0;
    return status;
}
