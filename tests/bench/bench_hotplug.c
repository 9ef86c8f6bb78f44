/*
 * tests/bench/bench_hotplug.c - what hot-plug costs the VMM, without KVM: QMP's
 * device_add of a virtio disk to a root port, until the answer is sent. The slot has
 * told the guest by then; what the guest does after that is its own time.
 *
 *	bench_hotplug IMAGE ROUNDS
 *
 * Each round the disk is taken away again. Prints one line, of all rounds:
 *
 *	add_us=N add_us_max=N
 *
 * median and longest.
 *
 * Threads: one.
 * Missing: removal, whose time is the guest's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "tests/dev/lib_qmp.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define ROUNDS_MAX	1000u

static struct rig *set_up(const char *image)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s,s:s,s:s,s:s}", "file", image, "format", "raw", "if", "none",
				 "id", "d0");

	rig_device(r, "{'driver': 'pcie-root-port', 'id': 'rp'}");
	if (block_drive_add(r->vm->blocks, args, &e) || pci_enumerate(r->vm->pci, &e)) {
		fprintf(stderr, "bench_hotplug: %s\n", e.text);
		exit(1);
	}
	json_decref(args);
	atomic_store(&r->vm->state, VM_RUNNING);
	return r;
}

/* Nanoseconds. */
static uint64_t add(struct qmp_test *t)
{
	uint64_t since = clock_ns();

	tq_ok(t, "device_add", "{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', "
	      "'bus': 'rp'}");
	return clock_ns() - since;
}

static void take_away(struct rig *r)
{
	struct dev_unplug_opts force = { .force = true };
	struct err e = ERR_INIT;

	if (dev_unplug(r->vm, "disk0", &force, &e)) {
		fprintf(stderr, "bench_hotplug: %s\n", e.text);
		exit(1);
	}
	while (dev_find(r->vm, "disk0"))
		loop_turn(r->loop, NS_PER_MS);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static uint64_t ns[ROUNDS_MAX];
	struct qmp_test t;
	uint64_t rounds = 0;
	struct rig *r;

	if (argc != 3 || parse_u64(argv[2], &rounds) || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_hotplug IMAGE ROUNDS\n");
		return 2;
	}
	r = set_up(argv[1]);
	tq_start(&t, r->vm);
	for (uint64_t i = 0; i < rounds; i++) {
		ns[i] = add(&t);
		take_away(r);
	}
	tq_stop(&t);
	rig_destroy(r);
	qsort(ns, rounds, sizeof(ns[0]), by_value);
	printf("add_us=%llu add_us_max=%llu\n", (unsigned long long)ns[rounds / 2] / 1000,
	       (unsigned long long)ns[rounds - 1] / 1000);
	return 0;
}
