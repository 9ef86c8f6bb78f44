/*
 * vmm/run/stored.c - a VM's stored configuration.
 *
 * Threads: any one. The file's folder is locked from loading to saving.
 * Missing: changes of anything but devices.
 */
#include "vmm/run/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"

static int open_folder(struct stored *s, struct err *e)
{
	char *dir = xstrdup(s->path), *slash = strrchr(dir, '/');
	int r = 0;

	if (slash)
		*slash = '\0';
	s->dirfd = open(slash == dir ? "/" : slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0 || flock(s->dirfd, LOCK_EX) < 0)
		r = err_sys(e, -errno, "%s: cannot lock its folder", s->path);
	free(dir);
	return r;
}

int stored_open(struct stored *s, const char *path, struct err *e)
{
	json_error_t je = { .line = 0 };
	int r;

	s->path = realpath(path, NULL);	/* a link stays a link */
	if (!s->path)
		return err_sys(e, -errno, "%s: cannot open it", path);
	r = open_folder(s, e);
	if (r)
		return r;
	s->desc = json_load_file(s->path, JSON_REJECT_DUPLICATES, &je);
	if (json_is_object(s->desc))
		return 0;
	return err_set(e, -EINVAL, "%s: %s; a stored configuration is what -dump-config prints",
		       path, s->desc ? "it is no JSON object" : je.text);
}

int stored_open_of(struct stored *s, const struct runtime *rt, struct err *e)
{
	json_t *desc = runtime_config(rt);
	const char *path = json_str(desc, STORED_PATH, NULL);
	int r;

	if (path)
		r = stored_open(s, path, e);
	else
		r = err_set(e, -ENOENT, "%s was started without -readconfig, so it has no stored "
			    "configuration; write one with -dump-config and start it from that",
			    rt->name);
	json_decref(desc);
	return r;
}

static int write_new(const struct stored *s, int fd)
{
	char *text = json_dumps(s->desc, JSON_INDENT(2));
	struct stat st;
	int r;

	if (!text)
		return -ENOMEM;
	r = fd_write_full(fd, text, strlen(text), 0);
	if (r == 0)
		r = fd_write_full(fd, "\n", 1, strlen(text));
	if (r == 0 && (stat(s->path, &st) < 0 || fchmod(fd, st.st_mode & 0777) < 0 ||
		       fsync(fd) < 0))
		r = -errno;
	free(text);
	return r;
}

int stored_save(struct stored *s, struct err *e)
{
	char *tmp = xasprintf("%s.XXXXXX", s->path);
	int fd = mkostemp(tmp, O_CLOEXEC), r;

	if (fd < 0) {
		r = -errno;
	} else {
		r = write_new(s, fd);
		close(fd);
		if (r == 0 && (rename(tmp, s->path) < 0 || fsync(s->dirfd) < 0))
			r = -errno;
		if (r)
			unlink(tmp);
	}
	free(tmp);
	return r ? err_sys(e, r, "%s: cannot replace it", s->path) : 0;
}

void stored_close(struct stored *s)
{
	fd_close(&s->dirfd);
	json_decref(s->desc);
	free(s->path);
	*s = (struct stored)STORED_INIT;
}

/* ---- devices ---- */

static json_t *list_of(struct stored *s, const char *key)
{
	json_t *list = json_object_get(s->desc, key);

	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(s->desc, key, list);
	}
	return list;
}

/* Where an element has @name as its @key: its index, or -1. */
static int find(const struct stored *s, const char *list, const char *key, const char *name)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(s->desc, list), i, item)
		if (strcmp(json_str(item, key, ""), name) == 0)
			return (int)i;
	return -1;
}

bool stored_has(const struct stored *s, const char *name)
{
	return find(s, "devices", "id", name) >= 0 || find(s, "drives", "id", name) >= 0 ||
	       find(s, "blockdevs", "node-name", name) >= 0;
}

int stored_add(struct stored *s, const json_t *device, const json_t *node, struct err *e)
{
	const char *names[] = { json_str(device, "id", ""), json_str(node, "node-name", "") };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (*names[i] && stored_has(s, names[i]))
			return err_set(e, -EEXIST, "%s has a '%s' already; choose another id=",
				       s->path, names[i]);
	if (node)
		json_array_append_new(list_of(s, "blockdevs"), json_deep_copy(node));
	json_array_append_new(list_of(s, "devices"), json_deep_copy(device));
	return 0;
}

static void remove_unused(struct stored *s, const char *list, const char *key,
			  const char *drive)
{
	int i = find(s, list, key, drive);

	if (i >= 0 && find(s, "devices", "drive", drive) < 0)
		json_array_remove(json_object_get(s->desc, list), (size_t)i);
}

int stored_remove(struct stored *s, const char *id, struct err *e)
{
	int i = find(s, "devices", "id", id);
	char *drive;

	if (i < 0)
		return err_set(e, -ENOENT, "%s has no device '%s'", s->path, id);
	drive = xstrdup(json_str(json_array_get(list_of(s, "devices"), (size_t)i), "drive", ""));
	json_array_remove(list_of(s, "devices"), (size_t)i);
	remove_unused(s, "blockdevs", "node-name", drive);
	remove_unused(s, "drives", "id", drive);
	free(drive);
	return 0;
}
