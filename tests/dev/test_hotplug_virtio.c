/*
 * Virtio devices that leave: with requests in flight, from an I/O thread, with
 * what sits on them; and that nothing is written once DEVICE_DELETED is out.
 * TSAN: queues run on I/O threads.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "pci/internal.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define DISK	(4ull * MIB)
#define HEADER	(VDRV_DATA - 0x1000)
#define STATUS	(VDRV_DATA - 0x800)
#define IN_FLIGHT 20
#define UNTIL_NS (10 * NS_PER_SEC)

#define DISK_ON_PORT	"{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', " \
			"'bus': 'rp', 'packed': true"

static struct rig *port_rig(void)
{
	struct rig *r = vdrv_rig(NULL);

	rig_device(r, "{'driver': 'pcie-root-port', 'id': 'rp'}");
	return r;
}

static struct vdrv *disk(const char *members)
{
	struct rig *r = port_rig();
	struct err e = ERR_INIT;
	char json[256];

	cr_assert_eq(vm_iothread_add(r->vm, "io0", NULL, &e), 0, "%s", e.text);
	vdrv_drive(r, "d0", NULL, DISK);
	snprintf(json, sizeof(json), DISK_ON_PORT "%s}", members);
	return vdrv_attach(r, json, VDRV_SPLIT);
}

/* Reads of 64 KiB into RAM, as many as given. */
static void read_requests(struct vdrv *v, int n)
{
	struct virtio_blk_outhdr h = { htole32(VIRTIO_BLK_T_IN), 0, 0 };
	struct drv_buf b[] = {
		{ HEADER, sizeof(h), 0 }, { VDRV_DATA, 64 * KIB, 1 }, { STATUS, 1, 1 },
	};

	rig_mem_write(v->rig, HEADER, &h, sizeof(h));
	while (n--)
		drv_add(&v->ring[0], b, ARRAY_LEN(b));
	vdrv_kick(v, 0);
}

static bool deleted(const struct rig *r)
{
	return strstr(r->events, "DEVICE_DELETED");
}

static void await_deleted(struct rig *r)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	while (!deleted(r) && clock_ns() < end)
		loop_turn(r->loop, 10 * NS_PER_MS);
	cr_assert(deleted(r));
}

static void expect_silence(struct rig *r)
{
	uint8_t *before = malloc(VDRV_RAM);

	memcpy(before, r->ram, VDRV_RAM);
	loop_turn(r->loop, 20 * NS_PER_MS);
	rig_turn(r);
	cr_expect_arr_eq(before, r->ram, VDRV_RAM);
	free(before);
}

static void tear_out(const char *members)
{
	struct vdrv *v = disk(members);
	struct dev_unplug_opts force = { .force = true };
	struct err e = ERR_INIT;

	vdrv_start(v);
	atomic_store(&v->rig->vm->state, VM_RUNNING);
	read_requests(v, IN_FLIGHT);
	loop_turn(v->rig->loop, 0);
	cr_assert_eq(dev_unplug(v->rig->vm, "disk0", &force, &e), 0, "%s", e.text);
	cr_expect_eq(vdrv_pci_read(v, PCI_VENDOR_ID, 2), 0xffff);
	await_deleted(v->rig);
	v->dev = NULL;
	expect_silence(v->rig);
	cr_expect_null(dev_find(v->rig->vm, "disk0"));
	rig_device(v->rig, DISK_ON_PORT "}");	/* id, port and drive are free */
	vdrv_destroy(v);
}

Test(hotplug_virtio, test_disk_torn_out_with_requests_in_flight)
{
	tear_out("");
}

Test(hotplug_virtio, test_disk_on_iothread_torn_out_with_requests_in_flight)
{
	tear_out(", 'iothread': 'io0'");
}

Test(hotplug_virtio, test_disk_let_go_with_requests_in_flight)
{
	struct vdrv *v = disk(", 'iothread': 'io0'");
	struct err e = ERR_INIT;

	vdrv_start(v);
	atomic_store(&v->rig->vm->state, VM_RUNNING);
	cr_assert_eq(dev_unplug(v->rig->vm, "disk0", NULL, &e), 0);
	read_requests(v, IN_FLIGHT);		/* a driver that goes on */
	dev_unplug_answer(v->dev, true);
	await_deleted(v->rig);
	v->dev = NULL;
	expect_silence(v->rig);
	vdrv_destroy(v);
}

