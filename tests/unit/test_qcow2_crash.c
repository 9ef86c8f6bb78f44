/*
 * tests/unit/test_qcow2_crash.c - the host crashes: what is left?
 *
 * Every write, flush and discard that goes to the files of a disk is recorded,
 * those that make and switch to the overlays of snapshots as well. Then, for many
 * moments, an image is put together as a crash could leave it: all that a flush made
 * durable before, and of everything else any subset of its sectors. qemu-img check
 * must find no corruption in it (leaks are allowed), and every sector of the disk
 * must have what the last finished flush of the guest covered, or something newer.
 * The disk is then the chain up to the last snapshot whose end was told.
 *
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/graph.h"
#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "block/snapshot.h"
#include "block/stream.h"
#include "lib_qcow2.h"

#define DISK		(2 * MIB)
#define SECTORS		(DISK / 512)
#define LOG_MAX		20000
#define HISTORY		64
#define IN_FLIGHT	6
#define FILES		5	/* of a chain */

static struct bt t;

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

/* The disk's files, the first one below the others. */
static struct {
	struct block_node *node;
	bool raw;
	bool told;		/* the snapshot that it is for is done */
	size_t told_at;		/* position */
} files[FILES];
static int top;

static int file_of(const struct block_node *n)
{
	int i = 0;

	while (files[i].node != n)
		cr_assert_lt(++i, FILES);
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

static void interpose(int i, struct block_node *n)
{
	recorder = block_driver_file;
	recorder.submit = record;
	n->drv = &recorder;
	files[i].node = n;
}

static void stop_recording(void)
{
	for (int i = 0; i <= top; i++)
		files[i].node->drv = &block_driver_file;
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
} history[SECTORS];

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
	for (uint64_t s = 0; s < SECTORS; s++)
		for (int i = 0; i < history[s].n; i++)
			if (history[s].v[i].done && !history[s].v[i].safe)
				history[s].v[i].safe = rec_len + 1;
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
	while (drive_totals(t.d).inflight) {
		loop_turn(t.loop, NS_PER_SEC);
		reap();
	}
	reap();
}

static void write_some(int i, unsigned int round)
{
	size_t len = 512 * (1 + (size_t)qt_rnd(qt_rnd(3) ? 16 : 256));
	uint64_t off = 512 * (uint64_t)qt_rnd((uint32_t)((DISK - len) / 512 + 1));
	bool zero = qt_rnd(6) == 0;

	if (slots[i].busy || overlaps(off, len))
		return;
	slots[i].off = off;
	slots[i].len = len;
	slots[i].busy = true;
	for (size_t k = 0; k < len; k++)
		slots[i].mem[k] = bt_byte(off + k, round);
	sent(off, len, zero ? 0 : round);
	bt_submit(&t, &slots[i].q, zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, off,
		  zero ? NULL : slots[i].mem, len, zero ? BLOCK_UNMAP : 0);
}

/* ---- snapshots ---- */

static void make_overlay(int i)
{
	struct image_qcow2_opts o;
	struct block_child c = { 0 };
	struct err e = ERR_INIT;
	struct block_node *n;
	char name[16], below[16];
	json_t *args;

	snprintf(name, sizeof(name), "live%d", i);
	args = json_pack("{s:s,s:s}", "driver", "file", "filename", bt_path(&t, name));
	qt_sh(&t, "touch %s", name);
	cr_assert_eq(graph_node_create(t.g, args, false, &n, &e), 0, "%s", e.text);
	json_decref(args);
	cr_assert_eq(block_attach(&c, n, "test", BLOCK_PERM_READ | BLOCK_PERM_WRITE |
				  BLOCK_PERM_RESIZE, 0, &e), 0, "%s", e.text);
	interpose(i, n);
	image_qcow2_defaults(&o);
	o.size = DISK;
	snprintf(below, sizeof(below), "c%d", i - 1);
	o.backing_file = below;
	o.backing_format = files[i - 1].raw ? "raw" : "qcow2";
	cr_assert_eq(image_qcow2_create(n, block_graph_wait_loop(t.g), &o, &e), 0, "%s", e.text);
	n->implicit = true;
	n->drv = &block_driver_file;
	block_detach(&c);
}

static void told(void *arg, int ret, const struct err *e)
{
	int i = top + 1;

	cr_assert_eq(ret, 0, "%s", e->text);
	files[i].told = true;
	files[i].told_at = rec_len;
}

