/*
 * tests/bench/bench_snapshot.c - external snapshots under load, without KVM: a scripted
 * driver writes through virtio-blk while its disk gets one overlay after the other.
 *
 *	bench_snapshot FOLDER IMAGE SNAPSHOTS
 *
 * IMAGE is a qcow2 image; overlays are made in FOLDER. DEPTH writes of 4 KiB at random
 * are in flight, and REST of them are done between two snapshots. Prints one line:
 *
 *	depth=N held=N held_us=N stops=N
 *
 * the most requests that were kept by a snapshot, how long the longest kept them, and
 * how often the VM was stopped.
 *
 * Threads: one, and those of the block layer.
 * Missing: several disks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "tests/bench/ring.h"
#include "tests/dev/lib_qmp.h"
#include "vmm/base/util.h"

#define DEPTH		32u
#define REST		2000u

static struct run {
	struct vdrv *v;
	struct drive *d;
	struct qmp_test t;
	uint64_t seed, bytes, ended, failed;
	uint16_t slot_of[DRV_SIZE_MAX];
	uint64_t held, held_ns, since_ns;
} run;

static void submit(uint16_t slot)
{
	uint64_t block;

	run.seed = run.seed * 6364136223846793005ull + 1442695040888963407ull;
	block = (run.seed >> 20) % (run.bytes / REQUEST);
	run.slot_of[ring_submit(run.v, slot, true, block * REQUEST)] = slot;
}

static void harvest(void)
{
	uint16_t id, slot;
	bool any = false;
	uint32_t len;

	while (drv_used(&run.v->ring[0], &id, &len)) {
		slot = run.slot_of[id];
		run.ended++;
		run.failed += ring_status(run.v, slot) != VIRTIO_BLK_S_OK;
		submit(slot);
		any = true;
	}
	if (any)
		vdrv_kick(run.v, 0);
}

static uint64_t waiting(void)
{
	uint64_t n = 0;

	pthread_mutex_lock(&run.d->lock);
	for (const struct block_req *r = run.d->waiting.head; r; r = r->susp.next)
		n++;
	pthread_mutex_unlock(&run.d->lock);
	return n;
}

static void look(void)
{
	uint64_t now = clock_ns(), n = waiting();

	run.held = MAX(run.held, n);
	if (!n) {
		run.since_ns = 0;
		return;
	}
	if (!run.since_ns)
		run.since_ns = now;
	run.held_ns = MAX(run.held_ns, now - run.since_ns);
}

static void go_on(uint64_t ended)
{
	while (run.ended < ended) {
		loop_turn(run.v->rig->loop, NS_PER_MS);
		look();
		harvest();
	}
}

static uint64_t layers(void)
{
	uint64_t n = 0;

	for (const struct block_node *b = run.d->node; b->backing.node; b = b->backing.node)
		n++;
	return n;
}

static void set_up(const char *image)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s,s:s,s:s,s:s,s:s}", "file", image, "format", "qcow2", "if",
				 "none", "id", "d0", "cache", "none");

	if (block_drive_add(r->vm->blocks, args, &e)) {
		fprintf(stderr, "bench_snapshot: %s\n", e.text);
		exit(1);
	}
	json_decref(args);
	run.d = drive_find(r->vm->blocks, "d0");
	run.bytes = run.d->node->bytes;
	run.v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0'}",
			    VDRV_SPLIT);
	vdrv_start(run.v);
	tq_start(&run.t, r->vm);
	for (uint16_t i = 0; i < DEPTH; i++)
		submit(i);
	vdrv_kick(run.v, 0);
}

int main(int argc, char **argv)
{
	uint64_t snapshots = 0;

	if (argc != 4 || parse_u64(argv[3], &snapshots)) {
		fprintf(stderr, "usage: bench_snapshot FOLDER IMAGE SNAPSHOTS\n");
		return 2;
	}
	set_up(argv[2]);
	for (uint64_t i = 1; i <= snapshots; i++) {
		go_on(run.ended + REST);
		tq_begin(&run.t, "blockdev-snapshot-sync", "{'device': 'd0', 'snapshot-file': "
			 "'%s/snap-%u.qcow2'}", argv[1], (unsigned int)i);
		while (layers() < i)
			go_on(run.ended + 1);
	}
	go_on(run.ended + REST);
	printf("depth=%u held=%llu held_us=%llu stops=%u\n", DEPTH, (unsigned long long)run.held,
	       (unsigned long long)run.held_ns / 1000,
	       strstr(run.v->rig->events, "STOP") ? 1 : 0);
	tq_stop(&run.t);
	vdrv_destroy(run.v);
	if (run.failed)
		fprintf(stderr, "bench_snapshot: %llu requests failed\n",
			(unsigned long long)run.failed);
	return run.failed != 0;
}
