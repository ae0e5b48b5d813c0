/* place.h - a folder of its own for a test's database, gone afterwards. */
#ifndef POSTERN_TESTS_UNIT_STORE_PLACE_H
#define POSTERN_TESTS_UNIT_STORE_PLACE_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "postern/store/change.h"
#include "postern/store/log.h"

struct place {
    char dir[64];
    char path[96];
    char url[128];
};

static inline struct pst_bytes text_of(const char *s)
{
    return pst_bytes_of(s, strlen(s));
}

static inline void place_make(struct place *p)
{
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/postern-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->path, sizeof(p->path), "%s/postern.db", p->dir);
    (void)snprintf(p->url, sizeof(p->url), "sqlite:///%s", p->path);
}

static inline void place_drop(const struct place *p)
{
    DIR *d = opendir(p->dir);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, e->d_name);
        (void)unlink(path);
    }
    closedir(d);
    assert_int_equal(rmdir(p->dir), 0);
}

static inline struct pst_store *place_open(const struct place *p, enum pst_store_mode mode)
{
    struct pst_store *store;
    struct pst_error error = {0};

    if (pst_store_open(text_of(p->url), mode, &store, &error) != PST_OK)
        fail_msg("open: %s %s", error.where, error.message);
    return store;
}

/* fails the test with the error's text */
#define MUST(call)                                                                                 \
    do {                                                                                           \
        struct pst_error why = {0};                                                                \
        enum pst_status must_ = (call);                                                            \
        if (must_ != PST_OK)                                                                       \
            fail_msg("%s: %s: %s", #call, pst_status_name(must_), why.message);                    \
    } while (0)

/* A user "name" with the identity (https://idp.test/, name). */
static inline uint64_t add_user(struct pst_change *c, const char *name)
{
    struct pst_row_user u = {.name = text_of(name)};
    MUST(pst_change_put_user(c, &u, &why));
    struct pst_row_identity i = {
        .user = u.id, .issuer = PST_LIT("https://idp.test/"), .subject = text_of(name)};
    MUST(pst_change_add_identity(c, &i, &why));
    return u.id;
}

static inline uint32_t add_workspace(struct pst_change *c, const char *name)
{
    struct pst_row_workspace w = {.name = text_of(name), .kind = PST_LIT("project")};
    MUST(pst_change_put_workspace(c, &w, &why));
    return w.id;
}

static inline uint32_t add_role(struct pst_change *c, const char *name, uint32_t workspace)
{
    struct pst_row_role r = {.name = text_of(name), .workspace = workspace};
    MUST(pst_change_put_role(c, &r, &why));
    return r.id;
}

static inline void add_permission(struct pst_change *c, uint32_t role, const char *entity,
                                  uint64_t access)
{
    struct pst_row_permission p = {.role = role,
                                   .scope = PST_LIT("global"),
                                   .entity = text_of(entity),
                                   .has_access = true,
                                   .access = access};
    MUST(pst_change_add_permission(c, &p, &why));
}

static inline uint64_t bind_role(struct pst_change *c, uint64_t user, uint32_t role,
                                 uint32_t workspace)
{
    struct pst_row_binding b = {.user = user, .role = role, .workspace = workspace};
    MUST(pst_change_add_binding(c, &b, &why));
    return b.id;
}

static inline struct pst_change *begin(struct pst_store *s)
{
    struct pst_change *c;
    MUST(pst_change_begin(s, PST_LIT("test"), &c, &why));
    return c;
}

static inline struct pst_revision commit(struct pst_change *c)
{
    struct pst_revision r;
    MUST(pst_change_commit(c, &r, &why));
    return r;
}

static inline struct pst_facts *facts_of(struct pst_store *s, const char *subject)
{
    struct pst_facts *facts;
    struct pst_revision r;
    struct pst_who who = {
        .kind = PST_WHO_SUBJECT, .issuer = PST_LIT("https://idp.test/"), .value = text_of(subject)};
    MUST(pst_store_load_facts(s, &who, &facts, &r, &why));
    return facts;
}

#endif
