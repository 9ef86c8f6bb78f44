/*
 * vmm/core/gmem_host.c - making the host memory that guest RAM consists of.
 *
 * Threads: main loop, before the vCPUs run; preallocation starts helpers and
 *          joins them.
 * Missing: NUMA policy (host-nodes); reserve=off.
 *
 * Nothing here touches a page unless preallocation was asked for: a guest of
 * 64 GiB costs the host what the guest uses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/core/gmem_host.h"

#define GUARD_BYTES	(64 * KIB)	/* the largest page size of any host */
#define PREALLOC_THREADS 4		/* more only fight for the zone lock */
#define PREALLOC_PER_THREAD (256 * MIB)	/* below that a thread costs more */

#ifndef MADV_POPULATE_WRITE		/* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

static int too_big(const struct gmem *gm, const char *id, uint64_t size, struct err *e)
{
	const struct gmem_map *m;
	uint64_t ram, swap, sum = size;
	struct sysinfo si;

	for (m = gm->maps; m; m = m->next)
		sum += m->size;
	if (sysinfo(&si) < 0)
		return 0;
	ram = (uint64_t)si.totalram * si.mem_unit;
	swap = (uint64_t)si.totalswap * si.mem_unit;
	if (size <= sum && sum <= ram + swap)
		return 0;
	return err_set(e, -ENOMEM, "memory '%s' of %llu MiB does not fit: the host "
		       "has %llu MiB of RAM and %llu MiB of swap",
		       id, size / MIB, ram / MIB, swap / MIB);
}

static int open_memfd(const char *id, const struct gmem_backing *how, struct err *e)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	char name[64];
	int fd;

	if (how->hugepages) {
		flags |= MFD_HUGETLB;
		if (how->hugepage_size)
			flags |= (unsigned int)__builtin_ctzll(how->hugepage_size)
				 << MFD_HUGE_SHIFT;
	}
	snprintf(name, sizeof(name), "roost:%s", id);
	fd = memfd_create(name, flags);
	if (fd >= 0)
		return fd;
	if (how->hugepages && (errno == ENODEV || errno == EINVAL || errno == ENOSYS))
		return err_set(e, -errno, "memory '%s': the host offers no huge pages of "
			       "%llu KiB", id, how->hugepage_size / KIB);
	return err_sys(e, -errno, "memory '%s': cannot create a memory file", id);
}

/* mem-path: a directory gets a nameless file, a file is used as it is. */
static int open_path(const char *id, const char *path, struct err *e)
{
	struct stat st;
	int fd;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	else
		fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "memory '%s': cannot open mem-path '%s'", id, path);
	return fd;
}

