/*
 * devices/virtio/blk.c - virtio-blk: a disk.
 *
 * Spec:    virtio 1.3 s5.2.
 * Threads: the request path runs on each queue's loop, without locks;
 *          configuration on vCPU threads under the device lock.
 * Missing: lifetime, secure erase and zoned commands (UNSUPP).
 *
 * A request is a chain: 16 bytes of header, then data, then one status byte,
 * split over descriptors as the driver likes (s2.7.4). It is never copied: the
 * header is cut off the front of the chain's iovec, the status byte off its
 * end, and what is left between goes to the drive as it is. All a request needs
 * is in its slot, so a kick costs no allocation and no lock:
 *
 *	blk_kick	pop a chain, find the status byte, look at the type
 *	blk_rw, ...	check against the disk's size, submit to the drive
 *	blk_done	on the same loop, later: status byte, push
 *
 * Submitted requests reach the kernel together when the loop's turn ends, and
 * so does the one interrupt for all that were pushed.
 */
#include <errno.h>
#include <linux/virtio_blk.h>

#include "block/block.h"
#include "block/retry.h"
#include "devices/drive_guard.h"
#include "devices/virtio/queue_map.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(virtio_blk_request);
TRACE_DEFINE(virtio_blk_done);

#define SECTOR		512u	/* the protocol's unit (s5.2.6) */
#define QUEUES_AUTO	UINT16_MAX	/* one per vCPU; QEMU's value for it */
#define SEGS_MAX	16	/* ranges of one discard or write-zeroes */
/* Sectors of one range: below 2 GiB, what any host file system takes at once. */
#define RANGE_SECTORS_MAX ((1u << 22) - 1)

struct virtio_blk {
	struct virtio_dev v;		/* first */
	/* properties */
	char *drive_name, *iothread, *serial;
	json_t *vq_mapping;
	uint16_t num_queues, queue_size;
	uint32_t logical, physical;	/* bytes; 0: from the drive */
	uint32_t min_io, opt_io;	/* bytes */
	int write_cache;		/* enum prop_auto */
	bool config_wce, discard, write_zeroes, share_rw, scsi;
	struct retry_opts retry;
	int32_t bootindex;
	/* constant after init */
	struct drive *drive;
	struct drive_guard guard;
	_Atomic uint64_t sectors;	/* changes with the drive's length */
	bool write_cache_default;
	char ident[VIRTIO_BLK_ID_BYTES];	/* NUL-padded, not terminated */
};

/* What a slot keeps for its request. */
struct blk_req {
	struct block_req br;
	struct virtio_queue *q;
	struct virtq_chain *c;
	uint8_t *status;		/* in guest memory, pinned by the chain */
	uint32_t written;		/* bytes, when all goes well */
	uint16_t seg, segs;		/* the range being worked on */
	struct blk_range {
		uint64_t sector;
		uint32_t sectors;
		uint32_t flags;		/* BLOCK_* */
	} range[SEGS_MAX];
};

