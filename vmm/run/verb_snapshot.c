/*
 * vmm/run/verb_snapshot.c - `roost snapshot`: external snapshots of a running VM's
 * disks; create and list.
 *
 * Threads: the only one of the process.
 * Missing: nothing known.
 *
 * Nothing is recorded: a snapshot is the file that the guest's writes go to since
 * then, and the chains of the running VM are the list of them. Its name is in the
 * file's: root.monday.qcow2 on root.raw is "monday".
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/agent.h"
#include "vmm/run/snapshot.h"
#include "vmm/run/table.h"

#define EXTENSION	".qcow2"

/* ---- words ---- */

static int usage(struct verb_call *c, const char *why, const char *word, struct err *e)
{
	c->exit = VERB_USAGE;
	return err_set(e, -EINVAL, "snapshot: %s%s; usage: roost snapshot %s", why, word,
		       c->verb->args);
}

/* [SNAPSHOT] [--disk DISK[=FILE]]... [--atomic] [--quiesce] [--agent SOCKET] */
static int parse(struct snap *s, bool new, struct err *e)
{
	struct verb_call *c = s->c;

	for (int i = 2; i < c->argc; i++) {
		const char *word = c->argv[i];

		if (strcmp(word, "--atomic") == 0)
			continue;	/* always all or none */
		if (new && strcmp(word, "--quiesce") == 0)
			s->quiesce = true;
		else if (new && strcmp(word, "--agent") == 0 && c->argv[i + 1])
			s->agent = c->argv[++i];
		else if (strcmp(word, "--disk") == 0 && c->argv[i + 1])
			s->disk[s->disks++] = c->argv[++i];
		else if (strncmp(word, "--disk=", 7) == 0)
			s->disk[s->disks++] = c->argv[i] + 7;
		else if (*word == '-' || s->name)
			return usage(c, "it has no use for ", word, e);
		else
			s->name = word;
	}
	if (s->name && (strchr(s->name, '/') || strchr(s->name, '.') || !*s->name))
		return usage(c, "the name goes into file names, so it has neither / nor .: ",
			     s->name, e);
	if (!new && !s->name)
		return usage(c, "the snapshot's name", "", e);
	if (!s->name) {
		snprintf(s->made_up, sizeof(s->made_up), "%lld", (long long)time(NULL));
		s->name = s->made_up;
	}
	return 0;
}

/* ---- disks ---- */

/* "disk0" of ".../peripheral/disk0/virtio-backend", into @buf. */
static const char *device_id(const json_t *b, char *buf, size_t len)
{
	const char *qdev = json_str(b, "qdev", ""), *tail = strstr(qdev, "/peripheral/");

	snprintf(buf, len, "%s", tail ? tail + strlen("/peripheral/") : "");
	buf[strcspn(buf, "/")] = '\0';
	return buf;
}

const char *snap_disk_name(const json_t *b, char *buf, size_t len)
{
	const char *drive = json_str(b, "device", "");

	if (*device_id(b, buf, len))
		return buf;
	return *drive ? drive : json_str(json_object_get(b, "inserted"), "node-name", "-");
}

/* Is @b the disk that @word, up to a '=', names: by device, drive or node? */
static bool is_named(const json_t *b, const char *word)
{
	const char *names[] = {
		json_str(b, "device", ""),
		json_str(json_object_get(b, "inserted"), "node-name", ""), ""
	};
	size_t len = strcspn(word, "=");
	char id[128];

	names[2] = device_id(b, id, sizeof(id));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (len && strlen(names[i]) == len && strncmp(names[i], word, len) == 0)
			return true;
	return false;
}

bool snap_is_wanted(const struct snap *s, const json_t *b)
{
	bool hit = !s->disks;

	for (int i = 0; i < s->disks && !hit; i++)
		hit = is_named(b, s->disk[i]);
	return hit;
}

/* ---- create ---- */

/* Beside the disk's present file, without its extension and the name of the last
 * snapshot. */
static char *default_file(const char *now, const char *name)
{
	size_t len = strlen(now), ext = strlen(EXTENSION);
	const char *slash = strrchr(now, '/'), *dot;
	bool overlay = len > ext && strcmp(now + len - ext, EXTENSION) == 0;
	char *stem = xstrdup(now), *file;

	for (int cuts = overlay ? 2 : 1; cuts > 0; cuts--) {
		dot = strrchr(stem, '.');
		if (dot && dot - stem > (slash ? slash - now + 1 : 0))
			stem[dot - stem] = '\0';
	}
	file = xasprintf("%s.%s" EXTENSION, stem, name);
	free(stem);
	return file;
}

