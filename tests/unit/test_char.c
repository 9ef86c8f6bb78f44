/*
 * tests/unit/test_char.c - chardevs: the set, files, ptys.
 * Threads: one.
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"

TestSuite(chardev, .init = char_test_begin, .fini = char_test_end);

/* ---- the set ---- */

Test(chardev, test_char_add_duplicate_id_refused)
{
	cr_assert_eq(try_add(NULL, "null,id=a"), 0);
	cr_assert_eq(try_add(NULL, "null,id=a"), -EEXIST);
	cr_assert_not_null(strstr(e.text, "'a'"));
}

Test(chardev, test_char_add_unknown_backend_lists_the_known)
{
	cr_assert_eq(try_add(NULL, "spicevmc,id=a"), -EINVAL);
	cr_assert_str_eq(e.text, "chardev 'a': there is no backend 'spicevmc'; choose one "
			 "of stdio, pty, file, socket, null, ringbuf, console, serial");
}

Test(chardev, test_char_add_bad_property_leaves_descriptors_alone)
{
	cr_assert_lt(try_add(NULL, "socket,id=a,path=/x,wait=perhaps"), 0);
	cr_assert_not_null(strstr(e.text, "chardev 'a'"));
	cr_assert_geq(fcntl(0, F_GETFD), 0);
	cr_assert_null(char_find(set, "a"));
}

Test(chardev, test_char_connect_twice_refused)
{
	struct recorder other = rec;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a"), 0);
	connected(c);
	cr_assert_eq(char_connect(c, &other.f, "other", &e), -EBUSY);
	cr_assert_not_null(strstr(e.text, "in use by test"));
	cr_assert_eq(char_del(set, "a", &e), -EBUSY);
	char_connect(c, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_null(char_find(set, "a"));
}

Test(chardev, test_char_null_takes_everything)
{
	static char big[3 * RING];
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a"), 0);
	cr_assert_eq(char_write(connected(c), big, sizeof(big)), sizeof(big));
	cr_assert_str_eq(char_filename(c), "null");
}

Test(chardev, test_char_legacy_forms)
{
	struct chardev *c, *d;

	cr_assert_eq(char_add_legacy(set, "none", "s0", &c, &e), 0);
	cr_assert_null(c);
	cr_assert_eq(char_add_legacy(set, "null", "s1", &c, &e), 0);
	cr_assert_eq(char_add_legacy(set, "chardev:s1", "s2", &d, &e), 0);
	cr_assert_eq(c, d);
	cr_assert_eq(char_add_legacy(set, "chardev:nope", "s2", &d, &e), -ENOENT);
	e = (struct err)ERR_INIT;
	cr_assert_eq(char_add_legacy(set, "udp::4444", "s3", &d, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "'udp::4444'"));
	e = (struct err)ERR_INIT;
	char spec[128];
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", in_dir("sock"));
	cr_assert_eq(char_add_legacy(set, spec, "s4", &d, &e), 0, "%s", e.text);
	cr_assert_eq(char_wait(set, &e), 0);
	snprintf(spec, sizeof(spec), "file:%s", in_dir("a,b"));
	cr_assert_eq(char_add_legacy(set, spec, "s5", &d, &e), 0, "%s", e.text);
	cr_assert_eq(access(in_dir("a,b"), F_OK), 0);
}

/* ---- file ---- */

Test(chardev, test_char_file_receives_all_output)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0, "%s", e.text);
	write_all(c, "one ");
	write_all(c, "two");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "one two");
	cr_assert(char_is_open(c));
}

Test(chardev, test_char_file_truncates_unless_append)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	write_all(c, "old");
	char_drain(set, NS_PER_SEC);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_eq(try_add(&c, "file,id=b,path=%s,append=on", in_dir("out")), 0);
	write_all(c, "+new");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "old+new");
	cr_assert_eq(char_del(set, "b", &e), 0);
	cr_assert_eq(try_add(&c, "file,id=c,path=%s", in_dir("out")), 0);
	file_expect(in_dir("out"), "");
}

