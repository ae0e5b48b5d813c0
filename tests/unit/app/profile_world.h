/*
 * profile_world.h - a profile from a file or a text, and what it makes of a request, as one line.
 *
 * The line of a request is "REASON" when it is refused (with ":detail"), "public" or "preflight",
 * or the workspace and the requirements: "ws=blue; experiment:11 detail > run:* detail; ...". '>'
 * leads to the next key, '|' to an alternative, '*' is no id, '?' an unknown one.
 */
#ifndef POSTERN_TESTS_PROFILE_WORLD_H
#define POSTERN_TESTS_PROFILE_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/app/yaml.h"
#include "postern/policy/profile.h"

#define WORLD_FIELDS 8

struct world_ask {
    const char *method, *path, *query, *body, *host;
    struct pst_field fields[WORLD_FIELDS];
    uint32_t field_count;
    uint32_t oddities;
};

static inline struct pst_bytes world_text(const char *text)
{
    return text == NULL ? pst_bytes_of("", 0) : pst_bytes_of(text, strlen(text));
}

static inline struct pst_profile *world_load_text(const char *text,
                                                  const struct pst_profile_options *options,
                                                  struct pst_error *error)
{
    struct pst_tree tree;
    struct pst_profile *profile = NULL;

    if (pst_yaml_load_text(PST_LIT("test.yaml"), world_text(text), &tree, error) == PST_OK &&
        pst_profile_compile(&tree, NULL, options, &profile, error) != PST_OK)
        profile = NULL;
    pst_tree_fini(&tree);
    return profile;
}

static inline struct pst_profile *world_load_file(const char *folder, const char *name,
                                                  const struct pst_profile_options *options)
{
    struct pst_tree tree, levels = {0};
    struct pst_error error = {0};
    struct pst_profile *profile = NULL;
    char path[512];
    bool has_levels = false;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    enum pst_status status = pst_yaml_load_file(path, &tree, &error);
    if (status == PST_OK && pst_profile_levels_file(&tree).len != 0) {
        struct pst_bytes file = pst_profile_levels_file(&tree);
        (void)snprintf(path, sizeof(path), "%s/%.*s", folder, (int)file.len, file.ptr);
        has_levels = true;
        status = pst_yaml_load_file(path, &levels, &error);
    }
    if (status == PST_OK)
        status = pst_profile_compile(&tree, has_levels ? &levels : NULL, options, &profile, &error);
    if (status != PST_OK)
        fprintf(stderr, "%s: %s: %s\n", path, error.where, error.message);
    pst_tree_fini(&tree);
    if (has_levels)
        pst_tree_fini(&levels);
    return profile;
}

struct world_line {
    char text[8192];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void world_put(struct world_line *line,
                                                            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(line->text + line->n, sizeof(line->text) - line->n, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof(line->text) - line->n)
        line->n += (size_t)n;
}

static inline void world_put_key(struct world_line *line, const struct pst_key *key)
{
    world_put(line, "%.*s", (int)key->entity.len, key->entity.ptr);
    switch (key->id_state) {
    case PST_ID_NONE:
        break;
    case PST_ID_KNOWN:
        world_put(line, ":%.*s", (int)key->id.len, key->id.ptr);
        break;
    case PST_ID_UNKNOWN:
        world_put(line, ":?");
        break;
    }
    world_put(line, " %s", pst_op_name(key->op));
}

static inline void world_put_requirement(struct world_line *line, const struct pst_requirement *r)
{
    static const char *const needs[] = {"",
                                        "authenticated",
                                        "admin",
                                        "self",
                                        "workspace-admin",
                                        "workspace-use",
                                        "workspace-manage",
                                        "workspace-view",
                                        "closed"};

    if (r->need != PST_NEED_GRANT)
        world_put(line, "%s", needs[r->need]);
    if (r->self.len != 0)
        world_put(line, " %.*s", (int)r->self.len, r->self.ptr);
    if (r->closed != PST_R_INTERNAL)
        world_put(line, "%s<%s>", r->need == PST_NEED_GRANT ? "" : " ", pst_reason_name(r->closed));
    for (uint32_t i = 0; i < r->key_count; i++) {
        world_put(line, "%s", i == 0 ? "" : " > ");
        world_put_key(line, &r->keys[i]);
    }
    if (r->or_entity.len != 0)
        world_put(line, " ~%.*s", (int)r->or_entity.len, r->or_entity.ptr);
    if (r->pipeline.len != 0)
        world_put(line, " in %.*s", (int)r->pipeline.len, r->pipeline.ptr);
    for (unsigned k = 0; k < PST_ATTR_KINDS; k++) {
        for (uint32_t i = 0; i < r->attribute_count[k]; i++)
            world_put(line, "%s%.*s",
                      i == 0 ? (k == 0   ? " query["
                                : k == 1 ? " write["
                                         : " read[")
                             : ",",
                      (int)r->attributes[k][i].len, r->attributes[k][i].ptr);
        if (r->attribute_count[k] != 0)
            world_put(line, "]");
    }
}

static inline struct pst_request world_request(const struct world_ask *ask)
{
    return (struct pst_request){.method = world_text(ask->method),
                                .host = world_text(ask->host),
                                .path = world_text(ask->path),
                                .query = world_text(ask->query),
                                .oddities = ask->oddities,
                                .fields = ask->fields,
                                .field_count = ask->field_count,
                                .has_body = ask->body != NULL,
                                .body_given = ask->body != NULL,
                                .body = world_text(ask->body)};
}

/* The line of the request; borrowed until the next call. */
static inline const char *world_line_of(const struct pst_profile *profile,
                                        const struct world_ask *ask)
{
    static struct world_line line;
    struct pst_request request = world_request(ask);
    struct pst_routed routed;
    struct pst_extracted got;
    struct pst_arena arena;

    line = (struct world_line){0};
    pst_profile_route(profile, &request, &routed);
    if (routed.refuse != PST_R_INTERNAL) {
        world_put(&line, "%s", pst_reason_name(routed.refuse));
        if (routed.allow != NULL)
            world_put(&line, ":%s", routed.allow);
        return line.text;
    }
    if (routed.is_public || routed.preflight) {
        world_put(&line, "%s", routed.is_public ? "public" : "preflight");
        return line.text;
    }
    pst_arena_init(&arena, 4096, 1 << 22);
    pst_profile_extract(profile, &routed, &request, &arena, &got);
    if (got.refuse != PST_R_INTERNAL) {
        world_put(&line, "%s:%.*s", pst_reason_name(got.refuse), (int)got.detail.len,
                  got.detail.ptr);
    } else {
        world_put(&line, "ws=%.*s", (int)got.workspace.len, got.workspace.ptr);
        for (uint32_t i = 0; i < got.requirement_count; i++) {
            world_put(&line, "%s", i > 0 && got.requirements[i - 1].or_next ? " | " : "; ");
            world_put_requirement(&line, &got.requirements[i]);
        }
    }
    pst_arena_fini(&arena);
    return line.text;
}

#endif
