/*
 * tests/fuzz/fuzz_snapshot.c - snapshots and commits of disks that are written to,
 * whose storage fails: whatever the order, nothing is lost.
 *
 * Input: a byte of options (raw or qcow2 below, two disks, cluster size), then
 * steps of three bytes (what, where, how much). Two disks of 256 KiB get writes,
 * zeroes, flushes, snapshots of one or both with overlays, commits of some layers or of
 * all down to a base, and faults on their top nodes;
 * requests are in flight all the time, and failed ones are tried again. In the
 * end the faults go, and each disk must have what was last written to it, read
 * as it stands and once more through the chain opened anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/commit.h"
#include "block/fault.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/retry.h"
#include "block/snapshot.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define DISKS		2
#define DISK		(256u * 1024)
#define UNIT		2048u
#define UNITS		(DISK / UNIT)
#define IN_FLIGHT	8
#define DEPTH		12	/* overlays per disk, ever */
#define STEPS		200
#define END_NS		(15 * NS_PER_SEC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/var/tmp/roost-fuzz-XXXXXX";
static struct loop *loop;
static struct block_graph *g;
static uint8_t cluster_bits;

static struct disk {
	struct drive *d;
	int depth;		/* overlays on the base */
	int id[DEPTH + 1];	/* numbers of the images: base, then overlays */
	int made;		/* the highest of them */
	bool raw;
	uint8_t now[UNITS];	/* what each unit was last written with */
	bool taken[UNITS];	/* by a request in flight */
	bool fault;
} disks[DISKS];

static struct slot {
	struct block_req r;
	struct iovec iov;
	struct disk *k;
	uint32_t at, n;
	bool busy;
	uint8_t mem[16 * UNIT];
} slots[IN_FLIGHT];

/* A commit under way. */
static struct job {
	struct disk *k;
	struct commit *c;
	int from, to;		/* levels of the layers that go */
	enum commit_wish wish;
	bool cancel;
	bool begun;
	_Atomic bool all;	/* no more waiting: the input is over */
	_Atomic bool over;	/* the thread is */
	int ret;
	struct err e;
	pthread_t thread;
} jobs[DISKS];

static struct snapshot *snap;
static int moving[DISKS];	/* disks of the snapshot under way */

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static int top(const struct disk *k)
{
	return k->id[k->depth];
}

static const char *path(const struct disk *k, int id)
{
	static char buf[2][80];
	static int turn;

	turn = !turn;
	snprintf(buf[turn], sizeof(buf[0]), "%s/%d-%d", dir, (int)(k - disks), id);
	return buf[turn];
}

static const char *node(const struct disk *k, int id)
{
	static char buf[16][16];	/* as many are in use at a time */
	static int turn;

	turn = (turn + 1) % 16;
	snprintf(buf[turn], sizeof(buf[0]), "n%d-%d", (int)(k - disks), id);
	return buf[turn];
}

static void clean_up(void)
{
	for (int i = 0; i < DISKS; i++)
		for (int n = 0; n <= DEPTH; n++)
			unlink(path(&disks[i], n));
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

static void must(int r, const struct err *e)
{
	if (r) {
		fprintf(stderr, "%s\n", e->text);
		abort();
	}
}

/* ---- images ---- */

/* Number 0 is the base; others stand on the disk's top. */
static void make_image(const struct disk *k, int id)
{
	int fd = open(path(k, id), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool raw = id == 0 && k->raw;
	struct image_qcow2_opts o;
	struct block_child c = { 0 };
	struct err e = ERR_INIT;
	struct block_node *n;
	json_t *args;

	if (fd < 0 || ftruncate(fd, raw ? DISK : 0))
		abort();
	close(fd);
	if (raw)
		return;
	image_qcow2_defaults(&o);
	o.size = DISK;
	o.cluster_bits = cluster_bits;
	if (id) {
		o.backing_file = path(k, top(k));
		o.backing_format = k->depth == 0 && k->raw ? "raw" : "qcow2";
	}
	args = json_pack("{s:s,s:s}", "driver", "file", "filename", path(k, id));
	must(graph_node_create(g, args, false, &n, &e), &e);
	json_decref(args);
	must(block_attach(&c, n, "fuzz", BLOCK_PERM_READ | BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0,
			  &e), &e);
	must(image_qcow2_create(n, block_graph_wait_loop(g), &o, &e), &e);
	n->implicit = true;
	block_detach(&c);
}

/* @chain: with all that is below it. */
static void open_image(const struct disk *k, int id, bool chain)
{
	bool raw = id == 0 && k->raw;
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s,s:s,s:{s:s,s:s}}", "driver", raw ? "raw" : "qcow2",
				 "node-name", node(k, id), "file", "driver", "file",
				 "filename", path(k, id));

	if (!raw && !chain)
		json_object_set_new(args, "backing", json_null());
	must(block_node_open(g, args, NULL, &e), &e);
	json_decref(args);
}

