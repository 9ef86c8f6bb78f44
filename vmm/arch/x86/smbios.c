/*
 * vmm/arch/x86/smbios.c - the SMBIOS tables: what dmidecode shows.
 *
 * Spec:    DMTF DSP0134 System Management BIOS 3.2: s5.2.2 (64-bit entry
 *          point), ch. 6 and 7 (structures).
 * Threads: main loop.
 * Missing: types 2, 8, 9, 11, 41; file= overrides.
 *
 * Strings and numbers of types 0, 1, 3, 4 and 17 can be overridden by
 * "-smbios type=N,key=value", with QEMU's keys.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/arch/x86/acpi.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/json.h"
#include "vmm/base/prop.h"
#include "vmm/base/util.h"

/* Behind the RSDP, on a 16-byte boundary, where operating systems search. */
#define ENTRY_AT	(X86_BIOS_LOW_BASE + 0x10000)
#define ENTRY_BYTES	24

/* One DIMM of a type 17 structure, as large as the old size field goes. */
#define DIMM_BYTES	(16 * GIB)
#define DIMMS_MAX	64u
#define STRINGS_MAX	8

#define H_BIOS		0x0000
#define H_SYSTEM	0x0100
#define H_CHASSIS	0x0300
#define H_CPU		0x0400
#define H_ARRAY		0x1000
#define H_DIMM		0x1100
#define H_MAP		0x1300
#define H_BOOT		0x2000
#define H_END		0x7f00

struct smbios {
	uint8_t *host;
	uint64_t size, used;
	bool full;
	const struct smbios_info *info;
	struct err *e;
	int ret;
	/* the structure being built */
	uint8_t *s;		/* NULL when full */
	const char *strings[STRINGS_MAX];
	unsigned int nstrings;
	unsigned int type;
};

/* ---- building one structure ---- */

static void begin(struct smbios *b, uint8_t type, uint8_t len, uint16_t handle)
{
	b->nstrings = 0;
	b->type = type;
	b->s = NULL;
	if (b->used + len > b->size) {
		b->full = true;
		return;
	}
	b->s = b->host + b->used;
	memset(b->s, 0, len);
	b->s[0] = type;
	b->s[1] = len;
	put_le16(b->s + 2, handle);
}

static void put8(struct smbios *b, unsigned int off, uint8_t v)
{
	if (b->s)
		b->s[off] = v;
}

static void put16(struct smbios *b, unsigned int off, uint16_t v)
{
	if (b->s)
		put_le16(b->s + off, v);
}

static void put32(struct smbios *b, unsigned int off, uint32_t v)
{
	if (b->s)
		put_le32(b->s + off, v);
}

static void put64(struct smbios *b, unsigned int off, uint64_t v)
{
	if (b->s)
		put_le64(b->s + off, v);
}

/* The last value given for @key of this type, or NULL. */
static const char *override(const struct smbios *b, const char *key)
{
	const char *found = NULL;
	const json_t *o;
	size_t i;

	json_array_foreach(b->info->overrides, i, o) {
		const json_t *t = json_object_get(o, "type");
		long type = json_is_integer(t) ? (long)json_integer_value(t) :
			    strtol(json_is_string(t) ? json_string_value(t) : "-1", NULL, 0);

		if (type == (long)b->type)
			found = json_str(o, key, found);
	}
	return found;
}

/* Put string @key (or @def) into byte @off; no string is number 0. */
static void put_string(struct smbios *b, unsigned int off, const char *key, const char *def)
{
	const char *s = key ? override(b, key) : NULL;

	s = s ? s : def;
	if (!s || !*s || b->nstrings == STRINGS_MAX)
		return;
	b->strings[b->nstrings++] = s;
	put8(b, off, (uint8_t)b->nstrings);
}

/* Strings follow the fixed part; two zero bytes end the structure. */
static void end(struct smbios *b)
{
	uint64_t at = b->used + (b->s ? b->s[1] : 0);

	for (unsigned int i = 0; b->s && i < b->nstrings; i++) {
		size_t len = strlen(b->strings[i]) + 1;

		if (at + len > b->size) {
			b->full = true;
			return;
		}
		memcpy(b->host + at, b->strings[i], len);
		at += len;
	}
	if (!b->s || at + 2 > b->size) {
		b->full = true;
		return;
	}
	b->host[at++] = 0;
	if (b->nstrings == 0)
		b->host[at++] = 0;
	b->used = at;
}

/* ---- the structures ---- */

