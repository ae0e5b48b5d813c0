/*
 * libyaml's event parser drives a small stack of open nodes.  A map's next event is a key when
 * `key` is unset; the value that follows takes it.  JSON is YAML but for one thing: it escapes a
 * character beyond the first plane as two halves, which libyaml refuses.
 */
#include "postern/app/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#define DEPTH_MAX 64

struct reader {
    struct pst_tree *tree;
    struct pst_error *error;
    struct pst_bytes text;
    yaml_parser_t parser;
    struct pst_node *open; /* the list or map that the next event belongs to */
    unsigned depth;
    bool has_key, done;
    struct pst_bytes key;
    uint32_t key_line;
};

static enum pst_status fail_at(struct reader *r, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum pst_status fail_at(struct reader *r, size_t line, const char *format, ...)
{
    char where[160], message[sizeof(((struct pst_error *)NULL)->message)];
    va_list args;

    (void)snprintf(where, sizeof(where), "%s:%zu", r->tree->name.ptr, line + 1);
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return pst_error_set(r->error, PST_E_INVALID, where, "%s", message);
}

static bool key_is_taken(const struct pst_node *map, struct pst_bytes key)
{
    for (const struct pst_node *n = map->first; n != NULL; n = n->next)
        if (pst_bytes_equal(n->key, key))
            return true;
    return false;
}

static enum pst_status take_key(struct reader *r, const yaml_event_t *e)
{
    struct pst_bytes key = pst_bytes_of(e->data.scalar.value, e->data.scalar.length);

    /* Documents have few keys per map; a map of thousands of keys is refused below by its size. */
    if (r->open->count >= 20000)
        return fail_at(r, e->start_mark.line, "a map of more than 20000 keys");
    if (memchr(key.ptr, '\0', key.len) != NULL)
        return fail_at(r, e->start_mark.line, "a key holds a NUL byte");
    if (key_is_taken(r->open, key))
        return fail_at(r, e->start_mark.line, "the key \"%s\" stands twice in one map", key.ptr);
    if (pst_arena_copy(&r->tree->arena, key, &r->key) != PST_OK)
        return fail_at(r, e->start_mark.line, "the document is too large");
    r->has_key = true;
    r->key_line = (uint32_t)e->start_mark.line + 1;
    return PST_OK;
}

static bool is_null(const yaml_event_t *e)
{
    struct pst_bytes v = pst_bytes_of(e->data.scalar.value, e->data.scalar.length);

    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (v.len == 0 || pst_bytes_equal(v, PST_LIT("~")) || pst_bytes_equal(v, PST_LIT("null")));
}

static enum pst_status add_node(struct reader *r, const yaml_event_t *e, enum pst_node_kind kind)
{
    struct pst_bytes text = {0};
    bool in_map = r->open != NULL && r->open->kind == PST_NODE_MAP;

    if (r->open == NULL && r->done)
        return fail_at(r, e->start_mark.line, "more than one document");
    if (kind == PST_NODE_SCALAR) {
        text = pst_bytes_of(e->data.scalar.value, e->data.scalar.length);
        if (memchr(text.ptr, '\0', text.len) != NULL)
            return fail_at(r, e->start_mark.line, "a value holds a NUL byte");
        if (is_null(e))
            kind = PST_NODE_NULL;
    }
    struct pst_node *n =
        pst_tree_add(r->tree, r->open, kind, in_map ? r->key : (struct pst_bytes){0}, text,
                     in_map ? r->key_line : (uint32_t)e->start_mark.line + 1);
    if (n == NULL)
        return fail_at(r, e->start_mark.line, "the document is too large");
    n->quoted = e->type == YAML_SCALAR_EVENT && e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    r->has_key = false;
    if (kind == PST_NODE_LIST || kind == PST_NODE_MAP) {
        if (++r->depth > DEPTH_MAX)
            return fail_at(r, e->start_mark.line, "nested more than 64 levels deep");
        r->open = n;
    } else if (r->open == NULL) {
        r->done = true;
    }
    return PST_OK;
}

static void close_node(struct reader *r)
{
    r->open = r->open->parent;
    r->depth--;
    if (r->open == NULL)
        r->done = true;
}

/* Whether an anchor or a tag stands before it. */
static bool is_marked(const yaml_event_t *e)
{
    if (e->type == YAML_SCALAR_EVENT)
        return e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL;
    if (e->type == YAML_SEQUENCE_START_EVENT)
        return e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL;
    return e->type == YAML_MAPPING_START_EVENT &&
           (e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL);
}

static enum pst_status on_event(struct reader *r, const yaml_event_t *e, bool *end)
{
    bool wants_key = r->open != NULL && r->open->kind == PST_NODE_MAP && !r->has_key;

    if (is_marked(e))
        return fail_at(r, e->start_mark.line, "anchors and tags are not accepted");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return wants_key ? take_key(r, e) : add_node(r, e, PST_NODE_SCALAR);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        if (wants_key)
            return fail_at(r, e->start_mark.line, "a key must be plain text");
        return add_node(r, e, e->type == YAML_MAPPING_START_EVENT ? PST_NODE_MAP : PST_NODE_LIST);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        close_node(r);
        return PST_OK;
    case YAML_ALIAS_EVENT:
        return fail_at(r, e->start_mark.line, "aliases are not accepted");
    case YAML_STREAM_END_EVENT:
        *end = true;
        return PST_OK;
    case YAML_DOCUMENT_START_EVENT:
        return r->done ? fail_at(r, e->start_mark.line, "more than one document") : PST_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return PST_OK;
    }
    return PST_OK;
}

