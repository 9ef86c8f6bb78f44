/*
 * block/filter.c - what nodes have in common that pass requests on as they are
 * (fault, throttle, copy-on-read): they look like the node below.
 *
 * Threads: main loop; set_length on a thread that may wait.
 * Missing: nothing known.
 */
#include <errno.h>

#include "block/graph.h"

void filter_opened(struct block_node *n)
{
	const struct block_node *file = n->file.node;

	atomic_store(&n->bytes, atomic_load(&file->bytes));
	n->request_align = file->request_align;
	n->discard_align = file->discard_align;
	n->filename = file->filename;
	n->read_only |= file->read_only;
}

int filter_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	return block_reattach(&n->file, perm, shared, e);
}

int filter_check_length(const struct block_node *n, uint64_t bytes, struct err *e)
{
	const struct block_node *file = n->file.node;

	return file->drv->check_length ? file->drv->check_length(file, bytes, e) : 0;
}

int filter_set_length(struct block_node *n, uint64_t bytes)
{
	struct block_node *file = n->file.node;
	int r = file->drv->set_length ? file->drv->set_length(file, bytes) : -ENOTSUP;

	if (r == 0)
		n->bytes = bytes;
	return r;
}
