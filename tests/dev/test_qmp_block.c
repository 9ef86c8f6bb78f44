/*
 * tests/dev/test_qmp_block.c - QMP's block commands on a disk that a guest
 * uses: what is listed, nodes that come and go, live resize, suspended I/O.
 * Every reply and event is checked against the schema it is announced with.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/block.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"

#define DISK	(1ull * MIB)

static struct vdrv *v;
static struct qmp *q;
static char path[] = "/var/tmp/roost-qmp-block-XXXXXX";

static json_t *run(const char *cmd, const char *args)
{
	char text[1024];
	json_t *req, *reply;

	snprintf(text, sizeof(text), "{'execute': '%s', 'arguments': %s}", cmd, args);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	req = json_loads(text, 0, NULL);
	cr_assert_not_null(req, "%s", text);
	reply = qmp_execute(q, req);
	json_decref(req);
	return reply;
}

/* The reply's value, which must be of @type. */
static json_t *ok(const char *cmd, const char *args, const char *type)
{
	json_t *reply = run(cmd, args), *val = json_incref(json_object_get(reply, "return"));
	struct err e = ERR_INIT;

	cr_assert_not_null(val, "%s: %s", cmd, json_str(json_object_get(reply, "error"), "desc", ""));
	if (type)
		cr_assert_eq(qmp_schema_check(q, type, val, cmd, &e), 0, "%s", e.text);
	json_decref(reply);
	return val;
}

static void fails(const char *cmd, const char *args, const char *with)
{
	json_t *reply = run(cmd, args);
	const char *desc = json_str(json_object_get(reply, "error"), "desc", "(it worked)");

	cr_assert(strstr(desc, with), "%s %s: %s", cmd, args, desc);
	json_decref(reply);
}

static void check_event(struct vm_listener *l, const char *name, json_t *data)
{
	static const char *const events[][2] = {
		{ "BLOCK_IO_ERROR", "q_obj_BLOCK_IO_ERROR-arg" },
		{ "__org.roost_BLOCK_IO_SUSPENDED", "__org.roost_BlockIoSuspended" },
		{ "__org.roost_BLOCK_IO_RESUMED", "__org.roost_BlockIoResumed" },
		{ "__org.roost_BLOCK_IO_TIMED_OUT", "__org.roost_BlockIoTimedOut" },
	};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (strcmp(events[i][0], name) == 0)
			cr_expect_eq(qmp_schema_check(q, events[i][1], data, name, &e), 0, "%s",
				     e.text);
}

static struct vm_listener checker = { .event = check_event };

/* A disk made as libvirt makes it: two nodes by QMP, then the device. */
static void setup(void)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	char args[256];
	int fd = mkstemp(path);

	cr_assert(fd >= 0 && ftruncate(fd, DISK) == 0);
	close(fd);
	q = qmp_create(r->vm);
	snprintf(args, sizeof(args), "{'driver': 'file', 'node-name': 'storage', "
		 "'filename': '%s', 'cache': {'direct': false, 'no-flush': false}, "
		 "'auto-read-only': true, 'discard': 'unmap'}", path);
	json_decref(ok("blockdev-add", args, NULL));
	json_decref(ok("blockdev-add", "{'driver': 'raw', 'node-name': 'format', "
		       "'file': 'storage', 'read-only': false}", NULL));
	v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'format', "
			"'werror': 'retry', 'retry_interval': 100000}", 0);
	vm_listen(r->vm, &checker);
	vdrv_msix(v);
	vdrv_start(v);
	cr_assert_eq(vm_start(r->vm, &e), 0);
}

static void teardown(void)
{
	vm_unlisten(v->rig->vm, &checker);
	qmp_destroy(q);
	vdrv_destroy(v);
	unlink(path);
}

TestSuite(qmp_block, .init = setup, .fini = teardown, .timeout = 60);

static void start_write(uint64_t sector)
{
	struct virtio_blk_outhdr h = { htole32(VIRTIO_BLK_T_OUT), 0, htole64(sector) };
	struct drv_buf b[] = { { VDRV_DATA - 0x1000, 16, 0 }, { VDRV_DATA, 512, 0 },
			       { VDRV_DATA - 0x800, 1, 1 } };

	rig_mem_write(v->rig, b[0].addr, &h, sizeof(h));
	drv_add(&v->ring[0], b, 3);
	vdrv_kick(v, 0);
}

