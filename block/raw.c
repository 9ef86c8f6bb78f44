/*
 * block/raw.c - the raw format: the node below, or a window of it.
 *
 * Threads: submit runs on any loop and only adds an offset.
 * Missing: nothing known.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/graph.h"
#include "vmm/base/util.h"

struct raw_node {
	struct block_node n;	/* first */
	uint64_t offset;	/* properties */
	uint64_t size;		/* 0: to the end of the node below */
	json_t *file;		/* listed for help; the graph opens it */
};

static const struct prop raw_props[] = {
	PROP_JSON(struct raw_node, file, "file",
		  "the node below: a node-name, or an object with its options",
		  .kind = "BlockdevRef"),
	PROP_SIZE(struct raw_node, offset, "offset", 0, INT64_MAX, 0,
		  "where the disk begins in the node below", .unit = "bytes"),
	PROP_SIZE(struct raw_node, size, "size", 0, INT64_MAX, 0,
		  "length of the disk, 0 for all that follows the offset", .unit = "bytes"),
	PROP_END
};

static int raw_open(struct block_node *n, struct err *e)
{
	struct raw_node *raw = (struct raw_node *)n;
	const struct block_node *file = n->file.node;

	if (raw->offset % BLOCK_SECTOR || raw->size % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "offset=%" PRIu64 " and size=%" PRIu64
			       " must be multiples of %d bytes", raw->offset, raw->size,
			       BLOCK_SECTOR);
	if (raw->offset > file->bytes || raw->size > file->bytes - raw->offset)
		return err_set(e, -EINVAL, "offset=%" PRIu64 ",size=%" PRIu64 " reach beyond the %"
			       PRIu64 " bytes of %s", raw->offset, raw->size, file->bytes,
			       file->filename ? file->filename : file->name);
	n->bytes = raw->size ? raw->size : file->bytes - raw->offset;
	n->request_align = file->request_align;
	n->discard_align = file->discard_align;
	n->filename = file->filename;
	/* auto-read-only below: writes would fail there. */
	n->read_only |= file->read_only;
	return 0;
}

static void raw_close(struct block_node *n)
{
}

static void raw_submit(struct block_node *n, struct block_req *r)
{
	r->now.offset += ((struct raw_node *)n)->offset;
	block_submit(n->file.node, r);
}

/* Who writes what is there already does write the file: others outside must know. */
static int raw_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	if (perm & BLOCK_PERM_WRITE_UNCHANGED)
		perm |= BLOCK_PERM_WRITE;
	return filter_set_perm(n, perm, shared, e);
}

static int raw_set_length(struct block_node *n, uint64_t bytes)
{
	struct raw_node *raw = (struct raw_node *)n;
	struct block_node *file = n->file.node;
	int r;

	if (raw->size)		/* a window stays as it is */
		return bytes <= n->bytes ? 0 : -ENOTSUP;
	if (!file->drv->set_length)
		return -ENOTSUP;
	r = file->drv->set_length(file, bytes + raw->offset);
	if (r == 0)
		n->bytes = bytes;
	return r;
}

static int raw_check_length(const struct block_node *n, uint64_t bytes, struct err *e)
{
	const struct raw_node *raw = (const struct raw_node *)n;

	return raw->size ? 0 : filter_check_length(n, bytes + raw->offset, e);
}

const struct block_driver block_driver_raw = {
	.name = "raw", .help = "the bytes of the node below, as they are",
	.size = sizeof(struct raw_node), .props = raw_props,
	.open = raw_open, .close = raw_close, .submit = raw_submit,
	.set_perm = raw_set_perm, .check_length = raw_check_length, .set_length = raw_set_length,
};