/* The VM's folder is another one: a whole path. NULL: no such folder. */
static char *whole_path(const char *file)
{
	const char *slash = strrchr(file, '/');
	char *dir = xasprintf("%.*s", slash ? (int)(slash - file + 1) : 2, slash ? file : "./");
	char *real = realpath(dir, NULL), *path = NULL;

	if (real)
		path = xasprintf("%s/%s", strcmp(real, "/") ? real : "", slash ? slash + 1 : file);
	free(real);
	free(dir);
	return path;
}

static int add_overlay(struct snap *s, const json_t *b, const char *word, struct err *e)
{
	json_t *ins = json_object_get(b, "inserted");
	const char *eq = word ? strchr(word, '=') : NULL;
	struct snap_overlay *o = &s->overlay[s->overlays];
	char *file;

	if (s->overlays == SNAP_DISKS_MAX)
		return err_set(e, -E2BIG, "snapshot: %d disks at a time; name them with --disk",
			       SNAP_DISKS_MAX);
	file = eq ? whole_path(eq + 1) : default_file(json_str(ins, "file", "disk"), s->name);
	if (!file)
		return err_sys(e, -errno, "snapshot: %s: its folder", eq + 1);
	*o = (struct snap_overlay){ .disk = ins, .below = ins, .file = file };
	snprintf(o->node, sizeof(o->node), "s%llx-%d", (unsigned long long)clock_ns(), s->overlays);
	s->overlays++;
	return 0;
}

/* Those that were named, else all that the guest can write to. */
static int choose_disks(struct snap *s, json_t *list, struct err *e)
{
	json_t *b, *ins;
	size_t i;
	int r = 0, found;

	if (!s->disks)
		json_array_foreach(list, i, b) {
			ins = json_object_get(b, "inserted");
			if (r == 0 && ins && !json_is_true(json_object_get(ins, "ro")))
				r = add_overlay(s, b, NULL, e);
		}
	for (int k = 0; k < s->disks && r == 0; k++) {
		found = s->overlays;
		json_array_foreach(list, i, b)
			if (r == 0 && is_named(b, s->disk[k]))
				r = add_overlay(s, b, s->disk[k], e);
		if (r == 0 && s->overlays == found)
			r = err_set(e, -ENOENT, "%s has no disk '%.*s'; roost disks %s lists them",
				    s->vm, (int)strcspn(s->disk[k], "="), s->disk[k], s->vm);
	}
	if (r == 0 && !s->overlays)
		r = err_set(e, -ENOENT, "%s has no disk that it writes to", s->vm);
	return r;
}

static int sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* The file and its folder's entry are durable before the VM hears of it. */
static int sync_file(const char *file)
{
	char *dir = xasprintf("%.*s", (int)(strrchr(file, '/') - file + 1), file);
	int r = sync_path(file, O_RDWR);

	if (r == 0)
		r = sync_path(dir, O_RDONLY | O_DIRECTORY);
	free(dir);
	return r;
}

