/*
 * vmm/run/hub.c - a QMP socket for several clients at once.
 * Threads: main loop.
 */
#include "vmm/run/hub.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

#define DRAIN_NS	(200 * NS_PER_MS)
#define SWEEP_NS	NS_PER_SEC	/* who has left is forgotten this soon */

struct hub {
	struct vm *vm;
	struct qmp *q;
	struct loop_fd listen;
	struct loop_timer sweep;	/* armed while there are clients, or no accepts */
	struct chardev *client[HUB_CLIENTS];
	unsigned int number;		/* of the next client */
	struct log_limit limit;
};

static void drop(struct hub *h, int i)
{
	char id[32];

	snprintf(id, sizeof(id), "%s", char_id(h->client[i]));
	qmp_unserve(h->q, h->client[i]);
	char_del(h->vm->chars, id, NULL);
	h->client[i] = NULL;
}

/* Forget clients that have left; how many are there still. */
static int forget_gone(struct hub *h)
{
	int left = 0;

	for (int i = 0; i < HUB_CLIENTS; i++) {
		if (h->client[i] && !char_is_open(h->client[i]))
			drop(h, i);
		left += h->client[i] != NULL;
	}
	return left;
}

static void on_sweep(struct loop_timer *t)
{
	struct hub *h = container_of(t, struct hub, sweep);

	if (forget_gone(h))
		loop_timer_arm(t, clock_ns() + SWEEP_NS);
	loop_fd_mod(&h->listen, POLLIN);
}

/* @fd is the chardev's from here on, also when this fails after char_add(). */
static void add_client(struct hub *h, int slot, int fd)
{
	char id[32], number[16];
	struct err e = ERR_INIT;
	json_t *args;
	int r;

	snprintf(id, sizeof(id), "roost-qmp%u", h->number++);
	snprintf(number, sizeof(number), "%d", fd);
	args = json_pack("{s:s, s:s, s:s}", "backend", "socket", "id", id, "fd", number);
	r = char_add(h->vm->chars, args, &h->client[slot], &e);
	json_decref(args);
	if (r) {
		h->client[slot] = NULL;
		close(fd);
	} else {
		r = qmp_serve(h->q, h->client[slot], &e);
		if (r)
			drop(h, slot);
	}
	if (r)
		log_guest(&h->limit, "QMP client", "%s", e.text);
	loop_timer_arm(&h->sweep, clock_ns() + SWEEP_NS);
}

/* Out of descriptors and the like: the client stays, and is ready all the time. */
static void accept_later(struct hub *h, int error)
{
	if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
		return;
	log_guest(&h->limit, "QMP", "a client cannot be accepted yet: %s", strerror(error));
	loop_fd_mod(&h->listen, 0);
	loop_timer_arm(&h->sweep, clock_ns() + SWEEP_NS);
}

static void on_accept(struct loop_fd *w, uint32_t revents)
{
	struct hub *h = container_of(w, struct hub, listen);
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), slot = 0;

	if (fd < 0) {
		accept_later(h, errno);
		return;
	}
	forget_gone(h);
	while (slot < HUB_CLIENTS && h->client[slot])
		slot++;
	if (slot < HUB_CLIENTS) {
		add_client(h, slot, fd);
		return;
	}
	close(fd);
	log_guest(&h->limit, "QMP", "%d clients are connected; one more was turned away",
		  HUB_CLIENTS);
}

int hub_create(struct hub **out, struct vm *vm, struct qmp *q, const char *path, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct hub *h = xcalloc(1, sizeof(*h));
	int r = 0;

	*out = h;
	h->vm = vm;
	h->q = q;
	h->listen = (struct loop_fd){ .events = POLLIN, .cb = on_accept };
	h->listen.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	loop_timer_init(vm->main, &h->sweep, on_sweep, NULL);
	if (strlen(path) >= sizeof(a.sun_path))
		r = -ENAMETOOLONG;
	else
		memcpy(a.sun_path, path, strlen(path));
	unlink(path);
	if (r == 0 && (h->listen.fd < 0 ||
		       bind(h->listen.fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		       listen(h->listen.fd, HUB_CLIENTS) < 0))
		r = -errno;
	if (r == 0)
		r = loop_fd_add(vm->main, &h->listen);
	if (r == 0)
		return 0;
	hub_destroy(h);
	*out = NULL;
	return err_sys(e, r, "cannot listen on %s", path);
}

void hub_destroy(struct hub *h)
{
	if (!h)
		return;
	if (forget_gone(h))
		char_drain(h->vm->chars, DRAIN_NS);	/* the last event says why */
	loop_timer_cancel(&h->sweep);
	if (h->listen.loop)
		loop_fd_del(&h->listen);
	fd_close(&h->listen.fd);
	for (int i = 0; i < HUB_CLIENTS; i++)
		if (h->client[i])
			drop(h, i);
	free(h);
}
