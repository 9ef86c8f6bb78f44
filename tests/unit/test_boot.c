/*
 * Kernel loaders: crafted images of each format, and each way a file can lie
 * about itself.
 */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/boot/boot.h"

#define RAM		(64 * MIB)
#define TABLES		(63 * MIB)
#define PREF		(16 * MIB)
#define SETUP_BYTES	(5 * 512)	/* setup_sects 4 */
#define BODY_BYTES	8192
#define BZ_BYTES	(SETUP_BYTES + BODY_BYTES)
#define ELF_BYTES	8192
#define SEG_OFF		4096
#define SEG_BYTES	4096

struct env {
	struct gmem *gm;
	uint8_t *host;
	char dir[64], kernel[128], initrd[128];
	struct boot_info info;
	struct boot_state out;
	struct err e;
	_Alignas(8) uint8_t img[16384];
};

static void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static void env_open_memory(struct env *v, bool share)
{
	const struct gmem_backing how = { .share = share, .dump = true };
	int fd;

	memset(v, 0, sizeof(*v));
	v->gm = gmem_create();
	cr_assert_eq(gmem_alloc(v->gm, "ram", RAM, &how, &fd, &v->host, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, 0, RAM, v->host, fd, 0, false, &v->e), 0);
	strcpy(v->dir, "/tmp/roost-boot-XXXXXX");
	cr_assert(mkdtemp(v->dir));
	snprintf(v->kernel, sizeof(v->kernel), "%s/kernel", v->dir);
	snprintf(v->initrd, sizeof(v->initrd), "%s/initrd", v->dir);
	v->info = (struct boot_info){
		.kernel = v->kernel, .cmdline = "console=ttyS0 root=/dev/vda",
		.map = { { 0, 0x9fc00, 1 }, { MIB, TABLES - MIB, 1 } }, .map_count = 2,
		.acpi_rsdp = 0xe0000, .ram_low_end = RAM, .tables_base = TABLES,
	};
}

static void env_open(struct env *v)
{
	env_open_memory(v, true);
}

static void env_close(struct env *v)
{
	unlink(v->kernel);
	unlink(v->initrd);
	rmdir(v->dir);
	gmem_destroy(v->gm);
}

/* A relocatable 64-bit bzImage of protocol 2.15. */
static void bz_make(struct env *v)
{
	uint8_t *p = v->img;

	memset(p, 0, sizeof(v->img));
	p[0x1f1] = 4;				/* setup_sects */
	put_le32(p + 0x1f4, BODY_BYTES / 16);	/* syssize */
	put_le16(p + 0x1fe, 0xaa55);
	p[0x201] = 0x6a;			/* the header ends at 0x26c */
	memcpy(p + 0x202, "HdrS", 4);
	put_le16(p + 0x206, 0x020f);
	p[0x211] = 1;				/* LOADED_HIGH */
	put_le32(p + 0x22c, 0x7fffffff);
	put_le32(p + 0x230, 0x200000);
	p[0x234] = 1;
	put_le16(p + 0x236, 1);			/* XLF_KERNEL_64 */
	put_le32(p + 0x238, 2047);
	put_le64(p + 0x258, PREF);
	put_le32(p + 0x260, 4 * MIB);
	memset(p + SETUP_BYTES, 0x5a, BODY_BYTES);
}

/* One PT_LOAD at 1 MiB of SEG_BYTES, one page of bss; entry 1 MiB. */
static void elf_make(struct env *v)
{
	Elf64_Ehdr *h = (Elf64_Ehdr *)v->img;
	Elf64_Phdr *ph = (Elf64_Phdr *)(v->img + sizeof(*h));

	memset(v->img, 0, sizeof(v->img));
	memcpy(h->e_ident, ELFMAG, SELFMAG);
	h->e_ident[EI_CLASS] = ELFCLASS64;
	h->e_ident[EI_DATA] = ELFDATA2LSB;
	h->e_type = ET_EXEC;
	h->e_machine = EM_X86_64;
	h->e_entry = MIB;
	h->e_phoff = sizeof(*h);
	h->e_phentsize = sizeof(*ph);
	h->e_phnum = 1;
	ph->p_type = PT_LOAD;
	ph->p_offset = SEG_OFF;
	ph->p_vaddr = 0xffffffff80000000ull;
	ph->p_paddr = MIB;
	ph->p_filesz = SEG_BYTES;
	ph->p_memsz = SEG_BYTES + 8192;
	memset(v->img + SEG_OFF, 0xa5, SEG_BYTES);
}