/* Give the file its size; a file of the user's keeps it or must match. */
static int size_fd(int fd, const char *id, uint64_t size,
		   const struct gmem_backing *how, struct err *e)
{
	struct stat st;

	if (how->path && fstat(fd, &st) == 0 && st.st_size > 0) {
		if ((uint64_t)st.st_size >= size)
			return 0;
		return err_set(e, -EINVAL, "memory '%s': mem-path '%s' has %llu "
			       "KiB, %llu are needed", id, how->path,
			       (uint64_t)st.st_size / KIB, size / KIB);
	}
	if (ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, -errno, "memory '%s': cannot make the memory file "
			       "%llu MiB large", id, size / MIB);
	/* A peer that was handed the memory cannot shrink it under us, which
	 * would turn our next access into a SIGBUS. */
	if (!how->path && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(e, -errno, "memory '%s': cannot seal the memory file", id);
	return 0;
}

/* The unit that mappings of @fd come in: a huge page or an ordinary one. */
static uint64_t page_size_of(int fd, const struct gmem_backing *how)
{
	const long hugetlbfs_magic = 0x958458f6;	/* linux/magic.h */
	struct statfs fs;

	if ((how->hugepages || how->path) && fstatfs(fd, &fs) == 0 &&
	    fs.f_type == hugetlbfs_magic)
		return (uint64_t)fs.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * Reserve inaccessible address space and map the file inside, at a multiple of
 * @align, with guards on both sides. Reservations cost no memory.
 */
static int map_aligned(struct gmem_map *m, uint64_t align)
{
	uint64_t start;
	void *p;
	int r;

	m->area_size = m->size + align + 2 * GUARD_BYTES;
	p = mmap(NULL, m->area_size, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->area = p;
	start = align_up((uint64_t)(uintptr_t)p + GUARD_BYTES, align);
	p = mmap((void *)(uintptr_t)start, m->size, PROT_READ | PROT_WRITE, MAP_FIXED |
		 (m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED),
		 m->fd, 0);
	if (p != MAP_FAILED) {
		m->host = p;
		return 0;
	}
	r = -errno;
	munmap(m->area, m->area_size);
	m->area = NULL;
	return r;
}

static int map_fd(struct gmem_map *m, const char *id, uint64_t page, struct err *e)
{
	const uint64_t aligns[] = { GIB, 2 * MIB, page };
	int r = -ENOMEM;
	size_t i;

	/* An address space limit may forbid the wide reservation only. */
	for (i = 0; i < ARRAY_LEN(aligns); i++) {
		if (aligns[i] < page || (aligns[i] > m->size && aligns[i] != page))
			continue;
		r = map_aligned(m, aligns[i]);
		if (r == 0)
			return 0;
	}
	if (r == -ENOMEM && page > (uint64_t)sysconf(_SC_PAGESIZE))
		return err_set(e, r, "memory '%s' of %llu MiB does not fit: the host has "
			       "too few free huge pages of %llu KiB (vm.nr_hugepages)",
			       id, m->size / MIB, page / KIB);
	if (r == -ENOMEM)
		return err_set(e, r, "memory '%s' of %llu MiB does not fit: the kernel "
			       "refuses to map it (see vm.overcommit_memory and ulimit -v)",
			       id, m->size / MIB);
	return err_sys(e, r, "memory '%s': cannot map %llu MiB", id, m->size / MIB);
}

/* Hints: a kernel that does not know one is no reason to fail. */
static void advise(const struct gmem_map *m, const struct gmem_backing *how, uint64_t page)
{
	/* Anonymous memory gets huge pages nearly everywhere, files only where
	 * shmem_enabled says so. A page fault of the guest then maps 2 MiB, and
	 * the host's page tables shrink by a factor of 512. */
	if (page < 2 * MIB && m->size >= 2 * MIB)
		madvise(m->host, m->size, MADV_HUGEPAGE);
	if (how->merge)
		madvise(m->host, m->size, MADV_MERGEABLE);
	if (!how->dump)
		madvise(m->host, m->size, MADV_DONTDUMP);
}

struct populate {
	pthread_t thread;
	uint8_t *start;
	uint64_t len;
	int result;
};

static void *populate_run(void *arg)
{
	struct populate *p = arg;

	p->result = madvise(p->start, p->len, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	return NULL;
}

static int populate(const struct gmem_map *m, uint64_t page)
{
	struct populate part[PREALLOC_THREADS] = { 0 };
	uint64_t n = MIN((uint64_t)get_nprocs(), m->size / PREALLOC_PER_THREAD);
	uint64_t i, step, off = 0;
	bool started[PREALLOC_THREADS] = { false };
	int r = 0;

	n = MAX(MIN(n, (uint64_t)PREALLOC_THREADS), 1ull);
	step = align_up(m->size / n, page);
	for (i = 0; i < n && off < m->size; i++, off += step) {
		part[i].start = m->host + off;
		part[i].len = i == n - 1 ? m->size - off : MIN(step, m->size - off);
		started[i] = n > 1 && thread_start(&part[i].thread, "prealloc", populate_run,
						   &part[i]) == 0;
		if (!started[i])
			populate_run(&part[i]);
	}
	for (i = 0; i < n; i++) {
		if (started[i])
			pthread_join(part[i].thread, NULL);
		r = r ? r : part[i].result;
	}
	return r;
}

static int prealloc(const struct gmem_map *m, const char *id, uint64_t page, struct err *e)
{
	int r = populate(m, page);

	/* A kernel before 5.14: let the file allocate its pages instead. */
	if (r == -EINVAL && m->fd >= 0)
		r = fallocate(m->fd, 0, 0, (off_t)m->size) < 0 ? -errno : 0;
	if (r == 0)
		return 0;
	if (r == -EFAULT || r == -ENOMEM || r == -ENOSPC)
		return err_set(e, -ENOMEM, "memory '%s' of %llu MiB does not fit: the "
			       "host ran out of %s while preallocating it", id, m->size / MIB,
			       page >= 2 * MIB ? "huge pages" : "memory");
	return err_sys(e, r, "memory '%s': cannot preallocate %llu MiB",
		       id, m->size / MIB);
}

/* Memory that nobody else is to see: no file, so that it gets huge pages. */
static bool is_private(const struct gmem_backing *how)
{
	return !how->share && !how->hugepages && !how->path;
}

static int make_private(struct gmem_map *m, const char *id, const struct gmem_backing *how,
			struct err *e)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int r;

	m->size = align_up(m->size, page);
	r = map_fd(m, id, page, e);
	if (r < 0)
		return r;
	advise(m, how, page);
	return how->prealloc ? prealloc(m, id, page, e) : 0;
}

static int make_map(struct gmem_map *m, const char *id, const struct gmem_backing *how,
		    struct err *e)
{
	uint64_t page, wanted = m->size;
	int r;

	if (is_private(how))
		return make_private(m, id, how, e);
	m->fd = how->path ? open_path(id, how->path, e) : open_memfd(id, how, e);
	if (m->fd < 0)
		return m->fd;
	page = page_size_of(m->fd, how);
	m->size = align_up(wanted, page);
	if (page >= 2 * MIB && m->size != wanted)
		return err_set(e, -EINVAL, "memory '%s' of %llu KiB is not a multiple "
			       "of the huge page size of %llu KiB", id,
			       wanted / KIB, page / KIB);
	r = size_fd(m->fd, id, m->size, how, e);
	if (r == 0)
		r = map_fd(m, id, page, e);
	if (r < 0)
		return r;
	advise(m, how, page);
	return how->prealloc ? prealloc(m, id, page, e) : 0;
}

static void map_free(struct gmem_map *m)
{
	if (m->area)
		munmap(m->area, m->area_size);
	fd_close(&m->fd);
	free(m);
}

void gmem_maps_free(struct gmem *gm)
{
	struct gmem_map *m;

	while ((m = gm->maps)) {
		gm->maps = m->next;
		map_free(m);
	}
}

int gmem_alloc(struct gmem *gm, const char *id, uint64_t size,
	       const struct gmem_backing *how, int *fd, uint8_t **host, struct err *e)
{
	static const struct gmem_backing plain = { .dump = true, .share = true };
	struct gmem_map *m;
	int r;

	if (!size)
		return err_set(e, -EINVAL, "memory '%s' has a size of 0", id);
	how = how ? how : &plain;
	if (how->hugepage_size && !is_pow2(how->hugepage_size))
		return err_set(e, -EINVAL, "memory '%s': a huge page size of %llu KiB "
			       "is not a power of two", id, how->hugepage_size / KIB);
	r = too_big(gm, id, size, e);
	if (r < 0)
		return r;
	m = xcalloc(1, sizeof(*m));
	m->fd = -1;
	m->size = size;
	r = make_map(m, id, how, e);
	if (r < 0) {
		map_free(m);
		return r;
	}
	m->next = gm->maps;
	gm->maps = m;
	*fd = m->fd;
	*host = m->host;
	return 0;
}
