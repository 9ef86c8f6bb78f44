/*
 * vmm/char/char_console.h - the console server's protocol, and what its two
 * files share.
 *
 * A console is a unix socket at which many watch and one writes. Everybody is
 * sent the replay first, from its first byte, then what comes.
 *
 * The protocol, version 1. A client says hello with two bytes:
 *
 *	0xf9		CONSOLE_VERSION; no text in UTF-8 has this byte
 *	flags		CONSOLE_READ_ONLY, CONSOLE_TAKE
 *
 * and frames follow in both directions: type (1 byte), length of what follows
 * (2 bytes, little-endian), then that many bytes.
 *
 *	to the server	CONSOLE_INPUT	bytes for the guest, 1..1024
 *			CONSOLE_SIZE	columns, rows: two 2-byte numbers
 *			CONSOLE_TAKE_OVER	be the one who writes
 *			CONSOLE_LET_GO	do not write any more
 *	to the client	0xf9 once, then
 *			CONSOLE_OUTPUT	bytes of the guest
 *			CONSOLE_NOTICE	one line of text for the person, no newline
 *			CONSOLE_ROLE	1 byte: 1 you write, 0 you watch
 *
 * What the server sends before its 0xf9 is plain text: a refusal, or output for
 * a client whose hello was late. Frames of unknown type are ignored.
 *
 * A client that says anything else, or nothing for a fifth of a second, is a
 * plain one (socat, a script): it gets the output as it is, notices in it as
 * "[console: ...]" lines, and what it sends is input.
 *
 * The first who may write does; others watch unless they take over, and follow
 * when the writer leaves. The writer gets every byte, as long as it takes some
 * at least every two seconds; who watches too slowly is told how many bytes
 * were left out. Nobody else waits for either. The chardev that a console is
 * put on (chardev=) is a client too, and gets every byte as if it were alone.
 */
#ifndef VMM_CHAR_CHAR_CONSOLE_H
#define VMM_CHAR_CHAR_CONSOLE_H

#include "vmm/char/char_priv.h"

#define CONSOLE_VERSION		0xf9u
#define CONSOLE_READ_ONLY	1u
#define CONSOLE_TAKE		2u
#define CONSOLE_HEAD		3u	/* bytes before a frame's own */
#define CONSOLE_INPUT_MAX	1024u

enum console_to_server {
	CONSOLE_INPUT = 1, CONSOLE_SIZE = 2, CONSOLE_TAKE_OVER = 3, CONSOLE_LET_GO = 4,
};

enum console_to_client {
	CONSOLE_OUTPUT = 1, CONSOLE_NOTICE = 2, CONSOLE_ROLE = 3,
};

/* ---- the server's inside ---- */

#define CONSOLE_CHUNK	8192u	/* one frame of output */
#define CONSOLE_CLIENTS	32	/* a person, scripts, logs; each costs 10 KiB */

enum console_mode {
	CONSOLE_NEW,		/* has not said what it is */
	CONSOLE_PLAIN,
	CONSOLE_FRAMED,
	CONSOLE_INNER,		/* the chardev of chardev=; no socket */
};

/* Who watches. All on the loop. */
struct console_client {
	struct char_console *con;
	struct console_client *next;	/* in order of arrival */
	struct loop_fd w;		/* fd -1: INNER, or to be freed */
	enum console_mode mode;
	bool may_write;			/* not read-only, input not ended */
	bool greeted;			/* 0xf9 was sent */
	bool role_due;			/* its role changed */
	bool full;			/* the socket takes no more for now */
	bool lagging;			/* writer: stood still, holds nobody up */
	bool eof;
	bool gone;			/* closed, but the guest has yet to take its input */
	bool spoke;			/* past its first bytes */
	uint64_t born_ns;
	uint64_t stuck_ns;		/* since when it takes nothing; 0: it does */
	uint64_t pos;			/* its next byte of the stream */
	uint64_t skipped;		/* bytes left out, not told yet */
	char notice[120];		/* to be sent; "": none */
	uint16_t cols, rows;		/* its window, 0: not known */
	uint8_t out[CONSOLE_HEAD + CONSOLE_CHUNK];
	size_t out_off, out_len;	/* of it: sent, and all */
	uint8_t in[CONSOLE_HEAD + CONSOLE_INPUT_MAX];
	size_t in_len;			/* part of a frame */
};

struct char_console {
	struct chardev c;		/* first */
	/* properties */
	char *path;
	char *inner_id;
	bool wait;
	/* set-up */
	struct loop_fd listen;
	bool bound;			/* path is ours to remove */
	struct chardev *inner;		/* NULL: none */
	struct char_front inner_front;
	/* loop */
	struct console_client *clients, *writer;
	unsigned int count;		/* those with a socket */
	struct loop_timer timer;	/* silent newcomers, a writer that stands */
	uint64_t retry_ns;		/* when to accept again; 0: listening */
	uint8_t in[CHAR_INPUT_BYTES];	/* from the writer, for the guest */
	size_t in_len;
};

/* ---- char_console.c ---- */

/* @cl has said what it is, with @flags of the hello. */
void console_admit(struct console_client *cl, enum console_mode mode, unsigned int flags);
void console_take_over(struct console_client *cl);
/* It writes no more, and may never again. */
void console_retire(struct console_client *cl);
/* Its window has this size. */
void console_size(struct console_client *cl, uint16_t cols, uint16_t rows);
/* It took bytes, or does not take any now. */
void console_moved(struct console_client *cl);
void console_stuck(struct console_client *cl);

/* ---- char_console_client.c ---- */

void console_notice(struct console_client *cl, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Count what the ring does not have any more as skipped. Chardev's lock held. */
void console_skip_lost(struct console_client *cl);
/* Send what there is for it. < 0: it is gone, drop it. */
int console_client_pump(struct console_client *cl);
/* Everything it can take has been sent. */
bool console_client_idle(struct console_client *cl);
/* Look at what it sent, as far as there is room. < 0: drop it. */
int console_client_input(struct console_client *cl);
/* Bring the watched events in line. */
void console_client_rewatch(struct console_client *cl);

#endif