static Elf64_Phdr *elf_ph(struct env *v, int i)
{
	return (Elf64_Phdr *)(v->img + sizeof(Elf64_Ehdr)) + i;
}

/* A second header: a note with a PVH entry. */
static void elf_add_pvh(struct env *v, uint32_t entry)
{
	static const uint32_t note[5] = { 4, 4, 18, 0x006e6558, 0 };	/* "Xen" */
	Elf64_Phdr *ph = elf_ph(v, 1);

	((Elf64_Ehdr *)v->img)->e_phnum = 2;
	ph->p_type = PT_NOTE;
	ph->p_offset = 2048;
	ph->p_filesz = ph->p_memsz = sizeof(note);
	memcpy(v->img + 2048, note, sizeof(note));
	put_le32(v->img + 2048 + 16, entry);
}

static int load(struct env *v, size_t len)
{
	put_file(v->kernel, v->img, len);
	return boot_load(v->gm, &v->info, &v->out, &v->e);
}

/* The load fails with @ret, and the sentence has @word in it. */
static void expect_fail(struct env *v, size_t len, int ret, const char *word)
{
	cr_expect_eq(load(v, len), ret, "%s", v->e.text);
	cr_expect(strstr(v->e.text, word), "'%s' lacks '%s'", v->e.text, word);
	env_close(v);
}

/* ---- bzImage ---- */

Test(boot, bzimage_good_is_loaded_at_preferred_address)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	cr_assert_eq(load(&v, BZ_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(v.out.kind, BOOT_LINUX64);
	cr_expect_eq(v.out.entry, PREF + 0x200);
	cr_expect_eq(v.host[PREF], 0x5a);
	cr_expect_eq(v.host[PREF + BODY_BYTES - 1], 0x5a);
	cr_expect_eq(v.host[PREF + BODY_BYTES], 0);
	env_close(&v);
}

Test(boot, bzimage_good_fills_zero_page)
{
	struct env v;
	const uint8_t *zp;

	env_open(&v);
	bz_make(&v);
	cr_assert_eq(load(&v, BZ_BYTES), 0, "%s", v.e.text);
	zp = v.host + v.out.arg;
	cr_expect_eq(get_le32(zp + 0x202), 0x53726448);		/* HdrS */
	cr_expect_eq(zp[0x210], 0xff);				/* type_of_loader */
	cr_expect_eq(get_le64(zp + 0x70), 0xe0000);
	cr_expect_str_eq((const char *)v.host + get_le32(zp + 0x228), v.info.cmdline);
	cr_expect_eq(zp[0x1e8], 2);
	cr_expect_eq(get_le64(zp + 0x2d0 + 20), MIB);
	cr_expect_eq(get_le64(zp + 0x2d0 + 28), TABLES - MIB);
	cr_expect_eq(get_le32(zp + 0x218), 0);			/* no initrd */
	env_close(&v);
}

Test(boot, bzimage_page_tables_map_4_gib)
{
	struct env v;
	uint64_t pdpt, pd;

	env_open(&v);
	bz_make(&v);
	cr_assert_eq(load(&v, BZ_BYTES), 0, "%s", v.e.text);
	pdpt = get_le64(v.host + v.out.page_tables) & ~0xfffull;
	pd = get_le64(v.host + pdpt + 3 * 8) & ~0xfffull;
	cr_expect_eq(get_le64(v.host + pd + 511 * 8), (4 * GIB - 2 * MIB) | 0x83);
	cr_expect_eq(get_le64(v.host + v.out.gdt + 0x10), 0x00af9b000000ffffull);
	env_close(&v);
}

Test(boot, initrd_is_placed_below_the_tables)
{
	struct env v;
	const uint8_t *zp;
	char data[5000];

	env_open(&v);
	bz_make(&v);
	memset(data, 0x33, sizeof(data));
	put_file(v.initrd, data, sizeof(data));
	v.info.initrd = v.initrd;
	cr_assert_eq(load(&v, BZ_BYTES), 0, "%s", v.e.text);
	zp = v.host + v.out.arg;
	cr_expect_eq(get_le32(zp + 0x21c), sizeof(data));
	cr_expect_eq(get_le32(zp + 0x218), TABLES - 8192);
	cr_expect_eq(v.host[TABLES - 8192], 0x33);
	env_close(&v);
}

Test(boot, initrd_respects_initrd_addr_max)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le32(v.img + 0x22c, 32 * MIB - 1);
	put_file(v.initrd, "x", 1);
	v.info.initrd = v.initrd;
	cr_assert_eq(load(&v, BZ_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(get_le32(v.host + v.out.arg + 0x218), 32 * MIB - 4096);
	env_close(&v);
}

Test(boot, initrd_too_large_says_how_much_fits)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_file(v.initrd, "x", 1);
	cr_assert_eq(truncate(v.initrd, 100 * MIB), 0);
	v.info.initrd = v.initrd;
	expect_fail(&v, BZ_BYTES, -E2BIG, "room for 44032 KiB");
}

Test(boot, initrd_missing_is_named)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	v.info.initrd = v.initrd;
	expect_fail(&v, BZ_BYTES, -ENOENT, "initrd '/tmp/roost-boot-");
}

