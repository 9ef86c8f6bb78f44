/*
 * tests/dev/test_virtio_blk_map.c - iothread-vq-mapping: each queue of a disk on
 * its own loop, on one node graph.
 *
 * TSAN: the code under test runs on several I/O threads.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "block/block.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define DISK	(1ull * MIB)
#define BLK	"{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', 'num-queues': 4"
#define QUEUES	4
#define REQUESTS 200

static struct rig *rig(void)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	cr_assert_eq(vm_iothread_add(r->vm, "t0", NULL, &e), 0, "%s", e.text);
	cr_assert_eq(vm_iothread_add(r->vm, "t1", NULL, &e), 0, "%s", e.text);
	vdrv_drive(r, "d0", NULL, DISK);
	return r;
}

static struct vdrv *create(int flags)
{
	return vdrv_attach(rig(), BLK ", 'iothread-vq-mapping': [{'iothread': 't0'}, "
			   "{'iothread': 't1'}]}", flags);
}

static int valid_request(struct drv_buf *b)
{
	b[0] = (struct drv_buf){ VDRV_TABLE + 0x8000, 16, 0 };
	b[1] = (struct drv_buf){ VDRV_DATA, 4096, 1 };
	b[2] = (struct drv_buf){ VDRV_DATA + 4096, 1, 1 };
	return 3;
}

static const struct hostile hostile_map = {
	"virtio-blk with iothread-vq-mapping", create, valid_request
};

HOSTILE_SUITE(virtio_blk_map, hostile_map)

Test(virtio_blk_map, test_virtio_blk_map_goes_round_without_vqs)
{
	struct vdrv *v = create(0);
	struct loop *t0 = iothread_loop(vm_iothread_find(v->rig->vm, "t0"));
	struct loop *t1 = iothread_loop(vm_iothread_find(v->rig->vm, "t1"));

	for (int i = 0; i < QUEUES; i++)
		cr_expect_eq((void *)v->v->queue[i].loop, (void *)(i % 2 ? t1 : t0));
	vdrv_destroy(v);
}

static void refused(const char *map, const char *with)
{
	struct rig *r = rig();
	struct err e = ERR_INIT;
	char args[512];

	snprintf(args, sizeof(args), BLK ", 'iothread-vq-mapping': %s}", map);
	cr_assert_neq(rig_device_error(r, args, &e), 0, "%s was accepted", map);
	cr_expect_not_null(strstr(e.text, with), "%s", e.text);
	rig_destroy(r);
}

Test(virtio_blk_map, test_virtio_blk_map_mistakes_are_named)
{
	refused("[]", "is a list such as");
	refused("[{'iothread': 'nope'}]", "no iothread 'nope'");
	refused("[{'vqs': [0]}]", "entry 0 has no iothread");
	refused("[{'iothread': 't0', 'vqs': [0, 1, 2, 3]}, {'iothread': 't1'}]", "in every entry");
	refused("[{'iothread': 't0', 'vqs': [0, 1, 2, 4]}]", "0 to 3");
	refused("[{'iothread': 't0', 'vqs': [0, 1, 1, 2]}]", "queue 1 is assigned twice");
	refused("[{'iothread': 't0', 'vqs': [0, 1, 3]}]", "queue 2 is not");
	refused("[{'iothread': 't0'}], 'iothread': 't1'", "exclude each other");
}

/* Each queue has its own buffers; all serve requests at the same time. */
Test(virtio_blk_map, test_virtio_blk_map_all_queues_serve_at_once)
{
	struct vdrv *v = create(VDRV_EVENT_IDX);
	uint32_t sent[QUEUES] = { 0 }, done[QUEUES] = { 0 }, len, all = 0;
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;
	struct drv_buf b[3];
	uint16_t id;

	vdrv_start(v);
	while (all < QUEUES * REQUESTS && clock_ns() < end) {
		for (int i = 0; i < QUEUES; i++) {
			valid_request(b);
			b[1].addr += (uint64_t)i * 0x4000;
			b[2].addr += (uint64_t)i * 0x4000;
			while (sent[i] < REQUESTS && v->ring[i].nfree >= 3) {
				drv_add(&v->ring[i], b, 3);
				sent[i]++;
			}
			if (drv_wants_kick(&v->ring[i]))
				vdrv_kick(v, (uint16_t)i);
			while (drv_used(&v->ring[i], &id, &len)) {
				cr_assert_eq(len, 4097);
				done[i]++;
				all++;
			}
		}
	}
	for (int i = 0; i < QUEUES; i++)
		cr_expect_eq(done[i], REQUESTS);
	vdrv_destroy(v);
}
