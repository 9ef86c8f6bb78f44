/*
 * tests/fuzz/fuzz_blockdev_args.c - the block graph under any sequence of
 * -blockdev, -drive, blockdev-del and device opens.
 *
 * Lines of the input: "b ARGS" and "d ARGS" add (key=value or JSON), "x NAME"
 * deletes a node, "o NAME" and "s NAME" open a disk, alone or sharing, "c"
 * closes the first one opened, "r" reads a sector of it. File names are kept
 * inside a directory of our own: a fuzzer that may open anything would find
 * /dev/watchdog.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define DISKS_MAX	8
#define NEST_MAX	20

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/var/tmp/roost-fuzz-XXXXXX";
static const char *const files[] = { "a", "b", "c", "empty", "odd", "q" };
static struct loop *loop;
static struct block_graph *g;
static struct drive *disks[DISKS_MAX];

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void make_file(const char *name, off_t bytes, const char *head)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, bytes) || pwrite(fd, head, strlen(head), 0) < 0)
		abort();
	close(fd);
}

static void clean_up(void)
{
	char path[64];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
	loop_destroy(loop);
}

static void set_up(void)
{
	struct err e = ERR_INIT;

	if (!mkdtemp(dir) || loop_create(&loop, "fuzz", LOOP_AIO_AUTO, &e))
		abort();
	log_set_sink(no_log, NULL);
	for (size_t i = 0; i < 3; i++)
		make_file(files[i], 65536, "");
	make_file("empty", 0, "");
	make_file("odd", 1000, "");
	make_file("q", 65536, "QFI\xfb");
	atexit(clean_up);
}

/* Every path below our directory. */
static void confine(json_t *o, bool drive, int depth)
{
	char path[128], *p;
	const char *key;
	json_t *val;
	void *it;

	json_object_foreach_safe(o, it, key, val) {
		if (json_is_object(val) && depth < NEST_MAX)
			confine(val, drive, depth + 1);
		else if (json_is_object(val))
			json_object_del(o, key);
		else if (json_is_string(val) && (strstr(key, "filename") ||
						 (drive && strstr(key, "file")))) {
			snprintf(path, sizeof(path), "%s/%.60s", dir, json_string_value(val));
			for (p = path + strlen(dir) + 1; *p; p++)
				*p = *p == '/' ? '_' : *p;
			json_object_set_new(o, key, json_string(path));
		}
	}
}

static void add(const char *text, bool drive)
{
	struct err e = ERR_INIT;
	json_t *args = json_from_keyval(text, drive ? NULL : "driver", !drive, "fuzz", &e);
	int r;

	if (!args)
		return;
	confine(args, drive, 0);
	r = drive ? block_drive_add(g, args, &e) : block_node_open(g, args, NULL, &e);
	/* A failure has its sentence, a success none. */
	if ((r != 0) != (e.text[0] != '\0'))
		abort();
	json_decref(args);
}

static void open_disk(const char *name, uint32_t flags)
{
	struct err e = ERR_INIT;
	int i, r;

	for (i = 0; i < DISKS_MAX && disks[i]; i++)
		;
	if (i == DISKS_MAX)
		return;
	r = drive_open(g, name, "dev", flags, &disks[i], &e);
	if (r)
		disks[i] = NULL;
	if ((r != 0) != (e.text[0] != '\0'))
		abort();
}

static void on_done(struct block_req *r, int ret)
{
	r->loop = NULL;
}

static void read_sector(void)
{
	static uint8_t buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	struct block_req r = { .op = BLOCK_READ, .bytes = 512, .iov = &iov, .iovcnt = 1,
			       .done = on_done, .loop = loop };

	if (!disks[0])
		return;
	drive_submit(disks[0], &r);
	while (r.loop)
		loop_turn(loop, NS_PER_SEC);
}

static void command(const char *line)
{
	struct err e = ERR_INIT;
	const char *arg = line[0] && line[1] ? line + 2 : "";

	switch (line[0]) {
	case 'b':
	case 'd':
		add(arg, line[0] == 'd');
		break;
	case 'x':
		block_node_del(g, arg, &e);
		break;
	case 'o':
		open_disk(arg, DRIVE_OPEN_MAY_WRITE);
		break;
	case 's':
		open_disk(arg, DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE);
		break;
	case 'c':
		drive_close(disks[0]);
		memmove(disks, disks + 1, sizeof(disks) - sizeof(disks[0]));
		disks[DISKS_MAX - 1] = NULL;
		break;
	case 'r':
		read_sector();
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text, *line, *save = NULL;

	if (!loop)
		set_up();
	if (len > 4096)
		return 0;
	text = strndup((const char *)data, len);
	g = block_graph_create(loop);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		command(line);
	for (int i = 0; i < DISKS_MAX; i++) {
		drive_close(disks[i]);
		disks[i] = NULL;
	}
	block_graph_destroy(g);
	free(text);
	return 0;
}
