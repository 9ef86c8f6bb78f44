/*
 * vmm/run/snapshot.h - `roost snapshot`: create and list in verb_snapshot.c, delete and
 * revert in verb_snapshot_back.c.
 *
 * Threads: the only one of the process.
 */
#ifndef VMM_RUN_SNAPSHOT_H
#define VMM_RUN_SNAPSHOT_H

#include <jansson.h>

#include "vmm/run/verb.h"

#define SNAP_CHAIN_MAX	2048	/* of what the other end says */
#define SNAP_DISKS_MAX	64	/* of one transaction */

/* A new image, and the node on it. */
struct snap_overlay {
	const json_t *disk;	/* its BlockDeviceInfo: length, cache; borrowed */
	const json_t *below;	/* that of the node it stands on; borrowed */
	char *file;		/* owned */
	char node[40];
	bool made, added;	/* file and node are ours to remove */
};

struct snap {
	struct verb_call *c;
	const char *vm, *name;
	char made_up[24];	/* the name where none was given */
	char **disk;		/* "DISK" or "DISK=FILE", borrowed */
	int disks;
	bool quiesce;
	const char *agent;	/* its socket, where the user says; borrowed */
	struct qmpc *q;
	json_t *list, *nodes;	/* query-block, query-named-block-nodes */
	struct snap_overlay overlay[SNAP_DISKS_MAX];
	int overlays;
};

/* "disk0", "d0" or a node: how the user calls the disk of a BlockInfo. */
const char *snap_disk_name(const json_t *b, char *buf, size_t len);
/* Is @b one of the disks that the user named? All are where none was. */
bool snap_is_wanted(const struct snap *s, const json_t *b);
/* "monday" of "root.monday.qcow2", the caller's. */
char *snap_name_of(const char *file);
/* The BlockDeviceInfo of the image that @n stands on; NULL: none. */
const json_t *snap_below(const struct snap *s, const json_t *n);
/* An empty image in o->file, and a node without a backing file on it. */
int snap_make(struct snap *s, struct snap_overlay *o, struct err *e);
/* All of them become the top of their disks, in one transaction. */
int snap_switch(struct snap *s, struct err *e);
/* What was made goes again. */
void snap_undo(struct snap *s);

int snap_delete(struct snap *s, struct err *e);
int snap_revert(struct snap *s, struct err *e);

#endif
