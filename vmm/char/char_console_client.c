/*
 * vmm/char/char_console_client.c - one client of a console: what it is sent
 * and what it says. The protocol is in char_console.h.
 * Threads: loop.
 * Missing: nothing known.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/util.h"
#include "vmm/char/char_console.h"

enum { SENDS_PER_TURN = 16 };

/* ---- output ---- */

void console_notice(struct console_client *cl, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cl->notice, sizeof(cl->notice), fmt, ap);
	va_end(ap);
}

static void put_frame(struct console_client *cl, uint8_t type, const void *p, size_t len)
{
	cl->out[0] = type;
	put_le16(cl->out + 1, (uint16_t)len);
	memcpy(cl->out + CONSOLE_HEAD, p, len);
	cl->out_off = 0;
	cl->out_len = CONSOLE_HEAD + len;
}

static void put_text(struct console_client *cl, const char *text)
{
	if (cl->mode == CONSOLE_FRAMED) {
		put_frame(cl, CONSOLE_NOTICE, text, strlen(text));
		return;
	}
	cl->out_off = 0;
	cl->out_len = (size_t)snprintf((char *)cl->out, sizeof(cl->out),
				       "\r\n[console: %s]\r\n", text);
}

/* What the ring has lost since is told, then what it has kept goes on. */
void console_skip_lost(struct console_client *cl)
{
	const struct char_ring *r = &cl->con->c.out;
	uint64_t start = r->head - MIN(r->head, (uint64_t)r->size);
	uint64_t to = char_ring_oldest(r);

	if (cl->pos >= start)
		return;
	cl->skipped += to - cl->pos;
	cl->pos = to;
}

/* Fill out[] with output; false: there is none. */
static bool put_output(struct console_client *cl)
{
	struct chardev *c = &cl->con->c;
	size_t head = cl->mode == CONSOLE_FRAMED ? CONSOLE_HEAD : 0, n;

	pthread_mutex_lock(&c->lock);
	console_skip_lost(cl);
	n = cl->skipped ? 0 :
		char_ring_copy(&c->out, cl->pos, cl->out + head, CONSOLE_CHUNK);
	pthread_mutex_unlock(&c->lock);
	if (head) {
		cl->out[0] = CONSOLE_OUTPUT;
		put_le16(cl->out + 1, (uint16_t)n);
	}
	cl->out_off = 0;
	cl->out_len = n ? head + n : 0;
	cl->pos += n;
	return n > 0;
}

/* The next thing for this client goes into out[]; false: nothing. */
static bool fill(struct console_client *cl)
{
	uint8_t byte = CONSOLE_VERSION;

	if (cl->mode == CONSOLE_FRAMED && !cl->greeted) {
		cl->out[0] = byte;
		cl->out_off = 0;
		cl->out_len = 1;
		cl->greeted = true;
	} else if (cl->mode == CONSOLE_FRAMED && cl->role_due) {
		byte = cl == cl->con->writer;
		put_frame(cl, CONSOLE_ROLE, &byte, 1);
		cl->role_due = false;
	} else if (*cl->notice) {
		put_text(cl, cl->notice);
		*cl->notice = '\0';
	} else if (!put_output(cl)) {
		if (!cl->skipped)
			return false;
		console_notice(cl, "%llu bytes skipped", (unsigned long long)cl->skipped);
		cl->skipped = 0;
		return fill(cl);
	}
	return true;
}