/* While requests are in flight; more come during it. */
static void take_snapshot(void)
{
	char name[16], under[24], text[200];
	struct snapshot_pair p = { under, name };
	struct err e = ERR_INIT;
	struct snapshot *s;
	int i = top + 1;

	make_overlay(i);
	snprintf(name, sizeof(name), "o%d", i);
	snprintf(under, sizeof(under), "%s", t.d->node->name);
	snprintf(text, sizeof(text), "{\"driver\": \"qcow2\", \"node-name\": \"%s\", \"backing\": "
		 "null, \"discard\": \"unmap\", \"file\": {\"driver\": \"file\", \"filename\": "
		 "\"%%s/live%d\"}}", name, i);
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	interpose(i, block_node_find(t.g, name)->file.node);
	cr_assert_eq(snapshot_start(t.g, &p, 1, told, NULL, &s, &e), 0, "%s", e.text);
	for (unsigned int k = 0; !files[i].told; k++) {
		write_some((int)qt_rnd(IN_FLIGHT), 10000 + (unsigned int)i * 1000 + k % 1000);
		loop_turn(t.loop, NS_PER_MS);
		reap();
	}
	top = i;
}

static void work(unsigned int rounds, int snapshots)
{
	for (unsigned int round = 1; round <= rounds; round++) {
		if (snapshots && round % (rounds / ((unsigned int)snapshots + 1)) == 0 &&
		    top < snapshots)
			take_snapshot();
		write_some((int)qt_rnd(IN_FLIGHT), round);
		if (qt_rnd(3) == 0)
			loop_turn(t.loop, qt_rnd(2) ? 0 : NS_PER_MS);
		reap();
		if (qt_rnd(15) == 0) {
			/* Only what is done before it is sent is covered. */
			drain();
			cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
			flushed();
		}
	}
	drain();
}

/* ---- crashes ---- */

static void apply(int fd, const struct entry *e, uint64_t from, uint64_t len)
{
	static const uint8_t zero[512];

	cr_assert_eq(fd_write_full(fd, e->data ? e->data + from : zero, len,
				   (off_t)(e->off + from)), 0);
}

/* File @file as a crash at position @at could leave it. */
static void crash_file(size_t at, int file)
{
	unsigned int mood = qt_rnd(4);	/* nothing, everything, or some sectors */
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "c%d", file);
	if (file)
		qt_sh(&t, "rm -f %s && touch %s", name, name);
	else
		qt_sh(&t, "cp before %s && truncate -s %%64k %s", name, name);
	fd = open(bt_path(&t, name), O_RDWR | O_CLOEXEC);
	cr_assert(fd >= 0);
	for (size_t i = 0; i < at; i++) {
		bool durable = rec[i].durable && rec[i].durable <= at;

		for (uint64_t s = 0; rec[i].file == file && s < rec[i].len; s += 512)
			if (durable || mood == 1 || (mood > 1 && qt_rnd(mood == 2 ? 2 : 6) == 0))
				apply(fd, &rec[i], s, MIN(rec[i].len - s, (uint64_t)512));
	}
	close(fd);
	if (!files[file].raw)
		qt_sh(&t, "truncate -s %%64k %s", name);
}

/* The chain that is the disk then; returns its top. */
static int crash(size_t at)
{
	int n = 0;

	while (n < top && files[n + 1].told_at <= at)
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

static void judge(size_t at)
{
	uint8_t *disk = malloc(DISK);
	int fd, status, n = crash(at);

	for (int i = files[0].raw; i <= n; i++) {
		/* 0: clean, 3: leaks only. */
		status = qt_status(&t, "qemu-img check -f qcow2 c%d", i);
		cr_assert(status == 0 || status == 3, "crash at %zu of %zu: check of file %d "
			  "says %d", at, rec_len, i, status);
	}
	qt_sh(&t, "qemu-img convert -f %s -O raw c%d crash.raw",
	      n || !files[0].raw ? "qcow2" : "raw", n);
	fd = open(bt_path(&t, "crash.raw"), O_RDONLY | O_CLOEXEC);
	cr_assert_eq(fd_read_full(fd, disk, DISK, 0), 0);
	close(fd);
	for (uint64_t s = 0; s < SECTORS; s++)
		check_sector(disk + s * 512, s, at);
	free(disk);
}

static void judge_all(int moments)
{
	stop_recording();
	for (int i = 0; i < moments; i++)
		judge(1 + qt_rnd((uint32_t)rec_len));
	qt_close(&t);
	for (size_t i = 0; i < rec_len; i++)
		free(rec[i].data);
}

static void crashes(const char *opts, const char *prepare, unsigned int rounds, int moments)
{
	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -f qcow2 -o %s a.qcow2 %lu && %s", opts, (unsigned long)DISK,
	      prepare);
	qt_sh(&t, "cp a.qcow2 before");
	qt_open(&t, "a.qcow2", "discard=unmap");
	interpose(0, t.d->node->file.node);
	work(rounds, 0);
	judge_all(moments);
	qt_check(&t, "a.qcow2");
	bt_stop(&t);
}