static void bios(struct smbios *b)
{
	const char *release;
	unsigned int major = 0, minor = 0;

	begin(b, 0, 0x1a, H_BIOS);
	put_string(b, 0x04, "vendor", "roost");
	put_string(b, 0x05, "version", ROOST_VERSION);
	put16(b, 0x06, 0xe000);			/* segment */
	put_string(b, 0x08, "date", "01/01/2024");
	put64(b, 0x0a, BIT(3));			/* characteristics: not supported */
	put8(b, 0x12, 0x00);
	put8(b, 0x13, BIT(4));			/* a virtual machine */
	release = override(b, "release");
	if (release && sscanf(release, "%u.%u", &major, &minor) != 2)
		b->ret = err_set(b->e, -EINVAL, "-smbios type=0,release=%s: must be MAJOR.MINOR",
				 release);
	put8(b, 0x14, (uint8_t)major);
	put8(b, 0x15, (uint8_t)minor);
	put8(b, 0x16, 0xff);			/* no embedded controller */
	put8(b, 0x17, 0xff);
	end(b);
}

/* "8-4-4-4-12" hexadecimal digits. */
static bool parse_uuid(const char *s, uint8_t out[16])
{
	for (int i = 0; i < 16; i++) {
		unsigned int v;
		int n = 0;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *s++ != '-')
			return false;
		if (sscanf(s, "%2x%n", &v, &n) != 1 || n != 2)
			return false;
		out[i] = (uint8_t)v;
		s += 2;
	}
	return *s == '\0';
}

/* The first three fields are little-endian (7.2.1). */
static void put_uuid(struct smbios *b, unsigned int off, const uint8_t u[16])
{
	static const uint8_t order[16] = {
		3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15,
	};

	for (unsigned int i = 0; i < 16; i++)
		put8(b, off + i, u[order[i]]);
}

static void system_info(struct smbios *b)
{
	const char *text;
	uint8_t uuid[16];

	begin(b, 1, 0x1b, H_SYSTEM);
	put_string(b, 0x04, "manufacturer", "roost");
	put_string(b, 0x05, "product", "q35");
	put_string(b, 0x06, "version", ROOST_VERSION);
	put_string(b, 0x07, "serial", NULL);
	text = override(b, "uuid");
	if (text && parse_uuid(text, uuid))
		put_uuid(b, 0x08, uuid);
	else if (text)
		b->ret = err_set(b->e, -EINVAL, "-smbios type=1,uuid=%s: not a UUID", text);
	else if (b->info->uuid)
		put_uuid(b, 0x08, b->info->uuid);
	put8(b, 0x18, 6);			/* wake-up: power switch */
	put_string(b, 0x19, "sku", NULL);
	put_string(b, 0x1a, "family", NULL);
	end(b);
}

static void chassis(struct smbios *b)
{
	begin(b, 3, 0x16, H_CHASSIS);
	put_string(b, 0x04, "manufacturer", "roost");
	put8(b, 0x05, 1);			/* other */
	put_string(b, 0x06, "version", ROOST_VERSION);
	put_string(b, 0x07, "serial", NULL);
	put_string(b, 0x08, "asset", NULL);
	put8(b, 0x09, 3);			/* states: safe */
	put8(b, 0x0a, 3);
	put8(b, 0x0b, 3);
	put8(b, 0x0c, 2);			/* security: unknown */
	put_string(b, 0x15, "sku", NULL);
	end(b);
}

static void cpu(struct smbios *b, uint32_t socket)
{
	const struct x86_topology *t = b->info->topo;
	uint32_t cores = t->dies * t->cores, threads = cores * t->threads;
	char name[32];

	snprintf(name, sizeof(name), "CPU %u", socket);
	begin(b, 4, 0x30, (uint16_t)(H_CPU + socket));
	put_string(b, 0x04, NULL, name);
	put8(b, 0x05, 3);			/* central processor */
	put8(b, 0x06, 1);			/* family: other */
	put_string(b, 0x07, "manufacturer", "roost");
	put_string(b, 0x10, "version", ROOST_VERSION);
	put16(b, 0x14, 2000);			/* MHz; nobody can know */
	put16(b, 0x16, 2000);
	put8(b, 0x18, 0x41);			/* populated, enabled */
	put8(b, 0x19, 1);			/* socket: other */
	put16(b, 0x1a, 0xffff);			/* no cache handles */
	put16(b, 0x1c, 0xffff);
	put16(b, 0x1e, 0xffff);
	put_string(b, 0x20, "serial", NULL);
	put_string(b, 0x21, "asset", NULL);
	put_string(b, 0x22, "part", NULL);
	put8(b, 0x23, (uint8_t)MIN(cores, 255u));
	put8(b, 0x24, (uint8_t)MIN(cores, 255u));
	put8(b, 0x25, (uint8_t)MIN(threads, 255u));
	put16(b, 0x26, BIT(2));			/* 64-bit */
	put16(b, 0x28, 1);
	put16(b, 0x2a, (uint16_t)cores);
	put16(b, 0x2c, (uint16_t)cores);
	put16(b, 0x2e, (uint16_t)threads);
	end(b);
}

static uint32_t dimms(const struct smbios *b)
{
	uint64_t n = (b->info->ram_bytes + DIMM_BYTES - 1) / DIMM_BYTES;

	return (uint32_t)MIN(MAX(n, (uint64_t)1), (uint64_t)DIMMS_MAX);
}

