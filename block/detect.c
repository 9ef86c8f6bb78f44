/*
 * block/detect.c - is this raw disk really an image of another format?
 *
 * Asked only where no format was given, to refuse: a guest can write any
 * signature into a raw disk, so no format is ever chosen by looking (TARGETS
 * "Nothing lost" 6, CVE-2026-27211).
 *
 * Threads: main loop.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "block/graph.h"
#include "vmm/base/util.h"

static const struct {
	const char *name;
	unsigned int off;
	unsigned int len;
	const char *bytes;
} signatures[] = {
	{ "qcow2", 0, 4, "QFI\xfb" },
	{ "qed", 0, 4, "QED\0" },
	{ "vmdk", 0, 4, "KDMV" },
	{ "vmdk", 0, 21, "# Disk DescriptorFile" },
	{ "vhdx", 0, 8, "vhdxfile" },
	{ "vpc", 0, 8, "conectix" },
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
	{ "dmg", 0, 4, "koly" },
	{ "gzip", 0, 3, "\x1f\x8b\x08" },
	{ "xz", 0, 6, "\xfd" "7zXZ\0" },
	{ "zstd", 0, 4, "\x28\xb5\x2f\xfd" },
};

const char *graph_detect_format(const char *file)
{
	char head[128] = { 0 };
	const char *hit = NULL;
	ssize_t n;
	int fd;

	/* Not O_NONBLOCK on a FIFO's account: the node was opened before. */
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	n = pread(fd, head, sizeof(head), 0);
	for (size_t i = 0; n > 0 && !hit && i < ARRAY_LEN(signatures); i++)
		if (memcmp(head + signatures[i].off, signatures[i].bytes, signatures[i].len) == 0)
			hit = signatures[i].name;
	close(fd);
	return hit;
}
