/*
 * block/qcow2/qcow2.h - what the files of the qcow2 driver share.
 *
 * Spec:    QEMU docs/interop/qcow2.txt ("s Header", "s Cluster mapping", … name
 *          its sections).
 *
 * header.c reads and writes the header; map.c holds the guest-to-host map;
 * op.c has the request contexts and the read path; write.c the write path;
 * zero.c discards and zeroes; refcount.c, alloc.c host clusters; flush.c the
 * order in which metadata reaches the disk; worker.c the thread that may wait;
 * compress.c compressed clusters; snapshot.c the table of internal snapshots;
 * check.c finds and repairs damage; create.c makes images; resize.c changes a
 * disk's length; driver.c ties all that to the graph.
 *
 * Threads: requests run on any loop. The map is read without a lock; what
 * changes metadata holds `meta`. A loop never waits for it: when it is taken,
 * or disk I/O is needed first, the step moves to the image's worker thread.
 */
#ifndef BLOCK_QCOW2_QCOW2_H
#define BLOCK_QCOW2_QCOW2_H

#include <pthread.h>
#include <stdatomic.h>

#include "block/block.h"
#include "block/graph.h"
#include "vmm/base/sparse.h"
#include "vmm/base/util.h"

/* ---- s Header ---- */
#define QCOW2_MAGIC		0x514649fbu
#define QCOW2_V2_HEADER		72
#define QCOW2_V3_HEADER		104
#define QCOW2_HEADER_MAX	112	/* what this build knows, padded */

#define INCOMPAT_DIRTY		BIT64(0)
#define INCOMPAT_CORRUPT	BIT64(1)
#define INCOMPAT_DATA_FILE	BIT64(2)
#define INCOMPAT_COMPRESSION	BIT64(3)
#define INCOMPAT_EXT_L2		BIT64(4)
#define INCOMPAT_KNOWN		0x1full
#define COMPAT_LAZY_REFCOUNTS	BIT64(0)
#define AUTOCLEAR_BITMAPS	BIT64(0)
#define AUTOCLEAR_DATA_RAW	BIT64(1)

#define EXT_END			0u
#define EXT_BACKING_FORMAT	0xe2792acau
#define EXT_FEATURE_NAMES	0x6803f857u
#define EXT_BITMAPS		0x23852875u
#define EXT_DATA_FILE		0x44415441u

/* QEMU's limits, quoted in the specification: no image is larger, and they
 * bound what a hostile header makes us allocate. */
#define CLUSTER_BITS_MIN	9u
#define CLUSTER_BITS_MAX	21u
#define L1_BYTES_MAX		(32 * MIB)
#define REFTABLE_BYTES_MAX	(8 * MIB)
#define SNAPSHOTS_MAX		65536u
#define SNAPSHOT_TABLE_MAX	(64 * MIB)
#define SNAPSHOT_EXTRA_MAX	1024u
#define BACKING_NAME_MAX	1023u

enum q2_compression { Q2_ZLIB, Q2_ZSTD };

struct q2_header {
	uint32_t version, cluster_bits, crypt_method;
	uint64_t size, backing_offset;
	uint32_t backing_bytes;
	uint32_t l1_size;
	uint64_t l1_offset, reftable_offset;
	uint32_t reftable_clusters;
	uint32_t nb_snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_length;
	uint8_t compression;
};

/* ---- s Cluster mapping ---- */
#define OFLAG_COPIED		BIT64(63)
#define OFLAG_COMPRESSED	BIT64(62)
#define OFLAG_ZERO		BIT64(0)
#define ENTRY_OFFSET		0x00fffffffffffe00ull	/* bits 9-55 */
/* Ours, in memory; these bits are reserved, so zero, on the disk. */
#define ENTRY_LOADED		BIT64(1)
#define ENTRY_BAD		BIT64(2)
#define SUBCLUSTERS		32u

/* What a stretch of guest bytes is. */
enum q2_kind {
	Q2_UNLOADED,		/* the L2 table is not in memory */
	Q2_UNALLOC,		/* the backing file's */
	Q2_ZEROES,
	Q2_DATA,
	Q2_COMPRESSED,
	Q2_BAD,			/* an entry that no image may have */
};

