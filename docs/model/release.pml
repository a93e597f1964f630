/*
 * Sections 2 and 5 of the release protocol: nonces, authorizations, slots and
 * retries, with every broker able to stop between any two steps and a host that
 * sends any request to any broker at any time, as often as it likes.
 *
 * BROKERS brokers share one database. A transaction is an atomic block: what it is
 * worth to a real database is tested by store/storetest. Two guest keys compete
 * for one authorization of USES uses.
 *
 * Requests are known by their id, which stands for (key, nonce):
 *
 *	request  0  1  2  3
 *	key      0  0  1  1
 *	nonce    0  1  0  2
 *
 * so that there is a retry with a fresh nonce (0 and 1), another request under a
 * nonce that somebody else had (0 and 2), and another key with a nonce of its own.
 *
 * Each BUG_… takes one rule out. .ci/model checks that the model holds as it is,
 * and that it fails with every one of them.
 *
 * search: -DBROKERS=2
 * search longer: -DBROKERS=3
 */

#ifndef USES
#define USES 1
#endif

#define NONE    0
#define REFUSED 1
#define RELEASED 2

#define key(r)   ((r) / 2)
#define nonce(r) ((r) == 0 || (r) == 2 -> 0 : ((r) == 1 -> 1 : 2))

/* The database. */
byte redeemed[3];    /* request + 1 that redeemed a nonce */
byte outcome[4];     /* NONE, REFUSED or RELEASED */
byte bytes[4];       /* the sealed bytes of a released request, named by who sealed them */
byte used;
bool slot[2];        /* a key has a slot of the authorization */
byte sealed[2];      /* the sealed bytes of the release of a slot */
byte releases;       /* rows */
byte entries;        /* of releases, in the record */
bool revoked;

/* What is true, whoever knows it. */
byte answered[2];    /* the sealed bytes that left for a key */
byte passed[3];      /* requests that went on after they redeemed a nonce */
bool late;           /* a slot was taken, or bytes were found, after the revocation */

#define slots (slot[0] + slot[1])

/* Whether Check sees that a key has a slot. */
#ifdef BUG_FORGET_SLOT
#define owed(k) false
#else
#define owed(k) slot[k]
#endif

/* What must hold after every transaction. */
inline invariants() {
	assert(slots <= USES);                          /* never more keys than uses */
	assert(used == slots);                          /* no use is lost, none is counted twice */
	assert(!slot[0] || sealed[0]);                  /* a slot has a release */
	assert(!slot[1] || sealed[1]);
	assert(entries == releases);                    /* one entry for each release */
	assert(!late)                                   /* and nothing after the revocation */
}

/* What leaves a broker for key k: the stored bytes, and always the same. */
inline leave(k, b) {
	assert(b != 0);
	assert(slot[k] && sealed[k] == b);              /* it was committed */
	assert(answered[k] == 0 || answered[k] == b);   /* a key never sees two secrets of one purpose */
	answered[k] = b
}

proctype Broker(byte me) {
	byte r, tries, fresh, found;
	bool have;

	/* A crash is a jump back to the start with all that was not stored lost.
	   Seals are numbered so that two never look the same. */
start:	atomic {
		tries = 0; have = false; found = 0;
		if
		:: r = 0 :: r = 1 :: r = 2 :: r = 3
		fi
	}

	/* A stored outcome is answered from the store, until it is revoked. */
	atomic {
		if
#ifdef BUG_SERVE_REVOKED
		:: outcome[r] == RELEASED -> late = revoked; assert(!late); leave(key(r), bytes[r]); r = 0; goto start
#else
		:: outcome[r] == RELEASED && !revoked -> leave(key(r), bytes[r]); r = 0; goto start
		:: outcome[r] == RELEASED && revoked -> r = 0; goto start          /* gone */
#endif
		:: outcome[r] == REFUSED -> r = 0; goto start
		:: outcome[r] == NONE
		fi
	}

	/* Redeem: one insert, durable. */
#ifdef BUG_REDEEM_TWO_STEPS
	if
	:: redeemed[nonce(r)] == 0
	:: redeemed[nonce(r)] != 0 -> goto start
	fi;
	atomic {
		redeemed[nonce(r)] = r + 1;
		passed[nonce(r)]++; assert(passed[nonce(r)] == 1)
	}
#else
	atomic {
		if
		:: redeemed[nonce(r)] == 0 -> redeemed[nonce(r)] = r + 1
		:: redeemed[nonce(r)] != 0 -> r = 0; goto start    /* nonce-spent or in-progress */
		fi;
		passed[nonce(r)]++; assert(passed[nonce(r)] == 1)
	}
#endif

	if
	:: goto start                                      /* a crash: the nonce is gone, nothing else */
	:: atomic {                                        /* evidence or policy says no */
		if
		:: outcome[r] == NONE -> outcome[r] = REFUSED
		:: else
		fi;
		r = 0; goto start
	   }
	:: true                                            /* accepted */
	fi;

	/* Check: a look, which decides nothing. A key that has its bytes gets them
	   again, until they are revoked. */
again:	atomic {
		if
		:: owed(key(r)) && !revoked -> have = true; found = sealed[key(r)]
		:: !slot[key(r)] && !revoked && used < USES -> have = false; found = 0
		:: revoked || used >= USES && !owed(key(r)) ->
			assert(revoked || !slot[key(r)]);
			if
			:: outcome[r] == NONE -> outcome[r] = REFUSED
			:: else
			fi;
			r = 0; goto start
		fi
	}

	/* Seal under a name of this broker's own; a redelivery keeps the old bytes. */
	if
	:: have -> fresh = found
	:: !have -> fresh = 1 + r + 4 * me
	fi;

#ifdef BUG_ANSWER_FIRST
	atomic { leave(key(r), fresh) }
#endif

	/* One transaction: look again; take the slot, store the row and the entry, or
	   store the redelivery. */
#ifdef BUG_COUNT_TWO_STEPS
	if
	:: have || used < USES
	:: else -> goto start
	fi;
#endif
	atomic {
		if
		:: outcome[r] != NONE -> goto committed
		:: else
		fi;
#ifndef BUG_TRUST_CHECK
		if
		:: revoked -> goto retry
		:: !revoked && have && found != sealed[key(r)] -> goto retry
		:: !revoked && !have && slot[key(r)] -> goto retry
#ifndef BUG_COUNT_TWO_STEPS
		:: !revoked && !have && !slot[key(r)] && used >= USES -> goto retry
#endif
		:: else
		fi;
#endif
		late = late || revoked;
		if
		:: !have ->
			slot[key(r)] = true; used++;
			sealed[key(r)] = fresh;
			releases++;
#ifndef BUG_NO_ENTRY
			entries++
#endif
		:: have ->
#ifdef BUG_COUNT_AGAIN
			used++
#else
			skip
#endif
		fi;
		outcome[r] = RELEASED; bytes[r] = fresh;
		invariants()
	}
committed:
	/* The answer of the commit may be lost: then nothing leaves. */
	atomic {
		if
		:: outcome[r] == RELEASED -> leave(key(r), bytes[r])
		:: outcome[r] == RELEASED -> skip               /* unknown, or a crash */
		:: outcome[r] != RELEASED -> skip
		fi;
		r = 0; fresh = 0; goto start
	}

retry:	tries++;
	if
	:: tries < 3 -> goto again
	:: else -> goto start                              /* unavailable: the same request may come again */
	fi
}

proctype Owner() {
	atomic { revoked = true }
}

init {
	atomic {
		run Broker(0); run Broker(1);
#if BROKERS == 3
		run Broker(2);
#endif
		run Owner()
	}
}
