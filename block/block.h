/*
 * block/block.h - host block layer: a graph of nodes below drives.
 *
 * A protocol node (file, host_device) moves bytes; a format node (raw,
 * qcow2) maps them; a drive is what a guest device opens: it owns error
 * policy, retry, limits and statistics. Nodes know no guest, no PCI,
 * no virtio. Names are QEMU's: node-name, driver, drive.
 *
 * Every use of a node is an edge (struct block_child): it says what the user
 * does with the node and what it lets others do, inside this process (two
 * devices on one drive) and outside (locks on the file, block/locking.c).
 *
 * Threads: the graph is changed on the main loop. Requests may be submitted
 * from any loop; each completes on the loop it was submitted from. The data
 * path takes no lock and allocates nothing: what a node needs for a request is
 * in the request. What is slow anyway (flushes, bounced and parked requests)
 * is ordered by a mutex per node or drive.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/prop.h"
#include "vmm/loop/loop.h"

enum block_op {
	BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES,
	BLOCK_OPS,
	/* Never a drive's: a qcow2 node takes what it has of a range from its
	 * backing file only. Reads the same before and after, and orders itself
	 * with guests' writes. With BLOCK_EOF_ZEROES, zeroes behind the end of the
	 * backing file become its own as well. */
	BLOCK_POPULATE = BLOCK_OPS
};

enum block_req_flags {
	BLOCK_FUA = 1 << 0,		/* write: durable when completed */
	BLOCK_UNMAP = 1 << 1,		/* write-zeroes may deallocate */
	/* Read: what lies behind the end of the file reads as zeroes. For
	 * formats whose last cluster may be cut; a guest's disk is never. */
	BLOCK_EOF_ZEROES = 1 << 2,
	/* Read: a qcow2 node keeps what came from its backing file, if it is
	 * written to. */
	BLOCK_COPY_ON_READ = 1 << 3,
};

#define BLOCK_IOV_MAX	1024	/* UIO_MAXIOV: one kernel request */
#define BLOCK_SECTOR	512	/* unit of a drive's offsets and lengths */

struct block_req;
struct block_node;
struct block_graph;
struct drive;
struct dirty_map;
struct fault_point;	/* fault.c */
struct fault_hold;

/* A request as one node sees it: nodes on the way down may change it, while
 * the submitter's part stays as it was, so that it can be issued again. */
struct block_step {
	enum block_op op;
	uint32_t flags;
	uint64_t offset;
};

/* One transfer of a protocol node, continued until all bytes are through. */
struct block_xfer {
	const struct iovec *iov;	/* what is left, after rest */
	int iovcnt;
	struct iovec rest;		/* of an entry cut by a short transfer */
	uint64_t off, left;
	uint32_t flags;			/* LOOP_IO_* */
	unsigned int tries;
	bool write;
	void (*then)(struct block_req *r, int ret);
};

/* Place of a request among those that overlap (file_range.c), and its present
 * piece when it goes through a bounce buffer (file_bounce.c). */
struct block_span {
	uint64_t lo, hi;		/* aligned range */
	uint64_t at;			/* start of the present piece */
	uint32_t len;			/* of the piece */
	bool partial;			/* reads before it writes */
	bool held;			/* range is registered */
	void *buf;
	struct iovec iov;
	void (*granted)(struct block_req *r);
	struct block_req *next;
};

/* A request that a drive keeps after a failure (retry.c), or until the VM runs
 * again (drive.c). The drive's lock, except where it says otherwise. */
enum block_susp_state {
	SUSP_NONE,
	SUSP_PARKED,			/* waits for its turn */
	SUSP_OUT,			/* tried once more; stays in the list */
	SUSP_STOPPED,			/* waits for drive_resume() */
	SUSP_HELD,			/* waits for drive_release() */
	SUSP_THROTTLED,			/* waits for its share (throttle.c) */
	SUSP_EXPIRED,			/* on its way to the final policy */
};

struct block_susp {
	uint8_t state;			/* enum block_susp_state */
	bool listed;
	bool skipped;			/* a flush behind writes: its turn is extra */
	bool give_up;			/* no further try */
	int err;			/* -errno of the last try */
	uint64_t since_ns;		/* first failure, drive's clock; 0: none yet */
	struct block_req *prev, *next;
};

/* A request in flight on a drive with io_timeout (retry_stall.c). Its lock. */
struct block_fly {
	bool on;			/* r->loop: is in the list */
	bool stalled;			/* for longer than io_timeout */
	uint64_t since_ns;
	struct block_req *prev, *next;
};

