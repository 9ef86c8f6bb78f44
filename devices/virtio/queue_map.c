/*
 * devices/virtio/queue_map.c - which loop serves which queue of a device.
 *
 * Spec:    QEMU's qapi/virtio.json (IOThreadVirtQueueMapping).
 * Threads: main loop.
 * Missing: nothing known.
 */
#include "devices/virtio/queue_map.h"

#include <errno.h>

#include "vmm/base/json.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"
#include "vmm/loop/iothread.h"

static int find_loop(struct dev *d, const char *id, struct loop **out, struct err *e)
{
	struct iothread *t = vm_iothread_find(d->vm, id);

	if (!t)
		return err_set(e, -ENOENT, "%s: there is no iothread '%.64s'; add -object "
			       "iothread,id=%.64s", d->path, id, id);
	*out = iothread_loop(t);
	return 0;
}

static int take_queue(struct dev *d, const json_t *vq, uint16_t queues, struct loop *loop,
		      struct loop **loops, struct err *e)
{
	json_int_t n = json_is_integer(vq) ? json_integer_value(vq) : -1;

	if (n < 0 || n >= queues)
		return err_set(e, -EINVAL, "%s: iothread-vq-mapping: vqs are numbers from 0 to %d",
			       d->path, queues - 1);
	if (loops[n])
		return err_set(e, -EINVAL, "%s: iothread-vq-mapping: queue %d is assigned twice",
			       d->path, (int)n);
	loops[n] = loop;
	return 0;
}

/* Entry @i of @count; without vqs it takes every count-th queue. */
static int take_entry(struct dev *d, const json_t *entry, size_t i, size_t count,
		      uint16_t queues, struct loop **loops, struct err *e)
{
	const char *id = json_str(entry, "iothread", NULL);
	json_t *vqs = json_object_get(entry, "vqs"), *vq;
	struct loop *loop = NULL;
	size_t k;
	int r;

	if (!id)
		return err_set(e, -EINVAL, "%s: iothread-vq-mapping: entry %zu has no iothread",
			       d->path, i);
	r = find_loop(d, id, &loop, e);
	for (size_t n = i; r == 0 && !vqs && n < queues; n += count)
		loops[n] = loop;
	json_array_foreach(vqs, k, vq)
		if (r == 0)
			r = take_queue(d, vq, queues, loop, loops, e);
	return r;
}

/* All entries state vqs, or none does. */
static int check_entries(struct dev *d, const json_t *map, struct err *e)
{
	size_t n = json_array_size(map), with = 0, i;
	json_t *entry;

	json_array_foreach((json_t *)(uintptr_t)map, i, entry)
		with += json_is_array(json_object_get(entry, "vqs"));
	if (!json_is_array(map) || n == 0)
		return err_set(e, -EINVAL, "%s: iothread-vq-mapping is a list such as "
			       "[{\"iothread\": \"t0\"}, {\"iothread\": \"t1\"}]", d->path);
	if (with && with != n)
		return err_set(e, -EINVAL, "%s: iothread-vq-mapping: give vqs in every entry or "
			       "in none", d->path);
	return 0;
}

int queue_map(struct dev *d, const char *iothread, const json_t *map, uint16_t queues,
	      struct loop **loops, struct err *e)
{
	struct loop *one = NULL;
	json_t *entry;
	size_t i;
	int r = 0;

	if (iothread && map)
		return err_set(e, -EINVAL, "%s: iothread and iothread-vq-mapping exclude each "
			       "other", d->path);
	if (iothread)
		r = find_loop(d, iothread, &one, e);
	for (i = 0; i < queues; i++)
		loops[i] = one;
	if (r || !map)
		return r;
	r = check_entries(d, map, e);
	json_array_foreach((json_t *)(uintptr_t)map, i, entry)
		if (r == 0)
			r = take_entry(d, entry, i, json_array_size(map), queues, loops, e);
	for (i = 0; r == 0 && i < queues; i++)
		if (!loops[i])
			r = err_set(e, -EINVAL, "%s: iothread-vq-mapping: queue %zu is not "
				    "assigned", d->path, i);
	return r;
}
