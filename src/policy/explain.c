/*
 * Words for a detail: what was asked, what decided. What would change it is remedy.c's.
 */
#include "postern/policy/explain.h"

#include "words.h"

void pst_word(struct pst_buf *out, const char *text)
{
    pst_buf_put(out, pst_bytes_of(text, strlen(text)));
}

const struct pst_requirement *pst_word_requirement(const struct pst_question *q,
                                                   const struct pst_eval_detail *d)
{
    return d->requirement < q->requirement_count ? &q->requirements[d->requirement] : NULL;
}

const struct pst_key *pst_word_key(const struct pst_question *q, const struct pst_eval_detail *d)
{
    const struct pst_requirement *r = pst_word_requirement(q, d);

    return r != NULL && d->key < r->key_count && d->key < PST_KEYS_MAX ? &r->keys[d->key] : NULL;
}

/* Pipeline/p1, or all of Pipeline */
void pst_word_object(struct pst_buf *out, const struct pst_key *key)
{
    pst_buf_put(out, key->entity);
    if (key->id_state == PST_ID_KNOWN) {
        pst_buf_char(out, '/');
        pst_buf_put(out, key->id);
    } else if (key->id_state == PST_ID_UNKNOWN) {
        pst_buf_lit(out, "/(unknown)");
    }
}

void pst_word_role(struct pst_buf *out, const struct pst_question *q, uint32_t id)
{
    const struct pst_policy_role *role = pst_policy_find_role(q->policy, id);

    pst_buf_lit(out, "role \"");
    pst_buf_put(out, pst_policy_role_name(q->policy, id));
    pst_buf_char(out, '"');
    if (role == NULL || role->workspace == 0)
        return;
    pst_buf_lit(out, " of workspace ");
    pst_buf_put(out, pst_policy_workspace_name(q->policy, role->workspace));
}

bool pst_word_row(const struct pst_question *q, const struct pst_eval_detail *d,
                  struct pst_named_row *out)
{
    const struct pst_policy_role *role = pst_policy_find_role(q->policy, d->role);
    const struct pst_role_rules *r = role == NULL ? NULL : role->rules;

    for (uint32_t i = r == NULL ? 0 : r->direct_count; r != NULL && i < r->rule_count; i++) {
        const struct pst_rule *rule = &r->rules[i];
        if (rule->permission != d->permission)
            continue;
        const struct pst_rule_name *name = &r->entities[rule->entity].name;
        *out = (struct pst_named_row){.entity = pst_rules_text(r, name->at, name->len),
                                      .id = pst_rules_text(r, rule->id_at, rule->id_len),
                                      .has_id = (rule->word & PST_RULE_HAS_ID) != 0};
        return true;
    }
    return false;
}

void pst_word_permission(struct pst_buf *out, const struct pst_question *q,
                         const struct pst_eval_detail *d)
{
    struct pst_named_row row;

    pst_buf_lit(out, "permission ");
    pst_buf_u64(out, d->permission);
    if (!pst_word_row(q, d, &row))
        return;
    pst_buf_lit(out, " on ");
    pst_buf_put(out, row.entity);
    if (!row.has_id)
        return;
    pst_buf_char(out, '/');
    pst_buf_put(out, row.id);
}

/* Numbers tell two of a kind apart; names are what declarations hold. */
static void put_binding(struct pst_buf *out, const struct pst_question *q, uint64_t id)
{
    const struct pst_facts *facts = q->caller.facts;
    uint32_t i = 0, count = facts == NULL ? 0 : facts->binding_count;

    if (id == 0) {
        pst_buf_lit(out, ", by a group of the token");
        return;
    }
    pst_buf_lit(out, ", binding ");
    pst_buf_u64(out, id);
    while (i < count && facts->bindings[i].id != id)
        i++;
    if (i == count)
        return;
    pst_word(out, facts->bindings[i].workspace == 0 ? " everywhere" : " in workspace ");
    pst_buf_put(out, pst_policy_workspace_name(q->policy, facts->bindings[i].workspace));
}