Test(boot, initrd_empty_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_file(v.initrd, "", 0);
	v.info.initrd = v.initrd;
	expect_fail(&v, BZ_BYTES, -ENODATA, "is empty");
}

Test(boot, cmdline_longer_than_the_kernel_takes_is_refused)
{
	static char line[3000];
	struct env v;

	env_open(&v);
	bz_make(&v);
	memset(line, 'a', 2048);
	v.info.cmdline = line;
	expect_fail(&v, BZ_BYTES, -E2BIG, "takes at most 2047");
}

Test(boot, cmdline_limit_of_hostile_header_stays_in_its_room)
{
	static char line[70000];
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le32(v.img + 0x238, UINT32_MAX);
	memset(line, 'a', 69999);
	v.info.cmdline = line;
	expect_fail(&v, BZ_BYTES, -E2BIG, "takes at most 65535");
}

Test(boot, bzimage_32bit_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le16(v.img + 0x236, 0);
	expect_fail(&v, BZ_BYTES, -ENOEXEC, "32-bit kernel");
}

Test(boot, bzimage_old_protocol_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le16(v.img + 0x206, 0x0206);
	expect_fail(&v, BZ_BYTES, -ENOEXEC, "protocol 2.06");
}

Test(boot, bzimage_truncated_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	expect_fail(&v, BZ_BYTES - 100, -ENODATA, "truncated");
}

Test(boot, bzimage_with_setup_only_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	expect_fail(&v, 1024, -ENODATA, "truncated");
}

Test(boot, bzimage_larger_than_ram_says_what_it_needs)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le32(v.img + 0x260, 100 * MIB);
	expect_fail(&v, BZ_BYTES, -ENOMEM, "needs RAM up to 116 MiB");
}

Test(boot, bzimage_init_size_at_32_bit_end_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le32(v.img + 0x260, UINT32_MAX);
	expect_fail(&v, BZ_BYTES, -ENOMEM, "needs RAM up to");
}

Test(boot, bzimage_address_below_1_mib_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le64(v.img + 0x258, 0x7000);
	expect_fail(&v, BZ_BYTES, -ENOEXEC, "0x7000 makes no sense");
}

