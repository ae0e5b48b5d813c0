#include "postern/app/policies.h"

#include <stdio.h>

#include "postern/app/yaml.h"

#define EMBEDDED(X)                                                                                \
    X(profile_rest, "profiles/rest.yaml")                                                          \
    X(profile_mage, "profiles/mage.yaml")                                                          \
    X(profile_mage_levels, "profiles/mage-levels.yaml")                                            \
    X(profile_mlflow, "profiles/mlflow.yaml")                                                      \
    X(role_levels, "roles/levels.yaml")                                                            \
    X(role_mage, "roles/mage.yaml")                                                                \
    X(role_mlflow, "roles/mlflow.yaml")                                                            \
    X(role_workspace, "roles/workspace.yaml")

/* Two symbols of embed.S a file: its first byte, and the NUL behind it plus one. */
#define DECLARE(symbol, name) extern const char pst_embed_##symbol[], pst_embed_##symbol##_end[];
EMBEDDED(DECLARE)

#define NAME(symbol, name) name,
static const char *const NAMES[] = {EMBEDDED(NAME) NULL};

const char *const *pst_policies_names(void)
{
    return NAMES;
}

struct pst_bytes pst_policies_embedded(struct pst_bytes name)
{
#define ENTRY(symbol, file) {file, pst_embed_##symbol, pst_embed_##symbol##_end},
    static const struct {
        const char *name, *first, *end;
    } FILES[] = {EMBEDDED(ENTRY)};

    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++)
        if (pst_bytes_equal(name, pst_bytes_of(FILES[i].name, strlen(FILES[i].name))))
            return pst_bytes_of(FILES[i].first, (size_t)(FILES[i].end - FILES[i].first) - 1);
    return (struct pst_bytes){0};
}

enum pst_status pst_policies_load(struct pst_bytes dir, struct pst_bytes name,
                                  struct pst_tree *tree, struct pst_error *error)
{
    char path[1024];

    *tree = (struct pst_tree){0};
    if (dir.len > 0) {
        int n = snprintf(path, sizeof(path), "%.*s/%.*s", (int)dir.len, dir.ptr, (int)name.len,
                         name.ptr);
        if (n < 0 || (size_t)n >= sizeof(path))
            return pst_error_set(error, PST_E_LIMIT, dir.ptr, "the path is too long");
        return pst_yaml_load_file(path, tree, error);
    }
    struct pst_bytes text = pst_policies_embedded(name);
    if (text.len == 0)
        return pst_error_set(error, PST_E_ABSENT, NULL, "there is no shipped policy file \"%.*s\"",
                             (int)name.len, name.ptr);
    return pst_yaml_load_text(name, text, tree, error);
}
