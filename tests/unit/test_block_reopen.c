/*
 * tests/unit/test_block_reopen.c - blockdev-reopen on nodes with requests in flight:
 * what changes counts, what cannot changes nothing.
 *
 * TSAN: a qcow2 image's worker, and the loop's threads, beside the main loop.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/fault.h"
#include "block/file.h"
#include "block/graph.h"
#include "block/reopen.h"
#include "block/throttle.h"
#include "lib_qcow2.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define DISK	(1 * MIB)
#define N	16

static struct bt t;
static struct reopen *r;
static int finished, result;
static char sentence[512];

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
	finished = 1;
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_reopen, .init = setup, .fini = teardown, .timeout = 60);

static void done(void *arg, int ret, const struct err *e)
{
	finished++;
	result = ret;
	snprintf(sentence, sizeof(sentence), "%s", ret ? e->text : "");
}

/* @fmt: JSON with ' for ", "%s" for the directory. 0: under way. */
static int start(const char *fmt)
{
	struct err e = ERR_INIT;
	char text[2048], *at;
	json_t *list;
	int ret;

	snprintf(text, sizeof(text), "%s", fmt);
	while ((at = strstr(text, "%s"))) {
		char tail[2048];

		snprintf(tail, sizeof(tail), "%s", at + 2);
		snprintf(at, sizeof(text) - (size_t)(at - text), "%s%s", t.dir, tail);
	}
	for (at = text; *at; at++)
		*at = *at == '\'' ? '"' : *at;
	list = json_loads(text, 0, NULL);
	cr_assert_not_null(list, "%s", text);
	finished = 0;
	ret = reopen_start(t.g, list, done, NULL, &r, &e);
	cr_assert_eq(finished, 0, "done was called inside reopen_start()");
	snprintf(sentence, sizeof(sentence), "%s", ret ? e.text : "");
	json_decref(list);
	return ret;
}

static int finish(void)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;

	while (!finished && clock_ns() < end)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 1, "the command never ends");
	return result;
}

static void reopens(const char *fmt)
{
	cr_assert_eq(start(fmt), 0, "%s", sentence);
	cr_assert_eq(finish(), 0, "%s", sentence);
}

static void refused(const char *fmt, const char *with)
{
	if (start(fmt) == 0)
		cr_assert_lt(finish(), 0, "%s worked", fmt);
	cr_assert(strstr(sentence, with), "%s", sentence);
}

static struct block_node *node(const char *name)
{
	struct block_node *n = block_node_find(t.g, name);

	cr_assert_not_null(n, "%s", name);
	return n;
}

static int flags_of(const char *name)
{
	return fcntl(((struct file_node *)node(name))->fd, F_GETFL);
}

static void open_as(const char *name, uint32_t flags)
{
	struct err e = ERR_INIT;

	cr_assert_eq(drive_open(t.g, name, "dev0", flags, &t.d, &e), 0, "%s", e.text);
}

