/*
 * tests/dev/test_drive_guard.c - a disk that fails: stop, event, and the same
 * request again when the VM goes on.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/block.h"
#include "block/file.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define DISK	(1ull * MIB)
#define HEADER	(VDRV_DATA - 0x1000)
#define STATUS	(VDRV_DATA - 0x800)
#define TURNS	200

/* Writes at or beyond @bytes of any file fail with EFBIG from now on. */
static void limit_files(rlim_t bytes)
{
	struct rlimit l = { bytes, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static struct vdrv *started(const char *device)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	struct vdrv *v;

	vdrv_drive(r, "d0", NULL, DISK);
	v = vdrv_attach(r, device, 0);
	vdrv_start(v);
	cr_assert_eq(vm_start(r->vm, &e), 0, "%s", e.text);
	return v;
}

static void start_write(struct vdrv *v, uint64_t sector)
{
	struct virtio_blk_outhdr h = { htole32(VIRTIO_BLK_T_OUT), 0, htole64(sector) };
	struct drv_buf b[] = { { HEADER, 16, 0 }, { VDRV_DATA, 512, 0 }, { STATUS, 1, 1 } };

	rig_mem_write(v->rig, HEADER, &h, sizeof(h));
	rig_mem_put(v->rig, STATUS, 1, 0xee);
	drv_add(&v->ring[0], b, 3);
	vdrv_kick(v, 0);
}

static bool wait_event(struct rig *r, const char *name)
{
	for (int i = 0; i < TURNS && !strstr(r->events, name); i++)
		loop_turn(r->loop, NS_PER_MS);
	return strstr(r->events, name) != NULL;
}

/* The disk's own descriptor: the file has no name any more. */
static int drive_fd(struct vdrv *v)
{
	struct drive *d = drive_find(v->rig->vm->blocks, "d0");

	return ((struct file_node *)d->node->file.node)->fd;
}

Test(drive_guard, test_werror_stop_stops_and_cont_writes_again)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'stop'}");
	struct err e = ERR_INIT;
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(wait_event(v->rig, "STOP"));
	cr_assert(wait_event(v->rig, "BLOCK_IO_ERROR"));
	cr_assert_eq(atomic_load(&v->rig->vm->state), VM_IO_ERROR);
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), 0xee, "the guest was told");

	limit_files(RLIM_INFINITY);
	cr_assert_eq(vm_start(v->rig->vm, &e), 0, "%s", e.text);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), VIRTIO_BLK_S_OK);
	vdrv_destroy(v);
}

Test(drive_guard, test_werror_report_tells_guest_and_client_and_runs_on)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'report'}");
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), VIRTIO_BLK_S_IOERR);
	cr_assert(wait_event(v->rig, "BLOCK_IO_ERROR"));
	cr_assert_str_eq(json_str(v->rig->last_data, "action", ""), "report");
	cr_assert_str_eq(json_str(v->rig->last_data, "device", ""), "d0");
	cr_assert_str_eq(json_str(v->rig->last_data, "operation", ""), "write");
	cr_assert_eq(atomic_load(&v->rig->vm->state), VM_RUNNING);
	vdrv_destroy(v);
}

/* What the fourth row of the events' table looks like to a client. */
Test(drive_guard, test_werror_retry_keeps_the_guest_waiting_and_tells_the_client)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'retry', 'rerror': 'retry', 'retry_interval': 5}");
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(wait_event(v->rig, "BLOCK_IO_SUSPENDED"));
	cr_assert_str_eq(json_str(v->rig->last_data, "device", "?"), "d0");
	cr_assert_str_eq(json_str(v->rig->last_data, "operation", ""), "write");
	cr_assert_eq(json_integer_value(json_object_get(v->rig->last_data, "errno")), EFBIG);
	cr_assert_not_null(strstr(v->rig->events, "BLOCK_IO_ERROR"));
	cr_assert_eq(atomic_load(&v->rig->vm->state), VM_RUNNING);
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), 0xee, "the guest was told");
	limit_files(RLIM_INFINITY);
	cr_assert(wait_event(v->rig, "BLOCK_IO_RESUMED"));
	cr_assert_eq(json_integer_value(json_object_get(v->rig->last_data, "requests")), 1);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), VIRTIO_BLK_S_OK);
	vdrv_destroy(v);
}

