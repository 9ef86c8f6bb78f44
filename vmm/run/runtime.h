/*
 * vmm/run/runtime.h - a running VM's folder, where the native verbs find it.
 *
 * BASE/NAME/ holds qmp.sock, console.sock, pid, log and config.json, mode
 * 0700, ours. BASE is $XDG_RUNTIME_DIR/roost, /run/roost for root, otherwise
 * /tmp/roost-UID. The VM's process holds a lock on `pid` as long as it lives,
 * also when it is killed, so that a number used again by another process
 * deceives nobody; a folder without that lock is stale and goes.
 *
 * Nothing found there is believed: a folder or file that is a link, or another
 * user's, is refused.
 *
 * Threads: any one; no state is kept here.
 */
#ifndef VMM_RUN_RUNTIME_H
#define VMM_RUN_RUNTIME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/base/err.h"
#include "vmm/run/qmpc.h"

#define RUNTIME_NAME_MAX 48	/* a socket path has 107 characters in all */

/* Files of the folder. */
#define RUNTIME_QMP	"qmp.sock"	/* a QMP server, several clients */
#define RUNTIME_CONSOLE	"console.sock"	/* the first serial port or virtio console */
#define RUNTIME_PID	"pid"
#define RUNTIME_LOG	"log"		/* what the VM's process said */
#define RUNTIME_CONFIG	"config.json"	/* the description, as -dump-config has it */

struct runtime {
	char name[RUNTIME_NAME_MAX + 1];
	char *dir;		/* whole path; owned */
	int dirfd;		/* owned; -1: not open */
	int lock;		/* `pid`, locked: only with the VM itself; -1 */
	pid_t pid;		/* of the VM's process; 0: not yet written */
};
#define RUNTIME_INIT { .dirfd = -1, .lock = -1 }

/* 0, or -EINVAL with a sentence that says what a name may be made of. */
int runtime_check_name(const char *name, struct err *e);

/*
 * For the VM: make the folder and hold its lock. A stale one is emptied first.
 * -EEXIST when a living VM has the name, unless @generated: then -2, -3… is
 * appended. Any other failure has a sentence too.
 */
int runtime_create(struct runtime *rt, const char *name, bool generated, struct err *e);
/* After the last fork: write our process id. */
int runtime_set_pid(struct runtime *rt, struct err *e);
/* Create or replace a file of the folder, mode 0600. */
int runtime_write(struct runtime *rt, const char *file, const void *buf, size_t len,
		  struct err *e);
/* Open a file of the folder; never follows a link, regular files only. An fd
 * or -errno. */
int runtime_open(const struct runtime *rt, const char *file, int flags);
/* The VM ends: remove the folder, release the lock, close. */
void runtime_remove(struct runtime *rt);

/*
 * For verbs: the living VM called @name. -ENOENT with the nearest name when
 * there is none; -EPERM when the folder is not to be trusted.
 */
int runtime_find(struct runtime *rt, const char *name, struct err *e);
/* Every living VM, sorted by name; stale folders are removed. *list is the
 * caller's, see runtime_list_free(); *count of them. */
int runtime_list(struct runtime **list, size_t *count, struct err *e);
void runtime_list_free(struct runtime *list, size_t count);
/* Close without touching the folder. */
void runtime_close(struct runtime *rt);

/* "DIR/FILE", the caller's to free. */
char *runtime_path(const struct runtime *rt, const char *file);
/* The description the VM was started with; NULL when it cannot be read. */
json_t *runtime_config(const struct runtime *rt);
/* Does its process still hold the lock? */
bool runtime_alive(const struct runtime *rt);
/* Connect to its QMP socket; see qmpc_open(). */
int runtime_connect(const struct runtime *rt, struct qmpc **c, struct err *e);

#endif
