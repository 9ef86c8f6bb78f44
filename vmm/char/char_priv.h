/*
 * vmm/char/char_priv.h - what the files of vmm/char share. Drivers embed
 * struct chardev first. Included nowhere else.
 */
#ifndef VMM_CHAR_CHAR_PRIV_H
#define VMM_CHAR_CHAR_PRIV_H

#include <sys/types.h>

#include "vmm/char/char.h"

#define CHAR_RING_BYTES	65536u	/* a minute of 9600 baud */
#define CHAR_REPLAY_MAX	(16ull << 20)	/* memory an unread console may cost */
#define CHAR_INPUT_BYTES 4096u	/* one read; and typed ahead on a mux */

#define CHAR_FDS_MAX	16	/* descriptors that wait to be taken */

enum char_fd_kind { CHAR_FD_PLAIN, CHAR_FD_PIPE, CHAR_FD_SOCKET };

/*
 * Bytes on their way to the host, and behind them those that went already: a
 * ring of @size bytes of a stream. Positions count the stream's bytes. What
 * waits is [sent, head); what can be shown again starts at char_ring_oldest()
 * and leaves at least CHAR_RING_BYTES for new ones. The buffer comes with the first byte.
 */
struct char_ring {
	uint8_t *buf;
	size_t size;
	bool history;		/* bytes that went can be asked for again */
	uint64_t head;		/* end of the stream */
	uint64_t sent;		/* the next byte to go */
};

/* A ring on its way to a descriptor by asynchronous writes. */
struct char_aio {
	struct chardev *c;
	struct char_ring *ring;
	int fd;			/* owned; -1: none */
	bool busy;		/* io is under way */
	bool failed;		/* said so; what follows is dropped */
	struct loop_io io;
	struct iovec iov[2];
};

struct chardev {
	const struct char_driver *drv;
	struct char_set *set;
	struct chardev *next;
	struct loop *loop;
	char *id;
	char *owner;		/* of the front end */
	char *filename;
	/* properties (char_props) */
	bool mux;
	char *logfile;
	bool logappend;

	/* any thread, under lock; the lock is a leaf */
	pthread_mutex_t lock;
	struct char_ring out;
	struct char_ring log;
	bool open;		/* a peer is there; changed on the loop only */
	bool hold;		/* a peer gets every byte: what waits stays */
	bool pump_on;		/* drv->pump wants to know of output */
	bool starved;		/* a write was short: writable() is owed */
	uint16_t cols, rows;	/* the peer's window, 0: not known */
	bool stall_out;		/* no write is taken, on purpose */
	struct char_tap *tap;

	/* set-up */
	uint64_t replay;	/* driver: bytes shown to a peer that comes */
	/* loop */
	bool waiting;		/* driver: char_wait() waits for a peer */
	struct char_front *front;
	struct loop_work out_work, in_work;
	struct loop_fd in;	/* input, and output where it is one descriptor */
	struct loop_fd out_watch;	/* a separate output descriptor, fd -1: none */
	enum char_fd_kind in_kind, out_kind;
	bool want_in, want_out;
	bool gone;		/* the peer, but there is input of its left */
	bool keep_fds;
	int fds[CHAR_FDS_MAX];	/* received, oldest first */
	int fd_count;
	bool hang_up;		/* char_hangup() was asked for */
	bool stall_in;		/* no input is given, on purpose */
	bool announce;		/* tell the new front end that a peer is there */
	struct char_aio out_aio, log_aio;	/* out_aio: instead of drv->write */
	bool opened;		/* drv->open was called: drv->close is due */
	bool dead;		/* deleted; freed when no write is in flight */
	/* mux */
	bool escaped;		/* Ctrl-A was typed */
	uint8_t *typed;		/* CHAR_INPUT_BYTES, for the front end */
	size_t typed_len;
};

struct char_set {
	struct loop *loop;
	struct chardev *list;
	int closing;		/* deleted ones whose writes are in flight */
	struct fds *fds;	/* borrowed */
	void (*escape)(char key, void *arg);
	void *escape_arg;
};