/* Node "r" (raw) on node "f" (file a.raw of DISK bytes), as a disk. */
static void raw_nodes(void)
{
	bt_file(&t, "a.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=f,filename=%s/a.raw"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=raw,node-name=r,file=f"), 0);
}

#define FILE_F	"'driver': 'file', 'node-name': 'f', 'filename': '%s/a.raw'"
#define RAW_R	"'driver': 'raw', 'node-name': 'r', 'file': 'f'"

/* ---- options ---- */

Test(block_reopen, test_discard_and_detect_zeroes_count_at_once)
{
	static uint8_t zeroes[65536];
	struct stat st;

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 0, NULL, DISK, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	stat(bt_path(&t, "a.raw"), &st);
	cr_assert_geq((uint64_t)st.st_blocks * 512, DISK, "ignored discards gave space back");
	reopens("[{" RAW_R ", 'discard': 'unmap', 'detect-zeroes': 'unmap'},"
		"{" FILE_F ", 'discard': 'unmap', 'aio': 'threads'}]");
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 0, NULL, DISK / 2, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, DISK / 2, zeroes, sizeof(zeroes), 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	stat(bt_path(&t, "a.raw"), &st);
	cr_assert_leq((uint64_t)st.st_blocks * 512, DISK / 2 - sizeof(zeroes));
	/* What is not stated has its default again. */
	reopens("[{" RAW_R "}]");
	cr_expect_eq(node("r")->discard, BLOCK_DISCARD_IGNORE);
	cr_expect_eq(node("r")->detect_zeroes, BLOCK_DETECT_OFF);
	cr_expect_eq(node("f")->discard, BLOCK_DISCARD_UNMAP);
}

Test(block_reopen, test_cache_mode_changes_beside_requests)
{
	static struct bt_req q[N];
	static uint8_t data[N][4096 + 512], got[4096];

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	for (int round = 1; round < 12; round++) {
		for (int i = 0; i < N; i++) {
			memset(data[i], round * 16 + i, sizeof(data[i]));
			/* Memory that O_DIRECT cannot take as it is. */
			bt_submit(&t, &q[i], BLOCK_WRITE, (uint64_t)i * 4096 + 512, data[i] + 1,
				  4096, 0);
		}
		start(round & 1 ? "[{" FILE_F ", 'cache': {'direct': true}}]" :
		      "[{" FILE_F ", 'cache': {'direct': false}}]");
		for (int i = 0; i < N; i++)
			bt_wait(&t, &q[i]);
		cr_assert_eq(finish(), 0, "%s", sentence);
		cr_assert_eq(!!(flags_of("f") & O_DIRECT), round & 1);
		for (int i = 0; i < N; i++) {
			cr_assert_eq(q[i].ret, 0);
			cr_assert_eq(bt_io(&t, BLOCK_READ, (uint64_t)i * 4096 + 512, got, 4096, 0),
				     0);
			cr_assert_eq(memcmp(got, data[i], 4096), 0, "round %d", round);
		}
	}
	cr_expect_eq(node("r")->request_align, node("f")->request_align);
	reopens("[{" RAW_R ", 'cache': {'direct': true}}, "
		"{" FILE_F ", 'cache': {'no-flush': true}}]");
	cr_expect(node("r")->cache_direct);
	cr_expect(node("f")->cache_no_flush);
	cr_expect_eq(node("r")->request_align, 1);
	cr_expect_not(flags_of("f") & O_DIRECT);
}

Test(block_reopen, test_idle_node_becomes_read_only_and_writable_again)
{
	struct err e = ERR_INIT;
	struct drive *d;

	raw_nodes();
	reopens("[{" RAW_R ", 'read-only': true}]");
	cr_expect_eq(flags_of("f") & O_ACCMODE, O_RDONLY);
	cr_assert_lt(drive_open(t.g, "r", "dev0", DRIVE_OPEN_WRITE, &d, &e), 0);
	cr_expect(strstr(e.text, "is read-only"), "%s", e.text);
	reopens("[{" RAW_R ", 'read-only': false}]");
	cr_expect_eq(flags_of("f") & O_ACCMODE, O_RDWR);
	open_as("r", DRIVE_OPEN_WRITE);
	refused("[{" RAW_R ", 'read-only': true}]", "cannot become read-only: it is written to");
	cr_expect_not(node("r")->read_only);
	cr_expect_eq(flags_of("f") & O_ACCMODE, O_RDWR);
}

/* A device that only reads stays, and goes on reading. */
Test(block_reopen, test_disk_that_is_only_read_changes_below_it)
{
	uint8_t buf[512];

	raw_nodes();
	reopens("[{" FILE_F ", 'read-only': true}, {" RAW_R ", 'read-only': true}]");
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	refused("[{" RAW_R "}]", "'f' below it is read-only");
	reopens("[{" RAW_R "}, {" FILE_F "}]");
	cr_expect_eq(flags_of("f") & O_ACCMODE, O_RDWR);
	cr_expect_not(node("r")->read_only);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), -EROFS);
	reopens("[{" RAW_R ", 'read-only': true}]");
	cr_expect_eq(flags_of("f") & O_ACCMODE, O_RDONLY);
}

Test(block_reopen, test_inline_children_change_as_well)
{
	bt_file(&t, "a.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=raw,node-name=r,file.driver=file,file.node-name=f,"
				 "file.filename=%s/a.raw"), 0, "%s", bt_error());
	reopens("[{'driver': 'raw', 'node-name': 'r', 'cache': {'direct': true}, "
		"'file': {'driver': 'file', 'filename': '%s/a.raw'}}]");
	cr_expect(flags_of("f") & O_DIRECT);
	cr_expect_eq(node("f")->discard, BLOCK_DISCARD_UNMAP, "a child's discard is on");
	refused("[{'driver': 'raw', 'node-name': 'r', 'file': {'driver': 'file', 'node-name': 'g', "
		"'filename': '%s/a.raw'}}]", "'f' cannot be called 'g'");
	refused("[{'driver': 'raw', 'node-name': 'r', 'file': {'driver': 'file', "
		"'filename': '%s/a.raw'}}, {" FILE_F "}]", "'f' is named twice");
}

