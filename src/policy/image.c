/*
 * head | workspace, its texts | ... | role, its name, rules, entities, lists, names, extras,
 * others, text | ...
 *
 * Records are copied as they are, so they have no padding. Ranges are stored as counts and laid end
 * to end again: what is not written down cannot be wrong. For the same reason hashes, tables and
 * summaries are made anew. An accepted image is the one that its policy would be written as.
 */
#include "postern/policy/image.h"

#include <stdlib.h>

#include "compile_internal.h"
#include "postern/base/secret.h"

#define FORMAT 2
#define ORDER  UINT32_C(0x01020304)

struct head {
    char magic[8];
    char release[16];
    uint32_t format, order;
    uint32_t workspaces, roles;
    uint64_t role_text; /* bytes of all their names */
};

struct workspace {
    uint32_t id, kind, name, organization; /* lengths */
};

struct role {
    uint64_t permissions;
    uint32_t id, workspace, builtin, name;
    uint32_t rules, direct, entities, ids, lists, names, others, text;
};

struct entity {
    uint32_t at, len; /* of its name */
    uint32_t plain, ids, wide;
};

_Static_assert(sizeof(struct head) == 48 && sizeof(struct workspace) == 16 &&
                   sizeof(struct role) == 56 && sizeof(struct entity) == 20,
               "records have no padding");
_Static_assert(sizeof(struct pst_rule) == 24 && sizeof(struct pst_rule_name) == 8 &&
                   sizeof(struct pst_rule_extra) == 20 && sizeof(struct pst_rule_other) == 8,
               "nor have those that are copied");

static const struct head HEAD = {
    .magic = "PSTIMAGE", .release = PST_VERSION, .format = FORMAT, .order = ORDER};

/* ---- writing ---- */

struct writer {
    pst_image_sink_fn *sink;
    void *ctx;
    enum pst_status status;
    size_t used;
    char small[4096]; /* gathers what is not worth a call */
};

static void flush(struct writer *w)
{
    if (w->status == PST_OK && w->used > 0)
        w->status = w->sink(w->ctx, pst_bytes_of(w->small, w->used));
    w->used = 0;
}

static void put(struct writer *w, const void *data, size_t len)
{
    if (len > sizeof(w->small) - w->used)
        flush(w);
    if (len > sizeof(w->small)) {
        if (w->status == PST_OK)
            w->status = w->sink(w->ctx, pst_bytes_of(data, len));
        return;
    }
    if (len > 0)
        memcpy(w->small + w->used, data, len);
    w->used += len;
}

static void put_workspace(struct writer *w, const struct pst_workspace_row *row)
{
    struct workspace record = {.id = row->id,
                               .kind = (uint32_t)row->kind,
                               .name = (uint32_t)row->name.len,
                               .organization = (uint32_t)row->organization.len};

    put(w, &record, sizeof(record));
    put(w, row->name.ptr, row->name.len);
    put(w, row->organization.ptr, row->organization.len);
}

static void put_rules(struct writer *w, const struct pst_role_rules *r)
{
    put(w, r->rules, r->rule_count * sizeof(*r->rules));
    for (uint32_t i = 0; i < r->entity_count; i++) {
        const struct pst_entity_rules *e = &r->entities[i];
        struct entity record = {.at = e->name.at,
                                .len = e->name.len,
                                .plain = e->plain_count,
                                .ids = e->id_count,
                                .wide = e->wide_count};
        put(w, &record, sizeof(record));
    }
    for (uint32_t i = 0; i < r->list_count; i++)
        put(w, &r->lists[i].count, sizeof(r->lists[i].count));
    put(w, r->names, r->name_count * sizeof(*r->names));
    put(w, r->extras, r->list_count * sizeof(*r->extras));
    put(w, r->others, r->other_count * sizeof(*r->others));
    put(w, r->text, r->text_len);
}

static void put_role(struct writer *w, const struct pst_policy_role *role)
{
    const struct pst_role_rules *r = role->rules;
    struct role record = {.permissions = r->permissions,
                          .id = role->id,
                          .workspace = role->workspace,
                          .builtin = role->builtin,
                          .name = (uint32_t)role->name.len,
                          .rules = r->rule_count,
                          .direct = r->direct_count,
                          .entities = r->entity_count,
                          .ids = r->id_count,
                          .lists = r->list_count,
                          .names = r->name_count,
                          .others = r->other_count,
                          .text = r->text_len};

    put(w, &record, sizeof(record));
    put(w, role->name.ptr, role->name.len);
    put_rules(w, r);
}

