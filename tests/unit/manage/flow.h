/* flow.h - trees from text like {roles: [{name: a}]}, with lines; for tests below the YAML parser.
 */
#ifndef POSTERN_TESTS_UNIT_MANAGE_FLOW_H
#define POSTERN_TESTS_UNIT_MANAGE_FLOW_H

#include <stdlib.h>
#include <string.h>

#include "postern/base/tree.h"

struct flow {
    struct pst_tree *tree;
    const char *at;
    uint32_t line;
};

static inline void flow_blank(struct flow *f)
{
    for (; *f->at == ' ' || *f->at == '\n' || *f->at == ','; f->at++)
        f->line += *f->at == '\n';
}

static inline struct pst_bytes flow_word(struct flow *f, bool *quoted)
{
    *quoted = *f->at == '"';
    if (*quoted) {
        const char *start = ++f->at;
        while (*f->at != '"')
            f->at++;
        return pst_bytes_of(start, (size_t)(f->at++ - start));
    }
    size_t len = strcspn(f->at, ",:{}[] \n");
    f->at += len;
    return pst_bytes_of(f->at - len, len);
}

static inline void flow_value(struct flow *f, struct pst_node *parent, struct pst_bytes key)
{
    struct pst_bytes none = {.ptr = "", .len = 0};

    flow_blank(f);
    uint32_t line = f->line;
    if (*f->at == '{' || *f->at == '[') {
        bool map = *f->at++ == '{';
        struct pst_node *n =
            pst_tree_add(f->tree, parent, map ? PST_NODE_MAP : PST_NODE_LIST, key, none, line);
        assert_non_null(n);
        for (flow_blank(f); *f->at != '}' && *f->at != ']'; flow_blank(f)) {
            bool quoted;
            struct pst_bytes name = map ? flow_word(f, &quoted) : none;
            if (map) {
                assert_int_equal(*f->at, ':');
                f->at++;
            }
            flow_value(f, n, name);
        }
        f->at++;
        return;
    }
    bool quoted;
    struct pst_bytes text = flow_word(f, &quoted);
    bool null = !quoted && pst_bytes_equal(text, PST_LIT("null"));
    struct pst_node *n =
        pst_tree_add(f->tree, parent, null ? PST_NODE_NULL : PST_NODE_SCALAR, key, text, line);
    assert_non_null(n);
    n->quoted = quoted;
}

static inline void flow_parse(struct pst_tree *tree, const char *name, const char *text)
{
    struct flow f = {.tree = tree, .at = text, .line = 1};

    pst_tree_init(tree, pst_bytes_of(name, strlen(name)), (size_t)64 << 20);
    flow_value(&f, NULL, (struct pst_bytes){.ptr = "", .len = 0});
}

#endif
