/*
 * block/file.h - the protocol nodes file and host_device, shared by file*.c.
 *
 * file.c opens and describes the node, file_open.c finds the file and its
 * alignment, file_reopen.c makes it writable and read-only again, file_io.c moves bytes, file_sync.c flushes, file_bounce.c serves
 * what O_DIRECT cannot take as it is, file_range.c keeps overlapping writes
 * apart where that needs a read first.
 */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

#include <pthread.h>
#include <sys/stat.h>

#include "block/block.h"
#include "block/locking.h"
#include "vmm/base/log.h"

/* What a flush has to make durable, and what its failure would lose. */
enum file_dirty {
	FILE_CLEAN,
	FILE_TOUCHED,	/* only requests that failed, or flush for themselves */
	FILE_DIRTY,	/* writes that were reported done */
};

/* One fdatasync at a time per node (file_sync.c says why). */
struct file_sync {
	pthread_mutex_t lock;
	struct block_req *running;	/* batch that the fdatasync in flight covers */
	struct block_req *waiting, **tail;
	_Atomic int dirty;		/* enum file_dirty, since the last fdatasync began */
	int covers;			/* what dirty was when the present one began */
	int lost;			/* -errno: writes may be lost, no flush is good */
};

/* Aligned buffers for what O_DIRECT cannot take. 16 of 128 KiB: enough to keep
 * a queue busy, and little address space when nobody needs them (the pages
 * come with the first use). */
#define FILE_BOUNCE_BYTES	(128u * 1024)
#define FILE_BOUNCE_COUNT	16
struct file_bounce {
	pthread_mutex_t lock;
	uint8_t *mem;			/* NULL without cache.direct=on */
	uint32_t free;			/* bit set: buffer is free */
	struct block_req *waiting, **tail;
};

/* Writes in flight on a node whose unit is larger than a sector. */
struct file_ranges {
	pthread_mutex_t lock;
	struct block_req *held;
	struct block_req *waiting, **tail;
};

struct file_node {
	struct block_node n;		/* first */
	char *filename;			/* properties */
	int locking;			/* enum prop_auto */
	int aio;
	int fd;				/* -1: closed */
	bool device;			/* host_device */
	uint32_t mem_align;		/* of iovec bases and lengths; 1: any */
	/* Writes smaller than request_align are possible: they read, change
	 * and write a whole unit, and overlapping writes must wait. */
	bool tracked;
	struct file_lock lock;
	_Atomic bool can_discard, can_punch, can_zero_range;
	struct file_sync sync;
	struct file_bounce bounce;
	struct file_ranges ranges;
	uint8_t *zeroes;		/* FILE_ZERO_BYTES, never written */
};

/* The kernel's one zero page, mapped that many times: costs no memory. */
#define FILE_ZERO_BYTES		(1024u * 1024)

/* file_open.c */
int file_open_path(struct file_node *f, struct err *e);
/* open(2) with the node's options: a descriptor, or -errno; and the sentence for that. */
int file_try_open(const struct file_node *f, bool read_only);
int file_explain_open(const struct file_node *f, bool read_only, int err, struct err *e);
int file_probe_length(struct file_node *f, struct err *e);
int file_probe_align(struct file_node *f, struct err *e);
/* Sets n.write_through: O_DIRECT, and no volatile cache below. */
void file_probe_cache(struct file_node *f);

/* file_reopen.c */
int file_reopen(struct block_node *n, bool write, struct err *e);
int file_set_direct(struct block_node *n, bool direct, struct err *e);

/* file_io.c */
void file_submit(struct block_node *n, struct block_req *r);
/* Is there a hole at @pos? *@len is cut to what is alike. Where the file system does
 * not say there is none. For tools: nothing else uses the file meanwhile. */
bool file_hole(const struct file_node *f, uint64_t pos, uint64_t *len);
/* Move @bytes between @iov and the file; @then gets 0 or -errno. @r->now.op
 * says nothing here: zeroes and bounced requests come this way too. */
void file_xfer(struct file_node *f, struct block_req *r, const struct iovec *iov, int iovcnt,
	       uint64_t off, uint64_t bytes, bool write,
	       void (*then)(struct block_req *r, int ret));
/* A write ended: note what a later flush has to know. */
void file_touch(struct file_node *f, enum file_dirty how);
void file_wrote(struct file_node *f, struct block_req *r, int ret);

/* file_sync.c */
void file_sync_init(struct file_sync *s);
void file_sync_fini(struct file_sync *s);
void file_flush(struct file_node *f, struct block_req *r);
void file_sync_lost(struct file_node *f, int ret);

/* file_bounce.c */
int file_bounce_init(struct file_node *f, struct err *e);
void file_bounce_fini(struct file_node *f);
/* Serve the read, write or write-zeroes request @r through a buffer. */
void file_bounce_start(struct file_node *f, struct block_req *r);

/* file_range.c. @granted runs now, or later on r->loop. */
void file_ranges_init(struct file_ranges *fr);
void file_ranges_fini(struct file_ranges *fr);
void file_range_begin(struct file_node *f, struct block_req *r, bool partial,
		      void (*granted)(struct block_req *r));
void file_range_end(struct file_node *f, struct block_req *r);

#endif
