/*
 * vmm/char/char_console.c - a console: a socket at which many watch and one
 * writes. See char_console.h for the protocol and the rules.
 * Threads: loop.
 * Missing: nothing known.
 *
 * All clients read from the chardev's one ring, each from a position of its
 * own, so that a client costs the same however slow it is. The ring holds
 * output back for the writer only, and only while that takes some; and for the
 * chardev of chardev=, whose promises stay what they are.
 */
#include "vmm/char/char_console.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_addr.h"

#define HELLO_NS	(200 * NS_PER_MS)	/* then a silent client is a plain one */
#define STUCK_NS	(2 * NS_PER_SEC)	/* then a writer holds nobody up */
#define EVICT_NS	(5 * NS_PER_SEC)	/* then a stuck one makes room for others */
#define ACCEPT_RETRY_NS	NS_PER_SEC		/* out of descriptors and the like */
#define REPLAY_BYTES	(256 * KIB)		/* the boot of a whole system */

enum { ACCEPTS_PER_TURN = 16, BACKLOG = 16 };

static const struct prop console_props[] = {
	PROP_STR(struct char_console, path, "path", NULL, "path of the unix socket to make",
		 .flags = PROP_REQUIRED),
	PROP_SIZE(struct char_console, c.replay, "replay", 4 * KIB, CHAR_REPLAY_MAX, REPLAY_BYTES,
		  "output that is kept and shown to whoever attaches", .unit = "bytes"),
	PROP_LINK(struct char_console, inner_id, "chardev", "chardev",
		  "another chardev, a pty for example, that is one of the clients"),
	PROP_BOOL(struct char_console, wait, "wait", false,
		  "wait for the first client before the guest starts"),
	PROP_END
};

/* ---- the ring and the peers ---- */

static struct console_client *inner_client(const struct char_console *con)
{
	struct console_client *cl;

	for (cl = con->clients; cl && cl->mode != CONSOLE_INNER; cl = cl->next)
		;
	return cl;
}

/* Nothing that this one has not had may be pushed out. Lock held. */
static void hold_for(struct char_console *con, struct console_client *cl)
{
	console_skip_lost(cl);
	con->c.out.sent = MIN(con->c.out.sent, cl->pos);
	con->c.hold = true;
}

/* Output is held back for a writer that takes it, and for the chardev below,
 * which says itself what it does when nobody reads. */
static void update_hold(struct char_console *con)
{
	struct chardev *c = &con->c;
	struct console_client *w = con->writer, *inner = inner_client(con);

	pthread_mutex_lock(&c->lock);
	if (w && w->lagging && w->pos == c->out.head)
		w->lagging = false;
	c->hold = false;
	c->out.sent = c->out.head;
	if (w && !w->lagging && !w->gone)
		hold_for(con, w);
	if (inner)
		hold_for(con, inner);
	pthread_mutex_unlock(&c->lock);
	char_feed(c);
}

static bool inner_open(const struct char_console *con)
{
	return con->inner && char_is_open(con->inner);
}

static void update_open(struct char_console *con)
{
	struct chardev *c = &con->c;
	bool open = con->count || inner_open(con), was;

	pthread_mutex_lock(&c->lock);
	was = c->open;
	c->open = open;
	c->pump_on = con->clients != NULL;
	pthread_mutex_unlock(&c->lock);
	if (open)
		c->waiting = false;
	if (open == was)
		return;
	c->announce = false;
	char_send_event(c, open ? CHAR_OPENED : CHAR_CLOSED);
}

/* ---- roles ---- */

static void set_writer(struct char_console *con, struct console_client *cl)
{
	struct console_client *old = con->writer;

	con->writer = cl;
	if (old)
		old->role_due = true;
	if (cl) {
		cl->role_due = true;
		cl->lagging = false;
		cl->stuck_ns = 0;
		if (cl->cols)
			char_set_winsize(&con->c, cl->cols, cl->rows);
	}
	update_hold(con);
	/* Input that waited for the one, or is now nobody's. */
	loop_post(con->c.loop, &con->c.in_work);
	loop_post(con->c.loop, &con->c.out_work);
}

static bool may_write(const struct console_client *cl)
{
	return cl->mode != CONSOLE_NEW && cl->may_write;
}

