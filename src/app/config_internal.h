/*
 * config_internal.h - between the parts of the configuration reader: one function a section.
 */
#ifndef POSTERN_APP_CONFIG_INTERNAL_H
#define POSTERN_APP_CONFIG_INTERNAL_H

#include "postern/app/config.h"

struct pst_config_reader {
    struct pst_config *config;
    struct pst_tree *tree;
    struct pst_error *error;
};

enum pst_status pst_config_environment(struct pst_tree *tree, struct pst_error *error);
enum pst_status pst_config_identity(struct pst_config_reader *r, const struct pst_node *map);
/* After the upstreams: mounts name them. */
enum pst_status pst_config_listeners(struct pst_config_reader *r, const struct pst_node *list);
enum pst_status pst_config_upstreams(struct pst_config_reader *r, const struct pst_node *map);

enum pst_status pst_config_sync(struct pst_config_reader *r, const struct pst_node *map);

/* The texts of a list; NULL node: none, *count stays. */
enum pst_status pst_config_texts(struct pst_config_reader *r, const struct pst_node *map,
                                 const char *key, const struct pst_bytes **out, uint32_t *count);
/* The networks of a list. */
enum pst_status pst_config_cidrs(struct pst_config_reader *r, const struct pst_node *map,
                                 const char *key, const struct pst_cidr **out, uint32_t *count);
/* Fails when `name` cannot be that of a field which Postern writes or reads; empty: there is none.
 */
enum pst_status pst_config_field(struct pst_config_reader *r, const struct pst_node *at,
                                 struct pst_bytes name);
/* u64 into a uint32_t. */
enum pst_status pst_config_u32(struct pst_config_reader *r, const struct pst_node *map,
                               const char *key, uint32_t min, uint32_t max, uint32_t *out);
/* count * size, cleared; an error of its own when memory is short. */
enum pst_status pst_config_array(struct pst_config_reader *r, size_t count, size_t size,
                                 void **out);

#endif