/* A request that a throttle keeps. Apart from block_susp: one that is being tried
 * again stays in its drive's list meanwhile. The group's lock. */
struct block_wait {
	bool listed;
	struct block_req *prev, *next;
	struct throttle_member *in;	/* r->loop: a node's that keeps it, or NULL */
};

struct block_susp_list {
	struct block_req *head, *tail;	/* in the order of submission */
};

/* A node that looks at a request's result on its way up puts one of these on
 * it (block_push(), block_pop()). */
struct block_frame {
	void (*ended)(struct block_req *r, int ret);	/* of those above */
	struct block_step now;
	struct block_frame *next;
};

/*
 * One request. The submitter fills the upper part, embeds the struct in its
 * own preallocated request (zeroed once) and keeps @iov valid until @done.
 * @offset and @bytes are in bytes; the iovecs add up to @bytes.
 */
struct block_req {
	enum block_op op;
	uint32_t flags;
	uint64_t offset, bytes;
	const struct iovec *iov;
	int iovcnt;
	/* Once, on @loop, never from inside the submitting call. @ret: 0 or
	 * -errno. */
	void (*done)(struct block_req *r, int ret);
	struct loop *loop;
	/* private to the block layer */
	struct block_step now;
	void (*ended)(struct block_req *r, int ret);	/* a drive's, or @done */
	struct drive *drive;
	struct block_node *node;	/* protocol node that has it */
	/* The request of a format node that now does the work for this one, on
	 * the same loop; a cancellation goes there. NULL: none. */
	struct block_req *sub;
	uint64_t start_ns;
	int ret;			/* on its way to @loop */
	bool cancelled;
	struct loop_work work;
	struct loop_io io;
	struct block_xfer xfer;
	struct block_span span;
	struct block_req *next;		/* in a flush batch */
	struct block_susp susp;
	struct block_wait wait;
	struct block_fly fly;
	struct loop_timer timer;	/* of a node that delays */
	struct block_frame *frames;	/* innermost first; empty at rest */
	struct fault_hold *held;	/* late on purpose */
};

struct block_driver {
	const char *name;		/* "file", "host_device", "raw", … */
	const char *help;
	bool protocol;			/* false: a format, has a child "file" */
	bool backs;			/* may have children "backing" and "data-file" */
	size_t size;			/* of the node's struct */
	const struct prop *props;
	/* Base and driver properties are applied and, for a format, the child
	 * is open. What open left behind, close undoes. */
	int (*open)(struct block_node *n, struct err *e);
	void (*close)(struct block_node *n);
	void (*submit)(struct block_node *n, struct block_req *r);
	/* What all users together do and allow; may refuse. NULL: anything. */
	int (*set_perm)(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e);
	/* Make the node @bytes long and set n->bytes; a grown part reads as
	 * zeroes. Waits for the disk: on a thread that may. NULL: it cannot. */
	int (*set_length)(struct block_node *n, uint64_t bytes);
	/* May the node become @bytes long while it is in use? Main loop, before
	 * set_length. NULL: that will tell. */
	int (*check_length)(const struct block_node *n, uint64_t bytes, struct err *e);
	/* Become writable, or read-only again, in use. Main loop. NULL: nothing to do. */
	int (*reopen)(struct block_node *n, bool write, struct err *e);
	/* May the PROP_RUNTIME options become those of @want, which was never opened?
	 * And: they have. Nothing is in flight. NULL: yes, and nothing to do. */
	int (*check_options)(const struct block_node *n, const struct block_node *want,
			     struct err *e);
	void (*options_changed)(struct block_node *n);
	/* Bypass the host's page cache, or no more, and set n->cache_direct; after a
	 * failure all is as it was. Nothing is in flight. NULL: that is for nodes below. */
	int (*set_direct)(struct block_node *n, bool direct, struct err *e);
	/* Would letting go of the node wait for a flush? Nothing is in flight above it. Main
	 * loop. NULL: no, but nodes below may. */
	bool (*unsettled)(struct block_node *n);
	/* Drop what was remembered about nodes further down. NULL: nothing. */
	void (*forget)(struct block_node *n);
};

/* What a user of a node does, and what it lets others do (qapi BlockPermission;
 * the bit numbers are QEMU's, they are offsets of file locks). */
