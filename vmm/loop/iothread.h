/*
 * vmm/loop/iothread.h - a thread that runs a loop (-object iothread).
 */
#ifndef VMM_LOOP_IOTHREAD_H
#define VMM_LOOP_IOTHREAD_H

#include <sys/types.h>

#include "vmm/loop/loop.h"
#include "vmm/base/prop.h"

struct iothread;

/* "poll-max-ns" and whatever else an iothread takes. */
extern const struct prop iothread_props[];

/* Start thread "IO @id"; all signals are blocked in it. @args: JSON object
 * with the properties (may be NULL). */
int iothread_create(struct iothread **out, const char *id, const json_t *args,
		    enum loop_aio aio, struct err *e);
/* Stop and join. Nothing may be attached any more. NULL is allowed. */
void iothread_destroy(struct iothread *t);
/* After a property was changed: obey it. Main loop. */
void iothread_apply(struct iothread *t);
struct loop *iothread_loop(struct iothread *t);
pid_t iothread_tid(const struct iothread *t);
/* query-iothreads' element, a new object. */
json_t *iothread_info(const struct iothread *t);
const char *iothread_id(const struct iothread *t);

#endif