/* The writer has gone: who came first follows. */
static void promote(struct char_console *con)
{
	struct console_client *cl;

	for (cl = con->clients; cl && !may_write(cl); cl = cl->next)
		;
	if (cl)
		console_notice(cl, "you have the keyboard now");
	set_writer(con, cl);
}

void console_take_over(struct console_client *cl)
{
	struct char_console *con = cl->con;

	if (cl->eof || con->writer == cl)
		return;
	cl->may_write = true;
	if (con->writer)
		console_notice(con->writer, "another client took the keyboard; you watch");
	console_notice(cl, "you have the keyboard");
	set_writer(con, cl);
}

void console_retire(struct console_client *cl)
{
	cl->may_write = false;
	if (cl->con->writer == cl)
		promote(cl->con);
}

void console_admit(struct console_client *cl, enum console_mode mode, unsigned int flags)
{
	struct char_console *con = cl->con;

	cl->mode = mode;
	cl->role_due = true;
	cl->may_write = !(flags & CONSOLE_READ_ONLY) && !cl->eof;
	if (!cl->may_write) {
		console_notice(cl, "you watch");
		console_retire(cl);
	} else if (con->writer == cl) {
		;	/* it was taken for a plain one */
	} else if (!con->writer) {
		set_writer(con, cl);
	} else if (flags & CONSOLE_TAKE) {
		console_take_over(cl);
	} else {
		console_notice(cl, "another client has the keyboard; you watch");
	}
	loop_post(con->c.loop, &con->c.out_work);
}

void console_size(struct console_client *cl, uint16_t cols, uint16_t rows)
{
	cl->cols = cols;
	cl->rows = rows;
	if (cl->con->writer == cl)
		char_set_winsize(&cl->con->c, cols, rows);
}

/* ---- clients ---- */

static struct console_client *client_add(struct char_console *con, int fd,
					 enum console_mode mode)
{
	struct console_client *cl = xcalloc(1, sizeof(*cl)), **at;

	cl->con = con;
	cl->mode = mode;
	cl->w.fd = fd;
	cl->may_write = mode != CONSOLE_INNER;
	cl->born_ns = clock_ns();
	pthread_mutex_lock(&con->c.lock);
	cl->pos = char_ring_oldest(&con->c.out);
	pthread_mutex_unlock(&con->c.lock);
	for (at = &con->clients; *at; at = &(*at)->next)
		;
	*at = cl;
	con->count += fd >= 0;
	return cl;
}

static void client_drop(struct console_client *cl)
{
	struct char_console *con = cl->con;
	struct console_client **at;

	for (at = &con->clients; *at != cl; at = &(*at)->next)
		;
	*at = cl->next;
	if (cl->w.fd >= 0) {
		loop_fd_del(&cl->w);
		close(cl->w.fd);
		con->count--;
	}
	if (con->writer == cl) {
		con->writer = NULL;
		promote(con);
	}
	free(cl);
	update_open(con);
}

/* Send and listen as far as that goes; false: the client is gone. */
static bool client_serve(struct console_client *cl)
{
	if (console_client_pump(cl) < 0) {
		client_drop(cl);
		return false;
	}
	console_client_rewatch(cl);
	return true;
}

/* It is gone; what it typed last may still wait for the guest to take it. */
static int client_leaves(struct console_client *cl)
{
	int unread = 0;

	if (cl->gone || cl != cl->con->writer || ioctl(cl->w.fd, FIONREAD, &unread) < 0 ||
	    (!unread && !cl->in_len))
		return -EPIPE;
	cl->gone = true;
	return 0;
}

static void client_cb(struct loop_fd *w, uint32_t revents)
{
	struct console_client *cl = container_of(w, struct console_client, w);
	struct char_console *con = cl->con;
	int r = 0;

	if (revents & POLLIN)
		r = console_client_input(cl);
	else if (revents & (POLLHUP | POLLERR | POLLNVAL))
		r = client_leaves(cl);
	if (r < 0)
		client_drop(cl);
	else
		client_serve(cl);
	update_hold(con);
}

static void console_pump(struct chardev *c)
{
	struct char_console *con = (struct char_console *)c;
	struct console_client *cl, *next;

	for (cl = con->clients; cl; cl = next) {
		next = cl->next;
		client_serve(cl);
	}
	update_hold(con);
}

