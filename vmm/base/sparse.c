/*
 * vmm/base/sparse.c - memory of which most is never touched.
 *
 * Spec:    mmap(2), mremap(2), madvise(2).
 * Threads: any.
 * Missing: nothing known.
 */
#include "vmm/base/sparse.h"

#include <sys/mman.h>

#include "vmm/base/util.h"

#define PAGE	4096u	/* where the host's is larger, madvise() refuses: no harm */
#define WORTH	(64 * KIB)	/* neighbours make one mapping, so 2 MiB are too much */

static void refuse_huge(void *p, uint64_t bytes)
{
	if (bytes >= WORTH)
		madvise(p, bytes, MADV_NOHUGEPAGE);
}

void *sparse_map(uint64_t bytes)
{
	void *p = mmap(NULL, MAX(bytes, (uint64_t)PAGE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	refuse_huge(p, bytes);
	return p;
}

void sparse_unmap(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, MAX(bytes, (uint64_t)PAGE));
}

bool sparse_resize(void **p, uint64_t old, uint64_t new)
{
	void *moved;

	if (!*p)
		return true;
	moved = mremap(*p, MAX(old, (uint64_t)PAGE), MAX(new, (uint64_t)PAGE), MREMAP_MAYMOVE);
	if (moved == MAP_FAILED)
		return false;
	refuse_huge(moved, new);
	*p = moved;
	return true;
}

void sparse_keep(void *p, size_t bytes)
{
	uintptr_t lo = align_up((uintptr_t)p, PAGE), hi = align_down((uintptr_t)p + bytes, PAGE);

	if (lo < hi)
		refuse_huge((void *)lo, hi - lo);
}
