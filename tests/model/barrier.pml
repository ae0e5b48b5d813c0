/*
 * barrier.pml - "revoke and wait until it is enforced".
 *
 * Promise    C9: once the barrier has returned, no node decides at the revision before.
 * World      One node at work, one that joins; each may leave at any time. A node registers and commits that before its
 *            first log read; it reports what it has applied; it stops deciding before it unregisters. The barrier lists the
 *            nodes after the commit was acknowledged, and returns when all of them have reported or B has passed.
 */
/* variant: none          holds:   as designed */
/* variant: -DREADFIRST   broken:  the node that joins reads the log before its registration is visible */
/* variant: -DOWNBOUND    broken:  a node runs with a larger B than the fleet */
/* variant: -DLEAVEEARLY  broken:  a node unregisters before it stops deciding */
/* variant: -DLISTEARLY   broken:  the barrier lists the nodes before the commit */
/* variant: -DCOUNTEARLY  broken:  the barrier counts B from before the commit */
/* variant: -DREPORTEARLY broken:  a node reports what it has read and not yet applied */
/* variant: -DPROBE=1     reached: the barrier returns before B, on the reports of two nodes */
/* variant: -DPROBE=2     reached: the barrier returns after B without a node's report */
/* variant: -DPROBE=3     reached: a node decides at the old revision while the barrier waits */
#include "model.pmh"

#define B 1
#ifdef OWNBOUND
#define NODE_B 2
#else
#define NODE_B B
#endif
#define END 4

byte now, head;
bool waiting, returned;                          /* the barrier */
bool registered[2], reported[2];                 /* the table of nodes; reported: applied the revision waited for */
bool leased[2], applied[2];
byte lease_start[2];

#define DECIDES(i) (leased[i] && now - lease_start[i] <= NODE_B)

active proctype Clock()
{
    do
    :: now < END -> now++
    :: now == END -> break
    od
}

proctype Node(bit i)
{
    byte sent;
    bool seen;

#ifndef READFIRST
    registered[i] = true;
#endif
    do
    :: now < END ->
        sent = now;
        seen = head;
#ifdef REPORTEARLY
        reported[i] = seen;
#endif
        atomic { applied[i] = seen; lease_start[i] = sent; leased[i] = true; sent = 0; seen = 0 }
#ifdef READFIRST
        registered[i] = true;
#endif
        reported[i] = applied[i]
#ifdef LEAVEEARLY
    :: leased[i] -> registered[i] = false; leased[i] = false; break
#else
    :: leased[i] -> leased[i] = false; registered[i] = false; break
#endif
    :: now == END -> break
    od
}

active proctype Barrier()
{
    byte since;
    bool listed[2];

#ifdef LISTEARLY
    atomic { listed[0] = registered[0]; listed[1] = registered[1] }
#endif
#ifdef COUNTEARLY
    since = now;
#endif
    head = 1;
#ifndef COUNTEARLY
    since = now; /* at the acknowledgement, which comes some time after the commit */
#endif
#ifndef LISTEARLY
    atomic { listed[0] = registered[0]; listed[1] = registered[1] }
#endif
    waiting = true;
    if
    :: atomic {
           (!listed[0] || reported[0]) && (!listed[1] || reported[1]) ->
           REACHED(1, listed[0] && listed[1] && now == since);
           returned = true
       }
    :: atomic {
           now - since > B ->
           REACHED(2, listed[0] && !reported[0]);
           returned = true
       }
    :: now == END
    fi
}

active proctype Watch()
{
end:
    do
    :: atomic { DECIDES(0) && !applied[0] && (returned || waiting) -> REACHED(3, !returned); assert(!returned) }
    :: atomic { DECIDES(1) && !applied[1] && returned -> assert(false) }
    od
}

init
{
    atomic { registered[0] = true; run Node(0); run Node(1) }
}
