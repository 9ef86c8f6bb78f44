/*
 * vmm/boot/elf.c - ELF kernels: vmlinux and freestanding guests.
 *
 * Spec:    System V gABI (ELF64 and ELF32 headers, PT_LOAD, PT_NOTE); Xen
 *          public/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY).
 * Threads: main loop, before the vCPUs run or while they are parked.
 * Missing: relocatable objects; 64-bit entry of 32-bit files.
 *
 * A PVH note wins: it says how the kernel wants to be entered. Without one an
 * x86-64 file is entered in 64-bit mode with a zero page, as vmlinux expects.
 * Nothing in the file is believed before it is checked against the file's
 * length and guest RAM.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* Linux has 5 program headers; a bound for hostile files. */
#define ELF_PHDRS_MAX	64
/* vmlinux has about 500 bytes of notes, with build ids and properties. */
#define ELF_NOTES_MAX	(64 * 1024u)

/* One program header, of either class. */
struct segment {
	uint32_t type;
	uint64_t offset, vaddr, paddr, filesz, memsz;
};

struct elf {
	const struct kernel_file *k;
	bool is64;
	uint16_t machine;
	uint64_t entry;
	struct segment seg[ELF_PHDRS_MAX];
	unsigned int segs;
	uint64_t end;		/* highest guest address used, exclusive */
	uint64_t pvh_entry;
	bool has_pvh;
};

static int elf_bad(const struct elf *f, struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "kernel '%s' is a damaged ELF file: %s",
		       f->k->path, why);
}