static ssize_t send_out(struct console_client *cl)
{
	const uint8_t *p = cl->out + cl->out_off;
	size_t len = cl->out_len - cl->out_off;
	ssize_t n;

	if (cl->mode == CONSOLE_INNER) {
		n = (ssize_t)char_write(cl->con->inner, p, len);
		return n ? n : -EAGAIN;
	}
	n = send(cl->w.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n;
}

int console_client_pump(struct console_client *cl)
{
	int left = SENDS_PER_TURN;
	ssize_t n;

	if (cl->mode == CONSOLE_NEW || cl->gone)
		return 0;
	cl->full = false;
	while (cl->out_off < cl->out_len || fill(cl)) {
		if (!left--) {
			loop_post(cl->con->c.loop, &cl->con->c.out_work);
			return 0;
		}
		n = send_out(cl);
		if (n == -EAGAIN) {
			cl->full = true;
			console_stuck(cl);
			return 0;
		}
		if (n < 0)
			return (int)n;
		cl->out_off += (size_t)n;
		console_moved(cl);
	}
	return 0;
}

bool console_client_idle(struct console_client *cl)
{
	struct chardev *c = &cl->con->c;
	bool all;

	pthread_mutex_lock(&c->lock);
	all = cl->pos == c->out.head;
	pthread_mutex_unlock(&c->lock);
	return cl->full || cl->gone || (all && cl->out_off == cl->out_len);
}

/* ---- input ---- */

static size_t guest_room(const struct char_console *con)
{
	return sizeof(con->in) - con->in_len;
}

static void to_guest(struct console_client *cl, const uint8_t *p, size_t len)
{
	struct char_console *con = cl->con;

	if (cl != con->writer)
		return;		/* it was told that it watches */
	memcpy(con->in + con->in_len, p, len);
	con->in_len += len;
	char_deliver(&con->c, con->in, &con->in_len);
}

/* One frame; false: it has to wait for room. */
static bool take_frame(struct console_client *cl, uint8_t type, const uint8_t *p, size_t len)
{
	switch (type) {
	case CONSOLE_INPUT:
		if (cl == cl->con->writer && len > guest_room(cl->con))
			return false;
		to_guest(cl, p, len);
		break;
	case CONSOLE_SIZE:
		if (len == 4)
			console_size(cl, get_le16(p), get_le16(p + 2));
		break;
	case CONSOLE_TAKE_OVER:
		console_take_over(cl);
		break;
	case CONSOLE_LET_GO:
		console_retire(cl);
		break;
	}
	return true;
}

/* Take the whole frames of in[]; the rest moves to the front. */
static int take_frames(struct console_client *cl)
{
	size_t at = 0, len;

	while (cl->in_len - at >= CONSOLE_HEAD) {
		len = get_le16(cl->in + at + 1);
		if (len > CONSOLE_INPUT_MAX)
			return -EPROTO;
		if (cl->in_len - at < CONSOLE_HEAD + len)
			break;
		if (!take_frame(cl, cl->in[at], cl->in + at + CONSOLE_HEAD, len))
			break;
		at += CONSOLE_HEAD + len;
	}
	cl->in_len -= at;
	memmove(cl->in, cl->in + at, cl->in_len);
	return 0;
}

/* What a newcomer sent before it was taken for a plain client may have to wait
 * for room; all that is read later has it. */
static void take_plain(struct console_client *cl)
{
	size_t n = cl->in_len;

	if (cl == cl->con->writer)
		n = MIN(n, guest_room(cl->con));
	to_guest(cl, cl->in, n);
	cl->in_len -= n;
	memmove(cl->in, cl->in + n, cl->in_len);
}

/* The first bytes it ever sends, perhaps after it was taken for a plain one. */
static void take_hello(struct console_client *cl)
{
	if (cl->in[0] != CONSOLE_VERSION) {
		console_admit(cl, CONSOLE_PLAIN, 0);
		return;
	}
	console_admit(cl, CONSOLE_FRAMED, cl->in[1]);
	cl->in_len -= 2;
	memmove(cl->in, cl->in + 2, cl->in_len);
}

static int take(struct console_client *cl)
{
	if (!cl->spoke && cl->in_len) {
		if (cl->in_len < 2 && cl->in[0] == CONSOLE_VERSION)
			return 0;	/* half of a hello */
		cl->spoke = true;
		take_hello(cl);
	}
	if (cl->mode == CONSOLE_FRAMED)
		return take_frames(cl);
	if (cl->mode == CONSOLE_PLAIN)
		take_plain(cl);
	return 0;
}

/* Bytes that may be read now. */
static size_t in_room(const struct console_client *cl)
{
	size_t room = sizeof(cl->in) - cl->in_len;

	if (cl->eof)
		return 0;
	if (cl->mode == CONSOLE_PLAIN && cl == cl->con->writer)
		room = MIN(room, guest_room(cl->con));
	return room;
}

int console_client_input(struct console_client *cl)
{
	size_t room;
	ssize_t n;
	int r = take(cl);	/* what had to wait */

	if (r < 0)
		return r;
	room = in_room(cl);
	if (!room)
		return 0;
	n = recv(cl->w.fd, cl->in + cl->in_len, room, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n > 0) {
		cl->in_len += (size_t)n;
		return take(cl);
	}
	/* It has said its last word, and may still want to watch. */
	cl->eof = true;
	cl->gone = false;
	if (cl->mode == CONSOLE_NEW)
		console_admit(cl, CONSOLE_PLAIN, 0);
	console_retire(cl);
	return 0;
}

void console_client_rewatch(struct console_client *cl)
{
	/* With POLLHUP alone a client that goes is noticed. */
	uint32_t events = in_room(cl) ? POLLIN : cl->gone ? 0 : POLLHUP;

	if (cl->w.fd >= 0)
		loop_fd_mod(&cl->w, events | (cl->full ? POLLOUT : 0));
}