static uint8_t status(void)
{
	return (uint8_t)rig_mem_get(v->rig, VDRV_DATA - 0x800, 1);
}

Test(qmp_block, test_query_block_names_disk_and_node_as_libvirt_wants)
{
	json_t *list = ok("query-block", "{}", "[BlockInfo]"), *d = json_array_get(list, 0);

	cr_assert_eq(json_array_size(list), 1);
	cr_expect_str_eq(json_str(d, "device", "?"), "");
	cr_expect_str_eq(json_str(d, "qdev", ""), "/machine/peripheral/disk0/virtio-backend");
	cr_expect(json_is_false(json_object_get(d, "removable")));
	cr_expect_str_eq(json_str(d, "io-status", ""), "ok");
	cr_expect_str_eq(json_str(json_object_get(d, "inserted"), "node-name", ""), "format");
	json_decref(list);
}

Test(qmp_block, test_query_nodes_lists_both_with_sizes)
{
	json_t *list = ok("query-named-block-nodes", "{'flat': true}", "[BlockDeviceInfo]");
	json_t *n, *image;
	size_t i;

	cr_assert_eq(json_array_size(list), 2);
	json_array_foreach(list, i, n) {
		image = json_object_get(n, "image");
		cr_expect_eq(json_integer_value(json_object_get(image, "virtual-size")), DISK);
		cr_expect_str_eq(json_str(image, "filename", ""), path);
		cr_expect(json_object_get(image, "actual-size"));
	}
	json_decref(list);
}

static json_int_t highest(const json_t *node)
{
	const json_t *stats = json_object_get(node, "stats");

	return json_integer_value(json_object_get(stats, "wr_highest_offset"));
}

Test(qmp_block, test_blockstats_count_what_the_guest_did)
{
	json_t *list, *stats;
	uint32_t len;
	uint16_t id;

	start_write(3);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	list = ok("query-blockstats", "{}", "[BlockStats]");
	stats = json_object_get(json_array_get(list, 0), "stats");
	cr_expect_eq(json_integer_value(json_object_get(stats, "wr_operations")), 1);
	cr_expect_eq(json_integer_value(json_object_get(stats, "wr_bytes")), 512);
	cr_expect_eq(json_integer_value(json_object_get(stats, "rd_operations")), 0);
	cr_expect_eq(json_integer_value(json_object_get(stats, "failed_wr_operations")), 0);
	cr_expect_eq(highest(json_array_get(list, 0)), 2048);
	cr_expect_eq(highest(json_object_get(json_array_get(list, 0), "parent")), 2048);
	json_decref(list);
	list = ok("query-blockstats", "{'query-nodes': true}", "[BlockStats]");
	cr_expect_eq(json_array_size(list), 2);
	json_decref(list);
}

Test(qmp_block, test_nodes_in_use_cannot_be_removed_and_mistakes_are_named)
{
	fails("blockdev-del", "{'node-name': 'format'}", "in use by device 'disk0'");
	fails("blockdev-del", "{'node-name': 'storage'}", "in use by node 'format'");
	fails("blockdev-del", "{'node-name': 'formt'}", "did you mean 'format'");
	fails("blockdev-add", "{'driver': 'raw', 'node-name': 'x', 'file': 'nothing'}",
	      "there is no node of that name");
	fails("blockdev-add", "{'driver': 'rwa', 'node-name': 'x', 'file': 'storage'}", "'raw'");
	fails("blockdev-add", "{'driver': 'raw', 'node-name': 'x', 'file': 'storage', 'a': 1}",
	      "'a'");
	fails("blockdev-add", "{'driver': 'raw', 'node-name': 'format', 'file': 'storage'}",
	      "exists already");
	fails("blockdev-add", "{'driver': 'raw', 'file': 'storage'}", "node-name");
}

Test(qmp_block, test_node_inline_goes_with_the_one_above)
{
	char args[256];
	json_t *list;

	snprintf(args, sizeof(args), "{'driver': 'raw', 'node-name': 'b', 'read-only': true, "
		 "'file': {'driver': 'file', 'node-name': 'a', 'filename': '%s', "
		 "'locking': 'off'}}", path);
	json_decref(ok("blockdev-add", args, NULL));
	fails("blockdev-del", "{'node-name': 'a'}", "not owned by the monitor");
	json_decref(ok("blockdev-del", "{'node-name': 'b'}", NULL));
	list = ok("query-named-block-nodes", "{}", "[BlockDeviceInfo]");
	cr_expect_eq(json_array_size(list), 2);
	json_decref(list);
}

