/*
 * Two nodes, one channel at a time, one pair of pods: who may send under which label, and until when.
 *
 * What is modelled and what is not: docs/model.md. The protocol itself: docs/protocol.md.
 *
 * Node A runs pod X, node B runs pod Y. X is deleted once and its address given to another pod, so
 * there are two generations of it, 1 and 2. A dials. A connection is a queue each way; it delivers
 * in order, and what is in it when it breaks is lost from any point on, for each side on its own.
 * A connection that one side has given up may still be read by the other, beside the next one.
 *
 * A label is named by what it was granted for: {granter, connection, generation}. Nobody guesses
 * one: 40 random bits are for the tests. So `row[c]` stands for "the row with the label that was
 * granted on connection c", and a proof for the number of the connection it was made on.
 *
 * Switches make the protocol wrong in one place each; the verifier must then find an error:
 *   GRANT_EARLY    labels are granted before the peer's proof is there
 *   ANY_CHANNEL    a proof counts whatever connection it was made on, and provers keep theirs
 *   KEEP_ROW       a withdrawn pod's receive row stays
 *   STALE_ANSWER   an answer of the directory counts though newer news have come since
 *   PSK_IN_PLACE   a new connection makes keys for the epoch that is in use
 *   FORGET_EPOCH   a restarted agent does not ask its engine for the highest epoch
 *   OLD_FRAMES     frames of a connection that was replaced are still obeyed
 *   ASK_ONCE       a question lost with its connection is never asked again
 */

#ifndef FAULTS
#define FAULTS 2                        /* breaks and restarts in one run */
#endif
#define CONNS  (FAULTS + 1)             /* each fault costs one connection */
#define QUEUE  10

#define A 0
#define B 1
#define other(n) (1 - (n))
#define bit(g)   (1 << (g))             /* generations as a set */

mtype = { HELLO, OFFER, ACCEPT, READY, REQ, PROOF, NOPROOF, LABEL, REVOKE };

/* Where an agent is with the keys of its connection. */
#define NONE    0
#define GREETED 1                       /* its own HELLO is out, or B has A's too */
#define OFFERED 2
#define KEYED   3
#define USABLE  4

chan wire[2 * CONNS] = [QUEUE] of { mtype, byte, byte };
#define to(n, c) wire[((c) - 1) * 2 + (n)]

bit dead[CONNS + 1];                    /* by connection; 0 is no connection */
byte epoch[CONNS + 1];                  /* the epoch agreed on it */
byte conns = 0;
byte faults = FAULTS;

/* The directory. */
byte placed = 1;                        /* the generation of X that runs */
bit told_all = 0;                       /* both nodes have heard of the change */

typedef Slot { byte ep; byte psk };  /* psk: the connection it was derived from; 0: no keys */
typedef Rows { byte at[2] };            /* by slot: the connection whose label the row has */

typedef Node {
  /* memory of the agent; gone with it */
  byte conn;                            /* the connection in use */
  byte phase;
  byte highest;                         /* epoch */
  byte proven;                          /* generations of the remote pod proven on this connection */
  byte asked;                           /* generations asked for on it */
  byte permit;                          /* generations that the peer's label is here for */
  byte pending;                         /* a question that waits for the directory: generation */
  byte answer;                          /* 0 none, 1 placed, 2 not placed */
  byte knows;                           /* the generation of X that this agent believes in */
  /* the kernel and the engine; they outlive the agent */
  Slot slot[2];
  Rows recv[3];                         /* by generation */
  byte send[3];                         /* by generation: the connection whose label is used */
  /* the news of the directory, until they are read */
  bit news
};
Node node[2];

byte hello_live[CONNS + 1];             /* what A said in HELLO, kept by B */
byte kept = 0;                          /* the proof that came with B's pending question */

/* Scratch of the step that runs. */
hidden byte e, live;

/* What really happened, for the assertions; no agent reads it. */
byte verified_x[CONNS + 1];             /* generations that B verified a proof of, on it */
bit verified_y[CONNS + 1];
byte granted_a[CONNS + 1];              /* generations that A granted a label for, on it */
byte granted_b[CONNS + 1];
bit withdrawn[2];                       /* the node has read that generation 1 is gone */