Test(block_reopen, test_throttle_node_changes_its_group)
{
	static struct bt_req q[N];
	static uint8_t data[4096];
	struct throttle_limits slow = { .avg[THROTTLE_IOPS] = 10 };
	const char *names[] = { "slow", "free" };

	for (int i = 0; i < 2; i++)
		throttle_group_get(t.g, names[i])->object = true;
	cr_assert_eq(throttle_group_set(throttle_group_find(t.g, "slow"), &slow, "", NULL), 0);
	raw_nodes();
	cr_assert_eq(bt_blockdev(&t, "driver=throttle,node-name=t,throttle-group=slow,file=r"), 0);
	open_as("t", DRIVE_OPEN_MAY_WRITE);
	refused("[{'driver': 'throttle', 'node-name': 't', 'throttle-group': 'x', 'file': 'r'}]",
		"throttle-group=x: there is no throttle group");
	for (int i = 0; i < N; i++)
		bt_submit(&t, &q[i], BLOCK_WRITE, (uint64_t)i * 4096, data, 4096, 0);
	reopens("[{'driver': 'throttle', 'node-name': 't', 'throttle-group': 'free', "
		"'file': 'r'}]");
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_expect_null(throttle_group_find(t.g, "slow")->members);
	cr_expect_not_null(throttle_group_find(t.g, "free")->members);
}

/* ---- backing ---- */

/* "q" (qcow2, empty) on "qf"; "a" and "b" with other bytes. */
static void qcow2_nodes(const char *backing)
{
	char text[256];

	qt_sh(&t, "truncate -s 1M a.raw b.raw");
	qt_sh(&t, "qemu-io -f raw -c 'write -P 1 0 1M' a.raw");
	qt_sh(&t, "qemu-io -f raw -c 'write -P 2 0 1M' b.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b a.raw -F raw q.qcow2");
	cr_assert_eq(bt_blockdev(&t, "driver=raw,node-name=a,read-only=on,file.driver=file,"
				 "file.filename=%s/a.raw"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "driver=raw,node-name=b,read-only=on,file.driver=file,"
				 "file.filename=%s/b.raw"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=qf,filename=%s/q.qcow2"), 0);
	snprintf(text, sizeof(text), "{\"driver\":\"qcow2\",\"node-name\":\"q\",\"file\":\"qf\","
		 "\"backing\":%s}", backing);
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	open_as("q", DRIVE_OPEN_MAY_WRITE);
}

#define QCOW2_Q	"'driver': 'qcow2', 'node-name': 'q', 'file': 'qf', 'backing': "

static uint8_t first_byte(void)
{
	uint8_t buf[512];

	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	return buf[0];
}

Test(block_reopen, test_backing_node_is_taken_away_and_given)
{
	static uint8_t data[65536];
	struct err e = ERR_INIT;

	qcow2_nodes("\"a\"");
	cr_expect_eq(first_byte(), 1);
	reopens("[{" QCOW2_Q "null}]");
	cr_expect_eq(first_byte(), 0);
	cr_expect_eq(block_node_del(t.g, "a", &e), 0, "%s", e.text);
	reopens("[{" QCOW2_Q "'b'}]");
	cr_expect_eq(first_byte(), 2);
	cr_expect_eq(block_node_del(t.g, "b", NULL), -EBUSY);
	reopens("[{" QCOW2_Q "'b', 'discard': 'unmap'}]");
	memset(data, 3, sizeof(data));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, data, sizeof(data), 0), 0);
	cr_expect_eq(first_byte(), 3);
	qt_close(&t);
	qt_check(&t, "q.qcow2");
	/* The image is not told. */
	qt_sh(&t, "qemu-img info q.qcow2 | grep -q 'backing file: a.raw'");
}

Test(block_reopen, test_backing_node_of_the_image_goes_with_the_switch)
{
	qt_sh(&t, "truncate -s 1M a.raw b.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b a.raw -F raw q.qcow2");
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=qf,filename=%s/q.qcow2"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=qcow2,node-name=q,file=qf"), 0, "%s", bt_error());
	refused("[{'driver': 'qcow2', 'node-name': 'q', 'file': 'qf'}]", "backing= is missing");
	reopens("[{" QCOW2_Q "null}]");
	for (struct block_node *n = t.g->nodes; n; n = n->next)
		cr_expect(strcmp(n->name, "q") == 0 || strcmp(n->name, "qf") == 0, "%s", n->name);
	refused("[{'driver': 'qcow2', 'node-name': 'q', 'file': 'qf'}]", "a node's name");
}