static void open_drive(struct disk *k)
{
	struct err e = ERR_INIT;

	must(drive_open(g, node(k, top(k)), "dev", DRIVE_OPEN_WRITE, &k->d, &e), &e);
	atomic_store(&k->d->werror, DRIVE_RETRY);
	atomic_store(&k->d->rerror, DRIVE_RETRY);
	atomic_store(&k->d->retry.interval_ns, NS_PER_MS);
}

/* ---- requests ---- */

static void on_done(struct block_req *r, int ret)
{
	struct slot *s = container_of(r, struct slot, r);

	if (ret || !s->busy)
		abort();	/* retried for ever, so it does not fail; and ends once */
	for (uint32_t i = 0; s->r.op != BLOCK_FLUSH && i < s->n; i++)
		s->k->taken[s->at + i] = false;
	for (uint32_t i = 0; s->r.op == BLOCK_READ && i < s->n * UNIT; i++)
		if (s->mem[i] != s->k->now[s->at + i / UNIT])
			abort();
	s->busy = false;
}

static void request(struct disk *k, enum block_op op, uint32_t at, uint32_t n, uint8_t byte)
{
	struct slot *s = slots;

	at %= UNITS;
	n = MIN(1 + n % 16, UNITS - at);
	while (s < slots + IN_FLIGHT && s->busy)
		s++;
	if (s == slots + IN_FLIGHT)
		return;
	for (uint32_t i = 0; op != BLOCK_FLUSH && i < n; i++)
		if (k->taken[at + i])
			return;
	for (uint32_t i = 0; op != BLOCK_FLUSH && i < n; i++) {
		k->taken[at + i] = true;
		if (op != BLOCK_READ)
			k->now[at + i] = op == BLOCK_WRITE ? byte : 0;
	}
	memset(s->mem, byte, n * UNIT);
	s->k = k;
	s->at = at;
	s->n = n;
	s->busy = true;
	s->iov = (struct iovec){ s->mem, n * UNIT };
	s->r = (struct block_req){
		.op = op, .flags = byte & 1 && op == BLOCK_WRITE_ZEROES ? BLOCK_UNMAP : 0,
		.offset = op == BLOCK_FLUSH ? 0 : at * (uint64_t)UNIT,
		.bytes = op == BLOCK_FLUSH ? 0 : n * (uint64_t)UNIT,
		.iov = op <= BLOCK_WRITE ? &s->iov : NULL, .iovcnt = op <= BLOCK_WRITE,
		.done = on_done, .loop = loop,
	};
	drive_submit(k->d, &s->r);
}

static bool busy(void)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		if (slots[i].busy)
			return true;
	return false;
}

/* ---- snapshots ---- */

static void snapped(void *arg, int ret, const struct err *e)
{
	if ((ret != 0) != (e->text[0] != '\0'))
		abort();
	for (int i = 0; i < DISKS; i++) {
		if (!moving[i])
			continue;
		if (ret == 0)
			disks[i].id[++disks[i].depth] = disks[i].made;
		else	/* the old chain is in use, the overlay in nobody's */
			must(block_node_del(g, node(&disks[i], disks[i].made), NULL),
			     &(struct err){ .text = "the overlay of a failed snapshot is in use" });
		moving[i] = 0;
	}
	snap = NULL;
}

