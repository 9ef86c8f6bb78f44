/*
 * tests/dev/test_disk_settles.c - a disk leaves, or the VM ends, while its image has
 * tables in memory and its storage is slow or hangs: the last flush is waited for
 * without stopping the main loop. TSAN: tables are written by the image's worker.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/fault.h"
#include "tests/dev/lib_disk.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define HEADER	(VDRV_DATA - 0x1000)
#define STATUS	(VDRV_DATA - 0x800)
#define BYTES	(64u * KIB)
#define UNTIL_NS (10 * NS_PER_SEC)

static struct vdrv *v;

static void add_drive(struct rig *r)
{
	struct err e = ERR_INIT;
	char text[128];
	json_t *args;

	snprintf(text, sizeof(text), "file=%s/disk,format=qcow2,if=none,id=d0", td_dir);
	args = json_from_keyval(text, NULL, true, "drive", &e);
	cr_assert_eq(block_drive_add(r->vm->blocks, args, &e), 0, "%s", e.text);
	json_decref(args);
}

/* The rule "slow" on the image's file. */
static void add_fault(const char *how)
{
	struct block_graph *g = v->rig->vm->blocks;

	td_fault(g, "id=slow,drive=%s,%s", drive_find(g, "d0")->node->file.node->name, how);
}

static uint32_t held(void)
{
	return td_held(v->rig->vm->blocks);
}

/* The guest writes, and does not flush. */
static void write_some(void)
{
	struct virtio_blk_outhdr h = { htole32(VIRTIO_BLK_T_OUT), 0, 0 };
	struct drv_buf b[] = { { HEADER, sizeof(h), 0 }, { VDRV_DATA, BYTES, 0 }, { STATUS, 1, 1 } };
	uint8_t status = 0xff, *data = malloc(BYTES);
	uint64_t end = clock_ns() + UNTIL_NS;

	memset(data, 0x5a, BYTES);
	rig_mem_write(v->rig, HEADER, &h, sizeof(h));
	rig_mem_write(v->rig, VDRV_DATA, data, BYTES);
	rig_mem_write(v->rig, STATUS, &status, 1);
	free(data);
	drv_add(&v->ring[0], b, ARRAY_LEN(b));
	vdrv_kick(v, 0);
	while (status == 0xff && clock_ns() < end) {
		loop_turn(v->rig->loop, NS_PER_MS);
		rig_mem_read(v->rig, STATUS, &status, 1);
	}
	cr_assert_eq(status, VIRTIO_BLK_S_OK);
}

static void setup(void)
{
	struct rig *r;

	td_make();
	td_sh("qemu-img create -q -f qcow2 disk 4M");
	r = vdrv_rig(NULL);
	rig_device(r, "{'driver': 'pcie-root-port', 'id': 'rp'}");
	add_drive(r);
	v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', 'bus': 'rp'}",
			VDRV_SPLIT);
	vdrv_start(v);
	atomic_store(&r->vm->state, VM_RUNNING);
	write_some();
}

static void teardown(void)
{
	td_remove();
}

static void expect_clean(void)
{
	td_sh("qemu-img check -q -U disk && qemu-io -r -U -f qcow2 -c 'read -P 0x5a 0 64k' disk | "
	   "grep -q 'read 65536/65536'");
}

static void take_out(void)
{
	struct dev_unplug_opts force = { .force = true };
	struct err e = ERR_INIT;

	cr_assert_eq(dev_unplug(v->rig->vm, "disk0", &force, &e), 0, "%s", e.text);
	v->dev = NULL;
}

static bool deleted(void)
{
	return strstr(v->rig->events, "DEVICE_DELETED");
}

static void await_deleted(void)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	while (!deleted() && clock_ns() < end)
		loop_turn(v->rig->loop, 10 * NS_PER_MS);
	cr_assert(deleted());
}

TestSuite(disk_settles, .init = setup, .fini = teardown, .timeout = 60);

Test(disk_settles, test_unplug_goes_on_when_storage_is_back)
{
	struct block_graph *g = v->rig->vm->blocks;
	uint64_t end = clock_ns() + UNTIL_NS;
	struct err e = ERR_INIT;

	add_fault("op=flush,hang=on");
	take_out();
	while (!held() && clock_ns() < end)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert_eq(held(), 1);
	/* The loop turns, and would serve anybody. */
	for (int i = 0; i < 20; i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_expect(!deleted());
	cr_assert_eq(block_fault_del(g, "slow", &e), 0, "%s", e.text);
	await_deleted();
	vdrv_destroy(v);
	expect_clean();
}

Test(disk_settles, test_unplug_leaves_a_clean_image)
{
	take_out();
	await_deleted();
	expect_clean();		/* the drive is there, but has nothing to write */
	vdrv_destroy(v);
}

Test(disk_settles, test_failing_flush_does_not_keep_the_device)
{
	add_fault("op=flush,errno=EIO");
	take_out();
	await_deleted();
	vdrv_destroy(v);
}

Test(disk_settles, test_end_of_the_vm_waits_for_slow_storage)
{
	add_fault("op=flush,latency=200");
	vdrv_destroy(v);
	expect_clean();
}

Test(disk_settles, test_end_of_the_vm_does_not_wait_for_ever)
{
	add_fault("op=flush,hang=on");
	v->rig->vm->settle_ns = 300 * NS_PER_MS;
	cr_expect(!vm_destroy(v->rig->vm));
	/* What can still be written to is left behind. */
	cr_expect_eq(held(), 1);
}
