/*
 * tests/dev/test_qmp_commit.c - QMP's block-commit on a disk in use: layers below
 * it, the disk's own, and what a client can ask of the job meanwhile.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/block.h"
#include "block/fault.h"
#include "tests/dev/lib_disk.h"
#include "tests/dev/lib_qmp.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

static struct rig *rig;
static struct qmp_test t;
static struct drive *d;		/* as a device has it */

/* base.raw <- one <- two <- three, which is the disk's; 1 MiB each. */
static void setup(void)
{
	struct err e = ERR_INIT;

	td_make();
	td_sh("qemu-img create -q -f raw base.raw 1M && "
	   "qemu-img create -q -f qcow2 -b base.raw -F raw one && "
	   "qemu-img create -q -f qcow2 -b one -F qcow2 two && "
	   "qemu-img create -q -f qcow2 -b two -F qcow2 three && "
	   "qemu-io -f qcow2 -c 'write -P 1 0 100k' one >log && "
	   "qemu-io -f qcow2 -c 'write -P 2 64k 100k' two >log && "
	   "qemu-io -f qcow2 -c 'write -P 3 512k 128k' three >log && "
	   "qemu-img convert -O raw three want.raw");
	rig = vdrv_rig(NULL);
	tq_start(&t, rig->vm);
	tq_ok(&t, "blockdev-add", "{'driver': 'qcow2', 'node-name': 'disk', 'file': {'driver': "
	      "'file', 'filename': '%s/three'}}", td_dir);
	cr_assert_eq(drive_open(rig->vm->blocks, "disk", "disk0", DRIVE_OPEN_WRITE, &d, &e), 0,
		     "%s", e.text);
}

static void teardown(void)
{
	tq_stop(&t);
	drive_close(d);
	rig_destroy(rig);
	td_remove();
}

TestSuite(qmp_commit, .init = setup, .fini = teardown, .timeout = 60);

static const char *file_of_disk(void)
{
	json_t *list = tq_ask(&t, "query-block", "[BlockInfo]", "{}");
	static char name[128];
	const char *file = json_str(json_object_get(json_array_get(list, 0), "inserted"), "file",
				    "?");

	snprintf(name, sizeof(name), "%s", strrchr(file, '/') ? strrchr(file, '/') + 1 : file);
	json_decref(list);
	return name;
}

/* Does the disk's own file stand on @name? */
static bool drive_backing(const char *name)
{
	const struct block_node *n = d->node->backing.node;

	return n && n->filename && strcmp(strrchr(n->filename, '/') + 1, name) == 0;
}

static json_int_t highest(const json_t *node)
{
	const json_t *stats = json_object_get(node, "stats");

	return json_integer_value(json_object_get(stats, "wr_highest_offset"));
}

static void write_at(uint64_t offset)
{
	static uint8_t buf[4096];
	struct iovec iov = { buf, sizeof(buf) };

	cr_assert_eq(block_io_wait(d->node, rig->loop, BLOCK_WRITE, 0, offset, &iov, 1,
				   sizeof(buf)), 0);
}

/* One file below each image, one image below the other; only what is written counts. */
Test(qmp_commit, test_blockstats_of_the_chain)
{
	json_t *list, *n;
	size_t i;

	write_at(768 * KIB);
	write_at(4 * KIB);	/* not as far */
	list = tq_ask(&t, "query-blockstats", "[BlockStats]", "{}");
	n = json_array_get(list, 0);
	cr_expect_eq(highest(n), 772 * KIB);
	/* Clusters are placed behind the image's end, wherever the guest has them. */
	cr_expect_gt(highest(json_object_get(n, "parent")), 0);
	cr_expect_eq(highest(json_object_get(n, "parent")) % 512, 0);
	for (i = 0; (n = json_object_get(n, "backing")); i++) {
		cr_expect_eq(highest(n), 0);
		cr_expect_eq(highest(json_object_get(n, "parent")), 0);
		cr_expect_not_null(json_object_get(n, "parent"));
	}
	cr_expect_eq(i, 3, "%zu backing nodes", i);
	json_decref(list);
	list = tq_ask(&t, "query-blockstats", "[BlockStats]", "{'query-nodes': true}");
	cr_expect_eq(json_array_size(list), 8);
	json_array_foreach(list, i, n)
		cr_expect_null(json_object_get(n, "backing"));
	json_decref(list);
}