#define slot_of(e) ((e) % 2)
#define uses(n, c) (node[n].recv[1].at[slot_of(epoch[c])] == (c) || \
                    node[n].recv[2].at[slot_of(epoch[c])] == (c) || \
                    node[n].send[1] == (c) || node[n].send[2] == (c))

/* ------------------------------------------------------------------ what must hold ---------- */

/* A node may send under a label: then the receiver granted it, for this pair, in this epoch; both
   proofs were verified on the very channel that it was granted on and its keys come from. */
#define by(n, g)   node[n].send[g]
#define key(n, k)  node[n].slot[slot_of(epoch[k])]
#define agreement(n, g) \
  (by(n, g) == 0 || \
   ((verified_x[by(n, g)] & bit(g)) && verified_y[by(n, g)] && \
    ((n == A -> granted_b[by(n, g)] : granted_a[by(n, g)]) & bit(g)) && \
    key(n, by(n, g)).psk == by(n, g) && key(n, by(n, g)).ep == epoch[by(n, g)]))

/* A receive row stands: then the speaker was proven on the channel of the slot's keys. */
#define spoken_for(n, g, t) \
  (node[n].recv[g].at[t] == 0 || \
   ((n == A -> verified_y[node[n].recv[g].at[t]] : verified_x[node[n].recv[g].at[t]] & bit(g)) && \
    node[n].slot[t].psk == node[n].recv[g].at[t]))

/* A node that has read of a pod's end neither believes nor answers it any more. */
#define no_use_after_withdrawal(n) \
  (!withdrawn[n] || (node[n].recv[1].at[0] == 0 && node[n].recv[1].at[1] == 0 && node[n].send[1] == 0))

/* One number of an epoch never names two keys. */
#define one_key(t) \
  (node[A].slot[t].psk == 0 || node[B].slot[t].psk == 0 || \
   node[A].slot[t].ep != node[B].slot[t].ep || node[A].slot[t].psk == node[B].slot[t].psk)

inline check(n) {
  d_step {
    assert(agreement(n, 1)); assert(agreement(n, 2));
    assert(spoken_for(n, 1, 0) && spoken_for(n, 1, 1));
    assert(spoken_for(n, 2, 0) && spoken_for(n, 2, 1));
    assert(no_use_after_withdrawal(n));
    assert(one_key(0) && one_key(1));
    forget(1);
#if CONNS > 1
    forget(2);
#endif
#if CONNS > 2
    forget(3)
#endif
  }
}

#define kept_by(n, k) (uses(n, k) || node[n].slot[0].psk == (k) || node[n].slot[1].psk == (k))
/* What nobody can come back to is the same whatever it was. */
inline forget(k) {
  if
  :: dead[k] && node[A].conn != k && node[B].conn != k && !kept_by(A, k) && !kept_by(B, k) ->
     epoch[k] = 0; hello_live[k] = 0;
     verified_x[k] = 0; verified_y[k] = 0; granted_a[k] = 0; granted_b[k] = 0
  :: else
  fi
}
/* ------------------------------------------------------------------ steps of an agent ------- */

inline say(n, what, x, y) {
  if
  :: dead[node[n].conn] || node[n].conn == 0
  :: else ->
     assert(nfull(to(other(n), node[n].conn)));
     to(other(n), node[n].conn) ! what, x, y
  fi
}

/* Keys of a slot go, and before them the rows that need them. */
inline vacate(n, s_) {
  node[n].recv[1].at[s_] = 0;
  node[n].recv[2].at[s_] = 0;
  if :: node[n].send[1] && node[n].send[1] == node[n].slot[s_].psk -> node[n].send[1] = 0 :: else fi;
  if :: node[n].send[2] && node[n].send[2] == node[n].slot[s_].psk -> node[n].send[2] = 0 :: else fi;
  node[n].slot[s_].ep = 0;
  node[n].slot[s_].psk = 0
}

/* The connection is given up: what it had not finished is of no use. */
inline hang_up(n) {
  if
  :: node[n].phase == KEYED -> vacate(n, slot_of(epoch[node[n].conn]))
  :: else
  fi;
  node[n].conn = 0; node[n].phase = NONE;
#ifndef ASK_ONCE
  node[n].asked = 0;
#endif
  node[n].proven = 0; node[n].permit = 0; node[n].pending = 0; node[n].answer = 0
}