Test(chardev, test_char_file_many_megabytes_arrive_in_order)
{
	struct chardev *c;
	uint32_t i = 0, got;
	size_t n;
	int fd;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	connected(c);
	while (i < 300000) {
		n = char_write(c, &i, sizeof(i));
		if (n == sizeof(i)) {
			i++;
			continue;
		}
		cr_assert_eq(n, 0);	/* the ring's size is a multiple */
		int before = rec.writable;
		until(rec.writable > before);
	}
	char_drain(set, 5 * NS_PER_SEC);
	fd = open(in_dir("out"), O_RDONLY);
	for (i = 0; i < 300000; i++) {
		cr_assert_eq(read(fd, &got, sizeof(got)), sizeof(got));
		cr_assert_eq(got, i);
	}
	close(fd);
}

Test(chardev, test_char_file_in_missing_directory_says_so)
{
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", in_dir("no/file")), -ENOENT);
	cr_assert_not_null(strstr(e.text, "its directory does not exist"), "%s", e.text);
}

Test(chardev, test_char_file_directory_refused)
{
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", dir), -EISDIR);
	cr_assert_not_null(strstr(e.text, dir));
}

Test(chardev, test_char_file_fifo_without_reader_refused)
{
	cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", in_dir("fifo")), -ENXIO);
	cr_assert_not_null(strstr(e.text, "start the reader first"));
}

/* SIGPIPE has its default disposition here: it would end the test. */
Test(chardev, test_char_file_fifo_reader_leaves_no_signal)
{
	struct chardev *c;
	int fd;

	cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
	fd = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("fifo")), 0, "%s", e.text);
	connected(c);
	write_all(c, "hello");
	read_expect(fd, "hello");
	close(fd);
	write_all(c, "gone");
	until(!char_is_open(c));
	write_all(c, "more");
}

Test(chardev, test_char_file_on_a_full_device_goes_on)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=/dev/full"), 0, "%s", e.text);
	write_all(connected(c), "x");
	until(!char_is_open(c));
	for (int i = 0; i < 2 * RING; i++)
		cr_assert_eq(char_write(c, "x", 1), 1);
}

Test(chardev, test_char_logfile_gets_a_copy)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a,logfile=%s", in_dir("log")), 0, "%s", e.text);
	write_all(c, "logged");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("log"), "logged");
	cr_assert_lt(try_add(NULL, "null,id=b,logfile=%s", in_dir("no/log")), 0);
	cr_assert_not_null(strstr(e.text, "logfile"));
}

/* Deleted while a write is in flight: it ends by itself. */
Test(chardev, test_char_file_deleted_while_writing_is_freed)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	write_all(c, "data");
	cr_assert_eq(char_del(set, "a", &e), 0);
	turns(3);
	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out2")), 0);
	write_all(c, "data");
	turns(1);
	cr_assert_eq(char_del(set, "a", &e), 0);
}

/* ---- pty ---- */

static int open_slave(struct chardev *c)
{
	int fd = open(char_filename(c) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);

	cr_assert_geq(fd, 0);
	return fd;
}

static struct chardev *add_pty(void)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "pty,id=a"), 0, "%s", e.text);
	cr_assert_eq(strncmp(char_filename(c), "pty:/dev/pts/", 13), 0);
	return connected(c);
}

Test(chardev, test_char_pty_carries_both_ways_raw)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	until(rec.opened == 1);
	cr_assert(char_is_open(c));
	write_all(c, "line\r\nnext\n");
	read_expect(fd, "line\r\nnext\n");
	cr_assert_eq(write(fd, "abc\r\x03", 5), 5);
	until(rec.in_len == 5);
	cr_assert_arr_eq(rec.in, "abc\r\x03", 5);
	close(fd);
	until(rec.closed == 1);
}

Test(chardev, test_char_pty_reader_comes_and_goes)
{
	struct chardev *c;
	int i, fd;

	cr_assert_eq(try_add(&c, "pty,id=a,replay=0"), 0, "%s", e.text);
	connected(c);
	for (i = 0; i < 20; i++) {
		fd = open_slave(c);
		until(rec.opened == i + 1);
		write_all(c, "hi");
		read_expect(fd, "hi");
		close(fd);
		until(rec.closed == i + 1);
	}
	turns(3);
	cr_assert_eq(rec.opened, 20);
}