static void snapshot(uint8_t which)
{
	struct snapshot_pair p[DISKS];
	struct err e = ERR_INIT;
	int n = 0;

	for (int i = 0; i < DISKS; i++)
		if (snap || disks[i].made == DEPTH || jobs[i].c)
			return;
	for (int i = 0; i < DISKS; i++) {
		struct disk *k = &disks[i];

		moving[i] = (which & (1 << i)) != 0;
		if (!moving[i])
			continue;
		make_image(k, ++k->made);
		open_image(k, k->made, false);
		p[n++] = (struct snapshot_pair){ node(k, top(k)), node(k, k->made) };
	}
	if (n)
		must(snapshot_start(g, p, n, snapped, NULL, &snap, &e), &e);
}

/* ---- commits ---- */

static int pace(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	return 0;
}

static int failed(void *arg, bool write, int err)
{
	return err;
}

static bool stopped(void *arg)
{
	struct job *j = arg;

	return j->cancel && !atomic_load(&j->all);
}

static int ready(void *arg, uint64_t done, uint64_t all)
{
	struct job *j = arg;

	return stopped(j) ? -ECANCELED : (int)j->wish;
}

static void post(void *arg, struct loop_work *w)
{
	loop_post(loop, w);
}

static void *run_commit(void *arg)
{
	struct job *j = arg;
	struct commit_watch w = { pace, ready, failed, stopped, post, j };
	struct loop *l;

	if (loop_create(&l, "commit", LOOP_AIO_AUTO, &j->e))
		abort();
	j->ret = commit_run(j->c, l, &w, &j->e);
	loop_destroy(l);
	atomic_store(&j->over, true);
	return NULL;
}

static void begun(void *arg, int ret, const struct err *e)
{
	struct job *j = arg;

	must(ret, e);	/* nothing is in flight for long, and nobody else has the files */
	j->begun = true;
	if (pthread_create(&j->thread, NULL, run_commit, j))
		abort();
}

static void ended(void *arg, int ret, const struct err *e)
{
	struct job *j = arg;
	struct disk *k = j->k;
	bool active = j->to == k->depth;
	int gone[DEPTH + 1], n = 0;

	if (ret == 0 && (!active || j->wish == COMMIT_COMPLETE)) {
		for (int i = j->from; i <= j->to; i++)
			gone[n++] = k->id[i];
		memmove(&k->id[j->from], &k->id[j->to + 1],
			sizeof(k->id[0]) * (size_t)(k->depth - j->to));
		k->depth -= n;
	}
	commit_destroy(j->c);
	j->c = NULL;
	while (n-- > 0)	/* from the top down: each is in use by the one above it */
		must(block_node_del(g, node(k, gone[n]), NULL),
		     &(struct err){ .text = "a node that was committed is in use" });
}

/* Those whose thread is over end. */
static void reap_jobs(void)
{
	for (struct job *j = jobs; j < jobs + DISKS; j++) {
		if (!j->c || !j->begun || !atomic_load(&j->over))
			continue;
		pthread_join(j->thread, NULL);
		j->begun = false;
		commit_end(j->c, j->ret, &j->e, ended, j);
	}
}

static void commit(struct disk *k, uint8_t which, uint8_t how)
{
	static const enum commit_wish wishes[] = { COMMIT_COMPLETE, COMMIT_STOP };
	struct job *j = &jobs[k - disks];
	struct commit_opts o = { .disk = node(k, top(k)) };
	struct err e = ERR_INIT;
	int base;

	if (k->depth == 0 || j->c || (snap && moving[k - disks]))
		return;
	base = (which & 0xf) % k->depth;
	*j = (struct job){ .k = k, .from = base + 1, .e = ERR_INIT, .wish = wishes[how & 1],
			   .cancel = (how & 6) == 6,
			   .to = base + 1 + (which >> 4) % (k->depth - base) };
	o.base = node(k, k->id[base]);
	o.top = j->to == k->depth ? NULL : node(k, k->id[j->to]);
	must(commit_start(g, &o, begun, j, &j->c, &e), &e);
}

static bool committing(void)
{
	bool any = false;

	for (int i = 0; i < DISKS; i++) {
		any |= jobs[i].c != NULL;
		atomic_store(&jobs[i].all, true);
	}
	return any;
}

/* ---- steps ---- */