/* The disk is @format, and gets @snapshots overlays while it works. */
static void snapshot_crashes(const char *format, int snapshots, unsigned int rounds, int moments)
{
	bt_start(&t, LOOP_AIO_AUTO);
	files[0].raw = strcmp(format, "raw") == 0;
	qt_sh(&t, "qemu-img create -f %s live0 %lu && cp live0 before", format,
	      (unsigned long)DISK);
	if (files[0].raw)
		bt_open(&t, bt_path(&t, "live0"), "discard=unmap");
	else
		qt_open(&t, "live0", "discard=unmap");
	interpose(0, t.d->node->file.node);
	work(rounds, snapshots);
	cr_assert_eq(top, snapshots);
	judge_all(moments);
	for (int i = files[0].raw; i <= snapshots; i++)
		qt_sh(&t, "ln -sf live%d c%d && qemu-img check -f qcow2 c%d", i, i, i);
	bt_stop(&t);
}

TestSuite(qcow2_crash, .timeout = 240);

Test(qcow2_crash, test_crash_default_image)
{
	qt_seed(11);
	crashes("cluster_size=64k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_cluster_4k)
{
	qt_seed(12);
	crashes("cluster_size=4k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_cluster_512_grows_tables)
{
	qt_seed(13);
	crashes("cluster_size=512,refcount_bits=64", "true", 600, 60);
}

Test(qcow2_crash, test_crash_version_2)
{
	qt_seed(14);
	crashes("compat=0.10", "true", 600, 40);
}

Test(qcow2_crash, test_crash_extended_l2)
{
	qt_seed(15);
	crashes("extended_l2=on,cluster_size=16k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_with_internal_snapshot)
{
	qt_seed(16);
	/* Zeroes, so that the old content needs no model; counted twice. */
	crashes("cluster_size=4k", "qemu-io -f qcow2 -c 'write -P 0 0 2M' a.qcow2 && "
		"qemu-img snapshot -c one a.qcow2", 600, 60);
}

Test(qcow2_crash, test_crash_around_snapshots_of_raw)
{
	qt_seed(21);
	snapshot_crashes("raw", 3, 500, 40);
}

Test(qcow2_crash, test_crash_around_snapshots_of_qcow2)
{
	qt_seed(22);
	snapshot_crashes("qcow2", 4, 600, 40);
}

/* A full disk at work, and its recorded writes so far. */
static size_t begin_resize(unsigned int seed)
{
	qt_seed(seed);
	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 %lu && cp a.qcow2 before",
	      (unsigned long)DISK);
	qt_open(&t, "a.qcow2", "discard=unmap");
	interpose(0, t.d->node->file.node);
	work(200, 0);
	return rec_len;
}

static void judge_resize(size_t from, size_t to)
{
	for (size_t at = from; at <= to; at++)
		judge(at);
	judge_all(20);
	bt_stop(&t);
}

/* A crash in the midst of it: the disk has its old length or the new one. */
Test(qcow2_crash, test_crash_while_the_image_is_resized)
{
	size_t begun = begin_resize(23);
	struct err e = ERR_INIT;

	cr_assert_eq(image_resize(t.d->node, block_graph_wait_loop(t.g), 2048 * MIB, &e), 0, "%s",
		     e.text);
	cr_assert_gt(rec_len, begun + 3);
	judge_resize(begun, rec_len);
}

/* The same under a running guest, where the old end is amid a cluster that is full. */
Test(qcow2_crash, test_crash_while_the_disk_grows_in_use)
{
	size_t begun = begin_resize(24);

	cr_assert_eq(t.d->node->drv->set_length(t.d->node, 512 * MIB), 0);
	cr_assert_gt(rec_len, begun + 3);
	work(100, 0);
	judge_resize(begun, MIN(begun + 60, rec_len));
}

/* ---- a stream ---- */

static struct {
	struct stream *s;
	pthread_t thread;
	_Atomic bool over;
	size_t end;		/* position */
	bool switched;
} job;

static int no_pace(void *arg, uint64_t bytes, uint64_t so_far, uint64_t all)
{
	return 0;
}

static void *stream_thread(void *arg)
{
	struct err e = ERR_INIT;
	struct loop *l;

	cr_assert_eq(loop_create(&l, "stream", LOOP_AIO_AUTO, &e), 0);
	cr_assert_eq(stream_run(job.s, l, no_pace, NULL, &e), 0, "%s", e.text);
	loop_destroy(l);
	job.end = rec_len;
	atomic_store(&job.over, true);
	return NULL;
}

static void stream_told(void *arg, int ret, const struct err *e)
{
	cr_assert_eq(ret, 0, "%s", e->text);
	job.switched = true;
}

/* Three quarters of the disk come from a file below, and are safe. */
static void make_bottom(void)
{
	uint8_t *mem = malloc(DISK);
	int fd = open(bt_path(&t, "bottom.raw"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	for (uint64_t i = 0; i < DISK; i++)
		mem[i] = bt_byte(i, 60000);
	cr_assert_eq(fd_write_full(fd, mem, DISK / 2, 0), 0);
	cr_assert_eq(fd_write_full(fd, mem + DISK * 3 / 4, DISK / 4, DISK * 3 / 4), 0);
	close(fd);
	free(mem);
	sent(0, DISK / 2, 60000);
	sent(DISK * 3 / 4, DISK / 4, 60000);
	done(0, DISK / 2);
	done(DISK * 3 / 4, DISK / 4);
	flushed();
}

/* Of everything, or down to the file at the bottom, @base, with a file between. */
static void stream_crashes(const char *opts, bool base, int moments)
{
	struct err e = ERR_INIT;
	const char *name = NULL;

	bt_start(&t, LOOP_AIO_AUTO);
	make_bottom();
	/* A name that reaches into the second sector. */
	qt_sh(&t, "qemu-img create -f qcow2 -b bottom.raw -F raw mid.qcow2 && "
	      "qemu-img create -f qcow2 -o %s -b $(printf './%%.0s' $(seq 250))mid.qcow2 -F qcow2 "
	      "a.qcow2 && cp a.qcow2 before", opts);
	qt_open(&t, "a.qcow2", "discard=unmap");
	if (base)
		name = t.d->node->backing.node->backing.node->name;
	interpose(0, t.d->node->file.node);
	work(60, 0);
	cr_assert_eq(stream_create(t.g, "d0", name, NULL, &job.s, &e), 0, "%s", e.text);
	cr_assert_eq(pthread_create(&job.thread, NULL, stream_thread, NULL), 0);
	for (int i = 0; i < 10 || (i < 50 && !atomic_load(&job.over)); i++)
		work(15, 0);
	pthread_join(job.thread, NULL);
	stream_switch(job.s, stream_told, NULL);
	while (!job.switched)
		loop_turn(t.loop, NS_PER_MS);
	stream_destroy(job.s);
	work(60, 0);
	stop_recording();
	/* Around the header's change. */
	for (size_t at = job.end - 8; at <= job.end; at++)
		for (int i = 0; i < 10; i++)
			judge(at);
	judge_all(moments);
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "qemu-img info a.qcow2 | grep -c 'bottom.raw\\|backing file: ' | grep -qx %d",
	      base ? 1 : 0);
	bt_stop(&t);
}

Test(qcow2_crash, test_crash_in_the_midst_of_a_stream)
{
	qt_seed(24);
	stream_crashes("cluster_size=4k", false, 80);
}

Test(qcow2_crash, test_crash_in_the_midst_of_a_stream_of_subclusters)
{
	qt_seed(25);
	stream_crashes("extended_l2=on,cluster_size=16k", false, 60);
}

Test(qcow2_crash, test_crash_in_the_midst_of_a_stream_down_to_a_base)
{
	qt_seed(26);
	stream_crashes("cluster_size=4k", true, 80);
}