enum block_perm {
	BLOCK_PERM_READ = 1 << 0,	/* consistent-read */
	BLOCK_PERM_WRITE = 1 << 1,
	BLOCK_PERM_WRITE_UNCHANGED = 1 << 2,
	BLOCK_PERM_RESIZE = 1 << 3,
	BLOCK_PERM_ALL = 0xf,
};

/* An edge of the graph; embedded in the user. Main loop. */
struct block_child {
	struct block_node *node;	/* NULL: unused */
	const char *user;		/* "device 'disk0'"; owned by the user */
	uint32_t perm, shared;
	struct block_child *next;	/* other users of the node */
};

enum block_discard { BLOCK_DISCARD_IGNORE, BLOCK_DISCARD_UNMAP };
enum block_detect { BLOCK_DETECT_OFF, BLOCK_DETECT_ON, BLOCK_DETECT_UNMAP };

/* First member of each driver's struct. */
struct block_node {
	const struct block_driver *drv;
	struct block_graph *graph;
	char *name;			/* node-name; generated "#block123" if not given */
	/* properties of every node */
	bool read_only;			/* after open: what it is in fact */
	bool auto_read_only;
	bool force_share;
	bool cache_direct, cache_no_flush;
	int discard;			/* enum block_discard */
	int detect_zeroes;		/* enum block_detect */
	/* filled by open; constant while there are users, but for set_length */
	_Atomic uint64_t bytes;		/* length, any number on a protocol node */
	uint32_t request_align;		/* the node's own unit; others are slower */
	uint32_t discard_align;
	const char *filename;		/* of the protocol node; owned by it */
	struct block_child file;	/* child of a format node */
	/* What an overlay's own bytes do not cover comes from here. */
	struct block_child backing;
	struct block_child data;	/* an external data file */
	/* Names that the image itself gives for its backing file, set by open
	 * and owned by the driver: the graph decides whether to follow them.
	 * NULL: none. */
	const char *backing_file, *backing_format;
	char *user;			/* "node 'x'", how it appears as a user */
	/* "a commit job": no further user may come. NULL: any may. */
	const char *reserved_by;
	struct block_child *users;
	/* A completed write is durable without a flush: no volatile cache. */
	bool write_through;
	/* Of a protocol node: every write is to be durable when it ends, whoever
	 * sends it (retry.c). Set on the main loop, read on any. */
	_Atomic bool durable;
	/* Data that was reported written may be gone: no flush is good any more
	 * (file_sync.c). Any thread. */
	_Atomic bool lost;
	bool implicit;			/* goes with its last user */
	bool opened;			/* driver's open ran: close must as well */
	bool marked;			/* scratch of reopen.c */
	json_t *args;
	/* The end of the furthest write since the node was opened. Any thread; it
	 * stands apart from what every request reads. */
	_Atomic uint64_t wr_highest_bytes;
	struct block_node *next;
	/* NULL as long as no fault is set; then fault_point, which stays */
	_Atomic(struct fault_point *) fault;
	struct fault_point *fault_point;	/* main loop; owned */
};

extern const struct block_driver *const block_drivers[];	/* NULL-terminated */
extern const struct prop block_node_props[];
extern const char *const block_detect_words[];	/* by enum block_detect */

struct block_graph *block_graph_create(struct loop *main);
/* Where file names like /dev/fdset/3 are looked up; NULL (the default): nowhere. */
struct fds;
void block_graph_set_fds(struct block_graph *g, struct fds *fds);
/* All memory is locked (mlockall()), or will be: nodes reserve no addresses for later. */
void block_graph_set_locked(struct block_graph *g, bool locked);
/* Every drive must be closed. NULL is allowed. */
void block_graph_destroy(struct block_graph *g);

/* blockdev-add: @args as in QMP ({"driver","node-name","file":…}), values
 * typed or as text, members nested or with dots. @out may be NULL. */
int block_node_open(struct block_graph *g, const json_t *args,
		    struct block_node **out, struct err *e);
/* blockdev-del: refused while the node has users. */
int block_node_del(struct block_graph *g, const char *name, struct err *e);
struct block_node *block_node_find(struct block_graph *g, const char *name);
/* The node on top of the disk that people call @name: a drive's id, a node-name,
 * or the id or path of the device that has it. NULL: none. Main loop. */
struct block_node *block_disk_find(struct block_graph *g, const char *name);
/* @n or the node of its chain whose file is called so, or NULL. */
struct block_node *block_chain_find(struct block_node *n, const char *filename);
void block_node_each(struct block_graph *g, void (*fn)(struct block_node *, void *), void *arg);