static uint64_t capacity(void)
{
	return rig_mmio_read(v->rig, v->config, 4) |
		rig_mmio_read(v->rig, v->config + 4, 4) << 32;
}

Test(qmp_block, test_disk_without_a_tray_is_not_removable)
{
	fails("eject", "{'id': 'disk0'}", "Device 'disk0' is not removable");
	fails("eject", "{'device': 'format', 'force': true}", "'format' is not removable");
	fails("blockdev-open-tray", "{'id': '/machine/peripheral/disk0/virtio-backend', "
	      "'force': true}", "is not removable");
	fails("blockdev-close-tray", "{'id': 'disk0'}", "is not removable");
	fails("blockdev-remove-medium", "{'id': 'disk0'}", "is not removable");
	fails("blockdev-insert-medium", "{'id': 'disk0', 'node-name': 'storage'}",
	      "is not removable");
	fails("blockdev-change-medium", "{'id': 'disk0', 'filename': 'x', 'format': 'raw', "
	      "'read-only-mode': 'read-only'}", "is not removable");
}

Test(qmp_block, test_medium_mistakes_are_named)
{
	fails("eject", "{}", "Need exactly one of 'device' and 'id'");
	fails("eject", "{'id': 'disk0', 'device': 'format'}", "Need exactly one");
	fails("eject", "{'id': 'none'}", "Device 'none' not found");
	fails("blockdev-close-tray", "{'device': 'none'}", "Device 'none' not found");
	fails("blockdev-close-tray", "{'id': 'disk0', 'force': true}", "force");
	fails("blockdev-remove-medium", "{'device': 'disk0'}", "'id' is missing");
	fails("blockdev-insert-medium", "{'id': 'disk0'}", "node-name");
	fails("blockdev-change-medium", "{'id': 'disk0'}", "filename");
	fails("blockdev-change-medium", "{'id': 'disk0', 'filename': 'x', 'read-only-mode': "
	      "'never'}", "read-only-mode");
}

Test(qmp_block, test_resize_reaches_a_running_guest)
{
	uint32_t before, len;
	uint16_t id;

	vdrv_write(v, offsetof(struct virtio_pci_common_cfg, msix_config), 2, 0);
	rig_turn(v->rig);
	before = rig_msis(v->rig);
	cr_assert_eq(capacity(), DISK / 512);
	json_decref(ok("block_resize", "{'node-name': 'format', 'size': 2097152}", NULL));
	cr_expect_eq(rig_msis(v->rig), before + 1, "no configuration interrupt");
	cr_expect_eq(capacity(), 4096);
	start_write(4095);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	json_decref(ok("block_resize", "{'node-name': 'format', 'size': 524288}", NULL));
	cr_expect_eq(capacity(), 1024);
	start_write(1024);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_IOERR, "written beyond the end");
}

Test(qmp_block, test_resize_mistakes_are_named)
{
	fails("block_resize", "{'node-name': 'none', 'size': 4096}", "Cannot find device=''");
	fails("block_resize", "{'node-name': 'format', 'size': 1000}", "multiple of 512");
	fails("block_resize", "{'node-name': 'format', 'size': 0}", "multiple of 512");
	fails("block_resize", "{'node-name': 'format'}", "size");
	cr_expect_eq(capacity(), DISK / 512);
}

Test(qmp_block, test_resize_of_qcow2_grows_only)
{
	char file[sizeof(path) + 8], text[400];
	json_t *list, *n;
	size_t i;

	snprintf(file, sizeof(file), "%s.q", path);
	snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 -o cluster_size=512 %s 1M", file);
	cr_assert_eq(system(text), 0);
	snprintf(text, sizeof(text), "{'driver': 'qcow2', 'node-name': 'q', 'file': {'driver': "
		 "'file', 'filename': '%s'}}", file);
	json_decref(ok("blockdev-add", text, NULL));
	json_decref(ok("block_resize", "{'node-name': 'q', 'size': 268435456}", NULL));
	fails("block_resize", "{'node-name': 'q', 'size': 1048576}", "can only grow");
	fails("block_resize", "{'node-name': 'q', 'size': 1099511627776}", "too large");
	list = ok("query-named-block-nodes", "{}", "[BlockDeviceInfo]");
	json_array_foreach(list, i, n)
		if (strcmp(json_str(n, "node-name", ""), "q") == 0)
			cr_expect_eq(json_integer_value(json_object_get(json_object_get(n, "image"),
							"virtual-size")), 268435456);
	json_decref(list);
	/* What passes it on says the same. */
	json_decref(ok("blockdev-add", "{'driver': 'fault', 'node-name': 'above', 'latency': 1, "
		       "'file': 'q'}", NULL));
	fails("block_resize", "{'node-name': 'above', 'size': 1048576}", "can only grow");
	json_decref(ok("blockdev-del", "{'node-name': 'above'}", NULL));
	json_decref(ok("blockdev-del", "{'node-name': 'q'}", NULL));
	snprintf(text, sizeof(text), "qemu-img check -q %s && qemu-img info %s | grep -q 268435456",
		 file, file);
	cr_expect_eq(system(text), 0);
	unlink(file);
}

