/*
 * tests/unit/lib_crash.h - the host crashes: what is left of a disk?
 *
 * Every write, flush and discard that goes to the files of a disk is recorded. Then,
 * for many moments, files are put together as a crash could leave them: all that a
 * flush made durable before, and of everything else any subset of its sectors. qemu-img
 * check must find no corruption in an image (leaks are allowed), and every sector of
 * the disk must have what the last finished flush of the guest covered, or something
 * newer. The disk is then the chain that a user would open.
 *
 * A moment is a position in the record: the number of writes and finished flushes
 * before it. After a crash the files are called c0, c1, …: so overlays must name them.
 */
#ifndef TESTS_UNIT_LIB_CRASH_H
#define TESTS_UNIT_LIB_CRASH_H

#include "lib_qcow2.h"

#define CRASH_DISK	(2 * MIB)
#define CRASH_FILES	5	/* of a chain */

/* The disk, which a test opens as cd.t.d, and its files. */
struct crash_disk {
	struct bt t;
	/* The first one is below the others. Its state before: "before"; of others
	 * "before1", …, or nothing. */
	struct {
		struct block_node *node;
		bool raw;
		size_t told_at;		/* position from which on it is of the disk */
	} files[CRASH_FILES];
	int top;			/* the last one */
	size_t pivot;			/* from here on files[0] is all; 0: never */
};

extern struct crash_disk cd;

/* Record what goes to protocol node @n, file @i. */
void cd_record(int i, struct block_node *n);
void cd_stop(void);			/* no more */
/* The present position. */
size_t cd_now(void);
/* The disk has had bt_byte(…, round) there from the start. */
void cd_had(uint64_t off, size_t len, unsigned int round);

/* The guest writes, zeroes and flushes, several at once; nothing is in flight after it.
 * @each, if any, comes before every round. */
void cd_work(unsigned int rounds, void (*each)(unsigned int round, unsigned int rounds));
/* One write, and a turn of the loop that lasts @ns at most. */
void cd_turn(unsigned int round, uint64_t ns);

/* Crash at @at; random, as qt_seed() said. */
void cd_judge(size_t at);
/* Stop recording, crash at so many moments, close the disk. */
void cd_judge_all(int moments);

#endif