/* Bytes that the file below @n takes on the host, -1: unknown. Does not wait for
 * the storage. */
int64_t block_node_allocated(const struct block_node *n);
/* Tell the drives on @n that its length changed (on_resize). Main loop. */
void block_node_resized(struct block_node *n);

/* Add and remove a use of @n. Refused with a sentence that names the user in
 * the way, in this process or another one. */
int block_attach(struct block_child *c, struct block_node *n, const char *user,
		 uint32_t perm, uint32_t shared, struct err *e);
int block_reattach(struct block_child *c, uint32_t perm, uint32_t shared, struct err *e);
void block_detach(struct block_child *c);

/*
 * Make a node and the files below it writable, or read-only again, while they are in
 * use: reads go on. What the users may do is not changed by it. Refused with a
 * sentence when a file cannot be opened so, or its name means another one by now;
 * then all is as it was. Main loop.
 */
int block_reopen(struct block_node *n, bool write, struct err *e);

/* ---- drives: what a guest device opens ---- */

enum drive_policy {
	DRIVE_REPORT, DRIVE_IGNORE, DRIVE_STOP, DRIVE_ENOSPC, DRIVE_AUTO, DRIVE_RETRY
};

enum drive_iface { DRIVE_IF_NONE, DRIVE_IF_VIRTIO, DRIVE_IF_PFLASH };

/* Latencies of reads, writes and flushes: bin 0 is below 8 us, each further one
 * reaches twice as far, the last one has all from 8.6 s on. */
#define DRIVE_LATENCY_OPS	3	/* BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH */
#define DRIVE_LATENCY_BINS	22
#define DRIVE_LATENCY_FIRST	13	/* log2 of bin 0's end in ns */

/* Relaxed atomics. One of DRIVE_SHARDS per group of loops, so that queues on
 * different I/O threads do not fight for a cache line; a reader adds them up. */
#define DRIVE_SHARDS 8
struct drive_stats {
	_Atomic uint64_t ops[BLOCK_OPS], bytes[BLOCK_OPS], errors[BLOCK_OPS];
	_Atomic uint64_t ns[BLOCK_OPS];
	_Atomic uint64_t latency[DRIVE_LATENCY_OPS][DRIVE_LATENCY_BINS];
	_Atomic uint32_t inflight;
} __attribute__((aligned(64)));

/* What happened to a drive that retries; see block/retry.h. */
enum drive_event_kind {
	DRIVE_EV_ERROR,			/* tries failed: BLOCK_IO_ERROR, action retry */
	DRIVE_EV_SUSPENDED, DRIVE_EV_RESUMED, DRIVE_EV_TIMED_OUT,
};

struct drive_event {
	enum drive_event_kind kind;
	enum block_op op;		/* of the last failure */
	int err;			/* -errno */
	uint64_t count;			/* ERROR: failures since the last one */
	uint32_t requests;		/* concerned: waiting, recovered, expired */
	uint64_t retries;		/* RESUMED: tries made meanwhile */
	uint64_t ms;			/* RESUMED, TIMED_OUT: how long it took */
	uint64_t since_ms;		/* wall clock, when the suspension began */
	bool cancelled;			/* RESUMED: by a reset, nothing succeeded */
	bool stalled;			/* the host does not answer, io_timeout */
};

#define RETRY_ERRNO_WORDS 3		/* bits of errno 0 to 191 */

/* State of retry.c. */
struct drive_retry {
	/* settings; written on the main loop, read anywhere */
	_Atomic uint64_t interval_ns, timeout_ns;	/* 0: none */
	_Atomic int then;		/* enum drive_policy */
	_Atomic bool probe;
	_Atomic uint64_t on[RETRY_ERRNO_WORDS];
	/* any thread */
	_Atomic uint32_t active;	/* requests in the list */
	_Atomic bool alive;		/* something succeeded since the last round */
	/* drive's lock */
	struct block_susp_list list;
	uint32_t out;			/* of the round in flight */
	bool round;			/* one is in flight, or just ended */
	bool again;			/* the next one at once, and all of it */
	bool probing;			/* that round is a single request */
	uint32_t probe_at;		/* which one is next to probe */
	uint64_t paused_at, paused_total;	/* ns: the clock stands meanwhile */
	uint64_t next_ns;		/* earliest start of the next round */
	uint64_t begun_ns, begun_wall_ms;	/* of the present suspension; 0: none */
	uint64_t failures;		/* not yet told */
	enum block_op last_op;
	int last_err;
	uint32_t recovered, expired;	/* of the present suspension */
	uint64_t tries;
	/* totals */
	uint64_t suspensions, retries, timed_out, suspended_ns;
	/* main loop */
	struct loop_timer timer;
	struct loop_work work;
	uint64_t error_told_ns, suspended_told_ns;
	bool told;			/* SUSPENDED was sent */
	uint32_t expired_untold;
};