/* The newest epoch that rows use. */
#define used(n, k) (uses(n, k) -> epoch[k] : 0)
inline newer(n, k, out) { if :: used(n, k) > out -> out = epoch[k] :: else fi }
inline live_epoch(n, out) {
  out = 0;
  newer(n, 1, out);
#if CONNS > 1
  newer(n, 2, out);
#endif
#if CONNS > 2
  newer(n, 3, out)
#endif
}

inline greet(n) {
  live_epoch(n, live);
  say(n, HELLO, node[n].highest, live);
  live = 0
}

/* The lowest epoch above all that either remembers, not in the slot of the newest in use. */
inline offer(last, theirs) {
  live_epoch(A, live);
  if :: theirs > live -> live = theirs :: else fi;
#ifdef PSK_IN_PLACE
  if :: live -> e = live :: else -> e = (last > node[A].highest -> last : node[A].highest) + 1 fi;
#else
  e = (last > node[A].highest -> last : node[A].highest) + 1;
  if :: live && slot_of(e) == slot_of(live) -> e++ :: else fi;
#endif
  epoch[node[A].conn] = e;
  node[A].phase = OFFERED;
  say(A, OFFER, e, 0);
  e = 0; live = 0
}

/* New keys into an empty slot. */
inline set_keys(n) {
#ifndef PSK_IN_PLACE
  vacate(n, slot_of(epoch[node[n].conn]));
#endif
  assert(node[n].slot[slot_of(epoch[node[n].conn])].psk == 0);
  node[n].slot[slot_of(epoch[node[n].conn])].ep = epoch[node[n].conn];
  node[n].slot[slot_of(epoch[node[n].conn])].psk = node[n].conn;
  if :: epoch[node[n].conn] > node[n].highest -> node[n].highest = epoch[node[n].conn] :: else fi
}

#ifdef ANY_CHANNEL
#define proof_made(n)     1
#define proof_good(n, p)  true
#else
#define proof_made(n)     node[n].conn
#define proof_good(n, p)  ((p) == node[n].conn)
#endif

inline verify(n, g, p) {
  node[n].proven = node[n].proven | bit(g);
  if
  :: p != node[n].conn             /* only a wrong protocol gets here */
  :: else ->
     if
     :: n == A -> verified_y[node[n].conn] = 1
     :: else   -> verified_x[node[n].conn] = verified_x[node[n].conn] | bit(g)
     fi
  fi
}

#ifdef GRANT_EARLY
#define may_grant(n, g) (node[n].phase == USABLE)
#else
#define may_grant(n, g) (node[n].phase == USABLE && (node[n].proven & bit(g)))
#endif
#define granted(n, g) (node[n].recv[g].at[slot_of(epoch[node[n].conn])] == node[n].conn)

/* Receive row first, then the label; the send row once the peer's label is in and both stand. */
inline grant(n, g) {
  if
  :: may_grant(n, g) && !granted(n, g) ->
     node[n].recv[g].at[slot_of(epoch[node[n].conn])] = node[n].conn;
     if
     :: n == A -> granted_a[node[n].conn] = granted_a[node[n].conn] | bit(g)
     :: else   -> granted_b[node[n].conn] = granted_b[node[n].conn] | bit(g)
     fi;
     say(n, LABEL, g, 0)
  :: else
  fi;
  if
  :: may_grant(n, g) && granted(n, g) && (node[n].permit & bit(g)) -> node[n].send[g] = node[n].conn
  :: else
  fi
}

/* The pair of this generation is over here. */
inline end_pair(n, g) {
  node[n].send[g] = 0;
#ifndef KEEP_ROW
  node[n].recv[g].at[0] = 0; node[n].recv[g].at[1] = 0;
#endif
  node[n].proven = node[n].proven & ~bit(g);
  node[n].permit = node[n].permit & ~bit(g);
  if :: node[n].pending == g && node[n].answer == 0 -> node[n].pending = 0 :: else fi
}

/* A good question for a pod that is here: prove, and grant. */
inline oblige(n, g, p) {
  verify(n, g, p);
  say(n, PROOF, g, proof_made(n));
  grant(n, g)
}

