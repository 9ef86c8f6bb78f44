/*
 * vmm/core/gmem.h - guest memory: the only place that turns a guest physical
 * address into a host pointer, and the only range check.
 *
 * RAM is a few regions of anonymous memory, or of memfds mapped shared where
 * other processes are to be handed them. Device registers are not in here, so
 * DMA can never reach one.
 *
 * Threads: regions are added before the first vCPU runs (and later under the
 * memory hot-plug rules); look-ups are lock-free from any thread. A region
 * stays mapped until gmem_destroy(), after all loops and vCPUs have stopped:
 * that is what makes a pinned iovec valid for the life of its request.
 */
#ifndef VMM_CORE_GMEM_H
#define VMM_CORE_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/err.h"

/* A guest physical address: neither a pointer nor a number by accident. */
typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

static inline gpa_t gpa_add(gpa_t a, uint64_t n)
{
	return (gpa_t){ a.v + n };
}

#define GMEM_REGIONS_MAX 32

struct gmem_region {
	uint64_t base;		/* guest physical */
	uint64_t size;		/* bytes, multiple of 4 KiB */
	uint8_t *host;		/* mapping of fd at fd_off */
	int fd;			/* -1: anonymous memory */
	uint64_t fd_off;
	bool readonly;		/* ROM: the guest and DMA only read it */
};

struct gmem {
	struct gmem_region region[GMEM_REGIONS_MAX];	/* sorted by base */
	int count;
	struct gmem_map *maps;	/* host memory behind the regions; owned */
};

/* How a stretch of host memory is made (from memory-backend-* or -m). */
struct gmem_backing {
	bool hugepages;		/* MFD_HUGETLB */
	uint64_t hugepage_size;	/* 0: the host's default */
	bool prealloc;		/* touch every page before the guest runs */
	bool share;		/* a memfd that vhost-user peers can be handed; else
				 * anonymous memory, which gets huge pages. Huge
				 * page files and mem-path are always shared. */
	bool merge;		/* MADV_MERGEABLE; KSM leaves shared pages alone */
	bool dump;		/* false: MADV_DONTDUMP */
	const char *path;	/* mem-path: file or directory, NULL: memfd */
};

struct gmem *gmem_create(void);
void gmem_destroy(struct gmem *gm);	/* unmaps; NULL is allowed */

/*
 * Make @size bytes of host memory (@how NULL: a memfd), zeroed unless a
 * file at mem-path held something; @id names it in errors. Pieces of it are
 * shown in the guest by gmem_add_region(); @fd (-1: anonymous) and @host stay
 * the gmem's.
 * Large memory starts at a multiple of 1 GiB (else 2 MiB), so that regions
 * placed at the same residue map with huge pages and in one VFIO call. Its
 * size is sealed. Fails when it exceeds what the host has.
 */
int gmem_alloc(struct gmem *gm, const char *id, uint64_t size,
	       const struct gmem_backing *how, int *fd, uint8_t **host, struct err *e);
/* Regions may adjoin, never overlap; base, size and host are page-aligned.
 * @size may be below what is mapped at @host, never above. */
int gmem_add_region(struct gmem *gm, uint64_t base, uint64_t size, uint8_t *host,
		    int fd, uint64_t fd_off, bool readonly, struct err *e);

/* Copy; the whole of [a, a+len) must be RAM (may cross adjoining regions).
 * 0 or -EFAULT, and then nothing was copied. len 0 is 0. */
int gmem_read(const struct gmem *gm, gpa_t a, void *dst, size_t len);
int gmem_write(struct gmem *gm, gpa_t a, const void *src, size_t len);
int gmem_zero(struct gmem *gm, gpa_t a, size_t len);

/* Host pointer for [a, a+len) when that is RAM within one region, else NULL
 * (also for len 0). For rings and other small structures polled in place. */
void *gmem_ptr(const struct gmem *gm, gpa_t a, size_t len, bool write);

/*
 * Translate [a, a+len) for bulk I/O: append up to @max entries to @iov, return
 * how many were used (0 for len 0) or -EFAULT (not all RAM) or -E2BIG. @write:
 * the device writes to memory. Pieces that adjoin on the host share an entry.
 */
int gmem_pin(const struct gmem *gm, gpa_t a, uint64_t len, bool write,
	     struct iovec *iov, int max);

/* Bytes of RAM, all regions that are not read-only. */
uint64_t gmem_ram_bytes(const struct gmem *gm);

#endif
