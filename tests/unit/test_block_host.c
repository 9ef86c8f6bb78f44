/*
 * tests/unit/test_block_host.c - what needs a real block device or a full file
 * system: loop devices with sectors of 4 KiB, a small tmpfs. Skipped with the
 * reason where these cannot be had (no root, no loop driver).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "lib_block.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)

static struct bt t;
static int loop_fd = -1;	/* keeps the device; it goes with the last user */

static void teardown(void)
{
	bt_stop(&t);
	fd_close(&loop_fd);
}

TestSuite(block_host, .fini = teardown, .timeout = 60);

static char loop_path[32];

/* 0, or -errno; -EBUSY when another test took the free one first. */
static int take_loop(int ctl, struct loop_config *cfg)
{
	int n = ioctl(ctl, LOOP_CTL_GET_FREE);

	if (n < 0)
		return -errno;
	snprintf(loop_path, sizeof(loop_path), "/dev/loop%d", n);
	loop_fd = open(loop_path, O_RDWR | O_CLOEXEC);
	if (loop_fd < 0)
		return -errno;
	if (ioctl(loop_fd, LOOP_CONFIGURE, cfg) == 0)
		return 0;
	n = -errno;
	fd_close(&loop_fd);
	return n;
}

/* The path of a new loop device on a filled file. */
static const char *loop_device(uint32_t sector, uint32_t flags)
{
	struct loop_config cfg = { .block_size = sector };
	int ctl, r = -EBUSY;

	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "back.raw", DISK);
	cfg.info.lo_flags = LO_FLAGS_AUTOCLEAR | flags;
	cfg.fd = (uint32_t)open(bt_path(&t, "back.raw"), O_RDWR | O_CLOEXEC);
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 100 && r == -EBUSY; i++)
		r = ctl < 0 ? -ENOENT : take_loop(ctl, &cfg);
	fd_close(&ctl);
	close((int)cfg.fd);
	if (r)
		cr_skip_test("no loop device: %s", strerror(-r));
	return loop_path;
}

Test(block_host, test_host_device_4k_sectors_direct_keeps_data)
{
	bt_open(&t, loop_device(4096, 0), "cache=none,discard=unmap");
	cr_assert_eq(bt_file_node(&t)->n.request_align, 4096);
	cr_assert(bt_file_node(&t)->tracked);
	bt_integrity(&t, 0, 20);
}

Test(block_host, test_host_device_4k_sectors_direct_misaligned_memory)
{
	bt_open(&t, loop_device(4096, 0), "cache=none");
	bt_integrity(&t, 1, 20);
}

Test(block_host, test_host_device_512_sectors_direct_keeps_data)
{
	bt_open(&t, loop_device(512, 0), "cache=none,discard=unmap");
	cr_assert(!bt_file_node(&t)->tracked);
	bt_integrity(&t, 0, 24);
}

Test(block_host, test_host_device_4k_sectors_buffered_keeps_data)
{
	bt_open(&t, loop_device(4096, 0), "discard=unmap");
	bt_integrity(&t, 0, 24);
}

static uint64_t backing_bytes(void)
{
	struct stat st;

	cr_assert_eq(stat(bt_path(&t, "back.raw"), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Sector 65 to 191: only whole units of 4096 bytes can be given back. */
Test(block_host, test_host_device_discard_gives_whole_units_back)
{
	uint64_t before;
	uint8_t buf[512];

	bt_open(&t, loop_device(4096, 0), "cache=none,discard=unmap");
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	before = backing_bytes();
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 65 * 512, NULL, 127 * 512, 0), 0);
	cr_assert_leq(backing_bytes() + 14 * 4096, before);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 65 * 512, buf, 512, 0), 0);
	cr_assert_eq(buf[0], bt_byte(65 * 512, 0), "a partial unit was discarded");
	cr_assert_eq(bt_io(&t, BLOCK_READ, 96 * 512, buf, 512, 0), 0);
	cr_assert_eq(buf[0], 0);
}

Test(block_host, test_host_device_readonly_needs_readonly_or_auto)
{
	const char *dev = loop_device(512, LO_FLAGS_READ_ONLY);
	uint8_t buf[512];
	char text[160];

	snprintf(text, sizeof(text), "file=%s,format=raw,if=none,id=x", dev);
	cr_assert_lt(bt_drive(&t, text), 0);
	cr_assert(strstr(bt_error(), "readonly=on"), "%s", bt_error());
	bt_open(&t, dev, "auto-read-only=on");
	cr_assert(t.d->read_only);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), -EROFS);
}

Test(block_host, test_host_device_named_as_file_says_so)
{
	char text[160];

	snprintf(text, sizeof(text), "file,node-name=n,filename=%s", loop_device(512, 0));
	cr_assert_eq(bt_blockdev(&t, text), -EINVAL);
	cr_assert(strstr(bt_error(), "use driver=host_device"), "%s", bt_error());
}

/* ---- a full file system ---- */

static int stops;

static void on_error(struct drive *d, enum block_op op, int err, enum drive_policy action)
{
	stops += action == DRIVE_STOP && err == -ENOSPC;
}

/* 64 KiB of room for a disk of 256 KiB. */
static void small_tmpfs(const char *opts)
{
	const char *dir;

	bt_start(&t, LOOP_AIO_AUTO);
	dir = bt_path(&t, "small");
	mkdir(dir, 0755);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, "size=64k"))
		cr_skip_test("no tmpfs of our own: %s", strerror(errno));
	close(open(bt_path(&t, "small/d.raw"), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	cr_assert_eq(truncate(bt_path(&t, "small/d.raw"), DISK), 0);
	bt_open(&t, bt_path(&t, "small/d.raw"), opts);
	t.d->on_error = on_error;
}

static void drop_tmpfs(void)
{
	umount2(bt_path(&t, "small"), MNT_DETACH);
}

Test(block_host, test_full_file_system_stops_and_resumes)
{
	static uint8_t buf[DISK / 2], back[DISK / 2];
	struct bt_req q;

	small_tmpfs("werror=enospc");
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = bt_byte(i, 1);
	bt_submit(&t, &q, BLOCK_WRITE, 0, buf, sizeof(buf), 0);
	while (!t.d->stopped.head)
		loop_turn(t.loop, NS_PER_SEC);
	cr_assert_eq(stops, 1);
	cr_assert_eq(q.done, 0);
	cr_assert_eq(mount("none", bt_path(&t, "small"), NULL, MS_REMOUNT, "size=1m"), 0);
	drive_resume(t.d);
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, back, sizeof(back), 0), 0);
	cr_assert_arr_eq(back, buf, sizeof(buf));
	drop_tmpfs();
}

Test(block_host, test_full_file_system_reported_keeps_enospc)
{
	static uint8_t buf[DISK / 2];

	small_tmpfs("werror=report,detect-zeroes=on");
	memset(buf, 1, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, sizeof(buf), 0), -ENOSPC);
	memset(buf, 0, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, sizeof(buf), 0), -ENOSPC,
		     "zeroes that keep their space need it");
	cr_assert_eq(stops, 0);
	drop_tmpfs();
}
