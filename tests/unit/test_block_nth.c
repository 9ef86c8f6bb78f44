/*
 * tests/unit/test_block_nth.c - the Nth host operation fails, for every N.
 *
 * A script of requests runs on a disk again and again. Each time another operation
 * on one of its files fails (block/fault.c; for changes of a file's length a driver of
 * the test's own), until the script comes through without reaching the Nth. The guest
 * must have been told, each sector must have its old or its new content, and what a
 * flush covered must be in the files. After a clean close qemu-img finds the image in
 * order. Images that differ in no byte are judged once.
 *
 * The driver starts a thread, whose races other tests look for: under a thread sanitizer
 * this one takes minutes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/fault.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/snapshot.h"
#include "lib_qcow2.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define DISK		MIB
#define SECTORS		(DISK / 512)
#define FILES		2
#define FILE_MAX	(4 * MIB)
#define BATCH		4
#define N_MAX		1000u

static struct bt t;
static struct err e;

/* ---- what fails, and how ---- */

enum guest { TRIES_AGAIN, GIVES_UP, NEVER_KNOWS };

static const struct kind {
	const char *how;	/* the rule's options */
	int err;		/* that the guest may see; 0: none */
	enum guest guest;
} kinds[] = {
	{ "errno=EIO", EIO, TRIES_AGAIN },
	{ "errno=EIO", EIO, GIVES_UP },
	{ "errno=ENOSPC", ENOSPC, TRIES_AGAIN },
	{ "errno=EAGAIN", EAGAIN, GIVES_UP },
	{ "short=512", 0, TRIES_AGAIN },
	{ "short=512,errno=EIO", EIO, GIVES_UP },
	{ "hang=on", ECANCELED, GIVES_UP },
	{ "errno=EIO", EIO, NEVER_KNOWS },	/* werror=retry */
};

static const char *const ops[] = { "read", "write", "flush", "discard", "write-zeroes", "length" };
#define LENGTH	5u	/* set_length, no request */

static struct attempt {
	const struct kind *k;
	unsigned int op, file, n;
	bool hang;
	_Atomic bool armed;	/* fail_length() also runs on the worker */
	_Atomic uint64_t lengths;/* so far */
	bool told;		/* a request failed, or the opening */
	bool late;		/* fired when an image that was written to was closed */
} at;

/* Node "f0", "f1": the files, counted from the top. */
static int fail_length(struct block_node *n, uint64_t bytes)
{
	if (at.armed && at.op == LENGTH && strcmp(n->name, at.file ? "f1" : "f0") == 0) {
		at.lengths++;
		/* Twice: what fails in large steps is done in small ones. */
		if (at.lengths == at.n || at.lengths == at.n + 1)
			return -at.k->err;
	}
	return block_driver_file.set_length(n, bytes);
}

static void sum_hits(const struct block_fault_info *i, void *arg)
{
	*(uint64_t *)arg += i->hits;
}

static void sum_held(const struct block_fault_info *i, void *arg)
{
	*(uint64_t *)arg += i->held;
}

static bool fired(void)
{
	uint64_t hits = 0;

	block_fault_each(t.g, sum_hits, &hits);
	return at.op == LENGTH ? at.lengths >= at.n : hits > 0;
}

static void arm(void)
{
	char text[160];
	json_t *args;
	int r;

	at.armed = true;
	at.hang = strcmp(at.k->how, "hang=on") == 0;
	if (at.op == LENGTH)
		return;
	snprintf(text, sizeof(text), "id=nth,drive=f%u,op=%s,after=%u,count=1,%s", at.file,
		 ops[at.op], at.n - 1, at.k->how);
	args = json_from_keyval(text, NULL, 0, "test", &e);
	r = block_fault_add(t.g, args, &e);
	cr_assert_eq(r, 0, "%s", e.text);
	json_decref(args);
}

/* ---- the script ---- */

struct step {
	enum block_op op;
	uint32_t first, sectors, flags;
	bool with_next;
};

