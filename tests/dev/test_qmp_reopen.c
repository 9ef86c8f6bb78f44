/*
 * tests/dev/test_qmp_reopen.c - QMP's blockdev-reopen below a disk that a guest uses.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/block.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"

#define DISK	(1ull * MIB)
/* As they were added. */
#define STORAGE	"'driver': 'file', 'node-name': 'storage', 'filename': '%s'"
#define FORMAT	"'driver': 'qcow2', 'node-name': 'format', 'file': 'storage'"

static struct vdrv *v;
static struct qmp *q;
static char path[] = "/var/tmp/roost-qmp-reopen-XXXXXX";

/* @args with ' for ", and the image's path for each %s. */
static json_t *run(const char *cmd, const char *args)
{
	char in[1024], text[2048];
	json_t *req, *reply;

	snprintf(in, sizeof(in), "{'execute': '%s', 'arguments': %s}", cmd, args);
	text[0] = '\0';
	for (char *at = in, *next; at; at = next) {
		next = strstr(at, "%s");
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s%s",
			 next ? (int)(next - at) : (int)strlen(at), at, next ? path : "");
		next = next ? next + 2 : NULL;
	}
	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	req = json_loads(text, 0, NULL);
	cr_assert_not_null(req, "%s", text);
	reply = qmp_execute(q, req);
	json_decref(req);
	return reply;
}

static void ok(const char *cmd, const char *args)
{
	json_t *reply = run(cmd, args);

	cr_assert_not_null(json_object_get(reply, "return"), "%s %s: %s", cmd, args,
			   json_str(json_object_get(reply, "error"), "desc", ""));
	json_decref(reply);
}

static void fails(const char *cmd, const char *args, const char *with)
{
	json_t *reply = run(cmd, args);
	const char *desc = json_str(json_object_get(reply, "error"), "desc", "(it worked)");

	cr_assert(strstr(desc, with), "%s %s: %s", cmd, args, desc);
	json_decref(reply);
}

static void shell(const char *fmt)
{
	char text[512];

	snprintf(text, sizeof(text), fmt, path, path);
	cr_assert_eq(system(text), 0, "%s", text);
}

/* base (all 1) <- format on storage: a disk of a running guest. */
static void setup(void)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	int fd = mkstemp(path);

	close(fd);
	shell("truncate -s 1M %s.base && qemu-io -f raw -c 'write -P 1 0 1M' %s.base >/dev/null");
	shell("qemu-img create -q -f qcow2 -b %s.base -F raw %s");
	q = qmp_create(r->vm);
	ok("blockdev-add", "{" STORAGE "}");
	ok("blockdev-add", "{'driver': 'raw', 'node-name': 'base', 'read-only': true, 'file': "
	   "{'driver': 'file', 'node-name': 'base-storage', 'filename': '%s.base'}}");
	ok("blockdev-add", "{" FORMAT ", 'backing': 'base'}");
	v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'format'}", 0);
	vdrv_msix(v);
	vdrv_start(v);
	cr_assert_eq(vm_start(r->vm, &e), 0);
}

static void teardown(void)
{
	qmp_destroy(q);
	vdrv_destroy(v);
	shell("rm -f %s %s.base");
}

TestSuite(qmp_reopen, .init = setup, .fini = teardown, .timeout = 60);

/* One request of the guest; the first byte of its data. */
static uint8_t guest(uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = { htole32(type), 0, htole64(sector) };
	bool in = type == VIRTIO_BLK_T_IN;
	struct drv_buf b[] = { { VDRV_DATA - 0x1000, 16, 0 }, { VDRV_DATA, 512, in },
			       { VDRV_DATA - 0x800, 1, 1 } };
	uint32_t len;
	uint16_t id;

	rig_mem_write(v->rig, b[0].addr, &h, sizeof(h));
	drv_add(&v->ring[0], b, 3);
	vdrv_kick(v, 0);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, VDRV_DATA - 0x800, 1), VIRTIO_BLK_S_OK);
	return (uint8_t)rig_mem_get(v->rig, VDRV_DATA, 1);
}

