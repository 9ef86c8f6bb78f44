/*
 * vmm/run/numa.h - -numa: which vCPUs, which memory, how far apart.
 *
 * Threads: main loop.
 */
#ifndef VMM_RUN_NUMA_H
#define VMM_RUN_NUMA_H

#include <jansson.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"

#define NUMA_NODES_MAX	16	/* guest memory has so many regions to spare */
#define NUMA_CPUS_MAX	255

struct numa {
	uint32_t nodes;				/* 0: there is no -numa */
	char *memdev[NUMA_NODES_MAX];		/* id of its memory; NULL: has none */
	uint8_t cpu_node[NUMA_CPUS_MAX];	/* by vCPU */
	uint8_t distance[NUMA_NODES_MAX * NUMA_NODES_MAX];	/* nodes x nodes */
};

extern const struct prop numa_node_props[], numa_dist_props[];

/* Read the -numa options of @desc for @cpus vCPUs; numa_free() in any case. */
int numa_read(struct numa *n, const json_t *desc, uint32_t cpus, struct err *e);
void numa_free(struct numa *n);

#endif