/* A byte that is no text has an offset only; every other fault has its place. */
static size_t line_of_problem(const struct reader *r)
{
    size_t line = 0;

    if (r->parser.error != YAML_READER_ERROR)
        return r->parser.problem_mark.line;
    for (size_t i = 0; i < r->text.len && i < r->parser.problem_offset; i++)
        line += r->text.ptr[i] == '\n';
    return line;
}

static enum pst_status read_events(struct reader *r)
{
    bool end = false;
    enum pst_status status = PST_OK;

    while (!end && status == PST_OK) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event)) {
            const char *problem = r->parser.problem;
            return fail_at(r, line_of_problem(r), "%s",
                           problem == NULL ? "not readable as YAML" : problem);
        }
        status = on_event(r, &event, &end);
        yaml_event_delete(&event);
    }
    return status;
}

/* --- JSON's own escapes --- */

static bool hex4(const char *p, uint32_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 4; i++) {
        char c = p[i] >= 'A' && p[i] <= 'F' ? (char)(p[i] | 0x20) : p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *out = *out << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

/* A character that two escapes make, \ud83d\ude00, with a backslash at `at`; 0: none. */
static uint32_t halves_at(struct pst_bytes t, size_t at)
{
    const char *p = t.ptr + at;
    uint32_t high, low;

    if (t.len - at < 12 || p[1] != 'u' || p[6] != '\\' || p[7] != 'u' || !hex4(p + 2, &high) ||
        !hex4(p + 8, &low) || high >> 10 != 0xd800 >> 10 || low >> 10 != 0xdc00 >> 10)
        return 0;
    return 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff));
}

static bool has_halves(struct pst_bytes t)
{
    for (size_t i = pst_bytes_find(t, '\\'); i < t.len;
         i += t.ptr[i] == '\\' ? 2 : 1) /* what is escaped escapes nothing */
        if (t.ptr[i] == '\\' && halves_at(t, i) != 0)
            return true;
    return false;
}

/* In JSON every backslash stands between double quotes. */
static bool is_json(struct pst_bytes text)
{
    json_error_t error;
    json_t *json = json_loadb(text.ptr, text.len, 0, &error);

    json_decref(json);
    return json != NULL;
}

/* Writes such a character itself; lines stay where they are. */
static struct pst_bytes join_halves(struct pst_bytes t, char *room)
{
    size_t len = 0;