/* A frame of the connection in use. */
inline obey(n) {
  if
  :: what == HELLO ->
     if
     :: n == A -> assert(node[A].phase == GREETED); offer(x, y)                 /* happens */
     :: else   -> assert(false)
     fi
  :: what == OFFER ->
     assert(n == B && node[B].phase == GREETED);
     live_epoch(B, live);
     if :: hello_live[node[B].conn] > live -> live = hello_live[node[B].conn] :: else fi;
#ifndef PSK_IN_PLACE
     /* Between these two no offer is ever refused. */
     assert(x > node[B].highest && (live == 0 || slot_of(x) != slot_of(live)));
#endif
     assert(epoch[node[B].conn] == x);
     set_keys(B);
     node[B].phase = KEYED;                                                     /* happens */
     say(B, ACCEPT, x, 0);
     live = 0
  :: what == ACCEPT ->
     assert(n == A && node[A].phase == OFFERED && epoch[node[A].conn] == x);
     set_keys(A);
     node[A].phase = USABLE;                                                    /* happens */
     say(A, READY, x, 0)
#ifdef GRANT_EARLY
     ; grant(A, node[A].knows)
#endif
  :: what == READY ->
     assert(n == B && node[B].phase == KEYED);
     node[B].phase = USABLE                                                     /* happens */
#ifdef GRANT_EARLY
     ; grant(B, node[B].knows)
#endif
  :: what == REQ ->
     assert(node[n].phase == USABLE);
     if
     :: !proof_good(n, y) -> assert(false)   /* nobody here makes a bad one */
     :: n == A && proof_good(n, y) ->
        /* Is that pod here? */
        if
        :: x == node[A].knows -> oblige(A, x, y)                                /* happens */
        :: else -> say(A, NOPROOF, x, 0)                                        /* happens */
        fi
     :: n == B && proof_good(n, y) ->
        /* Who is asking? The directory knows; its answer takes its time. */
        node[B].pending = x; node[B].answer = 0; kept = y                       /* happens */
     fi
  :: what == PROOF ->
     if
     :: (node[n].asked & bit(x)) && proof_good(n, y) && x == node[n].knows ->
        verify(n, x, y); grant(n, x)                                            /* happens */
     :: else -> skip                    /* nobody waits for it any more */      /* happens */
     fi
  :: what == NOPROOF -> node[n].asked = node[n].asked & ~bit(x)                 /* happens */
  :: what == LABEL ->
     if
     :: node[n].conn && !(x == 1 && node[n].knows == 2) && node[n].phase == USABLE ->
        node[n].permit = node[n].permit | bit(x); grant(n, x)                   /* happens */
     :: else
     fi
  :: what == REVOKE -> end_pair(n, x)                                           /* happens */
  fi
}

inline receive(n, k) {
  to(n, k) ? what, x, y;
  if
  :: n == B && what == HELLO && k > node[B].conn ->
     /* A dials again only after it gave up the last one. */
     if :: node[B].conn -> hang_up(B) :: else fi;
     node[B].conn = k; node[B].phase = GREETED;                                 /* happens */
     hello_live[k] = y;
     if :: x > node[B].highest -> node[B].highest = x :: else fi;
     greet(B)
  :: else ->
     if
     :: k == node[n].conn -> obey(n)
#ifdef OLD_FRAMES
     :: k != node[n].conn && node[n].conn && (what == LABEL || what == REVOKE || what == PROOF) -> obey(n)
#endif
     :: else -> skip                    /* a connection that was given up */    /* happens */
     fi
  fi;
  what = HELLO; x = 0; y = 0;
  check(n)
}

/* What both nodes do. */
#define wants(n, g) (node[n].phase == USABLE && node[n].knows == (g) && !(node[n].asked & bit(g)) && \
                     node[n].send[g] != node[n].conn)