enum pst_status pst_policy_image_write(const struct pst_policy *p, pst_image_sink_fn *sink,
                                       void *ctx)
{
    struct writer w = {.sink = sink, .ctx = ctx};
    struct head head = HEAD;

    head.workspaces = p->workspace_count;
    head.roles = p->role_count;
    for (uint32_t i = 0; i < p->role_count; i++)
        head.role_text += p->roles[i].name.len;
    put(&w, &head, sizeof(head));
    for (uint32_t i = 0; i < p->workspace_count; i++)
        put_workspace(&w, &p->workspaces[i]);
    for (uint32_t i = 0; i < p->role_count && w.status == PST_OK; i++)
        put_role(&w, &p->roles[i]);
    flush(&w);
    return w.status;
}

/* ---- reading ---- */

static bool take_bytes(struct pst_bytes *in, size_t len, struct pst_bytes *out)
{
    if (len > in->len)
        return false;
    *out = pst_bytes_of(in->ptr, len);
    *in = pst_bytes_from(*in, len);
    return true;
}

static bool take(struct pst_bytes *in, void *out, size_t len)
{
    struct pst_bytes bytes;

    if (!take_bytes(in, len, &bytes))
        return false;
    if (len > 0)
        memcpy(out, bytes.ptr, len);
    return true;
}

static enum pst_status damaged(struct pst_error *error, const char *where)
{
    return pst_error_set(error, PST_E_INVALID, NULL, "the image is damaged (%s)", where);
}

static enum pst_status take_head(struct pst_bytes *in, struct head *head, struct pst_error *error)
{
    if (!take(in, head, sizeof(*head)) || memcmp(head->magic, HEAD.magic, sizeof(head->magic)) != 0)
        return pst_error_set(error, PST_E_INVALID, NULL, "this is no policy image");
    if (head->format != FORMAT || head->order != ORDER ||
        memcmp(head->release, HEAD.release, sizeof(head->release)) != 0)
        return pst_error_set(error, PST_E_INVALID, NULL,
                             "the image was written by another release, or on another machine");
    /* so that nothing larger than the image is asked for */
    if (head->workspaces > in->len / sizeof(struct workspace) ||
        head->roles > in->len / sizeof(struct role) || head->role_text > in->len)
        return damaged(error, "counts");
    return PST_OK;
}

static bool take_workspace(struct pst_bytes *in, struct pst_workspace_row *row)
{
    struct workspace record;

    if (!take(in, &record, sizeof(record)) || record.id == 0 || record.name == 0 ||
        record.name > UINT16_MAX || record.kind > PST_WORKSPACE_ENVIRONMENT)
        return false;
    row->id = record.id;
    row->kind = (enum pst_workspace_kind)record.kind;
    return take_bytes(in, record.name, &row->name) &&
           take_bytes(in, record.organization, &row->organization);
}

static enum pst_status start_policy(struct pst_bytes *in, const struct head *head,
                                    struct pst_policy **out, struct pst_error *error)
{
    struct pst_workspace_row *rows = calloc((size_t)head->workspaces + 1, sizeof(*rows));
    bool ok = true;

    *out = NULL;
    if (rows == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the policy");
    for (uint32_t i = 0; i < head->workspaces && ok; i++)
        ok = take_workspace(in, &rows[i]);
    enum pst_status status = ok ? pst_policy_start(pst_random_hash_key(), rows, head->workspaces,
                                                   head->roles, (size_t)head->role_text, out, error)
                                : damaged(error, "workspaces");
    free(rows);
    return status;
}

static bool in_text(const struct pst_role_rules *r, uint32_t at, uint32_t len)
{
    return at <= r->text_len && len <= r->text_len - at;
}

static bool take_entities(struct pst_bytes *in, const struct pst_role_rules *r,
                          struct pst_entity_rules *entities)
{
    uint32_t next = r->direct_count;
    struct entity record;