static int elf_header(struct elf *f, uint64_t *phoff, uint16_t *phentsize, struct err *e)
{
	const uint8_t *h = f->k->head;
	uint16_t type = get_le16(h + offsetof(Elf64_Ehdr, e_type));
	uint16_t phnum;

	if (h[EI_DATA] != ELFDATA2LSB ||
	    (h[EI_CLASS] != ELFCLASS64 && h[EI_CLASS] != ELFCLASS32))
		return err_set(e, -ENOEXEC, "kernel '%s' is not a little-endian ELF file",
			       f->k->path);
	f->is64 = h[EI_CLASS] == ELFCLASS64;
	f->machine = get_le16(h + offsetof(Elf64_Ehdr, e_machine));
	if (f->machine != EM_X86_64 && f->machine != EM_386)
		return err_set(e, -ENOEXEC, "kernel '%s' is for ELF machine %u; x86-64 is "
			       "needed",
			       f->k->path, f->machine);
	if (type != ET_EXEC && type != ET_DYN)
		return err_set(e, -ENOEXEC, "kernel '%s' is an ELF file of type %u, not an "
			       "executable",
			       f->k->path, type);
	if (f->is64) {
		f->entry = get_le64(h + offsetof(Elf64_Ehdr, e_entry));
		*phoff = get_le64(h + offsetof(Elf64_Ehdr, e_phoff));
		*phentsize = get_le16(h + offsetof(Elf64_Ehdr, e_phentsize));
		phnum = get_le16(h + offsetof(Elf64_Ehdr, e_phnum));
	} else {
		f->entry = get_le32(h + offsetof(Elf32_Ehdr, e_entry));
		*phoff = get_le32(h + offsetof(Elf32_Ehdr, e_phoff));
		*phentsize = get_le16(h + offsetof(Elf32_Ehdr, e_phentsize));
		phnum = get_le16(h + offsetof(Elf32_Ehdr, e_phnum));
	}
	if (*phentsize != (f->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return elf_bad(f, e, "its program headers have an odd size");
	if (phnum == 0 || phnum > ELF_PHDRS_MAX)
		return elf_bad(f, e, "it has no program headers, or more than 64");
	f->segs = phnum;
	return 0;
}

static void segment_decode(struct segment *s, const uint8_t *p, bool is64)
{
	s->type = get_le32(p);
	if (is64) {
		s->offset = get_le64(p + offsetof(Elf64_Phdr, p_offset));
		s->vaddr = get_le64(p + offsetof(Elf64_Phdr, p_vaddr));
		s->paddr = get_le64(p + offsetof(Elf64_Phdr, p_paddr));
		s->filesz = get_le64(p + offsetof(Elf64_Phdr, p_filesz));
		s->memsz = get_le64(p + offsetof(Elf64_Phdr, p_memsz));
	} else {
		s->offset = get_le32(p + offsetof(Elf32_Phdr, p_offset));
		s->vaddr = get_le32(p + offsetof(Elf32_Phdr, p_vaddr));
		s->paddr = get_le32(p + offsetof(Elf32_Phdr, p_paddr));
		s->filesz = get_le32(p + offsetof(Elf32_Phdr, p_filesz));
		s->memsz = get_le32(p + offsetof(Elf32_Phdr, p_memsz));
	}
}

static int elf_segments(struct elf *f, uint64_t phoff, uint16_t phentsize, struct err *e)
{
	uint8_t table[ELF_PHDRS_MAX * sizeof(Elf64_Phdr)];
	uint64_t len = (uint64_t)f->segs * phentsize;
	int ret;

	if (phoff > f->k->size || len > f->k->size - phoff)
		return elf_bad(f, e, "it ends before its program headers");
	ret = fd_read_full(f->k->fd, table, len, (off_t)phoff);
	if (ret < 0)
		return err_sys(e, ret, "kernel '%s' cannot be read", f->k->path);
	for (unsigned int i = 0; i < f->segs; i++)
		segment_decode(&f->seg[i], table + (size_t)i * phentsize, f->is64);
	return 0;
}

/* A note is namesz, descsz, type, then both padded to 4 bytes. */
static void notes_scan(struct elf *f, const uint8_t *p, size_t len)
{
	while (len >= 12) {
		uint32_t namesz = get_le32(p), descsz = get_le32(p + 4);
		uint32_t type = get_le32(p + 8);
		uint64_t desc = 12 + align_up(namesz, 4);
		uint64_t next = desc + align_up(descsz, 4);

		if (next > len)
			return;
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 &&
		    !memcmp(p + 12, "Xen", 4) && (descsz == 4 || descsz == 8)) {
			f->pvh_entry = get_le(p + desc, descsz);
			f->has_pvh = true;
			return;
		}
		p += next;
		len -= next;
	}
}

static int elf_notes(struct elf *f, const struct segment *s, struct err *e)
{
	uint8_t *buf;
	int ret;

	if (s->filesz > ELF_NOTES_MAX)
		return 0;	/* no kernel we know; only the note is lost */
	if (s->offset > f->k->size || s->filesz > f->k->size - s->offset)
		return elf_bad(f, e, "it ends before its notes");
	buf = malloc(s->filesz + 1);
	if (!buf)
		return err_sys(e, -ENOMEM, "kernel '%s'", f->k->path);
	ret = fd_read_full(f->k->fd, buf, s->filesz, (off_t)s->offset);
	if (ret == 0)
		notes_scan(f, buf, s->filesz);
	else
		err_sys(e, ret, "kernel '%s' cannot be read", f->k->path);
	free(buf);
	return ret;
}

static int segment_check(struct elf *f, const struct boot_info *info,
			 const struct segment *s, struct err *e)
{
	uint64_t top = info->tables_base;

	if (s->filesz > s->memsz)
		return elf_bad(f, e, "a segment is longer in the file than in memory");
	if (s->offset > f->k->size || s->filesz > f->k->size - s->offset)
		return err_set(e, -ENODATA, "kernel '%s' is truncated: a segment of %llu "
			       "bytes at %llu runs past its %llu bytes",
			       f->k->path, (unsigned long long)s->filesz,
			       (unsigned long long)s->offset,
			       (unsigned long long)f->k->size);
	if (s->paddr < BOOT_KERNEL_MIN || s->paddr >= 1ull << 32)
		return err_set(e, -ENOEXEC, "kernel '%s' wants to be loaded at 0x%llx; 1 "
			       "MiB to 4 GiB is possible",
			       f->k->path, (unsigned long long)s->paddr);
	if (s->paddr > top || s->memsz > top - s->paddr)
		return err_set(e, -ENOMEM, "kernel '%s' needs RAM up to %llu MiB, the "
			       "guest has %llu MiB; give it more memory (-m)",
			       f->k->path,
			       s->memsz > UINT64_MAX - s->paddr - MIB ? UINT64_MAX / MIB :
			       (unsigned long long)((s->paddr + s->memsz + MIB - 1) / MIB),
			       (unsigned long long)(info->ram_low_end / MIB));
	return 0;
}

static int elf_check(struct elf *f, const struct boot_info *info, struct err *e)
{
	int ret;

	for (unsigned int i = 0; i < f->segs; i++) {
		const struct segment *s = &f->seg[i];

		if (s->type == PT_NOTE && !f->has_pvh &&
		    (ret = elf_notes(f, s, e)) < 0)
			return ret;
		if (s->type != PT_LOAD || s->memsz == 0)
			continue;
		if ((ret = segment_check(f, info, s, e)) < 0)
			return ret;
		f->end = MAX(f->end, s->paddr + s->memsz);
	}
	if (f->end == 0)
		return elf_bad(f, e, "it has nothing to load");
	return 0;
}

static int elf_copy(struct elf *f, struct gmem *gm, struct err *e)
{
	for (unsigned int i = 0; i < f->segs; i++) {
		const struct segment *s = &f->seg[i];
		int ret = 0;

		if (s->type != PT_LOAD || s->memsz == 0)
			continue;
		if (s->filesz)
			ret = boot_read(gm, s->paddr, f->k->fd, s->offset,
					s->filesz, f->k->path, e);
		if (ret == 0 && s->memsz > s->filesz)
			ret = boot_zero(gm, s->paddr + s->filesz,
					s->memsz - s->filesz, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The entry as a guest physical address: some files give a virtual one. */
static int elf_entry(const struct elf *f, uint64_t addr, uint64_t *out, struct err *e)
{
	const struct segment *s;

	for (s = f->seg; s < f->seg + f->segs; s++)
		if (s->type == PT_LOAD && addr - s->paddr < s->memsz) {
			*out = addr;
			return 0;
		}
	for (s = f->seg; s < f->seg + f->segs; s++)
		if (s->type == PT_LOAD && addr - s->vaddr < s->memsz) {
			*out = addr - s->vaddr + s->paddr;
			return 0;
		}
	return err_set(e, -ENOEXEC, "kernel '%s': its entry 0x%llx is in no segment",
		       f->k->path, (unsigned long long)addr);
}

int elf_load(struct gmem *gm, const struct boot_info *info,
	     struct kernel_file *k, struct boot_state *out, struct err *e)
{
	struct elf f = { .k = k };
	struct initrd rd;
	uint64_t phoff = 0;
	uint16_t phentsize = 0;
	int ret;

	if ((ret = elf_header(&f, &phoff, &phentsize, e)) < 0 ||
	    (ret = elf_segments(&f, phoff, phentsize, e)) < 0 ||
	    (ret = elf_check(&f, info, e)) < 0)
		return ret;
	if (!f.has_pvh && !(f.is64 && f.machine == EM_X86_64))
		return err_set(e, -ENOEXEC, "kernel '%s' is a 32-bit kernel without a PVH "
			       "entry; only 64-bit ones can be started",
			       k->path);
	if ((ret = elf_entry(&f, f.has_pvh ? f.pvh_entry : f.entry, &out->entry, e)) < 0 ||
	    (ret = cmdline_write(gm, info, BOOT_CMDLINE_DEFAULT, e)) < 0 ||
	    (ret = initrd_load(gm, info, f.end, 1ull << 32, &rd, e)) < 0 ||
	    (ret = elf_copy(&f, gm, e)) < 0)
		return ret;
	return f.has_pvh ? pvh_handoff(gm, info, &rd, out, e) :
	       linux64_handoff(gm, info, NULL, 0, &rd, out, e);
}
