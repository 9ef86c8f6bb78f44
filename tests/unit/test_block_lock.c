/*
 * tests/unit/test_block_lock.c - locks on images: the bytes, and QEMU's tools
 * on the other side where they are installed.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_block.h"
#include "vmm/base/util.h"

static struct bt t;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "a.raw", 65536);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_lock, .init = setup, .fini = teardown);

static struct drive *take(const char *opts, uint32_t flags)
{
	struct err e = ERR_INIT;
	struct drive *d;
	char text[256];

	snprintf(text, sizeof(text), "file=%s/a.raw,format=raw,if=none,id=d0,%s", t.dir, opts);
	cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "disk0", flags, &d, &e), 0, "%s", e.text);
	return d;
}

/* Bit n: another descriptor holds byte base + n. */
static uint32_t bytes_locked(off_t base)
{
	int fd = open(bt_path(&t, "a.raw"), O_RDWR | O_CLOEXEC);
	uint32_t bits = 0;

	for (unsigned int i = 0; i < 8; i++) {
		struct flock fl = { .l_type = F_WRLCK, .l_start = base + i, .l_len = 1 };

		cr_assert_eq(fcntl(fd, F_OFD_GETLK, &fl), 0);
		bits |= fl.l_type == F_UNLCK ? 0 : BIT(i);
	}
	close(fd);
	return bits;
}

Test(block_lock, test_lock_bytes_are_those_of_qemu)
{
	struct drive *d = take("file.locking=on", DRIVE_OPEN_WRITE);

	/* uses read and write, shares all but write */
	cr_assert_eq(bytes_locked(100), 0x3);
	cr_assert_eq(bytes_locked(200), 0x2);
	drive_close(d);
	cr_assert_eq(bytes_locked(100), 0);
	cr_assert_eq(bytes_locked(200), 0);
}

Test(block_lock, test_lock_bytes_of_readonly_and_shared_disks)
{
	struct drive *d = take("readonly=on", 0);

	cr_assert_eq(bytes_locked(100), 0x1);
	cr_assert_eq(bytes_locked(200), 0x2);
	drive_close(d);
	d = NULL;
	cr_assert_eq(drive_open(t.g, "d0", "x", DRIVE_OPEN_SHARE, &d, NULL), 0);
	cr_assert_eq(bytes_locked(200), 0);
	drive_close(d);
}

Test(block_lock, test_lock_off_takes_none)
{
	struct drive *d = take("file.locking=off", DRIVE_OPEN_WRITE);

	cr_assert_eq(bytes_locked(100), 0);
	cr_assert_eq(bytes_locked(200), 0);
	drive_close(d);
}

/* Two nodes on one file: locks of different descriptors, even in one process. */
static int second_user(const char *opts, uint32_t flags, struct err *e)
{
	struct drive *d;
	char text[256];
	int r;

	snprintf(text, sizeof(text), "file=%s/a.raw,format=raw,if=none,id=d1,%s", t.dir, opts);
	cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
	r = drive_open(t.g, "d1", "disk1", flags, &d, e);
	if (r == 0)
		drive_close(d);
	return r;
}

Test(block_lock, test_lock_two_nodes_on_one_file_are_refused)
{
	struct drive *d = take("cache=none", DRIVE_OPEN_WRITE);
	struct err e = ERR_INIT;

	cr_assert_eq(second_user("readonly=on", 0, &e), -EBUSY);
	cr_assert(strstr(e.text, "disk 'd1': "), "%s", e.text);
	cr_assert(strstr(e.text, "opened twice by this process"), "%s", e.text);
	cr_assert_eq(bytes_locked(100), 0x3, "the first keeps its locks");
	drive_close(d);
}

Test(block_lock, test_lock_two_readers_are_allowed)
{
	struct drive *d = take("readonly=on", 0);
	struct err e = ERR_INIT;

	cr_assert_eq(second_user("readonly=on", 0, &e), 0, "%s", e.text);
	drive_close(d);
}

Test(block_lock, test_lock_two_sharing_writers_are_allowed)
{
	struct drive *d = take("cache=none", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE);
	struct err e = ERR_INIT;

	cr_assert_eq(second_user("cache=none", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &e), 0, "%s",
		     e.text);
	drive_close(d);
}

static void hold_lock_elsewhere(int ready, int go)
{
	struct flock fl = { .l_type = F_RDLCK, .l_start = 201, .l_len = 1 };
	int fd = open(bt_path(&t, "a.raw"), O_RDWR);
	char c;

	if (fcntl(fd, F_OFD_SETLK, &fl) || write(ready, "x", 1) != 1 || read(go, &c, 1) < 0)
		_exit(1);
	_exit(0);
}

