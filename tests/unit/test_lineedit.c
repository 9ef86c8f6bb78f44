/*
 * tests/unit/test_lineedit.c - editing, history and completion on a terminal,
 * and lines from a pipe.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/run/lineedit.h"

struct rig {
	struct lineedit l;
	int master, slave;
};

static json_t *offer(const char *line, size_t cursor, size_t *start, void *arg)
{
	*start = 0;
	return strncmp(line, "qu", 2) == 0 ? json_pack("[s,s]", "query-block", "query-blockstats") :
	       strncmp(line, "st", 2) == 0 ? json_pack("[s]", "stop") : json_array();
}

static struct rig *create(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct winsize w = { .ws_row = 24, .ws_col = 40 };

	cr_assert_eq(openpty(&r->master, &r->slave, NULL, NULL, &w), 0);
	lineedit_init(&r->l, r->slave, r->slave, "> ");
	r->l.complete = offer;
	return r;
}

static void destroy(struct rig *r)
{
	lineedit_fini(&r->l);
	close(r->master);
	close(r->slave);
	free(r);
}

/* What typing @keys gives; the keys wait in the terminal before it is read. */
static const char *type(struct rig *r, const char *keys)
{
	bool woken = false;
	struct termios t;

	/* Raw from the start, or the line discipline would edit as well. */
	tcgetattr(r->slave, &t);
	cfmakeraw(&t);
	tcsetattr(r->slave, TCSANOW, &t);
	cr_assert_eq(write(r->master, keys, strlen(keys)), (ssize_t)strlen(keys));
	return lineedit_read(&r->l, &woken);
}

static void expect(struct rig *r, const char *keys, const char *want)
{
	const char *got = type(r, keys);

	cr_assert(got, "%s", want);
	cr_expect_str_eq(got, want);
}

Test(lineedit, test_editing_keys_do_what_people_expect)
{
	struct rig *r = create();

	expect(r, "abc\r", "abc");
	expect(r, "abc\x7f\x7fX\r", "aX");
	expect(r, "abc\033[D\033[DX\r", "aXbc");
	expect(r, "bc\001a\005d\r", "abcd");
	expect(r, "abc\033[H\033[3~\r", "bc");
	expect(r, "abc\033[D\013\r", "ab");
	expect(r, "abc\025x\r", "x");
	expect(r, "one two  \027three\r", "one three");
	expect(r, "\033[C\033[D\x7f\r", "");
	expect(r, "ab\033[1;5Dc\r", "acb");
	destroy(r);
}

Test(lineedit, test_a_character_of_several_bytes_is_one)
{
	struct rig *r = create();

	expect(r, "aé€\x7f\x7f\r", "a");
	expect(r, "é€\033[DX\r", "éX€");
	destroy(r);
}

Test(lineedit, test_history_goes_back_and_forth)
{
	struct rig *r = create();

	expect(r, "one\r", "one");
	expect(r, "two\r", "two");
	expect(r, "two\r", "two");
	expect(r, "\033[A\033[A\r", "one");
	expect(r, "new\033[A\033[A\033[B\033[B\r", "new");
	expect(r, "\033[A\033[A\033[A\033[A\033[A\033[A\r", "one");
	destroy(r);
}

Test(lineedit, test_tab_completes_as_far_as_it_is_sure)
{
	struct rig *r = create();

	expect(r, "st\t\r", "stop ");
	expect(r, "qu\t\r", "query-block");
	expect(r, "query-block\ts\r", "query-blocks");
	expect(r, "xx\t\r", "xx");
	destroy(r);
}

Test(lineedit, test_control_d_ends_only_an_empty_line)
{
	struct rig *r = create();

	expect(r, "ab\001\004\r", "b");
	cr_expect_null(type(r, "\004"));
	destroy(r);
}

Test(lineedit, test_control_c_drops_the_line)
{
	struct rig *r = create();

	expect(r, "abc\003x\r", "x");
	destroy(r);
}

Test(lineedit, test_terminal_is_as_before_afterwards)
{
	struct rig *r = create();
	struct termios before, after;
	bool woken = false;

	tcgetattr(r->slave, &before);
	cr_assert_eq(write(r->master, "\n", 1), 1);
	lineedit_read(&r->l, &woken);
	tcgetattr(r->slave, &after);
	cr_expect_eq(after.c_lflag & ~(tcflag_t)PENDIN, before.c_lflag, "%x %x", before.c_lflag,
		     after.c_lflag);
	cr_expect_eq(after.c_iflag, before.c_iflag);
	cr_expect_eq(after.c_oflag, before.c_oflag);
	cr_expect_eq(memcmp(after.c_cc, before.c_cc, sizeof(before.c_cc)), 0);
	destroy(r);
}

Test(lineedit, test_wake_leaves_what_was_typed)
{
	struct rig *r = create();
	int p[2];
	bool woken = false;

	cr_assert_eq(pipe(p), 0);
	r->l.wake = p[0];
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_expect_null(lineedit_read(&r->l, &woken));
	cr_expect(woken);
	r->l.wake = -1;
	expect(r, "abc\r", "abc");
	destroy(r);
	close(p[0]);
	close(p[1]);
}

Test(lineedit, test_line_longer_than_allowed_is_cut)
{
	struct lineedit l;
	FILE *f = tmpfile();
	bool woken = false;
	const char *line;

	for (unsigned int i = 0; i < LINEEDIT_MAX + 100; i++)
		fputc('a', f);
	fputs("\nnext\nlast", f);
	fflush(f);
	rewind(f);
	lineedit_init(&l, fileno(f), STDOUT_FILENO, "> ");
	line = lineedit_read(&l, &woken);
	cr_expect_eq(strlen(line), LINEEDIT_MAX);
	cr_expect_str_eq(lineedit_read(&l, &woken), "next");
	cr_expect_str_eq(lineedit_read(&l, &woken), "last");
	cr_expect_null(lineedit_read(&l, &woken));
	lineedit_fini(&l);
	fclose(f);
}

Test(lineedit, test_random_keys_do_no_harm)
{
	struct rig *r = create();
	char buf[4096];
	unsigned int seed = 1;

	r->l.out = open("/dev/null", O_WRONLY | O_CLOEXEC);	/* nobody reads the screen */
	for (int round = 0; round < 200; round++) {
		size_t n = 1 + rand_r(&seed) % 60;

		for (size_t i = 0; i < n; i++)
			buf[i] = "\033[ABCDHF~3\001\005\013\025\027\t\x7f ab\xc3\xa9\xff"
				 [rand_r(&seed) % 23];
		buf[n] = '\r';
		buf[n + 1] = '\0';
		cr_assert_not_null(type(r, buf));
	}
	close(r->l.out);
	destroy(r);
}