Test(boot, bzimage_address_that_wraps_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	put_le64(v.img + 0x258, UINT64_MAX - 0x1fffff);
	expect_fail(&v, BZ_BYTES, -ENOEXEC, "makes no sense");
}

Test(boot, bzimage_header_beyond_zero_page_room_is_refused)
{
	struct env v;

	env_open(&v);
	bz_make(&v);
	v.img[0x201] = 0xff;
	expect_fail(&v, BZ_BYTES, -ENOEXEC, "setup header ends at 0x301");
}

/* ---- ELF ---- */

static void bss_test(bool share)
{
	struct env v;

	env_open_memory(&v, share);
	elf_make(&v);
	memset(v.host + MIB, 0xff, 64 * KIB);
	cr_assert_eq(load(&v, ELF_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(v.out.kind, BOOT_LINUX64);
	cr_expect_eq(v.out.entry, MIB);
	cr_expect_eq(v.host[MIB + SEG_BYTES - 1], 0xa5);
	cr_expect_eq(v.host[MIB + SEG_BYTES], 0);
	cr_expect_eq(v.host[MIB + SEG_BYTES + 8191], 0);
	cr_expect_eq(v.host[MIB + SEG_BYTES + 8192], 0xff);
	env_close(&v);
}

Test(boot, elf_good_is_loaded_and_bss_zeroed_in_shared_memory)
{
	bss_test(true);
}

Test(boot, elf_good_is_loaded_and_bss_zeroed_in_private_memory)
{
	bss_test(false);
}

Test(boot, elf_bss_of_odd_length_is_zeroed_exactly)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_filesz = 100;
	elf_ph(&v, 0)->p_memsz = 9000;
	memset(v.host + MIB, 0xff, 64 * KIB);
	cr_assert_eq(load(&v, ELF_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(v.host[MIB + 99], 0xa5);
	cr_expect_eq(v.host[MIB + 100], 0);
	cr_expect_eq(v.host[MIB + 8999], 0);
	cr_expect_eq(v.host[MIB + 9000], 0xff);
	env_close(&v);
}

Test(boot, elf_virtual_entry_is_translated)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	((Elf64_Ehdr *)v.img)->e_entry = 0xffffffff80000123ull;
	cr_assert_eq(load(&v, ELF_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(v.out.entry, MIB + 0x123);
	env_close(&v);
}

Test(boot, elf_with_pvh_note_is_entered_there)
{
	struct env v;
	const uint8_t *si;

	env_open(&v);
	elf_make(&v);
	elf_add_pvh(&v, MIB + 0x40);
	put_file(v.initrd, "abc", 3);
	v.info.initrd = v.initrd;
	cr_assert_eq(load(&v, ELF_BYTES), 0, "%s", v.e.text);
	si = v.host + v.out.arg;
	cr_expect_eq(v.out.kind, BOOT_PVH);
	cr_expect_eq(v.out.entry, MIB + 0x40);
	cr_expect_eq(get_le32(si), 0x336ec578);
	cr_expect_eq(get_le32(si + 12), 1);
	cr_expect_eq(get_le64(v.host + get_le64(si + 16) + 8), 3);
	cr_expect_str_eq((const char *)v.host + get_le64(si + 24), v.info.cmdline);
	cr_expect_eq(get_le32(si + 48), 2);
	cr_expect_eq(get_le64(v.host + get_le64(si + 40) + 24), MIB);
	env_close(&v);
}

Test(boot, elf_pvh_entry_outside_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_add_pvh(&v, 0x1000);
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "in no segment");
}

Test(boot, elf_note_with_huge_sizes_is_ignored)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_add_pvh(&v, MIB);
	put_le32(v.img + 2048, UINT32_MAX);
	put_le32(v.img + 2052, UINT32_MAX);
	cr_assert_eq(load(&v, ELF_BYTES), 0, "%s", v.e.text);
	cr_expect_eq(v.out.kind, BOOT_LINUX64);
	env_close(&v);
}

Test(boot, elf_note_beyond_the_file_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_add_pvh(&v, MIB);
	elf_ph(&v, 1)->p_offset = UINT64_MAX - 8;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "before its notes");
}

Test(boot, elf_segment_beyond_the_file_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	expect_fail(&v, ELF_BYTES - 1, -ENODATA, "truncated");
}

Test(boot, elf_segment_offset_that_wraps_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_offset = UINT64_MAX - 100;
	expect_fail(&v, ELF_BYTES, -ENODATA, "truncated");
}

Test(boot, elf_segment_in_low_memory_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_paddr = 0x7000;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "0x7000");
}

