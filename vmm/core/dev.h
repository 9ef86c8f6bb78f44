/*
 * vmm/core/dev.h - device types, their registry, and the life of a device.
 *
 * A device type is a literal: name, size, property tables, operations. A
 * class (struct dev_class) is what related types share: pci, then virtio on
 * top of it. Creating a device walks
 *
 *	core: allocate, defaults, properties from the description
 *	class->attach   outermost first: pci takes a slot, virtio adds its caps
 *	type->ops.init  the device's own set-up
 *	class->start    innermost first: virtio sizes its BAR, pci goes visible
 *	ops.reset
 *
 * and destroying it the reverse: class->stop, ops.fini, class->detach. Each
 * step that fails is followed by its own undo, then by those of the steps
 * before it: stop after a failed start, fini after a failed init, detach after
 * a failed attach. A type embeds its class's struct as first member, that one
 * its own class's, and struct dev is at the very front, so one pointer serves
 * all.
 *
 * Threads: create, destroy and reset run on the main loop. d->lock is held
 * around every callback from the bus, around loop callbacks that name it, and
 * around reset and pause; not around attach, init, start and their undoing,
 * when the guest cannot reach the device.
 */
#ifndef VMM_CORE_DEV_H
#define VMM_CORE_DEV_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/prop.h"

struct dev;
struct dev_bus;
struct vm;
struct loop;

/*
 * What becomes of a device that comes or goes while the VM runs. EMPTY and
 * EJECTED are a place's, when the device is not there.
 */
enum dev_plug_state {
	DEV_PLUG_EMPTY,
	DEV_PLUG_PLUGGING,	/* shown to the guest, which has not taken it yet */
	DEV_PLUG_PRESENT,
	DEV_PLUG_REQUESTED,	/* the guest was asked to let go of it */
	DEV_PLUG_ACKNOWLEDGED,	/* it has; what is in flight is being awaited */
	DEV_PLUG_EJECTED,
	DEV_PLUG_REFUSED,	/* the guest keeps it */
	DEV_PLUG_TIMED_OUT,	/* the guest did not answer in time */
	DEV_PLUG_SURPRISE,	/* taken away without asking */
	DEV_PLUG_STATES
};

#define DEV_GROUP_MAX 8		/* functions of a PCI slot */

/* How devices of a class come and go at run time. All on the main loop. */
struct dev_plug_ops {
	/* May @d leave? Else a sentence. */
	int (*check)(struct dev *d, struct err *e);
	/* Those that leave together, into @list (DEV_GROUP_MAX), the one that
	 * stands for all first; returns how many. NULL: @d alone. */
	int (*group)(struct dev *d, struct dev **list);
	/* Ask the guest to let go of the group that @d stands for. 0: asked, a
	 * dev_unplug_answer() may follow; 1: it need not be asked. Called again
	 * when the user asks again. NULL: it need not be asked. */
	int (*request)(struct dev *d);
	/* Forced removal, first step: let the guest see that the group is gone,
	 * while its driver can still talk to it. True: it was told, and a
	 * dev_unplug_answer() says when it is done. NULL: never. */
	bool (*tear)(struct dev *d);
	/* The state of the group that @d stands for has changed. May be NULL. */
	void (*state)(struct dev *d, enum dev_plug_state s);
	/* Where @d is, for the state's event: members of an object that the
	 * caller owns. NULL: no event is sent. */
	json_t *(*place)(const struct dev *d);
	/* From now on no vCPU finds @d. It is reset and destroyed next. */
	void (*hide)(struct dev *d);
};

struct dev_class {
	const char *name;		/* "pci", "virtio" */
	const struct dev_class *parent;	/* NULL at the root */
	const struct prop *props;	/* offsets from struct dev */
	int (*attach)(struct dev *d, struct err *e);
	int (*start)(struct dev *d, struct err *e);
	void (*stop)(struct dev *d);
	void (*detach)(struct dev *d);
	/* See dev_ops.reset; called after the type's, innermost class first. */
	int (*reset)(struct dev *d);
	/* NULL, here and in all parents: cannot come or go at run time. */
	const struct dev_plug_ops *plug;
};

enum dev_type_flags {
	DEV_BUILTIN = 1 << 0,	/* part of the machine, not for -device */
	DEV_NO_HOTPLUG = 1 << 1,
};

struct dev_ops {
	int (*init)(struct dev *d, struct err *e);
	void (*fini)(struct dev *d);	/* also after a failed init */
	/*
	 * Back to power-on state. vCPUs are stopped, or do not find the device
	 * any more because it leaves; the main loop calls.
	 * Returns 0 when done, or -EINPROGRESS after bumping d->gen and
	 * cancelling its I/O; then one dev_reset_done(d) follows on the main
	 * loop (one for the device, however many of type and classes answered
	 * so). Nothing may be written to guest or disk after that.
	 */
	int (*reset)(struct dev *d);
	/* After the reset of a device that leaves for ever: end what its fini() would
	 * wait for, as the last flush of a disk. 0 or -EINPROGRESS, as reset. */
	int (*settle)(struct dev *d);
	/* The VM stops or continues (QMP stop/cont): hold or release I/O that
	 * was not started by the guest (network receive, timers). */
	void (*pause)(struct dev *d, bool paused);
	/* Property @name (PROP_RUNTIME) has a new value: make it count, or
	 * refuse with a sentence, and the old value comes back. Main loop. */
	int (*changed)(struct dev *d, const char *name, struct err *e);
};

struct dev_type {
	const char *name;
	const char *alias;		/* second -device name, or NULL */
	const char *help;
	const struct dev_class *class;
	size_t size;			/* of the whole device struct */
	const struct prop *props;
	const struct reg *regs;		/* documentation and the hostile suite */
	struct dev_ops ops;
	const void *class_ops;		/* e.g. const struct virtio_ops * */
	unsigned int flags;
};