Test(chardev, test_char_pty_without_reader_keeps_the_last_output)
{
	struct chardev *c = add_pty();
	static char got[RING + 1];
	size_t n = 0, i;
	char line[16];
	ssize_t r;
	int fd;

	for (i = 0; i < 20000; i++) {	/* 160 KB: never refused */
		snprintf(line, sizeof(line), "%07zu\n", i);
		write_all(c, line);
	}
	turns(2);
	fd = open_slave(c);
	until(rec.opened == 1);
	while (n < RING) {
		r = read(fd, got + n, RING - n);
		n += r > 0 ? (size_t)r : 0;
		loop_turn(l, NS_PER_MS);
	}
	cr_assert_eq(strncmp(got + RING - 8, "0019999\n", 8), 0);
	cr_assert_eq(strncmp(got, "0011808\n", 8), 0);
	close(fd);
}

Test(chardev, test_char_pty_every_reader_sees_from_the_first_byte)
{
	struct chardev *c = add_pty();
	int i, fd;

	write_all(c, "Linux version 6\n");
	for (i = 0; i < 3; i++) {
		fd = open_slave(c);
		until(rec.opened == i + 1);
		read_expect(fd, i == 0 ? "Linux version 6\n" :
			    i == 1 ? "Linux version 6\nlogin: " :
			    "Linux version 6\nlogin: login: ");
		write_all(c, "login: ");
		read_expect(fd, "login: ");
		close(fd);
		until(rec.closed == i + 1);
	}
}

Test(chardev, test_char_pty_replay_has_the_size_asked_for)
{
	struct chardev *c;
	int fd;

	cr_assert_eq(try_add(&c, "pty,id=a,replay=10"), 0, "%s", e.text);
	connected(c);
	write_all(c, "0123456789abcdef");
	fd = open_slave(c);
	until(rec.opened == 1);
	read_expect(fd, "6789abcdef");
	close(fd);
	cr_assert_lt(try_add(&c, "pty,id=b,replay=17M"), 0);
	cr_assert_not_null(strstr(e.text, "replay"), "%s", e.text);
}

/* A guest's buffer may be its whole memory: only what is kept costs time. */
Test(chardev, test_char_pty_write_of_gigabytes_costs_what_is_kept)
{
	size_t len = 16ull << 30;
	uint64_t began = clock_ns();
	struct chardev *c;
	char *p;
	int fd;

	p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(p, MAP_FAILED);
	memcpy(p + len - 10, "0123456789", 10);
	cr_assert_eq(try_add(&c, "pty,id=a,replay=10"), 0, "%s", e.text);
	connected(c);
	cr_assert_eq(char_write(c, p, len), len);
	cr_assert_lt(clock_ns() - began, NS_PER_SEC / 2);
	munmap(p, len);
	write_all(c, "ab");
	fd = open_slave(c);
	until(rec.opened == 1);
	read_expect(fd, "23456789ab");
	close(fd);
}

/* One megabyte, a reader that takes a little at a time: every byte, in order. */
Test(chardev, test_char_pty_slow_reader_loses_nothing)
{
	enum { TOTAL = 1 << 20 };
	struct chardev *c = add_pty();
	uint32_t seen = 0, word;
	size_t sent = 0, have = 0;
	uint8_t buf[700];
	int fd = open_slave(c);
	ssize_t r;

	until(rec.opened == 1);
	while (seen < TOTAL / 4) {
		for (; sent < TOTAL; sent++) {
			uint8_t byte = (uint8_t)((sent / 4) >> (8 * (sent % 4)));

			if (!char_write(c, &byte, 1))
				break;
		}
		loop_turn(l, 0);
		r = read(fd, buf + have, sizeof(buf) - have);
		have += r > 0 ? (size_t)r : 0;
		for (r = 0; (size_t)r + 4 <= have; r += 4, seen++) {
			word = get_le32(buf + r);
			cr_assert_eq(word, seen);
		}
		have -= (size_t)r;
		memmove(buf, buf + r, have);
	}
	close(fd);
}

Test(chardev, test_char_pty_window_size_is_passed_on)
{
	struct chardev *c = add_pty();
	struct winsize w = { .ws_row = 50, .ws_col = 132 };
	uint16_t cols, rows;
	int fd = open_slave(c);

	until(rec.opened == 1);
	cr_assert_eq(ioctl(fd, TIOCSWINSZ, &w), 0);
	cr_assert_eq(write(fd, "x", 1), 1);
	until(rec.winsize == 1);
	char_winsize(c, &cols, &rows);
	cr_assert_eq(cols, 132);
	cr_assert_eq(rows, 50);
	close(fd);
}