Test(qmp_commit, test_active_layer)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk'}");
	tq_await(&t, "ready");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_READY c0 no error");
	cr_expect_str_eq(tq_job_status(&t), "ready");
	tq_fails(&t, "worked on by a commit job", "block_resize",
		 "{'node-name': 'disk', 'size': 2097152}");
	tq_ok(&t, "job-complete", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.jobs, "created running ready waiting pending concluded null ");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 no error");
	cr_expect_str_eq(file_of_disk(), "base.raw");
	tq_ok(&t, "blockdev-del", "{'node-name': 'disk'}");
	td_sh("qemu-img compare -q -U -f raw -F raw want.raw base.raw");
}

Test(qmp_commit, test_layers_named_by_their_files)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk0', 'top': '%s/two', 'base': "
	      "'%s/one', 'auto-dismiss': false, 'filter-node-name': 'f', 'on-error': 'report'}",
	      td_dir, td_dir);
	tq_await(&t, "concluded");
	cr_expect_str_eq(t.jobs, "created running waiting pending concluded ");
	tq_ok(&t, "job-dismiss", "{'id': 'c0'}");
	cr_expect_str_eq(file_of_disk(), "three");
	td_sh("rm two && qemu-img info -U three | grep -q 'backing file: .*/one' && "
	   "qemu-img compare -q -U -f raw -F qcow2 want.raw three && "
	   "qemu-img check -q -U one && qemu-img check -q -U three");
}

Test(qmp_commit, test_name_for_the_base)
{
	tq_ok(&t, "block-commit", "{'device': 'disk', 'top': '%s/two', 'backing-file': "
	      "'./base.raw'}", td_dir);
	tq_await(&t, "null");
	td_sh("qemu-img info -U three | grep -q '^backing file: ./base.raw'");
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three");
}

Test(qmp_commit, test_steered_and_cancelled)
{
	/* The first piece is taken at once: the next would come in a day. */
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'speed': 1}");
	tq_fails(&t, "in state 'running' cannot accept command verb 'complete'", "job-complete",
		 "{'id': 'c0'}");
	tq_fails(&t, "a snapshot or job of", "block-commit", "{'job-id': 'c1', 'device': 'disk'}");
	tq_fails(&t, "in use", "blockdev-del", "{'node-name': 'disk'}");
	tq_ok(&t, "job-pause", "{'id': 'c0'}");
	tq_ok(&t, "block-job-set-speed", "{'device': 'c0', 'speed': 0}");
	tq_ok(&t, "job-resume", "{'id': 'c0'}");
	tq_await(&t, "ready");
	tq_ok(&t, "job-pause", "{'id': 'c0'}");
	cr_expect_str_eq(tq_job_status(&t), "standby");
	tq_fails(&t, "in state 'standby' cannot accept", "job-complete", "{'id': 'c0'}");
	tq_ok(&t, "job-resume", "{'id': 'c0'}");
	cr_expect_str_eq(tq_job_status(&t), "ready");
	tq_ok(&t, "block-job-cancel", "{'device': 'c0', 'force': true}");
	tq_await(&t, "null");
	cr_expect(strstr(t.jobs, "ready standby ready aborting concluded null"), "%s", t.jobs);
	cr_expect_str_eq(t.ended, "BLOCK_JOB_CANCELLED c0 no error");
	cr_expect_str_eq(file_of_disk(), "three");
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three");
}

Test(qmp_commit, test_cancel_of_a_ready_one_ends_well)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk'}");
	tq_await(&t, "ready");
	tq_ok(&t, "block-job-cancel", "{'device': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 no error");
	cr_expect_str_eq(file_of_disk(), "three");
}

Test(qmp_commit, test_device_that_is_unplugged_ends_it)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'auto-dismiss': false}");
	tq_await(&t, "ready");
	drive_close(d);
	d = NULL;
	tq_await(&t, "concluded");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 the device of node 'disk' was removed");
	tq_ok(&t, "blockdev-del", "{'node-name': 'disk'}");
}

