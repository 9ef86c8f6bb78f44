/*
 * A kernel file chosen by an enemy: whatever it says, the loader reads inside
 * the file and writes inside guest memory, between 1 MiB and the tables.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/boot/boot.h"

#define RAM	(32 * MIB)
#define TABLES	(31 * MIB)
#define MARK	0xc5

static struct gmem *gm;
static uint8_t *host;
static int file;
static char path[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(void)
{
	struct err e = ERR_INIT;
	int fd;

	gm = gmem_create();
	if (gmem_alloc(gm, "ram", RAM, NULL, &fd, &host, &e) < 0 ||
	    gmem_add_region(gm, 0, RAM, host, fd, 0, false, &e) < 0)
		abort();
	file = memfd_create("kernel", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	memset(host + TABLES, MARK, MIB);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_info info = {
		.kernel = path, .cmdline = "console=ttyS0",
		.map = { { 0, 0x9fc00, 1 }, { MIB, TABLES - MIB, 1 } }, .map_count = 2,
		.ram_low_end = RAM, .tables_base = TABLES,
	};
	struct boot_state out;
	struct err e = ERR_INIT;
	int ret;

	if (!gm)
		set_up();
	if (ftruncate(file, 0) < 0 || pwrite(file, data, size, 0) != (ssize_t)size)
		abort();
	/* The first byte also decides whether the file is its own initrd. */
	if (size && (data[size - 1] & 1))
		info.initrd = path;
	ret = boot_load(gm, &info, &out, &e);
	assert((ret < 0) == (e.text[0] != '\0'));
	assert(ret < 0 || (out.entry >= MIB && out.entry < TABLES));
	for (size_t i = 0; i < MIB; i += 4096)
		assert(host[TABLES + i] == MARK);
	return 0;
}
