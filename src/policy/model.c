/*
 * Rows are appended to plain arrays that double; texts go into one arena. An add that fails leaves
 * the counts as they were (bytes already copied stay in the arena until fini).
 */
#include "postern/policy/model.h"

#include <stdlib.h>

void pst_model_init(struct pst_model *model, size_t limit)
{
    *model = (struct pst_model){0};
    pst_arena_init(&model->arena_, 65536, limit);
}

void pst_model_fini(struct pst_model *model)
{
    free(model->workspaces);
    free(model->roles);
    free(model->permissions);
    free(model->gone);
    pst_arena_fini(&model->arena_);
    *model = (struct pst_model){0};
}

/* Room for one more element: the array, moved or not, or NULL. */
static void *grow(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return array;
    if (*cap > UINT32_MAX / 2)
        return NULL;
    uint32_t want = *cap == 0 ? 16 : *cap * 2;
    void *moved = reallocarray(array, want, size);
    if (moved != NULL)
        *cap = want;
    return moved;
}

/* The arena knows one failure only; which one it was does not matter to anybody. */
static enum pst_status keep(struct pst_model *model, struct pst_bytes *text)
{
    return text->len == 0 ? PST_OK : pst_arena_copy(&model->arena_, *text, text);
}

static enum pst_status check_name(struct pst_bytes name)
{
    if (name.len == 0)
        return PST_E_INVALID;
    return name.len > PST_ENTITY_MAX * 2 ? PST_E_LIMIT : PST_OK;
}

enum pst_status pst_model_add_workspace(struct pst_model *model,
                                        const struct pst_workspace_row *row)
{
    struct pst_workspace_row copy = *row;
    enum pst_status status = row->id == 0 ? PST_E_INVALID : check_name(row->name);

    if (status == PST_OK)
        status = keep(model, &copy.name);
    if (status == PST_OK)
        status = keep(model, &copy.organization);
    if (status != PST_OK)
        return status;
    void *moved =
        grow(model->workspaces, model->workspace_count, &model->workspace_cap_, sizeof(copy));
    if (moved == NULL)
        return PST_E_NOMEM;
    model->workspaces = moved;
    model->workspaces[model->workspace_count++] = copy;
    return PST_OK;
}

enum pst_status pst_model_add_role(struct pst_model *model, const struct pst_role_row *row)
{
    struct pst_role_row copy = *row;
    enum pst_status status = row->id == 0 ? PST_E_INVALID : check_name(row->name);

    if (status == PST_OK)
        status = keep(model, &copy.name);
    if (status != PST_OK)
        return status;
    void *moved = grow(model->roles, model->role_count, &model->role_cap_, sizeof(copy));
    if (moved == NULL)
        return PST_E_NOMEM;
    model->roles = moved;
    model->roles[model->role_count++] = copy;
    return PST_OK;
}

static enum pst_status check_permission(const struct pst_permission_row *row)
{
    if (row->id == 0 || row->id > UINT32_MAX || row->role == 0)
        return PST_E_INVALID;
    if (row->entity.len > PST_ENTITY_MAX || row->entity_type.len > PST_ENTITY_MAX ||
        row->entity_id.len > PST_ENTITY_ID_MAX)
        return PST_E_LIMIT;
    for (unsigned kind = 0; kind < PST_ATTR_KINDS; kind++) {
        if (row->attribute_count[kind] > PST_ATTRIBUTES_MAX)
            return PST_E_LIMIT;
        for (uint32_t i = 0; i < row->attribute_count[kind]; i++)
            if (row->attributes[kind][i].len > PST_ATTRIBUTE_MAX)
                return PST_E_LIMIT;
    }
    return PST_OK;
}

static enum pst_status keep_list(struct pst_model *model, struct pst_permission_row *row,
                                 unsigned kind)
{
    uint32_t count = row->attribute_count[kind];

    if (count == 0)
        return PST_OK;
    struct pst_bytes *names = pst_arena_array(&model->arena_, count, sizeof(*names));
    if (names == NULL)
        return PST_E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = row->attributes[kind][i];
        if (keep(model, &names[i]) != PST_OK)
            return PST_E_NOMEM;
    }
    row->attributes[kind] = names;
    return PST_OK;
}

/* Neighbouring rows mostly name one entity: its text is kept once. */
static enum pst_status keep_entity(struct pst_model *model, struct pst_bytes *entity)
{
    if (pst_bytes_equal(*entity, PST_LIT("*")))
        *entity = PST_LIT("ALL");
    if (model->permission_count > 0 &&
        pst_bytes_equal(*entity, model->permissions[model->permission_count - 1].entity)) {
        *entity = model->permissions[model->permission_count - 1].entity;
        return PST_OK;
    }
    return keep(model, entity);
}

static enum pst_status keep_permission(struct pst_model *model, struct pst_permission_row *row)
{
    if (row->has_entity_id && !row->direct && pst_bytes_equal(row->entity_id, PST_LIT("*"))) {
        row->has_entity_id = false;
        row->entity_id = (struct pst_bytes){0};
    }
    enum pst_status status = keep_entity(model, &row->entity);
    if (status == PST_OK)
        status = keep(model, &row->entity_id);
    if (status == PST_OK)
        status = keep(model, &row->entity_type);
    for (unsigned kind = 0; kind < PST_ATTR_KINDS && status == PST_OK; kind++)
        status = keep_list(model, row, kind);
    return status;
}

enum pst_status pst_model_add_permission(struct pst_model *model,
                                         const struct pst_permission_row *row)
{
    struct pst_permission_row copy = *row;
    enum pst_status status = check_permission(row);

    if (status == PST_OK)
        status = keep_permission(model, &copy);
    if (status != PST_OK)
        return status;
    void *moved =
        grow(model->permissions, model->permission_count, &model->permission_cap_, sizeof(copy));
    if (moved == NULL)
        return PST_E_NOMEM;
    model->permissions = moved;
    model->permissions[model->permission_count++] = copy;
    return PST_OK;
}

enum pst_status pst_model_add_gone(struct pst_model *model, uint32_t permission)
{
    void *moved = grow(model->gone, model->gone_count, &model->gone_cap_, sizeof(*model->gone));

    if (moved == NULL)
        return PST_E_NOMEM;
    model->gone = moved;
    model->gone[model->gone_count++] = permission;
    return PST_OK;
}
