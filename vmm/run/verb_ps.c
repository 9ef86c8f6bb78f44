/*
 * vmm/run/verb_ps.c - what runs: `roost ps` and `roost disks`.
 * Threads: the only one of the process.
 *
 * A VM that does not answer is still listed, with what its folder and /proc
 * say about it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/table.h"
#include "vmm/run/verb.h"

#define PS_TIMEOUT_MS	1000	/* one hanging VM must not hide the others long */

/* What @command returns, or NULL: gone, or an older VM without the command. */
static json_t *ask(struct qmpc *q, const char *command)
{
	json_t *ret = NULL;

	if (q)
		qmpc_run(q, command, NULL, &ret, NULL);
	return ret;
}

/* ---- ps ---- */

/* Seconds since process @pid started; -1 when it is gone. */
static long long uptime_of(pid_t pid)
{
	char path[40], stat[1024];
	unsigned long long start = 0;
	double up = 0;
	const char *p;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	n = fread(stat, 1, sizeof(stat) - 1, f);
	stat[n] = '\0';
	fclose(f);
	p = strrchr(stat, ')');		/* the name before it may hold anything */
	for (int field = 3; p && field <= 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%llu", &start) != 1)
		return -1;
	f = fopen("/proc/uptime", "re");
	if (!f || fscanf(f, "%lf", &up) != 1)
		up = 0;
	if (f)
		fclose(f);
	return (long long)up - (long long)(start / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static void put_vcpus(json_t *row, struct qmpc *q, const json_t *config)
{
	json_t *cpus = ask(q, "query-cpus-fast");
	const json_t *smp = json_object_get(config, "smp"), *n = json_object_get(smp, "cpus");
	uint64_t v = 0;

	if (json_is_array(cpus))
		v = json_array_size(cpus);
	else if (json_is_integer(n))
		v = (uint64_t)json_integer_value(n);
	else if (!json_is_string(n) || parse_u64(json_string_value(n), &v))
		v = smp ? 0 : 1;	/* only sockets= or the like: not known here */
	if (v)
		json_object_set_new(row, "vcpus", json_integer((json_int_t)v));
	json_decref(cpus);
}

static void put_memory(json_t *row, struct qmpc *q, const json_t *config)
{
	json_t *sum = ask(q, "query-memory-size-summary");
	const json_t *size = json_object_get(json_object_get(config, "memory"), "size");
	json_int_t base = json_integer_value(json_object_get(sum, "base-memory"));
	uint64_t v = 0;

	if (base)
		v = (uint64_t)(base + json_integer_value(json_object_get(sum, "plugged-memory")));
	else if (json_is_integer(size))
		v = (uint64_t)json_integer_value(size);
	else if (json_is_string(size) && parse_size(json_string_value(size), MIB, &v))
		v = 0;
	if (v)
		json_object_set_new(row, "memory", json_integer((json_int_t)v));
	json_decref(sum);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static void put_disks(json_t *row, struct qmpc *q, const json_t *config)
{
	json_t *disks = json_array(), *list = ask(q, "query-block"), *item;
	const json_t *drives = json_object_get(config, "drives");
	const char *file;
	size_t i;

	json_array_foreach(list, i, item) {
		file = json_str(json_object_get(item, "inserted"), "file", NULL);
		if (file)
			json_array_append_new(disks, json_string(base_name(file)));
	}
	if (!list) {
		json_array_foreach(drives, i, item)
			if (json_str(item, "file", NULL))
				json_array_append_new(disks, json_string(
					base_name(json_str(item, "file", ""))));
	}
	json_object_set_new(row, "disks", disks);
	json_decref(list);
}

/* The back end of the first serial port or console; NULL: one that -serial has made. */
static const char *console_chardev(const json_t *config)
{
	const char *first = json_string_value(json_array_get(json_object_get(config, "serials"), 0));
	const char *driver;
	const json_t *d;
	size_t i;

	if (first)
		return strncmp(first, "chardev:", 8) ? NULL : first + 8;
	json_array_foreach(json_object_get(config, "devices"), i, d) {
		driver = json_str(d, "driver", "");
		if (strcmp(driver, "isa-serial") == 0 || strcmp(driver, "virtconsole") == 0)
			return json_str(d, "chardev", NULL);
	}
	return NULL;
}

/* Where the first serial port or console is. */
static void put_console(json_t *row, const struct runtime *rt, struct qmpc *q,
			const json_t *config)
{
	json_t *list = ask(q, "query-chardev"), *item;
	const char *where = NULL, *port = console_chardev(config), *label;
	bool attachable = faccessat(rt->dirfd, RUNTIME_CONSOLE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	size_t i;

	json_array_foreach(list, i, item) {
		label = json_str(item, "label", "");
		if (!where && (port ? strcmp(label, port) == 0 : strncmp(label, "serial", 6) == 0))
			where = json_str(item, "filename", "");
	}
	if (!list)
		where = json_string_value(json_array_get(json_object_get(config, "serials"), 0));
	/* Nowhere else than where roost console goes. */
	if (attachable && (!where || strcmp(where, "null") == 0))
		where = "socket";
	if (where)
		json_put_str(row, "console", strncmp(where, "pty:", 4) ? where : where + 4);
	json_decref(list);
}

static json_t *ps_row(const struct runtime *rt)
{
	json_t *row = json_pack("{s:s, s:i}", "name", rt->name, "pid", (int)rt->pid);
	json_t *config = runtime_config(rt), *status;
	char *path = runtime_path(rt, RUNTIME_QMP);
	struct qmpc *q;
	int r = qmpc_open(&q, rt->name, path, PS_TIMEOUT_MS, NULL);
	long long up = uptime_of(rt->pid);

	status = ask(q, "query-status");
	json_put_str(row, "state", json_str(status, "status",
					    r == -ETIMEDOUT ? "no answer" : "unknown"));
	put_vcpus(row, q, config);
	put_memory(row, q, config);
	if (up >= 0)
		json_object_set_new(row, "uptime", json_integer(up));
	put_disks(row, q, config);
	put_console(row, rt, q, config);
	qmpc_close(q);
	json_decref(status);
	json_decref(config);
	free(path);
	return row;
}

int verb_ps(struct verb_call *c, struct err *e)
{
	static const struct table_col cols[] = {
		{ "name", "NAME", TABLE_TEXT }, { "pid", "PID", TABLE_TEXT },
		{ "state", "STATE", TABLE_TEXT }, { "vcpus", "VCPUS", TABLE_TEXT },
		{ "memory", "MEMORY", TABLE_SIZE }, { "uptime", "UPTIME", TABLE_SECONDS },
		{ "disks", "DISKS", TABLE_LIST }, { "console", "CONSOLE", TABLE_TEXT },
		{ NULL, NULL, TABLE_TEXT }
	};
	uint64_t start = clock_ns();
	struct runtime *list;
	json_t *rows;
	size_t count;
	int r = runtime_list(&list, &count, e);

	if (r)
		return r;
	rows = json_array();
	for (size_t i = 0; i < count; i++) {
		verb_progress(list[i].name, start);
		json_array_append_new(rows, ps_row(&list[i]));
	}
	verb_progress_end();
	table_print(stdout, cols, rows, c->opts.json);
	json_decref(rows);
	runtime_list_free(list, count);
	return 0;
}

/* ---- disks ---- */

static json_t *disk_row(const json_t *b)
{
	const json_t *ins = json_object_get(b, "inserted"), *image = json_object_get(ins, "image");
	const char *device = json_str(b, "device", ""), *qdev = json_str(b, "qdev", "");
	const char *tail = strstr(qdev, "/peripheral/");
	json_t *row = json_object(), *size = json_object_get(image, "virtual-size");
	char *id = xstrdup(tail ? tail + strlen("/peripheral/") : qdev);

	id[strcspn(id, "/")] = '\0';
	json_put_str(row, "device", *id ? id : "-");
	json_put_str(row, "drive", *device ? device : json_str(ins, "node-name", "-"));
	json_put_str(row, "format", json_str(ins, "drv", "-"));
	if (size)
		json_object_set(row, "size", size);
	json_put_str(row, "access", json_is_true(json_object_get(ins, "ro")) ?
		     "read-only" : "read-write");
	json_put_str(row, "state", json_str(b, "io-status", "ok"));
	json_put_str(row, "image", json_str(ins, "file", json_str(image, "filename", "-")));
	free(id);
	return row;
}

int verb_disks(struct verb_call *c, struct err *e)
{
	static const struct table_col cols[] = {
		{ "device", "DEVICE", TABLE_TEXT }, { "drive", "DRIVE", TABLE_TEXT },
		{ "format", "FORMAT", TABLE_TEXT }, { "size", "SIZE", TABLE_SIZE },
		{ "access", "ACCESS", TABLE_TEXT }, { "state", "STATE", TABLE_TEXT },
		{ "image", "IMAGE", TABLE_TEXT }, { NULL, NULL, TABLE_TEXT }
	};
	struct runtime rt = RUNTIME_INIT;
	json_t *list, *b, *rows;
	struct qmpc *q;
	size_t i;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	r = qmpc_run(q, "query-block", NULL, &list, e);
	if (r == 0) {
		rows = json_array();
		json_array_foreach(list, i, b)
			json_array_append_new(rows, disk_row(b));
		table_print(stdout, cols, rows, c->opts.json);
		json_decref(rows);
		json_decref(list);
	}
	qmpc_close(q);
	runtime_close(&rt);
	return r;
}
