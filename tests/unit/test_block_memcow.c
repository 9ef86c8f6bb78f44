/*
 * tests/unit/test_block_memcow.c - writes kept in memory: data, limit, reset,
 * and a file below that never changes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/memcow.h"
#include "lib_block.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)

static struct bt t;
static struct err e;
static uint8_t buf[256 * 1024], back[256 * 1024];

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(memcow, .fini = teardown, .timeout = 60);

static void disk(const char *more)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, DISK, more);
}

static void file_is_as_it_was(void)
{
	int fd = open(bt_path(&t, "d0.raw"), O_RDONLY);

	cr_assert_eq(fd_read_full(fd, back, DISK, 0), 0);
	close(fd);
	for (size_t i = 0; i < DISK; i++)
		cr_assert_eq(back[i], bt_byte(i, 0), "byte %zu of the file", i);
}

Test(memcow, test_integrity_and_an_untouched_file)
{
	disk("snapshot=on");
	bt_integrity(&t, 0, 24);
	file_is_as_it_was();
}

Test(memcow, test_integrity_direct_misaligned)
{
	disk("snapshot=on,cache=none,detect-zeroes=on");
	bt_integrity(&t, 512, 200);
	file_is_as_it_was();
}

Test(memcow, test_read_of_both_kinds_is_laid_over)
{
	disk("snapshot=on");
	memset(buf, 0x5a, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 1024, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 3072, NULL, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, back, 4096, 0), 0);
	for (size_t i = 0; i < 4096; i++)
		cr_assert_eq(back[i], i / 512 == 2 ? 0x5a : i / 512 == 6 ? 0 : bt_byte(i, 0),
			     "byte %zu", i);
}

Test(memcow, test_data_over_zeroes_keeps_the_zeroes_around)
{
	disk("snapshot=on");
	memset(buf, 0x5a, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 0, NULL, DISK, 0), 0);
	cr_expect_lt(block_memcow_used(t.d->node), 16384, "zeroes take memory");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 65536 + 512, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 65536, back, 2048, 0), 0);
	for (size_t i = 0; i < 2048; i++)
		cr_assert_eq(back[i], i / 512 == 1 ? 0x5a : 0, "byte %zu", i);
}

Test(memcow, test_reset_gives_the_disk_back_and_the_memory)
{
	disk("snapshot=on");
	memset(buf, 1, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, DISK, 0), 0);
	cr_expect_geq(block_memcow_used(t.d->node), DISK);
	cr_assert_eq(block_memcow_reset(t.d->node, &e), 0, "%s", e.text);
	cr_expect_eq(block_memcow_used(t.d->node), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, back, DISK, 0), 0);
	for (size_t i = 0; i < DISK; i++)
		cr_assert_eq(back[i], bt_byte(i, 0), "byte %zu", i);
}

Test(memcow, test_flush_and_discard_succeed_and_lose_nothing)
{
	disk("snapshot=on,discard=unmap");
	memset(buf, 7, 512);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, BLOCK_FUA), 0);
	cr_expect_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	cr_expect_eq(bt_io(&t, BLOCK_DISCARD, 512, NULL, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, back, 512, 0), 0);
	cr_expect_arr_eq(back, buf, 512);
}

static void blockdev(const char *text)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "base.raw", 8 * MIB);
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
}

Test(memcow, test_writes_beyond_the_limit_are_enospc)
{
	blockdev("memcow,node-name=m,limit=1M,file.driver=file,file.filename=%s/base.raw");
	cr_assert_eq(drive_open(t.g, "m", "dev0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	for (uint64_t off = 0; off < 768 * 1024; off += sizeof(buf))
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, off, buf, sizeof(buf), 0), 0);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, MIB, buf, sizeof(buf), 0), -ENOSPC);
	cr_expect_leq(block_memcow_used(t.d->node), (int64_t)MIB);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 0, buf, sizeof(buf), 0), 0, "rewriting needs none");
}

Test(memcow, test_many_stand_on_one_image)
{
	blockdev("file,node-name=base,read-only=on,filename=%s/base.raw");
	for (int i = 0; i < 20; i++) {
		char text[64], name[8];
		struct drive *d;

		snprintf(name, sizeof(name), "m%d", i);
		snprintf(text, sizeof(text), "memcow,node-name=%s,file=base", name);
		cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
		cr_assert_eq(drive_open(t.g, name, name, DRIVE_OPEN_WRITE, &d, &e), 0, "%s",
			     e.text);
		if (i < 19)
			drive_close(d);
		else
			t.d = d;
	}
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
}

Test(memcow, test_mistakes_are_named)
{
	struct stat st;

	disk("");
	cr_expect_eq(block_memcow_reset(t.d->node, &e), -EINVAL);
	cr_expect(strstr(e.text, "snapshot=on"), "%s", e.text);
	cr_expect_eq(block_memcow_used(t.d->node), -1);
	cr_expect_lt(bt_blockdev(&t, "memcow,node-name=m"), 0);
	cr_expect(strstr(bt_error(), "file="), "%s", bt_error());
	cr_expect_lt(bt_blockdev(&t, "memcow,node-name=m,limit=1,file.driver=file,"
				 "file.filename=%s/d0.raw"), 0);
	cr_expect(strstr(bt_error(), "limit"), "%s", bt_error());
	cr_expect_eq(stat(bt_path(&t, "d0.raw"), &st), 0);
}
