/*
 * clock.h - the two clocks.
 *
 * Leases, timeouts and durations use the boot-time clock, which cannot be set and counts suspended
 * time (rule C12); only exp, nbf and log lines use the wall clock.
 */
#ifndef POSTERN_BASE_CLOCK_H
#define POSTERN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define PST_NS_PER_S  UINT64_C(1000000000)
#define PST_NS_PER_MS UINT64_C(1000000)

static inline uint64_t pst_clock_ns_(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * PST_NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t pst_clock_boot_ns(void)
{
    return pst_clock_ns_(CLOCK_BOOTTIME);
}

static inline uint64_t pst_clock_wall_ns(void)
{
    return pst_clock_ns_(CLOCK_REALTIME);
}

#endif