Test(hotplug_virtio, test_disk_leaving_during_a_reset_of_the_machine)
{
	struct vdrv *v = disk("");
	struct dev_unplug_opts force = { .force = true };
	struct err e = ERR_INIT;

	vdrv_start(v);
	atomic_store(&v->rig->vm->state, VM_RUNNING);
	read_requests(v, IN_FLIGHT);
	loop_turn(v->rig->loop, 0);
	cr_assert_eq(dev_unplug(v->rig->vm, "disk0", &force, &e), 0);
	rig_reset(v->rig);
	cr_expect(deleted(v->rig));		/* the reset waited for it */
	v->dev = NULL;
	cr_expect_eq(v->rig->vm->resets_pending, 0);
	vdrv_destroy(v);
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* What it costs in descriptors is settled after the first few. */
Test(hotplug_virtio, test_thousand_plugs_and_unplugs_leave_nothing)
{
	struct rig *r = port_rig();
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s, s:s, s:s}", "driver", "virtio-blk-pci", "id", "disk0",
				 "drive", "d0");
	struct dev_unplug_opts force = { .force = true };
	int before = 0;

	vdrv_drive(r, "d0", NULL, DISK);
	cr_assert_eq(pci_enumerate(r->vm->pci, &e), 0);
	atomic_store(&r->vm->state, VM_RUNNING);
	for (int i = 0; i < 1000; i++) {
		r->events[0] = '\0';
		cr_assert_eq(dev_plug(r->vm, args, NULL, &e), 0, "%d: %s", i, e.text);
		cr_assert_eq(dev_unplug(r->vm, "disk0", &force, &e), 0, "%s", e.text);
		await_deleted(r);
		if (i == 10)
			before = descriptors();
	}
	cr_expect_eq(descriptors(), before);
	json_decref(args);
	rig_destroy(r);
}

Test(hotplug_virtio, test_controller_takes_along_what_sits_on_it)
{
	struct rig *r = port_rig();
	struct dev_unplug_opts force = { .force = true };
	struct err e = ERR_INIT, e2 = ERR_INIT;

	rig_device(r, "{'driver': 'virtio-serial-pci', 'id': 'ser', 'bus': 'rp'}");
	rig_device(r, "{'driver': 'virtserialport', 'id': 'p1', 'name': 'a'}");
	rig_device(r, "{'driver': 'virtserialport', 'id': 'p2', 'name': 'b'}");
	atomic_store(&r->vm->state, VM_RUNNING);
	r->events[0] = '\0';
	cr_assert_eq(dev_unplug(r->vm, "p1", NULL, &e), 0, "%s", e.text);
	cr_assert_eq(dev_unplug(r->vm, "ser", &force, &e), 0, "%s", e.text);
	cr_expect_lt(rig_device_error(r, "{'driver': 'virtserialport', 'id': 'p3'}", &e2), 0);
	cr_expect_str_eq(e2.text, "p3: bus=ser.0: 'ser' is being unplugged");
	rig_turn(r);
	cr_expect_str_eq(r->events, "DEVICE_DELETED DEVICE_DELETED DEVICE_DELETED "
			 "__org.roost_SLOT_STATE ");
	cr_expect_null(dev_find(r->vm, "p1"));
	cr_expect_null(dev_find(r->vm, "ser"));
	cr_expect_eq(r->vm->resets_pending, 0);
	rig_destroy(r);
}

Test(hotplug_virtio, test_port_of_a_controller_comes_and_goes_alone)
{
	struct rig *r = port_rig();
	json_t *args = json_pack("{s:s, s:s}", "driver", "virtserialport", "id", "p1");
	struct err e = ERR_INIT;

	rig_device(r, "{'driver': 'virtio-serial-pci', 'id': 'ser', 'bus': 'rp'}");
	atomic_store(&r->vm->state, VM_RUNNING);
	cr_assert_eq(dev_plug(r->vm, args, NULL, &e), 0, "%s", e.text);
	cr_assert_eq(dev_unplug(r->vm, "p1", NULL, &e), 0, "%s", e.text);
	rig_turn(r);
	cr_expect_null(dev_find(r->vm, "p1"));
	cr_expect_not_null(dev_find(r->vm, "ser"));
	json_decref(args);
	rig_destroy(r);
}
