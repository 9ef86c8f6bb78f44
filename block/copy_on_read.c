/*
 * block/copy_on_read.c - the copy-on-read driver: what is read through this node
 * from backing files is kept in the image below it.
 *
 * Spec:    QEMU's qapi/block-core.json (BlockdevOptionsCor).
 * Threads: submit runs on any loop and only sets a flag.
 * Missing: bottom=; whether a layer has something may have to be read first, and
 *          a request that passes has no place for that.
 *
 * The copying is the image's own (BLOCK_COPY_ON_READ, block/qcow2/op.c), as for
 * -drive copy-on-read=on. Formats without backing files have nothing to copy.
 */
#include <errno.h>

#include "block/graph.h"

struct cor_node {
	struct block_node n;		/* first */
	char *bottom;			/* property */
	json_t *file;			/* listed for help; the graph opens it */
};

static const struct prop cor_props[] = {
	PROP_STR(struct cor_node, bottom, "bottom", NULL,
		 "refused: the lowest backing node whose data is copied",
		 .flags = PROP_HIDDEN),
	PROP_JSON(struct cor_node, file, "file",
		  "the node below: a node-name, or an object with its options",
		  .kind = "BlockdevRef"),
	PROP_END
};

static int cor_open(struct block_node *n, struct err *e)
{
	const struct block_node *file = n->file.node;
	const char *bottom = ((struct cor_node *)n)->bottom;

	if (bottom)
		return err_set(e, -ENOTSUP, "bottom=%.64s is not supported; leave it out, and what "
			       "is read from any backing node is copied", bottom);
	if (file->read_only)
		return err_set(e, -EROFS, "%s is read-only, so nothing can be copied into it; open "
			       "it with read-only=off, or leave copy-on-read out",
			       file->filename ? file->filename : file->name);
	filter_opened(n);
	return 0;
}

static void cor_close(struct block_node *n)
{
}

static void cor_submit(struct block_node *n, struct block_req *r)
{
	if (r->now.op == BLOCK_READ)
		r->now.flags |= BLOCK_COPY_ON_READ;
	block_submit(n->file.node, r);
}

/* Whoever reads makes the image write. */
static int cor_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	return filter_set_perm(n, perm ? perm | BLOCK_PERM_WRITE_UNCHANGED : 0, shared, e);
}

const struct block_driver block_driver_copy_on_read = {
	.name = "copy-on-read", .help = "the node below, which keeps what is read from its "
		"backing files",
	.size = sizeof(struct cor_node), .props = cor_props,
	.open = cor_open, .close = cor_close, .submit = cor_submit,
	.set_perm = cor_set_perm, .check_length = filter_check_length,
	.set_length = filter_set_length,
};
