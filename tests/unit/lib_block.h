/*
 * tests/unit/lib_block.h - files, graphs and synchronous requests for tests of
 * the block layer.
 */
#ifndef TESTS_UNIT_LIB_BLOCK_H
#define TESTS_UNIT_LIB_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "block/block.h"

/* A graph on a loop of its own, in a directory that goes with it. */
struct bt {
	struct loop *loop;
	struct block_graph *g;
	struct drive *d;		/* of bt_disk() */
	char dir[64];
};

void bt_start(struct bt *t, enum loop_aio aio);
void bt_stop(struct bt *t);
/* "<dir>/name", in a ring of static buffers. */
const char *bt_path(struct bt *t, const char *name);
/* A file of @bytes, byte i being bt_byte(i, 0). */
const char *bt_file(struct bt *t, const char *name, uint64_t bytes);
uint8_t bt_byte(uint64_t at, unsigned int round);

/* As on a command line; 0 or -errno, the sentence in bt_error(). "%s" in
 * @text stands for the directory. */
int bt_drive(struct bt *t, const char *text);
int bt_blockdev(struct bt *t, const char *text);
const char *bt_error(void);
/* A file of @bytes as drive "d0" with @more options, open for writing. */
void bt_disk(struct bt *t, uint64_t bytes, const char *more);
/* The same on a file or device that is there. */
void bt_open(struct bt *t, const char *file, const char *more);
struct file_node *bt_file_node(struct bt *t);

/* One request, waited for. */
int bt_io(struct bt *t, enum block_op op, uint64_t off, void *buf, size_t len, uint32_t flags);
/* The same in two halves. */
struct bt_req {
	struct block_req r;
	struct iovec iov[8];
	int done;			/* times */
	int ret;
};
void bt_submit(struct bt *t, struct bt_req *q, enum block_op op, uint64_t off, void *buf,
	       size_t len, uint32_t flags);
void bt_wait(struct bt *t, struct bt_req *q);
void bt_on_done(struct block_req *r, int ret);	/* of a struct bt_req */

/* Random requests that never overlap each other, many in flight, on the first
 * 256 KiB of a disk that bt_file() filled; memory is @shift bytes off. */
void bt_integrity(struct bt *t, unsigned int shift, unsigned int max_sectors);

#endif
