/*
 * policy test: golden cases in YAML, decided by the code that serves.
 *
 *   profile: rest                          # or config: postern.yaml, whose first deciding listener
 * is asked declare: [roles/mage.yaml, team.yaml]  # into an empty store of its own; shipped files
 * by name cases:
 *     - name: viewers do not write
 *       user: alice
 *       request: {method: POST, target: /w/blue/pipelines, headers: {X-Workspace: blue}, body:
 * '{"a": 1}'} expect: deny reason: not-granted                # optional
 */
#include "cli_check_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "postern/app/policies.h"
#include "postern/app/yaml.h"
#include "postern/manage/declare.h"

struct suite {
    const char *path;
    struct pst_tree tree;
    struct pst_arena arena;
    struct pst_config *config;
    struct pst_local *local;
    struct pst_bytes dir;         /* of the file, ending in '/' or empty */
    struct pst_cli_scratch state; /* of the store */
    struct pst_bytes url;
    uint32_t listener;
    uint32_t passed, failed;
    bool json;
};

static enum pst_status open_config(struct suite *s, struct pst_error *error)
{
    struct pst_bytes profile = PST_LIT("rest"), config = {0};
    enum pst_status status = pst_node_text(&s->tree, s->tree.root, "profile", &profile, error);

    if (status == PST_OK)
        status = pst_node_text(&s->tree, s->tree.root, "config", &config, error);
    if (status == PST_OK && config.len > 0 && pst_node_get(s->tree.root, "profile") != NULL)
        status = pst_node_fail(&s->tree, pst_node_get(s->tree.root, "profile"), error,
                               "the configuration names the profile: one of the two");
    if (status != PST_OK)
        return status;
    if (config.len > 0)
        status = pst_config_load(pst_arena_printf(&s->arena, "%.*s%.*s",
                                                  config.ptr[0] == '/' ? 0 : (int)s->dir.len,
                                                  s->dir.ptr, (int)config.len, config.ptr)
                                     .ptr,
                                 &s->config, error);
    else
        status = pst_config_load_text(
            pst_bytes_of(s->path, strlen(s->path)),
            pst_arena_printf(
                &s->arena,
                "state_dir: %s\nlisteners: [{kind: auth_request, address: '127.0.0.1:1', "
                "mounts: [{profile: %.*s}]}]\n",
                s->state.dir, (int)profile.len, profile.ptr),
            PST_LIT(""), &s->config, error);
    while (status == PST_OK && s->listener < s->config->listener_count &&
           s->config->listeners[s->listener].kind == PST_DOOR_OPS)
        s->listener++;
    if (status == PST_OK && s->listener == s->config->listener_count)
        status = pst_error_set(error, PST_E_INVALID, s->path,
                               "the configuration has no listener that decides");
    if (status != PST_OK)
        return status;
    /* What is tried out on a machine that serves, or on one that never will, leaves no state. */
    s->config->state_dir = pst_bytes_of(s->state.dir, strlen(s->state.dir));
    return pst_state_prepare(s->config, error);
}

static enum pst_status load_declaration(struct suite *s, struct pst_bytes name,
                                        struct pst_tree *tree, struct pst_error *error)
{
    struct pst_bytes path =
        pst_arena_printf(&s->arena, "%.*s%.*s", name.ptr[0] == '/' ? 0 : (int)s->dir.len,
                         s->dir.ptr, (int)name.len, name.ptr);
    enum pst_status status = pst_yaml_load_file(path.ptr, tree, error);

    if (status != PST_E_ABSENT || pst_policies_embedded(name).len == 0)
        return status;
    return pst_policies_load((struct pst_bytes){0}, name, tree, error);
}

static enum pst_status declare_one(struct suite *s, struct pst_store *store,
                                   const struct pst_presets *presets, struct pst_bytes name,
                                   struct pst_error *error)
{
    struct pst_tree tree = {0};
    const struct pst_tree *list[] = {&tree};
    const struct pst_apply_options options = {.actor = PST_LIT("policy test"), .presets = presets};
    struct pst_apply_report report = {0};
    enum pst_status status = load_declaration(s, name, &tree, error);

    if (status == PST_OK) {
        status = pst_apply(store, list, 1, &options, error, &report);
        pst_apply_report_fini(&report);
    }
    pst_tree_fini(&tree);
    return status;
}

