/*
 * tests/unit/test_block_copy_on_read.c - what is read through a copy-on-read node
 * is kept in the image below it. qemu-img and qemu-io are the judges.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "block/fault.h"
#include "block/graph.h"
#include "lib_qcow2.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define CLUSTER	65536u

static struct bt t;
static uint8_t got[4 * CLUSTER];

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "truncate -s 4M base.raw");
	qt_sh(&t, "qemu-io -f raw -c 'write -P 1 0 2M' base.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b base.raw -F raw mid.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 1M 300k' -c 'write -z 64k 64k' mid.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 4 1500k 9k' top.qcow2");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_copy_on_read, .init = setup, .fini = teardown, .timeout = 60);

/* Node "cor" on node "top", whose file is "topf". */
static void nodes(const char *more)
{
	char text[400];

	cr_assert_eq(bt_blockdev(&t, "driver=qcow2,node-name=top,discard=unmap,file.driver=file,"
				 "file.node-name=topf,file.filename=%s/top.qcow2"), 0, "%s",
		     bt_error());
	snprintf(text, sizeof(text), "driver=copy-on-read,node-name=cor,discard=unmap,file=top%s",
		 more);
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
}

static void open_as(const char *name, uint32_t flags)
{
	struct err e = ERR_INIT;

	cr_assert_eq(drive_open(t.g, name, "dev0", flags, &t.d, &e), 0, "%s", e.text);
}

static void disk(const char *more)
{
	nodes(more);
	open_as("cor", DRIVE_OPEN_MAY_WRITE);
}

/* The first @bytes of the disk are @byte, whoever has them. */
static void expect(uint64_t at, uint32_t bytes, uint8_t byte)
{
	memset(got, 0xee, sizeof(got));
	cr_assert_eq(bt_io(&t, BLOCK_READ, at, got, bytes, 0), 0);
	cr_expect_eq(got[0], byte);
	cr_expect_eq(memcmp(got, got + 1, bytes - 1), 0);
}

static void fail_writes(const char *node)
{
	json_t *args = json_pack("{s:s,s:s,s:s,s:s}", "id", "f0", "drive", node, "op", "write",
				 "errno", "ENOSPC");
	struct err e = ERR_INIT;

	cr_assert_eq(block_fault_add(t.g, args, &e), 0, "%s", e.text);
	json_decref(args);
}

Test(block_copy_on_read, test_what_was_read_needs_no_backing_file)
{
	disk("");
	qt_equals(&t, "want.raw");
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img rebase -u -b '' -f qcow2 top.qcow2 && rm base.raw mid.qcow2");
	qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 want.raw top.qcow2");
}

Test(block_copy_on_read, test_only_what_was_read_is_copied)
{
	disk("");
	expect(CLUSTER / 2, 512, 1);
	expect(MIB, 512, 2);
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img map --output=json top.qcow2 >map");
	/* Depth 0 is the top: two clusters that were read, one that it had. */
	qt_sh(&t, "test $(grep -c '\"depth\": 0' map) = 3");
	qt_sh(&t, "grep '\"depth\": 0' map | grep -q '\"start\": 0, \"length\": 65536'");
	qt_sh(&t, "grep '\"depth\": 0' map | grep -q '\"start\": 1048576, \"length\": 65536'");
}

/* The disk below it may be read without copying. */
Test(block_copy_on_read, test_reads_past_the_node_copy_nothing)
{
	nodes("");
	open_as("top", DRIVE_OPEN_MAY_WRITE);
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_sh(&t, "test $(qemu-img map --output=json top.qcow2 | grep -c '\"depth\": 0') = 1");
}

Test(block_copy_on_read, test_read_only_disk_copies_into_a_writable_image)
{
	disk(",read-only=on");
	cr_assert(t.d->read_only);
	expect(0, CLUSTER, 1);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 0, got, 512, 0), -EROFS);
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img map --output=json top.qcow2 | "
	      "grep -q '\"start\": 0, \"length\": 65536, \"depth\": 0'");
}