Test(block_lock, test_lock_held_elsewhere_names_the_process)
{
	struct err e = ERR_INIT;
	int up[2], down[2];
	struct drive *d;
	char text[256], c;
	pid_t pid;
	int r;

	cr_assert_eq(pipe(up) | pipe(down), 0);
	pid = fork();
	if (pid == 0)
		hold_lock_elsewhere(up[1], down[0]);
	cr_assert_eq(read(up[0], &c, 1), 1);
	snprintf(text, sizeof(text), "file=%s/a.raw,format=raw,if=none,id=d0", t.dir);
	cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
	r = drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &d, &e);
	cr_assert_eq(write(down[1], "x", 1), 1);
	waitpid(pid, NULL, 0);
	cr_assert_eq(r, -EBUSY);
	cr_assert(strstr(e.text, "a.raw is in use by another process ("), "%s", e.text);
	snprintf(text, sizeof(text), "pid %d); close it, or use readonly=on on both sides", pid);
	cr_assert(strstr(e.text, text), "%s", e.text);
	cr_assert_eq(bytes_locked(100), 0, "nothing half-locked");
}

/* ---- QEMU's own tools ---- */

static int sh(const char *fmt)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), fmt, bt_path(&t, "a.raw"));
	return WEXITSTATUS(system(cmd));
}

static void need_qemu_io(void)
{
	if (system("command -v qemu-io qemu-img >/dev/null 2>&1"))
		cr_skip_test("qemu-io and qemu-img (qemu-utils) are not installed");
}

#define QEMU_WRITE	"qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"
#define QEMU_READ	"qemu-io -r -f raw -c 'read 0 512' %s >/dev/null 2>&1"

/* What QEMU's tools do beside a running QEMU (7.2 measured): no second writer,
 * while a plain reader shares everything. */
Test(block_lock, test_lock_refuses_qemu_writers_beside_a_writer)
{
	struct drive *d;

	need_qemu_io();
	cr_assert_eq(sh(QEMU_WRITE), 0, "works alone");
	d = take("cache=none", DRIVE_OPEN_WRITE);
	cr_assert_neq(sh(QEMU_WRITE), 0);
	cr_assert_neq(sh("qemu-img resize -f raw %s 128K >/dev/null 2>&1"), 0);
	cr_assert_eq(sh(QEMU_READ), 0);
	drive_close(d);
	cr_assert_eq(sh(QEMU_WRITE), 0);
}

Test(block_lock, test_lock_lets_qemu_read_beside_a_reader)
{
	struct drive *d;

	need_qemu_io();
	d = take("readonly=on", 0);
	cr_assert_eq(sh(QEMU_READ), 0);
	cr_assert_neq(sh(QEMU_WRITE), 0);
	drive_close(d);
}

/* qemu-io waits for its standard input while it holds the image. */
static int open_beside_qemu(const char *cmd, uint32_t flags, struct err *e)
{
	char full[512], line[128], text[256];
	struct drive *d = NULL;
	int in[2], out[2], r;
	FILE *f;
	pid_t pid;

	snprintf(full, sizeof(full), cmd, bt_path(&t, "a.raw"));
	cr_assert_eq(pipe(in) | pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execl("/bin/sh", "sh", "-c", full, NULL);
		_exit(127);
	}
	close(out[1]);
	cr_assert_eq(write(in[1], "read 0 512\n", 11), 11);
	f = fdopen(out[0], "r");
	while (fgets(line, sizeof(line), f) && !strstr(line, "ops"))
		;
	snprintf(text, sizeof(text), "file=%s/a.raw,format=raw,if=none,id=d0%s", t.dir,
		 flags & DRIVE_OPEN_WRITE ? "" : ",readonly=on");
	cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
	r = drive_open(t.g, "d0", "disk0", flags, &d, e);
	drive_close(d);
	close(in[1]);
	waitpid(pid, NULL, 0);
	fclose(f);
	return r;
}

Test(block_lock, test_lock_is_refused_beside_a_writing_qemu)
{
	struct err e = ERR_INIT;

	need_qemu_io();
	cr_assert_eq(open_beside_qemu("exec qemu-io -f raw %s", DRIVE_OPEN_WRITE, &e), -EBUSY);
	cr_assert(strstr(e.text, "qemu-io, pid "), "%s", e.text);
}

Test(block_lock, test_lock_is_granted_beside_a_reading_qemu)
{
	struct err e = ERR_INIT;

	need_qemu_io();
	cr_assert_eq(open_beside_qemu("exec qemu-io -r -f raw %s", 0, &e), 0, "%s", e.text);
}

