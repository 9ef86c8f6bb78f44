/*
 * block/block.h - host block layer: a graph of nodes below drives.
 *
 * A protocol node (file, host_device) moves bytes; a format node (raw, later
 * qcow2) maps them; a drive is what a guest device opens: it owns error
 * policy, statistics, later retry and throttling. Nodes know no guest, no PCI,
 * no virtio. Names are QEMU's: node-name, driver, drive.
 *
 * Threads: the graph is changed on the main loop. Requests may be submitted
 * from any loop; each completes on the loop it was submitted from. The data
 * path takes no lock and allocates nothing: what a node needs for a request is
 * in the request's own frames.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"
#include "vmm/loop/loop.h"

enum block_op {
	BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES,
	BLOCK_OPS
};

enum block_req_flags {
	BLOCK_FUA = 1 << 0,		/* write: durable when completed */
	BLOCK_UNMAP = 1 << 1,		/* write-zeroes may deallocate */
};

#define BLOCK_IOV_MAX	1024	/* UIO_MAXIOV: one kernel request */
#define BLOCK_DEPTH_MAX	4	/* nodes a request may pass below a drive */

struct block_req;
struct block_node;
struct block_graph;
struct drive;

/*
 * One request. The submitter fills the upper part, embeds the struct in its
 * own preallocated request and keeps @iov valid until @done. @offset and
 * @bytes are in bytes.
 */
struct block_req {
	enum block_op op;
	uint32_t flags;
	uint64_t offset, bytes;
	const struct iovec *iov;
	int iovcnt;
	/* Once, on @loop. @ret: 0 or -errno. */
	void (*done)(struct block_req *r, int ret);
	struct loop *loop;
	/* private to the block layer */
	struct block_frame {
		struct block_node *node;
		void (*done)(struct block_req *r, int ret);
	} frame[BLOCK_DEPTH_MAX];
	int depth;
	struct drive *drive;
	struct loop_io io;
	struct iovec *split;		/* remainder of a short transfer */
	uint64_t progress;		/* bytes done by earlier short transfers */
	uint64_t start_ns;
	void *bounce;			/* aligned copy for O_DIRECT, or NULL */
	struct block_req *next;
	struct iovec iov_rest[4];	/* see block/file.c */
};

struct block_driver {
	const char *name;		/* "file", "host_device", "raw", … */
	const char *help;
	bool protocol;			/* false: a format, has a child "file" */
	size_t size;			/* of the node's struct */
	const struct prop *props;
	int (*open)(struct block_node *n, const json_t *args, struct err *e);
	void (*close)(struct block_node *n);
	void (*submit)(struct block_node *n, struct block_req *r);
	/* Bytes now; < 0 on error. */
	int64_t (*length)(struct block_node *n);
};

/* First member of each driver's struct. */
struct block_node {
	const struct block_driver *drv;
	struct block_graph *graph;
	char *name;			/* node-name; generated "#block123" if not given */
	bool read_only;
	bool auto_read_only;
	bool cache_direct, cache_no_flush;
	int discard;			/* enum: ignore, unmap */
	int detect_zeroes;
	uint64_t bytes;			/* length, multiple of 512 */
	uint32_t request_align;		/* offsets and lengths: 512 or 4096 */
	uint32_t mem_align;		/* of iovec bases under O_DIRECT */
	bool can_discard, can_zero;
	uint32_t discard_align;
	struct block_node *file;	/* child of a format node */
	int users;			/* parents and drives */
	bool implicit;			/* made by -drive: goes with its drive */
	json_t *args;
	struct block_node *next;
};

struct block_graph *block_graph_create(struct loop *main);
/* Every drive must be closed. */
void block_graph_destroy(struct block_graph *g);

/* blockdev-add: @args as in QMP ({"driver","node-name","file":…}). Image
 * formats are never guessed for anything a guest may write: -drive without
 * format= means raw, said so once in a warning. */
int block_node_open(struct block_graph *g, const json_t *args,
		    struct block_node **out, struct err *e);
int block_node_del(struct block_graph *g, const char *name, struct err *e);
struct block_node *block_node_find(struct block_graph *g, const char *name);
/* -drive file=,format=,if=,id=,cache=,aio=,readonly=,…: makes the nodes and a
 * drive named id. */
int block_drive_add(struct block_graph *g, const json_t *args, struct err *e);
void block_node_each(struct block_graph *g, void (*fn)(struct block_node *, void *), void *arg);

/* ---- drives: what a guest device opens ---- */

enum drive_policy { DRIVE_REPORT, DRIVE_IGNORE, DRIVE_STOP, DRIVE_ENOSPC, DRIVE_AUTO };

struct drive_stats {			/* relaxed atomics: written by I/O loops */
	_Atomic uint64_t ops[BLOCK_OPS], bytes[BLOCK_OPS], errors[BLOCK_OPS];
	_Atomic uint64_t ns[BLOCK_OPS];
};

struct drive {
	char *id;			/* -drive id=, or "" */
	char *owner;			/* device path, NULL: free */
	struct block_node *node;
	struct block_graph *graph;
	bool read_only;
	bool write_cache;		/* false: every write is FUA */
	int werror, rerror;		/* enum drive_policy */
	struct drive_stats stats;
	_Atomic uint32_t inflight;
	/* An error that the policy turns into a stop, and BLOCK_IO_ERROR. Runs
	 * on the request's loop; the VM's owner posts it to the main loop. */
	void (*on_error)(struct drive *d, enum block_op op, int err, enum drive_policy action);
	void *on_error_arg;
	struct drive *next;
};

/*
 * Open the drive or node called @name for @owner. Refused with a sentence when
 * another device has it (unless both share), when it does not exist (nearest
 * name), or when it is read-only and @write is asked. Main loop.
 */
int drive_open(struct block_graph *g, const char *name, const char *owner,
	       bool write, struct drive **out, struct err *e);
/* Nothing may be in flight. */
void drive_close(struct drive *d);
struct drive *drive_find(struct block_graph *g, const char *id);
void drive_each(struct block_graph *g, void (*fn)(struct drive *, void *), void *arg);

/* Submit on the current loop. Out of range or misaligned requests complete
 * with -EINVAL, writes on a read-only drive with -EROFS; @done is never called
 * from inside block_submit(). */
void drive_submit(struct drive *d, struct block_req *r);

/* For drivers: hand a request to the child, or finish it. */
void block_submit(struct block_node *n, struct block_req *r);
void block_done(struct block_req *r, int ret);

#endif