Test(block_copy_on_read, test_writes_discards_and_length_pass)
{
	struct block_node *n;

	disk("");
	n = t.d->node;
	memset(got, 7, sizeof(got));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 512, got, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 2 * CLUSTER, NULL, CLUSTER, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 3 * CLUSTER, NULL, CLUSTER, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	expect(512, 512, 7);
	expect(1024, 512, 1);
	expect(2 * CLUSTER, 2 * CLUSTER, 0);
	cr_assert_eq(n->drv->check_length(n, 5 * MIB, NULL), 0);
	cr_assert_eq(n->drv->set_length(n, 5 * MIB), 0);
	block_node_resized(n);
	expect(5 * MIB - CLUSTER, CLUSTER, 0);
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-io -r -f qcow2 -c 'read -P 7 512 512' -c 'read -P 0 128k 128k' top.qcow2");
}

Test(block_copy_on_read, test_failed_copy_does_not_fail_the_read)
{
	disk("");
	fail_writes("topf");
	expect(0, CLUSTER, 1);
	expect(CLUSTER / 2, CLUSTER / 2, 1);
	qt_equals(&t, "want.raw");
	cr_assert_eq(block_fault_del(t.g, "f0", NULL), 0);
	expect(0, CLUSTER, 1);		/* and now it is kept */
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 want.raw top.qcow2");
	qt_sh(&t, "qemu-img map --output=json top.qcow2 >map");
	qt_sh(&t, "grep -q '\"start\": 0, \"length\": 65536, \"depth\": 0' map");
	qt_sh(&t, "grep '\"start\": 131072, ' map | grep -q '\"depth\": 2'");
}

/* The same on a drive's own copy-on-read: there is one mechanism. */
Test(block_copy_on_read, test_failed_copy_of_a_drive_does_not_fail_the_read)
{
	qt_open(&t, "top.qcow2", "copy-on-read=on");
	fail_writes(t.d->node->file.node->name);
	qt_equals(&t, "want.raw");
}

/* What cannot be read is no copy that failed. */
Test(block_copy_on_read, test_backing_file_that_fails_fails_the_read)
{
	disk("");
	qt_sh(&t, "truncate -s 1M base.raw");
	cr_expect_eq(bt_io(&t, BLOCK_READ, 30 * CLUSTER, got, CLUSTER, 0), -EIO);
	expect(0, CLUSTER, 1);
}

Test(block_copy_on_read, test_raw_image_has_nothing_to_copy)
{
	cr_assert_eq(bt_blockdev(&t, "driver=copy-on-read,node-name=cor,file.driver=raw,"
				 "file.file.driver=file,file.file.filename=%s/base.raw"), 0, "%s",
		     bt_error());
	open_as("cor", DRIVE_OPEN_MAY_WRITE);
	qt_equals(&t, "base.raw");
}

Test(block_copy_on_read, test_what_cannot_be_is_refused)
{
	struct err e = ERR_INIT;

	cr_assert_lt(bt_blockdev(&t, "driver=copy-on-read,node-name=cor"), 0);
	cr_expect(strstr(bt_error(), "needs file="), "%s", bt_error());
	nodes("");
	cr_assert_lt(bt_blockdev(&t, "driver=copy-on-read,node-name=c2,bottom=mid,file=top"), 0);
	cr_expect(strstr(bt_error(), "bottom=mid is not supported"), "%s", bt_error());
	cr_assert_lt(bt_blockdev(&t, "driver=copy-on-read,node-name=c2,backing=top,file=top"), 0);
	cr_expect(strstr(bt_error(), "has no option 'backing'"), "%s", bt_error());
	cr_assert_lt(bt_blockdev(&t, "driver=copy-on-read,node-name=c2,file.driver=qcow2,"
				 "file.read-only=on,file.file.driver=file,"
				 "file.file.filename=%s/mid.qcow2"), 0);
	cr_expect(strstr(bt_error(), "mid.qcow2 is read-only, so nothing"), "%s", bt_error());
	/* The copies would be a second writer's. */
	open_as("top", DRIVE_OPEN_MAY_WRITE);
	cr_assert_lt(drive_open(t.g, "cor", "dev1", 0, &(struct drive *){ NULL }, &e), 0);
}