/* A reader that does not read: the writer is told to wait, then to go on, and
 * every byte arrives. */
Test(chardev, test_char_pty_back_pressure_loses_nothing)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);
	size_t taken, got = 0;
	char buf[8192];
	ssize_t r;

	until(rec.opened == 1);
	taken = fill(c);
	cr_assert_geq(taken, RING);
	cr_assert_eq(rec.writable, 0);
	while (got < taken) {
		r = read(fd, buf, sizeof(buf));
		got += r > 0 ? (size_t)r : 0;
		loop_turn(l, NS_PER_MS);
	}
	until(rec.writable >= 1);
	cr_assert_eq(got, taken);
	close(fd);
}

Test(chardev, test_char_pty_stuck_reader_leaving_frees_the_writer)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	until(rec.opened == 1);
	fill(c);
	close(fd);
	until(rec.writable == 1);
	write_all(c, "on at full speed");
}

Test(chardev, test_char_pty_input_waits_for_room)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	rec.room = 2;
	until(rec.opened == 1);
	cr_assert_eq(write(fd, "abcdef", 6), 6);
	until(rec.in_len == 2);
	turns(3);
	cr_assert_eq(rec.in_len, 2);
	rec.room = 1;
	char_accept_input(c);
	until(rec.in_len == 3);
	rec.room = 100;
	char_accept_input(c);
	until(rec.in_len == 6);
	cr_assert_arr_eq(rec.in, "abcdef", 6);
	close(fd);
}