struct q2_extent {
	enum q2_kind kind;
	uint64_t len;		/* bytes that are alike and contiguous */
	uint64_t host;		/* DATA: of the first byte; COMPRESSED: the entry */
	bool copied;		/* DATA: may be written in place */
};

/* State of an L2 table or refcount block in memory. */
enum q2_tab_state { TAB_ABSENT, TAB_LOADING, TAB_LOADED };
#define TAB_END		UINT32_MAX
struct q2_tab {
	uint32_t next;		/* in the list of dirty ones */
	uint8_t state;		/* enum q2_tab_state */
	bool dirty;
	uint8_t fresh;		/* enum q2_fresh */
};

/* Of a table that nothing on the disk points to: L1 may do so only when the
 * table itself is durable. */
enum q2_fresh { FRESH_NOT, FRESH_UNWRITTEN, FRESH_WRITTEN };

/* Direct I/O reads whole units, the last of which may reach behind the end. */
#define Q2_TAIL		4096u

#define Q2_OPS		128	/* requests in flight that need a context */
#define Q2_BUFS		8	/* of them, with a cluster in memory */
#define Q2_IOV		64
#define Q2_STAGE_BYTES	(256u * 1024)	/* L2 sectors of one round of a flush */

struct q2;
struct q2_op;

/* Results of a step under `meta`, beside 0 and -errno. */
enum { Q2_AGAIN = 1,	/* look at the map again */
       Q2_LOAD,		/* the L2 table of op->need must be read first */
       Q2_WAIT,		/* op is in another's list of waiters */
       Q2_BLOCK };	/* needs disk I/O: only the worker may */

typedef int q2_step(struct q2_op *op, bool may_block);

/* Work for the worker that is no request's; its caller waits. */
struct q2_call {
	int (*run)(struct q2 *q, void *arg);
	void *arg;
	int ret;
	bool done;
	pthread_cond_t cond;
};

struct q2_zstate;	/* compress.c */

/* Memory for a cluster that is composed, loaded or decompressed. */
struct q2_buf {
	uint8_t *mem;		/* a cluster */
	uint8_t *zin;		/* two clusters and a sector */
	uint8_t *zout;		/* a cluster */
	struct q2_zstate *z;
	struct q2_op *rd;	/* reads the old content; never from the pool */
	uint64_t tag;		/* compressed entry that zout holds; 0: none */
	bool busy;
};

/* One request that cannot simply go to a node below. */
struct q2_op {
	struct block_req c;		/* child request, on the same loop */
	struct q2 *q;
	struct block_req *r;		/* guest's; NULL: internal read */
	struct loop *loop;
	void (*done)(struct q2_op *op, int ret);	/* of an internal read */
	struct q2_op *up;
	/* request */
	enum block_op op;
	uint32_t flags;
	uint64_t base, pos, end;	/* guest bytes; pos is the present piece */
	const struct iovec *iov;
	int iovcnt;
	struct iovec old;		/* of an internal read */
	/* the present piece */
	uint32_t len;
	uint64_t entry;			/* compressed */
	uint64_t skip;			/* compressed: into the cluster */
	uint64_t lim;			/* of the write path, and what follows */
	void (*then)(struct q2_op *op);
	uint64_t wend;			/* guest end of the allocated piece */
	uint64_t u0;			/* first guest byte of the units it fills */
	uint32_t ulen;
	bool whole;			/* other subclusters have data as well */
	bool zeroes;			/* populating: what it found */
	uint32_t need;			/* L2 table to load */
	void (*resume)(struct q2_op *op);
	/* clusters registered as being allocated; under meta */
	uint64_t g0, host;
	uint32_t gn;
	bool fresh;			/* host clusters were never used: zeroes */
	bool owned;			/* host clusters were allocated for this op */
	bool registered;
	struct q2_op *peer, *waiters;
	/* lists and hand-over */
	struct q2_op *next;
	q2_step *step;
	void (*stepped)(struct q2_op *op, int res);
	int res;
	struct loop_work work;
	struct q2_buf *buf;
	void (*got_buf)(struct q2_op *op);
	_Atomic uint64_t epoch;		/* 0: idle */
	struct iovec v[Q2_IOV];
};

/* A run of L2 sectors that a flush has taken out of the table. */
struct q2_segment {
	uint32_t table, first, sectors;
	uint64_t off;			/* on the disk */
};
#define Q2_SEGMENTS	512

