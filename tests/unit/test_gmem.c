/*
 * Guest memory: every way an address and a length can be wrong, and that what
 * is right lands where it should.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/gmem.h"

#define LOW	(4 * MIB)
#define HIGH	(4 * GIB)
#define ROM	(HIGH - 64 * KIB)

/* 0..3 MiB and 3..4 MiB adjoin (host memory in swapped order, so that they do
 * not adjoin there); ROM below 4 GiB; 2 MiB at 4 GiB adjoin the ROM. */
struct env {
	struct gmem *gm;
	uint8_t *host, *rom, *high;
	int fd, rom_fd, high_fd;
	struct err e;
};

static void env_open(struct env *v)
{
	*v = (struct env){ .e = ERR_INIT };
	v->gm = gmem_create();
	cr_assert_eq(gmem_alloc(v->gm, "ram", LOW, NULL, &v->fd, &v->host, &v->e), 0);
	cr_assert_eq(gmem_alloc(v->gm, "rom", 64 * KIB, NULL, &v->rom_fd, &v->rom, &v->e), 0);
	cr_assert_eq(gmem_alloc(v->gm, "high", 2 * MIB, NULL, &v->high_fd, &v->high, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, HIGH, 2 * MIB, v->high, v->high_fd, 0, false, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, 3 * MIB, MIB, v->host, v->fd, 0, false, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, 0, 3 * MIB, v->host + MIB, v->fd, MIB, false, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, ROM, 64 * KIB, v->rom, v->rom_fd, 0, true, &v->e), 0);
}

Test(gmem, read_whole_range_returns_bytes)
{
	struct env v;
	uint32_t val = 0;

	env_open(&v);
	memcpy(v.host + MIB + 0x1234, "\x01\x02\x03\x04", 4);
	cr_assert_eq(gmem_read(v.gm, gpa(0x1234), &val, 4), 0);
	cr_assert_eq(val, 0x04030201);
	gmem_destroy(v.gm);
}

Test(gmem, write_across_adjoining_regions_lands_in_both)
{
	struct env v;
	uint8_t back[8];

	env_open(&v);
	cr_assert_eq(gmem_write(v.gm, gpa(3 * MIB - 3), "abcdefgh", 8), 0);
	cr_assert_arr_eq(v.host + 4 * MIB - 3, "abc", 3);
	cr_assert_arr_eq(v.host, "defgh", 5);
	cr_assert_eq(gmem_read(v.gm, gpa(3 * MIB - 3), back, 8), 0);
	cr_assert_arr_eq(back, "abcdefgh", 8);
	gmem_destroy(v.gm);
}

Test(gmem, zero_across_adjoining_regions_clears_both)
{
	struct env v;

	env_open(&v);
	memset(v.host, 0xaa, 8);
	memset(v.host + 4 * MIB - 8, 0xaa, 8);
	cr_assert_eq(gmem_zero(v.gm, gpa(3 * MIB - 4), 8), 0);
	cr_assert_arr_eq(v.host + 4 * MIB - 8, "\xaa\xaa\xaa\xaa\0\0\0\0", 8);
	cr_assert_arr_eq(v.host, "\0\0\0\0\xaa\xaa\xaa\xaa", 8);
	gmem_destroy(v.gm);
}

Test(gmem, write_past_the_end_copies_nothing)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(gmem_write(v.gm, gpa(LOW - 4), "abcdefgh", 8), -EFAULT);
	cr_assert_arr_eq(v.host + MIB - 4, "\0\0\0\0", 4);
	gmem_destroy(v.gm);
}

Test(gmem, read_past_the_end_leaves_destination_alone)
{
	struct env v;
	char buf[8] = "unhurt.";

	env_open(&v);
	cr_assert_eq(gmem_read(v.gm, gpa(LOW - 4), buf, 8), -EFAULT);
	cr_assert_str_eq(buf, "unhurt.");
	gmem_destroy(v.gm);
}

Test(gmem, length_zero_is_allowed_anywhere)
{
	struct env v;
	struct iovec iov;

	env_open(&v);
	cr_assert_eq(gmem_read(v.gm, gpa(UINT64_MAX), NULL, 0), 0);
	cr_assert_eq(gmem_write(v.gm, gpa(GIB), NULL, 0), 0);
	cr_assert_eq(gmem_zero(v.gm, gpa(GIB), 0), 0);
	cr_assert_eq(gmem_pin(v.gm, gpa(GIB), 0, true, &iov, 1), 0);
	cr_assert_null(gmem_ptr(v.gm, gpa(0), 0, false));
	gmem_destroy(v.gm);
}

