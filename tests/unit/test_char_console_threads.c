/*
 * tests/unit/test_char_console_threads.c - vCPU threads write to a console
 * while clients come, read, fall behind and go.
 * Threads: the writers are threads of its own (TSAN).
 * Missing: nothing known.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"
#include "vmm/char/char_console.h"

TestSuite(consolethreads, .init = char_test_begin, .fini = char_test_end);

enum { WRITERS = 3, LINES = 20000, LINE = 8 };

struct writer {
	pthread_t thread;
	struct chardev *c;
	char letter;
};

/* Numbered lines, a whole one at a time: "a000017\n". */
static void *write_lines(void *arg)
{
	struct writer *w = arg;
	char line[LINE + 1];
	int i;

	for (i = 0; i < LINES; i++) {
		snprintf(line, sizeof(line), "%c%06d\n", w->letter, i);
		for (size_t n = 0; n < LINE;) {
			n += char_write(w->c, line + n, LINE - n);
			if (n < LINE)
				usleep(50);
		}
	}
	return NULL;
}

static int dial(uint8_t flags)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	uint8_t hello[] = { CONSOLE_VERSION, flags };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", in_dir("con"));
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(write(fd, hello, 2), 2);
	return fd;
}

/* Output bytes of the frames in @buf, which is cut to what is incomplete. */
static size_t unframe(uint8_t *buf, size_t *len, uint8_t *out)
{
	size_t at = *len && buf[0] == CONSOLE_VERSION, n = 0, size;

	for (; *len - at >= CONSOLE_HEAD; at += CONSOLE_HEAD + size) {
		size = get_le16(buf + at + 1);
		if (*len - at < CONSOLE_HEAD + size)
			break;
		if (buf[at] == CONSOLE_OUTPUT) {
			memcpy(out + n, buf + at + CONSOLE_HEAD, size);
			n += size;
		}
	}
	*len -= at;
	memmove(buf, buf + at, *len);
	return n;
}

/* Every line has one newline, also one that a short write split. */
static void count(const uint8_t *p, size_t len, size_t *total)
{
	for (size_t i = 0; i < len; i++)
		*total += p[i] == '\n';
}

Test(consolethreads, test_console_threads_lose_nothing)
{
	static uint8_t buf[1 << 17], out[1 << 17];
	struct writer w[WRITERS];
	struct chardev *c;
	int fd, slow, other = -1, round = 0;
	size_t have = 0, total = 0;
	ssize_t n;

	cr_assert_eq(try_add(&c, "console,id=con,path=%s,replay=16k", in_dir("con")), 0);
	connected(c);
	fd = dial(0);
	until(rec.opened == 1);
	slow = dial(CONSOLE_READ_ONLY);
	turns(5);
	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .c = c, .letter = (char)('a' + i) };
		pthread_create(&w[i].thread, NULL, write_lines, &w[i]);
	}
	while (total < (size_t)WRITERS * LINES) {
		cr_assert_geq(loop_turn(l, NS_PER_MS), 0);
		n = read(fd, buf + have, sizeof(buf) - have);
		have += n > 0 ? (size_t)n : 0;
		count(out, unframe(buf, &have, out), &total);
		if (++round % 16 == 0) {	/* others come and go */
			fd_close(&other);
			other = dial(CONSOLE_READ_ONLY);
		}
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	cr_assert_eq(total, (size_t)WRITERS * LINES);
	fd_close(&fd);
	fd_close(&slow);
	fd_close(&other);
}
