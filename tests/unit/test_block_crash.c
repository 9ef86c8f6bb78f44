/*
 * tests/unit/test_block_crash.c - the host crashes while the chain of a disk changes:
 * in the midst of snapshots, of streams and of commits.
 *
 * The driver starts a thread, and jobs run on others: TSAN.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/commit.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/snapshot.h"
#include "block/stream.h"
#include "lib_crash.h"
#include "vmm/base/util.h"

TestSuite(block_crash, .timeout = 240);

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
	args = json_pack("{s:s,s:s}", "driver", "file", "filename", bt_path(&cd.t, name));
	qt_sh(&cd.t, "touch %s", name);
	cr_assert_eq(graph_node_create(cd.t.g, args, false, &n, &e), 0, "%s", e.text);
	json_decref(args);
	cr_assert_eq(block_attach(&c, n, "test", BLOCK_PERM_READ | BLOCK_PERM_WRITE |
				  BLOCK_PERM_RESIZE, 0, &e), 0, "%s", e.text);
	cd_record(i, n);
	image_qcow2_defaults(&o);
	o.size = CRASH_DISK;
	snprintf(below, sizeof(below), "c%d", i - 1);
	o.backing_file = below;
	o.backing_format = cd.files[i - 1].raw ? "raw" : "qcow2";
	cr_assert_eq(image_qcow2_create(n, block_graph_wait_loop(cd.t.g), &o, &e), 0, "%s", e.text);
	n->implicit = true;
	n->drv = &block_driver_file;
	block_detach(&c);
}

static void told(void *arg, int ret, const struct err *e)
{
	int i = cd.top + 1;

	cr_assert_eq(ret, 0, "%s", e->text);
	cd.files[i].told_at = cd_now();
}

/* While requests are in flight; more come during it. */
static void take_snapshot(void)
{
	char name[16], under[24], text[200];
	struct snapshot_pair p = { under, name };
	struct err e = ERR_INIT;
	struct snapshot *s;
	int i = cd.top + 1;

	make_overlay(i);
	snprintf(name, sizeof(name), "o%d", i);
	snprintf(under, sizeof(under), "%s", cd.t.d->node->name);
	snprintf(text, sizeof(text), "{\"driver\": \"qcow2\", \"node-name\": \"%s\", \"backing\": "
		 "null, \"discard\": \"unmap\", \"file\": {\"driver\": \"file\", \"filename\": "
		 "\"%%s/live%d\"}}", name, i);
	cr_assert_eq(bt_blockdev(&cd.t, text), 0, "%s", bt_error());
	cd_record(i, block_node_find(cd.t.g, name)->file.node);
	cr_assert_eq(snapshot_start(cd.t.g, &p, 1, told, NULL, &s, &e), 0, "%s", e.text);
	for (unsigned int k = 0; !cd.files[i].told_at; k++)
		cd_turn(10000 + (unsigned int)i * 1000 + k % 1000, NS_PER_MS);
	cd.top = i;
}

static int wanted;	/* snapshots */

static void now_and_then(unsigned int round, unsigned int rounds)
{
	if (round % (rounds / ((unsigned int)wanted + 1)) == 0 && cd.top < wanted)
		take_snapshot();
}

/* The disk is @format, and gets @snapshots overlays while it works. */
static void snapshot_crashes(const char *format, int snapshots, unsigned int rounds, int moments)
{
	bt_start(&cd.t, LOOP_AIO_AUTO);
	cd.files[0].raw = strcmp(format, "raw") == 0;
	qt_sh(&cd.t, "qemu-img create -f %s live0 %lu && cp live0 before", format,
	      (unsigned long)CRASH_DISK);
	if (cd.files[0].raw)
		bt_open(&cd.t, bt_path(&cd.t, "live0"), "discard=unmap");
	else
		qt_open(&cd.t, "live0", "discard=unmap");
	cd_record(0, cd.t.d->node->file.node);
	wanted = snapshots;
	cd_work(rounds, now_and_then);
	cr_assert_eq(cd.top, snapshots);
	cd_judge_all(moments);
	for (int i = cd.files[0].raw; i <= snapshots; i++)
		qt_sh(&cd.t, "ln -sf live%d c%d && qemu-img check -f qcow2 c%d", i, i, i);
	bt_stop(&cd.t);
}

Test(block_crash, test_crash_around_snapshots_of_raw)
{
	qt_seed(21);
	snapshot_crashes("raw", 3, 500, 40);
}