/* Requests are in the chain all the time. */
Test(block_reopen, test_backing_node_is_switched_under_load)
{
	static struct bt_req q[N];
	static uint8_t data[N][4096];
	char text[128];

	qcow2_nodes("\"a\"");
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < N; i++)
			bt_submit(&t, &q[i], i & 1 ? BLOCK_WRITE : BLOCK_READ,
				  (uint64_t)(i & 1 ? 10 + i : i) * 16384, data[i], 4096, 0);
		snprintf(text, sizeof(text), "[{" QCOW2_Q "'%c'}]", round & 1 ? 'a' : 'b');
		cr_assert_eq(start(text), 0, "%s", sentence);
		for (int i = 0; i < N; i++) {
			bt_wait(&t, &q[i]);
			cr_assert_eq(q[i].ret, 0);
			cr_assert((i & 1) || data[i][0] == 1 || data[i][0] == 2);
		}
		cr_assert_eq(finish(), 0, "%s", sentence);
		cr_assert_eq(first_byte(), round & 1 ? 1 : 2);
	}
	qt_close(&t);
	qt_check(&t, "q.qcow2");
}

Test(block_reopen, test_backing_nodes_that_cannot_be_are_refused)
{
	qcow2_nodes("\"a\"");
	cr_assert_eq(bt_blockdev(&t, "driver=fault,node-name=above,latency=1,file=q"), 0);
	refused("[{" QCOW2_Q "'none'}]", "there is no node 'none'");
	refused("[{" QCOW2_Q "7}]", "neither a node's name nor its options");
	refused("[{" QCOW2_Q "'q'}]", "'q' is a part of 'q'");
	refused("[{" QCOW2_Q "'qf'}]", "in use");
	refused("[{" QCOW2_Q "'above'}]", "'q' is a part of 'above'");
	cr_expect_eq(first_byte(), 1);
	cr_expect_eq(node("q")->backing.node, node("a"));
}

/* ---- all or none ---- */

/* What fails behind is the backing node, or a file that is another one by now. */
Test(block_reopen, test_failure_at_the_last_node_leaves_all_as_they_were)
{
	qcow2_nodes("\"a\"");
	bt_file(&t, "x.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=x,filename=%s/x.raw"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=y,read-only=on,filename=%s/b.raw"), 0);
	refused("[{'driver': 'file', 'node-name': 'x', 'filename': '%s/x.raw', 'read-only': true, "
		"'cache': {'direct': true}, 'discard': 'unmap'}, {" QCOW2_Q "'b'}, "
		"{'driver': 'raw', 'node-name': 'a', 'file': {'driver': 'file', 'filename': "
		"'%s/a.raw'}, 'read-only': true, 'detect-zeroes': 'on'},"
		"{'driver': 'file', 'node-name': 'qf', 'filename': '%s/q.qcow2', 'read-only': true}]",
		"it is written to by node 'q'");
	cr_expect_not(node("x")->read_only);
	cr_expect_not(node("x")->cache_direct);
	cr_expect_eq(flags_of("x") & (O_ACCMODE | O_DIRECT), O_RDWR);
	cr_expect_eq(node("x")->discard, BLOCK_DISCARD_IGNORE);
	cr_expect_eq(node("x")->request_align, 1);
	cr_expect_eq(node("q")->backing.node, node("a"));
	cr_expect_eq(node("a")->detect_zeroes, BLOCK_DETECT_OFF);
	cr_expect_eq(first_byte(), 1);
	qt_sh(&t, "mv b.raw c.raw && truncate -s 1M b.raw");
	refused("[{" QCOW2_Q "'b'}, {'driver': 'file', 'node-name': 'y', 'filename': "
		"'%s/b.raw', 'read-only': false}]", "is another file than the one in use");
	cr_expect_eq(first_byte(), 1);
	cr_expect(node("y")->read_only);
}

/* ---- mistakes ---- */

Test(block_reopen, test_what_is_wrong_is_named)
{
	static const char *const bad[][2] = {
		{ "[{'driver': 'file', 'filename': '%s/a.raw'}]", "node-name= is missing" },
		{ "[{'driver': 'raw', 'node-name': 'rr', 'file': 'f'}]", "did you mean 'r'" },
		{ "[{'driver': 'qcow2', 'node-name': 'r', 'file': 'f'}]",
		  "driver=qcow2 is not its own; give raw" },
		{ "[{'node-name': 'r', 'file': 'f'}]", "driver=(nothing) is not its own" },
		{ "[{" RAW_R "}, {" RAW_R "}]", "'r' is named twice" },
		{ "[{'driver': 'raw', 'node-name': 'r'}]", "file=(nothing) cannot be put below" },
		{ "[{'driver': 'raw', 'node-name': 'r', 'file': 'other'}]",
		  "file=other cannot be put below it" },
		{ "[{'driver': 'raw', 'node-name': 'r', 'file': null}]", "give 'f', which is there" },
		{ "[{" RAW_R ", 'backing': 'f'}]", "driver 'raw' has no option 'backing'" },
		{ "[{" RAW_R ", 'data-file': 'f'}]", "has no data-file" },
		{ "[{" RAW_R ", 'size': 512}]", "node 'r': size is 0 and cannot become 512" },
		{ "[{" RAW_R ", 'nonsense': 1}]", "'nonsense'" },
		{ "[{" RAW_R ", 'read-only': 7}]", "read-only" },
		{ "[{" RAW_R ", 'discard': {'x': 1}}]", "discard" },
		{ "[{" RAW_R ", 'force-share': true, 'read-only': true}]",
		  "force-share is false and cannot become true" },
		{ "[{" RAW_R ", 'detect-zeroes': 'unmap'}]", "node 'r': detect-zeroes=unmap needs" },
		{ "[{'driver': 'file', 'node-name': 'f', 'filename': '%s/b.raw'}]",
		  "cannot become" },
		{ "[{" FILE_F ", 'locking': 'off'}]", "locking is \"auto\" and cannot become \"off\"" },
		{ "[{" FILE_F ", 'file': 'r'}]", "has no file" },
		{ "[{" FILE_F "}, 7]", "node-name= is missing" },
	};

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bad[i][0], bad[i][1]);
	reopens("[]");
	reopens("[{" RAW_R "}]");
}

