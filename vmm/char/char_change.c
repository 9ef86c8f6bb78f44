/*
 * vmm/char/char_change.c - another back end for a front end that stays.
 * Spec:    QEMU's qapi/char.json, chardev-change.
 * Threads: main loop.
 * Missing: chardevs with mux=on, QMP sessions and consoles on top of another
 *          chardev, which have no moved() to follow with.
 *          A terminal device changed to itself ends up cooked: the old one puts
 *          back its settings last.
 *
 * Drivers embed struct chardev, so the new back end is a new chardev of the
 * same id. It is complete before the old one is touched.
 */
#include <errno.h>

#include "vmm/base/json.h"
#include "vmm/char/char_priv.h"

static int check_old(const struct chardev *old, struct err *e)
{
	if (old->mux)
		return err_set(e, -EBUSY, "chardev '%s' has mux=on, and its Ctrl-A commands "
			       "would be lost; only one without can be changed", old->id);
	if (old->front && !old->front->moved)
		return err_set(e, -EBUSY, "chardev '%s' is in use by %s, which cannot go over to "
			       "another backend; add a further chardev instead", old->id,
			       old->owner);
	return 0;
}

/* @front had the old one before the new one was opened. */
static int check_new(const struct chardev *old, const struct chardev *c,
		     const struct char_front *front, struct err *e)
{
	if (c->mux)
		return err_set(e, -EINVAL, "chardev '%s': mux=on cannot come later; leave it out",
			       c->id);
	if (old->front != front)
		return err_set(e, -EINVAL, "chardev '%s' cannot be put on itself; choose another "
			       "chardev=", c->id);
	return 0;
}

/* The front end's lock keeps writers out, so nothing falls between the two. */
static void hand_over(struct chardev *c, struct chardev *old)
{
	struct char_front *f = old->front;

	if (f && f->lock)
		pthread_mutex_lock(f->lock);
	char_out_inherit(c, old);
	c->stall_in = old->stall_in;
	c->stall_out = old->stall_out;
	char_set_tap(c, old->tap);
	char_set_tap(old, NULL);
	c->front = f;
	c->owner = old->owner;
	old->owner = NULL;
	c->starved = old->starved;
	if (f)
		f->moved(f, c);
	if (f && f->lock)
		pthread_mutex_unlock(f->lock);
}

/* What differs for the front end. */
static void tell_front(struct chardev *c, const struct chardev *old)
{
	bool resized = c->cols && (c->cols != old->cols || c->rows != old->rows);

	if (old->open && !c->open)
		char_send_event(c, CHAR_CLOSED);
	c->announce = c->open && !old->open;
	if (resized)
		char_send_event(c, CHAR_WINSIZE);
	char_feed(c);
	char_accept_input(c);
}

int char_change(struct char_set *s, const json_t *args, struct chardev **out, struct err *e)
{
	const char *id = json_str(args, "id", "");
	struct chardev *old = char_find(s, id), *c, **p;
	struct char_front *front;
	int r;

	if (!old)
		return err_set(e, -ENOENT, "there is no chardev '%s'", id);
	r = check_old(old, e);
	if (r < 0)
		return r;
	front = old->front;
	r = char_make(s, args, &c, e);
	if (r < 0)
		return r;
	r = check_new(old, c, front, e);
	if (r < 0) {
		char_shut(c);
		return r;
	}
	for (p = &s->list; *p != old; p = &(*p)->next)
		;
	c->next = old->next;
	*p = c;
	hand_over(c, old);
	tell_front(c, old);
	char_shut(old);
	if (out)
		*out = c;
	return 0;
}