#define NO_LIMIT "'bps': 0, 'bps_rd': 0, 'bps_wr': 0, 'iops_rd': 0, 'iops_wr': 0"

Test(qmp_block, test_limits_are_set_shown_and_checked)
{
	json_t *list, *in;

	json_decref(ok("block_set_io_throttle", "{'id': '/machine/peripheral/disk0/virtio-backend', "
		       NO_LIMIT ", 'iops': 50, 'iops_max': 100}", NULL));
	list = ok("query-block", "{}", "[BlockInfo]");
	in = json_object_get(json_array_get(list, 0), "inserted");
	cr_expect_eq(json_integer_value(json_object_get(in, "iops")), 50);
	cr_expect_eq(json_integer_value(json_object_get(in, "iops_max")), 100);
	cr_expect_eq(json_integer_value(json_object_get(in, "iops_max_length")), 1);
	cr_expect_not_null(json_object_get(in, "group"), "no group of its own");
	json_decref(list);
	json_decref(ok("block_set_io_throttle", "{'id': 'disk0', " NO_LIMIT ", 'iops': 50, "
		       "'iops_max': 100, 'iops_max_length': 7, 'group': 'g'}", NULL));
	list = ok("query-block", "{}", "[BlockInfo]");
	in = json_object_get(json_array_get(list, 0), "inserted");
	cr_expect_str_eq(json_str(in, "group", ""), "g");
	cr_expect_eq(json_integer_value(json_object_get(in, "iops_max_length")), 7);
	json_decref(list);
	fails("block_set_io_throttle", "{'id': 'disk0', " NO_LIMIT ", 'iops': 50, 'iops_max': 1}",
	      "lower than iops");
	fails("block_set_io_throttle", "{'id': 'disk0', " NO_LIMIT ", 'iops': 5, 'group': ''}",
	      "group is empty");
	fails("block_set_io_throttle", "{'id': 'disk0', " NO_LIMIT ", 'iops': 5, "
	      "'iops_max_length': 5}", "iops_max_length needs iops_max");
	fails("block_set_io_throttle", "{'id': 'disk7', " NO_LIMIT ", 'iops': 5}", "not found");
	fails("block_set_io_throttle", "{'id': 'disk0', 'iops': 5}", "missing");
}

