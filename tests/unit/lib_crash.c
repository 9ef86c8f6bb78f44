/*
 * tests/unit/lib_crash.c - the host crashes: what is left of a disk?
 */
#include "lib_crash.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "block/graph.h"
#include "vmm/base/util.h"

#define CRASH_SECTORS	(CRASH_DISK / 512)
#define LOG_MAX		20000
#define HISTORY		64
#define IN_FLIGHT	6

struct crash_disk cd;

/* ---- the recorder: stands between qcow2 and file ---- */

struct entry {
	int file;
	uint64_t off, len;
	uint8_t *data;		/* NULL: zeroes (discard) */
	bool done;
	struct block_req *flush;	/* the first one sent after it was done */
	size_t durable;		/* log position of the flush that covers it; 0: none */
};

static struct entry rec[LOG_MAX];
static _Atomic size_t rec_len;	/* position: entries and finished flushes */
static pthread_mutex_t rec_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block_driver recorder;

static int file_of(const struct block_node *n)
{
	int i = 0;

	while (cd.files[i].node != n)
		cr_assert_lt(++i, CRASH_FILES);
	return i;
}

/* What a request's completion has to do first; requests are found again by
 * their address, which is theirs until they end. */
static struct pending {
	struct block_req *r;
	void (*ended)(struct block_req *r, int ret);
	size_t entry;		/* of a write */
	bool flush;
} pending[64];

static void finished(struct block_req *r, int ret)
{
	struct pending p = { 0 };

	pthread_mutex_lock(&rec_lock);
	for (size_t i = 0; i < ARRAY_LEN(pending); i++) {
		if (pending[i].r != r)
			continue;
		p = pending[i];
		pending[i].r = NULL;
		break;
	}
	if (p.flush && ret == 0) {
		rec_len++;	/* a position of its own, with no bytes */
		for (size_t i = 0; i < rec_len; i++)
			if (rec[i].flush == r && !rec[i].durable)
				rec[i].durable = rec_len;
	} else if (!p.flush) {
		rec[p.entry].done = true;
	}
	for (size_t i = 0; p.flush && i < rec_len; i++)
		if (rec[i].flush == r)
			rec[i].flush = NULL;
	pthread_mutex_unlock(&rec_lock);
	r->ended = p.ended;
	p.ended(r, ret);
}

static void record(struct block_node *n, struct block_req *r)
{
	struct entry *e;
	size_t i = 0;

	if (r->now.op == BLOCK_READ) {
		block_driver_file.submit(n, r);
		return;
	}
	pthread_mutex_lock(&rec_lock);
	while (pending[i].r)
		cr_assert_lt(++i, ARRAY_LEN(pending));
	pending[i] = (struct pending){ r, r->ended, rec_len, r->now.op == BLOCK_FLUSH };
	/* A write that ends while a flush runs is not covered by it. */
	for (size_t k = 0; r->now.op == BLOCK_FLUSH && k < rec_len; k++)
		if (rec[k].done && !rec[k].durable && !rec[k].flush &&
		    rec[k].file == file_of(n))
			rec[k].flush = r;
	if (r->now.op != BLOCK_FLUSH) {
		cr_assert_lt(rec_len, LOG_MAX);
		e = &rec[rec_len++];
		*e = (struct entry){ .file = file_of(n), .off = r->now.offset, .len = r->bytes };
		if (r->now.op == BLOCK_WRITE) {
			e->data = malloc(r->bytes);
			iov_to_buf(r->iov, r->iovcnt, 0, e->data, r->bytes);
		}
	}
	pthread_mutex_unlock(&rec_lock);
	r->ended = finished;
	block_driver_file.submit(n, r);
}

void cd_record(int i, struct block_node *n)
{
	recorder = block_driver_file;
	recorder.submit = record;
	n->drv = &recorder;
	cd.files[i].node = n;
}

void cd_stop(void)
{
	for (int i = 0; i <= cd.top; i++)
		cd.files[i].node->drv = &block_driver_file;
}

size_t cd_now(void)
{
	return rec_len;
}

/* ---- what the guest did ---- */

struct version {
	unsigned int round;	/* 0: zeroes */
	size_t sent, done;	/* log positions; done 0: not yet */
	size_t safe;		/* a finished guest flush covers it */
};

