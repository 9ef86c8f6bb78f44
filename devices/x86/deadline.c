/*
 * devices/x86/deadline.c - a timer that register hooks may set.
 * Threads: deadline_set() any; the rest main loop.
 */
#include "devices/x86/deadline.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/vm.h"

static void fired(struct loop_fd *w, uint32_t revents)
{
	struct deadline *t = container_of(w, struct deadline, watch);
	uint64_t count;

	/* Set anew since it became readable: nothing to read, not yet due. */
	if (read(w->fd, &count, sizeof(count)) == sizeof(count))
		t->cb(t->dev);
}

int deadline_init(struct deadline *t, struct dev *d, void (*cb)(struct dev *), struct err *e)
{
	int ret;

	t->dev = d;
	t->cb = cb;
	t->watch = (struct loop_fd){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.events = POLLIN, .cb = fired, .lock = &d->lock,
	};
	if (t->watch.fd < 0)
		return err_sys(e, -errno, "%s: no timer", d->path);
	ret = loop_fd_add(d->vm->main, &t->watch);
	if (ret < 0) {
		fd_close(&t->watch.fd);
		return err_sys(e, ret, "%s: no timer", d->path);
	}
	return 0;
}

void deadline_fini(struct deadline *t)
{
	if (!t->dev || t->watch.fd < 0)
		return;
	loop_fd_del(&t->watch);
	fd_close(&t->watch.fd);
}

void deadline_set(struct deadline *t, uint64_t ns)
{
	struct itimerspec when = {
		.it_value = { (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) },
	};

	(void)timerfd_settime(t->watch.fd, TFD_TIMER_ABSTIME, &when, NULL);
}