/* ---- requests that do not end, disks that go ---- */

static void hang(const char *name)
{
	json_t *args = json_pack("{s:s,s:s,s:s,s:b}", "id", "f0", "drive", name, "op", "write",
				 "hang", 1);
	struct err e = ERR_INIT;

	cr_assert_eq(block_fault_add(t.g, args, &e), 0, "%s", e.text);
	json_decref(args);
}

Test(block_reopen, test_requests_that_hang_end_it)
{
	static struct bt_req q[2];
	static uint8_t data[512];

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	hang("f");
	bt_submit(&t, &q[0], BLOCK_WRITE, 0, data, 512, 0);
	refused("[{" RAW_R ", 'discard': 'unmap'}]", "requests in flight do not end");
	cr_expect_eq(node("r")->discard, BLOCK_DISCARD_IGNORE);
	bt_submit(&t, &q[1], BLOCK_READ, 0, data, 512, 0);
	bt_wait(&t, &q[1]);	/* not held any more */
	drive_cancel(&q[0].r);
	bt_wait(&t, &q[0]);
	reopens("[{" RAW_R ", 'discard': 'unmap'}]");
}

Test(block_reopen, test_unplugged_disk_is_not_waited_for)
{
	static struct bt_req q;
	static uint8_t data[512];

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	hang("f");
	bt_submit(&t, &q, BLOCK_WRITE, 0, data, 512, 0);
	cr_assert_eq(start("[{" RAW_R ", 'discard': 'unmap'}]"), 0, "%s", sentence);
	for (int i = 0; i < 20; i++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 0);
	/* Cancelled, and closed in the same turn. */
	drive_cancel(&q.r);
	while (!q.done)
		loop_turn(t.loop, 0);
	drive_close(t.d);
	t.d = NULL;
	cr_assert_eq(finish(), 0, "%s", sentence);
	cr_expect_eq(node("r")->discard, BLOCK_DISCARD_UNMAP);
}

Test(block_reopen, test_abort_in_the_midst_leaves_nothing)
{
	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	cr_assert_eq(start("[{" FILE_F ", 'cache': {'direct': true}}]"), 0, "%s", sentence);
	reopen_abort(r);
	cr_expect_eq(finished, 0);
	cr_expect_not(flags_of("f") & O_DIRECT);
	reopens("[{" FILE_F ", 'cache': {'direct': true}}]");
}

/* One at a time. */
Test(block_reopen, test_second_one_is_refused_meanwhile)
{
	struct err e = ERR_INIT;
	struct reopen *other;
	json_t *list = json_pack("[{s:s,s:s,s:s}]", "driver", "raw", "node-name", "r", "file", "f");

	raw_nodes();
	open_as("r", DRIVE_OPEN_MAY_WRITE);
	cr_assert_eq(start("[{" RAW_R ", 'discard': 'unmap'}]"), 0, "%s", sentence);
	cr_expect_eq(reopen_start(t.g, list, done, NULL, &other, &e), -EBUSY);
	cr_expect(strstr(e.text, "in use by blockdev-reopen"), "%s", e.text);
	json_decref(list);
	cr_expect_eq(block_node_del(t.g, "r", &e), -EBUSY);
	cr_assert_eq(finish(), 0);
}
