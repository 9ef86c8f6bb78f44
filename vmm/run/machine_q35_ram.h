/*
 * vmm/run/machine_q35_ram.h - the guest's memory: where it comes from and where it lies.
 *
 * Threads: main loop.
 */
#ifndef VMM_RUN_MACHINE_Q35_RAM_H
#define VMM_RUN_MACHINE_Q35_RAM_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/arch/x86/x86.h"
#include "vmm/base/err.h"
#include "vmm/run/numa.h"

struct vm;
struct machine_opts;

struct ram {
	uint64_t bytes, low, high;	/* in all, below and above 4 GiB */
	/* As the guest sees it: in order, a node's in one piece or, around the
	 * hole below 4 GiB, in two. */
	struct acpi_memory range[NUMA_NODES_MAX + 1];
	size_t ranges;
};

/* Allocate what -m, -machine memory-backend= or the nodes' memdev= say, and put
 * it into @vm->mem from guest address 0 on, leaving the hole below 4 GiB. */
int ram_create(struct ram *ram, struct vm *vm, const struct machine_opts *opts,
	       const struct numa *numa, struct err *e);

#endif
