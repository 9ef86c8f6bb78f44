/*
 * devices/virtio/queue_map.h - which loop serves which queue of a device.
 *
 * Threads: main loop.
 */
#ifndef DEVICES_VIRTIO_QUEUE_MAP_H
#define DEVICES_VIRTIO_QUEUE_MAP_H

#include <jansson.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct dev;
struct loop;

/*
 * Fill @loops (one per queue): all NULL (the main loop) without both options,
 * the I/O thread @iothread, or as @map says, QEMU's iothread-vq-mapping:
 * [{"iothread": ID, "vqs": [N, …]}, …]. Either every entry has vqs, and each
 * queue is in one of them, or none has, and the queues go round. Refused with a
 * sentence that names @d.
 */
int queue_map(struct dev *d, const char *iothread, const json_t *map, uint16_t queues,
	      struct loop **loops, struct err *e);

#endif