static struct {
	struct version v[HISTORY];
	int n;
} history[CRASH_SECTORS];

static void sent(uint64_t off, size_t len, unsigned int round)
{
	for (uint64_t s = off / 512; s < (off + len) / 512; s++) {
		cr_assert_lt(history[s].n, HISTORY);
		history[s].v[history[s].n++] = (struct version){ .round = round, .sent = rec_len };
	}
}

static void done(uint64_t off, size_t len)
{
	for (uint64_t s = off / 512; s < (off + len) / 512; s++)
		history[s].v[history[s].n - 1].done = rec_len + 1;
}

/* A flush that was sent after all that is done now has finished. */
static void flushed(void)
{
	for (uint64_t s = 0; s < CRASH_SECTORS; s++)
		for (int i = 0; i < history[s].n; i++)
			if (history[s].v[i].done && !history[s].v[i].safe)
				history[s].v[i].safe = rec_len + 1;
}

void cd_had(uint64_t off, size_t len, unsigned int round)
{
	sent(off, len, round);
	done(off, len);
	flushed();
}

static struct {
	struct bt_req q;
	uint8_t mem[65536 * 2];
	uint64_t off;
	size_t len;
	bool busy;
} slots[IN_FLIGHT];

static bool overlaps(uint64_t off, size_t len)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		if (slots[i].busy && off < slots[i].off + slots[i].len &&
		    slots[i].off < off + len)
			return true;
	return false;
}

static void reap(void)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		if (!slots[i].busy || !slots[i].q.done)
			continue;
		cr_assert_eq(slots[i].q.ret, 0);
		slots[i].busy = false;
		done(slots[i].off, slots[i].len);
	}
}

static void drain(void)
{
	while (drive_totals(cd.t.d).inflight) {
		loop_turn(cd.t.loop, NS_PER_SEC);
		reap();
	}
	reap();
}

static void write_some(int i, unsigned int round)
{
	size_t len = 512 * (1 + (size_t)qt_rnd(qt_rnd(3) ? 16 : 256));
	uint64_t off = 512 * (uint64_t)qt_rnd((uint32_t)((CRASH_DISK - len) / 512 + 1));
	bool zero = qt_rnd(6) == 0;

	if (slots[i].busy || overlaps(off, len))
		return;
	slots[i].off = off;
	slots[i].len = len;
	slots[i].busy = true;
	for (size_t k = 0; k < len; k++)
		slots[i].mem[k] = bt_byte(off + k, round);
	sent(off, len, zero ? 0 : round);
	bt_submit(&cd.t, &slots[i].q, zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, off,
		  zero ? NULL : slots[i].mem, len, zero ? BLOCK_UNMAP : 0);
}

void cd_turn(unsigned int round, uint64_t ns)
{
	write_some((int)qt_rnd(IN_FLIGHT), round);
	loop_turn(cd.t.loop, ns);
	reap();
}