#define Q2_FREES_MAX	(1u << 20)
struct q2_free {
	uint64_t cluster, count, epoch;
	bool durable;			/* no L2 entry on the disk has it */
};

struct q2 {
	struct block_node n;		/* first */
	/* properties */
	uint64_t l2_limit;
	bool lazy_refcounts;
	int pass_discard;
	int overlap_check;
	char *snapshot;			/* shown in place of the disk; NULL: none */
	json_t *file_opt, *backing_opt, *data_opt;	/* listed for help */

	struct q2_header h;
	char *backing_name, *backing_format, *data_name;
	uint64_t bitmap_dir, bitmap_dir_bytes;
	/* derived */
	uint32_t cb;			/* cluster_bits */
	uint64_t cs;			/* cluster size */
	uint32_t l2_bits;		/* log2 of entries per L2 table */
	bool ext;			/* extended L2 entries */
	uint64_t sub;			/* subcluster, or cluster, in bytes */
	uint32_t tables;		/* L2 tables that the disk needs; meta */
	uint32_t table_room;		/* to which that can grow here */
	/* Requests end here: n.bytes, or further while a growth clears what lies
	 * behind the old end. Users of the node ask for no more than n.bytes. */
	_Atomic uint64_t reach;
	bool writable;			/* activated */
	_Atomic bool broken;		/* found corrupt while running: no writes */
	/* Writing ended with entries in memory that are not on the disk, while
	 * the counts of their clusters are gone: reading is all that is safe. */
	bool stale;
	struct log_limit limit;

	/* The map: every L2 table at its place, host endian, zero where not
	 * loaded. Address space only; pages come with tables. */
	_Atomic uint64_t *map;
	uint64_t map_bytes;
	_Atomic uint64_t *below;	/* see below.c; NULL: a short chain */
	uint64_t below_words;
	_Atomic uint32_t seq;		/* odd: a two-word entry changes */
	pthread_mutex_t tab_lock;	/* l2[].state and what waits for a load:
					 * two loops may want one table */
	struct q2_tab *l2;
	struct q2_op *load_wait;
	_Atomic uint64_t l2_loaded;	/* bytes */
	uint32_t clock;			/* next table to look at for eviction */
	_Atomic uint64_t *l1;		/* host endian; 0: nothing allocated */
	uint32_t l1_cap;		/* entries there is room for */

	/* Pool of contexts; the lock is for those that find it empty, and for
	 * buffers, which are rare. */
	_Atomic uint64_t free_ops[Q2_OPS / 64];
	struct q2_op *ops;
	pthread_mutex_t pool_lock;
	struct q2_op *buf_wait, **buf_tail;
	struct block_req *op_wait, **op_tail;
	_Atomic bool waiting;		/* op_wait is not empty */
	struct q2_buf bufs[Q2_BUFS];
	uint8_t *buf_mem;
	uint64_t buf_bytes;

	/* Everything below is changed with this held: one change of metadata
	 * at a time is what keeps them consistent. */
	pthread_mutex_t meta;
	struct q2_op *allocating;
	uint8_t *l2_dirty, *l1_dirty;	/* bit per 512 bytes */
	uint64_t *l1_disk;		/* what the disk has, or shall have next */
	uint32_t l2_dirty_head, l2_dirty_count;
	bool l1_any;
	bool new_tables;		/* some are FRESH_WRITTEN */
	/* The header on the disk may be another one than h, after an error: the
	 * next flush writes it first. The worker's. */
	bool header_unsure;
	/* Changes so far, and those of them that a flush has made durable. */
	_Atomic uint64_t gen, clean_gen;
	/* refcounts, as on the disk */
	uint64_t *rt;			/* refcount table, host endian */
	uint32_t rt_entries;		/* capacity on the disk */
	uint32_t rt_max;		/* to which it can grow here */
	uint8_t *rb;			/* blocks at their places, big endian */
	uint64_t rb_bytes;
	struct q2_tab *rbt;
	uint8_t *rb_dirty;
	uint32_t rb_dirty_head;
	bool rt_any;			/* entries of new blocks to write */
	uint8_t *rt_dirty;
	uint64_t rb_count;		/* clusters per block */
	uint64_t cursor;		/* first cluster that may be free */
	uint64_t virgin;		/* no cluster from here on was ever used */
	_Atomic uint64_t file_len;	/* of the file below */
	uint8_t *meta_map;		/* bit: cluster is metadata */
	uint64_t meta_map_bits;
	struct q2_free *frees;
	size_t nfrees;
	_Atomic uint64_t epoch;
	uint8_t *stage;			/* of a flush */
	uint64_t stage_bytes;
	struct q2_segment *segments;
	/* Where the next compressed cluster goes: behind the last one, so that
	 * several share a host cluster (offline.c). */
	uint64_t z_at, z_end;
	uint64_t old_len;		/* of the file, when writing began */

