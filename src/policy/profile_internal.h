/*
 * profile_internal.h - what the parts of the profile share.
 *
 * compile:  profile_compile.c (file -> routes), profile_need.c (requirement texts -> templates),
 *           profile_trie.c (templates of paths -> trie).  Runs once, on the control thread.
 * match:    profile_trie.c, profile.c.  No allocation.
 * extract:  profile_extract.c (variables, workspace), profile_ask.c (variables -> requirements),
 *           profile_value.c (decoding and the forms of ids), profile_query.c, profile_json.c,
 *           profile_fold.c.  Memory from the caller's arena.
 */
#ifndef POSTERN_POLICY_PROFILE_INTERNAL_H
#define POSTERN_POLICY_PROFILE_INTERNAL_H

#include "postern/policy/profile.h"
#include "short.h"

#define PROFILE_CAPTURES   8u    /* path parameters of one route */
#define PROFILE_VARS       16u   /* variables of one route, captures included */
#define PROFILE_SEGMENTS   128u  /* of one path */
#define PROFILE_STEPS      4096u /* of one match, backtracking included */
#define PROFILE_VALUES     1000u /* of one variable that may hold many */
#define PROFILE_PIECES     4u    /* of one id: literal texts and variables */
#define PROFILE_JSON_STEPS 8u

enum profile_method {
    METHOD_GET = 0,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_PATCH,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHODS,
};

/* What an id must look like, and which spellings are one id. */
enum profile_form {
    FORM_NAME = 0,  /* not empty, no control characters */
    FORM_UUID,      /* spellings of a UUID become one; a UUID and anything more is refused */
    FORM_UUID_ONLY, /* the same, and anything else is refused */
    FORM_PATH,      /* no empty or dot segment, no backslash: a file system would fold it */
    FORM_ARTIFACT,  /* the same, and nothing that a second decoding or URL reading would change */
    FORM_INTEGER,   /* what looks like a number must be its canonical spelling */
    FORM_EXACT,     /* any text */
};

enum profile_place {
    PLACE_PATH = 0, /* a capture */
    PLACE_QUERY,
    PLACE_BODY,
    PLACE_PARAMS, /* GET and HEAD: query; else body */
    PLACE_HEADER,
    PLACE_LOOKUP, /* only the upstream knows it */
};

enum profile_missing {
    MISSING_REFUSE = 0, /* 400 */
    MISSING_SKIP,       /* requirements that name it fall away */
    MISSING_UNKNOWN,    /* asked as an id that only a look-up would tell */
    MISSING_ASK,        /* another requirement is asked instead */
};

struct profile_need;

struct profile_name { /* one spelling of a source */
    struct profile_name *next;
    struct pst_bytes text;                      /* query key, field name */
    struct pst_bytes steps[PROFILE_JSON_STEPS]; /* body path */
    bool walks[PROFILE_JSON_STEPS];             /* step ends in [] */
    uint32_t step_count;
};

struct profile_var {
    struct pst_bytes name;
    enum profile_place place;
    enum profile_form form;
    enum profile_missing missing;
    bool many;
    bool empty_absent; /* an empty value counts as none */
    bool lacking_refused; /* an element of its list without it is refused, whatever `missing` says */
    bool split;        /* path: each segment that is a UUID is a value */
    uint32_t capture;
    struct profile_name *names;
    const struct profile_name *own; /* its own name as a source: of captures that are compared */
    const struct profile_need *instead; /* MISSING_ASK */
};

/* Of a byte in a set of bytes, and (workspace names) of one that may be the first or the last. */
#define PROFILE_INSIDE 1u
#define PROFILE_EDGE   2u

struct profile_class {
    struct profile_class *next;
    struct pst_bytes name;
    uint8_t bytes[256];
};

struct profile_entity {
    struct profile_entity *next;
    struct pst_bytes name;
    struct pst_bytes resource; /* as the app writes it in URLs; empty: the name */
    struct pst_bytes payload;  /* key of the object in a body: the singular of the resource */
    struct pst_bytes as_child; /* that key where the app knows it by another name; empty: nowhere */
    /* query and payload keys that name the object in place of the id in the URL */
    struct pst_bytes *elsewhere;
    uint32_t elsewhere_count;
    struct pst_bytes not_under; /* parent below which the app means another entity */
    enum profile_form form;     /* of its ids, beyond the form of the variable */
    bool pipeline_self, pipeline_parent;
    /* read attributes of an answer by operation, from the level table */
    const struct pst_node
        *not_shown; /* while building: operation -> attributes that its answer lacks */
    const struct pst_bytes *read[PST_OPS];
    uint32_t read_count[PST_OPS];
};

struct profile_piece {     /* of an id */
    struct pst_bytes text; /* literal when var is PROFILE_VARS */
    uint32_t var;
    bool quoted;
};