/* State of retry_stall.c. */
struct drive_stall {
	_Atomic uint64_t limit_ns;	/* io_timeout; 0: off */
	pthread_mutex_t lock;
	struct block_req *head, *tail;	/* in flight, oldest first */
	bool ticking;
	uint32_t stalled;		/* of them, for too long */
	uint64_t total;
	uint64_t begun_ns, begun_wall_ms;	/* 0: none stalled */
	enum block_op op;
	struct loop_timer timer;	/* main loop */
	struct loop_work work;
};

/* The parts follow their total. */
enum throttle_bucket {
	THROTTLE_BPS, THROTTLE_BPS_RD, THROTTLE_BPS_WR,
	THROTTLE_IOPS, THROTTLE_IOPS_RD, THROTTLE_IOPS_WR, THROTTLE_BUCKETS
};

/* Whose requests wait for a throttle group (throttle.h): a drive, or a throttle
 * node. Embedded in it. */
struct throttle_member {
	_Atomic bool on;		/* the group has limits: look closer */
	/* Changed on the main loop, of a drive under the drive's lock. NULL: none */
	struct throttle_group *group;
	struct drive *drive;		/* NULL: a node's */
	void (*go)(struct loop_work *w);	/* a request's work: it waits no more */
	/* group's lock */
	struct block_susp_list waiting[2];	/* writes, reads; linked by r->wait */
	uint32_t count;
	struct throttle_member *next;	/* of the group */
};

struct drive {
	char *id;			/* -drive id=; "": a node opened by its name */
	char *owner;			/* device path, NULL: free */
	struct block_child root;	/* node; perms only while owned */
	struct block_node *node;	/* root.node */
	struct block_graph *graph;
	int iface, index;		/* enum drive_iface; -1: no index */
	bool read_only, copy_on_read;
	_Atomic bool write_cache;	/* false: every write is FUA */
	_Atomic int werror, rerror;	/* enum drive_policy */
	/* An error that the policy turns into a stop, and BLOCK_IO_ERROR. Runs
	 * on the request's loop; the VM's owner posts it to the main loop. When
	 * it is NULL nobody can stop the VM, and stop means report. With
	 * DRIVE_STOP the request is kept until drive_resume(). */
	void (*on_error)(struct drive *d, enum block_op op, int err, enum drive_policy action);
	/* The same for a drive that retries. Main loop. */
	void (*on_event)(struct drive *d, const struct drive_event *ev);
	/* The node's length changed. Main loop. */
	void (*on_resize)(struct drive *d);
	void *on_error_arg;
	pthread_mutex_t lock;		/* of all suspended requests */
	struct block_susp_list stopped;	/* wait for drive_resume() */
	/* drive_hold() */
	_Atomic bool held;
	struct block_susp_list waiting;	/* arrived since; lock */
	/* What a job must copy again; set and reset while nothing is in the nodes. NULL: none */
	_Atomic(struct dirty_map *) dirty;
	/* The device lets go of the drive: for who works on it. Main loop. */
	void (*on_close)(struct drive *d, void *arg);
	void *on_close_arg;
	void (*on_idle)(struct drive *d, void *arg);	/* main loop; NULL: told */
	void *on_idle_arg;
	struct loop_work idle_work;
	struct drive_retry retry;
	struct drive_stall stall;
	struct throttle_member throttle;
	struct log_limit errors;
	/* drive_settle() */
	struct block_req settle;
	int settle_rounds;
	void (*on_settled)(void *arg);
	void *on_settled_arg;
	char *user;			/* text of root.user */
	struct drive *next;
	struct drive_stats stats[DRIVE_SHARDS];
};

/* -drive file=,format=,if=,id=,cache=,aio=,readonly=,…: makes the nodes and a
 * drive named id ("virtio0", "none0", … without id=). Image formats are never guessed for
 * anything a guest may write: without format= the disk is raw, said so in a
 * warning, and refused when it looks like another format. */
int block_drive_add(struct block_graph *g, const json_t *args, struct err *e);
extern const struct prop drive_props[];		/* of -drive, for help */