/* The guest takes input again. */
static void console_accept(struct chardev *c)
{
	struct char_console *con = (struct char_console *)c;
	struct console_client *cl, *next;

	char_deliver(c, con->in, &con->in_len);
	if (con->inner)
		char_accept_input(con->inner);
	for (cl = con->clients; cl; cl = next) {
		next = cl->next;
		if (cl->w.fd < 0)
			continue;
		if (console_client_input(cl) < 0)
			client_drop(cl);
		else
			console_client_rewatch(cl);
	}
}

static bool console_idle(struct chardev *c)
{
	struct console_client *cl;

	for (cl = ((struct char_console *)c)->clients; cl; cl = cl->next)
		if (!console_client_idle(cl))
			return false;
	return true;
}

/* ---- time ---- */

static uint64_t next_deadline(const struct char_console *con)
{
	const struct console_client *cl;
	uint64_t at = con->retry_ns ? con->retry_ns : UINT64_MAX;

	for (cl = con->clients; cl; cl = cl->next)
		if (cl->mode == CONSOLE_NEW)
			at = MIN(at, cl->born_ns + HELLO_NS);
	if (con->writer && con->writer->stuck_ns && !con->writer->lagging &&
	    con->writer->mode != CONSOLE_INNER)
		at = MIN(at, con->writer->stuck_ns + STUCK_NS);
	return at;
}

static void arm(struct char_console *con)
{
	uint64_t at = next_deadline(con);

	if (at != UINT64_MAX)
		loop_timer_arm(&con->timer, at);
}

static void timer_cb(struct loop_timer *t)
{
	struct char_console *con = container_of(t, struct char_console, timer);
	struct console_client *cl, *w = con->writer;
	uint64_t now = clock_ns();

	for (cl = con->clients; cl; cl = cl->next)
		if (cl->mode == CONSOLE_NEW && now >= cl->born_ns + HELLO_NS)
			console_admit(cl, CONSOLE_PLAIN, 0);
	if (con->retry_ns && now >= con->retry_ns) {
		con->retry_ns = 0;
		loop_fd_mod(&con->listen, POLLIN);
	}
	if (w && w->stuck_ns && w->mode != CONSOLE_INNER && now >= w->stuck_ns + STUCK_NS) {
		w->lagging = true;
		update_hold(con);
	}
	arm(con);
}

void console_moved(struct console_client *cl)
{
	cl->stuck_ns = 0;
}

void console_stuck(struct console_client *cl)
{
	if (cl->stuck_ns)
		return;
	cl->stuck_ns = clock_ns();
	arm(cl->con);
}

/* ---- the socket ---- */

/* Whoever has not read for longest makes room. */
static bool evict(struct char_console *con)
{
	struct console_client *cl, *worst = NULL;

	for (cl = con->clients; cl; cl = cl->next)
		if (cl->w.fd >= 0 && cl->stuck_ns && (!worst || cl->stuck_ns < worst->stuck_ns))
			worst = cl;
	if (!worst || clock_ns() < worst->stuck_ns + EVICT_NS)
		return false;
	client_drop(worst);
	return true;
}