	/* worker.c */
	pthread_t thread;
	bool thread_runs;
	struct loop *own_loop;		/* for its I/O */
	pthread_mutex_t work_lock;
	pthread_cond_t work_cond;
	struct q2_op *work, **work_tail;
	bool work_quit, want_flush;
	struct q2_call *call;
};

static inline uint64_t get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline uint32_t get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint16_t get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline void put_be64(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_be32(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_be16(void *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}

static inline bool q2_is_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static inline bool bit_get(const uint8_t *map, uint64_t i)
{
	return map[i / 8] >> (i % 8) & 1;
}

static inline void bit_set(uint8_t *map, uint64_t i)
{
	map[i / 8] |= (uint8_t)(1u << (i % 8));
}

static inline void bit_clear(uint8_t *map, uint64_t i)
{
	map[i / 8] &= (uint8_t)~(1u << (i % 8));
}

static inline bool q2_is_dirty(struct q2 *q)
{
	return atomic_load(&q->gen) != atomic_load(&q->clean_gen);
}

/* header.c */
/* Parse @buf, the first @len bytes of the file of @file_bytes bytes; checks
 * everything that needs no further read. */
int q2_header_parse(struct q2_header *h, const uint8_t *buf, size_t len, uint64_t file_bytes,
		    struct err *e);
/* The disk's size and its L1 table alone. */
int q2_header_check_l1(const struct q2_header *h, uint64_t file_bytes, struct err *e);
int q2_extensions_parse(struct q2 *q, const uint8_t *cluster, size_t len, struct err *e);
/* Names of unknown incompatible features, from the image's own table. */
int q2_refuse_features(const struct q2_header *h, const uint8_t *cluster, size_t len,
		       struct err *e);
/* Extensions in @old, an image's first cluster with header @h, that nobody here writes
 * anew, to *@at of @buf, which moves on. False: they do not fit. */
bool q2_extensions_copy(const struct q2_header *h, const uint8_t *old, uint8_t *buf, size_t len,
			size_t *at);
/* In @first, an image's first cluster with header @h, put the backing file's @name (NULL:
 * none) and @format so that nothing else moves: the name in sectors where the old one is
 * not, *@at, all the rest in the first sector. False: it does not fit so. */
bool q2_backing_in_place(const struct q2_header *h, uint8_t *first, size_t len, const char *name,
			 const char *format, uint64_t *at);
void q2_header_put(const struct q2_header *h, uint8_t *buf);
/* Write the header's fixed part; the caller flushes. */
int q2_header_write(struct q2 *q, struct loop *l);

/* map.c */
int q2_map_init(struct q2 *q, struct err *e);
void q2_map_fini(struct q2 *q);
/* The image is written from now on: addresses to grow into. Nothing is in the node. */
void q2_map_make_room(struct q2 *q);
struct q2_extent q2_lookup(struct q2 *q, uint64_t pos, uint64_t len);
/* Read table op->need, then op->resume(op) on its loop. Takes op->buf. */
void q2_load(struct q2_op *op);
/* The same, waiting, for tools. */
int q2_load_sync(struct q2 *q, uint32_t table, struct loop *l);
bool q2_is_loaded(struct q2 *q, uint32_t table);
/* Under meta: an empty table, so that entries can be set. */
void q2_table_new(struct q2 *q, uint32_t table);
/* Under meta: forget all clean tables. */
void q2_evict_all(struct q2 *q);
/* Under meta. Ext images have a bitmap in the second word. */
uint64_t q2_entry(const struct q2 *q, uint64_t cluster, uint64_t *bitmap);
void q2_entry_set(struct q2 *q, uint64_t cluster, uint64_t entry, uint64_t bitmap);
static inline uint32_t q2_table_of(const struct q2 *q, uint64_t cluster)
{
	return (uint32_t)(cluster >> q->l2_bits);
}
void q2_tab_dirty(struct q2 *q, uint32_t table, uint32_t first, uint32_t sectors);
/* Table @t as it is on the disk, into @buf, sectors [first, first + n). */
void q2_table_put(const struct q2 *q, uint32_t t, uint32_t first, uint32_t n, uint8_t *buf);
/* Guest clusters of a compressed entry: where it lies. */
void q2_compressed_range(const struct q2 *q, uint64_t entry, uint64_t *off, uint64_t *bytes);

/* op.c */
int q2_pool_init(struct q2 *q, struct err *e);
void q2_pool_fini(struct q2 *q);
void q2_submit(struct block_node *n, struct block_req *r);
void q2_op_end(struct q2_op *op, int ret);
void q2_get_buf(struct q2_op *op, void (*then)(struct q2_op *op));
void q2_put_buf(struct q2_op *op);
/* op->v and its count for @len bytes at op->pos; @len shrinks when the entries
 * do not suffice, to 0 when not even a sector fits. */
int q2_slice(struct q2_op *op, uint32_t *len);
void q2_child(struct q2_op *op, struct block_node *n, enum block_op what, uint64_t off,
	      const struct iovec *iov, int cnt, uint64_t bytes,
	      void (*done)(struct block_req *c, int ret));
/* Read guest bytes [pos, end) into @mem with @buf->rd; no context is needed. */
void q2_read_old(struct q2_op *op, uint64_t pos, uint64_t end, uint8_t *mem,
		 void (*done)(struct q2_op *rd, int ret));
static inline struct block_node *q2_data(const struct q2 *q)
{
	return q->n.data.node ? q->n.data.node : q->n.file.node;
}
/* Flags of a read at @off: what lies behind the file's end reads as zeroes in
 * its last cluster. */
int q2_read_flags(struct q2 *q, uint64_t off, uint64_t bytes, uint32_t *flags);

/* below.c */
int q2_below_init(struct q2 *q);
void q2_below_fini(struct q2 *q);
void q2_below_forget(struct block_node *n);
/* The node that answers for [pos, pos + len), none of which is allocated here:
 * the backing node, or one further down. */
struct block_node *q2_below(struct q2 *q, uint64_t pos, uint64_t len);

/* write.c */
void q2_write_start(struct q2_op *op);
/* Write [op->pos, op->lim), from op->iov or as zeroes, then op->then. */
void q2_write_next(struct q2_op *op);
/* A request that has clusters registered fails. */
void q2_abort(struct q2_op *op, int ret);
/* Under meta: is a cluster of [g, g + n) being allocated? Then op waits. */
bool q2_must_wait(struct q2_op *op, uint64_t g, uint64_t n);
/* Under meta: the L2 table, which is in memory or empty, is only ours. */
int q2_own_table(struct q2 *q, uint32_t table, bool may_block);
/* Under meta: what an entry keeps on the host is no longer referred to. */
void q2_drop(struct q2 *q, uint64_t entry);
/* Does the backing file have something at @pos? */
static inline bool q2_backed(const struct q2 *q, uint64_t pos)
{
	return q->n.backing.node && pos < q->n.backing.node->bytes;
}
/* zero.c */
void q2_zero_start(struct q2_op *op);

/* refcount.c: under meta */
/* @lenient: entries out of place are the caller's to judge. */
int q2_refs_init(struct q2 *q, bool lenient, struct err *e);
void q2_refs_fini(struct q2 *q);
/* Block @i is in memory; -ENOENT when the image has none. */
int q2_rb_need(struct q2 *q, uint64_t i, bool may_block);
int q2_ref_add(struct q2 *q, uint64_t cluster, int64_t delta, bool may_block);
void q2_rb_dirty(struct q2 *q, uint32_t block, uint32_t first, uint32_t sectors);
static inline uint8_t *q2_rb(const struct q2 *q, uint64_t i)
{
	return q->rb + i * q->cs;
}
/* alloc.c: under meta */
/* Up to @want clusters in a row; at least one, or -errno, or Q2_BLOCK. */
int q2_alloc(struct q2 *q, uint32_t want, uint64_t *host, uint32_t *got, bool *fresh,
	     bool may_block);
/* @want clusters in one piece, for a table. Waits. */
int q2_alloc_run(struct q2 *q, uint32_t want, uint64_t *host);
void q2_free_now(struct q2 *q, uint64_t host, uint32_t clusters);
void q2_free_later(struct q2 *q, uint64_t host, uint64_t clusters);
/* After a flush: give back what no request and no disk refers to. Waits. */
void q2_frees_release(struct q2 *q);
void q2_mark_meta(struct q2 *q, uint64_t off, uint64_t bytes, bool on);
bool q2_is_meta(const struct q2 *q, uint64_t off, uint64_t bytes);
uint64_t q2_refblock_get(const uint8_t *block, uint64_t i, uint32_t order);
void q2_refblock_set(uint8_t *block, uint64_t i, uint32_t order, uint64_t v);
static inline uint64_t q2_ref_max(const struct q2 *q)
{
	return q->h.refcount_order == 6 ? INT64_MAX : BIT64(1u << q->h.refcount_order) - 1;
}

/* flush.c */
void q2_flush_start(struct q2_op *op);
/* Everything, in order. Waits; takes meta itself. */
int q2_flush_meta(struct q2 *q);
/* The dirty refcount blocks alone, not made durable. Under meta, or alone. */
int q2_write_refblocks(struct q2 *q);
int q2_flush_init(struct q2 *q);
void q2_flush_fini(struct q2 *q);
int q2_sync_io(struct q2 *q, struct loop *l, enum block_op op, uint64_t off, void *buf,
	       size_t len);
/* The image is found damaged: say so, set the corrupt bit, refuse writes. */
int q2_corrupt(struct q2 *q, uint64_t off, const char *what);

/* worker.c */
/* For I/O that waits: the worker's own loop, or the main thread's. */
struct loop *q2_wloop(const struct q2 *q);
int q2_worker_start(struct q2 *q, struct err *e);
void q2_worker_stop(struct q2 *q);
/* Flush soon, nobody waits for it. */
void q2_worker_flush(struct q2 *q);
/* Run @run on the worker, without meta, and wait for it: on a thread that may. */
int q2_worker_call(struct q2 *q, int (*run)(struct q2 *q, void *arg), void *arg);
/* Run op->step under meta, here or on the worker; op->stepped on op->loop, now
 * or later. */
void q2_meta(struct q2_op *op, q2_step *step, void (*stepped)(struct q2_op *op, int res));
/* The same on the worker, with op->step set, or as a flush. */
void q2_post_step(struct q2_op *op);

/* compress.c */
/* @z is q2_z_bytes() of zeroes, aligned to 16; 0 or -ENOMEM. */
size_t q2_z_bytes(void);
int q2_z_init(struct q2_zstate *z, int compression);
void q2_z_fini(struct q2_zstate *z);
int q2_decompress(struct q2_zstate *z, const uint8_t *in, size_t inlen, uint8_t *out,
		  size_t outlen);
/* Bytes of @out used, or 0 when it does not get smaller. */
size_t q2_compress(int compression, const uint8_t *in, size_t inlen, uint8_t *out, size_t max);

/* snapshot.c */
struct q2_snapshot {
	uint64_t l1_offset, size, vm_bytes, vm_ns;
	uint32_t l1_size, date_s, date_ns;
	char *id, *name;
};
/* All h.nb_snapshots of them; @bytes: of the table. Waits. */
int q2_snapshots_read(struct q2 *q, struct loop *l, struct q2_snapshot **out, uint64_t *bytes,
		      struct err *e);
void q2_snapshots_free(struct q2_snapshot *s, uint32_t n);
/* While opening: q->h tells of the disk that q->snapshot kept, and must not be written. */
int q2_snapshot_show(struct q2 *q, struct loop *l, struct err *e);

/* resize.c: the driver's check_length and set_length; growing only */
int q2_check_length(const struct block_node *n, uint64_t bytes, struct err *e);
int q2_set_length(struct block_node *n, uint64_t bytes);

/* driver.c */
/* Begin and end writing, on the main loop's thread; nothing is in flight. */
int q2_activate(struct q2 *q, struct err *e);
void q2_deactivate(struct q2 *q);
extern const struct block_driver block_driver_qcow2;
static inline bool node_is_qcow2(const struct block_node *n)
{
	return n && n->drv == &block_driver_qcow2;
}

#endif