static const struct step before[] = {
	{ BLOCK_WRITE, 0, 16 },			/* whole clusters of 4 KiB */
	{ BLOCK_WRITE, 21, 3, 0, true },	/* parts of some */
	{ BLOCK_WRITE, 100, 9, 0, true },
	{ BLOCK_WRITE, 50, 1 },
	{ BLOCK_FLUSH },
	{ BLOCK_WRITE, 4, 8, 0, true },		/* in place */
	{ BLOCK_WRITE_ZEROES, 16, 16, BLOCK_UNMAP },
	{ BLOCK_DISCARD, 96, 16 },
	{ BLOCK_FLUSH },
};

static const struct step after[] = {
	{ BLOCK_WRITE, 8, 8 },
	{ BLOCK_WRITE, 200, 40, BLOCK_FUA, true },
	{ BLOCK_WRITE_ZEROES, 20, 8 },		/* keeps its cluster */
	{ BLOCK_DISCARD, 200, 16 },
	{ BLOCK_FLUSH },
	{ BLOCK_WRITE, 1000, 70 },
	{ BLOCK_WRITE, 202, 2 },
};

/* Crosses the end of what the refcount table counts. */
static const struct step grow[] = {
	{ BLOCK_WRITE, 1200, 64, 0, true },
	{ BLOCK_WRITE, 1300, 40 },
	{ BLOCK_FLUSH },
	{ BLOCK_WRITE, 1400, 64 },
	{ BLOCK_DISCARD, 1210, 20 },
	{ BLOCK_WRITE, 1210, 30, BLOCK_FUA },
};

/* What the disk has; in unsure sectors it may be the old content instead. */
static uint8_t model[DISK], old[DISK], first_model[DISK];
static bool unsure[SECTORS];

static struct bt_req batch[BATCH + 1];	/* the last one looks */
static uint8_t mem[BATCH][DISK / 4];

static void submit(const struct step *s, struct bt_req *q, uint8_t *data, unsigned int round)
{
	uint64_t off = s->first * 512ull;
	size_t len = s->sectors * 512ull;

	for (size_t i = 0; i < len; i++)
		data[i] = bt_byte(off + i, round);
	memcpy(old + off, model + off, len);
	if (s->op == BLOCK_WRITE)
		memcpy(model + off, data, len);
	else
		memset(model + off, 0, len);
	bt_submit(&t, q, s->op, off, s->op == BLOCK_WRITE ? data : NULL, len, s->flags);
}

static bool all_done(unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		if (!batch[i].done)
			return false;
	return true;
}

/* The host operation hangs: the guest takes its requests back, and it goes on. */
static void take_back(unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		if (!batch[i].done)
			drive_cancel(&batch[i].r);
	if (block_fault_del(t.g, "nth", &e) == 0) {
		at.armed = false;
		at.told = true;
	}
}

static void wait_all(unsigned int first, unsigned int n)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC, held;

	while (!all_done(first, n)) {
		loop_turn(t.loop, at.hang ? NS_PER_MS / 4 : NS_PER_SEC);
		held = 0;
		if (at.hang && at.armed)
			block_fault_each(t.g, sum_held, &held);
		if (held)
			take_back(first, n);
		cr_assert(clock_ns() < end, "%s %u of f%u, %s: no end", ops[at.op], at.n, at.file,
			  at.k->how);
	}
}

