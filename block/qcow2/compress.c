/*
 * block/qcow2/compress.c - compressed clusters.
 *
 * Spec:    docs/interop/qcow2.txt, "Compressed Clusters Descriptor",
 *          compression_type; RFC 1951 (raw deflate, as QEMU writes it with a
 *          window of 4 KiB), RFC 8878 (zstd).
 * Threads: a struct q2_zstate is used by one request at a time.
 * Missing: nothing known.
 *
 * "Decompression stops when it has produced a cluster of data": what follows
 * in the last sector belongs to somebody else. Anything short of a whole
 * cluster is an error; the output is bounded whatever the input says.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "block/qcow2/qcow2.h"

#define ARENA_BYTES	(96u * 1024)	/* inflate's state and its window */
#define WINDOW_BITS	(-12)		/* raw deflate, 4 KiB; see RFC 1951 */

struct q2_zstate {
	int compression;
	ZSTD_DStream *zstd;
	/* zlib's memory: its allocator hands it out from here, so that reading
	 * allocates nothing. */
	size_t used;
	uint8_t arena[ARENA_BYTES] __attribute__((aligned(16)));
};

size_t q2_z_bytes(void)
{
	return sizeof(struct q2_zstate);
}

int q2_z_init(struct q2_zstate *z, int compression)
{
	z->compression = compression;
	if (compression != Q2_ZSTD)
		return 0;
	z->zstd = ZSTD_createDStream();
	return z->zstd ? 0 : -ENOMEM;
}

void q2_z_fini(struct q2_zstate *z)
{
	if (z && z->zstd)
		ZSTD_freeDStream(z->zstd);
}

static void *arena_alloc(void *opaque, unsigned int n, unsigned int size)
{
	struct q2_zstate *z = opaque;
	size_t bytes = align_up((size_t)n * size, 16);
	void *p;

	if (bytes > ARENA_BYTES - z->used)
		return NULL;
	p = z->arena + z->used;
	z->used += bytes;
	return p;
}

static void arena_free(void *opaque, void *p)
{
}

static int inflate_all(struct q2_zstate *z, const uint8_t *in, size_t inlen, uint8_t *out,
		       size_t outlen)
{
	z_stream s = {
		.next_in = (uint8_t *)(uintptr_t)in, .avail_in = (unsigned int)inlen,
		.next_out = out, .avail_out = (unsigned int)outlen,
		.zalloc = arena_alloc, .zfree = arena_free, .opaque = z,
	};
	int r;

	z->used = 0;
	if (inflateInit2(&s, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&s, Z_FINISH);
	inflateEnd(&s);
	/* Z_BUF_ERROR: the stream has more than a cluster; that is ours. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && s.avail_out == 0 ? 0 : -EIO;
}

static int zstd_all(struct q2_zstate *z, const uint8_t *in, size_t inlen, uint8_t *out,
		    size_t outlen)
{
	ZSTD_inBuffer src = { in, inlen, 0 };
	ZSTD_outBuffer dst = { out, outlen, 0 };
	size_t before, r;

	ZSTD_initDStream(z->zstd);
	while (dst.pos < dst.size) {
		before = dst.pos + src.pos;
		r = ZSTD_decompressStream(z->zstd, &dst, &src);
		if (ZSTD_isError(r) || dst.pos + src.pos == before)
			return -EIO;
	}
	return 0;
}

int q2_decompress(struct q2_zstate *z, const uint8_t *in, size_t inlen, uint8_t *out,
		  size_t outlen)
{
	return z->compression == Q2_ZSTD ? zstd_all(z, in, inlen, out, outlen) :
					   inflate_all(z, in, inlen, out, outlen);
}

static size_t deflate_all(const uint8_t *in, size_t inlen, uint8_t *out, size_t max)
{
	z_stream s = { .next_in = (uint8_t *)(uintptr_t)in, .avail_in = (unsigned int)inlen,
		       .next_out = out, .avail_out = (unsigned int)max };
	int r;

	if (deflateInit2(&s, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, 9,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	r = deflate(&s, Z_FINISH);
	deflateEnd(&s);
	return r == Z_STREAM_END ? max - s.avail_out : 0;
}

/* For tools: allocates. */
size_t q2_compress(int compression, const uint8_t *in, size_t inlen, uint8_t *out, size_t max)
{
	size_t n;

	if (compression == Q2_ZLIB)
		return deflate_all(in, inlen, out, max);
	n = ZSTD_compress(out, max, in, inlen, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? 0 : n;
}
