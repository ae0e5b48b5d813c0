/*
 * heartbeat_lease.pml - what a message may do.
 *
 * Promise    C11, C1: messages make a node faster and can do no harm: an allow ends B after its revocation at the latest,
 *            however late, often or seldom messages arrive.
 * World      A publisher reads the head and sends it; a message may be lost or may lie in a queue. The node takes a message
 *            as a reason to read the log, and nothing else.
 */
/* variant: none       holds:   as designed */
/* variant: -DRENEW    broken:  a heartbeat that brings nothing new renews the lease; a delayed stream of them never stops */
/* variant: -DADVANCE  broken:  a message moves `applied`: the rows in between are never read */
/* variant: -DPROBE=1  reached: a message tells of a row before the log read that brings it */
/* variant: -DPROBE=2  reached: an old heartbeat arrives after the revocation */
#include "model.pmh"

#define B 1
#define END 5

byte now, head, revoked_at;
byte applied, lease_start; /* the node; it remembers an allow until a row is applied */
bool allow = true;
chan heartbeat = [2] of { byte };

active proctype Clock()
{
    do
    :: now < END -> now++
    :: now == END -> break
    od
}

active proctype Admin()
{
    atomic { revoked_at = now; head = 1 }
}

active proctype Publisher()
{
    byte n;

    do
    :: now < END ->
        n = head;
        if
        :: nfull(heartbeat) -> heartbeat!n
        :: skip /* lost */
        fi;
        n = 0
    :: now == END -> break
    od
}

active proctype Listener()
{
    byte n;

end:
    do
    :: atomic {
           heartbeat?n ->
           REACHED(1, n > applied);
           REACHED(2, n < head);
#ifdef RENEW
           if
           :: n == applied -> lease_start = now
           :: else
           fi;
#endif
#ifdef ADVANCE
           if
           :: n > applied -> applied = n
           :: else
           fi;
#endif
           n = 0
       }
    od
}

active proctype Tail() /* reads at any time, so also when a message asks for it */
{
    byte sent, seen;

    do
    :: now < END ->
        sent = now;
        if
        :: seen = head;
           atomic {
               if
               :: seen > applied -> allow = false; applied = seen
               :: else
               fi;
               lease_start = sent; sent = 0; seen = 0
           }
        :: sent = 0
        fi
    :: now == END -> break
    od
}

active proctype Serve()
{
end:
    do
    :: atomic { allow && now - lease_start <= B -> assert(head == 0 || now - revoked_at <= B) }
    od
}
