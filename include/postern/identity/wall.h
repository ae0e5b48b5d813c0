/*
 * wall.h - the wall clock, held against being set back.
 *
 * Purpose  exp and nbf are wall-clock times. A clock that is set back by more than the leeway must
 * not bring expired tokens to life again, so the largest wall time seen goes on running (by the
 * boot clock, which nobody sets) until the wall has caught up or hold_s have passed.  Steps ahead
 * and small corrections are followed at once; so is the way back from a step ahead that is younger
 *          than an hour, because then the step was the error.
 *
 * Threads  None: one per worker.
 */
#ifndef POSTERN_IDENTITY_WALL_H
#define POSTERN_IDENTITY_WALL_H

#include <stdbool.h>
#include <stdint.h>

struct pst_wall {
    uint32_t leeway_s, hold_s; /* set by the owner; hold_s: the longest lifetime of a token */
    bool started_;
    int64_t offset_ns_;            /* wall - boot, as believed */
    int64_t earlier_ns_;           /* what was believed before the last step ahead */
    uint64_t ahead_since_ns_;      /* boot clock; when that was; 0: never */
    uint64_t distrusted_since_ns_; /* boot clock; 0: the wall is believed */
    uint64_t steps_back; /* times that the wall was set back: each one deserves an alarm */
};

/* Seconds since the epoch, never running back by more than the leeway. */
int64_t pst_wall_now_s(struct pst_wall *wall, uint64_t wall_ns, uint64_t boot_ns);

/* The same without a look at the wall; only after one. */
static inline int64_t pst_wall_believed_s(const struct pst_wall *wall, uint64_t boot_ns)
{
    return ((int64_t)boot_ns + wall->offset_ns_) / INT64_C(1000000000);
}

#endif