/* What query-named-block-nodes says of @name. The caller drops it. */
static json_t *node(const char *name)
{
	json_t *reply = run("query-named-block-nodes", "{}"), *n, *hit = NULL;
	size_t i;

	json_array_foreach(json_object_get(reply, "return"), i, n)
		if (strcmp(json_str(n, "node-name", ""), name) == 0)
			hit = json_incref(n);
	json_decref(reply);
	cr_assert_not_null(hit, "%s", name);
	return hit;
}

Test(qmp_reopen, test_reopen_changes_cache_discard_and_zeroes_of_a_running_disk)
{
	json_t *n;

	rig_mem_fill(v->rig, VDRV_DATA, 0x5a, 512);
	guest(VIRTIO_BLK_T_OUT, 3);
	ok("blockdev-reopen", "{'options': [{" STORAGE ", 'cache': {'direct': true}, "
	   "'discard': 'unmap', 'aio': 'native'}, {" FORMAT ", 'backing': 'base', "
	   "'detect-zeroes': 'on', 'cache': {'direct': true}}]}");
	n = node("storage");
	cr_expect(json_is_true(json_object_get(json_object_get(n, "cache"), "direct")));
	json_decref(n);
	n = node("format");
	cr_expect_str_eq(json_str(n, "detect_zeroes", ""), "on");
	json_decref(n);
	rig_mem_fill(v->rig, VDRV_DATA, 0, 512);
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 3), 0x5a);
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 300), 1);
	rig_mem_fill(v->rig, VDRV_DATA, 0x5b, 512);
	guest(VIRTIO_BLK_T_OUT, 3);
	ok("blockdev-reopen", "{'options': [{" STORAGE "}]}");
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 3), 0x5b);
	n = node("storage");
	cr_expect(json_is_false(json_object_get(json_object_get(n, "cache"), "direct")));
	json_decref(n);
}

Test(qmp_reopen, test_reopen_switches_the_backing_node_of_a_running_disk)
{
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 1);
	fails("blockdev-del", "{'node-name': 'base'}", "in use");
	ok("blockdev-reopen", "{'options': [{" FORMAT ", 'backing': null}]}");
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 0);
	ok("blockdev-reopen", "{'options': [{" FORMAT ", 'backing': 'base'}]}");
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 1);
	ok("blockdev-reopen", "{'options': [{" FORMAT ", 'backing': null}]}");
	ok("blockdev-del", "{'node-name': 'base'}");
	rig_mem_fill(v->rig, VDRV_DATA, 0x5c, 512);
	guest(VIRTIO_BLK_T_OUT, 8);
	shell("qemu-img check -q -U %s # %s");
}

Test(qmp_reopen, test_reopen_makes_idle_nodes_writable_and_read_only)
{
	json_t *n;

	fails("blockdev-reopen", "{'options': [{" STORAGE ", 'read-only': true}]}",
	      "it is written to by node 'format'");
	ok("blockdev-reopen", "{'options': [{'driver': 'raw', 'node-name': 'base', 'read-only': "
	   "false, 'file': {'driver': 'file', 'filename': '%s.base'}}]}");
	n = node("base-storage");
	cr_expect(json_is_false(json_object_get(n, "ro")));
	json_decref(n);
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 1);
	ok("blockdev-reopen", "{'options': [{'driver': 'raw', 'node-name': 'base', 'read-only': "
	   "true, 'file': 'base-storage'}]}");
	n = node("base-storage");
	cr_expect(json_is_true(json_object_get(n, "ro")));
	json_decref(n);
}

