/*
 * tests/unit/test_qcow2_kill.c - killed under load, over and over: the chain is
 * whole, and what was flushed is there.
 *
 * A child writes, flushes and takes snapshots, and notes in shared memory what it
 * has sent and what a flush has covered. It is killed at any moment, qemu-img
 * judges, and the next child goes on with the same chain.
 *
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/snapshot.h"
#include "lib_qcow2.h"
#include "vmm/base/util.h"

#define DISK		(4 * MIB)
#define UNIT		512u
#define UNITS		(DISK / UNIT)
#define DEPTH		20
#define KILLS		15

static struct bt t;

/* What a sector was last written with is in each of its words. */
static struct shared {
	_Atomic uint32_t sent[UNITS], safe[UNITS];
	_Atomic uint32_t steps;
	_Atomic int top;
} *shared;

static bool over;

static void told(void *arg, int ret, const struct err *e)
{
	cr_assert_eq(ret, 0, "%s", e->text);
	atomic_fetch_add(&shared->top, 1);
	over = true;
}

static void take_snapshot(void)
{
	int i = atomic_load(&shared->top) + 1;
	char text[200], under[64], name[24];
	struct snapshot_pair p = { under, name };
	struct err e = ERR_INIT;
	struct snapshot *s;

	qt_sh(&t, "qemu-img create -q -f qcow2 -b k%d -F qcow2 k%d", i - 1, i);
	snprintf(name, sizeof(name), "o%d", i);
	snprintf(under, sizeof(under), "%s", t.d->node->name);
	snprintf(text, sizeof(text), "{\"driver\": \"qcow2\", \"node-name\": \"%s\", \"backing\": "
		 "null, \"file\": {\"driver\": \"file\", \"filename\": \"%%s/k%d\"}}", name, i);
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	over = false;
	cr_assert_eq(snapshot_start(t.g, &p, 1, told, NULL, &s, &e), 0, "%s", e.text);
	while (!over)
		loop_turn(t.loop, NS_PER_MS);
}

static void write_run(uint32_t step)
{
	static uint32_t mem[128 * UNIT / 4];
	uint32_t n = 1 + qt_rnd(128), at = qt_rnd((uint32_t)UNITS - n + 1);

	for (uint32_t i = 0; i < n * UNIT / 4; i++)
		mem[i] = step;
	for (uint32_t i = 0; i < n; i++)
		atomic_store(&shared->sent[at + i], step);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, at * (uint64_t)UNIT, mem, n * UNIT, 0), 0);
}

static void flush(void)
{
	static uint32_t covered[UNITS];

	for (uint32_t i = 0; i < UNITS; i++)
		covered[i] = atomic_load(&shared->sent[i]);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	for (uint32_t i = 0; i < UNITS; i++)
		atomic_store(&shared->safe[i], covered[i]);
}

/* Until it is killed. */
static void child(int round)
{
	char name[16];

	t.loop = NULL;
	cr_assert_eq(loop_create(&t.loop, "child", LOOP_AIO_AUTO, &(struct err)ERR_INIT), 0);
	t.g = block_graph_create(t.loop);
	qt_seed((uint32_t)round + 1);
	snprintf(name, sizeof(name), "k%d", atomic_load(&shared->top));
	qt_open(&t, name, "");
	for (;;) {
		uint32_t step = atomic_fetch_add(&shared->steps, 1) + 1;

		write_run(step);
		if (step % 7 == 0)
			flush();
		if (step % 60 == 0 && atomic_load(&shared->top) < DEPTH)
			take_snapshot();
	}
}

static void compare(int round)
{
	static uint32_t disk[DISK / 4];
	int fd = open(bt_path(&t, "flat"), O_RDONLY | O_CLOEXEC);

	cr_assert_eq(fd_read_full(fd, disk, DISK, 0), 0);
	close(fd);
	for (uint32_t u = 0; u < UNITS; u++) {
		uint32_t *p = disk + u * UNIT / 4, safe = atomic_load(&shared->safe[u]);

		/* Its old or its new content, as a whole. */
		cr_assert(*p >= safe && *p <= atomic_load(&shared->sent[u]), "kill %d: sector %u "
			  "has %u, flushed was %u, sent %u", round, u, *p, safe,
			  atomic_load(&shared->sent[u]));
		for (uint32_t i = 0; i < UNIT / 4; i++)
			cr_assert_eq(p[i], *p, "kill %d: sector %u is torn", round, u);
		/* What was sent and did not arrive never will. */
		atomic_store(&shared->sent[u], *p);
		atomic_store(&shared->safe[u], *p);
	}
}

static void judge(int round)
{
	int status, tries = 0;

	/* The kernel ends a killed process's I/O, and with it locks, a little later. */
	while (qt_status(&t, "qemu-img info k%d >/dev/null 2>&1", atomic_load(&shared->top)) &&
	       tries++ < 200)
		usleep(50000);
	for (int i = 0; i <= atomic_load(&shared->top); i++) {
		status = qt_status(&t, "qemu-img check -f qcow2 k%d", i);
		cr_assert(status == 0 || status == 3, "kill %d: check of k%d says %d", round, i,
			  status);
	}
	qt_sh(&t, "qemu-img convert -f qcow2 -O raw k%d flat", atomic_load(&shared->top));
	compare(round);
}

Test(qcow2_kill, test_a_chain_survives_kills_under_load, .timeout = 240)
{
	uint32_t at;
	pid_t pid;

	bt_start(&t, LOOP_AIO_AUTO);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	cr_assert_neq((void *)shared, MAP_FAILED);
	qt_sh(&t, "qemu-img create -q -f qcow2 k0 %lu", (unsigned long)DISK);
	srandom(5);
	for (int round = 0; round < KILLS; round++) {
		at = atomic_load(&shared->steps) + 1 + (uint32_t)random() % 150;
		pid = fork();
		if (pid == 0)
			child(round);
		while (atomic_load(&shared->steps) < at && waitpid(pid, NULL, WNOHANG) == 0)
			usleep(200);
		cr_assert_eq(kill(pid, SIGKILL), 0, "the child ended by itself");
		waitpid(pid, NULL, 0);
		judge(round);
	}
	cr_expect_gt(atomic_load(&shared->top), 3);
	bt_stop(&t);
}
