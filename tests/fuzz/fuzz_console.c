/*
 * tests/fuzz/fuzz_console.c - clients made of fuzz bytes against a console
 * (vmm/char/char_console.c), while a guest writes and reads.
 *
 * Steps of two bytes, what to do and an operand: 0 connect client, 1 hello, 2
 * send that many of the next bytes, 3 a frame of that type, 4 read some, 5
 * close, 6 half-close, 7 the guest writes, 8 it takes input, 9 turn; the low
 * bits of the operand choose the client. What must hold: no crash, no sanitizer
 * report, bounded time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 4, STEPS = 400 };

static struct loop *loop;
static char path[64];
static size_t room;

static size_t can_read(struct char_front *f)
{
	return room;
}

static void take(struct char_front *f, const uint8_t *buf, size_t len)
{
	if (len > room)
		abort();
	room -= len;
}

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void set_up(void)
{
	if (loop)
		return;
	log_set_sink(quiet, NULL);
	snprintf(path, sizeof(path), "/tmp/roost-fuzz-console-%d", getpid());
	if (loop_create(&loop, "fuzz", LOOP_AIO_AUTO, NULL) < 0)
		abort();
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fd_close(&fd);
	return fd;
}

static void put(int fd, const void *p, size_t len)
{
	if (fd >= 0 && send(fd, p, len, MSG_NOSIGNAL) < 0)
		return;		/* full or gone: as well */
}

static void step(struct chardev *c, int *fd, unsigned int what, uint8_t arg,
		 const uint8_t **p, size_t *left)
{
	static uint8_t buf[65536];
	int *k = &fd[arg % CLIENTS];
	uint8_t hello[] = { CONSOLE_VERSION, arg }, frame[] = { (uint8_t)(arg >> 2), 4, 0,
								 80, 0, arg, 0 };
	size_t n;

	switch (what % 10) {
	case 0:
		fd_close(k);
		*k = dial();
		break;
	case 1:
		put(*k, hello, 2);
		break;
	case 2:
		n = MIN((size_t)arg, *left);
		put(*k, *p, n);
		*p += n;
		*left -= n;
		break;
	case 3:
		put(*k, frame, sizeof(frame));
		break;
	case 4:
		if (*k >= 0 && recv(*k, buf, (size_t)arg << 6, MSG_DONTWAIT) <= 0)
			break;
		break;
	case 5:
		fd_close(k);
		break;
	case 6:
		shutdown(*k, SHUT_WR);
		break;
	case 7:
		char_write(c, buf, (size_t)arg << 6);
		break;
	case 8:
		room = arg;
		char_accept_input(c);
		break;
	default:
		loop_turn(loop, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct char_front front = { .can_read = can_read, .read = take };
	int fd[CLIENTS] = { -1, -1, -1, -1 }, i;
	struct char_set *set;
	struct chardev *c;
	json_t *args;

	set_up();
	set = char_set_create(loop);
	args = json_pack("{s:s, s:s, s:s, s:s}", "backend", "console", "id", "c", "path", path,
			 "replay", "4096");
	if (char_add(set, args, &c, NULL) < 0 || char_connect(c, &front, "fuzz", NULL) < 0)
		abort();
	json_decref(args);
	for (i = 0; size >= 2 && i < STEPS; i++) {
		uint8_t what = data[0], arg = data[1];

		data += 2;
		size -= 2;
		step(c, fd, what, arg, &data, &size);
		if (what & 0x80)
			loop_turn(loop, 0);
	}
	loop_turn(loop, 0);
	for (i = 0; i < CLIENTS; i++)
		fd_close(&fd[i]);
	loop_turn(loop, 0);
	char_connect(c, NULL, NULL, NULL);
	char_set_destroy(set);
	return 0;
}