Test(qmp_commit, test_layers_wait_for_job_finalize)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'top': '%s/two', "
	      "'auto-finalize': false}", td_dir);
	tq_await(&t, "pending");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_PENDING ? no error");
	tq_fails(&t, "in state 'pending' cannot accept command verb 'pause'", "job-pause",
		 "{'id': 'c0'}");
	td_sh("qemu-img info -U three | grep -q 'backing file: .*/base.raw'");
	cr_expect(drive_backing("two"), "the graph changes at the end");
	tq_ok(&t, "job-finalize", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.jobs, "created running waiting pending concluded null ");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 no error");
	cr_expect(drive_backing("base.raw"));
}

Test(qmp_commit, test_active_layer_waits_for_job_finalize)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'auto-finalize': false}");
	tq_fails(&t, "cannot accept command verb 'finalize'", "job-finalize", "{'id': 'c0'}");
	tq_await(&t, "ready");
	tq_ok(&t, "job-complete", "{'id': 'c0'}");
	cr_expect_str_eq(t.jobs, "created running ready waiting pending ");
	cr_expect_str_eq(file_of_disk(), "three");
	tq_ok(&t, "block-job-finalize", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.jobs, "created running ready waiting pending concluded null ");
	cr_expect_str_eq(file_of_disk(), "base.raw");
}

Test(qmp_commit, test_pending_ones_are_cancelled)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'auto-finalize': false}");
	tq_await(&t, "ready");
	tq_ok(&t, "job-complete", "{'id': 'c0'}");
	tq_ok(&t, "job-cancel", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_CANCELLED c0 no error");
	*t.jobs = '\0';
	tq_ok(&t, "block-commit", "{'job-id': 'c1', 'device': 'disk', 'top': '%s/two', "
	      "'auto-finalize': false}", td_dir);
	tq_await(&t, "pending");
	tq_ok(&t, "block-job-cancel", "{'device': 'c1'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_CANCELLED c1 no error");
	cr_expect_str_eq(file_of_disk(), "three");
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three");
}

/* ---- errors ---- */

/* Requests to the base. */
static void fail_some(const char *op, const char *errno_word, int count)
{
	const char *base = d->node->backing.node->backing.node->backing.node->name;

	td_fault(rig->vm->blocks, "id=f0,drive=%s,op=%s,errno=%s,count=%d", base, op, errno_word,
		 count);
}

static const char *io_status(void)
{
	json_t *list = tq_ask(&t, "query-block-jobs", "[BlockJobInfo]", "{}");
	static char word[16];

	snprintf(word, sizeof(word), "%s", json_str(json_array_get(list, 0), "io-status", "?"));
	json_decref(list);
	return word;
}

Test(qmp_commit, test_error_ends_it)
{
	fail_some("write", "EIO", 1);
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'auto-dismiss': false}");
	tq_await(&t, "concluded");
	cr_expect_str_eq(t.jobs, "created running aborting concluded ");
	cr_expect(strstr(t.ended, "BLOCK_JOB_COMPLETED c0 node 'disk' cannot be committed to"), "%s",
		  t.ended);
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three");
}

Test(qmp_commit, test_error_pauses_it)
{
	fail_some("write", "EIO", 2);
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'on-error': 'stop'}");
	tq_await(&t, "paused");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_ERROR c0 no error");
	cr_expect_str_eq(io_status(), "failed");
	*t.jobs = '\0';
	tq_ok(&t, "job-resume", "{'id': 'c0'}");
	tq_await(&t, "paused");
	cr_expect_str_eq(t.jobs, "running paused ");
	tq_ok(&t, "job-resume", "{'id': 'c0'}");
	cr_expect_str_eq(io_status(), "ok");
	tq_await(&t, "ready");
	tq_ok(&t, "job-complete", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 no error");
	td_sh("qemu-img compare -q -U -f raw -F raw want.raw base.raw");
}

static int write_ret;

static void written(struct block_req *r, int ret)
{
	write_ret = ret;
}

/* The guest writes 64 KiB of 7s at 256 KiB. */
static void guest_writes(void)
{
	static uint8_t data[65536];
	struct iovec iov = { data, sizeof(data) };
	struct block_req r = { .op = BLOCK_WRITE, .offset = 4 * sizeof(data), .iov = &iov,
			       .iovcnt = 1, .bytes = sizeof(data), .done = written,
			       .loop = rig->loop };

	memset(data, 7, sizeof(data));
	write_ret = 1;
	drive_submit(d, &r);
	while (write_ret == 1)
		loop_turn(rig->loop, NS_PER_MS);
	cr_assert_eq(write_ret, 0);
}

