/*
 * vmm/char/char.h - character back ends: stdio, pty, file, socket and more.
 *
 * A chardev moves bytes between a host descriptor and one front end (a serial
 * port, a QMP monitor). Output that the host side does not take at once is
 * kept in a ring of 64 KiB, and when that is full the front end is told to
 * wait: no thread ever blocks, and nothing is dropped while somebody reads.
 * With nobody there output goes on at full speed. Whoever attaches is shown the
 * last replay= bytes, delivered before or not: 64 KiB on a pty, none on a socket.
 *
 * Threads: callbacks on the loop the chardev was created on. char_write() and
 * char_writable() may be called from any thread.
 */
#ifndef VMM_CHAR_CHAR_H
#define VMM_CHAR_CHAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"
#include "vmm/loop/loop.h"

struct chardev;
struct char_set;

enum char_event { CHAR_OPENED, CHAR_CLOSED, CHAR_BREAK, CHAR_WINSIZE };

/* What a front end is told; all on the loop, @lock held when not NULL. A front
 * end that connects to a chardev which is open already gets CHAR_OPENED soon.
 * Any of the callbacks may be NULL. */
struct char_front {
	/* Bytes the front end takes now; 0: call char_accept_input() later. */
	size_t (*can_read)(struct char_front *f);
	void (*read)(struct char_front *f, const uint8_t *buf, size_t len);
	void (*writable)(struct char_front *f);	/* room again after a short write */
	void (*event)(struct char_front *f, enum char_event ev);
	/* A server socket has a further client: @fd, which the front end takes.
	 * NULL: it waits in the backlog until the present one goes. */
	void (*extra)(struct char_front *f, int fd);
	/* The chardev is @to from here on, the old one will be gone. NULL: it
	 * cannot be changed. For those who call char_write() under @lock only. */
	void (*moved)(struct char_front *f, struct chardev *to);
	pthread_mutex_t *lock;
};

/* Somebody in this process beside the back end, whatever that is. */
struct char_tap {
	/* A copy of output that was taken; any thread, the chardev's lock held:
	 * it must only copy. */
	void (*output)(struct char_tap *t, const void *buf, size_t len);
	/* The front end may take input: char_deliver(). Loop. */
	void (*accept)(struct char_tap *t);
};

struct char_driver {
	const char *name;	/* "stdio", "pty", "file", "socket", … */
	const char *help;
	size_t size;
	const struct prop *props;
	int (*open)(struct chardev *c, struct err *e);
	void (*close)(struct chardev *c);	/* also after a failed open */
	/* Loop; never wait: -EAGAIN instead, 0 from read is the end. */
	ssize_t (*read)(struct chardev *c, void *buf, size_t len);
	ssize_t (*write)(struct chardev *c, const struct iovec *iov, int n);
	/* Input ended (@error 0) or failed, or @output failed. Loop. */
	void (*hangup)(struct chardev *c, bool output, int error);
	/*
	 * For drivers that do it themselves, instead of read and write: the
	 * front end may have room for input; output is in the ring; is all of
	 * it gone that can go? Loop.
	 */
	void (*accept)(struct chardev *c);
	void (*pump)(struct chardev *c);
	bool (*idle)(struct chardev *c);
};

/* Every driver this build has; NULL-terminated. */
extern const struct char_driver *const char_drivers[];
/* What every driver takes besides its own: mux, logfile, logappend. */
extern const struct prop char_props[];

struct char_set *char_set_create(struct loop *main);
/* Front ends are gone or must not be called any more. Main loop, outside of
 * its callbacks: writes in flight are awaited. */
void char_set_destroy(struct char_set *s);

/* @args: {"id":…, "backend":"pty", …} as -chardev gives it ("mux":"on" puts
 * the Ctrl-A escapes and the monitor on it). */
int char_add(struct char_set *s, const json_t *args, struct chardev **out, struct err *e);
/* The -serial/-monitor/-qmp shorthand: "stdio", "mon:stdio", "pty", "null",
 * "pty:LINK", "file:PATH", "unix:PATH[,server=on][,wait=off]", "tcp:HOST:PORT",
 * "chardev:ID", "none" (then *out is NULL). @id: what to call it. */
int char_add_legacy(struct char_set *s, const char *spec, const char *id,
		    struct chardev **out, struct err *e);
