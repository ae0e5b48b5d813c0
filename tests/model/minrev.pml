/*
 * minrev.pml - two nodes, and a client that carries the revision which it has seen.
 *
 * Promise    C5, C8: no answer is older than the revision that the client brings, whichever node it asks; it may be a 503.
 *            C3, C14: a node whose lease has lapsed decides again only after a log read that was sent since, and with
 *            the rows of that read.
 * World      The client writes, or asks a node, and keeps the newest revision of all answers; others write too. Every
 *            row touches the one fact that is asked for. Leases lapse at any time (an idle node, a lost network). A read
 *            of the log or of the fact may dawdle; those who want the same share one.
 *            A request that is refused may be asked again, so waiting is not modelled but where it matters: a client that
 *            waits for a fact which is already on its way.
 */
/* variant: none         holds:   as designed */
/* variant: -DIGNORE     broken:  the token is ignored */
/* variant: -DHEARD      broken:  the token is compared with the head that a heartbeat told of, not with `applied` */
/* variant: -DCOALESCE   broken:  all who wait for a fact are served when it comes, also those who ask for more */
/* variant: -DLEASEFIRST broken:  the lease is given back before the rows of its read are applied */
/* variant: -DPROBE=1    reached: a node refuses, because the client has seen more than it has applied */
/* variant: -DPROBE=2    reached: a fact comes that is older than what one of those who wait asks for */
/* variant: -DPROBE=3    reached: a lapsed node wakes with rows that it had missed */
/* variant: -DPROBE=4    reached: the client has seen the last revision, and a node answers it */
#include "model.pmh"

#define LAST 2

byte head;                            /* the database */
byte token;                           /* the newest revision that the client has seen */
bool waiting;                         /* at node 0, for a fact that is on its way */

bool leased[2];                       /* the nodes */
byte applied[2], due[2];              /* due: the head when the read that gave the lease was sent */
bool reading[2], seen[2];             /* a log read on its way; the database has answered it */
byte sent_at[2], seen_at[2];
bool fact_held[2], filling[2];
byte fact_at[2], fill_at[2];
#ifdef HEARD
byte heard[2];
#endif

#if defined(IGNORE)
#define ENOUGH(i) true
#elif defined(HEARD)
#define ENOUGH(i) (heard[i] >= token)
#else
#define ENOUGH(i) (applied[i] >= token)
#endif

inline answer(i)
{
    assert(fact_at[i] >= token); /* monotonic for the client */
    assert(fact_at[i] >= due[i]); /* what was there when the lease began */
    REACHED(4, i == 1 && token == LAST);
    token = fact_at[i]
}

proctype Client()
{
end:
    do
    :: atomic { head < LAST -> head++; token = head }
    :: atomic { head < LAST -> head++ } /* somebody else's */
    :: atomic { leased[0] && fact_held[0] && ENOUGH(0) -> answer(0) }
    :: atomic { leased[1] && fact_held[1] && ENOUGH(1) -> answer(1) }
    :: atomic { leased[0] && applied[0] < token -> REACHED(1, true) }
    :: atomic { leased[0] && filling[0] -> waiting = true; !waiting }
    od
}

inline apply(i)
{
    if
    :: seen_at[i] > applied[i] -> applied[i] = seen_at[i]; fact_held[i] = false; fact_at[i] = 0
    :: else
    fi
}

inline give_lease(i)
{
    leased[i] = true; due[i] = sent_at[i]
}

inline end_read(i)
{
    reading[i] = false; seen[i] = false; sent_at[i] = 0; seen_at[i] = 0
}

proctype Log(bit i)
{
end:
    do
    :: atomic { leased[i] -> leased[i] = false; due[i] = 0 }
    :: atomic { !reading[i] -> reading[i] = true; sent_at[i] = head }
    :: atomic { reading[i] && !seen[i] -> seen[i] = true; seen_at[i] = head }
    :: reading[i] && seen[i] ->
#ifdef LEASEFIRST
        give_lease(i);
        atomic { apply(i); end_read(i) }
#else
        atomic { REACHED(3, !leased[i] && seen_at[i] > applied[i]); apply(i); give_lease(i); end_read(i) }
#endif
    :: atomic { reading[i] -> end_read(i) } /* no answer */
#ifdef HEARD
    :: heard[i] = head
#endif
    od
}

proctype Fact(bit i)
{
end:
    do
    :: atomic { !fact_held[i] && !filling[i] -> filling[i] = true; fill_at[i] = head }
    :: atomic {
           filling[i] && fill_at[i] <= applied[i] ->
           filling[i] = false;
           if
           :: fill_at[i] == applied[i] -> fact_held[i] = true; fact_at[i] = fill_at[i]
           :: else /* touched since */
           fi;
           fill_at[i] = 0;
           REACHED(2, i == 0 && waiting && fact_held[i] && fact_at[i] < token);
#ifdef COALESCE
           if
           :: i == 0 && waiting && leased[i] && fact_held[i] -> answer(i)
           :: else
           fi;
#endif
           waiting = waiting && i != 0 /* who waited asks again, with its token */
       }
    od
}

init
{
    atomic {
        run Client();
        run Log(0); run Fact(0);
        run Log(1); run Fact(1)
    }
}