enum drive_open_flags {
	DRIVE_OPEN_WRITE = 1 << 0,	/* refused on a read-only disk */
	DRIVE_OPEN_SHARE = 1 << 1,	/* share-rw=on: others may write as well */
	DRIVE_OPEN_MAY_WRITE = 1 << 2,	/* write if the disk is not read-only */
};

/*
 * Open the drive or node called @name for @owner ("disk0", a device id or
 * path). Refused with a sentence when another device has it (unless both
 * share), when another process has the file, when it does not exist (nearest
 * name), when it is empty or no multiple of 512 bytes long, or when it is
 * read-only and DRIVE_OPEN_WRITE is asked. Main loop.
 */
int drive_open(struct block_graph *g, const char *name, const char *owner,
	       uint32_t flags, struct drive **out, struct err *e);
/* Nothing may be in flight. NULL is allowed. Waits for a flush where the image needs one
 * before it is let go: see drive_settle(). */
void drive_close(struct drive *d);
/* Begin that flush, so that drive_close() need not wait. True: done(@arg) follows, also
 * when it failed; false: there is nothing to flush. Nothing may be in flight, or come.
 * Main loop. */
bool drive_settle(struct drive *d, void (*done)(void *arg), void *arg);
struct drive *drive_find(struct block_graph *g, const char *id);
void drive_each(struct block_graph *g, void (*fn)(struct drive *, void *), void *arg);
/* The drive on @n that comes after @d (NULL: the first one), or NULL. */
struct drive *drive_on(const struct block_node *n, struct drive *d);

/* Submit on the current loop, which is r->loop. Requests out of range or not
 * in whole sectors complete with -EINVAL, writes on a read-only drive with
 * -EROFS. */
void drive_submit(struct drive *d, struct block_req *r);
/* On r->loop: end @r soon. It still completes once, with its result or
 * -ECANCELED, and after that nothing of it reaches the disk. */
void drive_cancel(struct block_req *r);
/* The VM stops: no request is retried, and no time counts. Main loop. */
void drive_pause(struct drive *d);
/* The VM runs again: issue what was kept by a stop. Main loop. */
void drive_resume(struct drive *d);

/*
 * Keep what the device submits from now on, and call @idle once nothing is in
 * the nodes any more (requests that wait for a retry or a resume may be left;
 * they go to whatever node the drive has then). Once per drive_release(). Main
 * loop; so is @idle, which is never called from inside.
 */
void drive_hold(struct drive *d, void (*idle)(struct drive *d, void *arg), void *arg);
/* Issue what was kept. Also before @idle was called. Main loop. */
void drive_release(struct drive *d);
/* -errno of the first request that a stop keeps; 0: none. Any thread. */
int drive_stop_error(struct drive *d);

/* Sums over all loops; another thread may be adding meanwhile. */
struct drive_totals {
	uint64_t ops[BLOCK_OPS], bytes[BLOCK_OPS], errors[BLOCK_OPS], ns[BLOCK_OPS];
	uint64_t latency[DRIVE_LATENCY_OPS][DRIVE_LATENCY_BINS];
	uint32_t inflight;		/* submitted, not done; with parked ones */
};
struct drive_totals drive_totals(const struct drive *d);

/* One request to @n, waited for on @l, a loop of the caller's own that nobody
 * else turns. For set-up, tools and threads that may wait. */
int block_io_wait(struct block_node *n, struct loop *l, enum block_op op, uint32_t flags,
		  uint64_t offset, const struct iovec *iov, int iovcnt, uint64_t bytes);
/* A loop for that on the main loop's thread (its own may not be turned inside
 * a callback); made when first asked for, NULL without memory. */
struct loop *block_graph_wait_loop(struct block_graph *g);

/* Issue @r to a node without a drive in between: format nodes' own requests. */
void block_start(struct block_node *n, struct block_req *r);
/* For nodes: hand a request to @n, or finish it. */
void block_submit(struct block_node *n, struct block_req *r);
void block_done(struct block_req *r, int ret);
/* On r->loop: end @r soon, and what works for it (r->sub). */
void block_cancel(struct block_req *r);
/* Finish it from r->loop, after this call has returned. */
void block_done_later(struct block_req *r, int ret);
/* For filters: @ended is called in place of the nodes above, and block_pop()
 * there puts them, and the request as they sent it down, back. */
void block_push(struct block_req *r, struct block_frame *f,
		void (*ended)(struct block_req *r, int ret));
struct block_frame *block_pop(struct block_req *r);

#endif