struct profile_key {
    struct pst_bytes entity;
    struct pst_bytes or_entity;         /* empty: none */
    const struct profile_entity *known; /* of a literal entity; NULL: none */
    uint32_t entity_var;                /* PROFILE_VARS: literal */
    enum pst_id_state id_state;
    bool composed;       /* pieces tell the id */
    uint32_t piece_vars; /* bit of each variable of the pieces */
    uint32_t piece_count;
    struct profile_piece pieces[PROFILE_PIECES];
    enum pst_op op; /* PST_OP_NONE: that of the route */
};

struct profile_need {
    struct profile_need *next;
    enum pst_need need;
    enum pst_reason closed;
    bool or_next;
    uint32_t if_var;   /* PROFILE_VARS: always */
    uint32_t self_var; /* PROFILE_VARS: none */
    uint32_t many_var; /* of the group that begins here: the one that may have many values;
                        * PROFILE_VARS: none */
    /* Bits of the variables that must have a value, and of those that may also be unknown. */
    uint32_t present_vars, named_vars;
    uint32_t key_count;
    bool two_worlds; /* a key has two entities, and is not the only one */
    struct profile_key keys[PST_KEYS_MAX];
};

enum profile_body { BODY_STREAM = 0, BODY_REFUSE, BODY_INSPECT };
enum profile_preflight { PREFLIGHT_NONE = 0, PREFLIGHT_CORS, PREFLIGHT_ANY };
enum profile_scope { SCOPE_REQUIRED = 0, SCOPE_NONE };

struct profile_node;

struct pst_route {
    uint32_t line;
    enum pst_op op;
    enum pst_reason refuse; /* 0: not refused outright */
    enum profile_body body;
    enum profile_preflight preflight;
    enum profile_scope scope;
    bool is_public, shadow, attributes, compare;
    uint64_t inspect_limit, body_limit;
    uint64_t stream_grace_s, stale_allow_s;
    uint32_t accept; /* PST_ODD_* */
    uint32_t capture_count;
    uint32_t secret; /* 1 + the capture called {token}; 0: none */
    uint32_t var_count;
    uint32_t instead;         /* bits of the variables that another requirement may replace */
    struct profile_var *vars; /* room for PROFILE_VARS while building */
    uint32_t workspace_var;   /* PROFILE_VARS: none */
    uint32_t entity_var;      /* the capture that is folded to an entity; PROFILE_VARS: none */
    uint32_t parent_var;      /* the same of the parent */
    uint32_t parent_id_var;
    uint32_t pipeline_var; /* the pipeline that the object is part of; PROFILE_VARS: none */
    uint32_t one_of[2];    /* exactly one of two variables; PROFILE_VARS: no such rule */
    struct profile_need *needs;
    /* a path inside a value, with requirements of its own */
    const struct profile_node *inner;
    uint32_t inner_var;
};

/* A route that asks for more than a lease gives. */
struct profile_exempt {
    struct profile_exempt *next;
    struct pst_bytes name;
};

struct profile_branch { /* a parameter that fills a segment, or all of it up to a literal end */
    struct profile_branch *next;
    const struct profile_class *class;
    struct pst_bytes suffix;
    struct profile_node *node;
    bool any; /* neither class nor suffix: it takes every segment but an empty one */
};

struct profile_leaf {
    struct profile_leaf *next;
    struct pst_bytes literal;
    struct profile_node *node;
};

struct profile_node {
    struct profile_leaf *leaves; /* while building */
    struct profile_leaf **slots; /* open addressing, a power of two, at most half full */
    uint32_t slot_mask, leaf_count;
    struct profile_branch *branches;        /* the most special first */
    struct profile_node *tail;              /* one or more segments */
    const struct profile_class *tail_class; /* of which each of them is; NULL: any */
    bool choice; /* a segment may go on by more than one of these ways */
    struct pst_route *routes[METHODS];
    const struct pst_route *some; /* of them; they share what does not depend on the method */
    const char *allow;            /* NULL: no route ends here */
    struct pst_route *any; /* of inner paths: the one that ends here */
};

struct profile_workspace {
    struct pst_bytes *headers;
    uint32_t header_count;
    uint64_t header_lengths;      /* bit of each length, modulo 64 */
    struct pst_bytes host_suffix; /* empty: the host tells nothing */
    struct pst_bytes fallback;
    struct pst_bytes forward;
    uint8_t bytes[256]; /* of names */
    uint64_t min, max;
    struct pst_bytes *reserved;
    uint32_t reserved_count;
    bool off;
};

