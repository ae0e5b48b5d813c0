/*
 * list.h - a doubly linked ring of nodes that live inside what they link.
 *
 * A node that is in no list points to itself, so that removing is always allowed and adding can
 * assert.  No allocation, no owner: whoever embeds the node removes it before it is freed.
 */
#ifndef POSTERN_LOOP_LIST_H
#define POSTERN_LOOP_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pst_list {
    struct pst_list *next, *prev;
};

/* The struct around a member: pst_container_of(node, struct conn, node). */
#define pst_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void pst_list_init(struct pst_list *l)
{
    l->next = l->prev = l;
}

static inline bool pst_list_empty(const struct pst_list *l)
{
    return l->next == l;
}

static inline void pst_list_remove(struct pst_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    pst_list_init(node);
}

static inline void pst_list_append(struct pst_list *head, struct pst_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void pst_list_prepend(struct pst_list *head, struct pst_list *node)
{
    pst_list_append(head->next, node);
}

/* All nodes of `from` move behind those of `to`; `from` is empty afterwards. */
static inline void pst_list_take(struct pst_list *to, struct pst_list *from)
{
    if (pst_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    pst_list_init(from);
}

#endif