struct chardev *char_find(struct char_set *s, const char *id);
int char_del(struct char_set *s, const char *id, struct err *e);
/* Put another one, which @args describe, in the place of the chardev of its id;
 * the front end and a tap go over to it, and output that was not on its way
 * yet. When this fails the old one stays as it is. Not from inside its
 * callbacks; pointers to the old one are invalid afterwards. Loop. */
int char_change(struct char_set *s, const json_t *args, struct chardev **out, struct err *e);
void char_each(struct char_set *s, void (*fn)(struct chardev *c, void *arg), void *arg);

/* Connect the one front end; NULL disconnects. */
int char_connect(struct chardev *c, struct char_front *f, const char *owner, struct err *e);

/* Queue up to @len bytes for the host side; returns how many were taken. A
 * short return means: wait for writable(). Any thread. */
size_t char_write(struct chardev *c, const void *buf, size_t len);
/* Disconnect the peer, as if it had gone; the front end hears of it. Not from
 * inside a callback that the chardev's driver waits for: it happens in a later
 * part of the turn. Loop. */
void char_hangup(struct chardev *c);
/* QMP's ringbuf-read and -write: bytes moved, or -EINVAL with @e when @c is no
 * ringbuf. Writing is short when the front end does not take it. Loop. */
ssize_t char_ringbuf_read(struct chardev *c, void *buf, size_t len, struct err *e);
ssize_t char_ringbuf_write(struct chardev *c, const void *buf, size_t len, struct err *e);
/* The front end has room again: resume can_read/read. Any thread. */
void char_accept_input(struct chardev *c);
/* At most one; NULL takes it away, and then it is not called any more. Loop. */
void char_set_tap(struct chardev *c, struct char_tap *tap);
/* Type at the front end: the first bytes of @buf, as many as it takes, which
 * leave @buf. Loop. */
void char_deliver(struct chardev *c, uint8_t *buf, size_t *len);
/* Turn the loop until every server with wait=on has its client. 0, or -EINTR
 * when loop_quit() was called meanwhile. Before the VM starts. */
int char_wait(struct char_set *s, struct err *e);
/* Hand out what is queued, waiting at most @timeout_ns; at exit. Main loop,
 * outside of its callbacks. */
void char_drain(struct char_set *s, uint64_t timeout_ns);

/* A line that is broken on purpose: no input, no output, until it is called
 * again. Loop. */
void char_stall(struct chardev *c, bool in, bool out);

const char *char_id(const struct chardev *c);
bool char_has_front(const struct chardev *c);
/* The front end sees a break. Main loop. */
void char_send_break(struct chardev *c);
/* From now on keep descriptors that come with a unix socket's bytes; others
 * are closed. The oldest of them, the caller's; -1: none. */
void char_keep_fds(struct chardev *c);
int char_take_fd(struct chardev *c);
struct char_set *char_set_of(struct chardev *c);
/* Where fd=NAME and /dev/fdset/N are looked up; NULL (the default): nowhere. */
struct fds;
void char_set_fds(struct char_set *s, struct fds *fds);
const char *char_backend(const struct chardev *c);	/* "socket", "pty", … */
/* query-chardev's filename: "pty:/dev/pts/3", "stdio", "unix:/x,server=on",
 * with "disconnected:" in front while a socket has no peer. */
const char *char_filename(const struct chardev *c);
bool char_is_open(const struct chardev *c);	/* a peer is there */
/* Size of the peer's window in characters, 0 where not known; CHAR_WINSIZE says
 * when it changes. Any thread. */
void char_winsize(const struct chardev *c, uint16_t *cols, uint16_t *rows);

/*
 * Ctrl-A commands typed on a chardev with mux=on ("mon:" in -serial): x quit,
 * s sync and c next front end are for the owner of the VM, who sets this (the
 * help lists x only until s and c do something); h (help), b (break) and Ctrl-A
 * itself are handled here. They work also while the guest takes no input.
 */
void char_set_escape(struct char_set *s, void (*cb)(char key, void *arg), void *arg);

/* Put the terminal back as it was, or (after SIGCONT) into raw mode again when
 * a stdio chardev has it and we are in the foreground; both are safe in a
 * signal handler. */
void char_restore_terminal(void);
void char_resume_terminal(void);

#endif
