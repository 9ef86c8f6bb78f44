/*
 * tests/unit/test_qcow2_crash.c - the host crashes while an image is written to, or
 * resized: what is left?
 *
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>

#include "block/graph.h"
#include "block/image.h"
#include "lib_crash.h"
#include "vmm/base/util.h"

static void crashes(const char *opts, const char *prepare, unsigned int rounds, int moments)
{
	bt_start(&cd.t, LOOP_AIO_AUTO);
	qt_sh(&cd.t, "qemu-img create -f qcow2 -o %s a.qcow2 %lu && %s", opts, (unsigned long)CRASH_DISK,
	      prepare);
	qt_sh(&cd.t, "cp a.qcow2 before");
	qt_open(&cd.t, "a.qcow2", "discard=unmap");
	cd_record(0, cd.t.d->node->file.node);
	cd_work(rounds, NULL);
	cd_judge_all(moments);
	qt_check(&cd.t, "a.qcow2");
	bt_stop(&cd.t);
}

TestSuite(qcow2_crash, .timeout = 240);

Test(qcow2_crash, test_crash_default_image)
{
	qt_seed(11);
	crashes("cluster_size=64k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_cluster_4k)
{
	qt_seed(12);
	crashes("cluster_size=4k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_cluster_512_grows_tables)
{
	qt_seed(13);
	crashes("cluster_size=512,refcount_bits=64", "true", 600, 60);
}

Test(qcow2_crash, test_crash_version_2)
{
	qt_seed(14);
	crashes("compat=0.10", "true", 600, 40);
}

Test(qcow2_crash, test_crash_extended_l2)
{
	qt_seed(15);
	crashes("extended_l2=on,cluster_size=16k", "true", 800, 60);
}

Test(qcow2_crash, test_crash_with_internal_snapshot)
{
	qt_seed(16);
	/* Zeroes, so that the old content needs no model; counted twice. */
	crashes("cluster_size=4k", "qemu-io -f qcow2 -c 'write -P 0 0 2M' a.qcow2 && "
		"qemu-img snapshot -c one a.qcow2", 600, 60);
}

/* A full disk at work, and its recorded writes so far. */
static size_t begin_resize(unsigned int seed)
{
	qt_seed(seed);
	bt_start(&cd.t, LOOP_AIO_AUTO);
	qt_sh(&cd.t, "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 %lu && cp a.qcow2 before",
	      (unsigned long)CRASH_DISK);
	qt_open(&cd.t, "a.qcow2", "discard=unmap");
	cd_record(0, cd.t.d->node->file.node);
	cd_work(200, NULL);
	return cd_now();
}

static void judge_resize(size_t from, size_t to)
{
	for (size_t at = from; at <= to; at++)
		cd_judge(at);
	cd_judge_all(20);
	bt_stop(&cd.t);
}

/* A crash in the midst of it: the disk has its old length or the new one. */
Test(qcow2_crash, test_crash_while_the_image_is_resized)
{
	size_t begun = begin_resize(23);
	struct err e = ERR_INIT;

	cr_assert_eq(image_resize(cd.t.d->node, block_graph_wait_loop(cd.t.g), 2048 * MIB, &e), 0, "%s",
		     e.text);
	cr_assert_gt(cd_now(), begun + 3);
	judge_resize(begun, cd_now());
}

/* The same under a running guest, where the old end is amid a cluster that is full. */
Test(qcow2_crash, test_crash_while_the_disk_grows_in_use)
{
	size_t begun = begin_resize(24);

	cr_assert_eq(cd.t.d->node->drv->set_length(cd.t.d->node, 512 * MIB), 0);
	cr_assert_gt(cd_now(), begun + 3);
	cd_work(100, NULL);
	judge_resize(begun, MIN(begun + 60, cd_now()));
}
