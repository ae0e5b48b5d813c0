/*
 * Words for a detail. The remedy is found by asking the evaluator itself: would the failing
 * requirement hold if the caller had this role too? So it cannot promise what the next decision
 * would not keep.
 */
#include "postern/policy/explain.h"

#include "judge.h"

#define ROLES_NAMED 3  /* in a remedy */
#define EXTRA_TRIED 64 /* roles of the token's groups that a trial takes along */

static void put_cstr(struct pst_buf *out, const char *text)
{
    pst_buf_put(out, pst_bytes_of(text, strlen(text)));
}

static const struct pst_requirement *requirement_of(const struct pst_question *q,
                                                    const struct pst_eval_detail *d)
{
    return d->requirement < q->requirement_count ? &q->requirements[d->requirement] : NULL;
}

static const struct pst_key *key_of(const struct pst_question *q, const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = requirement_of(q, d);

    return r != NULL && d->key < r->key_count && d->key < PST_KEYS_MAX ? &r->keys[d->key] : NULL;
}

/* Pipeline/p1, or all of Pipeline */
static void put_object(struct pst_buf *out, const struct pst_key *key)
{
    pst_buf_put(out, key->entity);
    if (key->id_state == PST_ID_KNOWN) {
        pst_buf_char(out, '/');
        pst_buf_put(out, key->id);
    } else if (key->id_state == PST_ID_UNKNOWN) {
        pst_buf_lit(out, "/(unknown)");
    }
}

static void put_role(struct pst_buf *out, const struct pst_question *q, uint32_t id)
{
    pst_buf_lit(out, "role \"");
    pst_buf_put(out, pst_policy_role_name(q->policy, id));
    pst_buf_char(out, '"');
}

static void put_bits(struct pst_buf *out, uint64_t bits, const char *between)
{
    for (bool first = true; bits != 0; bits &= bits - 1, first = false) {
        const char *name = pst_access_name(pst_lowest_bit(bits));
        if (!first)
            put_cstr(out, between);
        put_cstr(out, name == NULL ? "?" : name);
    }
}

static void put_place(struct pst_buf *out, const struct pst_question *q)
{
    struct pst_bytes name = pst_policy_workspace_name(q->policy, q->workspace);

    if (name.len == 0) {
        pst_buf_lit(out, " (bound everywhere)");
        return;
    }
    pst_buf_lit(out, " in workspace ");
    pst_buf_put(out, name);
}

/* Would this requirement hold for the caller with one more role? */
static bool role_would_do(const struct pst_question *q, const struct pst_requirement *r,
                          uint32_t role)
{
    uint32_t roles[EXTRA_TRIED + 1], n = q->caller.extra_role_count;
    struct pst_question trial = *q;
    struct pst_eval_detail d;

    if (n > EXTRA_TRIED || q->caller.facts == NULL)
        return false;
    if (n > 0)
        memcpy(roles, q->caller.extra_roles, n * sizeof(*roles));
    roles[n] = role;
    trial.caller.extra_roles = roles;
    trial.caller.extra_role_count = n + 1;
    trial.requirements = r;
    trial.requirement_count = 1;
    return pst_eval(&trial, &d) == PST_ALLOW;
}

static bool holds_role(const struct pst_question *q, uint32_t role)
{
    for (uint32_t i = 0, n = pst_held_count(q); i < n; i++) {
        struct pst_held held = pst_held_at(q, i, q->workspace);
        if (held.role != NULL && held.role->id == role)
            return true;
    }
    return false;
}

/* ", or bind role "a" or role "b" in workspace blue"; nothing when no role would do. */
static void put_roles(struct pst_buf *out, const struct pst_question *q,
                      const struct pst_requirement *r)
{
    uint32_t named = 0;

    for (uint32_t i = 0; i < q->policy->role_count && named < ROLES_NAMED; i++) {
        const struct pst_policy_role *role = &q->policy->roles[i];
        if (pst_bytes_starts(role->name, PST_LIT("__user_")) || holds_role(q, role->id) ||
            !role_would_do(q, r, role->id))
            continue;
        put_cstr(out, named == 0 ? ", or bind the caller to " : " or ");
        put_role(out, q, role->id);
        named++;
    }
    if (named > 0)
        put_place(out, q);
}

static void remedy_grant(struct pst_buf *out, const struct pst_question *q,
                         const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = requirement_of(q, d);
    const struct pst_key *key = key_of(q, d);

    if (r == NULL || d->missing == 0)
        return;
    pst_buf_lit(out, "Grant ");
    if (d->attribute.len > 0) {
        pst_buf_put(out, d->attribute);
        pst_buf_lit(out, " with ");
        put_bits(out, d->missing, " or ");
        pst_buf_lit(out, " beside ");
        put_cstr(out, pst_op_name(d->op));
        pst_buf_lit(out, " in one permission");
    } else {
        put_bits(out, d->missing, " or ");
    }
    pst_buf_lit(out, " on ");
    if (key != NULL)
        put_object(out, key);
    else
        pst_buf_lit(out, "workspace");
    put_place(out, q);
    put_roles(out, q, r);
    pst_buf_char(out, '.');
}