static const struct prop blk_props[] = {
	PROP_LINK(struct virtio_blk, drive_name, "drive", "drive",
		  "the drive or block node that holds the data", .flags = PROP_REQUIRED),
	PROP_LINK(struct virtio_blk, iothread, "iothread", "iothread",
		  "I/O thread that serves the disk; default: the main loop"),
	PROP_JSON(struct virtio_blk, vq_mapping, "iothread-vq-mapping",
		  "several I/O threads: a list of {\"iothread\": ID, \"vqs\": [queue, ...]}; "
		  "without vqs the queues go round"),
	PROP_U16(struct virtio_blk, num_queues, "num-queues", 1, QUEUES_AUTO, QUEUES_AUTO,
		 "request queues; 65535: one per vCPU", .flags = PROP_GUEST),
	PROP_U16(struct virtio_blk, queue_size, "queue-size", 4, VIRTQ_SIZE_MAX, 256,
		 "descriptors per queue, a power of two", .flags = PROP_GUEST),
	PROP_STR(struct virtio_blk, serial, "serial", NULL,
		 "the disk's identity, 20 characters at most", .flags = PROP_GUEST),
	PROP_U32(struct virtio_blk, logical, "logical_block_size", 0, 2 * MIB, 0,
		 "smallest unit of I/O, a power of two; 0: 512", .flags = PROP_GUEST,
		 .unit = "bytes"),
	PROP_U32(struct virtio_blk, physical, "physical_block_size", 0, 2 * MIB, 0,
		 "unit the host writes without reading; 0: the drive's",
		 .flags = PROP_GUEST, .unit = "bytes"),
	PROP_U32(struct virtio_blk, min_io, "min_io_size", 0, 32 * MIB, 0,
		 "suggested smallest I/O", .flags = PROP_GUEST, .unit = "bytes"),
	PROP_U32(struct virtio_blk, opt_io, "opt_io_size", 0, UINT32_MAX, 0,
		 "suggested largest I/O", .flags = PROP_GUEST, .unit = "bytes"),
	PROP_ONOFFAUTO(struct virtio_blk, write_cache, "write-cache", PROP_AUTO,
		       "writes may complete before they are durable; auto: as the drive",
		       .flags = PROP_GUEST),
	PROP_BOOL(struct virtio_blk, config_wce, "config-wce", true,
		  "the guest may switch the write cache", .flags = PROP_GUEST),
	PROP_BOOL(struct virtio_blk, discard, "discard", true,
		  "offer the discard command", .flags = PROP_GUEST),
	PROP_BOOL(struct virtio_blk, write_zeroes, "write-zeroes", true,
		  "offer the write-zeroes command", .flags = PROP_GUEST),
	PROP_BOOL(struct virtio_blk, share_rw, "share-rw", false,
		  "other devices and processes may write to the disk as well"),
	RETRY_PROPS(struct virtio_blk, retry, DRIVE_AUTO, DRIVE_AUTO),
	PROP_I32(struct virtio_blk, bootindex, "bootindex", -1, INT32_MAX, -1,
		 "place in the firmware's boot order, -1: none"),
	PROP_BOOL(struct virtio_blk, scsi, "scsi", false,
		  "SCSI command passthrough; only off", .flags = PROP_HIDDEN),
	PROP_END
};

static struct virtio_blk *to_blk(struct virtio_dev *v)
{
	return (struct virtio_blk *)v;
}

/* ---- completion ---- */

/*
 * The length told to the driver counts from the first writable byte and may be
 * an underestimate (s2.7.8.2): a failed read says 0, because the status byte
 * stands behind data that was not written.
 */
static void blk_finish(struct blk_req *r, uint8_t status, uint32_t written)
{
	*(volatile uint8_t *)r->status = status;
	virtio_push(r->q, r->c, written);
}

static void blk_ok(struct blk_req *r)
{
	blk_finish(r, VIRTIO_BLK_S_OK, r->written);
}

/* A request that ends before it began: with one writable byte, that is it. */
static void blk_refuse(struct blk_req *r, uint8_t status)
{
	blk_finish(r, status, r->c->in_bytes == 1);
}

