/*
 * log_reader.pml - a reader of the log that asks for "all rows after the last one" misses none.
 *
 * Promise    C8: rows become visible in the order of their numbers and without a gap; each committed row is delivered.
 * World      Three transactions that may come at once and may each roll back. A writer holds the row of the counter from
 *            before its first write until its commit is visible; a roll-back gives the number back. The reader takes
 *            all visible rows in one snapshot.
 */
/* variant: none        holds:   as designed: UPDATE log_head SET n = n + 1 comes first and is the lock */
/* variant: -DSEQUENCE  broken:  numbers from a sequence: a later one becomes visible first, and roll-backs leave gaps */
/* variant: -DEARLY     broken:  the lock is let go before the commit is visible (a session lock, an unlock by hand) */
/* variant: -DPROBE=1   reached: a row is delivered whose number was rolled back before */
/* variant: -DPROBE=2   reached: all three rows are delivered */
#include "model.pmh"

#define WRITERS 3

byte counter, applied;
bool locked, rolled_back[WRITERS + 1], visible[WRITERS + 1], delivered[WRITERS + 1];

proctype Writer()
{
    byte n;

#ifdef SEQUENCE
    atomic { counter++; n = counter }
#else
    atomic { !locked -> locked = true; counter++; n = counter }
#endif
#ifdef EARLY
    locked = false;
#endif
    if
    :: atomic { visible[n] = true; locked = false }
    :: atomic {
           rolled_back[n] = true;
#if !defined(SEQUENCE) && !defined(EARLY)
           counter = n - 1;
#endif
           locked = false
       }
    fi
}

proctype Reader()
{
    byte n;

end:
    do
    :: atomic {
           n = applied + 1;
           do
           :: n <= WRITERS ->
               if
               :: visible[n] ->
                   assert(n == applied + 1);
                   delivered[n] = true;
                   applied = n;
                   REACHED(1, rolled_back[n]);
                   REACHED(2, n == WRITERS)
               :: else
               fi;
               n++
           :: else -> break
           od;
           n = 0
       }
    :: atomic { /* what lies behind the reader will never be asked for again */
           (visible[1] && applied >= 1 && !delivered[1]) || (visible[2] && applied >= 2 && !delivered[2]) ->
           assert(false)
       }
    od
}

init
{
    atomic { run Writer(); run Writer(); run Writer(); run Reader() }
}