Test(drive_guard, test_retry_timeout_tells_the_guest)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'retry', 'retry_interval': 5, 'retry_timeout': 30}");
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), VIRTIO_BLK_S_IOERR);
	cr_assert(wait_event(v->rig, "BLOCK_IO_TIMED_OUT"));
	vdrv_destroy(v);
}

/* A guest that resets a suspended disk gets it back at once, and what was
 * kept is never written. */
Test(drive_guard, test_reset_while_suspended_cancels_without_a_late_write)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'retry', 'retry_interval': 5}");
	uint8_t back[512];

	rig_mem_fill(v->rig, VDRV_DATA, 0xab, 512);
	limit_files(4096);
	start_write(v, 100);
	cr_assert(wait_event(v->rig, "BLOCK_IO_SUSPENDED"));
	vdrv_reset(v);
	limit_files(RLIM_INFINITY);
	for (int i = 0; i < 30; i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert_eq(pread(drive_fd(v), back, 512, 51200), 512);
	for (int i = 0; i < 512; i++)
		cr_assert_neq(back[i], 0xab, "written after the reset");
	cr_assert_not_null(strstr(v->rig->events, "BLOCK_IO_RESUMED"));
	vdrv_destroy(v);
}

Test(drive_guard, test_machine_reset_and_quit_while_suspended_do_not_wait)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'retry', 'retry_interval': 100000}");
	uint64_t start;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(wait_event(v->rig, "BLOCK_IO_SUSPENDED"));
	rig_reset(v->rig);
	cr_assert_eq(v->rig->vm->resets_pending, 0);
	vdrv_start(v);
	start_write(v, 100);
	for (int i = 0; i < 50; i++)
		loop_turn(v->rig->loop, NS_PER_MS);
	start = clock_ns();
	vdrv_destroy(v);
	cr_assert_lt(clock_ns() - start, NS_PER_SEC);
}

Test(drive_guard, test_policy_is_changed_while_suspended)
{
	struct vdrv *v = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
				 "'werror': 'retry', 'retry_interval': 100000}");
	struct err e = ERR_INIT;
	json_t *val = json_string("report"), *bad = json_string("ENOTHING");
	uint32_t len;
	uint16_t id;

	limit_files(4096);
	start_write(v, 100);
	cr_assert(wait_event(v->rig, "BLOCK_IO_SUSPENDED"));
	cr_assert_eq(dev_set(v->dev, "retry_on", bad, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "'ENOTHING' is no error"));
	e = (struct err)ERR_INIT;
	cr_assert_eq(dev_set(v->dev, "serial", val, &e), -EPERM);
	cr_assert_eq(dev_set(v->dev, "werror", val, &e), 0);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_assert_eq(rig_mem_get(v->rig, STATUS, 1), VIRTIO_BLK_S_IOERR);
	json_decref(val);
	json_decref(bad);
	vdrv_destroy(v);
}

/* ---- storage that hangs ---- */

static void never(struct block_node *n, struct block_req *r)
{
}

/* Static: what is left behind is no leak. */
static struct vdrv *hung;
static struct block_driver deaf;

Test(drive_guard, test_quit_with_a_request_that_never_ends_leaves_it_behind)
{
	struct drive *d;
	uint64_t start;

	hung = started("{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0'}");
	d = drive_find(hung->rig->vm->blocks, "d0");
	deaf = *d->node->drv;
	deaf.submit = never;
	d->node->drv = &deaf;
	start_write(hung, 1);
	for (int i = 0; i < 20; i++)
		loop_turn(hung->rig->loop, NS_PER_MS);
	start = clock_ns();
	cr_assert_not(vm_destroy(hung->rig->vm));
	cr_assert_lt(clock_ns() - start, 3 * NS_PER_SEC);
}
