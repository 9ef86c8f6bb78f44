/*
 * vmm/run/stored.h - a VM's stored configuration: the file that -readconfig
 * read, as -dump-config writes it. What --config of attach and detach changes.
 *
 * Threads: any one; two processes that change a file take turns.
 */
#ifndef VMM_RUN_STORED_H
#define VMM_RUN_STORED_H

#include <jansson.h>

#include "vmm/base/err.h"
#include "vmm/run/runtime.h"

/* Member of a running VM's config.json: the whole path of that file. */
#define STORED_PATH "config-file"

struct stored {
	char *path;		/* owned */
	int dirfd;		/* of its folder, locked; -1: not open */
	json_t *desc;		/* owned */
};
#define STORED_INIT { .dirfd = -1 }

/* Lock and load the file at @path, or that of the running VM @rt. */
int stored_open(struct stored *s, const char *path, struct err *e);
int stored_open_of(struct stored *s, const struct runtime *rt, struct err *e);
/* Replace the file: all of it, on disk, or nothing. */
int stored_save(struct stored *s, struct err *e);
void stored_close(struct stored *s);

/* Add @device (device_add's arguments, with an id) and @node (blockdev-add's;
 * NULL: none). -EEXIST where an id or node-name is there already. */
int stored_add(struct stored *s, const json_t *device, const json_t *node, struct err *e);
/* Take out device @id and the node or drive that it alone uses. */
int stored_remove(struct stored *s, const char *id, struct err *e);
/* Does a device have this id, or a node or drive this name? */
bool stored_has(const struct stored *s, const char *name);

#endif