Test(chardev, test_char_pty_path_is_a_link_while_it_lives)
{
	char target[64] = "";
	struct chardev *c;

	cr_assert_eq(try_add(&c, "pty,id=a,path=%s", in_dir("tty")), 0, "%s", e.text);
	cr_assert_gt(readlink(in_dir("tty"), target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, char_filename(c) + 4);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_lt(access(in_dir("tty"), F_OK), 0);
}

Test(chardev, test_char_pty_link_of_a_dead_process_is_replaced)
{
	char target[64] = "";
	struct chardev *c;

	cr_assert_eq(symlink("/dev/pts/99999", in_dir("tty")), 0);
	cr_assert_eq(try_add(&c, "pty,id=a,path=%s", in_dir("tty")), 0, "%s", e.text);
	cr_assert_gt(readlink(in_dir("tty"), target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, char_filename(c) + 4);
}

/* A link to @path that is older than the terminal there; false: the number of
 * the terminal was not used again, as another process was quicker. */
static bool make_older_link(const char *path, int *tty)
{
	char name[64], again[64];

	*tty = posix_openpt(O_RDWR | O_NOCTTY);
	cr_assert_eq(ptsname_r(*tty, name, sizeof(name)), 0);
	close(*tty);
	cr_assert_eq(symlink(name, path), 0);
	usleep(20000);		/* more than the grain of the kernel's clock */
	*tty = posix_openpt(O_RDWR | O_NOCTTY);
	cr_assert_eq(ptsname_r(*tty, again, sizeof(again)), 0);
	if (!strcmp(name, again))
		return true;
	close(*tty);
	unlink(path);
	return false;
}

Test(chardev, test_char_pty_link_to_a_number_used_again_is_replaced)
{
	char path[128], target[64] = "";
	struct chardev *c;
	int tty;

	snprintf(path, sizeof(path), "%s", in_dir("tty"));
	while (!make_older_link(path, &tty))
		;
	cr_assert_eq(try_add(&c, "pty,id=a,path=%s", path), 0, "%s", e.text);
	cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, char_filename(c) + 4);
	close(tty);
}

Test(chardev, test_char_pty_link_of_others_is_left_alone)
{
	char target[64] = "";
	struct chardev *c;

	cr_assert_eq(try_add(&c, "pty,id=a,path=%s", in_dir("tty")), 0, "%s", e.text);
	cr_assert_eq(try_add(NULL, "pty,id=b,path=%s", in_dir("tty")), -EEXIST);
	cr_assert_not_null(strstr(e.text, "remove it or choose another path"), "%s", e.text);
	cr_assert_gt(readlink(in_dir("tty"), target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, char_filename(c) + 4);
	e = (struct err)ERR_INIT;
	cr_assert_eq(symlink("/etc/passwd", in_dir("foreign")), 0);
	cr_assert_eq(try_add(NULL, "pty,id=b,path=%s", in_dir("foreign")), -EEXIST);
	/* What was put in the link's place is not ours to remove. */
	cr_assert_eq(unlink(in_dir("tty")), 0);
	cr_assert_eq(symlink("/etc/passwd", in_dir("tty")), 0);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_eq(readlink(in_dir("tty"), target, sizeof(target)), 11);
}

/* ---- ringbuf ---- */

Test(chardev, test_char_ringbuf_keeps_the_newest)
{
	struct chardev *c, *n;
	char buf[32] = "";

	cr_assert_eq(try_add(&c, "ringbuf,id=a,size=8"), 0, "%s", e.text);
	connected(c);
	cr_assert_eq(char_ringbuf_read(c, buf, sizeof(buf), &e), 0);
	write_all(c, "abc");
	cr_assert_eq(char_ringbuf_read(c, buf, 2, &e), 2);
	cr_assert_arr_eq(buf, "ab", 2);
	write_all(c, "0123456789");
	cr_assert_eq(char_ringbuf_read(c, buf, sizeof(buf), &e), 8);
	cr_assert_arr_eq(buf, "23456789", 8);
	cr_assert_eq(char_ringbuf_read(c, buf, sizeof(buf), &e), 0);
	cr_assert_lt(try_add(NULL, "ringbuf,id=b,size=9"), 0);
	cr_assert_not_null(strstr(e.text, "power of two"), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(&n, "null,id=n"), 0);
	cr_assert_eq(char_ringbuf_read(n, buf, 1, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "'n' is a null"), "%s", e.text);
}

Test(chardev, test_char_ringbuf_input_waits_for_room)
{
	static uint8_t big[5000];
	struct chardev *c;

	cr_assert_eq(try_add(&c, "ringbuf,id=a"), 0, "%s", e.text);
	connected(c);
	rec.room = 2;
	cr_assert_eq(char_ringbuf_write(c, "abcdef", 6, &e), 6);
	cr_assert_eq(rec.in_len, 2);
	rec.room = 100;
	char_accept_input(c);
	until(rec.in_len == 6);
	cr_assert_arr_eq(rec.in, "abcdef", 6);
	rec.room = 0;
	cr_assert_eq(char_ringbuf_write(c, big, sizeof(big), &e), 4096);
	cr_assert_eq(char_ringbuf_write(c, big, 1, &e), 0);
}

/* ---- serial ---- */

Test(chardev, test_char_serial_is_a_terminal_and_gives_it_back)
{
	int cable = posix_openpt(O_RDWR | O_NOCTTY), fd;
	struct termios before, now;
	struct chardev *c;
	char name[64];

	cr_assert(cable >= 0 && grantpt(cable) == 0 && unlockpt(cable) == 0);
	cr_assert_eq(ptsname_r(cable, name, sizeof(name)), 0);
	fd = open(name, O_RDWR | O_NOCTTY);
	cr_assert_eq(tcgetattr(fd, &before), 0);
	cr_assert_eq(char_add_legacy(set, name, "s0", &c, &e), 0, "%s", e.text);
	connected(c);
	write_all(c, "out\n");
	read_expect(cable, "out\n");
	cr_assert_eq(write(cable, "in\r\x03", 4), 4);
	until(rec.in_len == 4);
	char_connect(c, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "s0", &e), 0);
	cr_assert_eq(tcgetattr(fd, &now), 0);
	cr_assert_eq(now.c_lflag, before.c_lflag);
	close(fd);
	close(cable);
}

Test(chardev, test_char_serial_pulled_out_is_survived)
{
	int cable = posix_openpt(O_RDWR | O_NOCTTY);
	struct chardev *c;
	char name[64];

	cr_assert(cable >= 0 && grantpt(cable) == 0 && unlockpt(cable) == 0);
	cr_assert_eq(ptsname_r(cable, name, sizeof(name)), 0);
	cr_assert_eq(try_add(&c, "serial,id=s,path=%s", name), 0, "%s", e.text);
	connected(c);
	close(cable);
	until(rec.closed == 1);
	write_all(c, "to nowhere");
	cr_assert_lt(try_add(NULL, "serial,id=t,path=/dev/null"), 0);
	cr_assert_not_null(strstr(e.text, "not a terminal device"), "%s", e.text);
}
