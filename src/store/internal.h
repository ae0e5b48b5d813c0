/* internal.h - what the files of the store share. */
#ifndef POSTERN_STORE_INTERNAL_H
#define POSTERN_STORE_INTERNAL_H

#include "postern/store/change.h"
#include "postern/store/log.h"
#include "statements.h"

#define PST_SCHEMA_NEWEST     4 /* the version that this program reads and writes */
#define PST_SCHEMA_WITH_STATE 2 /* from here on there is the view `state` */

#define PST_NAME_MAX        255  /* bytes of a name */
#define PST_SUBJECT_MAX     512  /* bytes of an issuer, a subject, an e-mail address */
#define PST_CHANGE_KEYS_MAX 1000 /* more than this: the log row says `all` */

struct pst_change {
    struct pst_store *store; /* NULL: none is running */
    bool dirty, failed, all;
    uint64_t n;
    struct pst_log_key keys[PST_CHANGE_KEYS_MAX];
    size_t key_count;
    char actor[PST_NAME_MAX + PST_SUBJECT_MAX];
    size_t actor_len;
    char action[64], detail[512];
};

struct pst_store {
    const struct pst_store_ops *ops;
    struct pst_backend *backend;
    bool viewing;
    struct pst_change change;
    char scratch[PST_NAME_MAX + PST_SUBJECT_MAX + 64]; /* texts of the last look-up */
};

static inline struct pst_sql_value pst_sql_null(void)
{
    return (struct pst_sql_value){.kind = PST_SQL_NULL};
}

static inline struct pst_sql_value pst_sql_int(uint64_t i)
{
    return (struct pst_sql_value){.kind = PST_SQL_INT, .i = (int64_t)i};
}

static inline struct pst_sql_value pst_sql_text(struct pst_bytes text)
{
    return (struct pst_sql_value){.kind = PST_SQL_TEXT, .text = text};
}

/* NULL for 0 (an id of none) and for an empty text (a list of none). */
static inline struct pst_sql_value pst_sql_id(uint64_t id)
{
    return id == 0 ? pst_sql_null() : pst_sql_int(id);
}

static inline struct pst_sql_value pst_sql_list(struct pst_bytes text)
{
    return text.len == 0 ? pst_sql_null() : pst_sql_text(text);
}

/* A NULL or negative column is 0, a NULL text is empty. */
static inline uint64_t pst_sql_u64(const struct pst_sql_value *v)
{
    return v->kind == PST_SQL_INT && v->i > 0 ? (uint64_t)v->i : 0;
}

/* Ids of roles and workspaces are 32 bits; one that is not becomes 0, which names nothing. */
static inline uint32_t pst_sql_u32(const struct pst_sql_value *v)
{
    uint64_t value = pst_sql_u64(v);
    return value <= UINT32_MAX ? (uint32_t)value : 0;
}

#define PST_RUN(store, id, row, ctx, error, ...)                                                   \
    (store)->ops->run((store)->backend, (id), (const struct pst_sql_value[]){__VA_ARGS__},         \
                      (unsigned)(sizeof((const struct pst_sql_value[]){__VA_ARGS__}) /             \
                                 sizeof(struct pst_sql_value)),                                    \
                      (row), (ctx), (error))

/* A revision of the database as this program compares it: another timeline is another history. */
bool pst_revision_read(const struct pst_sql_value *n, const struct pst_sql_value *epoch,
                       const struct pst_sql_value *timeline, struct pst_revision *out);

/* Row functions that several files use. */
void pst_row_to_workspace(const struct pst_sql_value *row, struct pst_row_workspace *out);
void pst_row_to_role(const struct pst_sql_value *row, struct pst_row_role *out);
void pst_row_to_permission(const struct pst_sql_value *row, struct pst_row_permission *out);

#endif
