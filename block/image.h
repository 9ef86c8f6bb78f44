/*
 * block/image.h - what tools do with images: make, check, describe.
 *
 * Nodes know how to run; this is the rest. All of it waits for the disk, on a
 * loop that the caller gives and nobody else turns (block_graph_wait_loop()).
 *
 * Threads: main loop's thread.
 */
#ifndef BLOCK_IMAGE_H
#define BLOCK_IMAGE_H

#include "block/block.h"

/* ---- making (qapi BlockdevCreateOptionsQcow2) ---- */

struct image_qcow2_opts {
	uint64_t size;			/* of the disk, bytes */
	uint32_t version;		/* 2 or 3 */
	uint32_t cluster_bits, refcount_order;
	bool ext_l2, lazy_refcounts, data_raw, zstd;
	const char *backing_file, *backing_format;	/* NULL: none */
	const char *data_file;
};

/* version 3, 64 KiB clusters, 16-bit refcounts */
void image_qcow2_defaults(struct image_qcow2_opts *o);
/* Are the options possible together? No I/O. */
int image_qcow2_check_opts(const struct image_qcow2_opts *o, struct err *e);
/* Write an empty image to @file, which the caller holds an edge to that may
 * write and resize. What was there is gone; durable on return. */
int image_qcow2_create(struct block_node *file, struct loop *l,
		       const struct image_qcow2_opts *o, struct err *e);

/* ---- checking ---- */

enum image_fix { IMAGE_FIX_NONE, IMAGE_FIX_LEAKS, IMAGE_FIX_ALL };

struct image_check {
	/* one line without newline for each finding; may be NULL */
	void (*report)(const char *line, void *arg);
	/* from time to time: parts done of all; may be NULL */
	void (*progress)(uint64_t done, uint64_t all, void *arg);
	void *arg;
	/* results */
	uint64_t corruptions, leaks;		/* that are left */
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t total, allocated, compressed, fragmented;	/* guest clusters */
	uint64_t end;				/* of the last used cluster, bytes */
};

/* Check the qcow2 image of node @n, which nobody writes meanwhile. To fix
 * anything, n's edge to its file must be allowed to write. 0 when it could be
 * checked, whatever was found. */
int image_check(struct block_node *n, struct loop *l, enum image_fix fix, struct image_check *c,
		struct err *e);

/* ---- describing ---- */

/* "format-specific" and "snapshots" of a qcow2 node, as qapi ImageInfo has
 * them; members are added to @out. */
int image_describe(struct block_node *n, struct loop *l, json_t *out, struct err *e);

struct image_extent {
	uint64_t len;			/* bytes that are alike */
	bool data, zero, present;	/* as in qemu-img map */
	bool compressed;
	unsigned int depth;		/* 0: this image, 1: its backing file, … */
	struct block_node *node;	/* where the data is: protocol node; NULL: nowhere */
	uint64_t offset;		/* in it */
};
/* What [pos, pos + len) of the disk is; x->len may be shorter. Through the
 * chain with @deep; without, what is unallocated has present=false. */
int image_status(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len, bool deep,
		 struct image_extent *x);
/* The disk becomes @bytes long (qcow2 and raw). A grown part reads as zeroes. */
int image_resize(struct block_node *n, struct loop *l, uint64_t bytes, struct err *e);
/* Whole clusters (or the disk's end) at @pos as compressed ones, where that
 * makes them smaller, else as they are; zeroes are left out. Nothing may be
 * there yet, and nothing else writes. */
int image_write_compressed(struct block_node *n, struct loop *l, uint64_t pos,
			   const uint8_t *data, uint64_t len);
/* [pos, pos + len) is the backing file's again; parts of clusters stay. */
int image_unallocate(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len);
/* Host clusters for [pos, pos + len), whole clusters or the disk's end, of which nothing
 * is there yet; they read as zeroes. Flushed by the caller. */
int image_preallocate(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len);
/* Change the backing file's name in the image, unchecked and durably; NULL: none. Beside
 * other requests, on any thread. */
int image_set_backing(struct block_node *n, struct loop *l, const char *name,
		      const char *format, struct err *e);

/* After that, when the node in use has its new backing node: what it says of
 * itself. Main loop. */
void image_backing_changed(struct block_node *n, const char *name, const char *format);

#endif
