/*
 * tests/fuzz/fuzz_graph.c - the block graph at work: nodes and faults come and
 * go, disks take snapshots and change their length, with requests in flight.
 *
 * Lines of the input:
 *	b ARGS		blockdev-add (key=value or JSON)
 *	x NAME		blockdev-del
 *	o NAME, s NAME	open a disk, alone or sharing; "c" closes the oldest
 *	i OPnnnn	a request to the newest disk: r w f d z, in pages; not
 *			waited for
 *	f ARGS, g ID	add and remove a fault
 *	n A B		snapshot: overlay B on node A
 *	r JSON		blockdev-reopen of one node, or of an array of them
 *	p, q		the VM stops, goes on
 *	t		the loop turns
 * File names are kept inside a directory of our own.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/fault.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/reopen.h"
#include "block/retry.h"
#include "block/snapshot.h"
#include "block/throttle.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define DISKS_MAX	8
#define IN_FLIGHT	16
#define DISK		(1u << 20)
#define NEST_MAX	20
#define END_NS		(10 * NS_PER_SEC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/var/tmp/roost-fuzz-XXXXXX";
static const char *const files[] = { "a", "b", "c", "q", "r" };
static struct loop *loop;
static struct block_graph *g;
static struct drive *disks[DISKS_MAX];
static struct snapshot *snap;
static struct reopen *again;
static struct slot {
	struct block_req r;
	struct iovec iov;
	struct drive *d;
	bool busy;
} slots[IN_FLIGHT];
static uint8_t mem[16 * 4096];

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static const char *path(const char *name)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "%s/%.60s", dir, name);
	for (char *p = buf + strlen(dir) + 1; *p; p++)
		*p = *p == '/' ? '_' : *p;
	return buf;
}

static void clean_up(void)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlink(path(files[i]));
	rmdir(dir);
	loop_destroy(loop);
}

static void set_up(void)
{
	struct err e = ERR_INIT;

	if (!mkdtemp(dir) || loop_create(&loop, "fuzz", LOOP_AIO_AUTO, &e))
		abort();
	log_set_sink(no_log, NULL);
	atexit(clean_up);
}

static void make_image(const char *name)
{
	struct image_qcow2_opts o;
	struct block_child c = { 0 };
	struct err e = ERR_INIT;
	struct block_node *n;
	json_t *args = json_pack("{s:s,s:s}", "driver", "file", "filename", path(name));

	image_qcow2_defaults(&o);
	o.size = DISK;
	if (graph_node_create(g, args, false, &n, &e) ||
	    block_attach(&c, n, "fuzz", BLOCK_PERM_READ | BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0,
			 &e) ||
	    image_qcow2_create(n, block_graph_wait_loop(g), &o, &e))
		abort();
	n->implicit = true;
	json_decref(args);
	block_detach(&c);
}

/* Every input finds the same files. */
static void make_files(void)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int fd = open(path(files[i]), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		if (fd < 0 || ftruncate(fd, i < 3 ? DISK : 0))
			abort();
		close(fd);
		if (i >= 3)
			make_image(files[i]);
	}
}

/* Group "g", for throttle nodes: some requests of an input pass, others wait. */
static void make_group(void)
{
	struct throttle_limits l = { .avg[THROTTLE_IOPS] = 1000, .max[THROTTLE_IOPS] = 1000,
				     .length[THROTTLE_IOPS] = 2 };
	struct throttle_group *group = throttle_group_get(g, "g");

	group->object = true;
	if (throttle_group_set(group, &l, "fuzz", NULL))
		abort();
}

/* Every path below our directory. */
static void confine(json_t *o, int depth)
{
	const char *key;
	json_t *val;
	void *it;

	json_object_foreach_safe(o, it, key, val) {
		if (json_is_object(val) && depth < NEST_MAX)
			confine(val, depth + 1);
		else if (json_is_object(val))
			json_object_del(o, key);
		else if (json_is_string(val) && strstr(key, "filename"))
			json_object_set_new(o, key, json_string(path(json_string_value(val))));
	}
}

/* A failure has its sentence, a success none. */
static void judge(int r, const struct err *e)
{
	if ((r != 0) != (e->text[0] != '\0'))
		abort();
}

static void add(const char *text, bool fault)
{
	struct err e = ERR_INIT;
	json_t *args = json_from_keyval(text, fault ? NULL : "driver", true, "fuzz", &e);

	if (!args)
		return;
	confine(args, 0);
	judge(fault ? block_fault_add(g, args, &e) : block_node_open(g, args, NULL, &e), &e);
	json_decref(args);
}

static int newest(void)
{
	int i = DISKS_MAX;

	while (i > 0 && !disks[i - 1])
		i--;
	return i - 1;
}