static void remedy_deny(struct pst_buf *out, const struct pst_question *q,
                        const struct pst_eval_detail *d)
{
    pst_buf_lit(out, "Remove ");
    put_bits(out, d->bit, " or ");
    pst_buf_lit(out, " from permission ");
    pst_buf_u64(out, d->permission);
    pst_buf_lit(out, " of ");
    put_role(out, q, d->role);
    pst_buf_lit(out, ", or unbind that role (binding ");
    pst_buf_u64(out, d->binding);
    pst_buf_lit(out, ").");
}

static void remedy_condition(struct pst_buf *out, const struct pst_question *q,
                             const struct pst_eval_detail *d)
{
    pst_buf_lit(out, "Drop the condition of permission ");
    pst_buf_u64(out, d->permission);
    pst_buf_lit(out, " of ");
    put_role(out, q, d->role);
    pst_buf_lit(out, " or meet it (editing is ");
    put_cstr(out, q->settings->notebook_edit == 0 ? "on" : "switched off");
    pst_buf_lit(out, ").");
}

static void remedy_level(struct pst_buf *out, const struct pst_question *q,
                         const struct pst_eval_detail *d)
{
    const struct pst_key *key = key_of(q, d);
    struct pst_level_rule rule = {0};
    bool first = true;

    if (key == NULL || q->settings->levels == NULL)
        return;
    rule = d->attribute.len > 0 ? pst_levels_attribute(q->settings->levels, key->entity, d->op,
                                                       d->attribute_kind, d->attribute)
                                : pst_levels_operation(q->settings->levels, key->entity, d->op);
    if (rule.signed_in == 0) {
        pst_buf_lit(out, "No level allows it; switch permissions on and grant it.");
        return;
    }
    pst_buf_lit(out, "Give the caller level ");
    for (unsigned level = 0; level < PST_LEVELS; level++) {
        if ((rule.signed_in >> level & 1) == 0)
            continue;
        if (!first)
            pst_buf_lit(out, " or ");
        put_cstr(out, pst_level_name((enum pst_level)level));
        first = false;
    }
    pst_buf_lit(out, " by a built-in role.");
}

static void remedy_lookup(struct pst_buf *out, const struct pst_question *q,
                          const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = requirement_of(q, d);

    if (r == NULL || r->key_count == 0)
        return;
    const struct pst_key *key = key_of(q, d) != NULL ? key_of(q, d) : &r->keys[0];
    pst_buf_lit(out, "Grant ");
    put_bits(out, pst_grant_bits(key->op), " or ");
    pst_buf_lit(out, " on every ");
    pst_buf_put(out, key->entity);
    put_place(out, q);
    pst_buf_lit(out, " to a caller who holds no permission on a single one");
    put_roles(out, q, r);
    pst_buf_char(out, '.');
}

void pst_explain_remedy(const struct pst_question *q, const struct pst_eval_detail *d,
                        struct pst_buf *out)
{
    if (d->reason == PST_R_DENIED || (d->reason == PST_R_ATTRIBUTE && d->permission != 0))
        remedy_deny(out, q, d);
    else if (d->reason == PST_R_NOT_GRANTED || d->reason == PST_R_ATTRIBUTE)
        remedy_grant(out, q, d);
    else if (d->reason == PST_R_CONDITION)
        remedy_condition(out, q, d);
    else if (d->reason == PST_R_LEVEL_TOO_LOW)
        remedy_level(out, q, d);
    else if (d->reason == PST_R_NEEDS_LOOKUP || d->reason == PST_R_NEEDS_FILTER)
        remedy_lookup(out, q, d);
    else if (d->reason == PST_R_ADMIN_ONLY)
        pst_buf_lit(out, "Bind the caller everywhere to a role with OWNER on ALL.");
}

static void put_asked(struct pst_buf *out, const struct pst_question *q,
                      const struct pst_eval_detail *d)
{
    static const char *const KINDS[PST_ATTR_KINDS] = {"query key ", "payload key ", "attribute "};
    const struct pst_key *key = key_of(q, d);

    if (key == NULL)
        return;
    put_cstr(out, pst_op_name(d->op));
    pst_buf_lit(out, " on ");
    put_object(out, key);
    if (d->attribute.len > 0) {
        pst_buf_lit(out, ", ");
        put_cstr(out, KINDS[d->attribute_kind < PST_ATTR_KINDS ? d->attribute_kind : 0]);
        pst_buf_put(out, d->attribute);
    }
    pst_buf_lit(out, ": ");
}