Test(boot, elf_segment_over_the_tables_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_memsz = 63 * MIB;
	expect_fail(&v, ELF_BYTES, -ENOMEM, "needs RAM up to 64 MiB");
}

Test(boot, elf_segment_size_that_wraps_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_memsz = UINT64_MAX;
	expect_fail(&v, ELF_BYTES, -ENOMEM, "needs RAM");
}

Test(boot, elf_filesz_above_memsz_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_memsz = 16;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "longer in the file");
}

Test(boot, elf_program_headers_beyond_the_file_are_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	((Elf64_Ehdr *)v.img)->e_phoff = UINT64_MAX - 10;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "before its program headers");
}

Test(boot, elf_with_too_many_program_headers_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	((Elf64_Ehdr *)v.img)->e_phnum = 65535;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "more than 64");
}

Test(boot, elf_without_segments_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	elf_ph(&v, 0)->p_type = PT_NULL;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "nothing to load");
}

Test(boot, elf_32bit_without_pvh_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	((Elf64_Ehdr *)v.img)->e_machine = EM_386;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "32-bit kernel");
}

Test(boot, elf_of_another_machine_is_refused)
{
	struct env v;

	env_open(&v);
	elf_make(&v);
	((Elf64_Ehdr *)v.img)->e_machine = EM_AARCH64;
	expect_fail(&v, ELF_BYTES, -ENOEXEC, "machine 183");
}

/* ---- files that are something else ---- */

Test(boot, missing_file_is_named)
{
	struct env v;

	env_open(&v);
	cr_expect_eq(boot_load(v.gm, &v.info, &v.out, &v.e), -ENOENT);
	cr_expect(strstr(v.e.text, v.kernel), "%s", v.e.text);
	env_close(&v);
}

Test(boot, directory_is_refused)
{
	struct env v;

	env_open(&v);
	v.info.kernel = v.dir;
	cr_expect_eq(boot_load(v.gm, &v.info, &v.out, &v.e), -EISDIR);
	cr_expect(strstr(v.e.text, "is a directory"), "%s", v.e.text);
	env_close(&v);
}

Test(boot, fifo_is_refused_without_waiting)
{
	struct env v;

	env_open(&v);
	cr_assert_eq(mkfifo(v.kernel, 0600), 0);
	cr_expect_eq(boot_load(v.gm, &v.info, &v.out, &v.e), -EINVAL);
	env_close(&v);
}

Test(boot, empty_file_is_refused)
{
	struct env v;

	env_open(&v);
	expect_fail(&v, 0, -ENOEXEC, "has only 0 bytes");
}

Test(boot, text_file_is_refused)
{
	struct env v;

	env_open(&v);
	memset(v.img, 'x', 1000);
	expect_fail(&v, 1000, -ENOEXEC, "neither a bzImage nor an ELF file");
}

Test(boot, initrd_given_as_kernel_gets_a_hint)
{
	struct env v;

	env_open(&v);
	memcpy(v.img, "070701", 6);
	expect_fail(&v, 1000, -ENOEXEC, "did you mean -initrd");
}

Test(boot, disk_given_as_kernel_gets_a_hint)
{
	struct env v;

	env_open(&v);
	put_le16(v.img + 0x1fe, 0xaa55);
	expect_fail(&v, 4096, -ENOEXEC, "did you mean -drive");
}