/* The one place where an errno becomes a status. */
static uint8_t blk_status(int ret)
{
	if (ret == 0)
		return VIRTIO_BLK_S_OK;
	return ret == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void blk_submit_range(struct blk_req *r);

static void blk_done(struct block_req *br, int ret)
{
	struct blk_req *r = container_of(br, struct blk_req, br);

	trace(virtio_blk_done, "%s %p: %d", r->q->v->pci.dev.path, (void *)r, ret);
	if (ret < 0)
		blk_refuse(r, blk_status(ret));
	else if (++r->seg < r->segs && !r->q->cancelled)
		blk_submit_range(r);
	else
		blk_ok(r);
}

/* ---- requests ---- */

static void blk_submit(struct blk_req *r, enum block_op op, uint64_t sector, uint64_t bytes)
{
	r->br.op = op;
	r->br.offset = sector * SECTOR;
	r->br.bytes = bytes;
	r->br.loop = r->q->loop;
	r->br.done = blk_done;
	drive_submit(to_blk(r->q->v)->drive, &r->br);
}

static bool blk_in_range(const struct virtio_blk *b, uint64_t sector, uint64_t sectors)
{
	uint64_t all = atomic_load_explicit(&b->sectors, memory_order_relaxed);

	return sector <= all && sectors <= all - sector;
}

/* Cut the header off the front; the driver may have split it anywhere. */
static void blk_data_out(struct blk_req *r)
{
	struct iovec *iov = r->c->iov;
	size_t skip = sizeof(struct virtio_blk_outhdr);
	int n = r->c->out_n;

	while (n && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		n--;
	}
	if (n) {
		iov->iov_base = (uint8_t *)iov->iov_base + skip;
		iov->iov_len -= skip;
	}
	r->br.iov = iov;
	r->br.iovcnt = n;
}

/* Cut the status byte off the end. */
static void blk_data_in(struct blk_req *r)
{
	struct iovec *iov = r->c->iov + r->c->out_n;
	int n = r->c->in_n;

	if (--iov[n - 1].iov_len == 0)
		n--;
	r->br.iov = iov;
	r->br.iovcnt = n;
}

static void blk_rw(struct virtio_blk *b, struct blk_req *r, bool write, uint64_t sector)
{
	uint32_t bytes = write ? r->c->out_bytes - sizeof(struct virtio_blk_outhdr) :
				 r->c->in_bytes - 1;

	/* s5.2.6.1, s5.2.6.2 */
	if (bytes % SECTOR || !blk_in_range(b, sector, bytes / SECTOR) ||
	    (write && b->drive->read_only)) {
		blk_refuse(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->br.flags = 0;
	r->segs = 1;
	r->written = write ? r->c->in_bytes == 1 : bytes + 1;
	if (write)
		blk_data_out(r);
	else
		blk_data_in(r);
	blk_submit(r, write ? BLOCK_WRITE : BLOCK_READ, sector, bytes);
}

static void blk_flush(struct blk_req *r)
{
	r->br.flags = 0;
	r->br.iov = NULL;
	r->br.iovcnt = 0;
	r->segs = 1;
	r->written = r->c->in_bytes == 1;
	blk_submit(r, BLOCK_FLUSH, 0, 0);
}

/* s5.2.6: 20 bytes, NUL-padded. A shorter buffer gets what fits. */
static void blk_get_id(struct virtio_blk *b, struct blk_req *r)
{
	uint32_t n = MIN(r->c->in_bytes - 1, (uint32_t)sizeof(b->ident));

	chain_write(r->c, 0, b->ident, n);
	r->written = n + (n == r->c->in_bytes - 1);
	blk_ok(r);
}

static void blk_submit_range(struct blk_req *r)
{
	const struct blk_range *g = &r->range[r->seg];

	r->br.flags = g->flags;
	blk_submit(r, r->br.op, g->sector, (uint64_t)g->sectors * SECTOR);
}

/* One range of a discard or write-zeroes, copied and checked. */
static uint8_t blk_parse_range(const struct virtio_blk *b, struct blk_req *r,
			       uint16_t i, bool zero)
{
	struct virtio_blk_discard_write_zeroes seg;
	struct blk_range *g = &r->range[i];
	uint32_t flags;

	chain_read(r->c, sizeof(struct virtio_blk_outhdr) + i * sizeof(seg), &seg, sizeof(seg));
	g->sector = le64toh(seg.sector);
	g->sectors = le32toh(seg.num_sectors);
	flags = le32toh(seg.flags);
	/* s5.2.6.2: unknown flags, and unmap for a discard */
	if (flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	g->flags = flags ? BLOCK_UNMAP : 0;
	if (g->sectors > RANGE_SECTORS_MAX || !blk_in_range(b, g->sector, g->sectors))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static void blk_ranges(struct virtio_blk *b, struct blk_req *r, bool zero)
{
	size_t bytes = r->c->out_bytes - sizeof(struct virtio_blk_outhdr);
	size_t size = sizeof(struct virtio_blk_discard_write_zeroes);
	uint8_t status = VIRTIO_BLK_S_OK;
	uint16_t i;

	if (!(zero ? b->write_zeroes : b->discard)) {
		blk_refuse(r, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (bytes == 0 || bytes % size || bytes / size > SEGS_MAX || b->drive->read_only)
		status = VIRTIO_BLK_S_IOERR;
	for (i = 0; status == VIRTIO_BLK_S_OK && i < bytes / size; i++)
		status = blk_parse_range(b, r, i, zero);
	if (status != VIRTIO_BLK_S_OK) {
		blk_refuse(r, status);
		return;
	}
	r->seg = 0;
	r->segs = i;
	r->written = r->c->in_bytes == 1;
	r->br.op = zero ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD;
	r->br.iov = NULL;
	r->br.iovcnt = 0;
	blk_submit_range(r);
}

static void blk_handle(struct virtio_blk *b, struct blk_req *r)
{
	struct virtio_blk_outhdr h;
	uint64_t sector;

	if (chain_read(r->c, 0, &h, sizeof(h)) != sizeof(h)) {
		blk_refuse(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	sector = le64toh(h.sector);
	trace(virtio_blk_request, "%s %p: type %u sector %llu out %u in %u",
	      b->v.pci.dev.path, (void *)r, le32toh(h.type), (unsigned long long)sector,
	      r->c->out_bytes, r->c->in_bytes);
	switch (le32toh(h.type)) {
	case VIRTIO_BLK_T_IN:
		blk_rw(b, r, false, sector);
		break;
	case VIRTIO_BLK_T_OUT:
		blk_rw(b, r, true, sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		blk_flush(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		blk_get_id(b, r);
		break;
	case VIRTIO_BLK_T_DISCARD:
		blk_ranges(b, r, false);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		blk_ranges(b, r, true);
		break;
	default:
		blk_refuse(r, VIRTIO_BLK_S_UNSUPP);
	}
}

static int blk_kick(struct virtio_dev *v, struct virtio_queue *q)
{
	struct virtq_chain *c;
	struct iovec *last;
	struct blk_req *r;
	int ret;

	while ((ret = virtio_pop(q, &c)) > 0) {
		if (c->in_n == 0) {	/* nowhere to say that it failed */
			virtio_broken(v, "a request has no status byte");
			virtio_push(q, c, 0);
			return 0;
		}
		last = &c->iov[c->out_n + c->in_n - 1];
		r = c->priv;
		r->q = q;
		r->c = c;
		r->seg = r->segs = 0;
		r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
		blk_handle(to_blk(v), r);
	}
	return ret;
}

static void blk_cancel(struct virtio_dev *v, struct virtio_queue *q)
{
	struct virtq_chain *c;
	uint16_t i;

	for (i = 0; i < virtq_size(q->vq); i++) {
		c = virtq_slot(q->vq, i);
		if (c)
			drive_cancel(&((struct blk_req *)c->priv)->br);
	}
}

/* ---- configuration ---- */

static struct virtio_blk_config *blk_config(struct virtio_blk *b)
{
	return (struct virtio_blk_config *)b->v.config;
}

static void blk_set_cache(struct virtio_blk *b, bool on)
{
	b->drive->write_cache = on;
	blk_config(b)->wce = on;
}

static void blk_config_write(struct virtio_dev *v, uint16_t off, uint16_t len, const void *val)
{
	uint16_t wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_blk *b = to_blk(v);

	if (off <= wce && wce < off + len && (v->features_offered & BIT64(VIRTIO_BLK_F_CONFIG_WCE)))
		blk_set_cache(b, ((const uint8_t *)val)[wce - off]);
}

/* s5.2.5: who cannot flush, or cannot say that it may not, needs a write-through
 * cache. A legacy driver that can set the mode is left alone (s5.2.5.3). */
static int blk_start(struct virtio_dev *v)
{
	struct virtio_blk *b = to_blk(v);
	bool can_flush = virtio_has(v, VIRTIO_BLK_F_FLUSH);

	if (!virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE))
		blk_set_cache(b, b->write_cache_default && can_flush);
	else if (!can_flush && virtio_has(v, VIRTIO_F_VERSION_1))
		blk_set_cache(b, false);
	return 0;
}

static void blk_stopped(struct virtio_dev *v)
{
	blk_set_cache(to_blk(v), to_blk(v)->write_cache_default);
}

static void blk_fill_config(struct virtio_blk *b)
{
	struct virtio_blk_config *c = blk_config(b);
	uint32_t align = MAX(b->drive->node->discard_align, b->logical);

	c->capacity = htole64(b->sectors);
	c->seg_max = htole32(b->queue_size - 2);	/* header and status */
	c->geometry.heads = 16;
	c->geometry.sectors = 63;
	c->geometry.cylinders = htole16(MIN(b->sectors / (16 * 63), 16383ull));
	c->blk_size = htole32(b->logical);
	c->physical_block_exp = __builtin_ctz(b->physical / b->logical);
	c->min_io_size = htole16(MIN(b->min_io / b->logical, 65535u));
	c->opt_io_size = htole32(b->opt_io / b->logical);
	c->num_queues = htole16(b->num_queues);
	c->max_discard_sectors = c->max_write_zeroes_sectors = htole32(RANGE_SECTORS_MAX);
	c->max_discard_seg = c->max_write_zeroes_seg = htole32(SEGS_MAX);
	c->discard_sector_alignment = htole32(align / SECTOR);
	c->write_zeroes_may_unmap = 1;
	blk_set_cache(b, b->write_cache_default);
}

/* Whole logical blocks, so that the guest never sees half of one. */
static uint64_t blk_length(const struct virtio_blk *b)
{
	return align_down(b->drive->node->bytes, b->logical) / SECTOR;
}

/* s5.2.4: the driver learns a new capacity through a configuration interrupt. */
static void blk_resized(struct drive *d)
{
	struct drive_guard *g = d->on_error_arg;
	struct virtio_blk *b = container_of(g, struct virtio_blk, guard);

	pthread_mutex_lock(&b->v.pci.dev.lock);
	b->sectors = blk_length(b);
	blk_config(b)->capacity = htole64(b->sectors);
	pthread_mutex_unlock(&b->v.pci.dev.lock);
	virtio_config_changed(&b->v);
}

static uint64_t blk_features(const struct virtio_blk *b)
{
	uint64_t f = 0;

	if (b->num_queues > 1)
		f |= BIT64(VIRTIO_BLK_F_MQ);
	if (b->drive->read_only)
		return f | BIT64(VIRTIO_BLK_F_RO);
	if (b->config_wce)
		f |= BIT64(VIRTIO_BLK_F_CONFIG_WCE);
	if (b->discard)
		f |= BIT64(VIRTIO_BLK_F_DISCARD);
	if (b->write_zeroes)
		f |= BIT64(VIRTIO_BLK_F_WRITE_ZEROES);
	return f;
}

/* ---- life ---- */

static int blk_check_size(const struct virtio_blk *b, const char *name, uint32_t bytes,
			  struct err *e)
{
	if (is_pow2(bytes) && bytes >= SECTOR)
		return 0;
	return err_set(e, -EINVAL, "%s: %s=%u is not a power of two of 512 bytes or more",
		       b->v.pci.dev.path, name, bytes);
}

static int blk_check(struct virtio_blk *b, struct err *e)
{
	const char *path = b->v.pci.dev.path;

	if (b->scsi)
		return err_set(e, -ENOTSUP, "%s: scsi=on is not supported; use virtio-scsi",
			       path);
	if (!is_pow2(b->queue_size))
		return err_set(e, -EINVAL, "%s: queue-size=%u is not a power of two", path,
			       b->queue_size);
	if (b->num_queues == QUEUES_AUTO)
		b->num_queues = MIN(MAX(b->v.pci.dev.vm->vcpu_count, 1u),
				    (uint32_t)VIRTIO_QUEUES_MAX);
	if (b->num_queues > VIRTIO_QUEUES_MAX)
		return err_set(e, -ERANGE, "%s: num-queues=%u is more than %d", path,
			       b->num_queues, VIRTIO_QUEUES_MAX);
	return 0;
}

static int blk_check_sizes(struct virtio_blk *b, struct err *e)
{
	int ret;

	if (!b->logical)
		b->logical = SECTOR;
	if (!b->physical)
		b->physical = MAX(b->logical, b->drive->node->request_align);
	ret = blk_check_size(b, "logical_block_size", b->logical, e);
	if (ret == 0)
		ret = blk_check_size(b, "physical_block_size", b->physical, e);
	if (ret < 0)
		return ret;
	if (b->physical < b->logical)
		return err_set(e, -EINVAL, "%s: physical_block_size=%u is below "
			       "logical_block_size=%u", b->v.pci.dev.path, b->physical, b->logical);
	if (b->drive->node->bytes % b->logical)
		return err_set(e, -EINVAL, "%s: the disk's %llu bytes are no multiple of "
			       "logical_block_size=%u", b->v.pci.dev.path,
			       (unsigned long long)b->drive->node->bytes, b->logical);
	return 0;
}

static int blk_open(struct virtio_blk *b, struct err *e)
{
	struct vm *vm = b->v.pci.dev.vm;
	uint32_t flags = DRIVE_OPEN_MAY_WRITE | (b->share_rw ? DRIVE_OPEN_SHARE : 0);
	int ret;

	ret = drive_open(vm->blocks, b->drive_name, b->v.pci.dev.path, flags, &b->drive, e);
	if (ret < 0)
		return ret;
	drive_guard_init(&b->guard, &b->v.pci.dev, b->drive);
	b->sectors = b->drive->node->bytes / SECTOR;
	b->write_cache_default = b->write_cache == PROP_AUTO ? b->drive->write_cache :
							      b->write_cache == PROP_ON;
	ret = drive_guard_policy(&b->guard, &b->retry, NULL, e);
	if (ret < 0)
		return ret;
	if (b->serial && strlen(b->serial) > sizeof(b->ident))
		log_warn("%s: serial '%s' is cut to %zu characters", b->v.pci.dev.path,
			 b->serial, sizeof(b->ident));
	if (b->serial)
		memcpy(b->ident, b->serial, MIN(strlen(b->serial), sizeof(b->ident)));
	return 0;
}

static int blk_init(struct dev *d, struct err *e)
{
	struct virtio_blk *b = DEV_OF(d, struct virtio_blk);
	struct loop *loops[VIRTIO_QUEUES_MAX];
	uint16_t i;
	int ret;

	ret = blk_check(b, e);
	if (ret == 0)
		ret = queue_map(d, b->iothread, b->vq_mapping, b->num_queues, loops, e);
	if (ret == 0)
		ret = blk_open(b, e);
	if (ret == 0)
		ret = blk_check_sizes(b, e);
	if (ret < 0)
		return ret;
	for (i = 0; i < b->num_queues; i++)
		virtio_queue_add(&b->v, b->queue_size, b->queue_size,
				 sizeof(struct blk_req), loops[i]);
	b->v.features_offered |= blk_features(b);
	blk_fill_config(b);
	b->drive->on_resize = blk_resized;
	return 0;
}

static void blk_fini(struct dev *d)
{
	struct virtio_blk *b = DEV_OF(d, struct virtio_blk);

	drive_guard_fini(&b->guard);
	drive_close(b->drive);
	b->drive = NULL;
}

static void blk_settled(void *arg)
{
	dev_reset_done(arg);
}

static int blk_settle(struct dev *d)
{
	struct virtio_blk *b = DEV_OF(d, struct virtio_blk);

	return drive_settle(b->drive, blk_settled, d) ? -EINPROGRESS : 0;
}

static void blk_pause(struct dev *d, bool paused)
{
	drive_guard_pause(&DEV_OF(d, struct virtio_blk)->guard, paused);
}

static int blk_changed(struct dev *d, const char *name, struct err *e)
{
	struct virtio_blk *b = DEV_OF(d, struct virtio_blk);

	return drive_guard_policy(&b->guard, &b->retry, name, e);
}

static const struct virtio_ops blk_ops = {
	.device_id = 2,
	.pci_class = 0x010000,	/* mass storage, SCSI: what drivers know */
	.features = BIT64(VIRTIO_BLK_F_SEG_MAX) | BIT64(VIRTIO_BLK_F_GEOMETRY) |
		    BIT64(VIRTIO_BLK_F_BLK_SIZE) | BIT64(VIRTIO_BLK_F_FLUSH) |
		    BIT64(VIRTIO_BLK_F_TOPOLOGY),
	.config_size = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
	.config_write = blk_config_write,
	.start = blk_start, .stopped = blk_stopped,
	.kick = blk_kick, .cancel = blk_cancel,
};

#define BLK_TYPE(name_, alias_, class_, help_)				\
	{								\
		.name = (name_), .alias = (alias_), .help = (help_),	\
		.class = &(class_), .size = sizeof(struct virtio_blk),	\
		.props = blk_props,					\
		.ops = { .init = blk_init, .fini = blk_fini,		\
			 .settle = blk_settle, .pause = blk_pause,	\
			 .changed = blk_changed },			\
		.class_ops = &blk_ops,					\
	}

const struct dev_type virtio_blk_type =
	BLK_TYPE("virtio-blk-pci", "virtio-blk", virtio_class, "virtio disk");
const struct dev_type virtio_blk_modern_type =
	BLK_TYPE("virtio-blk-pci-non-transitional", NULL, virtio_modern_class,
		 "virtio disk, virtio 1.x interface only");
const struct dev_type virtio_blk_transitional_type =
	BLK_TYPE("virtio-blk-pci-transitional", NULL, virtio_transitional_class,
		 "virtio disk with the legacy interface as well");
