/* kinds.h - set-up of a test that runs on every kind of database. */
#ifndef POSTERN_TESTS_UNIT_STORE_KINDS_H
#define POSTERN_TESTS_UNIT_STORE_KINDS_H

#include "place.h"

static inline int make_kind(void **state, enum place_kind kind)
{
    struct place *p = calloc(1, sizeof(*p));
    place_make_kind(p, kind);
    *state = p;
    return 0;
}

static inline int make_sqlite(void **state)
{
    return make_kind(state, PLACE_SQLITE);
}

static inline int make_postgres(void **state)
{
    return make_kind(state, PLACE_POSTGRES);
}

static inline int make_pgbouncer(void **state)
{
    return make_kind(state, PLACE_PGBOUNCER);
}

static inline int drop(void **state)
{
    place_drop(*state);
    free(*state);
    return 0;
}

#endif