    for (uint32_t i = 0; i < r->entity_count; i++) {
        struct pst_entity_rules *e = &entities[i];
        if (!take(in, &record, sizeof(record)) || record.plain > r->rule_count - next ||
            record.ids > r->rule_count - next - record.plain ||
            record.wide > r->rule_count - next - record.plain - record.ids || record.len == 0 ||
            !in_text(r, record.at, record.len))
            return false;
        *e = (struct pst_entity_rules){.name = {record.at, record.len},
                                       .plain = next,
                                       .plain_count = record.plain,
                                       .ids = next + record.plain,
                                       .id_count = record.ids,
                                       .wide = next + record.plain + record.ids,
                                       .wide_count = record.wide};
        next = e->wide + e->wide_count;
    }
    return next == r->rule_count;
}

static bool take_lists(struct pst_bytes *in, const struct pst_role_rules *r,
                       const struct pst_rules_parts *to)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < r->list_count; i++) {
        to->lists[i].first = next;
        if (!take(in, &to->lists[i].count, sizeof(to->lists[i].count)) ||
            to->lists[i].count > r->name_count - next)
            return false;
        next += to->lists[i].count;
    }
    return next == r->name_count && take(in, to->names, r->name_count * sizeof(*to->names)) &&
           take(in, to->extras, r->list_count * sizeof(*to->extras));
}

static bool check_lists(const struct pst_role_rules *r)
{
    for (uint32_t i = 0; i < r->name_count; i++)
        if (!in_text(r, r->names[i].at, r->names[i].len))
            return false;
    for (uint32_t i = 0; i < r->list_count; i++) {
        const struct pst_rule_extra *x = &r->extras[i];
        for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++)
            if (x->list[kind] > r->list_count)
                return false;
        if (!in_text(r, x->type.at, x->type.len))
            return false;
    }
    return true;
}

#define ROW    (PST_A_KNOWN | UINT64_C(7) << PST_RULE_CONDITIONS)
#define SCOPES (UINT64_C(3) << PST_RULE_SCOPE)
#define DENIES                                                                                     \
    (PST_A_DISABLE_LIST | PST_A_DISABLE_DETAIL | PST_A_DISABLE_CREATE | PST_A_DISABLE_UPDATE |     \
     PST_A_DISABLE_DELETE | PST_A_DISABLE_OPERATION_ALL | PST_A_DISABLE_QUERY |                    \
     PST_A_DISABLE_QUERY_ALL | PST_A_DISABLE_READ | PST_A_DISABLE_READ_ALL | PST_A_DISABLE_WRITE | \
     PST_A_DISABLE_WRITE_ALL | PST_A_DISABLE_USE | PST_A_DISABLE_MANAGE)

/* Each row has all bits of `must`, some access, and besides only bits of `may`. */
static bool check_rows(const struct pst_role_rules *r, uint32_t from, uint32_t count,
                       uint32_t entity, uint64_t must, uint64_t may)
{
    for (const struct pst_rule *rule = r->rules + from, *end = rule + count; rule < end; rule++)
        if (rule->entity != entity || (rule->word & must) != must ||
            (rule->word & ~(must | may)) != 0 || (rule->word & PST_A_KNOWN) == 0 ||
            (rule->word & SCOPES) == SCOPES || rule->extra > r->list_count ||
            !in_text(r, rule->id_at, rule->id_len))
            return false;
    return true;
}

static bool check_rules(const struct pst_role_rules *r)
{
    if (!check_rows(r, 0, r->direct_count, UINT16_MAX, 0, ROW | PST_RULE_HAS_ID | SCOPES))
        return false;
    for (uint32_t i = 0; i < r->entity_count; i++) {
        const struct pst_entity_rules *e = &r->entities[i];
        if (!check_rows(r, e->plain, e->plain_count, i, 0, ROW) ||
            !check_rows(r, e->ids, e->id_count, i, PST_RULE_HAS_ID, ROW) ||
            !check_rows(r, e->wide, e->wide_count, i, PST_RULE_HAS_ID | PST_RULE_WIDE, DENIES))
            return false;
    }
    return true;
}

/* The free slot of an id; false when the id has one already: only its first rows would be found. */
static bool find_slot(const struct pst_role_rules *r, const struct pst_rule *rule, uint64_t hash,
                      uint32_t *out)
{
    struct pst_bytes id = pst_rules_text(r, rule->id_at, rule->id_len);
    uint32_t at = (uint32_t)hash & r->slot_mask;

    for (; r->slots[at] != 0; at = (at + 1) & r->slot_mask) {
        const struct pst_rule *other = &r->rules[(r->slots[at] & PST_RULE_INDEX) - 1];
        if (r->slots[at] >> 24 == hash >> 56 && other->entity == rule->entity &&
            pst_bytes_equal(pst_rules_text(r, other->id_at, other->id_len), id))
            return false;
    }
    *out = at;
    return true;
}