static void memory_array(struct smbios *b)
{
	begin(b, 16, 0x17, H_ARRAY);
	put8(b, 0x04, 1);			/* location: other */
	put8(b, 0x05, 3);			/* system memory */
	put8(b, 0x06, 6);			/* multi-bit ECC */
	put32(b, 0x07, 0x80000000);		/* see the extended capacity */
	put16(b, 0x0b, 0xfffe);			/* no error information */
	put16(b, 0x0d, (uint16_t)dimms(b));
	put64(b, 0x0f, b->info->ram_bytes);
	end(b);
}

static void dimm(struct smbios *b, uint32_t i)
{
	uint64_t before = i * DIMM_BYTES, size = b->info->ram_bytes - before;
	char name[32];

	/* What does not fit DIMMS_MAX pieces is in the last. */
	if (i + 1 < dimms(b))
		size = DIMM_BYTES;
	snprintf(name, sizeof(name), "DIMM %u", i);
	begin(b, 17, 0x28, (uint16_t)(H_DIMM + i));
	put16(b, 0x04, H_ARRAY);
	put16(b, 0x06, 0xfffe);
	put16(b, 0x08, 0xffff);			/* widths unknown */
	put16(b, 0x0a, 0xffff);
	if (size / MIB >= 0x7fff) {
		put16(b, 0x0c, 0x7fff);
		put32(b, 0x1c, (uint32_t)(size / MIB) & 0x7fffffff);
	} else {
		put16(b, 0x0c, (uint16_t)(size / MIB));
	}
	put8(b, 0x0e, 9);			/* form factor: DIMM */
	put_string(b, 0x10, NULL, name);
	put_string(b, 0x11, "bank", NULL);
	put8(b, 0x12, 7);			/* type: RAM */
	put16(b, 0x13, BIT(1));			/* other */
	put_string(b, 0x17, "manufacturer", "roost");
	put_string(b, 0x18, "serial", NULL);
	put_string(b, 0x19, "asset", NULL);
	put_string(b, 0x1a, "part", NULL);
	end(b);
}

static void memory_map(struct smbios *b, uint16_t n, uint64_t base, uint64_t size)
{
	begin(b, 19, 0x1f, (uint16_t)(H_MAP + n));
	put32(b, 0x04, 0xffffffff);		/* see the extended addresses */
	put32(b, 0x08, 0xffffffff);
	put16(b, 0x0c, H_ARRAY);
	put8(b, 0x0e, 1);
	put64(b, 0x0f, base);
	put64(b, 0x17, base + size - 1);
	end(b);
}

static void memory(struct smbios *b)
{
	uint64_t low = MIN(b->info->ram_bytes, (uint64_t)X86_RAM_LOW_MAX);

	memory_array(b);
	for (uint32_t i = 0; i < dimms(b); i++)
		dimm(b, i);
	memory_map(b, 0, 0, low);
	if (b->info->ram_bytes > low)
		memory_map(b, 1, X86_RAM_HIGH_BASE, b->info->ram_bytes - low);
}

static void boot_status_and_end(struct smbios *b)
{
	begin(b, 32, 0x0b, H_BOOT);		/* status 0: no errors */
	end(b);
	begin(b, 127, 4, H_END);
	end(b);
}

static int entry_write(struct gmem *gm, uint64_t table, uint64_t len)
{
	uint8_t p[ENTRY_BYTES] = { 0 };

	memcpy(p, "_SM3_", 5);
	p[6] = sizeof(p);
	p[7] = 3;			/* version 3.2 */
	p[8] = 2;
	p[10] = 1;			/* revision of this entry point */
	put_le32(p + 12, (uint32_t)len);
	put_le64(p + 16, table);
	p[5] = acpi_checksum(p, sizeof(p));
	return gmem_write(gm, gpa(ENTRY_AT), p, sizeof(p));
}

int smbios_build(struct gmem *gm, const struct smbios_info *s, uint64_t base,
		 uint64_t space, struct err *e)
{
	struct smbios b = {
		.host = gmem_ptr(gm, gpa(base), space, true), .size = space,
		.info = s, .e = e,
	};

	if (!b.host)
		return err_set(e, -EFAULT, "the SMBIOS tables at 0x%llx are not in RAM",
			       (unsigned long long)base);
	bios(&b);
	system_info(&b);
	chassis(&b);
	for (uint32_t i = 0; i < s->topo->sockets; i++)
		cpu(&b, i);
	memory(&b);
	boot_status_and_end(&b);
	if (b.ret < 0)
		return b.ret;
	if (b.full)
		return err_set(e, -ENOSPC, "the SMBIOS tables do not fit into %llu bytes",
			       (unsigned long long)space);
	return entry_write(gm, base, b.used) < 0 ?
	       err_set(e, -EFAULT, "the SMBIOS entry point is not in RAM") : 0;
}
