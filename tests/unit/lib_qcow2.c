/*
 * tests/unit/lib_qcow2.c - images for the tests of the qcow2 driver.
 */
#include "lib_qcow2.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define IN_FLIGHT	8
#define PIECE_MAX	(300 * 1024u)

static uint32_t state = 1;

void qt_seed(uint32_t seed)
{
	state = seed;
}

uint32_t qt_rnd(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % n;
}

static int run(struct bt *t, const char *fmt, va_list ap)
{
	char cmd[2048], full[2304];
	int r;

	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	snprintf(full, sizeof(full), "cd %s && { %s; } >>log 2>&1", t->dir, cmd);
	r = system(full);
	return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

int qt_status(struct bt *t, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = run(t, fmt, ap);
	va_end(ap);
	return r;
}

void qt_sh(struct bt *t, const char *fmt, ...)
{
	va_list ap;
	char tail[1024] = "";
	FILE *f;
	int r;

	va_start(ap, fmt);
	r = run(t, fmt, ap);
	va_end(ap);
	if (r) {
		f = fopen(bt_path(t, "log"), "r");
		if (f && fseek(f, -1000, SEEK_END) < 0)
			rewind(f);
		if (f)
			tail[fread(tail, 1, sizeof(tail) - 1, f)] = '\0';
	}
	cr_assert_eq(r, 0, "%s: status %d: %s", fmt, r, tail);
}

void qt_open(struct bt *t, const char *name, const char *more)
{
	struct err e = ERR_INIT;
	char text[512];
	int r;

	snprintf(text, sizeof(text), "file=%s,format=qcow2,if=none,id=d0%s%s", bt_path(t, name),
		 *more ? "," : "", more);
	r = bt_drive(t, text);
	cr_assert_eq(r, 0, "%s", bt_error());
	r = drive_open(t->g, "d0", "dev0", DRIVE_OPEN_MAY_WRITE, &t->d, &e);
	cr_assert_eq(r, 0, "%s", e.text);
}

void qt_close(struct bt *t)
{
	drive_close(t->d);
	t->d = NULL;
	block_graph_destroy(t->g);
	t->g = block_graph_create(t->loop);
}

struct piece {
	struct bt_req q;	/* first */
	uint8_t *mem;
	uint64_t off;
	size_t len;
	bool busy;
};

static void check_piece(struct piece *p, int fd, uint8_t *want)
{
	ssize_t n;

	cr_assert_eq(p->q.ret, 0, "read at %lu: %d", (unsigned long)p->off, p->q.ret);
	n = pread(fd, want, p->len, (off_t)p->off);
	cr_assert(n >= 0);
	memset(want + n, 0, p->len - (size_t)n);
	if (memcmp(p->mem, want, p->len) == 0)
		return;
	for (size_t i = 0; i < p->len; i++)
		cr_assert_eq(p->mem[i], want[i], "byte %lu is %02x, not %02x",
			     (unsigned long)(p->off + i), p->mem[i], want[i]);
}

void qt_equals(struct bt *t, const char *raw)
{
	struct piece *ps = calloc(IN_FLIGHT, sizeof(*ps));
	uint64_t at = 0, end = t->d->node->bytes;
	uint8_t *want = malloc(PIECE_MAX);
	int fd = open(bt_path(t, raw), O_RDONLY | O_CLOEXEC), busy = 0;

	cr_assert(fd >= 0, "%s", raw);
	for (int i = 0; i < IN_FLIGHT; i++)
		ps[i].mem = malloc(PIECE_MAX);
	while (at < end || busy) {
		for (int i = 0; i < IN_FLIGHT; i++) {
			struct piece *p = &ps[i];

			if (p->busy && p->q.done) {
				check_piece(p, fd, want);
				p->busy = false;
				busy--;
			}
			if (p->busy || at == end)
				continue;
			p->len = 512 * (1 + (size_t)qt_rnd(PIECE_MAX / 512));
			p->len = MIN(p->len, end - at);
			p->off = at;
			memset(p->mem, 0xee, p->len);
			bt_submit(t, &p->q, BLOCK_READ, at, p->mem, p->len, 0);
			at += p->len;
			p->busy = true;
			busy++;
		}
		loop_turn(t->loop, busy ? NS_PER_SEC : 0);
	}
	for (int i = 0; i < IN_FLIGHT; i++)
		free(ps[i].mem);
	free(ps);
	free(want);
	close(fd);
}

void qt_check(struct bt *t, const char *name)
{
	qt_sh(t, "qemu-img check -f qcow2 %s", name);
}