Test(qmp_commit, test_error_of_the_last_round_pauses_it_and_the_guest_goes_on)
{
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'on-error': 'stop'}");
	tq_await(&t, "ready");
	fail_some("flush", "EIO", 1);
	tq_ok(&t, "job-complete", "{'id': 'c0'}");
	tq_await(&t, "standby");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_ERROR c0 no error");
	guest_writes();
	tq_ok(&t, "job-resume", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED c0 no error");
	td_sh("qemu-io -r -U -f raw -c 'read -P 7 256k 64k' base.raw | grep -q 'read 65536/65536' && "
	   "qemu-img compare -q -U -f qcow2 -F raw three base.raw");
}

Test(qmp_commit, test_lack_of_space_pauses_it_and_it_is_cancelled)
{
	fail_some("write", "ENOSPC", 1);
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'on-error': 'enospc'}");
	tq_await(&t, "paused");
	cr_expect_str_eq(io_status(), "nospace");
	tq_ok(&t, "job-cancel", "{'id': 'c0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_CANCELLED c0 no error");
}

Test(qmp_commit, test_error_is_ignored)
{
	fail_some("write", "EIO", 1);
	tq_ok(&t, "block-commit", "{'job-id': 'c0', 'device': 'disk', 'on-error': 'ignore'}");
	tq_await(&t, "ready");
	cr_expect_str_eq(t.jobs, "created running ready ");
}

Test(qmp_commit, test_stream_waits_and_pauses_as_well)
{
	fail_some("read", "EIO", 1);
	tq_ok(&t, "block-stream", "{'job-id': 's0', 'device': 'disk', 'on-error': 'stop', "
	      "'auto-finalize': false}");
	tq_await(&t, "paused");
	tq_ok(&t, "job-resume", "{'id': 's0'}");
	tq_await(&t, "pending");
	tq_ok(&t, "job-finalize", "{'id': 's0'}");
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED s0 no error");
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three && "
	   "! qemu-img info -U three | grep 'backing file'");
}

Test(qmp_commit, test_stream_down_to_a_bottom)
{
	const char *two = d->node->backing.node->name, *one = d->node->backing.node->backing.node->name;

	/* "two" goes, "one" stays. */
	tq_ok(&t, "block-stream", "{'job-id': 's0', 'device': 'disk', 'bottom': '%s'}", two);
	tq_await(&t, "null");
	cr_expect_str_eq(t.ended, "BLOCK_JOB_COMPLETED s0 no error");
	cr_expect_str_eq(d->node->backing.node->name, one);
	td_sh("qemu-img compare -q -U -f raw -F qcow2 want.raw three && "
	   "qemu-img info -U three | grep -q 'backing file: .*/one'");
}

Test(qmp_commit, test_what_cannot_be_is_refused)
{
	tq_fails(&t, "Cannot find device='none'", "block-commit", "{'device': 'none'}");
	tq_fails(&t, "mutually exclusive", "block-commit",
		 "{'device': 'disk', 'top': 'x', 'top-node': 'y'}");
	tq_fails(&t, "top '/x' is no file of the chain", "block-commit",
		 "{'device': 'disk', 'top': '/x'}");
	tq_fails(&t, "base 'x' is not in the chain", "block-commit",
		 "{'device': 'disk', 'base-node': 'x'}");
	tq_fails(&t, "no image stands on it", "block-commit",
		 "{'device': 'disk', 'backing-file': 'x'}");
	tq_fails(&t, "Job not found: 'none'", "job-finalize", "{'id': 'none'}");
	tq_fails(&t, "Job not found: 'none'", "job-complete", "{'id': 'none'}");
	tq_fails(&t, "Job not found: 'none'", "block-job-complete", "{'device': 'none'}");
	tq_fails(&t, "Invalid job ID '0'", "block-commit", "{'device': 'disk', 'job-id': '0'}");
	/* Nothing is left of that. */
	tq_ok(&t, "block-commit", "{'device': 'disk', 'job-id': 'c0'}");
	tq_await(&t, "ready");
}

Test(qmp_commit, test_quit_in_the_midst_is_survived)
{
	tq_ok(&t, "block-commit", "{'device': 'disk', 'speed': 1}");
}

Test(qmp_commit, test_quit_of_a_ready_one_is_survived)
{
	tq_ok(&t, "block-commit", "{'device': 'disk'}");
	tq_await(&t, "ready");
}