/* An empty image on the disk's present file, never in place of another file. */
static int make_image(struct snap_overlay *o, struct err *e)
{
	json_t *image = json_object_get(o->disk, "image");
	char *full = realpath(json_str(o->below, "file", ""), NULL), size[24];
	char *words[] = { "create", "-q", "-u", "-f", "qcow2", "-b", full, "-F",
			  (char *)(uintptr_t)json_str(o->below, "drv", "raw"), o->file, size };
	struct verb_call img = { .argc = ARRAY_LEN(words), .argv = words };
	int fd = full ? open(o->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1, r;

	o->made = fd >= 0;
	if (fd < 0) {
		r = err_sys(e, -errno, "snapshot: cannot create %s", o->file);
	} else {
		close(fd);
		snprintf(size, sizeof(size), "%lld", (long long)json_integer_value(
			 json_object_get(image, "virtual-size")));
		r = verb_img(&img, e);
		if (r == 0)
			r = sync_file(o->file);
		if (r && !err_is_set(e))
			err_sys(e, r, "snapshot: %s", o->file);
	}
	free(full);
	return r;
}

static int add_node(struct snap *s, struct snap_overlay *o, struct err *e)
{
	json_t *cache = json_object_get(o->disk, "cache");
	int r = qmpc_run(s->q, "blockdev-add",
			 json_pack("{s:s, s:s, s:n, s:{s:b, s:b}, s:{s:s, s:s}}", "driver", "qcow2",
				   "node-name", o->node, "backing", "cache", "direct",
				   json_is_true(json_object_get(cache, "direct")), "no-flush",
				   json_is_true(json_object_get(cache, "no-flush")), "file",
				   "driver", "file", "filename", o->file), NULL, e);

	o->added = r == 0;
	return r;
}

/* All disks in one transaction. */
int snap_switch(struct snap *s, struct err *e)
{
	json_t *actions = json_array();

	for (int i = 0; i < s->overlays; i++)
		json_array_append_new(actions, json_pack("{s:s, s:{s:s, s:s}}", "type",
				      "blockdev-snapshot", "data", "node",
				      json_str(s->overlay[i].disk, "node-name", ""), "overlay",
				      s->overlay[i].node));
	return qmpc_run(s->q, "transaction", json_pack("{s:o}", "actions", actions), NULL, e);
}

/* The disks keep their chains: what was made for them goes. */
void snap_undo(struct snap *s)
{
	for (int i = 0; i < s->overlays; i++) {
		struct snap_overlay *o = &s->overlay[i];

		if (o->added)
			qmpc_run(s->q, "blockdev-del", json_pack("{s:s}", "node-name", o->node),
				 NULL, NULL);
		if (o->made)
			unlink(o->file);
	}
}

int snap_make(struct snap *s, struct snap_overlay *o, struct err *e)
{
	int r = make_image(o, e);

	return r ? r : add_node(s, o, e);
}

/* ---- quiesce ---- */

#define FREEZE_MS	20000	/* to write what the guest has in memory */
#define THAW_MS		10000

/* The guest's file systems hold still; *@a is for thaw(). */
static int freeze(struct snap *s, struct agent **a, struct err *e)
{
	json_int_t n = 0;
	char *path = NULL;
	int r = 0;

	if (s->agent)
		path = xstrdup(s->agent);
	else
		r = agent_socket(s->q, s->vm, &path, e);
	if (r == 0)
		r = agent_open(a, s->vm, path, e);
	free(path);
	if (r == 0)
		r = agent_run(*a, "guest-fsfreeze-freeze", FREEZE_MS, &n, e);
	return r;
}

/* Also where freezing failed half-way, or nobody knows whether it did. */
static int thaw(struct agent *a, struct err *e)
{
	json_int_t n = 0;

	return agent_run(a, "guest-fsfreeze-thaw", THAW_MS, &n, e);
}

/* The switch, with the guest's file systems whole in what is frozen. */
static int switch_quiesced(struct snap *s, struct err *e)
{
	struct err late = ERR_INIT;
	struct agent *a = NULL;
	sigset_t ends, old;
	int r;

	/* Ended half-way we would leave the guest frozen. All of it has a time limit. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, &old);
	r = freeze(s, &a, e);
	if (r == 0)
		r = snap_switch(s, e);
	if (a && thaw(a, &late) < 0)
		fprintf(stderr, "roost: warning: %s; thaw the guest's file systems with fsfreeze -u\n",
			late.text);
	agent_close(a);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

static int create(struct snap *s, struct err *e)
{
	int r = choose_disks(s, s->list, e);

	for (int i = 0; i < s->overlays && r == 0; i++)
		r = snap_make(s, &s->overlay[i], e);
	if (r == 0)
		r = s->quiesce || s->agent ? switch_quiesced(s, e) : snap_switch(s, e);
	/* Without an answer nobody knows whether the guest writes there by now. */
	if (r && r != -ETIMEDOUT && r != -EPIPE)
		snap_undo(s);
	if (r == 0)
		printf("%s: snapshot %s created\n", s->vm, s->name);
	for (int i = 0; i < s->overlays && r == 0; i++)
		printf("%s\n", s->overlay[i].file);
	return r;
}

/* ---- list ---- */

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 &&
				     x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

const json_t *snap_below(const struct snap *s, const json_t *n)
{
	const char *name = json_str(n, "backing_file", NULL), *file = json_str(n, "file", "");
	const char *slash = strrchr(file, '/');
	const json_t *other, *hit = NULL;
	char *path;
	size_t i;

	if (!name)
		return NULL;
	/* As seen from the image's folder. */
	path = *name == '/' || !slash ? xstrdup(name) :
	       xasprintf("%.*s%s", (int)(slash - file + 1), file, name);
	/* The image, not the protocol node below it, which is the same file. */
	json_array_foreach(s->nodes, i, other)
		if (!hit && strcmp(json_str(other, "drv", ""), "file") &&
		    is_same_file(path, json_str(other, "file", "")))
			hit = other;
	free(path);
	return hit;
}

char *snap_name_of(const char *file)
{
	const char *base = strrchr(file, '/'), *dot;
	char *stem = xstrdup(base ? base + 1 : file), *name;
	size_t len = strlen(stem), ext = strlen(EXTENSION);

	if (len > ext && strcmp(stem + len - ext, EXTENSION) == 0)
		stem[len - ext] = '\0';
	dot = strrchr(stem, '.');
	name = xstrdup(dot && dot[1] ? dot + 1 : stem);
	free(stem);
	return name;
}

static void put_name(json_t *row, const char *file)
{
	char *name = snap_name_of(file);

	json_put_str(row, "name", name);
	free(name);
}

static void put_created(json_t *row, const char *file)
{
	struct statx st;
	char text[32];
	struct tm tm;
	time_t t;

	if (statx(AT_FDCWD, file, 0, STATX_BTIME, &st) < 0 || !(st.stx_mask & STATX_BTIME))
		return;
	t = (time_t)st.stx_btime.tv_sec;
	if (localtime_r(&t, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &tm))
		json_put_str(row, "created", text);
}

/* The disk's files that have one below them, the oldest first. */
static void list_disk(json_t *rows, const struct snap *s, const json_t *b)
{
	const json_t *n = json_object_get(b, "inserted");
	size_t at = json_array_size(rows);
	const char *file, *below;
	char id[128];

	for (int i = 0; n && i < SNAP_CHAIN_MAX; i++) {
		json_t *row = json_object();

		file = json_str(n, "file", "");
		below = json_str(n, "backing_file", NULL);
		if (!below) {
			json_decref(row);
			break;
		}
		put_name(row, file);
		json_put_str(row, "disk", snap_disk_name(b, id, sizeof(id)));
		put_created(row, file);
		json_put_str(row, "file", file);
		json_put_str(row, "backing-file", below);
		json_array_insert_new(rows, at, row);
		n = snap_below(s, n);
	}
}

static int list(struct snap *s, bool json)
{
	static const struct table_col cols[] = {
		{ "name", "NAME", TABLE_TEXT }, { "disk", "DISK", TABLE_TEXT },
		{ "created", "CREATED", TABLE_TEXT }, { "file", "FILE", TABLE_TEXT },
		{ "backing-file", "ON", TABLE_TEXT }, { NULL, NULL, TABLE_TEXT }
	};
	json_t *rows = json_array(), *b;
	size_t i;

	json_array_foreach(s->list, i, b)
		list_disk(rows, s, b);
	table_print(stdout, cols, rows, json);
	json_decref(rows);
	return 0;
}

/* ---- which of them ---- */

enum what { CREATE, LIST, DELETE, REVERT };

static int ask(struct snap *s, struct err *e)
{
	int r = qmpc_run(s->q, "query-block", NULL, &s->list, e);

	return r ? r : qmpc_run(s->q, "query-named-block-nodes", NULL, &s->nodes, e);
}

static int run(struct snap *s, enum what what, bool json, struct err *e)
{
	int r = what == LIST ? 0 : parse(s, what == CREATE, e);

	if (r == 0)
		r = ask(s, e);
	if (r)
		return r;
	switch (what) {
	case CREATE:
		return create(s, e);
	case DELETE:
		return snap_delete(s, e);
	case REVERT:
		return snap_revert(s, e);
	default:
		return list(s, json);
	}
}

static void snap_free(struct snap *s)
{
	for (int i = 0; i < s->overlays; i++)
		free(s->overlay[i].file);
	json_decref(s->list);
	json_decref(s->nodes);
	free(s->disk);
	free(s);
}

int verb_snapshot(struct verb_call *c, struct err *e)
{
	static const char *const words[] = { "create", "list", "delete", "revert", NULL };
	struct runtime rt = RUNTIME_INIT;
	bool json = false;
	struct snap *s;
	int what = 0, r;

	while (words[what] && (c->argc < 2 || strcmp(c->argv[0], words[what])))
		what++;
	if (!words[what])
		return usage(c, "create, list, delete or revert, and a VM's name", "", e);
	if (what == LIST && c->argc > 2)
		json = strcmp(c->argv[2], "--json") == 0;
	if (what == LIST && c->argc > 2 + json)
		return usage(c, "it has no use for ", c->argv[2 + json], e);
	c->argv[0] = c->argv[1];	/* where verb_qmp() looks for the name */
	s = xcalloc(1, sizeof(*s));
	s->c = c;
	s->vm = c->argv[0];
	s->disk = xcalloc((size_t)c->argc + 1, sizeof(*s->disk));
	r = verb_qmp(c, &rt, &s->q, e);
	if (r == 0) {
		r = run(s, (enum what)what, json, e);
		if (r == -ETIMEDOUT)
			c->exit = VERB_NO_ANSWER;
		qmpc_close(s->q);
		runtime_close(&rt);
	}
	snap_free(s);
	return r;
}