/* The table was sized for the count of ids that the image names: it must be the true one. */
static bool fill_slots(const struct pst_hash_key *key, const struct pst_role_rules *r,
                       uint32_t *slots)
{
    uint32_t found = 0, at;

    for (uint32_t i = 0; i < r->entity_count; i++) {
        const struct pst_entity_rules *e = &r->entities[i];
        for (uint32_t n = 0; n < e->id_count; n++) {
            const struct pst_rule *rule = &r->rules[e->ids + n];
            if (n > 0 && rule->id_at == rule[-1].id_at && rule->id_len == rule[-1].id_len)
                continue;
            uint64_t hash = pst_slot_hash(
                e->hash, pst_text_hash(key, pst_rules_text(r, rule->id_at, rule->id_len)));
            if (found++ == r->id_count || !find_slot(r, rule, hash, &at))
                return false;
            slots[at] = pst_rules_slot(hash, e->ids + n);
        }
    }
    return found == r->id_count;
}

/* The counts are such as the compiler makes, and all of it is there. */
static bool is_possible(const struct role *record, size_t left)
{
    return record->rules < PST_RULE_INDEX && record->entities < UINT16_MAX &&
           record->direct <= record->rules && record->ids <= record->rules &&
           record->rules * (uint64_t)sizeof(struct pst_rule) +
                   record->entities * (uint64_t)sizeof(struct entity) +
                   record->lists * (uint64_t)(sizeof(uint32_t) + sizeof(struct pst_rule_extra)) +
                   record->names * (uint64_t)sizeof(struct pst_rule_name) +
                   record->others * (uint64_t)sizeof(struct pst_rule_other) + record->text <=
               left;
}

static bool fill_block(struct pst_bytes *in, const struct pst_hash_key *key,
                       struct pst_role_rules *r, const struct pst_rules_parts *to)
{
    return take(in, to->rules, r->rule_count * sizeof(*to->rules)) &&
           take_entities(in, r, to->entities) && take_lists(in, r, to) &&
           pst_rules_rows(r) == r->permissions &&
           take(in, to->others, r->other_count * sizeof(*to->others)) &&
           take(in, to->text, r->text_len) && check_lists(r) && check_rules(r) &&
           pst_rules_seal(key, r, to) && fill_slots(key, r, to->slots);
}

static enum pst_status take_rules(struct pst_bytes *in, const struct pst_hash_key *key,
                                  const struct role *record, struct pst_role_rules **out,
                                  struct pst_error *error)
{
    const struct pst_rules_size size = {.rules = record->rules,
                                        .entities = record->entities,
                                        .ids = record->ids,
                                        .lists = record->lists,
                                        .names = record->names,
                                        .others = record->others,
                                        .text = record->text};
    struct pst_rules_parts to;

    if (!is_possible(record, in->len))
        return damaged(error, "counts of a role");
    struct pst_role_rules *r = pst_rules_new(&size, &to);
    if (r == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory for the rows of a role");
    r->permissions = record->permissions;
    r->direct_count = record->direct;
    if (!fill_block(in, key, r, &to)) {
        pst_rules_release(r);
        return damaged(error, "rows of a role");
    }
    *out = r;
    return PST_OK;
}

/* room: bytes of names that are still to come, by the head. */
static enum pst_status take_role(struct pst_bytes *in, struct pst_policy *p, uint64_t *room,
                                 struct pst_error *error)
{
    struct role record;
    struct pst_bytes name;

    if (!take(in, &record, sizeof(record)) || record.id == 0 || record.builtin > 1 ||
        record.name == 0 || record.name > *room || !take_bytes(in, record.name, &name))
        return damaged(error, "a role");
    *room -= record.name;
    struct pst_role_row row = {.id = record.id,
                               .name = name,
                               .workspace = record.workspace,
                               .builtin = record.builtin == 1};
    enum pst_status status = pst_policy_add_role(p, &row, error);
    if (status != PST_OK)
        return status;
    return take_rules(in, &p->key, &record, &p->roles[p->role_count - 1].rules, error);
}

enum pst_status pst_policy_image_read(struct pst_bytes image, struct pst_policy **out,
                                      struct pst_error *error)
{
    struct pst_policy *p = NULL;
    struct head head = {0};
    enum pst_status status = take_head(&image, &head, error);

    if (status == PST_OK)
        status = start_policy(&image, &head, &p, error);
    for (uint32_t i = 0; status == PST_OK && i < head.roles; i++)
        status = take_role(&image, p, &head.role_text, error);
    if (status == PST_OK && (head.role_text != 0 || image.len != 0))
        status = damaged(error, "its end");
    return pst_policy_finish(p, status, out);
}