struct pst_profile {
    struct pst_arena arena;
    struct pst_bytes name;
    enum pst_combining combining;
    enum pst_error_form form;
    bool shadow;  /* every route, by configuration or by the file's default */
    bool shadows; /* some route */
    bool shadow_unmatched; /* what no route takes: the profile as a whole is in shadow mode */
    struct profile_exempt *exempt, **exempt_tail; /* as in the file */
    bool both_cases; /* snake_case and lowerCamelCase are one field of a body */
    bool traversal;  /* "../" in any query value is refused */
    bool json_only;  /* an inspected body must say that it is JSON */
    bool get_body;   /* GET and HEAD may have a body */
    bool closed;     /* unmatched: 403 to users, 404 to administrators, after identity */
    struct profile_workspace workspace;
    struct profile_class *classes;
    struct profile_entity *entities;
    struct profile_entity **entity_slots; /* by folded resource name */
    uint32_t entity_mask;
    struct pst_bytes *ignored; /* query keys that nobody checks */
    uint32_t ignored_count;
    struct profile_node *root;
};

/* ---- compile ---- */

struct profile_shape {
    struct profile_shape *next;
    struct pst_bytes name;
    const struct pst_node *node;
};

struct profile_builder {
    struct pst_profile *profile;
    const struct pst_tree *tree;
    struct pst_error *error;
    struct profile_shape *shapes;
    const struct pst_node *words; /* op words of this profile */
    const struct pst_node *inner; /* tables of inner paths */
    enum profile_form form;       /* of ids that do not say */
    bool head_as_get, compare;
};

/* What a route is made of, handed down from profile to group to route. */
struct profile_defaults {
    const struct pst_node *under; /* prefixes; NULL: none */
    const struct pst_node *operations;
    enum profile_preflight preflight;
    enum profile_scope scope;
    uint32_t accept;
    uint64_t body_limit;
    uint64_t inspect_limit;
    uint64_t stream_grace_s, stale_allow_s;
    bool shadow;
};
/* Compiles one element of a list of routes: a route, or a group. */
PST_MUST_USE enum pst_status profile_route_read(struct profile_builder *b,
                                                const struct pst_node *node,
                                                const struct profile_defaults *defaults);
/* Reads the keys that groups and routes share. */
PST_MUST_USE enum pst_status profile_defaults_read(struct profile_builder *b,
                                                   const struct pst_node *node,
                                                   struct profile_defaults *out);
PST_MUST_USE enum pst_status profile_form_read(struct profile_builder *b,
                                               const struct pst_node *map, const char *key,
                                               enum profile_form *out);
/* Fills the read attributes of one entity from the level table. */
PST_MUST_USE enum pst_status profile_levels_read(struct profile_builder *b,
                                                 const struct pst_tree *table,
                                                 struct profile_entity *entity);
/* ids, lookup, captures of a route. */
PST_MUST_USE enum pst_status profile_vars_read(struct profile_builder *b,
                                               const struct pst_node *node, struct pst_route *route,
                                               struct pst_bytes op_word);

/* Appends the templates of one requirement text (or shape) to *tail. `op_word` is what $op stands
 * for; may be empty. */
PST_MUST_USE enum pst_status profile_need_parse(struct profile_builder *b, struct pst_route *route,
                                                const struct pst_node *at, struct pst_bytes text,
                                                struct pst_bytes op_word,
                                                struct profile_need ***tail);
enum pst_op profile_word_op(const struct profile_builder *b, struct pst_bytes word);
/* PROFILE_VARS when the route has no such variable. */
uint32_t profile_var_of(const struct pst_route *route, struct pst_bytes name);

/* ---- trie ---- */

/* The node where `path` ends; names of its parameters become captures of `route`. */
PST_MUST_USE enum pst_status profile_trie_add(struct profile_builder *b, struct profile_node *root,
                                              const struct pst_node *at, struct pst_bytes path,
                                              struct pst_route *route, struct profile_node **out);
PST_MUST_USE enum pst_status profile_trie_seal(struct pst_arena *arena, struct profile_node *node);

/* The node where `path` ends, and its parameters. NULL: none, and captures say nothing. */
const struct profile_node *profile_trie_match(const struct profile_node *root,
                                              struct pst_bytes path,
                                              struct pst_span captures[PROFILE_CAPTURES]);

/* ---- values ---- */

/* Without a way out: a byte that is no member is rare, and a branch for each is not. */
static inline bool profile_all_inside(const uint8_t bytes[256], struct pst_bytes text)
{
    unsigned all = PROFILE_INSIDE;

    for (size_t i = 0; i < text.len; i++)
        all &= bytes[(unsigned char)text.ptr[i]];
    return all != 0;
}

uint32_t profile_hash(struct pst_bytes text);

/* Percent-decodes once ('+' is a blank when plus is set). PST_E_INVALID: a broken escape. */
PST_MUST_USE enum pst_status profile_decode(struct pst_arena *arena, struct pst_bytes text,
                                            bool plus, struct pst_bytes *out);
/* True when the id has that form and is in canonical form already; most are. False: profile_form_check
 * tells. */