Test(block_crash, test_crash_around_snapshots_of_qcow2)
{
	qt_seed(22);
	snapshot_crashes("qcow2", 4, 600, 40);
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

static int no_retry(void *arg, int err)
{
	return err;
}

static void *stream_thread(void *arg)
{
	struct err e = ERR_INIT;
	struct loop *l;

	cr_assert_eq(loop_create(&l, "stream", LOOP_AIO_AUTO, &e), 0);
	cr_assert_eq(stream_run(job.s, l, no_pace, no_retry, NULL, &e), 0, "%s", e.text);
	loop_destroy(l);
	job.end = cd_now();
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
	uint8_t *mem = malloc(CRASH_DISK);
	int fd = open(bt_path(&cd.t, "bottom.raw"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	for (uint64_t i = 0; i < CRASH_DISK; i++)
		mem[i] = bt_byte(i, 60000);
	cr_assert_eq(fd_write_full(fd, mem, CRASH_DISK / 2, 0), 0);
	cr_assert_eq(fd_write_full(fd, mem + CRASH_DISK * 3 / 4, CRASH_DISK / 4, CRASH_DISK * 3 / 4), 0);
	close(fd);
	free(mem);
	cd_had(0, CRASH_DISK / 2, 60000);
	cd_had(CRASH_DISK * 3 / 4, CRASH_DISK / 4, 60000);
}

/* Of everything, or down to the file at the bottom, @base, with a file between. */
static void stream_crashes(const char *opts, bool base, int moments)
{
	struct err e = ERR_INIT;
	const char *name = NULL;

	bt_start(&cd.t, LOOP_AIO_AUTO);
	make_bottom();
	/* A name that reaches into the second sector. */
	qt_sh(&cd.t, "qemu-img create -f qcow2 -b bottom.raw -F raw mid.qcow2 && "
	      "qemu-img create -f qcow2 -o %s -b $(printf './%%.0s' $(seq 250))mid.qcow2 -F qcow2 "
	      "a.qcow2 && cp a.qcow2 before", opts);
	qt_open(&cd.t, "a.qcow2", "discard=unmap");
	if (base)
		name = cd.t.d->node->backing.node->backing.node->name;
	cd_record(0, cd.t.d->node->file.node);
	cd_work(60, NULL);
	cr_assert_eq(stream_create(cd.t.g, "d0", name, NULL, &job.s, &e), 0, "%s", e.text);
	cr_assert_eq(pthread_create(&job.thread, NULL, stream_thread, NULL), 0);
	for (int i = 0; i < 10 || (i < 50 && !atomic_load(&job.over)); i++)
		cd_work(15, NULL);
	pthread_join(job.thread, NULL);
	stream_switch(job.s, stream_told, NULL);
	while (!job.switched)
		loop_turn(cd.t.loop, NS_PER_MS);
	stream_destroy(job.s);
	cd_work(60, NULL);
	cd_stop();
	/* Around the header's change. */
	for (size_t at = job.end - 8; at <= job.end; at++)
		for (int i = 0; i < 10; i++)
			cd_judge(at);
	cd_judge_all(moments);
	qt_check(&cd.t, "a.qcow2");
	qt_sh(&cd.t, "qemu-img info a.qcow2 | grep -c 'bottom.raw\\|backing file: ' | grep -qx %d",
	      base ? 1 : 0);
	bt_stop(&cd.t);
}

Test(block_crash, test_crash_in_the_midst_of_a_stream)
{
	qt_seed(24);
	stream_crashes("cluster_size=4k", false, 80);
}

Test(block_crash, test_crash_in_the_midst_of_a_stream_of_subclusters)
{
	qt_seed(25);
	stream_crashes("extended_l2=on,cluster_size=16k", false, 60);
}

Test(block_crash, test_crash_in_the_midst_of_a_stream_down_to_a_base)
{
	qt_seed(26);
	stream_crashes("cluster_size=4k", true, 80);
}

/* ---- a commit ---- */

static struct {
	struct commit *c;
	pthread_t thread;
	_Atomic bool over, complete;
	bool begun, ended;
} com;

static int ready(void *arg, uint64_t so_far, uint64_t all)
{
	usleep(1000);
	return atomic_load(&com.complete) ? COMMIT_COMPLETE : COMMIT_GO_ON;
}

static bool never(void *arg)
{
	return false;
}

static int no_try(void *arg, bool write, int err)
{
	return err;
}

static void post(void *arg, struct loop_work *w)
{
	loop_post(cd.t.loop, w);
}

static void *commit_thread(void *arg)
{
	struct commit_watch w = { no_pace, ready, no_try, never, post, NULL };
	struct err e = ERR_INIT;
	struct loop *l;

	cr_assert_eq(loop_create(&l, "commit", LOOP_AIO_AUTO, &e), 0);
	cr_assert_eq(commit_run(com.c, l, &w, &e), 0, "%s", e.text);
	loop_destroy(l);
	atomic_store(&com.over, true);
	return NULL;
}

static void commit_begun(void *arg, int ret, const struct err *e)
{
	cr_assert_eq(ret, 0, "%s", e->text);
	com.begun = true;
}

static void commit_ended(void *arg, int ret, const struct err *e)
{
	cr_assert_eq(ret, 0, "%s", e->text);
	com.ended = true;
	if (arg)
		cd.pivot = cd_now();
}

/* live0 <- live1 <- live2, which is the disk; all but live2 has something. */
static void make_layers(const char *format, const char *opts)
{
	uint8_t *mem = malloc(CRASH_DISK);
	int fd;

	make_bottom();
	qt_sh(&cd.t, "qemu-img convert -f raw -O %s bottom.raw live0 && cp live0 before", format);
	for (uint64_t i = 0; i < CRASH_DISK; i++)
		mem[i] = bt_byte(i, 50000);
	fd = open(bt_path(&cd.t, "mid.bin"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(fd_write_full(fd, mem + 300 * KIB, 900 * KIB, 0), 0);
	close(fd);
	free(mem);
	cd_had(300 * KIB, 900 * KIB, 50000);
	qt_sh(&cd.t, "ln -s live0 c0 && ln -s live1 c1 && qemu-img create -f qcow2 -o %s -b c0 -F %s "
	      "live1 && qemu-io -f qcow2 -c 'write -s mid.bin 300k 900k' live1 && "
	      "qemu-img create -f qcow2 -o %s -b c1 -F qcow2 live2 && rm c0 c1 && "
	      "cp live1 before1 && cp live2 before2", opts, format, opts);
	cd.files[0].raw = strcmp(format, "raw") == 0;
	cd.top = 2;
}

static void open_layers(const char *format)
{
	struct err e = ERR_INIT;
	char text[256];

	snprintf(text, sizeof(text), "{\"driver\": \"%s\", \"node-name\": \"n0\", \"read-only\": "
		 "true, \"discard\": \"unmap\", \"file\": {\"driver\": \"file\", \"discard\": "
		 "\"unmap\", \"filename\": \"%%s/live0\"}}", format);
	cr_assert_eq(bt_blockdev(&cd.t, text), 0, "%s", bt_error());
	for (int i = 1; i < 3; i++) {
		snprintf(text, sizeof(text), "{\"driver\": \"qcow2\", \"node-name\": \"n%d\", "
			 "\"read-only\": %s, \"backing\": \"n%d\", \"discard\": \"unmap\", "
			 "\"file\": {\"driver\": \"file\", \"filename\": \"%%s/live%d\"}}", i,
			 i == 1 ? "true" : "false", i - 1, i);
		cr_assert_eq(bt_blockdev(&cd.t, text), 0, "%s", bt_error());
	}
	cr_assert_eq(drive_open(cd.t.g, "n2", "disk0", DRIVE_OPEN_WRITE, &cd.t.d, &e), 0, "%s",
		     e.text);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		cd_record(i, block_node_find(cd.t.g, text)->file.node);
	}
}

/* Into live0: the disk's own layer and the one below it, or that alone. */
static void commit_crashes(const char *format, const char *opts, bool active, int moments)
{
	struct commit_opts o = { "n2", active ? NULL : "n1", "n0", active ? NULL : "c0" };
	struct err e = ERR_INIT;
	size_t end;

	bt_start(&cd.t, LOOP_AIO_AUTO);
	make_layers(format, opts);
	open_layers(format);
	cd_work(40, NULL);
	cr_assert_eq(commit_start(cd.t.g, &o, commit_begun, NULL, &com.c, &e), 0, "%s", e.text);
	for (unsigned int i = 0; !com.begun; i++)
		cd_turn(2000 + i % 1000, NS_PER_MS);
	cr_assert_eq(pthread_create(&com.thread, NULL, commit_thread, NULL), 0);
	for (int i = 0; i < 6; i++)
		cd_work(15, NULL);
	atomic_store(&com.complete, true);
	for (unsigned int i = 0; !atomic_load(&com.over); i++)
		cd_turn(3000 + i % 1000, NS_PER_MS);
	pthread_join(com.thread, NULL);
	end = cd_now();
	commit_end(com.c, 0, &e, commit_ended, active ? &com : NULL);
	while (!com.ended)
		cd_turn(4000, NS_PER_MS);
	commit_destroy(com.c);
	cd_work(60, NULL);
	cd_stop();
	/* Around the change of who is the disk, or of the header. */
	for (size_t at = end - 8; at <= end + 4; at++)
		for (int i = 0; i < 5; i++)
			cd_judge(at);
	cd_judge_all(moments);
	bt_stop(&cd.t);
}

Test(block_crash, test_crash_in_the_midst_of_a_commit_of_the_active_layer)
{
	qt_seed(31);
	commit_crashes("raw", "cluster_size=4k", true, 60);
}

Test(block_crash, test_crash_in_the_midst_of_a_commit_into_qcow2)
{
	qt_seed(32);
	commit_crashes("qcow2", "cluster_size=16k,extended_l2=on", true, 60);
}

Test(block_crash, test_crash_in_the_midst_of_a_commit_of_a_layer_between)
{
	qt_seed(33);
	commit_crashes("qcow2", "cluster_size=4k", false, 60);
}