struct dev {
	const struct dev_type *type;
	struct vm *vm;
	char *id;			/* the user's, or NULL */
	char *path;			/* never NULL: id or "type[n]", for messages */
	json_t *args;			/* the description it was built from */
	pthread_mutex_t lock;		/* core holds it around callbacks */
	struct loop *home;		/* main loop unless the type changes it */
	_Atomic uint32_t gen;		/* bumped by reset and unplug */
	_Atomic uint32_t refs;		/* bus callbacks in progress and owners */
	struct log_limit guest_log;	/* budget for messages the guest causes */
	int stage;			/* how far creation got; core only */
	bool resetting;
	bool leaving, settled;		/* dev_leave() */
	bool hotplugged;		/* added by dev_plug() */
	struct plug *plug;		/* plug.c; owned */
	struct dev *next;		/* vm's list, creation order; main loop */
	struct dev_bus *parent;		/* dev_bus.h; NULL: sits on no device */
	struct dev *sibling;		/* the next on that bus */
};

#define DEV_OF(d, type_) ((type_ *)(d))

/* NULL-terminated list of the types this VM offers; vmm/run/dev_list.c. */
const struct dev_type *dev_type_find(const struct dev_type *const *list, const char *name);

/* The property tables of @t and its classes, most specific first, plus the
 * core's own ("id"). At most DEV_TABLES_MAX with the NULL. "driver" in a
 * description is the type's name and no property. */
#define DEV_TABLES_MAX 6
void dev_type_tables(const struct dev_type *t, const struct prop **tables);

/*
 * Build the device that @args describes ({"driver": ..., "id": ..., props}), with
 * the VM's -global defaults for what it leaves out, and add it to @vm. Errors
 * name driver, property, value. Main loop.
 */
int dev_create(struct vm *vm, const json_t *args, struct dev **out, struct err *e);
/* dev_global.c, for dev.c: @args and these defaults, a new object. */
json_t *dev_args_with_globals(const struct vm *vm, const json_t *args);
/* The same for a machine's own parts: any type, also DEV_BUILTIN ones. */
int dev_create_type(struct vm *vm, const struct dev_type *t, const json_t *args,
		    struct dev **out, struct err *e);
/* Stop, finish and free; nothing of it runs afterwards. It must have no I/O in
 * flight: reset it first, and wait if that takes time. Main loop. */
void dev_destroy(struct dev *d);

/* ---- hot-plug (plug.c), QMP's device_add and device_del ---- */

/*
 * Add the device that @args describes to a VM that is built, in any run state.
 * As dev_create(), and the type, its bus and its slot must allow hot-plug. Main
 * loop. A VM that has not run since its last reset takes the device as if it
 * had always been there.
 */
int dev_plug(struct vm *vm, const json_t *args, struct dev **out, struct err *e);

struct dev_unplug_opts {
	bool force;		/* do not ask the guest: surprise removal, after
				 * at most a second */
	uint64_t timeout_ms;	/* time the guest has to answer while the VM
				 * runs; 0: for ever */
};
/*
 * Remove the device @id (its id, or the path an event named), and what shares
 * its slot. @o may be NULL. 0: under way; DEVICE_DELETED {device, path} follows
 * for each device when nothing of it is left, its id and its place are free and
 * nothing more is written; or DEVICE_UNPLUG_GUEST_ERROR when the guest refuses
 * or @o's time is up, then the device stays and may be removed again. May be
 * repeated while the guest does not answer: it is asked again, and the time
 * starts anew. Where there is no guest to ask (not started, shut down) it is
 * removed at once. Unknown ids are ERR_DEVICE_NOT_FOUND. Main loop.
 */
int dev_unplug(struct vm *vm, const char *id, const struct dev_unplug_opts *o,
	       struct err *e);
/* What the guest answers to ops->request, for the device that stands for the
 * group; and that it has taken a device that was plugged. Any thread; @d must
 * not be freed meanwhile. Ignored when nobody waits for it. */
void dev_unplug_answer(struct dev *d, bool granted);
void dev_plug_taken(struct dev *d);
/* The state of @d as QMP shows it: never EMPTY or EJECTED. Main loop. */
enum dev_plug_state dev_plug_state(const struct dev *d);
/* Is its removal under way? Main loop. */
bool dev_is_leaving(const struct dev *d);
const char *dev_plug_state_name(enum dev_plug_state s);	/* "unplug-requested", … */
/* QEMU's object path of @d: /machine/peripheral/ID, or
 * /machine/peripheral-anon/PATH without an id; the caller frees it. */
char *dev_qom_path(const struct dev *d);

/* qom-set: change property @name of a device that runs. Refused for properties
 * that are not PROP_RUNTIME. Main loop. */
int dev_set(struct dev *d, const char *name, const json_t *val, struct err *e);

/* Type's and classes' reset; 0 or -EINPROGRESS, then d->resetting stays set
 * until dev_reset_done(). vCPUs are stopped. Main loop. */
int dev_reset(struct dev *d);
/* The same for the last time: the device is going to be destroyed, and settles. */
int dev_leave(struct dev *d);
int dev_settle(struct dev *d);		/* after its reset */
void dev_pause(struct dev *d, bool paused);	/* main loop */

struct dev *dev_find(struct vm *vm, const char *id);	/* NULL: none; main loop */

/* A device that answered -EINPROGRESS to reset or settle has finished. Main loop. */
void dev_reset_done(struct dev *d);

/* The guest did something the specification forbids: one rate-limited line. */
#define dev_guest_error(d, ...) log_guest(&(d)->guest_log, (d)->path, __VA_ARGS__)

#endif
