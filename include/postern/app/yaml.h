/*
 * yaml.h - YAML (and JSON, which is YAML) into a tree with line numbers.
 *
 * Strict where readers disagree: one document, no anchors and aliases, no tags, no duplicate keys,
 * keys are scalars, at most 64 levels deep.
 */
#ifndef POSTERN_APP_YAML_H
#define POSTERN_APP_YAML_H

#include "postern/base/tree.h"

#define PST_YAML_FILE_MAX (UINT64_C(64) << 20) /* bytes */

/* Fills *tree, which the caller gives to pst_tree_fini in any case. The error names file and line.
 */
PST_MUST_USE enum pst_status pst_yaml_load_text(struct pst_bytes name, struct pst_bytes text,
                                                struct pst_tree *tree, struct pst_error *error);
PST_MUST_USE enum pst_status pst_yaml_load_file(const char *path, struct pst_tree *tree,
                                                struct pst_error *error);

/* A whole file in malloc'ed memory, NUL-terminated beyond its length; free with free(). */
PST_MUST_USE enum pst_status pst_file_read(const char *path, uint64_t max, struct pst_bytes *out,
                                           struct pst_error *error);

#endif