static void look(uint64_t off, size_t len)
{
	static uint8_t buf[DISK];

	bt_submit(&t, &batch[BATCH], BLOCK_READ, off, buf, len, 0);
	wait_all(BATCH, 1);
	if (batch[BATCH].ret) {
		cr_assert((fired() || !at.armed) && batch[BATCH].ret == -at.k->err, "read: %d", batch[BATCH].ret);
		at.told = true;
		batch[BATCH].ret = bt_io(&t, BLOCK_READ, off, buf, len, 0);
	}
	cr_assert_eq(batch[BATCH].ret, 0, "a read at %lu fails again: %d", (unsigned long)off,
		     batch[BATCH].ret);
	for (size_t i = 0; i < len; i += 512) {
		bool is_new = memcmp(buf + i, model + off + i, 512) == 0;

		cr_assert(is_new || (unsure[(off + i) / 512] &&
				     memcmp(buf + i, old + off + i, 512) == 0),
			  "%s %u of f%u, %s: sector %lu has wrong data", ops[at.op], at.n, at.file,
			  at.k->how, (unsigned long)(off + i) / 512);
		unsure[(off + i) / 512] = false;
		memcpy(model + off + i, buf + i, 512);
	}
}

static void judge_request(const struct step *s, struct bt_req *q, bool was_armed)
{
	uint64_t off = s->first * 512ull;
	int tries = 0;

	cr_assert_eq(q->done, 1);
	for (uint64_t k = s->first; k < s->first + s->sectors; k++)
		unsure[k] = s->op == BLOCK_DISCARD || q->ret;
	if (q->ret) {
		cr_assert(was_armed && (q->ret == -at.k->err), "%s %u of f%u, %s: op %d ends "
			  "with %d", ops[at.op], at.n, at.file, at.k->how, s->op, q->ret);
		cr_assert_neq(at.k->guest, NEVER_KNOWS);
		at.told = true;
	}
	if (s->sectors && (q->ret || s->op == BLOCK_DISCARD))
		look(off, s->sectors * 512ull);
	/* A flush is tried again in any case: what it covers is compared. */
	while (q->ret && (at.k->guest == TRIES_AGAIN || s->op == BLOCK_FLUSH)) {
		struct step again = *s;

		cr_assert_lt(tries++, 2, "%s %u of f%u, %s: op %d at %u fails again: %d",
			     ops[at.op], at.n, at.file, at.k->how, s->op, s->first, q->ret);
		submit(&again, q, mem[0], 77);
		bt_wait(&t, q);
		for (uint64_t k = s->first; k < s->first + s->sectors; k++)
			unsure[k] = s->op == BLOCK_DISCARD || q->ret;
	}
	if (s->sectors)
		look(off, s->sectors * 512ull);
}

static void play(const struct step *s, size_t n)
{
	for (size_t i = 0, k; i < n; i += k) {
		bool was = at.armed;

		for (k = 0; k == 0 || s[i + k - 1].with_next; k++)
			submit(&s[i + k], &batch[k], mem[k], 1 + (unsigned int)(i + k));
		wait_all(0, (unsigned int)k);
		for (size_t j = 0; j < k; j++)
			judge_request(&s[i + j], &batch[j], was);
	}
}

static void flush(void)
{
	static const struct step f = { .op = BLOCK_FLUSH };

	play(&f, 1);
}

/* ---- files ---- */

struct load {
	const char *make;		/* shell: <dir>/f0 and f1 */
	const char *blockdev[3];	/* above file nodes f0 and f1 */
	int files;
	const char *fmt;		/* of f0 */
	const struct step *steps;
	size_t nsteps;
	bool advice;			/* discards of the file are */
	bool no_flush;			/* none at the end */
	bool snapshot;			/* f1 becomes an overlay of f0 */
};

static struct content {
	uint8_t *mem;
	size_t used, len;
} tmpl[FILES], now[FILES];

static const char *const names[FILES] = { "f0", "f1" };

/* Files are long and end in holes: *@len bytes, of which so many can be not zero. */
static size_t slurp(const char *name, uint8_t *to, size_t *len)
{
	int fd = open(bt_path(&t, name), O_RDONLY | O_CLOEXEC);
	off_t end = lseek(fd, 0, SEEK_END), used = 0, next;

	cr_assert(fd >= 0 && end >= 0);
	while ((next = lseek(fd, used, SEEK_DATA)) >= 0)
		used = lseek(fd, next, SEEK_HOLE);
	cr_assert(used <= (off_t)FILE_MAX, "%s: %ld", name, (long)used);
	cr_assert_eq(fd_read_full(fd, to, (size_t)used, 0), 0);
	close(fd);
	*len = (size_t)end;
	return (size_t)used;
}