void pst_word_bits(struct pst_buf *out, uint64_t bits, const char *between)
{
    for (bool first = true; bits != 0; bits &= bits - 1, first = false) {
        const char *name = pst_access_name(pst_lowest_bit(bits));
        if (!first)
            pst_word(out, between);
        pst_word(out, name == NULL ? "?" : name);
    }
}

void pst_word_place(struct pst_buf *out, const struct pst_question *q)
{
    struct pst_bytes name = pst_policy_workspace_name(q->policy, q->workspace);

    if (name.len == 0) {
        pst_buf_lit(out, " (bound everywhere)");
        return;
    }
    pst_buf_lit(out, " in workspace ");
    pst_buf_put(out, name);
}

static void put_asked(struct pst_buf *out, const struct pst_question *q,
                      const struct pst_eval_detail *d)
{
    static const char *const KINDS[PST_ATTR_KINDS] = {"query key ", "payload key ", "attribute "};
    const struct pst_key *key = pst_word_key(q, d);

    if (key == NULL)
        return;
    pst_word(out, pst_op_name(d->op));
    pst_buf_lit(out, " on ");
    pst_word_object(out, key);
    if (d->attribute.len > 0) {
        pst_buf_lit(out, ", ");
        pst_word(out, KINDS[d->attribute_kind < PST_ATTR_KINDS ? d->attribute_kind : 0]);
        pst_buf_put(out, d->attribute);
    }
    pst_buf_lit(out, ": ");
}

void pst_explain_text(const struct pst_question *q, enum pst_verdict verdict,
                      const struct pst_eval_detail *d, struct pst_buf *out)
{
    pst_word(out, verdict == PST_ALLOW ? "allow (" : "deny (");
    pst_word(out, pst_reason_name(d->reason));
    pst_buf_lit(out, "): ");
    put_asked(out, q, d);
    pst_word(out, pst_reason_text(d->reason));
    pst_buf_char(out, '\n');
    if (d->role != 0) {
        pst_buf_lit(out, "decided by ");
        pst_word_role(out, q, d->role);
        if (d->permission != 0) {
            pst_buf_lit(out, ", ");
            pst_word_permission(out, q, d);
        }
        put_binding(out, q, d->binding);
        if (d->bit != 0) {
            pst_buf_lit(out, ", bit ");
            pst_word_bits(out, d->bit, "|");
        }
        pst_buf_char(out, '\n');
    }
    if (verdict == PST_ALLOW)
        return;
    size_t before = out->len;
    pst_explain_remedy(q, d, out);
    if (out->len == before)
        pst_word(out, pst_reason_advice(d->reason));
    pst_buf_char(out, '\n');
}

/* ---- JSON ---- */

static void put_member(struct pst_buf *out, const char *key, struct pst_bytes value)
{
    pst_buf_lit(out, ",\"");
    pst_word(out, key);
    pst_buf_lit(out, "\":");
    pst_buf_json(out, value);
}

static void put_number(struct pst_buf *out, const char *key, uint64_t value)
{
    pst_buf_lit(out, ",\"");
    pst_word(out, key);
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
    const struct pst_key *key = pst_word_key(q, d);

    if (pst_word_requirement(q, d) == NULL)
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
    struct pst_named_row row;

    if (d->role == 0)
        return;
    const struct pst_policy_role *role = pst_policy_find_role(q->policy, d->role);
    if (d->binding != 0)
        put_number(out, "binding", d->binding);
    pst_buf_lit(out, ",\"role\":{\"id\":");
    pst_buf_u64(out, d->role);
    put_member(out, "name", pst_policy_role_name(q->policy, d->role));
    if (role != NULL && role->workspace != 0)
        put_member(out, "workspace", pst_policy_workspace_name(q->policy, role->workspace));
    pst_buf_char(out, '}');
    if (d->permission != 0)
        put_number(out, "permission", d->permission);
    if (d->permission != 0 && pst_word_row(q, d, &row)) {
        pst_buf_lit(out, ",\"on\":{\"entity\":");
        pst_buf_json(out, row.entity);
        if (row.has_id)
            put_member(out, "id", row.id);
        pst_buf_char(out, '}');
    }
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
    char space[4096];
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