proctype Agent(byte n) {
  mtype what = HELLO; byte x = 0, y = 0, g = 0, k = 0;
end:
  do
  /* A dials when it has no channel: it has a pair that wants one. */
  :: atomic { n == A && node[A].conn == 0 && conns < CONNS ->
     conns++; node[A].conn = conns; node[A].phase = GREETED; greet(A) }         /* happens */

  :: atomic {
     if
     :: nempty(to(n, 1)) -> k = 1
#if CONNS > 1
     :: nempty(to(n, 2)) -> k = 2
#endif
#if CONNS > 2
     :: nempty(to(n, 3)) -> k = 3
#endif
     fi;
     receive(n, k); k = 0 }

  /* It learns that its connection is gone; what it has not read by then is lost. */
  :: atomic { node[n].conn && dead[node[n].conn] ->
     do :: nempty(to(n, node[n].conn)) -> to(n, node[n].conn) ? what(x, y) :: empty(to(n, node[n].conn)) -> break od;
     what = HELLO; x = 0; y = 0;
     hang_up(n); check(n) }                                                     /* happens */

  /* It asks for a pair. Either side may be first, or both. */
  :: atomic { wants(n, node[n].knows) ->
     g = node[n].knows;
     node[n].asked = node[n].asked | bit(g);                                    /* happens */
     say(n, REQ, g, proof_made(n)); g = 0 }

  /* The directory answers B, and B reads the answer. */
  :: atomic { n == B && node[B].pending && node[B].answer == 0 ->
     node[B].answer = (placed == node[B].pending -> 1 : 2) }
  :: atomic { n == B && node[B].answer ->
     g = node[B].pending;
     node[B].pending = 0;
     if
#ifdef STALE_ANSWER
     :: node[B].answer == 1 -> oblige(B, g, kept)
#else
     :: node[B].answer == 1 && !(g == 1 && node[B].knows == 2) -> oblige(B, g, kept)
#endif
     :: else -> say(B, NOPROOF, g, 0)                                           /* happens */
     fi;
     node[B].answer = 0; kept = 0; g = 0; check(B) }

  /* News: pod X of generation 1 is gone, another has its address. At A that is its own pod. */
  :: atomic { node[n].news ->
     node[n].news = 0; node[n].knows = 2; withdrawn[n] = 1;                     /* happens */
     end_pair(n, 1);
     if :: n == A && node[A].phase == USABLE -> say(A, REVOKE, 1, 0) :: else fi;
     told_all = withdrawn[A] && withdrawn[B];
     check(n) }

  /* The keys before these have had their time. */
  :: atomic { node[n].phase == USABLE && node[n].slot[1 - slot_of(epoch[node[n].conn])].psk ->
     vacate(n, 1 - slot_of(epoch[node[n].conn])); check(n) }                    /* happens */
  od
}

/* kill -9 and a new instance: it finds the rows, and asks the engine what it has. */
inline restart(n) {
  if :: node[n].conn -> dead[node[n].conn] = 1 :: else fi;
  if :: conns -> dead[conns] = 1 :: else fi;
  node[n].conn = 0; node[n].phase = NONE; node[n].asked = 0; node[n].proven = 0;
  node[n].permit = 0; node[n].pending = 0; node[n].answer = 0;
#ifdef FORGET_EPOCH
  node[n].highest = 0;
#else
  node[n].highest = (node[n].slot[0].ep > node[n].slot[1].ep -> node[n].slot[0].ep : node[n].slot[1].ep);
#endif
  check(n)
}

proctype World() {
end:
  do
  :: atomic { faults && conns && !dead[conns] -> faults--; dead[conns] = 1 }    /* happens */
  :: atomic { faults && conns -> faults--; restart(A) }                         /* happens */
  :: atomic { faults && conns -> faults--; restart(B) }                         /* happens */
#ifndef NO_WITHDRAWAL
  :: atomic { placed == 1 -> placed = 2; node[A].news = 1; node[B].news = 1 }
#endif
  :: atomic {
     /* Nothing is left that anybody could do: then the pair is open both ways, in one epoch. */
     timeout ->
     assert(node[A].phase == USABLE && node[B].phase == USABLE);
     assert(placed == 1 || told_all);                                           /* happens */
     assert(node[A].send[placed] == node[A].conn && node[B].send[placed] == node[B].conn);
     assert(node[A].conn == node[B].conn);
     break }
  od
}

init {
  atomic {
    node[A].knows = 1; node[B].knows = 1;
    run Agent(A); run Agent(B); run World()
  }
}
