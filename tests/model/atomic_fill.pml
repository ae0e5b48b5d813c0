/*
 * atomic_fill.pml - facts read from the database beside a model that follows the log.
 *
 * Promise    C4, C7: every decision is the one of a single revision, the one that the node has applied.
 * World      Revision 0: role R has permission p, user U is not bound to R. 1: R lost p, U is bound. 2: as 0 again.
 *            3: something else changed. No revision lets U do p. The node holds R in its model and reads U's binding when
 *            it needs it; a fact may be on its way for any time. The table of last touches is bounded: it may forget.
 */
/* variant: none       holds:   as designed: a fact read at r serves when r <= applied and nothing in (r, applied] touched it */
/* variant: -DNEWER    broken:  a fact newer than the model is used (r >= applied) */
/* variant: -DNOTOUCH  broken:  a fact of the past is used without asking what touched it since */
/* variant: -DFORGET   broken:  what the table forgot counts as never touched */
/* variant: -DPROBE=1  reached: a fact is used that was read before the revision that the node has applied */
/* variant: -DPROBE=2  reached: a fact waits for the log */
/* variant: -DPROBE=3  reached: a touched fact is read again */
#include "model.pmh"

#define LAST 3
#define HAS_P(n) (n != 1) /* what the database says at revision n */
#define BOUND(n) (n == 1)
#define LAST_TOUCH(n) (n > 2 -> 2 : n) /* of U's binding, up to revision n */

byte head, applied, touched;
bool fact_held, fact_bound, forgotten;
bool coming, coming_bound; /* a read on its way, and the revision that it saw */
byte coming_at;

#ifdef FORGET
#define TOUCHED (!forgotten && touched > coming_at)
#else
#define TOUCHED (forgotten || touched > coming_at)
#endif

active proctype Admin()
{
    do
    :: head < LAST -> head++
    :: head == LAST -> break
    od
}

active proctype Tail()
{
end:
    do
    :: atomic {
           head > applied ->
           if
           :: LAST_TOUCH(head) > applied -> fact_held = false; touched = LAST_TOUCH(head); forgotten = false
           :: else
           fi;
           applied = head
       }
    :: atomic { touched > 0 && !forgotten -> forgotten = true } /* evicted from the table */
    od
}

active proctype Fill()
{
end:
    do
    :: atomic { !fact_held && !coming -> coming = true; coming_bound = BOUND(head); coming_at = head }
    :: atomic { coming && coming_at > applied -> REACHED(2, true) }
    :: atomic {
#ifdef NEWER
           coming && coming_at >= applied ->
           fact_held = true; fact_bound = coming_bound;
#else
           coming && coming_at <= applied ->
           if
#ifndef NOTOUCH
           :: TOUCHED -> REACHED(3, true)
           :: !TOUCHED ->
#else
           ::
#endif
              fact_held = true; fact_bound = coming_bound; REACHED(1, coming_at < applied)
           fi;
#endif
           coming = false; coming_bound = false; coming_at = 0
       }
    od
}

active proctype Serve()
{
end:
    do
    :: atomic { fact_held -> assert(!(fact_bound && HAS_P(applied))); assert(fact_bound == BOUND(applied)) }
    od
}
