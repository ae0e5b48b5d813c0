/*
 * Decision vectors of Mage AI on the pure engine: suite_mage_decisions DIR.
 *
 * Each applicable vector is decided three times: with the user's roles bound everywhere, bound in
 * the workspace of the request, and bound in another one. The first two must give `expect`; in the
 * third nothing of the roles may be seen, so what the vector's roles alone allow must be refused
 * (G22).
 */
#include <inttypes.h>

#include "mage_vectors.h"

#define HERE  1
#define THERE 2

enum place { EVERYWHERE, SAME, OTHER };

static struct {
    char name[16];
    unsigned passed, failed;
} gaps[64];
static unsigned gap_count;

struct vector {
    const json_t *json, *request, *settings, *user;
    const char *id;
    struct pst_levels *levels;
    struct pst_policy *policy;
    uint32_t role_count;
    char digits[24];
    struct pst_bytes attributes[PST_ATTR_KINDS][MV_LIST_MAX];
};

static void add_workspaces(struct pst_model *model)
{
    const struct pst_workspace_row rows[] = {
        {.id = HERE, .name = PST_LIT("here"), .kind = PST_WORKSPACE_DEFAULT},
        {.id = THERE, .name = PST_LIT("there")},
    };

    for (size_t i = 0; i < 2; i++)
        if (pst_model_add_workspace(model, &rows[i]) != PST_OK)
            mv_die("workspace", "not accepted");
}

static void compile_roles(struct vector *v, const json_t *roles)
{
    struct pst_model model;
    struct pst_error error;

    pst_model_init(&model, 64u << 20);
    add_workspaces(&model);
    v->role_count = (uint32_t)json_array_size(roles);
    for (uint32_t i = 0; i < v->role_count; i++) {
        const json_t *role = json_array_get(roles, i);
        struct pst_role_row row = {.id = i + 1, .name = mv_text(json_object_get(role, "name"))};
        const json_t *grants = json_object_get(role, "permissions");
        const json_t *direct = json_object_get(role, "direct_permissions");
        if (pst_model_add_role(&model, &row) != PST_OK)
            mv_die("role", v->id);
        for (size_t k = 0; k < json_array_size(grants); k++)
            mv_permission(&model, row.id, false, json_array_get(grants, k), false);
        for (size_t k = 0; k < json_array_size(direct); k++)
            mv_permission(&model, row.id, true, json_array_get(direct, k), false);
    }
    if (pst_policy_compile(&model, &v->policy, &error) != PST_OK)
        mv_die(v->id, error.message);
    pst_model_fini(&model);
}

/* `cut`: the answer is cut down to these attributes, so no others are read. */
static uint32_t cut_down(struct pst_bytes *names, uint32_t count, const json_t *cut)
{
    uint32_t kept = 0;

    if (!json_is_array(cut))
        return count;
    for (uint32_t i = 0; i < count; i++)
        for (size_t k = 0; k < json_array_size(cut); k++)
            if (pst_bytes_equal(names[i], mv_text(json_array_get(cut, k)))) {
                names[kept++] = names[i];
                break;
            }
    return kept;
}

static struct pst_requirement requirement_of(struct vector *v)
{
    static const char *const KINDS[PST_ATTR_KINDS] = {
        [PST_ATTR_QUERY] = "query", [PST_ATTR_WRITE] = "write", [PST_ATTR_READ] = "read"};
    const json_t *id = json_object_get(v->request, "id");
    const json_t *cut = json_object_get(v->request, "cut");
    struct pst_requirement r = {.key_count = 1};

    r.keys[0].entity = mv_text(json_object_get(v->request, "entity"));
    r.keys[0].op = pst_op_of(mv_text(json_object_get(v->request, "operation")));
    if (id != NULL && !json_is_null(id)) {
        r.keys[0].id_state = PST_ID_KNOWN;
        r.keys[0].id = mv_id(id, v->digits);
    }
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        r.attributes[kind] = v->attributes[kind];
        r.attribute_count[kind] =
            mv_list(json_object_get(v->request, KINDS[kind]), v->attributes[kind]);
    }
    r.attribute_count[PST_ATTR_READ] =
        cut_down(v->attributes[PST_ATTR_READ], r.attribute_count[PST_ATTR_READ],
                 cut != NULL ? cut : json_object_get(v->json, "cut"));
    r.subtype = mv_text(json_object_get(v->request, "entity_type"));
    r.pipeline = mv_text(json_object_get(v->request, "pipeline_uuid"));
    return r;
}

static enum pst_verdict decide(struct vector *v, enum place place, struct pst_eval_detail *detail)
{
    struct pst_binding bindings[MV_ROLES_MAX];
    struct pst_facts facts = {.name = PST_LIT("subject"), .bindings = bindings};
    struct pst_requirement r = requirement_of(v);
    const json_t *s = v->settings;
    struct pst_policy_settings settings = {
        .authentication_off = !json_is_true(json_object_get(s, "require_user_authentication")),
        .permissions_off = !json_is_true(json_object_get(s, "require_user_permissions")),
        .notebook_edit =
            (uint8_t)json_integer_value(json_object_get(s, "disable_notebook_edit_access")),
        .project_uuid = mv_text(json_object_get(s, "project_uuid")),
        .levels = v->levels,
    };
    struct pst_question q = {.policy = v->policy,
                             .settings = &settings,
                             .workspace = HERE,
                             .requirements = &r,
                             .requirement_count = 1};

