/*
 * profile_decide.h - one request through canonicaliser, profile and evaluator, as the engine does
 * it, but without sockets, tokens and a store; for the suites of the shipped profiles.
 */
#ifndef POSTERN_TESTS_PROFILE_DECIDE_H
#define POSTERN_TESTS_PROFILE_DECIDE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/app/yaml.h"
#include "postern/http/target.h"
#include "postern/policy/eval.h"
#include "postern/policy/level.h"
#include "postern/policy/profile.h"

#define DECIDE_FIELDS 16

struct decide_request {
    const char *method, *target, *body; /* body NULL: none */
    struct pst_field fields[DECIDE_FIELDS];
    uint32_t field_count;
};

struct decide_world {
    struct pst_profile *profile;
    struct pst_levels *levels;
    const struct pst_policy *policy;
    struct pst_policy_settings settings;
    const struct pst_facts *facts; /* NULL: nobody is signed in */
    struct pst_arena arena;
};

struct decide_answer {
    bool forward;
    bool asked; /* somebody had to be known */
    enum pst_reason reason;
    unsigned status; /* of a refusal */
    struct pst_extracted extracted;
};

static inline void decide_die(const char *what, const char *detail)
{
    fprintf(stderr, "profile suite: %s: %s\n", what, detail);
    exit(2);
}

static inline struct pst_bytes decide_text(const char *text)
{
    return text == NULL ? pst_bytes_of("", 0) : pst_bytes_of(text, strlen(text));
}

static inline void decide_load(struct decide_world *w, const char *name,
                               const struct pst_profile_options *options)
{
    struct pst_tree tree, levels;
    struct pst_error error = {0};
    char path[512];

    snprintf(path, sizeof(path), "policies/profiles/%s.yaml", name);
    if (pst_yaml_load_file(path, &tree, &error) != PST_OK)
        decide_die(path, error.message);
    struct pst_bytes file = pst_profile_levels_file(&tree);
    if (file.len != 0) {
        snprintf(path, sizeof(path), "policies/profiles/%.*s", (int)file.len, file.ptr);
        if (pst_yaml_load_file(path, &levels, &error) != PST_OK ||
            pst_levels_load(&levels, &w->levels, &error) != PST_OK)
            decide_die(path, error.message);
        w->settings.levels = w->levels;
    }
    if (pst_profile_compile(&tree, file.len != 0 ? &levels : NULL, options, &w->profile, &error) !=
        PST_OK)
        decide_die(error.where, error.message);
    if (file.len != 0)
        pst_tree_fini(&levels);
    pst_tree_fini(&tree);
    pst_arena_init(&w->arena, 16384, 16u << 20);
}

static inline void decide_unload(struct decide_world *w)
{
    pst_profile_destroy(w->profile);
    pst_levels_free(w->levels);
    pst_arena_fini(&w->arena);
    *w = (struct decide_world){0};
}

static inline struct decide_answer decide_no(enum pst_reason reason, unsigned status, bool asked)
{
    return (struct decide_answer){.reason = reason, .status = status, .asked = asked};
}

static inline struct decide_answer decide_refused(const struct decide_world *w,
                                                  const struct pst_routed *routed, bool is_admin)
{
    unsigned status = pst_reason_status(routed->refuse);

    if (routed->refuse_after_identity && w->facts == NULL)
        return decide_no(PST_R_NO_CREDENTIAL, 401, true);
    if (routed->refuse == PST_R_ROUTE_CLOSED && routed->admin_sees_404 && is_admin)
        status = 404;
    return decide_no(routed->refuse, status, routed->refuse_after_identity);
}

static inline struct decide_answer decide_eval(struct decide_world *w, struct pst_question *q,
                                               struct decide_answer answer)
{
    struct pst_eval_detail detail;

    q->requirements = answer.extracted.requirements;
    q->requirement_count = answer.extracted.requirement_count;
    if (answer.extracted.workspace.len != 0) {
        q->workspace = pst_policy_workspace(w->policy, answer.extracted.workspace);
        if (q->workspace == 0 && !answer.extracted.workspace_optional) {
            answer.reason = PST_R_UNKNOWN_WORKSPACE;
            answer.status = pst_reason_status(answer.reason);
            return answer;
        }
    }
    answer.forward = pst_eval(q, &detail) == PST_ALLOW;
    answer.reason = detail.reason;
    answer.status = answer.forward ? 200 : pst_reason_status(detail.reason);
    return answer;
}

/* What the answer points to lives until the next call. */
static inline struct decide_answer decide(struct decide_world *w, const struct decide_request *r)
{
    static char space[16384];
    struct pst_target target;
    struct pst_fault fault;
    struct pst_routed routed;
    struct decide_answer answer = {.asked = true};
    struct pst_question q = {.policy = w->policy,
                             .settings = &w->settings,
                             .caller = {.facts = w->facts},
                             .combining = pst_profile_combining(w->profile)};

    pst_arena_reset(&w->arena);
    if (!pst_target_parse(pst_method_of(decide_text(r->method)), decide_text(r->target), NULL,
                          space, sizeof(space), &target, &fault))
        return decide_no(PST_R_BAD_TARGET, fault.status, false);
    struct pst_request request = {.method = decide_text(r->method),
                                  .host = PST_LIT("app.example"),
                                  .path = target.path,
                                  .query = target.query,
                                  .oddities = target.oddities,
                                  .fields = r->fields,
                                  .field_count = r->field_count,
                                  .has_body = r->body != NULL,
                                  .body_given = r->body != NULL,
                                  .body = decide_text(r->body)};
    pst_profile_route(w->profile, &request, &routed);
    if (routed.refuse != PST_R_INTERNAL)
        return decide_refused(w, &routed, w->facts != NULL && pst_eval_is_admin(&q));
    if (routed.is_public || routed.preflight)
        return (struct decide_answer){.forward = true, .reason = PST_R_PUBLIC, .status = 200};
    if (w->facts == NULL)
        return decide_no(PST_R_NO_CREDENTIAL, 401, true);
    pst_profile_extract(w->profile, &routed, &request, &w->arena, &answer.extracted);
    if (answer.extracted.refuse != PST_R_INTERNAL) {
        answer.reason = answer.extracted.refuse;
        answer.status = pst_reason_status(answer.reason);
        return answer;
    }
    return decide_eval(w, &q, answer);
}

#endif