/* ---- a file in use becomes writable, and read-only again ---- */

static struct drive *take_read_only(const char *opts)
{
	char text[128];

	snprintf(text, sizeof(text), "readonly=on,%s", opts);
	return take(text, 0);
}

static void reopened(const char *opts)
{
	struct drive *d = take_read_only(opts);
	struct block_child c = { 0 };
	struct err e = ERR_INIT;
	uint8_t buf[512], got[512];

	t.d = d;
	cr_assert_eq(block_reopen(d->node, true, &e), 0, "%s", e.text);
	cr_expect(!d->node->read_only && !d->node->file.node->read_only);
	/* The same locks, on the new descriptor alone. */
	cr_expect_eq(bytes_locked(100), 0x1);
	cr_expect_eq(bytes_locked(200), 0x2);
	cr_assert_eq(block_attach(&c, d->node, "a job", BLOCK_PERM_WRITE_UNCHANGED, BLOCK_PERM_ALL,
				  &e), 0, "%s", e.text);
	cr_expect_eq(bytes_locked(100), 0x7, "a writer of what is there is a writer outside");
	cr_expect_eq(block_reopen(d->node, false, &e), -EBUSY);
	cr_expect(strstr(e.text, "written to by a job"), "%s", e.text);
	memset(buf, 7, sizeof(buf));
	d->read_only = false;		/* the device would have been told */
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 512, buf, 512, 0), 0);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 512, got, 512, 0), 0);
	cr_expect_eq(memcmp(buf, got, 512), 0);
	block_detach(&c);
	cr_expect_eq(bytes_locked(100), 0x1);
	cr_assert_eq(block_reopen(d->node, false, &e), 0, "%s", e.text);
	cr_expect_eq(bytes_locked(100), 0x1);
	cr_expect_eq(bytes_locked(200), 0x2);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 512, buf, 512, 0), -EBADF, "its descriptor only reads");
}

Test(block_lock, test_file_is_reopened_for_writing_and_back)
{
	reopened("werror=report");
}

Test(block_lock, test_file_without_locks_is_reopened)
{
	struct err e = ERR_INIT;
	struct drive *d = take_read_only("file.locking=off");

	t.d = d;
	cr_assert_eq(block_reopen(d->node, true, &e), 0, "%s", e.text);
	cr_expect_eq(bytes_locked(100), 0);
	cr_assert_eq(block_reopen(d->node, true, &e), 0, "%s", e.text);
}

Test(block_lock, test_reopening_another_file_of_that_name_is_refused)
{
	struct err e = ERR_INIT;
	struct drive *d = take_read_only("werror=report");
	uint8_t got[512], want[512];

	t.d = d;
	cr_assert_eq(rename(bt_path(&t, "a.raw"), bt_path(&t, "b.raw")), 0);
	cr_expect_eq(block_reopen(d->node, true, &e), -ENOENT);
	cr_expect(strstr(e.text, "No such file"), "%s", e.text);
	bt_file(&t, "a.raw", 65536);
	e = (struct err)ERR_INIT;
	cr_expect_eq(block_reopen(d->node, true, &e), -ESTALE);
	cr_expect(strstr(e.text, "is another file than the one in use"), "%s", e.text);
	cr_expect(d->node->read_only && d->node->file.node->read_only);
	cr_assert_eq(rename(bt_path(&t, "b.raw"), bt_path(&t, "a.raw")), 0);
	cr_expect_eq(bytes_locked(100), 0x1);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 0, got, 512, 0), 0);
	for (unsigned int i = 0; i < sizeof(want); i++)
		want[i] = bt_byte(i, 0);
	cr_expect_eq(memcmp(want, got, 512), 0);
}

Test(block_lock, test_reopening_a_file_under_reads)
{
	struct drive *d = take_read_only("werror=report");
	static uint8_t mem[8][512];
	struct bt_req q[8];
	struct err e = ERR_INIT;

	t.d = d;
	for (int round = 0; round < 50; round++) {
		memset(q, 0, sizeof(q));
		for (unsigned int i = 0; i < 8; i++)
			bt_submit(&t, &q[i], BLOCK_READ, 4096 * i, mem[i], 512, 0);
		cr_assert_eq(block_reopen(d->node, round % 2 == 0, &e), 0, "%s", e.text);
		for (unsigned int i = 0; i < 8; i++) {
			bt_wait(&t, &q[i]);
			cr_assert_eq(q[i].ret, 0);
			cr_assert_eq(mem[i][5], bt_byte(4096 * i + 5, 0));
		}
	}
}
