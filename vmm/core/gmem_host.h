/*
 * vmm/core/gmem_host.h - host memory behind guest memory; for gmem.c only.
 */
#ifndef VMM_CORE_GMEM_HOST_H
#define VMM_CORE_GMEM_HOST_H

#include <stdint.h>

#include "vmm/core/gmem.h"

/* One stretch of host memory, inside a reservation that keeps inaccessible
 * pages around it. Constant once made. */
struct gmem_map {
	struct gmem_map *next;
	int fd;
	uint8_t *host;
	uint64_t size;		/* usable bytes at host, whole host pages */
	void *area;		/* the reservation */
	uint64_t area_size;
};

void gmem_maps_free(struct gmem *gm);

#endif
