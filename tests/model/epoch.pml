/*
 * epoch.pml - a node that was away while the database went back and grew again.
 *
 * Promise    C8, C5: after a proving read nothing of another history is left in the node, neither rows nor facts; and a
 *            min-revision of the old epoch is refused (412) by all that know of the new one.
 * World      Four rows. At any time the database is restored to an older one and grows again with other content, with or
 *            without `db restored`, which starts a new epoch (it may also be run later). The node reads when it likes, so
 *            it may sleep through all of this. It holds the rows that it has applied and one fact, U's, which row 2
 *            touches; a read of the fact may be on its way for any time. A client keeps the revision of one write.
 * Limits     Without `db restored`, what is read between two proving reads may be of the new history, and tokens of the
 *            old one cannot be told apart: those two promises are asked only where it was run with the restore. A fact that
 *            waits for the log gives up long before a restore is done.
 *            The timeline is a third sign of another history; nothing here needs it.
 */
/* variant: none            holds:   as designed: epoch and stamp of row `applied` prove the history; else all is loaded anew */
/* variant: -DNUMBER        broken:  only the number is compared: regrown past `applied`, the log seems to go on */
/* variant: -DNOSTAMP       broken:  only epoch and number are compared: a restore that nobody told of is not seen */
/* variant: -DHEADSTAMP     broken:  the stamp is compared only where the head is the row that was applied */
/* variant: -DNOEPOCH       broken:  stamps alone: rows that both histories share prove nothing about a token of the old one */
/* variant: -DKEEPFACTS     broken:  facts outlive the change of the history */
/* variant: -DKEEPCOMING    broken:  a fact on its way outlives the change of the history */
/* variant: -DPATIENT       broken:  a fact waits for the log without an end, while a restore nobody told of takes its row away */
/* variant: -DTOKENNUMBER   broken:  a token is compared by its number alone */
/* variant: -DPROBE=1       reached: the log has grown past `applied` again with other content */
/* variant: -DPROBE=2       reached: a token of the old epoch meets a node that has applied its number */
/* variant: -DPROBE=3       reached: a history proves itself across a restore that took nothing away */
/* variant: -DPROBE=4       reached: a fact that was on its way is dropped with the history */
#include "model.pmh"

#define ROWS 4
#define U_ROW 2

byte head, written[ROWS + 1]; /* the database; which history wrote row n stands for its stamp and its content */
byte history = 1, epoch = 1;
bool told = true;             /* `db restored` was run with the restore, before anything was read or written */

byte applied, held[ROWS + 1], node_epoch = 1; /* the node */
byte touched;                 /* the last row that touched U's fact */
bool fact_held;
byte fact;
bool coming;
byte coming_fact, coming_at, coming_epoch;

byte token_n, token_epoch, token_written; /* 0: the client has none */

#define SAME_ROW (applied == 0 || (applied <= head && written[applied] == held[applied]))
#if defined(NUMBER)
#define PROVED (applied <= head)
#elif defined(NOSTAMP)
#define PROVED (node_epoch == epoch && applied <= head)
#elif defined(HEADSTAMP)
#define PROVED (node_epoch == epoch && applied <= head && (applied < head || SAME_ROW))
#elif defined(NOEPOCH)
#define PROVED SAME_ROW
#else
#define PROVED (node_epoch == epoch && SAME_ROW)
#endif

#ifdef TOKENNUMBER
#define GOOD_TOKEN (applied >= token_n)
#else
#define GOOD_TOKEN (node_epoch == token_epoch && applied >= token_n)
#endif

inline forget_coming()
{
    coming = false; coming_fact = 0; coming_at = 0; coming_epoch = 0
}

active proctype Database()
{
    byte n;

end:
    do
    :: atomic {
           head < ROWS ->
           head++;
           written[head] = history;
           if
           :: token_n == 0 -> token_n = head; token_epoch = epoch; token_written = history
           :: skip
           fi
       }
    :: atomic { /* restored to an older row, or to the same */
           history == 1 ->
#ifndef PATIENT
           if
           :: coming_at > applied -> forget_coming()
           :: else
           fi;
#endif
           do
           :: head > 0 -> written[head] = 0; head--
           :: break
           od;
           history = 2;
           if
           :: epoch++
           :: told = false
           fi
       }
    :: atomic { history == 2 && epoch == 1 -> epoch++ } /* `db restored`, late */
    od
}

inline take_rows()
{
    n = applied + 1;
    do
    :: n <= head ->
        held[n] = written[n];
        if
        :: n == U_ROW -> touched = n; fact_held = false; fact = 0
        :: else
        fi;
        n++
    :: else -> break
    od
}

inline load_anew()
{
    n = 1;
    do
    :: n <= ROWS -> held[n] = written[n]; n++
    :: else -> break
    od;
    touched = head; /* as good as: every fact was touched just now */
#ifndef KEEPFACTS
    fact_held = false; fact = 0;
#endif
#ifndef KEEPCOMING
    REACHED(4, coming);
    forget_coming()
#endif
}

active proctype Tail()
{
    byte n;

end:
    do
    :: atomic {
           REACHED(1, applied > 0 && applied < head && written[applied] != held[applied]);
           REACHED(3, history == 2 && applied > 0 && PROVED);
           if
           :: PROVED -> take_rows()
           :: else -> load_anew()
           fi;
           applied = head;
#ifndef NOEPOCH
           node_epoch = epoch;
#endif
           n = 1;
           do
           :: n <= applied -> assert(held[n] == written[n]); n++
           :: else -> break
           od;
           assert(!fact_held || fact == written[U_ROW]);
           n = 0
       }
    od
}

active proctype Fill()
{
end:
    do
    :: atomic {
           !fact_held && !coming ->
           coming = true; coming_fact = written[U_ROW]; coming_at = head; coming_epoch = epoch
       }
    :: atomic { /* of a newer epoch or revision: waits for the log */
           coming && coming_epoch <= node_epoch && coming_at <= applied ->
           if
           :: coming_epoch == node_epoch && touched <= coming_at -> fact_held = true; fact = coming_fact
           :: else /* to be read again */
           fi;
           forget_coming()
       }
    od
}

active proctype Decide()
{
end:
    do
    :: atomic { fact_held && told -> assert(fact == held[U_ROW]) } /* model and facts of one history */
    :: atomic { token_n > 0 && GOOD_TOKEN && told -> assert(held[token_n] == token_written) }
    :: atomic { token_n > 0 && token_epoch < node_epoch && applied >= token_n -> REACHED(2, true) }
    od
}