static enum pst_status fill_store(struct suite *s, struct pst_error *error)
{
    const struct pst_node *list = pst_node_get(s->tree.root, "declare");
    struct pst_tree levels;
    struct pst_presets presets = {0};
    struct pst_store *store = NULL;
    uint32_t steps;

    if (list != NULL && list->kind != PST_NODE_LIST)
        return pst_node_fail(&s->tree, list, error, "expected a list of files");
    s->url = pst_arena_printf(&s->arena, "sqlite:///%s/postern.db", s->state.dir);
    enum pst_status status =
        pst_policies_load((struct pst_bytes){0}, PST_LIT("roles/levels.yaml"), &levels, error);
    if (status == PST_OK)
        status = pst_presets_load(&levels, &presets, error);
    pst_tree_fini(&levels);
    if (status == PST_OK)
        status = pst_store_open(s->url, PST_STORE_CREATE, &store, error);
    if (status == PST_OK)
        status = pst_store_migrate(store, &steps, error);
    for (const struct pst_node *n = list == NULL ? NULL : list->first;
         n != NULL && status == PST_OK; n = n->next)
        status = n->kind == PST_NODE_SCALAR
                     ? declare_one(s, store, &presets, n->text, error)
                     : pst_node_fail(&s->tree, n, error, "expected the name of a file");
    pst_store_close(store);
    pst_presets_fini(&presets);
    return status;
}

/* --- cases --- */

static enum pst_status read_request(struct suite *s, const struct pst_node *at,
                                    struct pst_arena *arena, struct pst_request *out,
                                    struct pst_check_refusal *refusal, struct pst_error *error)
{
    static const char *const KEYS[] = {"method", "target", "host", "headers",
                                       "body",   "token",  NULL};
    const struct pst_node *map = pst_node_get(at, "request"),
                          *headers = pst_node_get(map, "headers");
    struct pst_bytes lines[PST_CLI_REPEAT_MAX];
    struct pst_bytes mount = s->config->listeners[s->listener].mounts[0].host;
    struct pst_check_request in = {.method = PST_LIT("GET"), .lines = lines};

    in.host = pst_bytes_equal(mount, PST_LIT("*")) ? PST_LIT("localhost") : mount;
    enum pst_status status = map == NULL
                                 ? pst_node_fail(&s->tree, at, error, "a case needs a request")
                                 : pst_node_only(&s->tree, map, KEYS, error);
    struct pst_bytes *const texts[] = {&in.method, &in.target, &in.host, &in.body, &in.token};
    static const char *const NAMES[] = {"method", "target", "host", "body", "token"};
    for (size_t i = 0; i < 5 && status == PST_OK; i++)
        status = pst_node_text(&s->tree, map, NAMES[i], texts[i], error);
    if (status == PST_OK && in.target.len == 0)
        status = pst_node_fail(&s->tree, map, error, "a request needs a target");
    if (status == PST_OK && headers != NULL && headers->kind != PST_NODE_MAP)
        status = pst_node_fail(&s->tree, headers, error, "expected a map of names to values");
    for (const struct pst_node *n = headers == NULL ? NULL : headers->first;
         n != NULL && status == PST_OK; n = n->next) {
        if (n->kind != PST_NODE_SCALAR || in.line_count == PST_CLI_REPEAT_MAX)
            return pst_node_fail(&s->tree, n, error, "expected one value, and at most %d of them",
                                 PST_CLI_REPEAT_MAX);
        lines[in.line_count++] = pst_arena_printf(arena, "%.*s: %.*s", (int)n->key.len, n->key.ptr,
                                                  (int)n->text.len, n->text.ptr);
    }
    return status == PST_OK ? pst_check_parse(&in, arena, out, refusal, error) : status;
}

/* One case: what it is called, what is expected, what came and why. */
struct outcome {
    const struct pst_node *node;
    struct pst_bytes name, expected_reason; /* empty: any */
    bool expects_allow, allowed;
    const char *reason;
    struct pst_bytes why; /* lines for people */
};

