#include "postern/policy/access.h"

#include "postern/policy/model.h"

/* One table for both directions. DISABLE_UNLESS_CONDITIONS is Mage's name of UNLESS_CONDITIONS. */
static const struct {
    const char *name;
    uint64_t bit;
} BITS[] = {
    {"OWNER", PST_A_OWNER},
    {"ADMIN", PST_A_ADMIN},
    {"EDITOR", PST_A_EDITOR},
    {"VIEWER", PST_A_VIEWER},
    {"LIST", PST_A_LIST},
    {"DETAIL", PST_A_DETAIL},
    {"CREATE", PST_A_CREATE},
    {"UPDATE", PST_A_UPDATE},
    {"DELETE", PST_A_DELETE},
    {"OPERATION_ALL", PST_A_OPERATION_ALL},
    {"QUERY", PST_A_QUERY},
    {"QUERY_ALL", PST_A_QUERY_ALL},
    {"READ", PST_A_READ},
    {"READ_ALL", PST_A_READ_ALL},
    {"WRITE", PST_A_WRITE},
    {"WRITE_ALL", PST_A_WRITE_ALL},
    {"ALL", PST_A_ALL},
    {"DISABLE_LIST", PST_A_DISABLE_LIST},
    {"DISABLE_DETAIL", PST_A_DISABLE_DETAIL},
    {"DISABLE_CREATE", PST_A_DISABLE_CREATE},
    {"DISABLE_UPDATE", PST_A_DISABLE_UPDATE},
    {"DISABLE_DELETE", PST_A_DISABLE_DELETE},
    {"DISABLE_OPERATION_ALL", PST_A_DISABLE_OPERATION_ALL},
    {"DISABLE_QUERY", PST_A_DISABLE_QUERY},
    {"DISABLE_QUERY_ALL", PST_A_DISABLE_QUERY_ALL},
    {"DISABLE_READ", PST_A_DISABLE_READ},
    {"DISABLE_READ_ALL", PST_A_DISABLE_READ_ALL},
    {"DISABLE_WRITE", PST_A_DISABLE_WRITE},
    {"DISABLE_WRITE_ALL", PST_A_DISABLE_WRITE_ALL},
    {"UNLESS_CONDITIONS", PST_A_UNLESS_CONDITIONS},
    {"DISABLE_UNLESS_CONDITIONS", PST_A_UNLESS_CONDITIONS},
    {"USE", PST_A_USE},
    {"MANAGE", PST_A_MANAGE},
    {"DISABLE_USE", PST_A_DISABLE_USE},
    {"DISABLE_MANAGE", PST_A_DISABLE_MANAGE},
    {"SPEAKS", PST_A_SPEAKS},
    {"ATTRIBUTES_ONLY", PST_A_ATTRIBUTES_ONLY},
};

static const char *const OPS[PST_OPS] = {
    [PST_OP_NONE] = "none",     [PST_OP_LIST] = "list",     [PST_OP_DETAIL] = "detail",
    [PST_OP_CREATE] = "create", [PST_OP_UPDATE] = "update", [PST_OP_DELETE] = "delete",
    [PST_OP_USE] = "use",       [PST_OP_MANAGE] = "manage", [PST_OP_NOT_DENIED] = "not_denied",
};

static const struct {
    const char *name;
    uint32_t bit;
} CONDITIONS[] = {
    {"HAS_NOTEBOOK_EDIT_ACCESS", PST_COND_NOTEBOOK_EDIT},
    {"HAS_PIPELINE_EDIT_ACCESS", PST_COND_PIPELINE_EDIT},
    {"USER_OWNS_ENTITY", PST_COND_OWNS_ENTITY},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool is_text(struct pst_bytes bytes, const char *text)
{
    return pst_bytes_equal(bytes, pst_bytes_of(text, strlen(text)));
}

const char *pst_op_name(enum pst_op op)
{
    return (unsigned)op < PST_OPS ? OPS[op] : OPS[PST_OP_NONE];
}

enum pst_op pst_op_of(struct pst_bytes name)
{
    for (unsigned op = PST_OP_NONE + 1; op < PST_OPS; op++)
        if (is_text(name, OPS[op]))
            return (enum pst_op)op;
    return PST_OP_NONE;
}

uint64_t pst_access_of(struct pst_bytes name)
{
    for (size_t i = 0; i < COUNT(BITS); i++)
        if (is_text(name, BITS[i].name))
            return BITS[i].bit;
    return 0;
}

const char *pst_access_name(uint64_t bit)
{
    for (size_t i = 0; i < COUNT(BITS); i++)
        if (BITS[i].bit == bit)
            return BITS[i].name;
    return NULL;
}

uint32_t pst_condition_of(struct pst_bytes name)
{
    for (size_t i = 0; i < COUNT(CONDITIONS); i++)
        if (is_text(name, CONDITIONS[i].name))
            return CONDITIONS[i].bit;
    return 0;
}

const char *pst_condition_name(uint32_t bit)
{
    for (size_t i = 0; i < COUNT(CONDITIONS); i++)
        if (CONDITIONS[i].bit == bit)
            return CONDITIONS[i].name;
    return "unknown";
}