Test(gmem, range_that_wraps_is_refused)
{
	struct env v;
	struct iovec iov[8];
	uint8_t b[16];

	env_open(&v);
	cr_assert_eq(gmem_read(v.gm, gpa(UINT64_MAX - 7), b, 16), -EFAULT);
	cr_assert_eq(gmem_write(v.gm, gpa(UINT64_MAX), b, 1), -EFAULT);
	cr_assert_eq(gmem_zero(v.gm, gpa(1), SIZE_MAX), -EFAULT);
	cr_assert_eq(gmem_pin(v.gm, gpa(0), UINT64_MAX, false, iov, 8), -EFAULT);
	cr_assert_eq(gmem_pin(v.gm, gpa(4096), UINT64_MAX - 4095, false, iov, 8), -EFAULT);
	cr_assert_null(gmem_ptr(v.gm, gpa(16), SIZE_MAX, false));
	gmem_destroy(v.gm);
}

Test(gmem, last_byte_is_ram_and_the_next_is_not)
{
	struct env v;
	uint8_t b = 7;

	env_open(&v);
	cr_assert_eq(gmem_write(v.gm, gpa(HIGH + 2 * MIB - 1), &b, 1), 0);
	cr_assert_eq(v.high[2 * MIB - 1], 7);
	cr_assert_eq(gmem_write(v.gm, gpa(HIGH + 2 * MIB), &b, 1), -EFAULT);
	cr_assert_not_null(gmem_ptr(v.gm, gpa(HIGH + 2 * MIB - 1), 1, true));
	cr_assert_null(gmem_ptr(v.gm, gpa(HIGH + 2 * MIB - 1), 2, true));
	gmem_destroy(v.gm);
}

Test(gmem, rom_reads_but_never_writes)
{
	struct env v;
	struct iovec iov[4];
	uint8_t b[8] = { 1 };

	env_open(&v);
	v.rom[0] = 0x55;
	cr_assert_eq(gmem_read(v.gm, gpa(ROM), b, 1), 0);
	cr_assert_eq(b[0], 0x55);
	cr_assert_eq(gmem_write(v.gm, gpa(ROM), b, 1), -EFAULT);
	cr_assert_eq(gmem_zero(v.gm, gpa(ROM), 1), -EFAULT);
	cr_assert_null(gmem_ptr(v.gm, gpa(ROM), 1, true));
	cr_assert_not_null(gmem_ptr(v.gm, gpa(ROM), 1, false));
	cr_assert_eq(gmem_pin(v.gm, gpa(ROM), 8, true, iov, 4), -EFAULT);
	/* A write that begins in RAM and runs into the ROM from behind. */
	cr_assert_eq(gmem_read(v.gm, gpa(HIGH - 4), b, 8), 0);
	cr_assert_eq(gmem_write(v.gm, gpa(HIGH - 4), b, 8), -EFAULT);
	gmem_destroy(v.gm);
}

Test(gmem, pointer_across_regions_is_refused)
{
	struct env v;

	env_open(&v);
	cr_assert_null(gmem_ptr(v.gm, gpa(3 * MIB - 1), 2, false));
	cr_assert_eq(gmem_ptr(v.gm, gpa(3 * MIB), 2, false), v.host);
	gmem_destroy(v.gm);
}

Test(gmem, pin_splits_where_host_memory_does)
{
	struct env v;
	struct iovec iov[4];

	env_open(&v);
	cr_assert_eq(gmem_pin(v.gm, gpa(3 * MIB - 4096), 8192, true, iov, 4), 2);
	cr_assert_eq(iov[0].iov_base, v.host + 4 * MIB - 4096);
	cr_assert_eq(iov[0].iov_len, 4096);
	cr_assert_eq(iov[1].iov_base, v.host);
	cr_assert_eq(iov[1].iov_len, 4096);
	cr_assert_eq(gmem_pin(v.gm, gpa(3 * MIB - 4096), 8192, true, iov, 1), -E2BIG);
	cr_assert_eq(gmem_pin(v.gm, gpa(LOW - 4096), 8192, true, iov, 4), -EFAULT);
	gmem_destroy(v.gm);
}