void cd_work(unsigned int rounds, void (*each)(unsigned int round, unsigned int rounds))
{
	for (unsigned int round = 1; round <= rounds; round++) {
		if (each)
			each(round, rounds);
		write_some((int)qt_rnd(IN_FLIGHT), round);
		if (qt_rnd(3) == 0)
			loop_turn(cd.t.loop, qt_rnd(2) ? 0 : NS_PER_MS);
		reap();
		if (qt_rnd(15) == 0) {
			/* Only what is done before it is sent is covered. */
			drain();
			cr_assert_eq(bt_io(&cd.t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
			flushed();
		}
	}
	drain();
}

/* ---- crashes ---- */

/* A file as it becomes, in memory: a process for each step took most of the time. */
struct content {
	uint8_t *mem;
	size_t room, len;
};

static void load(struct content *c, const char *name, size_t room)
{
	int fd = open(bt_path(&cd.t, name), O_RDONLY | O_CLOEXEC);
	struct stat st = { 0 };

	if (fd >= 0)
		cr_assert_eq(fstat(fd, &st), 0);
	c->len = align_up((size_t)st.st_size, 65536);
	c->room = MAX(c->len, room);
	c->mem = calloc(1, c->room + 1);
	if (fd >= 0)
		cr_assert_eq(fd_read_full(fd, c->mem, (size_t)st.st_size, 0), 0);
	fd_close(&fd);
}

static void store(const struct content *c, const char *name, size_t len)
{
	int fd;

	unlink(bt_path(&cd.t, name));
	fd = open(bt_path(&cd.t, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	cr_assert_eq(fd_write_full(fd, c->mem, c->len, 0), 0);
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static void apply(struct content *c, const struct entry *e, uint64_t from, uint64_t len)
{
	if (e->data)
		memcpy(c->mem + e->off + from, e->data + from, len);
	else
		memset(c->mem + e->off + from, 0, len);
	c->len = MAX(c->len, e->off + from + len);
}

/* File @file as a crash at position @at could leave it. */
static void crash_file(size_t at, int file)
{
	unsigned int mood = qt_rnd(4);	/* nothing, everything, or some sectors */
	char name[16], was[16] = "before";
	struct content c;
	size_t room = 0;

	snprintf(name, sizeof(name), "c%d", file);
	if (file)
		snprintf(was, sizeof(was), "before%d", file);
	for (size_t i = 0; i < at; i++)
		if (rec[i].file == file)
			room = MAX(room, rec[i].off + rec[i].len);
	load(&c, was, room);
	for (size_t i = 0; i < at; i++) {
		bool durable = rec[i].durable && rec[i].durable <= at;

		for (uint64_t s = 0; rec[i].file == file && s < rec[i].len; s += 512)
			if (durable || mood == 1 || (mood > 1 && qt_rnd(mood == 2 ? 2 : 6) == 0))
				apply(&c, &rec[i], s, MIN(rec[i].len - s, (uint64_t)512));
	}
	store(&c, name, cd.files[file].raw ? c.len : align_up(c.len, 65536));
	free(c.mem);
}

/* The chain that is the disk then; returns its top. */
static int crash(size_t at)
{
	int n = 0;

	while (!(cd.pivot && cd.pivot <= at) && n < cd.top && cd.files[n + 1].told_at <= at)
		n++;
	for (int i = 0; i <= n; i++)
		crash_file(at, i);
	return n;
}

static bool is_version(const uint8_t *p, uint64_t s, unsigned int round)
{
	for (unsigned int i = 0; i < 512; i++)
		if (p[i] != (round ? bt_byte(s * 512 + i, round) : 0))
			return false;
	return true;
}

static void check_sector(const uint8_t *p, uint64_t s, size_t at)
{
	int first = -1;	/* the newest that a flush made safe; -1: the old zeroes */
	bool good;

	for (int i = 0; i < history[s].n; i++)
		if (history[s].v[i].safe && history[s].v[i].safe <= at)
			first = i;
	good = first < 0 && is_version(p, s, 0);
	for (int i = MAX(first, 0); i < history[s].n && !good; i++)
		if (history[s].v[i].sent <= at)
			good = is_version(p, s, history[s].v[i].round);
	cr_assert(good, "sector %lu after a crash at %zu of %zu (safe: version %d, round %u)",
		  (unsigned long)s, at, rec_len, first,
		  first < 0 ? 0 : history[s].v[first].round);
}

void cd_judge(size_t at)
{
	uint8_t *disk = malloc(CRASH_DISK);
	int fd, status, n = crash(at);

	for (int i = cd.files[0].raw; i <= n; i++) {
		/* 0: clean, 3: leaks only. */
		status = qt_status(&cd.t, "qemu-img check -f qcow2 c%d", i);
		cr_assert(status == 0 || status == 3, "crash at %zu of %zu: check of file %d "
			  "says %d", at, rec_len, i, status);
	}
	qt_sh(&cd.t, "qemu-img convert -f %s -O raw c%d crash.raw",
	      n || !cd.files[0].raw ? "qcow2" : "raw", n);
	fd = open(bt_path(&cd.t, "crash.raw"), O_RDONLY | O_CLOEXEC);
	cr_assert_eq(fd_read_full(fd, disk, CRASH_DISK, 0), 0);
	close(fd);
	for (uint64_t s = 0; s < CRASH_SECTORS; s++)
		check_sector(disk + s * 512, s, at);
	free(disk);
}

void cd_judge_all(int moments)
{
	cd_stop();
	for (int i = 0; i < moments; i++)
		cd_judge(1 + qt_rnd((uint32_t)rec_len));
	qt_close(&cd.t);
	for (size_t i = 0; i < rec_len; i++)
		free(rec[i].data);
}
