/*
 * worker_lease.pml - from the control thread to the workers.
 *
 * Promise    C14, C1: a worker decides from its memory for no longer than B after a change, however long its messages lie
 *            in the mailbox. C7: model and facts of a decision are of one revision.
 * World      One change that touches the model and the one fact. The control thread reads the log and mails each
 *            worker one message: what to forget, the model, the lease. A worker handles it within one turn. Each worker reads
 *            facts for itself, and such a read may dawdle.
 */
/* variant: none             holds:   as designed */
/* variant: -DSHAREDLEASE    broken:  the lease is a word for all, moved when the message is sent and not when it is handled */
/* variant: -DLEASEMAIL      broken:  the lease comes in a message of its own, ahead of what is to be forgotten */
/* variant: -DSHAREDMODEL    broken:  a worker takes the model from where all see it, not from the message */
/* variant: -DSHAREDAPPLIED  broken:  a fact is judged by what the control thread has read, not by what the worker has handled */
/* variant: -DANSWERLEASE    broken:  the lease counts from the handling of the message */
/* variant: -DPROBE=1        reached: one worker has handled the change while another still decides without it */
/* variant: -DPROBE=2        reached: a lease runs out over a message that lies in the mailbox */
/* variant: -DPROBE=3        reached: a fact waits for the worker's message */
/* variant: -DPROBE=4        reached: a worker decides with the change */
#include "model.pmh"

#define B 1
#define END 4
#define NOTHING 255

byte now, head, changed_at;
chan mail[2] = [2] of { byte, byte };         /* applied up to, lease start; NOTHING: not in this message */
byte applied[2], model_at[2], lease_start[2]; /* the workers */
bool fact_held[2], coming[2];
byte fact_at[2], coming_at[2];
byte all_lease_start, all_model_at, all_applied; /* only where a rule is left out */

#ifdef SHAREDLEASE
#define LEASED(w) (now - all_lease_start <= B)
#else
#define LEASED(w) (now - lease_start[w] <= B)
#endif
#ifdef SHAREDMODEL
#define MODEL_AT(w) all_model_at
#else
#define MODEL_AT(w) model_at[w]
#endif
#ifdef SHAREDAPPLIED
#define APPLIED(w) all_applied
#else
#define APPLIED(w) applied[w]
#endif

active proctype Clock()
{
    do
    :: now < END -> now++
    :: now == END -> break
    od
}

active proctype Admin()
{
    atomic { changed_at = now; head = 1 }
}

inline tell(w)
{
#ifdef LEASEMAIL
    mail[w]!NOTHING,sent;
    mail[w]!read_at,NOTHING
#else
    mail[w]!read_at,sent
#endif
}

active proctype Control()
{
    byte sent, read_at;

end:
    do
    :: now < END ->
        sent = now;
        if
        :: read_at = head;
#ifdef SHAREDMODEL
           all_model_at = read_at;
#endif
#ifdef SHAREDAPPLIED
           all_applied = read_at;
#endif
end_full0: tell(0);
end_full1: tell(1);
#ifdef SHAREDLEASE
           all_lease_start = sent;
#endif
           atomic { sent = 0; read_at = 0 }
        :: sent = 0 /* no answer */
        fi
    od
}

proctype Worker(bit w)
{
    byte n, sent;

end:
    do
    :: atomic { /* one turn */
           mail[w]?n,sent ->
           if
           :: n != NOTHING && n > applied[w] ->
               fact_held[w] = false; fact_at[w] = 0; applied[w] = n; model_at[w] = n
           :: else
           fi;
           if
           :: sent != NOTHING ->
#ifdef ANSWERLEASE
               lease_start[w] = now
#else
               lease_start[w] = sent
#endif
           :: else
           fi;
           n = 0; sent = 0
       }
    :: atomic { LEASED(w) && !fact_held[w] && !coming[w] -> coming[w] = true; coming_at[w] = head }
    :: atomic { coming[w] && coming_at[w] > applied[w] -> REACHED(3, true) }
    :: atomic {
           coming[w] && coming_at[w] <= APPLIED(w) ->
           if
           :: coming_at[w] == APPLIED(w) -> fact_held[w] = true; fact_at[w] = coming_at[w]
           :: else /* touched since: to be read again */
           fi;
           coming[w] = false; coming_at[w] = 0
       }
    :: atomic {
           fact_held[w] && LEASED(w) ->
           assert(fact_at[w] == MODEL_AT(w));
           assert(fact_at[w] == head || now - changed_at <= B);
           REACHED(1, fact_at[w] < head && applied[1 - w] == head);
           REACHED(4, head == 1 && fact_at[w] == 1)
       }
    :: atomic { fact_held[w] && !LEASED(w) && nempty(mail[w]) -> REACHED(2, true) }
    od
}

init
{
    atomic { run Worker(0); run Worker(1) }
}
