/*
 * vmm/run/img.h - `roost img`: what its sub-commands share.
 *
 * Arguments, words and exit statuses are qemu-img's, so that scripts work with
 * either. No guest runs here: an image given without -f is taken for what it
 * looks like, as qemu-img does.
 *
 * Threads: the only one of the process (nodes may start theirs).
 */
#ifndef VMM_RUN_IMG_H
#define VMM_RUN_IMG_H

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/image.h"
#include "vmm/base/err.h"

/* One invocation. */
struct img {
	struct loop *loop;		/* the graph's; never turned */
	struct block_graph *g;
	struct loop *l;			/* to wait on */
	/* options; each command takes some */
	const char *fmt, *out_fmt, *backing, *backing_fmt, *snapshot;
	const char *cache, *source_cache;	/* -t, -T */
	const char *options[16];	/* -o */
	int noptions;
	bool json, quiet, force_share, progress, compressed, unsafe, shrink, writes, backing_given;
	bool keep, strict, chain, any_order, target_is_zero, salvage, help;
	enum image_fix fix;
	uint64_t count, depth, step, bytes, offset;
	uint64_t length;		/* of a map, from offset on; UINT64_MAX: to the end */
	uint64_t rate;			/* of a copy, bytes per second; 0: no limit */
	const char *prealloc;		/* of what resize adds */
	uint64_t jobs;			/* pieces in flight of a copy */
	uint64_t sparse;		/* bytes of zeroes that are none; 0: all is written */
	int pattern, flush_interval;
	int argc;			/* words that are no options */
	char **argv;
};

enum img_open_flags {
	IMG_WRITE = 1 << 0,
	IMG_NO_BACKING = 1 << 1,
	IMG_REPAIR = 1 << 2,		/* read-only, but its file may be written */
	IMG_SNAPSHOT = 1 << 3,		/* as m->snapshot kept it */
	IMG_SOURCE = 1 << 4,		/* -T is its cache mode, not -t */
};

/* An image that is open, as a user of its node. */
struct img_file {
	struct block_child c;
	struct block_node *n;
};

/* @fmt NULL: by its looks. */
int img_open(struct img *m, struct img_file *f, const char *path, const char *fmt,
	     uint32_t flags, struct err *e);
/* Writes what is left; an error of that is logged by the node. */
void img_close(struct img_file *f);
const char *img_format(const char *path, const char *fmt);
/* "64k", "10G" */
int img_size(const char *text, uint64_t *bytes, struct err *e);
int img_io(struct img *m, const struct img_file *f, enum block_op op, uint32_t flags,
	   uint64_t off, void *buf, uint64_t len);
/* An image of @fmt and @o (qcow2 only) in a new or emptied file. */
int img_make(struct img *m, const char *path, const char *fmt,
	     const struct image_qcow2_opts *o, struct err *e);
/* -o and -b of @m over the defaults. */
int img_qcow2_opts(const struct img *m, struct image_qcow2_opts *o, struct err *e);
/* A line like "    (12.34/100%)", rewritten; nothing without -p. */
void img_progress(const struct img *m, uint64_t done, uint64_t all);
bool img_is_zero(const uint8_t *p, size_t len);
/* "1.5 GiB" in @buf of 32 bytes. */
const char *img_human(uint64_t bytes, char *buf);

/* For the shells: the @i-th sub-command (@command NULL), or the @i-th option of
 * @command, in @buf of IMG_WORD_MAX bytes. False: there are no more. */
#define IMG_WORD_MAX	32
bool img_word_at(const char *command, size_t i, char *buf);

#define IMG_CHUNK	(2u << 20)	/* bytes moved at a time */

/* The sub-commands: an exit status; a sentence in @e when something failed. */
int img_create(struct img *m, struct err *e);
int img_info(struct img *m, struct err *e);
int img_check(struct img *m, struct err *e);
int img_map(struct img *m, struct err *e);
int img_convert(struct img *m, struct err *e);
int img_compare(struct img *m, struct err *e);
int img_resize(struct img *m, struct err *e);
int img_commit(struct img *m, struct err *e);
int img_rebase(struct img *m, struct err *e);
int img_bench(struct img *m, struct err *e);

#endif
