/*
 * Section 7 of the release protocol: epochs of one (tenant, instance, purpose).
 *
 * GUESTS guests boot from one disk, one after the other or at the same time, as
 * the host likes. Each is one boot with one recipient key, so that guest g and
 * its release are one thing here. The host keeps everything that was ever
 * written and shows a guest any of it; it delivers confirms and checkpoints
 * late, often, in any order or never; and it lets a guest die anywhere, which is
 * a guest that goes no further. Everybody has an authorization: those are the
 * business of release.pml. A transaction is one step.
 *
 * State is sealed under the key of an epoch, and the number of an epoch is never
 * given twice, so that its content is named by (epoch, version). Version 1 is
 * what a guest writes before it confirms, later ones what it changes while it
 * runs. WRITE is write mode, otherwise it is boot mode.
 *
 * Each BUG_… takes one rule out; see .ci/model.
 *
 * search: -DGUESTS=2
 * search: -DGUESTS=2 -DWRITE
 * search longer: -DGUESTS=3
 * search longer: -DGUESTS=3 -DWRITE
 */

#define EPOCHS 6          /* numbers are bounded; 0 is none */
#define VERSIONS 4

#define NOBODY 255

/* The row. */
bool pending;
bool held;
byte current = 1;         /* n: registered as epoch 1, state made by the owner */
byte high = 1;
byte next;                /* m, while pending */
byte candidate = NOBODY;  /* R, while pending */
byte live = NOBODY;
byte listed[2];           /* states: versions of the current epoch; 0 is none */

/* What the host has: the latest version of each epoch's slot. It may show any
   earlier one as well. */
byte disk[EPOCHS];

/* Messages in flight. Only the guest makes them and only the broker acks them:
   they have MACs under the confirm key of the release. */
bool confirm[GUESTS];     /* sent at least once */
byte offered[GUESTS];     /* version and */
bool settled[GUESTS];     /* kind of the checkpoint that a guest waits for; 0 is none */
byte acked[GUESTS];       /* 0 none, 1 the confirm, 2 the checkpoint it waits for */
bool ended[GUESTS];     /* told superseded */

/* What is true, whoever knows it. */
byte base[GUESTS];        /* epoch that a release opens */
byte epoch[GUESTS];       /* epoch that it writes */
bool running[GUESTS];
bool confirmed[GUESTS];
byte opened[GUESTS];      /* version of its base that a guest opened */
byte history[EPOCHS];     /* boots that the state of an epoch rests on */
byte boots;               /* boots confirmed, since the last recovery by the owner */
byte visible;             /* newest version of the current epoch whose effect the world saw */
byte visibleIn;           /* and its epoch */

#define isListed(v) (listed[0] == 0 && listed[1] == 0 || listed[0] == (v) || listed[1] == (v))

inline honest() {
	/* With the disk as it was last written the next boot always gets on. */
	assert(disk[current] != 0 && isListed(disk[current]))
}

/* Step 7 of a release, for guest g. */
inline release(g) {
	if
	:: held || high + 1 >= EPOCHS -> goto dead
	:: else
	fi;
	base[g] = current;
	high++;
	next = high; epoch[g] = next; candidate = g; pending = true;
#ifndef BUG_LIVE_STAYS
	live = NOBODY
#endif
}

proctype Guest(byte g) {
	byte v;

	atomic { release(g) }

	/* Open what the host shows of the slot of the base, with its key. */
	atomic {
		if
		:: v = 1 :: v = 2 :: v = 3
		fi;
		if
		:: v > disk[base[g]] -> goto dead              /* nothing was ever written like this */
		:: else
		fi;
#ifdef WRITE
#ifndef BUG_NO_DIGEST
		/* The digests came with the release, from the row of its base. They can't
		   have changed since, because a release ends the checkpoints of others;
		   if one did not, the row is of this epoch still, or this is superseded. */
		if
		:: current == base[g] && !isListed(v) -> goto dead
		:: else
		fi;
#endif
#endif
		opened[g] = v; v = 0
	}

	/* Write the slot of the next epoch and flush; then confirm. */
#ifdef BUG_CONFIRM_FIRST
	atomic { confirm[g] = true }
#endif
	atomic { disk[epoch[g]] = 1; history[epoch[g]] = history[base[g]] + 1 }
	atomic { confirm[g] = true }
#ifndef BUG_RUN_BEFORE_ACK
	if
	:: acked[g] == 1
	:: ended[g] -> goto dead
	fi;
#endif
	atomic {
		running[g] = true;
		assert(confirmed[g]);                           /* the broker knows, durably */
		/* Nothing of an earlier confirmed boot was left out. */
		assert(current != epoch[g] || history[epoch[g]] == boots);
		v = 1
	}

	/* Changes while it runs. */
	do
	:: v + 1 < VERSIONS ->
#ifdef WRITE
#ifndef BUG_UNANNOUNCED
		atomic { offered[g] = v + 1; settled[g] = false; acked[g] = 0 }
		if
		:: acked[g] == 2
		:: ended[g] -> goto dead
		fi;
#endif
		atomic { v++; disk[epoch[g]] = v; if :: epoch[g] == current -> honest() :: else fi }
#ifdef BUG_EFFECT_EARLY
		atomic { if :: current == epoch[g] -> visible = v; visibleIn = epoch[g] :: else fi }
#endif
		atomic { offered[g] = v; settled[g] = true; acked[g] = 0 }
		if
		:: acked[g] == 2
		:: ended[g] -> goto dead
		fi;
		atomic { if :: current == epoch[g] -> visible = v; visibleIn = epoch[g] :: else fi }
#else
		atomic { v++; disk[epoch[g]] = v }
#endif
	:: break
	od;
dead:	skip
}