static void fault(struct disk *k, uint8_t how, uint8_t count)
{
	static const char *const ops[] = { "write", "read", "flush", "write+flush" };
	struct err e = ERR_INIT;
	const char *id = k == disks ? "f0" : "f1";
	char arg[160];
	json_t *args;

	if (k->fault)
		block_fault_del(g, id, NULL);
	k->fault = !k->fault;
	if (!k->fault)
		return;
	snprintf(arg, sizeof(arg), "id=%s,drive=%s,op=%s,%s,count=%d", id, node(k, top(k)),
		 ops[how % 4], how & 4 ? "latency=2" : "errno=EIO", 1 + count % 20);
	args = json_from_keyval(arg, NULL, true, "fuzz", &e);
	must(args ? block_fault_add(g, args, &e) : -1, &e);
	json_decref(args);
}

static void step(const uint8_t *p, uint8_t byte)
{
	struct disk *k = &disks[p[0] >> 7];

	switch (p[0] & 0xf) {
	case 0: case 1: case 2: case 3: case 4:
		request(k, BLOCK_WRITE, p[1], p[2], byte);
		break;
	case 5:
		request(k, BLOCK_WRITE_ZEROES, p[1], p[2], byte);
		break;
	case 6: case 7:
		request(k, BLOCK_READ, p[1], p[2], byte);
		break;
	case 8: case 9:
		request(k, BLOCK_FLUSH, 0, 0, byte);
		break;
	case 10:
		snapshot(p[1] & 3);
		break;
	case 11:
		fault(k, p[1], p[2]);
		break;
	case 12:
		commit(k, p[1], p[2]);
		break;
	case 13:	/* so that chains become long */
		for (int i = 0; i < 50 && snap; i++)
			loop_turn(loop, NS_PER_MS);
		break;
	default:
		reap_jobs();
		loop_turn(loop, p[1] & 1 ? NS_PER_MS : 0);
		break;
	}
}

/* ---- the end ---- */

static void finish(void)
{
	uint64_t end = clock_ns() + END_NS;

	for (int i = 0; i < DISKS; i++)
		if (disks[i].fault)
			fault(&disks[i], 0, 0);
	while (busy() || snap || committing()) {
		reap_jobs();
		if (clock_ns() > end)
			abort();
		loop_turn(loop, NS_PER_MS);
	}
}

static void compare(struct disk *k)
{
	static uint8_t mem[DISK];
	struct iovec iov = { mem, DISK };

	if (block_io_wait(k->d->node, block_graph_wait_loop(g), BLOCK_READ, 0, 0, &iov, 1, DISK))
		abort();
	for (uint32_t i = 0; i < DISK; i++)
		if (mem[i] != k->now[i / UNIT])
			abort();
}

static void check(const struct disk *k, int id)
{
	struct image_check c = { 0 };
	struct block_child child = { 0 };
	struct err e = ERR_INIT;

	open_image(k, id, false);
	must(block_attach(&child, block_node_find(g, node(k, id)), "fuzz", BLOCK_PERM_READ,
			  BLOCK_PERM_READ, &e), &e);
	must(image_check(child.node, block_graph_wait_loop(g), IMAGE_FIX_NONE, &c, &e), &e);
	if (c.corruptions || c.leaks)
		abort();
	block_detach(&child);
	must(block_node_del(g, node(k, id), &e), &e);
}

static void close_all(void)
{
	for (int i = 0; i < DISKS; i++)
		drive_close(disks[i].d);
	block_graph_destroy(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!loop)
		set_up();
	if (len < 1 || len > 1 + 3 * STEPS)
		return 0;
	g = block_graph_create(loop);
	cluster_bits = (uint8_t)(9 + data[0] % 8);
	for (int i = 0; i < DISKS; i++) {
		disks[i] = (struct disk){ .raw = data[0] & (0x40 << i) };
		make_image(&disks[i], 0);
		open_image(&disks[i], 0, false);
		open_drive(&disks[i]);
	}
	for (size_t i = 1; i + 3 <= len; i += 3)
		step(data + i, (uint8_t)(1 + i / 3));
	finish();
	for (int i = 0; i < DISKS; i++)
		compare(&disks[i]);
	close_all();
	g = block_graph_create(loop);
	for (int i = 0; i < DISKS; i++) {
		for (int n = disks[i].raw; n <= disks[i].depth; n++)
			check(&disks[i], disks[i].id[n]);
		open_image(&disks[i], top(&disks[i]), true);
		open_drive(&disks[i]);
		compare(&disks[i]);
	}
	close_all();
	return 0;
}