Test(gmem, pin_joins_what_adjoins_on_the_host)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	struct iovec iov[2];
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", MIB, NULL, &fd, &host, &e), 0);
	cr_assert_eq(gmem_add_region(gm, 0, 64 * KIB, host, fd, 0, false, &e), 0);
	cr_assert_eq(gmem_add_region(gm, 64 * KIB, 64 * KIB, host + 64 * KIB, fd, 64 * KIB,
				     false, &e), 0);
	cr_assert_eq(gmem_pin(gm, gpa(0), 128 * KIB, true, iov, 1), 1);
	cr_assert_eq(iov[0].iov_len, 128 * KIB);
	gmem_destroy(gm);
}

Test(gmem, ram_bytes_leave_out_rom)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(gmem_ram_bytes(v.gm), LOW + 2 * MIB);
	gmem_destroy(v.gm);
}

Test(gmem, regions_are_sorted)
{
	struct env v;
	int i;

	env_open(&v);
	cr_assert_eq(v.gm->count, 4);
	for (i = 1; i < v.gm->count; i++)
		cr_assert_lt(v.gm->region[i - 1].base, v.gm->region[i].base);
	gmem_destroy(v.gm);
}

Test(gmem, add_region_that_overlaps_names_both)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(gmem_add_region(v.gm, 2 * MIB, 2 * MIB, v.host, v.fd, 0, false, &v.e),
		     -EEXIST);
	cr_assert_not_null(strstr(v.e.text, "0x200000"), "%s", v.e.text);
	cr_assert_not_null(strstr(v.e.text, "that at 0x0"), "%s", v.e.text);
	gmem_destroy(v.gm);
}

Test(gmem, add_region_that_is_no_whole_pages_is_refused)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(gmem_add_region(v.gm, GIB + 1, 4096, v.host, v.fd, 0, false, &v.e), -EINVAL);
	cr_assert_eq(gmem_add_region(v.gm, GIB, 4095, v.host, v.fd, 0, false, NULL), -EINVAL);
	cr_assert_eq(gmem_add_region(v.gm, GIB, 0, v.host, v.fd, 0, false, NULL), -EINVAL);
	cr_assert_eq(gmem_add_region(v.gm, GIB, 4096, v.host + 1, v.fd, 0, false, NULL), -EINVAL);
	gmem_destroy(v.gm);
}

Test(gmem, add_region_at_the_last_address_is_refused)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(gmem_add_region(v.gm, UINT64_MAX - 4095, 4096, v.host, v.fd, 0, false,
				     &v.e), -ERANGE);
	gmem_destroy(v.gm);
}

Test(gmem, add_region_beyond_the_table_is_refused)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd, i;

	cr_assert_eq(gmem_alloc(gm, "ram", MIB, NULL, &fd, &host, &e), 0);
	for (i = 0; i < GMEM_REGIONS_MAX; i++)
		cr_assert_eq(gmem_add_region(gm, (uint64_t)i * MIB, 4096, host, fd, 0, false,
					     &e), 0);
	cr_assert_eq(gmem_add_region(gm, GIB, 4096, host, fd, 0, false, &e), -ENOSPC);
	gmem_destroy(gm);
}

/* ---- host memory ---- */

Test(gmem, alloc_is_zeroed_sealed_and_close_on_exec)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(v.host[0] | v.host[LOW - 1], 0);
	cr_assert_eq(ftruncate(v.fd, 0), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert(fcntl(v.fd, F_GETFD) & FD_CLOEXEC);
	gmem_destroy(v.gm);
}

Test(gmem, alloc_touches_no_page)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	unsigned char in_core[16] = { 0 };
	struct stat st;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", 2 * GIB, NULL, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_blocks, 0);
	cr_assert_eq(mincore(host, sizeof(in_core) * 4096, in_core), 0);
	cr_assert_eq(in_core[0] & 1, 0);
	gmem_destroy(gm);
}

Test(gmem, alloc_large_is_congruent_with_guest_addresses)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", 3 * GIB, NULL, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq((uintptr_t)host % GIB, 0);
	cr_assert_eq(gmem_alloc(gm, "small", 16 * MIB, NULL, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq((uintptr_t)host % (2 * MIB), 0);
	gmem_destroy(gm);
}

Test(gmem, alloc_prealloc_touches_all)
{
	struct gmem_backing how = { .prealloc = true, .share = true, .dump = true };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	struct stat st;
	uint8_t *host;
	int fd;

	/* Large enough for two helper threads. */
	cr_assert_eq(gmem_alloc(gm, "ram", 600 * MIB, &how, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq((uint64_t)st.st_blocks * 512, 600 * MIB);
	gmem_destroy(gm);
}

Test(gmem, alloc_more_than_the_host_has_says_so)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "pc.ram", 1ull << 50, NULL, &fd, &host, &e), -ENOMEM);
	cr_assert_not_null(strstr(e.text, "'pc.ram'"), "%s", e.text);
	cr_assert_not_null(strstr(e.text, "does not fit"), "%s", e.text);
	cr_assert_null(gm->maps);
	gmem_destroy(gm);
}

