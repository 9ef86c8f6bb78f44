/*
 * block/qcow2/offline.c - changes that only tools make: compressed clusters,
 * preallocated ones, and giving clusters back to the backing file.
 *
 * Spec:    docs/interop/qcow2.txt, "Compressed Clusters Descriptor".
 * Threads: main loop's thread; no request is in flight.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"

static int table_ready(struct q2 *q, struct loop *l, uint64_t g)
{
	uint32_t t = q2_table_of(q, g);
	int r = q2_load_sync(q, t, l);

	if (r)
		return r;
	pthread_mutex_lock(&q->meta);
	r = q2_own_table(q, t, true);
	pthread_mutex_unlock(&q->meta);
	return r;
}

static int place(struct q2 *q, uint64_t n, uint64_t *off);

/* Narrow refcounts cannot share a host cluster that often. */
static int place_anew(struct q2 *q, uint64_t n, uint64_t *off)
{
	q->z_at = q->z_end = 0;
	return place(q, n, off);
}

/* Host bytes for @n of them, in sectors that may begin where the last ended. */
static int place(struct q2 *q, uint64_t n, uint64_t *off)
{
	uint64_t room = q->z_end - q->z_at, host;
	uint32_t got;
	bool fresh;
	int r;

	if (room < n) {
		r = q2_alloc(q, 1, &host, &got, &fresh, true);
		if (r)
			return r;
		if (q->z_at && host == q->z_end) {
			/* Goes on in the next host cluster, which it counts as
			 * well as the one where it begins. */
			if (room && q2_ref_add(q, q->z_at >> q->cb, 1, true))
				q->z_at = host;
		} else {
			q->z_at = host;
		}
		q->z_end = host + q->cs;
	} else {
		r = q2_ref_add(q, q->z_at >> q->cb, 1, true);
		if (r)
			return r == -EOVERFLOW ? place_anew(q, n, off) : r;
	}
	*off = q->z_at;
	q->z_at += n;
	return 0;
}

/* "Number of additional 512-byte sectors … beyond the sector containing the
 * offset." */
static uint64_t descriptor(const struct q2 *q, uint64_t off, uint64_t n)
{
	uint32_t x = 62 - (q->cb - 8);
	uint64_t extra = (off + n - 1) / BLOCK_SECTOR - off / BLOCK_SECTOR;

	return OFLAG_COMPRESSED | extra << x | off;
}

static int one_cluster(struct q2 *q, struct loop *l, uint64_t g, const uint8_t *data,
		       uint8_t *out)
{
	/* A sector less than the cluster, or it is not worth it. */
	size_t n = q2_compress(q->h.compression, data, q->cs, out, q->cs - 1);
	struct iovec iov = { (uint8_t *)(uintptr_t)data, q->cs };
	uint64_t off = 0, pos = g << q->cb;
	int r;

	if (n == 0 || q->n.data.node) {
		iov.iov_len = MIN(q->cs, q->n.bytes - pos);
		return block_io_wait(&q->n, l, BLOCK_WRITE, 0, pos, &iov, 1, iov.iov_len);
	}
	r = table_ready(q, l, g);
	if (r)
		return r;
	pthread_mutex_lock(&q->meta);
	r = place(q, n, &off);
	pthread_mutex_unlock(&q->meta);
	if (r == 0)
		r = q2_sync_io(q, l, BLOCK_WRITE, off, out, n);
	if (r)
		return r;
	pthread_mutex_lock(&q->meta);
	q2_drop(q, q2_entry(q, g, NULL));
	q2_entry_set(q, g, descriptor(q, off, n), 0);
	pthread_mutex_unlock(&q->meta);
	return 0;
}

int image_write_compressed(struct block_node *n, struct loop *l, uint64_t pos,
			   const uint8_t *data, uint64_t len)
{
	struct q2 *q = (struct q2 *)n;
	uint8_t *buf;
	uint64_t part;
	int r = 0;

	if (!node_is_qcow2(n) || (pos & (q->cs - 1)))
		return -EINVAL;
	buf = sparse_map(2 * q->cs);
	if (!buf)
		return -ENOMEM;
	for (uint64_t i = 0; i < len && r == 0; i += q->cs) {
		part = MIN(q->cs, len - i);
		memset(buf + q->cs + part, 0, q->cs - part);
		memcpy(buf + q->cs, data + i, part);
		if (!q2_is_zero(buf + q->cs, part) || q2_backed(q, pos + i))
			r = one_cluster(q, l, (pos + i) >> q->cb, buf + q->cs, buf);
		else	/* the image may have had something there */
			r = block_io_wait(n, l, BLOCK_WRITE_ZEROES, BLOCK_UNMAP, pos + i, NULL, 0,
					  MIN(part, n->bytes - pos - i));
	}
	sparse_unmap(buf, 2 * q->cs);
	return r;
}

int image_unallocate(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len)
{
	struct q2 *q = (struct q2 *)n;
	uint64_t end = pos + len == n->bytes ? align_up(n->bytes, q->cs) : align_down(pos + len,
										     q->cs);
	int r = 0;

	if (!node_is_qcow2(n))
		return -ENOTSUP;
	for (uint64_t g = align_up(pos, q->cs) >> q->cb; g < end >> q->cb && r == 0; g++) {
		if (!atomic_load(&q->l1[q2_table_of(q, g)])) {
			g |= BIT64(q->l2_bits) - 1;	/* nothing in this table */
			continue;
		}
		r = table_ready(q, l, g);
		if (r)
			break;
		pthread_mutex_lock(&q->meta);
		if (q2_entry(q, g, NULL)) {
			q2_drop(q, q2_entry(q, g, NULL));
			q2_entry_set(q, g, 0, 0);
		}
		pthread_mutex_unlock(&q->meta);
	}
	return r;
}

/* As many clusters from @g on as are free in a row; *@n of them at most. */
static int allocate_row(struct q2 *q, struct loop *l, uint64_t g, uint32_t *n)
{
	uint64_t host, bitmap = q->ext ? UINT32_MAX : 0;
	bool fresh;
	int r = table_ready(q, l, g);

	if (r)
		return r;
	pthread_mutex_lock(&q->meta);
	r = q2_alloc(q, *n, &host, n, &fresh, true);
	for (uint32_t i = 0; i < *n && r == 0; i++) {
		/* A disk that was longer once may have kept zeroes here. */
		if (q2_entry(q, g + i, NULL))
			q2_drop(q, q2_entry(q, g + i, NULL));
		q2_entry_set(q, g + i, (host + ((uint64_t)i << q->cb)) | OFLAG_COPIED, bitmap);
	}
	pthread_mutex_unlock(&q->meta);
	/* What was used before, or lies on a device, is not zero. */
	if (r == 0 && !fresh)
		r = q2_sync_io(q, l, BLOCK_WRITE_ZEROES, host, NULL, (uint64_t)*n << q->cb);
	return r;
}

int image_preallocate(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len)
{
	struct q2 *q = (struct q2 *)n;
	uint64_t end = (pos + len + q->cs - 1) >> q->cb, left;
	uint32_t got;
	int r = 0;

	if (!node_is_qcow2(n) || n->data.node || n->backing.node)
		return -ENOTSUP;
	for (uint64_t g = pos >> q->cb; g < end && r == 0; g += got) {
		left = BIT64(q->l2_bits) - (g & (BIT64(q->l2_bits) - 1));
		got = (uint32_t)MIN(left, end - g);
		r = allocate_row(q, l, g, &got);
	}
	return r;
}
