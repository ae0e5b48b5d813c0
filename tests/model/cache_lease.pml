/*
 * cache_lease.pml - one node: what is in memory is served for no longer than B after it stopped being true.
 *
 * Promise    C1, C3, C12: an allow is never served more than B ticks after its revocation was acknowledged.
 * World      An administrator who revokes once. A log read that may dawdle between its three instants (sent, seen by the
 *            database, answered) or never be answered. A fill that may dawdle between its reading and its storing.
 *            Messages are not modelled: all they can do is to start a log read, and here one may start at any time.
 * Time       Ticks; a bound that holds for ticks with `<=` holds for instants with `<=`.
 */
/* variant: none         holds:   as designed */
/* variant: -DNOGUARD    broken:  a fill is stored although the log has overtaken it (C4) */
/* variant: -DNOLEASE    broken:  memory is served without asking how old the last proof is (C3) */
/* variant: -DREPLY      broken:  the lease counts from the answer, not from the sending */
/* variant: -DWALL       broken:  the lease runs on a clock that can be set back (C12) */
/* variant: -DLEASEFIRST broken:  the lease moves before what the read brought is applied */
/* variant: -DPROBE=1    reached: the guard drops a fill */
/* variant: -DPROBE=2    reached: a revoked allow is still served, within the bound */
/* variant: -DPROBE=3    reached: the lease runs out over a remembered allow */
#include "model.pmh"

#define B 1
#define END 5

byte now, wall;                        /* boot clock; wall clock */
byte head, revoked_at;                 /* the database: 1 row once the right is revoked */
byte applied, lease_start;             /* the node: log applied up to; instant of its last proof */
bool cached, cached_allow = false;

#ifdef WALL
#define CLOCK wall
#else
#define CLOCK now
#endif
#define LAPSED (CLOCK - lease_start > B)
#ifdef NOLEASE
#define SERVES_ALLOW (cached && cached_allow)
#else
#define SERVES_ALLOW (cached && cached_allow && !LAPSED)
#endif

active proctype Clock()
{
    do
    :: now < END -> atomic { now++; wall++ }
#ifdef WALL
    :: wall > 0 -> wall--
#endif
    :: now == END -> break
    od
}

active proctype Admin()
{
    atomic { revoked_at = now; head = 1 }
}

inline apply()
{
    if
    :: seen > applied -> cached = false; applied = seen
    :: else
    fi
}

active proctype Tail()
{
    byte sent, seen;

    do
    :: now < END ->
        sent = CLOCK;
        if
        :: seen = head;
#if defined(LEASEFIRST)
           lease_start = sent;
           atomic { apply(); sent = 0; seen = 0 }
#elif defined(REPLY)
           atomic { apply(); lease_start = CLOCK; sent = 0; seen = 0 }
#else
           atomic { apply(); lease_start = sent; sent = 0; seen = 0 }
#endif
        :: sent = 0 /* no answer */
        fi
    :: now == END -> break
    od
}

active proctype Fill()
{
    bool allow;
    byte read_at;

end:
    do
    :: atomic { now < END && !cached -> allow = (head == 0); read_at = head } /* one snapshot: value and revision */
#ifndef NOGUARD
end_early:
       applied >= read_at; /* news that the log has not brought yet waits for it */
#endif
       atomic {
           REACHED(1, read_at < applied);
           if
#ifdef NOGUARD
           :: cached = true; cached_allow = allow
#else
           :: read_at == applied -> cached = true; cached_allow = allow
           :: else /* overtaken: to be read again */
#endif
           fi;
           allow = false; read_at = 0
       }
    od
}

active proctype Serve()
{
end:
    do
    :: atomic {
           SERVES_ALLOW ->
           REACHED(2, head == 1);
           assert(head == 0 || now - revoked_at <= B)
       }
    :: atomic { cached && cached_allow && LAPSED -> REACHED(3, true) }
    od
}