Test(gmem, alloc_sum_more_than_the_host_has_says_so)
{
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint64_t half = (uint64_t)sysconf(_SC_PHYS_PAGES) * 4096 / 2;
	uint8_t *host;
	int fd, i, r = 0;

	for (i = 0; i < 64 && r == 0; i++)
		r = gmem_alloc(gm, "ram", align_up(half, 4096), NULL, &fd, &host, &e);
	cr_assert_eq(r, -ENOMEM);
	cr_assert_gt(i, 1);
	gmem_destroy(gm);
}

Test(gmem, alloc_hugepages_that_are_not_there_says_so)
{
	struct gmem_backing how = { .hugepages = true, .hugepage_size = GIB };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_lt(gmem_alloc(gm, "ram", 8 * GIB, &how, &fd, &host, &e), 0);
	cr_assert_not_null(strstr(e.text, "huge pages"), "%s", e.text);
	gmem_destroy(gm);
}

Test(gmem, alloc_odd_sizes_are_refused)
{
	struct gmem_backing how = { .hugepages = true, .hugepage_size = 3 * MIB };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", 0, NULL, &fd, &host, NULL), -EINVAL);
	cr_assert_eq(gmem_alloc(gm, "ram", MIB, &how, &fd, &host, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "power of two"), "%s", e.text);
	gmem_destroy(gm);
}

Test(gmem, alloc_mem_path_directory_leaves_no_name)
{
	struct gmem_backing how = { .path = "/tmp", .dump = true };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	struct stat st;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", MIB, &how, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_nlink, 0);
	gmem_destroy(gm);
}

Test(gmem, alloc_mem_path_file_keeps_contents)
{
	char path[] = "/tmp/roost-gmem-XXXXXX";
	struct gmem_backing how = { .path = path, .dump = true };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd, tmp = mkstemp(path);

	cr_assert_eq(ftruncate(tmp, MIB), 0);
	cr_assert_eq(pwrite(tmp, "kept", 4, 0), 4);
	cr_assert_eq(gmem_alloc(gm, "ram", MIB, &how, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_arr_eq(host, "kept", 4);
	cr_assert_eq(gmem_alloc(gm, "ram", 2 * MIB, &how, &fd, &host, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, path), "%s", e.text);
	unlink(path);
	close(tmp);
	gmem_destroy(gm);
}

Test(gmem, alloc_mem_path_missing_directory_names_it)
{
	struct gmem_backing how = { .path = "/nonexistent/ram" };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", MIB, &how, &fd, &host, &e), -ENOENT);
	cr_assert_not_null(strstr(e.text, "/nonexistent/ram"), "%s", e.text);
	gmem_destroy(gm);
}

Test(gmem, private_memory_has_no_file)
{
	const struct gmem_backing how = { .share = false, .dump = true };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd = 0;

	cr_assert_eq(gmem_alloc(gm, "ram", 4 * MIB, &how, &fd, &host, &e), 0, "%s", e.text);
	cr_expect_eq(fd, -1);
	cr_expect_eq((uintptr_t)host % (2 * MIB), 0);
	cr_assert_eq(gmem_add_region(gm, 0, 4 * MIB, host, fd, 0, false, &e), 0, "%s", e.text);
	cr_expect_eq(gmem_write(gm, gpa(4 * MIB - 1), "x", 1), 0);
	gmem_destroy(gm);
}

Test(gmem, private_memory_is_preallocated)
{
	const struct gmem_backing how = { .prealloc = true, .dump = true };
	struct gmem *gm = gmem_create();
	struct err e = ERR_INIT;
	unsigned char in_core[16];
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", 64 * KIB, &how, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq(mincore(host, 64 * KIB, in_core), 0);
	for (size_t i = 0; i < sizeof(in_core); i++)
		cr_expect(in_core[i] & 1);
	gmem_destroy(gm);
}