static void open_disk(const char *name, uint32_t flags)
{
	struct err e = ERR_INIT;
	int i = newest() + 1, r;

	if (i == DISKS_MAX)
		return;
	r = drive_open(g, name, "dev", flags, &disks[i], &e);
	if (r)
		disks[i] = NULL;
	judge(r, &e);
	if (r == 0) {
		atomic_store(&disks[i]->werror, DRIVE_RETRY);
		atomic_store(&disks[i]->rerror, i & 1 ? DRIVE_RETRY : DRIVE_REPORT);
	}
}

static void on_done(struct block_req *r, int ret)
{
	struct slot *s = container_of(r, struct slot, r);

	if (!s->busy)
		abort();	/* twice */
	s->busy = false;
}

static bool busy(const struct drive *d)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		if (slots[i].busy && (!d || slots[i].d == d))
			return true;
	return false;
}

static void drain(struct drive *d)
{
	uint64_t end = clock_ns() + END_NS;

	for (int i = 0; i < IN_FLIGHT; i++)
		if (slots[i].busy && slots[i].d == d)
			drive_cancel(&slots[i].r);
	while (busy(d)) {
		if (clock_ns() > end)
			abort();	/* a cancelled request does not end */
		loop_turn(loop, NS_PER_MS);
	}
}

static void close_disk(int i)
{
	if (!disks[i])
		return;
	drain(disks[i]);
	drive_close(disks[i]);
	memmove(&disks[i], &disks[i + 1], (DISKS_MAX - 1 - (size_t)i) * sizeof(disks[0]));
	disks[DISKS_MAX - 1] = NULL;
}

static void request(const char *arg)
{
	static const char ops[] = "rwfdz";
	const char *op = *arg ? strchr(ops, *arg) : NULL;
	uint64_t page = op ? strtoul(arg + 1, NULL, 10) : 0;
	struct drive *d = newest() >= 0 ? disks[newest()] : NULL;
	struct slot *s = slots;

	while (s < slots + IN_FLIGHT && s->busy)
		s++;
	if (!op || !d || s == slots + IN_FLIGHT)
		return;
	*s = (struct slot){ .d = d, .busy = true, .iov = { mem + page % 15 * 4096, 4096 } };
	s->r = (struct block_req){
		.op = (enum block_op)(op - ops), .offset = page * 4096, .bytes = 4096,
		.iov = &s->iov, .done = on_done, .loop = loop,
	};
	s->r.iovcnt = s->r.op <= BLOCK_WRITE;
	drive_submit(d, &s->r);
}

static void snapped(void *arg, int ret, const struct err *e)
{
	judge(ret, e);
	snap = NULL;
}

static void snapshot(char *arg)
{
	char *overlay = strchr(arg, ' ');
	struct snapshot_pair p = { arg, overlay ? overlay + 1 : "" };
	struct err e = ERR_INIT;

	if (snap || !overlay)
		return;
	*overlay = '\0';
	judge(snapshot_start(g, &p, 1, snapped, NULL, &snap, &e), &e);
}

static void reopened(void *arg, int ret, const struct err *e)
{
	judge(ret, e);
	again = NULL;
}

static void reopen(const char *text)
{
	json_t *opt = json_loads(text, 0, NULL), *list, *o;
	struct err e = ERR_INIT;
	size_t i;

	if (!opt || again) {
		json_decref(opt);
		return;
	}
	list = json_is_array(opt) ? opt : json_pack("[o]", opt);
	json_array_foreach(list, i, o)
		confine(o, 0);
	judge(reopen_start(g, list, reopened, NULL, &again, &e), &e);
	json_decref(list);
}

static void each_disk(void (*fn)(struct drive *d))
{
	for (int i = 0; i < DISKS_MAX && disks[i]; i++)
		fn(disks[i]);
}

static void command(char *line)
{
	char *arg = line[0] && line[1] ? line + 2 : line + strlen(line);

	switch (line[0]) {
	case 'b':
	case 'f':
		add(arg, line[0] == 'f');
		break;
	case 'x':
		block_node_del(g, arg, NULL);
		break;
	case 'g':
		block_fault_del(g, arg, NULL);
		break;
	case 'o':
		open_disk(arg, DRIVE_OPEN_MAY_WRITE);
		break;
	case 's':
		open_disk(arg, DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE);
		break;
	case 'c':
		close_disk(0);
		break;
	case 'i':
		request(arg);
		break;
	case 'n':
		snapshot(arg);
		break;
	case 'r':
		reopen(arg);
		break;
	case 'p':
		each_disk(drive_pause);
		break;
	case 'q':
		each_disk(drive_resume);
		break;
	case 't':
		loop_turn(loop, NS_PER_MS);
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
	make_files();
	make_group();
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		command(line);
	while (disks[0])
		close_disk(0);
	if (snap)
		snapshot_abort(snap);
	snap = NULL;
	if (again)
		reopen_abort(again);
	again = NULL;
	block_graph_destroy(g);
	free(text);
	return 0;
}
