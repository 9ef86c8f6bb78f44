/*
 * vmm/base/fds.h - descriptors that clients handed over: by name (QMP getfd)
 * and in numbered sets that file names can point to ("/dev/fdset/3").
 *
 * Threads: main loop.
 */
#ifndef VMM_BASE_FDS_H
#define VMM_BASE_FDS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

#define FDS_NAMES_MAX	256	/* both: what a client may pile up */
#define FDS_SET_FDS_MAX	256

struct fds_member {
	int fd;			/* owned */
	char *opaque;		/* the client's note, or NULL */
	struct fds_member *next;
};

struct fds_set {
	int64_t id;
	struct fds_member *members;
	struct fds_set *next;
};

struct fds;

struct fds *fds_create(void);
void fds_destroy(struct fds *f);	/* closes all; NULL is allowed */

/* Steals @fd, also on failure; a descriptor of that name is replaced. */
int fds_put(struct fds *f, const char *name, int fd, struct err *e);
/* The descriptor called @name, the caller's from now on; -ENOENT. */
int fds_take(struct fds *f, const char *name);
/* Close it. */
int fds_drop(struct fds *f, const char *name, struct err *e);

/* Add @fd (stolen, also on failure) to set *id (-1: a new set, whose number it
 * becomes). */
int fds_set_add(struct fds *f, int64_t *id, int fd, const char *opaque, struct err *e);
/* Remove member @fd (-1: all) of set @id; the last one takes the set along. */
int fds_set_remove(struct fds *f, int64_t id, int fd, struct err *e);
const struct fds_set *fds_sets(const struct fds *f);

/*
 * "/dev/fdset/3": is it one, and a duplicate of the member that was opened the
 * way @flags (O_RDONLY, O_WRONLY, O_RDWR) asks for. A set has one member per
 * way. Negative errno: -ENOENT no such set, -EACCES no such member. @f NULL: no
 * set exists.
 */
bool fds_is_path(const char *path);
int fds_open(const struct fds *f, const char *path, int flags);

#endif
