/*
 * vmm/core/gmem.c - guest memory: regions, look-up, copies, pins.
 *
 * Threads: regions are added before the vCPUs run; all else from any thread,
 *          without locks (see gmem.h).
 * Missing: adding regions while the guest runs (memory hot-plug).
 *
 * Every address and length here may come from a hostile guest. The range check
 * is region_at() and next_piece(); nothing else turns an address into a
 * pointer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/gmem.h"
#include "vmm/core/gmem_host.h"

#define PAGE_BYTES 4096ull

struct gmem *gmem_create(void)
{
	return xcalloc(1, sizeof(struct gmem));
}

void gmem_destroy(struct gmem *gm)
{
	if (!gm)
		return;
	gmem_maps_free(gm);
	free(gm);
}

static bool overlaps(const struct gmem_region *r, uint64_t base, uint64_t size)
{
	return base < r->base + r->size && r->base < base + size;
}

static int check_region(const struct gmem *gm, uint64_t base, uint64_t size,
			const uint8_t *host, struct err *e)
{
	int i;

	if (gm->count == GMEM_REGIONS_MAX)
		return err_set(e, -ENOSPC, "guest memory has %d regions already, "
			       "the most there may be", gm->count);
	if (!size || base % PAGE_BYTES || size % PAGE_BYTES ||
	    (uintptr_t)host % PAGE_BYTES)
		return err_set(e, -EINVAL, "guest memory at 0x%" PRIx64 " of 0x%" PRIx64
			       " bytes is not whole pages of 4 KiB", base, size);
	/* So no region holds address 2^64 - 1 and its end stays a number. */
	if (size > UINT64_MAX - base)
		return err_set(e, -ERANGE, "guest memory at 0x%" PRIx64 " of 0x%" PRIx64
			       " bytes ends past the last address", base, size);
	for (i = 0; i < gm->count; i++)
		if (overlaps(&gm->region[i], base, size))
			return err_set(e, -EEXIST, "guest memory at 0x%" PRIx64
				       " of 0x%" PRIx64 " bytes overlaps that at 0x%" PRIx64,
				       base, size, gm->region[i].base);
	return 0;
}

int gmem_add_region(struct gmem *gm, uint64_t base, uint64_t size, uint8_t *host,
		    int fd, uint64_t fd_off, bool readonly, struct err *e)
{
	int i, r = check_region(gm, base, size, host, e);

	if (r < 0)
		return r;
	for (i = gm->count; i > 0 && gm->region[i - 1].base > base; i--)
		gm->region[i] = gm->region[i - 1];
	gm->region[i] = (struct gmem_region){
		.base = base, .size = size, .host = host,
		.fd = fd, .fd_off = fd_off, .readonly = readonly,
	};
	gm->count++;
	return 0;
}

/* The region that holds byte @a. An address below r->base wraps to a distance
 * that is never below r->size, so one comparison checks both ends. */
static const struct gmem_region *region_at(const struct gmem *gm, uint64_t a)
{
	int i;

	for (i = 0; i < gm->count; i++)
		if (a - gm->region[i].base < gm->region[i].size)
			return &gm->region[i];
	return NULL;
}

/* How many of the @len bytes at @a lie in the region that holds @a, and where;
 * 0 when @a is not RAM that may be accessed so. */
static uint64_t next_piece(const struct gmem *gm, uint64_t a, uint64_t len,
			   bool write, uint8_t **host)
{
	const struct gmem_region *r = region_at(gm, a);
	uint64_t off;

	if (!r || (write && r->readonly))
		return 0;
	off = a - r->base;
	*host = r->host + off;
	return MIN(len, r->size - off);
}

/* Is all of [a, a+len) RAM? A range that wraps needs no check of its own: it
 * contains address 2^64 - 1, which no region holds. */
static bool range_ok(const struct gmem *gm, uint64_t a, uint64_t len, bool write)
{
	uint64_t n;
	uint8_t *host;

	while (len) {
		n = next_piece(gm, a, len, write, &host);
		if (!n)
			return false;
		a += n;
		len -= n;
	}
	return true;
}

int gmem_read(const struct gmem *gm, gpa_t a, void *dst, size_t len)
{
	uint8_t *host, *to = dst;
	uint64_t n = next_piece(gm, a.v, len, false, &host);

	if (len && n == len) {		/* as good as always */
		memcpy(dst, host, len);
		return 0;
	}
	if (!range_ok(gm, a.v, len, false))
		return -EFAULT;
	for (; len; len -= n, to += n, a.v += n) {
		n = next_piece(gm, a.v, len, false, &host);
		memcpy(to, host, n);
	}
	return 0;
}

int gmem_write(struct gmem *gm, gpa_t a, const void *src, size_t len)
{
	const uint8_t *from = src;
	uint8_t *host;
	uint64_t n = next_piece(gm, a.v, len, true, &host);

	if (len && n == len) {
		memcpy(host, src, len);
		return 0;
	}
	if (!range_ok(gm, a.v, len, true))
		return -EFAULT;
	for (; len; len -= n, from += n, a.v += n) {
		n = next_piece(gm, a.v, len, true, &host);
		memcpy(host, from, n);
	}
	return 0;
}

int gmem_zero(struct gmem *gm, gpa_t a, size_t len)
{
	uint8_t *host;
	uint64_t n;

	if (!range_ok(gm, a.v, len, true))
		return -EFAULT;
	for (; len; len -= n, a.v += n) {
		n = next_piece(gm, a.v, len, true, &host);
		memset(host, 0, n);
	}
	return 0;
}

void *gmem_ptr(const struct gmem *gm, gpa_t a, size_t len, bool write)
{
	uint8_t *host;

	if (!len || next_piece(gm, a.v, len, write, &host) != len)
		return NULL;
	return host;
}

int gmem_pin(const struct gmem *gm, gpa_t a, uint64_t len, bool write,
	     struct iovec *iov, int max)
{
	uint8_t *host;
	uint64_t n;
	int used = 0;

	for (; len; len -= n, a.v += n) {
		n = next_piece(gm, a.v, len, write, &host);
		if (!n)
			return -EFAULT;
		if (used && (uint8_t *)iov[used - 1].iov_base + iov[used - 1].iov_len == host) {
			iov[used - 1].iov_len += n;
			continue;
		}
		if (used == max)
			return -E2BIG;
		iov[used].iov_base = host;
		iov[used++].iov_len = n;
	}
	return used;
}

uint64_t gmem_ram_bytes(const struct gmem *gm)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < gm->count; i++)
		if (!gm->region[i].readonly)
			sum += gm->region[i].size;
	return sum;
}
