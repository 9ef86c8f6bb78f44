/*
 * tests/dev/test_qmp_quit.c - the VM ends while a command of QMP waits for storage that
 * hangs: the end does not wait with it, and whoever hangs harms nobody later.
 * TSAN: they hang on threads of their own.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/block.h"
#include "block/fault.h"
#include "block/graph.h"
#include "tests/dev/lib_disk.h"
#include "tests/dev/lib_qmp.h"
#include "tests/dev/lib_virtio.h"
#include "tests/dev/lib_hang.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

static struct rig *rig;
static struct block_graph *g;
static struct qmp_test t;
static struct drive *d;		/* as a device has it */

/* base <- top, which is the disk's; 1 MiB each. */
static void setup(void)
{
	struct err e = ERR_INIT;

	td_make();
	td_sh("qemu-img create -q -f raw base 1M && qemu-img create -q -f raw plain 1M && "
	   "qemu-img create -q -f qcow2 -b base -F raw top && "
	   "qemu-io -f qcow2 -c 'write -P 1 0 100k' top >log");
	rig = vdrv_rig(NULL);
	g = rig->vm->blocks;
	tq_start(&t, rig->vm);
	tq_ok(&t, "blockdev-add", "{'driver': 'qcow2', 'node-name': 'disk', 'file': {'driver': "
	      "'file', 'filename': '%s/top'}}", td_dir);
	tq_ok(&t, "blockdev-add", "{'driver': 'raw', 'node-name': 'plain', 'file': {'driver': "
	      "'file', 'filename': '%s/plain'}}", td_dir);
	cr_assert_eq(drive_open(g, "disk", "disk0", DRIVE_OPEN_WRITE, &d, &e), 0, "%s", e.text);
}

/* As build_destroy() does; what a thread was left with stays. */
static void quit(unsigned int left)
{
	unsigned int before = g->late;

	if (left)
		g->end_ns = clock_ns() + 300 * NS_PER_MS;
	tq_stop(&t);
	loop_turn(rig->loop, 0);	/* as vm_destroy() where requests are in flight */
	cr_expect_eq(g->late - before, left, "%u", g->late);
	drive_close(d);
	rig_destroy(rig);
}

static void teardown(void)
{
	td_remove();
}

static void await_hang(void)
{
	while (!hang_came())
		loop_turn(rig->loop, NS_PER_MS);
}

TestSuite(qmp_quit, .init = setup, .fini = teardown, .timeout = 60);

Test(qmp_quit, test_resize_that_hangs)
{
	hang_begin(SYS_ftruncate);
	tq_begin(&t, "block_resize", "{'node-name': 'plain', "
	      "'size': 2097152}");
	await_hang();
	quit(1);
	hang_end();
	hang_await_end("resize");
	td_sh("test $(stat -c %s plain) = 2097152");
}

Test(qmp_quit, test_dump_that_hangs)
{
	hang_begin(SYS_ftruncate);
	tq_begin(&t, "dump-guest-memory", "{'paging': false, "
	      "'protocol': 'file:%s/core'}", td_dir);
	await_hang();
	quit(1);
	hang_end();
	hang_await_end("dump");
}

Test(qmp_quit, test_snapshot_whose_folder_hangs)
{
	hang_begin(SYS_fsync);
	tq_begin(&t, "blockdev-snapshot-sync", "{'node-name': 'disk', "
	      "'snapshot-file': '%s/over'}", td_dir);
	await_hang();
	quit(1);
	hang_end();
	hang_await_end("snapshot");
}

Test(qmp_quit, test_created_image_whose_folder_hangs)
{
	hang_begin(SYS_fsync);
	tq_begin(&t, "blockdev-create", "{'job-id': 'c0', 'options': "
	      "{'driver': 'file', 'filename': '%s/new', 'size': 65536}}", td_dir);
	await_hang();
	quit(1);
	hang_end();
	hang_await_end("job");
}

Test(qmp_quit, test_jobs_whose_requests_hang)
{
	struct err e = ERR_INIT;

	td_fault(g, "id=f0,drive=%s,hang=on", d->node->backing.node->name);
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk'}");
	while (td_held(g) == 0)
		loop_turn(rig->loop, NS_PER_MS);
	quit(1);
	/* They are let go long after the loop that they would have told. */
	cr_expect_eq(block_fault_del(g, "f0", &e), 0, "%s", e.text);
	hang_await_end("job");
}

/* What it told of before it hung is not told after the server has gone. */
Test(qmp_quit, test_job_that_hangs_after_an_error)
{
	const char *base = d->node->backing.node->name;
	struct err e = ERR_INIT;

	td_fault(g, "id=f1,drive=%s,op=write,errno=EIO,count=1", base);
	td_fault(g, "id=f0,drive=%s,op=write,hang=on", base);	/* the next one */
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'on-error': 'ignore'}");
	/* It has a thread by now, and the loop is not turned any more. */
	while (td_held(g) == 0)
		usleep(1000);
	quit(1);
	cr_expect_eq(block_fault_del(g, "f0", &e), 0, "%s", e.text);
	hang_await_end("job");
}

Test(qmp_quit, test_end_comes_sooner_where_a_disk_is_suspended)
{
	uint64_t now = clock_ns();

	cr_expect_gt(block_graph_end_ns(g), now + 5 * NS_PER_SEC);
	cr_expect_eq(block_graph_end_ns(g), g->end_ns, "it is the same for all");
	g->end_ns = 0;
	atomic_fetch_add(&d->retry.active, 1);	/* as retry_park() */
	cr_expect_leq(block_graph_end_ns(g), clock_ns() + NS_PER_SEC);
	atomic_fetch_sub(&d->retry.active, 1);
	quit(0);
}

Test(qmp_quit, test_nothing_hangs)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'speed': 1}");
	quit(0);
}