static void report(struct suite *s, const struct outcome *o)
{
    static const char *const WORDS[] = {"deny", "allow"};
    bool good = o->allowed == o->expects_allow &&
                (o->expected_reason.len == 0 ||
                 pst_bytes_equal(o->expected_reason, pst_bytes_of(o->reason, strlen(o->reason))));
    struct pst_bytes why = o->why, line;

    if (good)
        s->passed++;
    else
        s->failed++;
    if (s->json) {
        (void)printf("%s{\"name\":", s->passed + s->failed > 1 ? "," : "");
        pst_cli_json(o->name);
        (void)fputs(",\"file\":", stdout);
        pst_cli_json(pst_bytes_of(s->path, strlen(s->path)));
        (void)printf(",\"line\":%u,\"passed\":%s,\"expected\":\"%s\",\"got\":\"%s\",\"reason\":"
                     "\"%s\",\"why\":",
                     o->node->line, good ? "true" : "false", WORDS[o->expects_allow],
                     WORDS[o->allowed], o->reason);
        pst_cli_json(o->why);
        (void)putchar('}');
        return;
    }
    if (good)
        return;
    (void)printf("FAIL %s:%u: %.*s: expected %s%s%.*s%s, got %s (%s)\n", s->path, o->node->line,
                 (int)o->name.len, o->name.ptr, WORDS[o->expects_allow],
                 o->expected_reason.len > 0 ? " (" : "", (int)o->expected_reason.len,
                 o->expected_reason.len > 0 ? o->expected_reason.ptr : "",
                 o->expected_reason.len > 0 ? ")" : "", WORDS[o->allowed], o->reason);
    while (why.len > 0) {
        size_t len = pst_bytes_find(why, '\n');
        line = pst_bytes_of(why.ptr, len);
        (void)printf("    %.*s\n", (int)line.len, line.ptr);
        why = pst_bytes_from(why, len < why.len ? len + 1 : len);
    }
}

/* A word that is none would fail for ever, or pass for the wrong reason once it is corrected. */
static bool is_reason(struct pst_bytes word)
{
    for (unsigned r = 0; r < PST_REASONS; r++) {
        const char *name = pst_reason_name((enum pst_reason)r);
        if (pst_bytes_equal(word, pst_bytes_of(name, strlen(name))))
            return true;
    }
    return false;
}

static enum pst_status read_case(struct suite *s, struct outcome *o, struct pst_bytes *user,
                                 struct pst_error *error)
{
    static const char *const KEYS[] = {"name", "user", "request", "expect", "reason", NULL};
    static const char *const VERDICTS[] = {"deny", "allow", NULL};
    unsigned expect = 2;

    enum pst_status status = pst_node_only(&s->tree, o->node, KEYS, error);
    if (status == PST_OK)
        status = pst_node_text(&s->tree, o->node, "name", &o->name, error);
    if (status == PST_OK)
        status = pst_node_text(&s->tree, o->node, "user", user, error);
    if (status == PST_OK)
        status = pst_node_text(&s->tree, o->node, "reason", &o->expected_reason, error);
    if (status == PST_OK && o->expected_reason.len > 0 && !is_reason(o->expected_reason))
        status = pst_node_fail(&s->tree, pst_node_get(o->node, "reason"), error,
                               "there is no reason \"%s\"", o->expected_reason.ptr);
    if (status == PST_OK)
        status = pst_node_enum(&s->tree, o->node, "expect", VERDICTS, &expect, error);
    if (status == PST_OK && expect == 2)
        status = pst_node_fail(&s->tree, o->node, error, "a case needs expect: allow or deny");
    o->expects_allow = expect == 1;
    return status;
}

static void decide_case(struct suite *s, struct outcome *o, const struct pst_request *request,
                        struct pst_bytes user, struct pst_arena *arena)
{
    enum { ROOM = 16384 };
    const struct pst_who who = {.kind = PST_WHO_NAME, .value = user};
    struct pst_buf why = pst_buf_of(pst_arena_alloc(arena, ROOM), ROOM);
    struct pst_decide d;

    pst_local_decide(s->local, s->listener, request, user.len > 0 ? &who : NULL, arena, &d);
    o->allowed = d.decision.verdict == PST_ALLOW;
    o->reason = pst_reason_name(d.decision.reason);
    if (why.data != NULL)
        pst_engine_explain(&d, false, &why);
    o->why = pst_buf_bytes(&why);
    report(s, o);
    pst_engine_end(&d);
}