static void limit_files(rlim_t bytes)
{
	struct rlimit l = { bytes, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void wait_event(const char *name)
{
	for (int i = 0; i < 500 && !strstr(v->rig->events, name); i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert(strstr(v->rig->events, name), "%s", v->rig->events);
}

Test(qmp_block, test_suspended_disk_is_shown_retried_and_given_up)
{
	json_t *list, *retry;
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(100);
	wait_event("BLOCK_IO_SUSPENDED");
	list = ok("query-block", "{}", "[BlockInfo]");
	retry = json_object_get(json_array_get(list, 0), "__org.roost_retry");
	cr_expect_str_eq(json_str(json_array_get(list, 0), "io-status", ""), "ok");
	cr_expect_str_eq(json_str(retry, "io-status", ""), "retrying");
	cr_expect_str_eq(json_str(retry, "operation", ""), "write");
	cr_expect_eq(json_integer_value(json_object_get(retry, "errno")), EFBIG);
	cr_expect_eq(json_integer_value(json_object_get(retry, "requests")), 1);
	json_decref(list);

	limit_files(RLIM_INFINITY);
	json_decref(ok("__org.roost_io-retry-now", "{'device': 'disk0'}", NULL));
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	wait_event("BLOCK_IO_RESUMED");

	limit_files(4096);
	start_write(100);
	for (int i = 0; i < 50; i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	json_decref(ok("__org.roost_io-give-up", "{'device': 'format'}", NULL));
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_IOERR);
	fails("__org.roost_io-give-up", "{'device': 'disk9'}", "'disk9' not found");
	list = ok("query-blockstats", "{}", "[BlockStats]");
	retry = json_object_get(json_array_get(list, 0), "__org.roost_retry");
	cr_expect_eq(json_integer_value(json_object_get(retry, "suspensions")), 2);
	cr_expect_eq(json_integer_value(json_object_get(retry, "timed-out")), 1);
	json_decref(list);
}

/* ---- snapshots ---- */

/* What libvirt does before it asks for the snapshot. */
static void add_overlay(void)
{
	char text[512];

	snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 -b %s -F raw %s.ov", path, path);
	cr_assert_eq(system(text), 0);
	snprintf(text, sizeof(text), "{'driver': 'file', 'node-name': 'ov-storage', "
		 "'filename': '%s.ov'}", path);
	json_decref(ok("blockdev-add", text, NULL));
	json_decref(ok("blockdev-add", "{'driver': 'qcow2', 'node-name': 'ov', "
		       "'file': 'ov-storage', 'backing': null}", NULL));
}

static void drop_overlay(void)
{
	char text[128];

	snprintf(text, sizeof(text), "%s.ov", path);
	unlink(text);
}

static const char *top_node(void)
{
	static char name[64];
	json_t *list = ok("query-block", "{}", "[BlockInfo]");

	snprintf(name, sizeof(name), "%s", json_str(json_object_get(json_array_get(list, 0),
						    "inserted"), "node-name", "?"));
	json_decref(list);
	return name;
}

Test(qmp_block, test_transaction_puts_an_overlay_on_a_running_disk)
{
	uint8_t byte = 0;
	uint32_t len;
	uint16_t id;
	int fd;

	add_overlay();
	fails("transaction", "{'actions': [{'type': 'blockdev-snapshot', 'data': "
	      "{'node': 'format', 'overlay': 'ov'}}, {'type': 'blockdev-snapshot', 'data': "
	      "{'node': 'none', 'overlay': 'ov'}}]}", "Cannot find device='none'");
	fails("transaction", "{'actions': [{'type': 'drive-backup', 'data': {}}]}", "drive-backup");
	cr_assert_str_eq(top_node(), "format");
	json_decref(ok("transaction", "{'actions': [{'type': 'blockdev-snapshot', 'data': "
		       "{'node': 'format', 'overlay': 'ov'}}]}", NULL));
	cr_assert_str_eq(top_node(), "ov");
	fails("blockdev-del", "{'node-name': 'format'}", "in use");
	rig_mem_fill(v->rig, VDRV_DATA, 0xcd, 512);
	start_write(5);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, &byte, 1, 5 * 512), 1);
	cr_assert_eq(byte, 0, "the base was written to");
	close(fd);
	fails("blockdev-snapshot", "{'node': 'ov', 'overlay': 'ov'}", "already in use");
	drop_overlay();
}

Test(qmp_block, test_quit_in_the_midst_of_a_snapshot_is_survived)
{
	json_t *req = json_pack("{s:s,s:{s:s,s:s}}", "execute", "blockdev-snapshot", "arguments",
				"node", "format", "overlay", "ov");

	add_overlay();
	qmp_execute_async(q, req, NULL, NULL);
	json_decref(req);
	drop_overlay();		/* teardown() comes before the flush is back */
}

/* ---- libvirt's whole sequence ---- */

static char jobs[256];

static void note_job(struct vm_listener *l, const char *name, json_t *data)
{
	struct err e = ERR_INIT;

	if (strcmp(name, "JOB_STATUS_CHANGE"))
		return;
	cr_expect_eq(qmp_schema_check(q, "q_obj_JOB_STATUS_CHANGE-arg", data, name, &e), 0);
	snprintf(jobs + strlen(jobs), sizeof(jobs) - strlen(jobs), "%s ",
		 json_str(data, "status", "?"));
}

static void run_job(const char *options)
{
	json_t *list;

	*jobs = '\0';
	json_decref(ok("blockdev-create", options, NULL));
	for (int i = 0; i < 5000 && !strstr(jobs, "concluded"); i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	list = ok("query-jobs", "{}", "[JobInfo]");
	cr_assert_eq(json_array_size(list), 1);
	cr_expect_str_eq(json_str(json_array_get(list, 0), "id", ""), "job0");
	cr_expect_str_eq(json_str(json_array_get(list, 0), "status", ""), "concluded");
	cr_expect_str_eq(json_str(json_array_get(list, 0), "error", "none"), "none");
	json_decref(list);
}

Test(qmp_block, test_image_made_by_a_job_becomes_the_overlay)
{
	struct vm_listener l = { .event = note_job };
	char text[512];
	uint32_t len;
	uint16_t id;

	vm_listen(v->rig->vm, &l);
	snprintf(text, sizeof(text), "{'job-id': 'job0', 'options': {'driver': 'file', "
		 "'filename': '%s.ov', 'size': 0}}", path);
	run_job(text);
	cr_expect_str_eq(jobs, "created running waiting pending concluded ");
	json_decref(ok("job-dismiss", "{'id': 'job0'}", NULL));
	cr_expect(strstr(jobs, "concluded null"), "%s", jobs);
	snprintf(text, sizeof(text), "{'driver': 'file', 'node-name': 'ov-storage', "
		 "'filename': '%s.ov'}", path);
	json_decref(ok("blockdev-add", text, NULL));
	snprintf(text, sizeof(text), "{'job-id': 'job0', 'options': {'driver': 'qcow2', "
		 "'file': 'ov-storage', 'size': 1048576, 'cluster-size': 65536, "
		 "'backing-file': '%s', 'backing-fmt': 'raw'}}", path);
	run_job(text);
	json_decref(ok("job-dismiss", "{'id': 'job0'}", NULL));
	json_decref(ok("blockdev-add", "{'driver': 'qcow2', 'node-name': 'ov', "
		       "'file': 'ov-storage', 'backing': null}", NULL));
	json_decref(ok("transaction", "{'actions': [{'type': 'blockdev-snapshot', 'data': "
		       "{'node': 'format', 'overlay': 'ov'}}]}", NULL));
	start_write(5);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	snprintf(text, sizeof(text), "qemu-img check -q -U %s.ov", path);
	cr_expect_eq(system(text), 0);
	snprintf(text, sizeof(text), "qemu-img info -U %s.ov | grep -q 'backing file format: raw'",
		 path);
	cr_expect_eq(system(text), 0);
	vm_unlisten(v->rig->vm, &l);
	drop_overlay();
}

Test(qmp_block, test_jobs_that_cannot_be_are_refused_or_say_why)
{
	struct vm_listener l = { .event = note_job };
	json_t *list;

	vm_listen(v->rig->vm, &l);
	fails("job-dismiss", "{'id': 'none'}", "Job not found: 'none'");
	fails("job-cancel", "{'id': 'none'}", "Job not found");
	fails("blockdev-create", "{'job-id': '0', 'options': {'driver': 'file', 'filename': 'x', "
	      "'size': 0}}", "Invalid job ID '0'");
	fails("blockdev-create", "{'job-id': 'j', 'options': {'driver': 'qcow2', 'file': 'none', "
	      "'size': 512}}", "there is none called 'none'");
	fails("blockdev-create", "{'job-id': 'j', 'options': {'driver': 'qcow2', 'file': "
	      "'storage', 'size': 512}}", "in use");
	fails("blockdev-create", "{'job-id': 'j', 'options': {'driver': 'qcow2', 'file': "
	      "'storage', 'size': 512, 'cluster-size': 1000}}", "power of two");
	fails("blockdev-create", "{'job-id': 'j', 'options': {'driver': 'vmdk', 'file': "
	      "'storage', 'size': 512}}", "vmdk");
	*jobs = '\0';
	json_decref(ok("blockdev-create", "{'job-id': 'j', 'options': {'driver': 'file', "
		       "'filename': '/nonexistent/x', 'size': 0}}", NULL));
	for (int i = 0; i < 5000 && !strstr(jobs, "concluded"); i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_expect_str_eq(jobs, "created running concluded ");
	list = ok("query-jobs", "{}", "[JobInfo]");
	cr_expect(strstr(json_str(json_array_get(list, 0), "error", ""), "/nonexistent/x"));
	json_decref(list);
	vm_unlisten(v->rig->vm, &l);	/* the job is left to quit */
}

/* ---- block-stream ---- */

static char ended[512];

static void note_stream(struct vm_listener *l, const char *name, json_t *data)
{
	struct err e = ERR_INIT;
	char type[64];

	note_job(l, name, data);
	if (strncmp(name, "BLOCK_JOB_", 10))
		return;
	snprintf(type, sizeof(type), "q_obj_%s-arg", name);
	cr_expect_eq(qmp_schema_check(q, type, data, name, &e), 0, "%s", e.text);
	snprintf(ended, sizeof(ended), "%s %s %s", name, json_str(data, "device", "?"),
		 json_str(data, "error", "no error"));
}

static struct vm_listener streams = { .event = note_stream };

static void start_stream(const char *args)
{
	vm_listen(v->rig->vm, &streams);
	add_overlay();
	json_decref(ok("blockdev-snapshot", "{'node': 'format', 'overlay': 'ov'}", NULL));
	json_decref(ok("block-stream", args, NULL));
}

static void stream_until(const char *word)
{
	for (int i = 0; i < 5000 && !strstr(jobs, word); i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert(strstr(jobs, word), "%s", jobs);
}

static json_t *the_block_job(const char *status)
{
	json_t *list = ok("query-block-jobs", "{}", "[BlockJobInfo]");
	json_t *job = json_incref(json_array_get(list, 0));

	cr_assert_eq(json_array_size(list), 1);
	cr_expect_str_eq(json_str(job, "status", ""), status);
	json_decref(list);
	return job;
}

Test(qmp_block, test_stream_frees_the_disk_from_its_backing_file)
{
	char text[512];
	json_t *list;

	start_stream("{'job-id': 's0', 'device': 'ov'}");
	stream_until("null");
	cr_expect_str_eq(jobs, "created running waiting pending concluded null ");
	cr_expect_str_eq(ended, "BLOCK_JOB_COMPLETED s0 no error");
	list = ok("query-block-jobs", "{}", "[BlockJobInfo]");
	cr_expect_eq(json_array_size(list), 0);
	json_decref(list);
	json_decref(ok("blockdev-del", "{'node-name': 'format'}", NULL));
	snprintf(text, sizeof(text), "! qemu-img info -U %s.ov | grep 'backing file' && "
		 "qemu-img check -q -U %s.ov && qemu-img compare -q -U -f raw -F qcow2 %s %s.ov",
		 path, path, path, path);
	cr_expect_eq(system(text), 0);
	vm_unlisten(v->rig->vm, &streams);
	drop_overlay();
}

Test(qmp_block, test_stream_is_slowed_paused_and_cancelled)
{
	json_t *job;

	/* The whole disk is one piece: the next would come in a fortnight. */
	start_stream("{'job-id': 's0', 'device': 'ov', 'speed': 1, 'auto-dismiss': false}");
	job = the_block_job("running");
	cr_expect_eq(json_integer_value(json_object_get(job, "speed")), 1);
	json_decref(job);
	json_decref(ok("job-pause", "{'id': 's0'}", NULL));
	fails("job-pause", "{'id': 's0'}", "cannot accept command verb 'pause'");
	json_decref(the_block_job("paused"));
	json_decref(ok("block-job-set-speed", "{'device': 's0', 'speed': 2}", NULL));
	json_decref(ok("block-job-resume", "{'device': 's0'}", NULL));
	fails("job-resume", "{'id': 's0'}", "cannot accept command verb 'resume'");
	json_decref(the_block_job("running"));
	fails("job-dismiss", "{'id': 's0'}", "cannot accept command verb 'dismiss'");
	fails("block-stream", "{'job-id': 's1', 'device': 'ov'}", "snapshot or job of 'ov'");
	fails("block_resize", "{'node-name': 'ov', 'size': 2097152}", "ov");
	json_decref(ok("block-job-cancel", "{'device': 's0'}", NULL));
	stream_until("concluded");
	cr_expect_str_eq(jobs, "created running paused running aborting concluded ");
	cr_expect_str_eq(ended, "BLOCK_JOB_CANCELLED s0 no error");
	json_decref(ok("job-dismiss", "{'id': 's0'}", NULL));
	fails("blockdev-del", "{'node-name': 'format'}", "in use");
	vm_unlisten(v->rig->vm, &streams);
	drop_overlay();
}

Test(qmp_block, test_streams_that_cannot_be_are_refused)
{
	add_overlay();
	fails("block-stream", "{'device': 'none'}", "Cannot find device='none'");
	fails("block-stream", "{'device': 'format'}", "(raw) has no backing file");
	fails("block-stream", "{'device': 'ov'}", "not the top node of a disk");
	fails("block-stream", "{'device': 'ov', 'base': 'x', 'base-node': 'y'}", "same time");
	fails("block-stream", "{'device': 'ov', 'bottom': 'x', 'base-node': 'y'}", "same time");
	fails("block-stream", "{'device': 'ov', 'bottom': 'x'}", "'x' is no backing node of 'ov'");
	fails("block-stream", "{'device': 'ov', 'backing-file': 'x'}", "entire chain");
	fails("block-stream", "{'device': 'ov', 'base': 'x'}", "no backing file of 'ov'");
	fails("block-job-cancel", "{'device': 'none'}", "Job not found: 'none'");
	fails("block-job-set-speed", "{'device': 'none', 'speed': 1}", "not found");
	drop_overlay();
}

Test(qmp_block, test_quit_in_the_midst_of_a_stream_is_survived)
{
	start_stream("{'device': 'ov', 'speed': 1}");
	vm_unlisten(v->rig->vm, &streams);
	drop_overlay();		/* teardown() cancels it */
}

/* ---- blockdev-snapshot-sync ---- */

Test(qmp_block, test_snapshot_sync_makes_the_file_and_switches)
{
	char text[512];
	uint32_t len;
	uint16_t id;

	snprintf(text, sizeof(text), "{'node-name': 'format', 'snapshot-file': '%s.ov', "
		 "'snapshot-node-name': 'snap1', 'format': 'qcow2'}", path);
	json_decref(ok("blockdev-snapshot-sync", text, NULL));
	cr_assert_str_eq(top_node(), "snap1");
	start_write(5);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(status(), VIRTIO_BLK_S_OK);
	snprintf(text, sizeof(text), "qemu-img info -U %s.ov | grep -q 'backing file: %s' && "
		 "qemu-img check -q -U %s.ov", path, path, path);
	cr_expect_eq(system(text), 0);
	snprintf(text, sizeof(text), "{'node-name': 'snap1', 'snapshot-file': '%s.ov'}", path);
	fails("blockdev-snapshot-sync", text, "exists already and is not empty");
	cr_assert_str_eq(top_node(), "snap1");
	drop_overlay();
}

Test(qmp_block, test_snapshot_sync_that_fails_leaves_the_disk_and_no_file)
{
	char text[512];

	fails("blockdev-snapshot-sync", "{'node-name': 'format', 'snapshot-file': "
	      "'/nonexistent/x'}", "/nonexistent/x");
	fails("blockdev-snapshot-sync", "{'node-name': 'none', 'snapshot-file': 'x'}",
	      "Cannot find device");
	fails("blockdev-snapshot-sync", "{'node-name': 'format', 'snapshot-file': 'x', "
	      "'format': 'raw'}", "use qcow2");
	/* Fails before the command has returned, with its call deferred. */
	fails("blockdev-snapshot-sync", "{'node-name': 'format', 'snapshot-file': "
	      "'/nonexistent/x', 'mode': 'existing'}", "/nonexistent/x");
	snprintf(text, sizeof(text), "{'node-name': 'format', 'snapshot-file': '%s.ov', "
		 "'snapshot-node-name': 'not a name'}", path);
	fails("blockdev-snapshot-sync", text, "no usable name");
	/* Its overlay, read again, would show another part of the file. */
	json_decref(ok("blockdev-add", "{'driver': 'raw', 'node-name': 'window', "
		       "'file': 'storage', 'offset': 512}", NULL));
	snprintf(text, sizeof(text), "{'node-name': 'window', 'snapshot-file': '%s.ov'}", path);
	fails("blockdev-snapshot-sync", text, "is a part of its file");
	cr_assert_str_eq(top_node(), "format");
	snprintf(text, sizeof(text), "%s.ov", path);
	cr_expect_eq(access(text, F_OK), -1, "the file was left behind");
}

Test(qmp_block, test_quit_in_the_midst_of_snapshot_sync_is_survived)
{
	char file[128];
	json_t *req;

	snprintf(file, sizeof(file), "%s.ov", path);
	req = json_pack("{s:s,s:{s:s,s:s}}", "execute", "blockdev-snapshot-sync", "arguments",
			"node-name", "format", "snapshot-file", file);
	qmp_execute_async(q, req, NULL, NULL);
	json_decref(req);
}