/* ---- char_out.c ---- */

void char_ring_init(struct char_ring *r, size_t replay);
void char_ring_free(struct char_ring *r);
/* Bytes that can be added without losing one that waits. */
size_t char_ring_room(const struct char_ring *r);
static inline size_t char_ring_waiting(const struct char_ring *r)
{
	return (size_t)(r->head - r->sent);
}
uint64_t char_ring_oldest(const struct char_ring *r);
/* The oldest bytes are the next to go. */
void char_ring_rewind(struct char_ring *r);
/* Copy up to @len bytes from position @pos on, which is in the ring. */
size_t char_ring_copy(const struct char_ring *r, uint64_t pos, void *buf, size_t len);
/* The caller made sure of the room. */
void char_ring_put(struct char_ring *r, const void *buf, size_t len);
/* What waits as up to two pieces, oldest first; returns how many. */
int char_ring_peek(const struct char_ring *r, struct iovec iov[2]);
void char_ring_take(struct char_ring *r, size_t len);

void char_out_work(struct loop_work *w);
/* What @old took for a peer and did not pass on goes to @c, the oldest bytes
 * first, as far as its ring goes. Nobody writes to either. */
void char_out_inherit(struct chardev *c, const struct chardev *old);
/* Start writing what waits for files. */
void char_out_finish(struct chardev *c);
void char_aio_init(struct chardev *c, struct char_aio *a, struct char_ring *r, int fd);
/* Nothing is to be written: no peer and nothing in flight, or empty. */
bool char_out_idle(struct chardev *c);

/* ---- char_fd.c ---- */

/* Start watching: @in for input, @out for room (may be the same; -1: none).
 * The descriptors stay the driver's. 0 or -errno. */
int char_watch(struct chardev *c, int in, int out);
void char_unwatch(struct chardev *c);
/* Bring the watched events in line with want_in and want_out. */
void char_rewatch(struct chardev *c);

/* ---- char_in.c ---- */

/* Bytes the front end takes now. */
size_t char_front_room(struct chardev *c);
void char_in_work(struct loop_work *w);
void char_in_watch(struct loop_fd *w, uint32_t revents);
void char_out_watch(struct loop_fd *w, uint32_t revents);

/* ---- char.c: for drivers and the above ---- */

/* A chardev that no set has yet. */
int char_make(struct char_set *s, const json_t *args, struct chardev **out, struct err *e);
/* @c, which is in no set any more, and its front end part. */
void char_shut(struct chardev *c);

/* A peer came or went. Going, @discard throws queued output away. */
void char_set_open(struct chardev *c, bool open, bool discard);
/* Tell the front end it may write again when it is owed that. */
void char_feed(struct chardev *c);
/* Free @c, which is out of the set and closed, or do so later when writes and
 * posted work have come back. */
void char_release(struct chardev *c);
void char_send_event(struct chardev *c, enum char_event ev);
void char_set_filename(struct chardev *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* read() and writev() on what char_watch() watches, for the drivers' read and
 * write: never wait (files other than sockets must be O_NONBLOCK), raise no
 * SIGPIPE, return -errno. */
void char_drop_fds(struct chardev *c);
ssize_t char_fd_read(struct chardev *c, void *buf, size_t len);
ssize_t char_fd_write(struct chardev *c, const struct iovec *iov, int n);

/* The peer's window has this size; tells the front end when that is new. */
void char_set_winsize(struct chardev *c, uint16_t cols, uint16_t rows);
/* The same, asked of terminal @fd; nothing happens when it is none. */
void char_ask_winsize(struct chardev *c, int fd);

/* A property row for drivers whose peers come and go. */
#define CHAR_PROP_REPLAY(st, def) \
	PROP_SIZE(st, c.replay, "replay", 0, CHAR_REPLAY_MAX, def, \
		  "output that is kept and shown to whoever attaches", .unit = "bytes")

extern const struct char_driver char_stdio_driver, char_pty_driver,
	char_file_driver, char_socket_driver, char_null_driver, char_ringbuf_driver,
	char_console_driver, char_serial_driver;

#endif