/* The broker: what the host delivers, whenever it likes. */
proctype Broker() {
	byte g;

end:	do
	:: atomic {
		g = 0;
		do
		:: g + 1 < GUESTS -> g++
		:: break
		od;
		if
		:: confirm[g] -> 
			if
#ifdef BUG_ANY_RELEASE_CONFIRMS
			:: pending && !held ->
#else
#ifdef BUG_HELD_CONFIRMS
			:: pending && candidate == g ->
#else
			:: pending && candidate == g && !held ->
#endif
#endif
				assert(!held);
				/* What the world saw of the base is in what was opened. */
				assert(visibleIn != base[g] || opened[g] >= visible);
				current = epoch[g]; pending = false; live = g; candidate = NOBODY;
				confirmed[g] = true; boots++;
				assert(history[current] == boots);      /* nothing was rolled back, and no boot forgotten */
				visible = 0; visibleIn = 0;
#ifdef WRITE
				listed[0] = 1; listed[1] = 0;
#endif
				honest();
				acked[g] = 1
			:: !pending && live == g && !held -> if :: acked[g] == 0 && offered[g] == 0 -> acked[g] = 1 :: else fi
#ifdef BUG_ACK_FIRST
			:: pending && candidate == g -> acked[g] = 1
#endif
			:: held                                     /* no confirm now; resume lets it come again */
			:: !held && !(pending && candidate == g) && live != g -> ended[g] = true
			fi
		:: else
		fi;
		g = 0
	   }
#ifdef WRITE
	:: atomic {
		g = 0;
		do
		:: g + 1 < GUESTS -> g++
		:: break
		od;
		if
		:: offered[g] != 0 && acked[g] == 0 ->
			if
			:: live == g && !held && epoch[g] == current ->
				if
				:: settled[g] -> listed[0] = offered[g]; listed[1] = 0
				:: else -> if :: listed[1] != 0 :: listed[1] == 0 -> listed[1] = listed[0]; listed[0] = offered[g] fi
				fi;
				honest();
				acked[g] = 2
			:: live != g && !held -> ended[g] = true
			:: else
			fi
		:: else
		fi;
		g = 0
	   }
#endif
	od
}

/* The owner holds, resumes, and recovers a dead epoch that has state. */
proctype Owner() {
	byte e;

	if
	:: atomic { held = true };
	   atomic { held = false }
	:: atomic {
		e = 1;
		do
		:: e + 1 < EPOCHS -> e++
		:: break
		od;
		if
		:: disk[e] != 0 && high + 1 < EPOCHS ->
			/* The key of e is wrapped anew for the new number; its slot is what
			   the next boot opens. Every release is superseded. */
			high++; current = high; disk[high] = disk[e]; history[high] = history[e];
			boots = history[e];
			pending = false; candidate = NOBODY; live = NOBODY;
			listed[0] = 0; listed[1] = 0; visible = 0; visibleIn = 0
		:: else
		fi
	   }
	:: skip
	fi
}

/* How many running guests could still change what the next boot opens. */
#define lasts(g) (running[g] && epoch[g] == current && confirmed[g])

proctype Monitor() {
	atomic {
#if GUESTS == 3
		assert(lasts(0) + lasts(1) + lasts(2) <= 1)
#else
		assert(lasts(0) + lasts(1) <= 1)
#endif
	}
}

init {
	atomic {
		disk[1] = 1;
		run Broker(); run Owner(); run Monitor();
		run Guest(0); run Guest(1);
#if GUESTS == 3
		run Guest(2)
#endif
	}
}