    for (size_t i = 0; i < t.len; i++) {
        uint32_t c = t.ptr[i] == '\\' ? halves_at(t, i) : 0;
        if (c != 0) {
            room[len++] = (char)(0xf0 | c >> 18);
            room[len++] = (char)(0x80 | (c >> 12 & 0x3f));
            room[len++] = (char)(0x80 | (c >> 6 & 0x3f));
            room[len++] = (char)(0x80 | (c & 0x3f));
            i += 11;
            continue;
        }
        room[len++] = t.ptr[i];
        if (t.ptr[i] == '\\' && i + 1 < t.len)
            room[len++] = t.ptr[++i];
    }
    return pst_bytes_of(room, len);
}

static enum pst_status load_text(struct pst_bytes name, struct pst_bytes text,
                                 struct pst_tree *tree, struct pst_error *error)
{
    struct reader r = {.tree = tree, .error = error, .text = text};

    /* A node costs about 200 bytes; short scalars dominate. */
    pst_tree_init(tree, name, text.len > (SIZE_MAX >> 8) ? SIZE_MAX : text.len * 128 + 65536);
    if (!yaml_parser_initialize(&r.parser))
        return pst_error_set(error, PST_E_NOMEM, name.ptr, "no memory");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.ptr, text.len);
    enum pst_status status = read_events(&r);
    yaml_parser_delete(&r.parser);
    if (status == PST_OK && tree->root == NULL &&
        pst_tree_add(tree, NULL, PST_NODE_MAP, (struct pst_bytes){0}, (struct pst_bytes){0}, 1) ==
            NULL)
        status = pst_error_set(error, PST_E_NOMEM, name.ptr, "no memory");
    return status;
}

enum pst_status pst_yaml_load_text(struct pst_bytes name, struct pst_bytes text,
                                   struct pst_tree *tree, struct pst_error *error)
{
    if (!has_halves(text) || !is_json(text))
        return load_text(name, text, tree, error);
    char *room = malloc(text.len);
    if (room == NULL) {
        *tree = (struct pst_tree){0};
        return pst_error_set(error, PST_E_NOMEM, name.ptr, "no memory");
    }
    enum pst_status status = load_text(name, join_halves(text, room), tree, error);
    free(room);
    return status;
}

static enum pst_status read_all(int fd, size_t size, const char *path, struct pst_bytes *out,
                                struct pst_error *error)
{
    char *data = malloc(size + 1);
    size_t len = 0;

    if (data == NULL)
        return pst_error_set(error, PST_E_NOMEM, path, "no memory for %zu bytes", size);
    while (len < size) {
        ssize_t n = read(fd, data + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    data[len] = '\0';
    *out = pst_bytes_of(data, len);
    return PST_OK;
}

enum pst_status pst_file_read(const char *path, uint64_t max, struct pst_bytes *out,
                              struct pst_error *error)
{
    struct stat st;

    *out = (struct pst_bytes){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pst_error_set(error, errno == ENOENT ? PST_E_ABSENT : PST_E_IO, path,
                             "cannot be opened: %s", strerror(errno));
    enum pst_status status;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = pst_error_set(error, PST_E_IO, path, "is no regular file");
    else if ((uint64_t)st.st_size > max)
        status = pst_error_set(error, PST_E_LIMIT, path, "is larger than %llu bytes",
                               (unsigned long long)max);
    else
        status = read_all(fd, (size_t)st.st_size, path, out, error);
    close(fd);
    return status;
}

enum pst_status pst_yaml_load_file(const char *path, struct pst_tree *tree, struct pst_error *error)
{
    struct pst_bytes text;
    enum pst_status status = pst_file_read(path, PST_YAML_FILE_MAX, &text, error);

    *tree = (struct pst_tree){0};
    if (status != PST_OK)
        return status;
    status = pst_yaml_load_text(pst_bytes_of(path, strlen(path)), text, tree, error);
    free((void *)(uintptr_t)text.ptr);
    return status;
}
