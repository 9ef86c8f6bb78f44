/*
 * tests/bench/bench_device.c - virtio-blk without KVM: a scripted driver on a
 * ring, the device, the block engine and a raw file, all on one thread.
 *
 *	bench_device FILE read|write DEPTH COUNT STEP CACHE [split|packed]
 *
 * Requests are as bench_replay's, each through an indirect table as Linux's
 * driver makes them. Prints one line:
 *
 *	iops=N syscalls_per_request=N kicks_per_request=N interrupts_per_request=N
 *
 * of the COUNT requests that follow a warm-up. System calls are the loop's and
 * one per message (KVM_SIGNAL_MSI); a kick is none of ours under KVM (ioeventfd).
 *
 * Threads: one.
 * Missing: several queues.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "tests/bench/ring.h"
#include "vmm/base/util.h"

#define DEPTH_MAX	128
#define WARM_UP		1024u	/* before a queue counts as busy, and has its irqfd */

static struct run {
	struct vdrv *v;
	bool write;
	uint64_t depth, count, step, bytes;
	uint64_t offset, started, ended, failed, kicks;
	uint16_t slot_of[DRV_SIZE_MAX];		/* by head or id */
} run;

static void submit(uint16_t slot)
{
	run.slot_of[ring_submit(run.v, slot, run.write, run.offset)] = slot;
	run.offset = (run.offset + run.step) % run.bytes;
	run.started++;
}

static void kick(void)
{
	if (drv_wants_kick(&run.v->ring[0])) {
		run.kicks++;
		vdrv_kick(run.v, 0);
	}
}

/* What the guest does in its interrupt: collect, refill, kick once. */
static void harvest(void)
{
	uint16_t id, slot;
	uint32_t len;
	bool any = false;

	while (drv_used(&run.v->ring[0], &id, &len)) {
		slot = run.slot_of[id];
		run.ended++;
		run.failed += ring_status(run.v, slot) != VIRTIO_BLK_S_OK;
		if (run.started < run.count)
			submit(slot);
		any = true;
	}
	if (any) {
		drv_irq_on(&run.v->ring[0]);
		kick();
	}
}

struct mark {
	struct loop_stats stats;
	uint64_t irqs, msis, kicks, ended, ns;
};

static struct mark now(void)
{
	return (struct mark){
		.stats = loop_stats(run.v->rig->loop), .irqs = run.v->v->queue[0].interrupts,
		.msis = run.v->rig->msis, .kicks = run.kicks, .ended = run.ended, .ns = clock_ns()
	};
}

static void go_on(uint64_t ended)
{
	while (run.ended < ended) {
		loop_turn(run.v->rig->loop, NS_PER_SEC);
		harvest();
	}
}

static void replay(void)
{
	struct mark a, b;
	double n;

	run.count += WARM_UP;
	for (uint16_t i = 0; i < run.depth; i++)
		submit(i);
	kick();
	go_on(WARM_UP);
	a = now();
	go_on(run.count);
	b = now();
	n = (double)(b.ended - a.ended);
	printf("iops=%.0f syscalls_per_request=%.3f kicks_per_request=%.3f "
	       "interrupts_per_request=%.3f\n", n * 1e9 / (double)(b.ns - a.ns),
	       (double)(b.stats.syscalls - a.stats.syscalls + b.msis - a.msis) / n,
	       (double)(b.kicks - a.kicks) / n, (double)(b.irqs - a.irqs) / n);
}

static void set_up(char **argv, int flags)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s,s:s,s:s,s:s,s:s}", "file", argv[1], "format", "raw", "if",
				 "none", "id", "d0", "cache", argv[6]);

	if (block_drive_add(r->vm->blocks, args, &e)) {
		fprintf(stderr, "bench_device: %s\n", e.text);
		exit(1);
	}
	json_decref(args);
	run.bytes = drive_find(r->vm->blocks, "d0")->node->bytes;
	run.v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
			    "'packed': true}", flags | VDRV_EVENT_IDX);
	vdrv_reset(run.v);
	if (!vdrv_negotiate(run.v))
		exit(1);
	vdrv_queue(run.v, 0, 0);
	run.v->v->irqfd = true;		/* as with KVM: busy queues use irqfds */
	vdrv_msix(run.v);
	vdrv_set_status(run.v, VIRTIO_CONFIG_S_DRIVER_OK);
	rig_turn(r);
	for (uint16_t i = 0; i < DEPTH_MAX; i++)
		memset(r->ram + RING_DATA(i), 0xa5, REQUEST);
}

static int parse(int argc, char **argv)
{
	if (argc < 7 || argc > 8 || parse_u64(argv[3], &run.depth) || run.depth < 1 ||
	    run.depth > DEPTH_MAX || parse_u64(argv[4], &run.count) || run.count < run.depth ||
	    parse_u64(argv[5], &run.step) || run.step % REQUEST ||
	    (strcmp(argv[2], "read") && strcmp(argv[2], "write")))
		return -EINVAL;
	run.write = strcmp(argv[2], "read");
	return 0;
}

int main(int argc, char **argv)
{
	if (parse(argc, argv)) {
		fprintf(stderr, "usage: bench_device FILE read|write DEPTH COUNT STEP CACHE "
			"[split|packed]\n");
		return 2;
	}
	set_up(argv, argc == 8 && !strcmp(argv[7], "packed") ? VDRV_PACKED : VDRV_SPLIT);
	replay();
	if (run.failed)
		fprintf(stderr, "bench_device: %llu requests failed\n",
			(unsigned long long)run.failed);
	vdrv_destroy(run.v);
	return run.failed != 0;
}
