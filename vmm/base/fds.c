/*
 * vmm/base/fds.c - descriptors that clients handed over.
 * Threads: main loop.
 */
#include "vmm/base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/prop.h"
#include "vmm/base/util.h"

static const char prefix[] = "/dev/fdset/";

struct named {
	char *name;
	int fd;
	struct named *next;
};

struct fds {
	struct named *names;
	struct fds_set *sets;	/* by number */
	unsigned int name_count, member_count;
};

struct fds *fds_create(void)
{
	return xcalloc(1, sizeof(struct fds));
}

/* ---- names ---- */

int fds_take(struct fds *f, const char *name)
{
	struct named *n, **at;
	int fd;

	for (at = &f->names; (n = *at) && strcmp(n->name, name); at = &n->next)
		;
	if (!n)
		return -ENOENT;
	*at = n->next;
	fd = n->fd;
	free(n->name);
	free(n);
	f->name_count--;
	return fd;
}

int fds_drop(struct fds *f, const char *name, struct err *e)
{
	int fd = fds_take(f, name);

	if (fd < 0)
		return err_set(e, fd, "File descriptor named '%.80s' not found", name);
	close(fd);
	return 0;
}

int fds_put(struct fds *f, const char *name, int fd, struct err *e)
{
	struct named *n;
	int old;

	if (!*name || (*name >= '0' && *name <= '9')) {
		close(fd);
		return err_set(e, -EINVAL, "Invalid parameter 'fdname': '%.80s' must not be "
			       "empty or begin with a digit", name);
	}
	old = fds_take(f, name);
	if (old >= 0)
		close(old);
	if (f->name_count == FDS_NAMES_MAX) {
		close(fd);
		return err_set(e, -EMFILE, "%d descriptors have names already; close some with "
			       "closefd", FDS_NAMES_MAX);
	}
	n = xcalloc(1, sizeof(*n));
	n->name = xstrdup(name);
	n->fd = fd;
	n->next = f->names;
	f->names = n;
	f->name_count++;
	return 0;
}

/* ---- sets ---- */

const struct fds_set *fds_sets(const struct fds *f)
{
	return f->sets;
}

static struct fds_set *find_set(const struct fds *f, int64_t id)
{
	struct fds_set *s;

	for (s = f->sets; s && s->id != id; s = s->next)
		;
	return s;
}

static struct fds_set *new_set(struct fds *f, int64_t id)
{
	struct fds_set *s = xcalloc(1, sizeof(*s)), **at;

	for (at = &f->sets; *at && (*at)->id < id; at = &(*at)->next)
		;
	s->id = id;
	s->next = *at;
	*at = s;
	return s;
}

int fds_set_add(struct fds *f, int64_t *id, int fd, const char *opaque, struct err *e)
{
	struct fds_member *m;
	struct fds_set *s;
	int64_t want = *id;

	if (f->member_count == FDS_SET_FDS_MAX) {
		close(fd);
		return err_set(e, -EMFILE, "the sets hold %d descriptors already; remove some "
			       "with remove-fd", FDS_SET_FDS_MAX);
	}
	if (want < 0)
		for (want = 0; find_set(f, want); want++)
			;
	s = find_set(f, want);
	if (!s)
		s = new_set(f, want);
	m = xcalloc(1, sizeof(*m));
	m->fd = fd;
	m->opaque = opaque ? xstrdup(opaque) : NULL;
	m->next = s->members;
	s->members = m;
	f->member_count++;
	*id = want;
	return 0;
}

static void free_member(struct fds *f, struct fds_member *m)
{
	close(m->fd);
	free(m->opaque);
	free(m);
	f->member_count--;
}

static void free_set(struct fds *f, struct fds_set *s)
{
	struct fds_member *m;
	struct fds_set **at;

	while ((m = s->members)) {
		s->members = m->next;
		free_member(f, m);
	}
	for (at = &f->sets; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	free(s);
}

int fds_set_remove(struct fds *f, int64_t id, int fd, struct err *e)
{
	struct fds_set *s = find_set(f, id);
	struct fds_member *m, **at;

	if (!s)
		return err_set(e, -ENOENT, "File descriptor named 'fdset-id:%" PRId64
			       "' not found", id);
	if (fd < 0) {
		free_set(f, s);
		return 0;
	}
	for (at = &s->members; (m = *at) && m->fd != fd; at = &m->next)
		;
	if (!m)
		return err_set(e, -ENOENT, "File descriptor named 'fdset-id:%" PRId64
			       ", fd:%d' not found", id, fd);
	*at = m->next;
	free_member(f, m);
	if (!s->members)
		free_set(f, s);
	return 0;
}

bool fds_is_path(const char *path)
{
	return strncmp(path, prefix, sizeof(prefix) - 1) == 0;
}

int fds_open(const struct fds *f, const char *path, int flags)
{
	const struct fds_set *s;
	uint64_t id;
	int fd, have;

	if (!f || parse_u64(path + sizeof(prefix) - 1, &id) || id > INT64_MAX)
		return -ENOENT;
	s = find_set(f, (int64_t)id);
	if (!s)
		return -ENOENT;
	for (const struct fds_member *m = s->members; m; m = m->next) {
		have = fcntl(m->fd, F_GETFL);
		if (have < 0 || (have & O_ACCMODE) != (flags & O_ACCMODE))
			continue;
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	return -EACCES;
}

void fds_destroy(struct fds *f)
{
	if (!f)
		return;
	while (f->names)
		close(fds_take(f, f->names->name));
	while (f->sets)
		free_set(f, f->sets);
	free(f);
}
