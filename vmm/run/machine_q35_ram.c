/*
 * vmm/run/machine_q35_ram.c - the guest's memory: where it comes from and where it lies.
 *
 * Threads: main loop, before the guest runs.
 * Missing: memory hot-plug; binding to the host's nodes (host-nodes=, policy=).
 */
#include "vmm/run/machine_q35_ram.h"

#include <errno.h>
#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/object.h"
#include "vmm/core/vm.h"
#include "vmm/run/machine.h"

static const struct prop *const mem_tables[] = { mem_props, NULL };

/* Memory of one object, or without: a piece of what the guest sees. */
struct part {
	const char *id;
	uint64_t bytes;
	uint32_t node;
	struct gmem_backing how;
};

struct plan {
	struct vm *vm;
	const struct machine_opts *opts;
	struct part part[NUMA_NODES_MAX];
	size_t parts;
};

/* The object stays until the VM goes: its memory is the guest's. */
static int use_backend(struct plan *pl, const char *id, const char *what, uint32_t node,
		       struct err *e)
{
	struct vm_object *o = vm_object_find(pl->vm, id);
	const struct mem_backend *b;

	if (!o || o->type->props != mem_backend_props)
		return err_set(e, -ENOENT, "%s=%s: no such object; add -object "
			       "memory-backend-ram,id=%s,size=…", what, id, id);
	b = o->obj;
	if (o->users)
		return err_set(e, -EBUSY, "%s=%s: this memory is in use already; add another "
			       "object", what, id);
	if (b->size % (2 * MIB))
		return err_set(e, -EINVAL, "%s=%s: its size of %llu bytes must be a multiple of "
			       "2 MiB", what, id, (unsigned long long)b->size);
	o->users++;
	pl->part[pl->parts++] = (struct part){ b->id, b->size, node, {
		.hugepages = b->hugetlb, .hugepage_size = b->hugetlb_size,
		.prealloc = b->prealloc, .merge = b->merge,
		.share = b->share || strcmp(b->kind, "memory-backend-ram"),
		.dump = b->dump && pl->opts->dump_guest_core, .path = b->path } };
	return 0;
}

static uint64_t total(const struct plan *pl)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < pl->parts; i++)
		bytes += pl->part[i].bytes;
	return bytes;
}

static int use_nodes(struct plan *pl, const struct numa *numa, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < numa->nodes && r == 0; i++)
		if (numa->memdev[i])
			r = use_backend(pl, numa->memdev[i], "-numa node,memdev", i, e);
	if (r == 0 && pl->parts && pl->opts->memory_backend)
		return err_set(e, -EINVAL, "-machine memory-backend=%s and memdev= of -numa "
			       "exclude each other; leave one out", pl->opts->memory_backend);
	return r;
}

/* Without -m, objects say how much there is. */
static int check_size(const struct plan *pl, const json_t *args, uint64_t size, struct err *e)
{
	if (!json_object_get(args, "size") || total(pl) == size)
		return 0;
	if (pl->parts > 1 || !pl->opts->memory_backend)
		return err_set(e, -EINVAL, "-m %llu and the nodes' memory of %llu bytes differ; "
			       "make them equal or leave -m out", (unsigned long long)size,
			       (unsigned long long)total(pl));
	return err_set(e, -EINVAL, "-m %llu and memory backend '%s' of %llu bytes differ; make "
		       "them equal or leave -m out", (unsigned long long)size, pl->part[0].id,
		       (unsigned long long)total(pl));
}

static int read_parts(struct plan *pl, const struct numa *numa, struct err *e)
{
	json_t *args = json_object_get(pl->vm->desc, "memory");
	struct mem_opts o = { 0 };
	int r;

	prop_defaults(mem_tables, &o);
	r = prop_apply(mem_tables, &o, args, NULL, "-m", e);
	if (r)
		return r;
	if (o.size % (2 * MIB))
		return err_set(e, -EINVAL, "-m %llu: must be a multiple of 2 MiB",
			       (unsigned long long)o.size);
	r = use_nodes(pl, numa, e);
	if (r == 0 && !pl->parts && pl->opts->memory_backend)
		r = use_backend(pl, pl->opts->memory_backend, "-machine memory-backend", 0, e);
	if (r)
		return r;
	if (pl->parts)
		return check_size(pl, args, o.size, e);
	pl->part[pl->parts++] = (struct part){ "ram", o.size, 0, {
		.dump = pl->opts->dump_guest_core, .merge = pl->opts->mem_merge } };
	return 0;
}

static int add_range(struct ram *ram, struct gmem *gm, uint32_t node, uint64_t base,
		     uint64_t size, uint8_t *host, int fd, uint64_t fd_off, struct err *e)
{
	if (!size)
		return 0;
	ram->range[ram->ranges++] = (struct acpi_memory){ node, base, size };
	return gmem_add_region(gm, base, size, host + fd_off, fd, fd_off, false, e);
}

/* @done: bytes of the parts before. */
static int add_part(struct ram *ram, struct gmem *gm, const struct part *p, uint64_t done,
		    struct err *e)
{
	uint64_t below = done < ram->low ? MIN(p->bytes, ram->low - done) : 0;
	uint64_t above = X86_RAM_HIGH_BASE + (done + below - ram->low);
	uint8_t *host;
	int fd, r = gmem_alloc(gm, p->id, p->bytes, &p->how, &fd, &host, e);

	if (r == 0)
		r = add_range(ram, gm, p->node, done, below, host, fd, 0, e);
	if (r == 0)
		r = add_range(ram, gm, p->node, above, p->bytes - below, host, fd, below, e);
	return r;
}

int ram_create(struct ram *ram, struct vm *vm, const struct machine_opts *opts,
	       const struct numa *numa, struct err *e)
{
	struct plan pl = { .vm = vm, .opts = opts };
	uint64_t done = 0;
	int r = read_parts(&pl, numa, e);

	if (r)
		return r;
	ram->bytes = total(&pl);
	ram->low = MIN(ram->bytes, (uint64_t)X86_RAM_LOW_MAX);
	ram->high = ram->bytes - ram->low;
	for (size_t i = 0; i < pl.parts && r == 0; i++) {
		r = add_part(ram, vm->mem, &pl.part[i], done, e);
		done += pl.part[i].bytes;
	}
	return r;
}