bool profile_form_is(enum profile_form form, struct pst_bytes id);
/* 0, or the reason why the id is refused; *id becomes its canonical form. */
enum pst_reason profile_form_check(struct pst_arena *arena, enum profile_form form,
                                   struct pst_bytes *id, bool *fault);
enum profile_uuid { UUID_NO = 0, UUID_YES, UUID_AND_MORE };
/* canonical: 36 bytes, written when the answer is UUID_YES. */
enum profile_uuid profile_uuid_read(struct pst_bytes text, char canonical[36]);
/* Header names are equal when '_' and '.' are read as '-' and case is ignored. */
bool profile_field_equal(struct pst_bytes a, struct pst_bytes b);

/* ---- query ---- */

struct profile_pair {
    struct pst_bytes key;   /* decoded, without a closing [] */
    struct pst_bytes whole; /* decoded, as sent */
    struct pst_bytes value; /* decoded */
    bool doubtful;          /* next to a ';', where readers disagree */
};
struct profile_query {
    struct profile_pair *pairs;
    uint32_t count;
};
PST_MUST_USE enum pst_status profile_query_read(struct pst_arena *arena, struct pst_bytes query,
                                                struct profile_query *out);

/* ---- body ---- */

struct profile_json; /* a parsed document */
/* PST_E_INVALID: no JSON object, doubled keys; PST_E_LIMIT: too many values. To be closed with
 * profile_json_close. */
PST_MUST_USE enum pst_status profile_json_open(struct pst_bytes body, struct profile_json **out);
void profile_json_close(struct profile_json *json);

struct profile_values {
    struct pst_bytes *items;
    uint32_t count, capacity;
    bool lacks; /* beside them stands an element, or an empty text, that is none */
};
/* Appends what one name of the variable leads to. Returns 0 or a reason (AMBIGUOUS, BAD_ID,
 * BAD_REQUEST). */
enum pst_reason profile_json_get(const struct profile_json *json, const struct profile_var *var,
                                 const struct profile_name *name, bool both_cases,
                                 struct pst_arena *arena, struct profile_values *out, bool *fault);
/* The keys of each object whose own key folds to `folded` (profile_fold_name). PST_E_INVALID: such
 * a key leads to something else than an object. */
PST_MUST_USE enum pst_status profile_json_keys(const struct profile_json *json,
                                               struct pst_bytes folded, struct pst_arena *arena,
                                               struct profile_values *out);
PST_MUST_USE enum pst_status
profile_values_add(struct pst_arena *arena, struct profile_values *values, struct pst_bytes item);

/* ---- names ---- */

/* The entity that a path segment names, folded as Mage does; NULL: none. */
const struct profile_entity *profile_fold(const struct pst_profile *profile,
                                          struct pst_bytes segment);
/* Writes the folded form (lower case, singular, underscores as separators); false: too long, or
 * empty. */
bool profile_fold_name(struct pst_bytes segment, char *out, size_t capacity, size_t *length);
const struct profile_entity *profile_entity_of(const struct pst_profile *profile,
                                               struct pst_bytes name);

/* ---- extract ---- */

struct profile_bound { /* a variable with its values */
    struct profile_values values;
    struct pst_bytes one; /* room for the first of them, and mostly the only one */
};

struct profile_asking {
    const struct pst_profile *profile;
    const struct pst_route *route;
    const struct pst_routed *routed;
    const struct pst_request *request;
    struct pst_arena *arena;
    struct pst_extracted *out;
    struct profile_query query;
    struct profile_json *json;
    const struct profile_entity *entity, *parent; /* of a folded segment */
    bool disagree;                                /* an unread place names another id */
    bool escaped;                                 /* the path holds a '%' */
    uint32_t present, unknown; /* bits of the variables that have a value, or have one unseen */
    struct pst_requirement *requirements;
    uint32_t count, capacity;
    struct profile_bound vars[PROFILE_VARS]; /* those of the route are set; last, as all else is
                                              * cleared */
};

/* Sets out->refuse (and detail) and returns false. */
bool profile_refuse(struct profile_asking *ask, enum pst_reason reason, struct pst_bytes detail);
/* Requirements of a list of templates; false when refused. */
bool profile_ask_needs(struct profile_asking *ask, const struct pst_route *route,
                       const struct profile_need *needs);
/* Room for one more, with unset content; it counts once ask->count does. NULL: refused. */
struct pst_requirement *profile_ask_room(struct profile_asking *ask);
bool profile_ask_push(struct profile_asking *ask, const struct pst_requirement *requirement);
/* The form that ids of this entity have, whatever variable they came from; entity may be NULL. */
bool profile_ask_form(struct profile_asking *ask, const struct profile_entity *entity,
                      struct pst_bytes *id);
bool profile_ask_attributes(struct profile_asking *ask);

#endif