static enum pst_status run_case(struct suite *s, const struct pst_node *n, struct pst_error *error)
{
    struct outcome o = {.node = n, .name = PST_LIT("(no name)")};
    struct pst_check_refusal refusal = {.status = 0};
    struct pst_bytes user = {0};
    struct pst_request request;
    struct pst_arena arena;

    pst_arena_init(&arena, 65536, 16u << 20);
    enum pst_status status = read_case(s, &o, &user, error);
    if (status == PST_OK)
        status = read_request(s, n, &arena, &request, &refusal, error);
    if (status == PST_OK && refusal.status == 0) {
        decide_case(s, &o, &request, user, &arena);
    } else if (status == PST_OK) { /* refused before any decision: that is a deny */
        o.reason = pst_reason_name(refusal.reason);
        o.why = pst_bytes_of(refusal.text, strlen(refusal.text));
        report(s, &o);
    }
    pst_arena_fini(&arena);
    return status;
}

static enum pst_status run_file(struct suite *s, struct pst_error *error)
{
    static const char *const KEYS[] = {"profile", "config", "declare", "cases", NULL};

    pst_arena_init(&s->arena, 65536, 64u << 20);
    s->dir = pst_bytes_of(s->path, strlen(s->path));
    while (s->dir.len > 0 && s->dir.ptr[s->dir.len - 1] != '/')
        s->dir.len--;
    enum pst_status status = pst_yaml_load_file(s->path, &s->tree, error);
    if (status == PST_OK)
        status = pst_node_only(&s->tree, s->tree.root, KEYS, error);
    if (status == PST_OK)
        status = pst_cli_scratch_make(&s->state, error);
    if (status == PST_OK)
        status = open_config(s, error);
    if (status == PST_OK)
        status = fill_store(s, error);
    if (status == PST_OK)
        status = pst_local_open(s->config, s->url, &s->local, error);
    const struct pst_node *cases = pst_node_get(s->tree.root, "cases");
    if (status == PST_OK && (cases == NULL || cases->kind != PST_NODE_LIST || cases->count == 0))
        status = pst_node_fail(&s->tree, cases == NULL ? s->tree.root : cases, error,
                               "there are no cases");
    for (const struct pst_node *n = status == PST_OK ? cases->first : NULL;
         n != NULL && status == PST_OK; n = n->next)
        status = run_case(s, n, error);
    pst_local_close(s->local);
    pst_config_free(s->config);
    pst_tree_fini(&s->tree);
    pst_cli_scratch_remove(&s->state);
    pst_arena_fini(&s->arena);
    return status;
}

static int run_policy(int argc, char **argv)
{
    const char *rest[PST_CLI_REPEAT_MAX];
    uint32_t rest_count = 0, passed = 0, failed = 0;
    bool json = false;
    const struct pst_option options[] = {{.name = "--json", .help = "as JSON", .flag = &json}, {0}};
    struct pst_error error = {0};
    enum pst_status status = PST_OK;
    int code = pst_cli_options(&pst_command_policy, options, argc, argv, rest, &rest_count);

    if (code >= 0)
        return code;
    if (rest_count < 2 || strcmp(rest[0], "test") != 0) {
        (void)fprintf(stderr,
                      "postern policy: expected test FILE ... (see postern policy --help)\n");
        return PST_EXIT_USAGE;
    }
    if (json)
        (void)printf("{\"cases\":[");
    for (uint32_t i = 1; i < rest_count && status == PST_OK; i++) {
        struct suite s = {.path = rest[i], .json = json, .passed = passed, .failed = failed};
        status = run_file(&s, &error);
        passed = s.passed;
        failed = s.failed;
    }
    if (!json) {
        (void)printf("%u passed, %u failed\n", passed, failed);
    } else {
        (void)printf("],\"passed\":%u,\"failed\":%u", passed, failed);
        if (status != PST_OK) {
            (void)fputs(",\"error\":", stdout);
            pst_cli_json_error(&error);
        }
        (void)puts("}");
    }
    if (status != PST_OK)
        return json ? PST_EXIT_FAILED : pst_cli_fail(false, &error);
    return failed == 0 ? PST_EXIT_YES : PST_EXIT_NO;
}

const struct pst_command pst_command_policy = {
    "policy", "Runs golden cases against a policy. Exit code 1 when one fails.",
    "test FILE ... [--json]", run_policy};