Test(qmp_reopen, test_reopen_of_several_is_all_or_none)
{
	json_t *n;

	fails("blockdev-reopen", "{'options': [{" FORMAT ", 'backing': null, 'detect-zeroes': "
	      "'on'}, {" STORAGE ", 'cache': {'direct': true}, 'read-only': true}]}",
	      "cannot become read-only");
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 1);
	n = node("format");
	cr_expect_str_eq(json_str(n, "detect_zeroes", ""), "off");
	json_decref(n);
	n = node("storage");
	cr_expect(json_is_false(json_object_get(json_object_get(n, "cache"), "direct")));
	json_decref(n);
}

Test(qmp_reopen, test_reopen_mistakes_are_named)
{
	static const char *const bad[][2] = {
		{ "{}", "options" },
		{ "{'options': {}}", "options" },
		{ "{'options': [7]}", "options" },
		{ "{'options': [null]}", "options" },
		{ "{'options': [[]]}", "options" },
		{ "{'options': [{'node-name': 'format'}]}", "driver" },
		{ "{'options': [{'driver': 'raw', 'file': 'storage'}]}", "node-name= is missing" },
		{ "{'options': [{'driver': 'raw', 'node-name': 5, 'file': 'storage'}]}", "node-name" },
		{ "{'options': [{'driver': 'null-co', 'node-name': 'nobody'}]}",
		  "there is no node 'nobody'" },
		{ "{'options': [{'driver': 'null-co', 'node-name': 'format'}]}",
		  "driver=null-co is not its own" },
		{ "{'options': [{" FORMAT ", 'backing': null}, {" FORMAT ", 'backing': null}]}",
		  "'format' is named twice" },
		{ "{'options': [{" FORMAT "}]}", "backing= is missing; give 'base'" },
		{ "{'options': [{" FORMAT ", 'backing': 3}]}", "backing" },
		{ "{'options': [{" FORMAT ", 'backing': 'nobody'}]}", "there is no node 'nobody'" },
		{ "{'options': [{" FORMAT ", 'backing': 'format'}]}", "is a part of 'format'" },
		{ "{'options': [{" FORMAT ", 'backing': null, 'l2-cache-size': 131072}]}",
		  "node 'format': l2-cache-size is 33554432 and cannot become 131072" },
		{ "{'options': [{" FORMAT ", 'backing': null, 'read-only': 'maybe'}]}", "read-only" },
		{ "{'options': [{" FORMAT ", 'backing': null, 'no-such': 1}]}", "no-such" },
		{ "{'options': [{'driver': 'file', 'node-name': 'storage', 'filename': '/x'}]}",
		  "node 'storage': filename is" },
		{ "{'options': [{'driver': 'raw', 'node-name': 'base', 'file': 'storage', "
		  "'read-only': true}]}", "file=storage cannot be put below it" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		fails("blockdev-reopen", bad[i][0], bad[i][1]);
	ok("blockdev-reopen", "{'options': []}");
	cr_expect_eq(guest(VIRTIO_BLK_T_IN, 8), 1);
}

Test(qmp_reopen, test_reopen_beside_a_job_is_refused)
{
	ok("block-stream", "{'job-id': 's0', 'device': 'format', 'speed': 1}");
	fails("blockdev-reopen", "{'options': [{" STORAGE ", 'cache': {'direct': true}}]}",
	      "in use by a stream job; wait for its end");
	fails("blockdev-reopen", "{'options': [{'driver': 'raw', 'node-name': 'base', 'read-only': "
	      "true, 'file': 'base-storage', 'detect-zeroes': 'on'}]}", "wait for its end");
}

Test(qmp_reopen, test_quit_in_the_midst_of_a_reopen_is_survived)
{
	json_t *req = json_pack("{s:s,s:{s:[{s:s,s:s,s:s,s:{s:b}}]}}", "execute",
				"blockdev-reopen", "arguments", "options", "driver", "file",
				"node-name", "storage", "filename", path, "cache", "direct", 1);

	qmp_execute_async(q, req, NULL, NULL);
	json_decref(req);
}