    if (!json_is_null(v->user)) {
        facts.user_id = (uint64_t)json_integer_value(json_object_get(v->user, "id"));
        facts.legacy_level = (uint32_t)json_integer_value(json_object_get(v->user, "legacy_roles"));
        if (json_is_true(json_object_get(v->user, "owner")))
            facts.legacy_level |= UINT32_C(1) << 31;
        facts.binding_count = v->role_count;
        q.caller.facts = &facts;
    }
    for (uint32_t i = 0; i < v->role_count; i++)
        bindings[i] = (struct pst_binding){.id = i + 1,
                                           .role = i + 1,
                                           .workspace = place == EVERYWHERE ? 0
                                                        : place == SAME     ? HERE
                                                                            : THERE};
    return pst_eval(&q, detail);
}

static bool check(struct vector *v, enum place place, const char *expect)
{
    struct pst_eval_detail detail;
    const char *got = decide(v, place, &detail) == PST_ALLOW ? "allow" : "deny";

    if (strcmp(got, expect) == 0)
        return true;
    printf("mage_cases.json: FAIL %s%s: expected %s, got %s (%s%s%.*s)\n", v->id,
           place == EVERYWHERE ? ""
           : place == SAME     ? " (in the workspace)"
                               : " (in another workspace)",
           expect, got, pst_reason_name(detail.reason), detail.attribute.len > 0 ? " of " : "",
           (int)detail.attribute.len, detail.attribute.len > 0 ? detail.attribute.ptr : "");
    return false;
}

/* What nobody's roles would get: the same vector with the roles out of sight. */
static const char *without_roles(struct vector *v)
{
    uint32_t count = v->role_count;
    struct pst_eval_detail detail;

    v->role_count = 0;
    const char *expect = decide(v, EVERYWHERE, &detail) == PST_ALLOW ? "allow" : "deny";
    v->role_count = count;
    return expect;
}

static void count_gap(const json_t *json, bool passed)
{
    const char *gap = json_string_value(json_object_get(json, "gap"));
    unsigned i = 0;

    if (gap == NULL)
        return;
    while (i < gap_count && strcmp(gaps[i].name, gap) != 0)
        i++;
    if (i == gap_count) {
        if (i == sizeof(gaps) / sizeof(gaps[0]))
            mv_die("gaps", "too many");
        snprintf(gaps[i].name, sizeof(gaps[i].name), "%s", gap);
        gap_count++;
    }
    if (passed)
        gaps[i].passed++;
    else
        gaps[i].failed++;
}

/* True when the vector is in a form that is not known here. */
static bool is_strange(struct tally *t, const json_t *json, const char *id)
{
    static const char *const VERDICTS[] = {"allow", "deny", NULL};
    const char *expect = tally_text(json, "expect"), *word;
    const json_t *op = json_object_get(json_object_get(json, "request"), "operation");
    const char *what = mv_strange_roles(json_object_get(json, "roles"), &word);

    if (what == NULL && !tally_among(expect, VERDICTS)) {
        what = "expect";
        word = expect;
    }
    if (what == NULL && pst_op_of(mv_text(op)) == PST_OP_NONE) {
        what = "operation";
        word = json_is_string(op) ? json_string_value(op) : "";
    }
    if (what != NULL)
        tally_strange(t, id, what, word);
    return what != NULL;
}

static void run(struct tally *t, const json_t *json, struct pst_levels *levels)
{
    struct vector v = {.json = json,
                       .levels = levels,
                       .request = json_object_get(json, "request"),
                       .settings = json_object_get(json, "settings"),
                       .user = json_object_get(json, "user"),
                       .id = tally_text(json, "id")};
    const char *expect = tally_text(json, "expect");

    if (json_object_get(v.request, "path") !=
        NULL) /* in the form of a request: the routing suite */
        return;
    if (mv_needs(t, json, v.id) || is_strange(t, json, v.id))
        return;
    compile_roles(&v, json_object_get(json, "roles"));
    bool ok = check(&v, EVERYWHERE, expect) && check(&v, SAME, expect) &&
              check(&v, OTHER, without_roles(&v));
    count_gap(json, ok);
    if (ok)
        t->passed++;
    else
        t->failed++;
    pst_policy_destroy(v.policy);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : TALLY_OWN;
    struct tally t = tally_of(dir, "mage_cases.json"), table = tally_of(dir, "mage_policies.json");
    struct pst_levels *levels = NULL;

    json_t *cases = tally_load(&t, dir, JSON_REJECT_DUPLICATES);
    json_t *policies = tally_load(&table, dir, JSON_REJECT_DUPLICATES);
    if (policies == NULL) /* the table belongs to the project, the cases to the folder */
        policies = tally_load(&table, TALLY_OWN, JSON_REJECT_DUPLICATES);
    if (policies == NULL)
        mv_die("mage_policies.json", "cannot be read");
    levels = mv_levels(policies);
    const json_t *vectors = json_object_get(cases, "vectors");
    for (size_t i = 0; i < json_array_size(vectors); i++)
        run(&t, json_array_get(vectors, i), levels);
    for (unsigned i = 0; i < gap_count; i++)
        printf("gap %s: %u closed as expected, %u not\n", gaps[i].name, gaps[i].passed,
               gaps[i].failed);
    tally_close(&t);
    tally_close(&table);
    printf("suite mage_decisions: %u passed, %u failed, %u not applicable\n", t.passed,
           t.failed + table.failed, t.skipped);
    pst_levels_free(levels);
    json_decref(cases);
    json_decref(policies);
    return t.failed + table.failed == 0 ? 0 : 1;
}