static void refuse(int fd)
{
	static const char text[] = "[console: too many clients; try again later]\r\n";

	if (send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

static void client_arrives(struct char_console *con, int fd)
{
	struct console_client *cl;

	if (con->count >= CONSOLE_CLIENTS && !evict(con)) {
		refuse(fd);
		return;
	}
	cl = client_add(con, fd, CONSOLE_NEW);
	cl->w.events = POLLIN;
	cl->w.cb = client_cb;
	if (loop_fd_add(con->c.loop, &cl->w) < 0) {
		client_drop(cl);
		return;
	}
	arm(con);
	update_open(con);
}

static void listen_cb(struct loop_fd *w, uint32_t revents)
{
	struct char_console *con = container_of(w, struct char_console, listen);
	int i, fd;

	for (i = 0; i < ACCEPTS_PER_TURN; i++) {
		fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			break;
		client_arrives(con, fd);
	}
	if (i < ACCEPTS_PER_TURN && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_warn("chardev '%s': cannot accept a client: %s", con->c.id, strerror(errno));
		loop_fd_mod(w, 0);
		con->retry_ns = clock_ns() + ACCEPT_RETRY_NS;
		arm(con);
	}
}

static int console_listen(struct char_console *con, struct err *e)
{
	struct char_addr a;
	int r = char_addr_unix(&a, con->c.id, con->path, false, false, e);

	if (r < 0)
		return r;
	con->listen.fd = char_addr_listen(&a, con->c.id, BACKLOG, 0600, e);
	if (con->listen.fd < 0)
		return con->listen.fd;
	con->bound = true;
	r = loop_fd_add(con->c.loop, &con->listen);
	return r < 0 ? err_sys(e, r, "chardev '%s'", con->c.id) : 0;
}

/* ---- the inner chardev ---- */

static struct char_console *of_front(struct char_front *f)
{
	return container_of(f, struct char_console, inner_front);
}

/* Who may not write is read all the same: what he types is dropped. */
static size_t inner_can_read(struct char_front *f)
{
	const struct char_console *con = of_front(f);

	return con->writer && con->writer->mode == CONSOLE_INNER ?
		sizeof(con->in) - con->in_len : sizeof(con->in);
}

static void inner_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct char_console *con = of_front(f);

	if (!con->writer || con->writer->mode != CONSOLE_INNER)
		return;
	memcpy(con->in + con->in_len, buf, len);
	con->in_len += len;
	char_deliver(&con->c, con->in, &con->in_len);
}

static void inner_writable(struct char_front *f)
{
	loop_post(of_front(f)->c.loop, &of_front(f)->c.out_work);
}

static void inner_event(struct char_front *f, enum char_event ev)
{
	struct char_console *con = of_front(f);
	struct console_client *cl = inner_client(con);
	uint16_t cols, rows;

	switch (ev) {
	case CHAR_OPENED:	/* null and file have no keyboard to give */
		if (con->inner->drv->read || con->inner->drv->accept)
			console_admit(cl, CONSOLE_INNER, 0);
		break;
	case CHAR_CLOSED:
		console_retire(cl);
		break;
	case CHAR_WINSIZE:
		char_winsize(con->inner, &cols, &rows);
		console_size(cl, cols, rows);
		break;
	case CHAR_BREAK:
		if (con->writer == cl)
			char_send_event(&con->c, CHAR_BREAK);
		break;
	}
	update_open(con);
}

static int inner_attach(struct char_console *con, struct err *e)
{
	char owner[80];
	int r;

	if (!con->inner_id)
		return 0;
	con->inner = char_find(con->c.set, con->inner_id);
	if (!con->inner)
		return err_set(e, -ENOENT, "chardev '%s': chardev=%s: no such chardev; add it "
			       "before the console", con->c.id, con->inner_id);
	con->inner_front = (struct char_front){
		.can_read = inner_can_read, .read = inner_read,
		.writable = inner_writable, .event = inner_event,
	};
	snprintf(owner, sizeof(owner), "chardev '%.60s'", con->c.id);
	r = char_connect(con->inner, &con->inner_front, owner, e);
	if (r < 0) {
		con->inner = NULL;
		return r;
	}
	client_add(con, -1, CONSOLE_INNER);
	update_open(con);
	return 0;
}

/* ---- life ---- */

static int console_open(struct chardev *c, struct err *e)
{
	struct char_console *con = (struct char_console *)c;
	int r;

	con->listen = (struct loop_fd){ .fd = -1, .events = POLLIN, .cb = listen_cb };
	loop_timer_init(c->loop, &con->timer, timer_cb, NULL);
	r = inner_attach(con, e);
	if (r >= 0)
		r = console_listen(con, e);
	if (r < 0)
		return r;
	c->waiting = con->wait && !c->open;
	char_set_filename(c, "console:%s", con->path);
	return 0;
}

static void console_close(struct chardev *c)
{
	struct char_console *con = (struct char_console *)c;

	loop_timer_cancel(&con->timer);
	loop_fd_del(&con->listen);
	fd_close(&con->listen.fd);
	if (con->bound)
		unlink(con->path);
	while (con->clients)
		client_drop(con->clients);
	if (con->inner)
		char_connect(con->inner, NULL, NULL, NULL);
	con->inner = NULL;
	loop_timer_cancel(&con->timer);
}

const struct char_driver char_console_driver = {
	.name = "console", .help = "a socket where many watch the guest and one writes",
	.size = sizeof(struct char_console), .props = console_props,
	.open = console_open, .close = console_close,
	.accept = console_accept, .pump = console_pump, .idle = console_idle,
};