void pst_explain_text(const struct pst_question *q, enum pst_verdict verdict,
                      const struct pst_eval_detail *d, struct pst_buf *out)
{
    put_cstr(out, verdict == PST_ALLOW ? "allow (" : "deny (");
    put_cstr(out, pst_reason_name(d->reason));
    pst_buf_lit(out, "): ");
    put_asked(out, q, d);
    put_cstr(out, pst_reason_text(d->reason));
    pst_buf_char(out, '\n');
    if (d->role != 0) {
        pst_buf_lit(out, "decided by ");
        put_role(out, q, d->role);
        pst_buf_lit(out, ", permission ");
        pst_buf_u64(out, d->permission);
        pst_buf_lit(out, ", binding ");
        pst_buf_u64(out, d->binding);
        if (d->bit != 0) {
            pst_buf_lit(out, ", bit ");
            put_bits(out, d->bit, "|");
        }
        pst_buf_char(out, '\n');
    }
    if (verdict == PST_ALLOW)
        return;
    size_t before = out->len;
    pst_explain_remedy(q, d, out);
    if (out->len == before)
        put_cstr(out, pst_reason_advice(d->reason));
    pst_buf_char(out, '\n');
}

/* ---- JSON ---- */

static void put_member(struct pst_buf *out, const char *key, struct pst_bytes value)
{
    pst_buf_lit(out, ",\"");
    put_cstr(out, key);
    pst_buf_lit(out, "\":");
    pst_buf_json(out, value);
}

static void put_number(struct pst_buf *out, const char *key, uint64_t value)
{
    pst_buf_lit(out, ",\"");
    put_cstr(out, key);
    pst_buf_lit(out, "\":");
    pst_buf_u64(out, value);
}

static struct pst_bytes cstr(const char *text)
{
    return pst_bytes_of(text, strlen(text));
}

static void json_requirement(struct pst_buf *out, const struct pst_question *q,
                             const struct pst_eval_detail *d)
{
    static const char *const KINDS[PST_ATTR_KINDS] = {"query", "write", "read"};
    const struct pst_key *key = key_of(q, d);

    if (requirement_of(q, d) == NULL)
        return;
    pst_buf_lit(out, ",\"requirement\":{\"index\":");
    pst_buf_u64(out, d->requirement);
    if (key != NULL) {
        put_number(out, "key", d->key);
        put_member(out, "entity", key->entity);
        if (key->id_state == PST_ID_KNOWN)
            put_member(out, "id", key->id);
        put_member(out, "operation", cstr(pst_op_name(d->op)));
    }
    if (d->attribute.len > 0) {
        put_member(out, "attribute", d->attribute);
        put_member(out, "kind",
                   cstr(KINDS[d->attribute_kind < PST_ATTR_KINDS ? d->attribute_kind : 0]));
    }
    pst_buf_char(out, '}');
}

static void json_cause(struct pst_buf *out, const struct pst_question *q,
                       const struct pst_eval_detail *d)
{
    const char *bit = pst_access_name(d->bit);

    if (d->role == 0)
        return;
    if (d->binding != 0)
        put_number(out, "binding", d->binding);
    pst_buf_lit(out, ",\"role\":{\"id\":");
    pst_buf_u64(out, d->role);
    put_member(out, "name", pst_policy_role_name(q->policy, d->role));
    pst_buf_char(out, '}');
    if (d->permission != 0)
        put_number(out, "permission", d->permission);
    if (bit != NULL)
        put_member(out, "bit", cstr(bit));
}

static void json_missing(struct pst_buf *out, uint64_t missing)
{
    if (missing == 0)
        return;
    pst_buf_lit(out, ",\"missing\":[");
    for (bool first = true; missing != 0; missing &= missing - 1, first = false) {
        const char *name = pst_access_name(pst_lowest_bit(missing));
        if (!first)
            pst_buf_char(out, ',');
        pst_buf_json(out, cstr(name == NULL ? "?" : name));
    }
    pst_buf_char(out, ']');
}

void pst_explain_json(const struct pst_question *q, enum pst_verdict verdict,
                      const struct pst_eval_detail *d, struct pst_buf *out)
{
    char space[1024];
    struct pst_buf remedy = pst_buf_of(space, sizeof(space));

    pst_buf_lit(out, "{\"decision\":");
    pst_buf_json(out, cstr(verdict == PST_ALLOW ? "allow" : "deny"));
    put_member(out, "reason", cstr(pst_reason_name(d->reason)));
    put_member(out, "text", cstr(pst_reason_text(d->reason)));
    json_requirement(out, q, d);
    json_cause(out, q, d);
    if (verdict != PST_ALLOW) {
        put_member(out, "advice", cstr(pst_reason_advice(d->reason)));
        json_missing(out, d->missing);
        pst_explain_remedy(q, d, &remedy);
        if (remedy.len > 0 && !remedy.full)
            put_member(out, "remedy", pst_buf_bytes(&remedy));
    }
    pst_buf_char(out, '}');
}
