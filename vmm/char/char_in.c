/*
 * vmm/char/char_in.c - input: from the host to the front end, and what Ctrl-A
 * means on a chardev with mux=on.
 * Threads: loop.
 * Missing: a second front end behind Ctrl-A c; the owner is told and may
 *          connect another one.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

enum { CTRL_A = 0x01 };

static const char help_text[] =
	"\r\n"
	"Ctrl-A h   this help\r\n"
	"Ctrl-A x   end the virtual machine\r\n"
	"Ctrl-A b   send a break (for the magic SysRq key)\r\n"
	"Ctrl-A Ctrl-A   send Ctrl-A\r\n";

/* ---- the front end ---- */

size_t char_front_room(struct chardev *c)
{
	struct char_front *f = c->front;
	size_t n;

	if (!f || !f->read || c->stall_in)
		return 0;
	if (!f->can_read)
		return CHAR_INPUT_BYTES;
	if (f->lock)
		pthread_mutex_lock(f->lock);
	n = f->can_read(f);
	if (f->lock)
		pthread_mutex_unlock(f->lock);
	return n;
}

static void front_read(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct char_front *f = c->front;

	if (f->lock)
		pthread_mutex_lock(f->lock);
	f->read(f, buf, len);
	if (f->lock)
		pthread_mutex_unlock(f->lock);
}

void char_deliver(struct chardev *c, uint8_t *buf, size_t *len)
{
	size_t n, done = 0;

	while (done < *len && (n = MIN(char_front_room(c), *len - done))) {
		front_read(c, buf + done, n);
		done += n;
	}
	if (done) {
		*len -= done;
		memmove(buf, buf + done, *len);
	}
}

void char_send_event(struct chardev *c, enum char_event ev)
{
	struct char_front *f = c->front;

	if (!f || !f->event)
		return;
	if (f->lock)
		pthread_mutex_lock(f->lock);
	f->event(f, ev);
	if (f->lock)
		pthread_mutex_unlock(f->lock);
}

/* ---- mux ---- */

/* Hand over what was typed as far as the front end takes it. */
static void typed_deliver(struct chardev *c)
{
	char_deliver(c, c->typed, &c->typed_len);
}

/* What is typed ahead beyond the buffer is lost, as on a terminal: reading has
 * to go on, or Ctrl-A x would not work when the guest is stuck. */
static void typed_add(struct chardev *c, uint8_t byte)
{
	if (!c->typed)
		c->typed = xcalloc(1, CHAR_INPUT_BYTES);
	if (c->typed_len < CHAR_INPUT_BYTES)
		c->typed[c->typed_len++] = byte;
}

static void escape_command(struct chardev *c, uint8_t key)
{
	switch (key) {
	case CTRL_A:
		typed_add(c, CTRL_A);
		break;
	case 'h':
	case '?':
		char_write(c, help_text, sizeof(help_text) - 1);
		break;
	case 'b':
		char_send_event(c, CHAR_BREAK);
		break;
	case 'x':
	case 's':
	case 'c':
		if (c->set->escape)
			c->set->escape((char)key, c->set->escape_arg);
		break;
	}	/* others are dropped, as the user did not mean the guest */
}

static void mux_input(struct chardev *c, const uint8_t *buf, size_t len)
{
	for (; len--; buf++) {
		if (c->escaped) {
			c->escaped = false;
			escape_command(c, *buf);
		} else if (*buf == CTRL_A) {
			c->escaped = true;
		} else {
			typed_add(c, *buf);
		}
	}
	typed_deliver(c);
}

/* ---- from the host ---- */

static void input(struct chardev *c)
{
	size_t room = c->mux ? CHAR_INPUT_BYTES : char_front_room(c);
	uint8_t buf[CHAR_INPUT_BYTES];
	ssize_t n;

	if (!room) {
		c->want_in = false;	/* char_accept_input() resumes */
		return;
	}
	n = c->drv->read(c, buf, MIN(room, sizeof(buf)));
	if (n == -EAGAIN)
		return;
	if (n <= 0)
		c->drv->hangup(c, false, (int)-n);
	else if (c->mux)
		mux_input(c, buf, (size_t)n);
	else
		front_read(c, buf, (size_t)n);
}

/* Nobody is there any more, and the front end takes no input now: what was
 * sent last stays until it does. */
static void input_ends(struct chardev *c)
{
	int unread = 0;

	if (!c->gone && ioctl(c->in.fd, FIONREAD, &unread) == 0 && unread > 0)
		c->gone = true;
	else
		c->drv->hangup(c, false, 0);
}

/* Also output's, where one descriptor serves both. */
void char_in_watch(struct loop_fd *w, uint32_t revents)
{
	struct chardev *c = container_of(w, struct chardev, in);

	if (revents & POLLOUT)
		char_out_watch(&c->out_watch, revents);
	if (!c->in.loop)
		return;		/* writing ended it */
	if ((revents & POLLIN) || (c->want_in && (revents & ~(uint32_t)POLLOUT)))
		input(c);
	else if (revents & (POLLHUP | POLLERR | POLLNVAL))
		input_ends(c);
	char_rewatch(c);
}

void char_in_work(struct loop_work *w)
{
	struct chardev *c = container_of(w, struct chardev, in_work);

	if (c->dead) {
		char_release(c);
		return;
	}
	if (c->hang_up && c->open && c->drv->hangup)
		c->drv->hangup(c, true, 0);
	c->hang_up = false;
	if (c->announce && c->open)
		char_send_event(c, CHAR_OPENED);
	c->announce = false;
	if (c->tap)
		c->tap->accept(c->tap);
	if (c->drv->accept) {
		c->drv->accept(c);
		return;
	}
	if (c->mux)
		typed_deliver(c);
	c->want_in = c->mux || char_front_room(c) > 0;
	char_rewatch(c);
}