static void spill(const char *name, const uint8_t *from, size_t used, size_t len)
{
	int fd = open(bt_path(&t, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	cr_assert(fd >= 0 && fd_write_full(fd, from, used, 0) == 0);
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static void prepare(const struct load *w)
{
	size_t len;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "%s && qemu-img convert -f %s -O raw f0 first.raw", w->make, w->fmt);
	for (int i = 0; i < w->files; i++) {
		tmpl[i].mem = malloc(FILE_MAX);
		now[i].mem = malloc(FILE_MAX);
		tmpl[i].used = slurp(names[i], tmpl[i].mem, &tmpl[i].len);
	}
	slurp("first.raw", first_model, &len);
	cr_assert_eq(len, DISK);
}

static void finish(const struct load *w)
{
	bt_stop(&t);
	for (int i = 0; i < w->files; i++) {
		free(tmpl[i].mem);
		free(now[i].mem);
	}
}

/* ---- verdicts, remembered ---- */

struct verdict {
	uint64_t files, disk;
	int status;		/* of qemu-img check: 0 clean, 3 leaks */
};

static struct verdict *verdicts;
static size_t nverdicts;

/* FNV-1a, over words: only equal or not counts. */
static uint64_t hash(uint64_t h, const uint8_t *p, size_t len)
{
	uint64_t v;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		memcpy(&v, p + i, 8);
		h = (h ^ v) * 0x100000001b3ull;
		h ^= h >> 29;
	}
	for (size_t i = len / 8 * 8; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h ^ len;
}

static struct verdict ask(const struct load *w, uint64_t files, int top)
{
	static uint8_t raw[DISK];
	const char *fmt = top ? "qcow2" : w->fmt;
	struct verdict v = { .files = files };
	size_t len;

	qt_sh(&t, "rm -rf j && mkdir j");
	for (int i = 0; i < w->files; i++) {
		char name[8];

		snprintf(name, sizeof(name), "j/f%d", i);
		spill(name, now[i].mem, now[i].used, now[i].len);
	}
	if (strcmp(fmt, "qcow2") == 0)
		v.status = qt_status(&t, "cd j && qemu-img check -f qcow2 f%d", top);
	if (top && v.status == 0 && strcmp(w->fmt, "qcow2") == 0)
		v.status = qt_status(&t, "cd j && qemu-img check -f qcow2 f0");
	qt_sh(&t, "cd j && qemu-img convert -f %s -O raw f%d raw", fmt, top);
	memset(raw, 0, sizeof(raw));
	slurp("j/raw", raw, &len);
	cr_assert_eq(len, DISK);
	v.disk = hash(1, raw, len);
	return v;
}

/* The files as they are, under top file @top. */
static struct verdict judge(const struct load *w, int top)
{
	uint64_t h = 7 + (unsigned int)top;

	for (int i = 0; i < w->files; i++) {
		now[i].used = slurp(names[i], now[i].mem, &now[i].len);
		h = hash(h, now[i].mem, now[i].used) ^ now[i].len << 32;
	}
	for (size_t i = 0; i < nverdicts; i++)
		if (verdicts[i].files == h)
			return verdicts[i];
	verdicts = realloc(verdicts, (nverdicts + 1) * sizeof(*verdicts));
	verdicts[nverdicts] = ask(w, h, top);
	return verdicts[nverdicts++];
}

static void must_be(const struct load *w, int top, bool leaks, bool data, const char *when)
{
	struct verdict v = judge(w, top);

	cr_assert(v.status == 0 || (leaks && v.status == 3), "%s %u of f%u, %s: %s, check says %d",
		  ops[at.op], at.n, at.file, at.k->how, when, v.status);
	cr_assert(!data || v.disk == hash(1, model, DISK), "%s %u of f%u, %s: %s, data differs",
		  ops[at.op], at.n, at.file, at.k->how, when);
}

/* ---- one attempt ---- */

static struct block_driver nth_driver;

static void open_files(const struct load *w)
{
	char text[96];

	nth_driver = block_driver_file;
	nth_driver.set_length = fail_length;
	for (int i = 0; i < w->files; i++) {
		spill(names[i], tmpl[i].mem, tmpl[i].used, tmpl[i].len);
		/* Flushes are counted, and not waited for. */
		snprintf(text, sizeof(text), "file,node-name=f%d,filename=%%s/f%d,discard=unmap,"
			 "cache.no-flush=on", i, i);
		cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
		block_node_find(t.g, names[i])->drv = &nth_driver;
	}
}

static int open_disk(const struct load *w)
{
	int r = 0;

	for (int i = 0; i < 3 && w->blockdev[i] && r == 0; i++) {
		r = bt_blockdev(&t, w->blockdev[i]);
		snprintf(e.text, sizeof(e.text), "%s", bt_error());
	}
	return r ? r : drive_open(t.g, "top", "dev0", DRIVE_OPEN_WRITE, &t.d, &e);
}

static void close_all(void)
{
	qt_close(&t);
	at.armed = false;
}

static void retry_policy(void)
{
	atomic_store(&t.d->werror, DRIVE_RETRY);
	atomic_store(&t.d->rerror, DRIVE_RETRY);
	atomic_store(&t.d->retry.interval_ns, 1);
}

static void on_snapshot(void *arg, int ret, const struct err *why)
{
	*(int *)arg = ret;
	if (ret)
		cr_assert_gt(strlen(why->text), 0);
}

static int snapshot(void)
{
	struct snapshot_pair p = { "top", "over" };
	struct snapshot *s;
	int ret = 1;

	cr_assert_eq(snapshot_start(t.g, &p, 1, on_snapshot, &ret, &s, &e), 0, "%s", e.text);
	while (ret == 1)
		loop_turn(t.loop, NS_PER_SEC);
	return ret;
}

/* Refused or done; a disk that stays as it was can be written, and asked again. */
static void take_snapshot(void)
{
	struct block_node *node = t.d->node;
	bool before_it = fired();
	int r = snapshot();

	/* What the old top still had to write when it was closed, is told the log. */
	at.late = r == 0 && !before_it && fired();
	if (r == 0)
		return;
	cr_assert(at.armed && fired(), "%s", e.text);
	cr_assert_eq(t.d->node, node);
	at.told = true;
	play(after, 2);
	r = snapshot();
	cr_assert_eq(r, 0, "%s %u of f%u, %s: the second snapshot: %d", ops[at.op], at.n, at.file,
		     at.k->how, r);
}

/* Nobody needs to be told, and clusters may leak. */
static bool advice(const struct load *w)
{
	return at.late || at.op == LENGTH || (w->advice && strcmp(ops[at.op], "discard") == 0);
}

static bool opens(const struct load *w)
{
	int r;

	if (!at.hang)
		arm();
	r = open_disk(w);
	if (r == 0)
		return true;
	cr_assert(at.armed && fired(), "%s", e.text);
	cr_assert_gt(strlen(e.text), 0);
	close_all();
	must_be(w, 0, true, true, "not opened");
	return false;
}

/* True: the fault was reached. */
static bool attempt(const struct load *w)
{
	bool hit, closing;

	at.hang = strcmp(at.k->how, "hang=on") == 0;
	at.lengths = 0;
	at.told = at.late = false;
	memcpy(model, first_model, DISK);
	memset(unsure, 0, sizeof(unsure));
	open_files(w);
	if (!opens(w))
		return true;
	if (at.hang)
		arm();
	if (at.k->guest == NEVER_KNOWS)
		retry_policy();
	play(w->steps, w->nsteps);
	if (w->snapshot)
		take_snapshot();
	play(after, ARRAY_LEN(after));
	if (!w->no_flush)
		flush();
	hit = !at.armed || fired();
	cr_assert(!hit || at.told || !at.k->err || at.k->guest == NEVER_KNOWS || advice(w),
		  "%s %u of f%u, %s: nobody was told", ops[at.op], at.n, at.file, at.k->how);
	if (!w->no_flush)
		must_be(w, w->snapshot, true, true, "killed");
	if (at.hang && at.armed)
		block_fault_del(t.g, "nth", &e);
	closing = !hit && !at.hang;
	look(0, DISK);
	drive_close(t.d);
	t.d = NULL;
	closing = closing && fired();
	close_all();
	must_be(w, w->snapshot, closing || advice(w), !closing || !w->no_flush, "closed");
	return hit || closing;
}

static void every(const struct load *w, const struct kind *k, unsigned int op, unsigned int file)
{
	at = (struct attempt){ .k = k, .op = op, .file = file, .n = 1 };
	if (op == LENGTH && k->err != EIO && k->err != ENOSPC)
		return;
	if (strstr(k->how, "short") && op > BLOCK_WRITE)
		return;
	/* The switch waits for its I/O on the thread that would take requests back. */
	if (k->err == ECANCELED && w->snapshot)
		return;
	while (attempt(w))
		cr_assert_lt(at.n++, N_MAX);
}

static void all(const struct load *w)
{
	prepare(w);
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (unsigned int op = 0; op < ARRAY_LEN(ops); op++)
			for (int file = 0; file < w->files; file++)
				every(w, &kinds[k], op, (unsigned int)file);
	finish(w);
}

TestSuite(block_nth, .timeout = 240);

#define STEPS(s)	.steps = s, .nsteps = ARRAY_LEN(s)

Test(block_nth, test_nth_fails_on_raw)
{
	static const struct load w = {
		.make = "head -c 1M /dev/urandom >f0", .files = 1, .fmt = "raw",
		.blockdev = { "raw,node-name=top,discard=unmap,file=f0" }, STEPS(before),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_on_qcow2)
{
	static const struct load w = {
		.make = "qemu-img create -q -f qcow2 -o cluster_size=4k f0 1M && "
			"qemu-io -f qcow2 -c 'write -P 5 0 10k' -c 'write -P 6 512k 40k' f0",
		.files = 1, .fmt = "qcow2", .advice = true, .no_flush = true,
		.blockdev = { "qcow2,node-name=top,discard=unmap,file=f0" }, STEPS(before),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_on_qcow2_with_backing)
{
	static const struct load w = {
		.make = "head -c 900k /dev/urandom >b.raw && "
			"qemu-img convert -c -f raw -O qcow2 -o cluster_size=4k b.raw f1 && "
			"qemu-img create -q -f qcow2 -o cluster_size=4k -b f1 -F qcow2 f0 1M",
		.files = 2, .fmt = "qcow2", .advice = true,
		.blockdev = { "qcow2,node-name=below,file=f1",
			      "qcow2,node-name=top,discard=unmap,file=f0,backing=below" },
		STEPS(before),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_on_qcow2_with_subclusters_on_raw)
{
	static const struct load w = {
		.make = "head -c 1M /dev/urandom >f1 && qemu-img create -q -f qcow2 "
			"-o cluster_size=16k,extended_l2=on -b f1 -F raw f0 1M",
		.files = 2, .fmt = "qcow2", .advice = true,
		.blockdev = { "raw,node-name=below,file=f1",
			      "qcow2,node-name=top,discard=unmap,file=f0,backing=below" },
		STEPS(before),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_on_qcow2_with_an_internal_snapshot)
{
	static const struct load w = {
		.make = "qemu-img create -q -f qcow2 -o cluster_size=4k f0 1M && "
			"qemu-io -f qcow2 -c 'write -P 5 0 128k' f0 && qemu-img snapshot -c one f0",
		.files = 1, .fmt = "qcow2", .advice = true,
		.blockdev = { "qcow2,node-name=top,discard=unmap,file=f0" }, STEPS(before),
	};

	all(&w);
}

/* 64 entries of blocks for 32 KiB each; the file is 2 MiB long but for a little. */
Test(block_nth, test_nth_fails_where_the_refcount_table_grows)
{
	static const struct load w = {
		.make = "qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 f0 1M && "
			"for i in 1 2 3; do qemu-io -f qcow2 -c 'write -P 5 0 500k' f0 && "
			"qemu-img snapshot -c s$i f0; done && qemu-io -f qcow2 -c 'write -P 6 0 "
			"360k' f0",
		.files = 1, .fmt = "qcow2", .advice = true,
		.blockdev = { "qcow2,node-name=top,discard=unmap,file=f0" }, STEPS(grow),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_around_a_snapshot_of_raw)
{
	static const struct load w = {
		.make = "head -c 1M /dev/urandom >f0 && qemu-img create -q -f qcow2 "
			"-o cluster_size=4k -b f0 -F raw f1 1M",
		.files = 2, .fmt = "raw", .advice = true, .snapshot = true,
		.blockdev = { "raw,node-name=top,discard=unmap,file=f0",
			      "{\"driver\":\"qcow2\",\"node-name\":\"over\",\"file\":\"f1\","
			      "\"backing\":null,\"discard\":\"unmap\"}" },
		STEPS(before),
	};

	all(&w);
}

Test(block_nth, test_nth_fails_around_a_snapshot_of_qcow2)
{
	static const struct load w = {
		.make = "qemu-img create -q -f qcow2 -o cluster_size=4k f0 1M && "
			"qemu-img create -q -f qcow2 -o cluster_size=4k -b f0 -F qcow2 f1 1M",
		.files = 2, .fmt = "qcow2", .advice = true, .snapshot = true,
		.blockdev = { "qcow2,node-name=top,discard=unmap,file=f0",
			      "{\"driver\":\"qcow2\",\"node-name\":\"over\",\"file\":\"f1\","
			      "\"backing\":null,\"discard\":\"unmap\"}" },
		STEPS(before),
	};

	all(&w);
}

/* An image that cannot be made is said to be none, and can be made again. */
Test(block_nth, test_nth_fails_while_an_image_is_made)
{
	static const struct kind k = { "errno=ENOSPC", ENOSPC, TRIES_AGAIN };
	struct image_qcow2_opts o;
	struct block_child c;
	int r = -1;

	bt_start(&t, LOOP_AIO_AUTO);
	image_qcow2_defaults(&o);
	o.size = 64 * GIB;
	o.cluster_bits = 12;
	for (unsigned int op = BLOCK_WRITE; op < ARRAY_LEN(ops); op++, r = -1) {
		at = (struct attempt){ .k = &k, .op = op };
		while (r) {
			struct load w = { .files = 1 };

			cr_assert_lt(++at.n, N_MAX);
			at.lengths = 0;
			open_files(&w);
			memset(&c, 0, sizeof(c));
			cr_assert_eq(block_attach(&c, block_node_find(t.g, "f0"), "test",
						  BLOCK_PERM_READ | BLOCK_PERM_WRITE |
						  BLOCK_PERM_RESIZE, 0, &e), 0, "%s", e.text);
			arm();
			e = (struct err)ERR_INIT;
			r = image_qcow2_create(c.node, block_graph_wait_loop(t.g), &o, &e);
			cr_assert_eq(r != 0, fired(), "%s %u: %d", ops[op], at.n, r);
			cr_assert_eq(r != 0, strlen(e.text) > 0);
			at.armed = false;
			if (r && op != LENGTH)
				cr_assert_eq(block_fault_del(t.g, "nth", &e), 0);
			if (r)
				cr_assert_eq(image_qcow2_create(c.node, block_graph_wait_loop(t.g),
								&o, &e), 0, "%s", e.text);
			block_detach(&c);
			close_all();
			qt_check(&t, "f0");
		}
	}
	bt_stop(&t);
}
