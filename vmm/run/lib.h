/*
 * vmm/run/lib.h - what the files behind include/roost.h share.
 *
 * Threads: struct lib_vm is looked up and counted under the registry's lock
 * (lib_vm.c); what changes while the VM lives is under v->lock or belongs to the
 * VM's main-loop thread. Lock order: registry, v->lock, port's lock. None is
 * held around a callback or while a call is posted.
 */
#ifndef VMM_RUN_LIB_H
#define VMM_RUN_LIB_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "roost.h"
#include "vmm/base/err.h"
#include "vmm/char/char.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

struct built;
struct lib_vm;

#define LIB_PORTS	4
#define LIB_EVENTS	256		/* kept for roost_event_wait() */

struct lib_event {
	char *name, *json;		/* owned */
};

struct lib_sub {
	int id;
	void (*fn)(struct roost_vm *vm, const char *name, const char *json, void *arg);
	void *arg;
	bool dead;			/* unsubscribed from a callback */
	struct lib_sub *next;
};

/* A serial port: a copy of its output, and what is typed to it. */
struct lib_port {
	struct char_tap tap;
	struct lib_vm *v;
	char *chardev;			/* id; NULL: there is no such port */
	pthread_mutex_t lock;		/* a leaf: taken on vCPU threads */
	pthread_cond_t cond;
	/* lock */
	char *buf;			/* not read yet: [start, start + len) */
	size_t start, len, room;
	uint64_t taken;			/* bytes read or lost since the start */
	uint64_t lost;
	int waiters;
	char *in;			/* typed, not handed to the loop yet */
	size_t in_len;
	/* the VM's main loop */
	struct loop_work work;
	uint8_t stage[4096];		/* on its way into the front end */
	size_t stage_len;
};

struct lib_vm {
	/* the registry's lock */
	uintptr_t id;			/* what the client holds */
	uint32_t refs;			/* calls inside */
	struct lib_vm *next;

	/* constant after creation */
	pthread_t thread;
	struct loop *loop;
	struct built *built;
	struct vm *vm;
	json_t *desc;

	pthread_mutex_t lock;
	pthread_cond_t cond;		/* CLOCK_MONOTONIC */
	/* lock */
	bool ready;			/* creation has succeeded or failed */
	bool let_go;			/* destroy does not touch the loop any more */
	int result;
	struct err err;
	uint64_t ends, resets;
	struct roost_exit exit;
	struct lib_event event[LIB_EVENTS];	/* event n at n % LIB_EVENTS */
	uint64_t events;		/* so many since creation */
	int event_fd;			/* -1: not asked for */
	/* any thread */
	_Atomic bool closing;		/* destroy has begun */
	_Atomic bool ended;		/* and not reset since */
	/* the VM's main loop */
	struct vm_listener listener;
	struct lib_sub *subs;
	int next_sub;
	uint64_t dispatched;
	bool dispatching;
	struct loop_work dispatch;
	struct lib_port port[LIB_PORTS];
};

/* ---- lib_vm.c ---- */

/* The VM behind a handle, with a reference that keeps it; NULL with @e. */
struct lib_vm *lib_get(struct roost_vm *h, struct roost_error *e);
void lib_put(struct lib_vm *v);
/* Run @fn on the VM's main loop and wait; its result, with @e. */
typedef int lib_fn(struct lib_vm *v, void *arg, struct err *e);
int lib_call(struct roost_vm *h, lib_fn *fn, void *arg, struct roost_error *e);
int lib_call_on(struct lib_vm *v, lib_fn *fn, void *arg, struct roost_error *e);
/* -EDEADLK with a sentence when called on the VM's main-loop thread. */
int lib_not_in_callback(struct lib_vm *v, const char *what, struct roost_error *e);
/* Error @r with a sentence, or from @from. */
int lib_fail(struct roost_error *e, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int lib_fail_err(struct roost_error *e, int r, const struct err *from);

/* Messages go where they go now, though no client has said so: the program. */
void lib_keep_log(void);

/* CLOCK_MONOTONIC at which @timeout_ms from now is over; UINT64_MAX: never. */
uint64_t lib_deadline(int timeout_ms);
/* Wait for @cond; false when @deadline is over. */
bool lib_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline);
void lib_cond_init(pthread_cond_t *cond);

/* ---- lib_config.c ---- */

/* Words of @options as a shell would have them, NULL-terminated, one block for
 * free(); *argc of them. NULL with @e. */
char **lib_split(const char *options, int *argc, struct err *e);
/* The description of @argc words; what only the program can do is refused, and
 * the library's own defaults are in it. */
int lib_describe(int argc, const char *const *argv, json_t **desc, struct err *e);
int lib_describe_json(const char *json, json_t **desc, struct err *e);

/* ---- lib_event.c: on the VM's main loop ---- */

void lib_events_start(struct lib_vm *v);
void lib_events_stop(struct lib_vm *v);
void lib_events_free(struct lib_vm *v);

/* ---- lib_serial.c: on the VM's main loop ---- */

void lib_ports_start(struct lib_vm *v);
void lib_ports_stop(struct lib_vm *v);
void lib_ports_free(struct lib_vm *v);
/* Any thread: waiters look again. */
void lib_ports_wake(struct lib_vm *v);
/* Output that was not read is forgotten. */
void lib_ports_drop(struct lib_vm *v);

#endif
