/*
 * tests/unit/test_qcow2_read.c - images that qemu-img and qemu-io made, read.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/qcow2/qcow2.h"
#include "lib_qcow2.h"

static struct bt t;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
	qt_seed(1);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(qcow2_read, .init = setup, .fini = teardown, .timeout = 120);

/* Writes that leave holes, zeroes and partial clusters. */
static void scribble(const char *image)
{
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 1 0 4k' -c 'write -P 2 70k 200k' "
	      "-c 'write -P 3 1M 1536k' -c 'write -z 100k 64k' -c 'write -P 4 5000k 11k' "
	      "-c 'write -P 9 7M 3k' -c 'discard 1100k 128k' %s", image);
}

static void made_with(const char *opts)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o %s a.qcow2 8M", opts);
	scribble("a.qcow2");
	qt_sh(&t, "qemu-img convert -O raw a.qcow2 a.raw");
	qt_open(&t, "a.qcow2", "readonly=on");
	qt_equals(&t, "a.raw");
}

Test(qcow2_read, test_open_default_image_reads_as_qemu_does)
{
	made_with("cluster_size=64k");
}

Test(qcow2_read, test_open_version_2_reads_as_qemu_does)
{
	made_with("compat=0.10");
}

Test(qcow2_read, test_open_cluster_512_reads_as_qemu_does)
{
	made_with("cluster_size=512");
}

Test(qcow2_read, test_open_cluster_4k_reads_as_qemu_does)
{
	made_with("cluster_size=4k,refcount_bits=1");
}

Test(qcow2_read, test_open_cluster_2m_reads_as_qemu_does)
{
	made_with("cluster_size=2M,refcount_bits=64");
}

Test(qcow2_read, test_open_extended_l2_reads_as_qemu_does)
{
	made_with("extended_l2=on,cluster_size=64k");
}

Test(qcow2_read, test_open_extended_l2_16k_reads_as_qemu_does)
{
	made_with("extended_l2=on,cluster_size=16k");
}

Test(qcow2_read, test_open_preallocated_reads_as_qemu_does)
{
	made_with("preallocation=metadata,lazy_refcounts=on");
}

static void compressed_with(const char *opts)
{
	/* Text, noise and zeroes: small, incompressible and absent clusters. */
	qt_sh(&t, "{ seq 1 300000; head -c 700000 /dev/urandom; head -c 1000000 /dev/zero; "
	      "seq 5 100000; } >a.raw && truncate -s %%512 a.raw");
	qt_sh(&t, "qemu-img convert -c -f raw -O qcow2 -o %s a.raw a.qcow2", opts);
	qt_open(&t, "a.qcow2", "readonly=on");
	qt_equals(&t, "a.raw");
}

Test(qcow2_read, test_compressed_zlib_reads_as_written)
{
	compressed_with("cluster_size=64k");
}

Test(qcow2_read, test_compressed_zstd_reads_as_written)
{
	compressed_with("compression_type=zstd");
}

Test(qcow2_read, test_compressed_small_and_large_clusters_read_as_written)
{
	compressed_with("cluster_size=512");
	qt_close(&t);
	compressed_with("cluster_size=2M,compression_type=zstd");
}

Test(qcow2_read, test_compressed_with_direct_io_reads_as_written)
{
	compressed_with("cluster_size=64k");
	qt_close(&t);
	qt_open(&t, "a.qcow2", "readonly=on,cache=none");
	qt_equals(&t, "a.raw");
}

Test(qcow2_read, test_chain_of_mixed_formats_and_sizes_reads_as_qemu_does)
{
	qt_sh(&t, "seq 1 400000 | head -c 2000000 >base.raw && truncate -s %%512 base.raw");
	qt_sh(&t, "qemu-img create -f qcow2 -F raw -b base.raw -o cluster_size=4k m1.qcow2 3M");
	qt_sh(&t, "qemu-img create -f qcow2 -F qcow2 -b m1.qcow2 -o compat=0.10 m2.qcow2 6M");
	qt_sh(&t, "qemu-img create -f qcow2 -F qcow2 -b m2.qcow2 -o extended_l2=on top.qcow2 8M");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 7 10k 9k' -c 'write -z 40k 8k' m1.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 8 1900k 300k' m2.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 5 513k 2k' -c 'write -z 1M 64k' top.qcow2");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 top.raw");
	qt_open(&t, "top.qcow2", "readonly=on");
	qt_equals(&t, "top.raw");
}

/* Bytes of memory that this process has, of proc(5)'s statm. */
static uint64_t resident(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	cr_assert(f && fscanf(f, "%*u %llu", &pages) == 1);
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(qcow2_read, test_chain_of_300_files_opens_and_reads)
{
	uint64_t before;

	qt_sh(&t, "seq 1 200000 | head -c 1048576 >base.raw; ln base.raw 000.qcow2; "
	      "qemu-img create -q -f qcow2 -F raw -b 000.qcow2 001.qcow2; rm 000.qcow2; "
	      "cp base.raw 000.qcow2; "
	      "qemu-img create -q -f qcow2 -F qcow2 -b 001.qcow2 t.qcow2 1M; "
	      "off=$(grep -abo 001.qcow2 t.qcow2 | head -1 | cut -d: -f1); "
	      "for i in $(seq 2 300); do n=$(printf %%03d $i); p=$(printf %%03d $((i - 1))); "
	      "cp t.qcow2 $n.qcow2; "
	      "printf %%s $p.qcow2 | dd of=$n.qcow2 bs=1 seek=$off conv=notrunc status=none; done");
	before = resident();
	qt_open(&t, "300.qcow2", "readonly=on");
	qt_equals(&t, "base.raw");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* A layer costs what it uses: 500 KiB and more before, 3 MiB with huge pages. */
	cr_expect_leq((resident() - before) / 300, 96 * KIB);
#endif
}

Test(qcow2_read, test_internal_snapshots_do_not_disturb_reading)
{
	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M");
	scribble("a.qcow2 || true");
	qt_sh(&t, "qemu-img snapshot -c one a.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 33 2M 300k' a.qcow2");
	qt_sh(&t, "qemu-img convert -O raw a.qcow2 a.raw");
	qt_open(&t, "a.qcow2", "readonly=on");
	qt_equals(&t, "a.raw");
}

Test(qcow2_read, test_cache_smaller_than_the_map_reads_all)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 24M");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 1 0 8M' -c 'write -P 2 12M 9M' a.qcow2");
	qt_sh(&t, "qemu-img convert -O raw a.qcow2 a.raw");
	cr_assert_eq(bt_blockdev(&t, "qcow2,node-name=d0,read-only=on,l2-cache-size=65536,"
				 "file.driver=file,file.filename=%s/a.qcow2"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "dev", 0, &t.d, NULL), 0);
	qt_equals(&t, "a.raw");
	qt_equals(&t, "a.raw");
	cr_assert_leq(atomic_load(&((struct q2 *)t.d->node)->l2_loaded), 65536 + 4096);
}

/* ---- what is refused ---- */

static void refused(const char *opts, int ret, const char *word)
{
	int r = bt_drive(&t, opts);

	cr_assert_eq(r, ret, "%s: %d, %s", opts, r, bt_error());
	cr_assert_not_null(strstr(bt_error(), word), "'%s' is not in: %s", word, bt_error());
}

#define OPEN "file=%s/a.qcow2,format=qcow2,if=none,id=d0,readonly=on"

/* Bytes of the header, big endian. */
static void patch(unsigned int off, uint64_t v, unsigned int width)
{
	int fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	uint8_t b[8];

	put_be64(b, v << (64 - 8 * width));
	cr_assert_eq(pwrite(fd, b, width, off), (ssize_t)width);
	close(fd);
}

static void fresh(void)
{
	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 64M");
}

Test(qcow2_read, test_header_fields_out_of_range_are_refused)
{
	static const struct {
		unsigned int off, width;
		uint64_t v;
		int ret;
		const char *word;
	} bad[] = {
		{ 0, 4, 0x514649fa, -EINVAL, "no qcow2 image" },
		{ 4, 4, 1, -ENOTSUP, "version 1" },
		{ 4, 4, 4, -ENOTSUP, "version 4" },
		{ 8, 8, 0xffffffffffffff00ull, -EINVAL, "backing file name" },
		{ 16, 4, 16, 0, "" },			/* no backing file: ignored */
		{ 20, 4, 8, -EINVAL, "cluster_bits" },
		{ 20, 4, 22, -EINVAL, "cluster_bits" },
		{ 20, 4, 0x40, -EINVAL, "cluster_bits" },
		{ 24, 8, UINT64_MAX, -EFBIG, "too large" },
		{ 24, 8, BIT64(62), -EFBIG, "too large" },
		{ 24, 8, BIT64(40), -EINVAL, "too few" },
		{ 32, 4, 1, -ENOTSUP, "encrypted" },
		{ 36, 4, 0, -EINVAL, "too few" },
		{ 36, 4, 0x7fffffff, -EFBIG, "L1 table" },
		{ 36, 4, 0x400000, -EINVAL, "reaches beyond" },
		{ 40, 8, 0x30001, -EINVAL, "cluster boundary" },
		{ 40, 8, 0x7fffffffffff0000ull, -EINVAL, "reaches beyond" },
		{ 40, 8, 0, -EINVAL, "reaches beyond" },
		{ 48, 8, 0x10001, -EINVAL, "cluster boundary" },
		{ 48, 8, 0xffffffffffff0000ull, -EINVAL, "reaches beyond" },
		{ 56, 4, 0, -EINVAL, "no refcount table" },
		{ 56, 4, 0xffffffff, -EFBIG, "refcount table" },
		{ 60, 4, 0xffffffff, -EFBIG, "snapshots" },
		{ 60, 4, 65536, -EINVAL, "snapshot table" },
		{ 72, 8, BIT64(40), -ENOTSUP, "bit 40" },
		{ 72, 8, BIT64(3), -EINVAL, "compression" },
		{ 72, 8, BIT64(2), -EPERM, "external file" },
		{ 88, 8, BIT64(0), -EINVAL, "bitmaps" },
		{ 88, 8, BIT64(1), -EINVAL, "raw external data" },
		{ 96, 4, 7, -EINVAL, "refcount_order" },
		{ 100, 4, 96, -EINVAL, "header_length" },
		{ 100, 4, 0xfffffff8, -EINVAL, "header_length" },
		{ 104, 1, 1, -EINVAL, "compression" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		fresh();
		patch(bad[i].off, bad[i].v, bad[i].width);
		if (bad[i].ret == 0)
			cr_assert_eq(bt_drive(&t, OPEN), 0, "%zu: %s", i, bt_error());
		else
			refused(OPEN, bad[i].ret, bad[i].word);
		block_graph_destroy(t.g);
		t.g = block_graph_create(t.loop);
	}
}

/* A name longer than a cluster is inside none, wherever it is said to be. */
Test(qcow2_read, test_backing_name_longer_than_a_cluster_is_refused)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 1M");
	patch(8, 0x4141414141414141ull, 8);
	patch(16, 513, 4);
	refused(OPEN, -EINVAL, "backing file name");
}

/* More requests than contexts, several times over, wait for one L2 table: those
 * that are woken find it loaded, need no context, and still wake the next. */
Test(qcow2_read, test_all_that_wait_for_a_context_go_on)
{
	enum { N = 4 * Q2_OPS };
	static struct bt_req q[N];
	static uint8_t buf[N][512];

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 64M && "
	      "qemu-io -f qcow2 -c 'write -P 7 0 1M' a.qcow2 >/dev/null");
	qt_open(&t, "a.qcow2", "");
	for (int i = 0; i < N; i++)
		bt_submit(&t, &q[i], BLOCK_READ, 512 * (uint64_t)i, buf[i], 512, 0);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(q[i].ret, 0);
		cr_assert_eq(buf[i][0], 7);
	}
}

Test(qcow2_read, test_unknown_compatible_and_autoclear_features_are_read)
{
	fresh();
	patch(80, BIT64(63) | BIT64(1), 8);
	patch(88, BIT64(62), 8);
	cr_assert_eq(bt_drive(&t, OPEN), 0, "%s", bt_error());
}

Test(qcow2_read, test_incompatible_feature_is_refused_by_its_name)
{
	/* QEMU writes a table of feature names; bit 0 of ours becomes bit 9. */
	fresh();
	qt_sh(&t, "off=$(grep -abo 'dirty bit' a.qcow2 | head -1 | cut -d: -f1); "
	      "printf '\\011' | dd of=a.qcow2 bs=1 seek=$((off - 1)) conv=notrunc");
	patch(72, BIT64(9), 8);
	refused(OPEN, -ENOTSUP, "'dirty bit'");
}

/* ---- backing files ---- */

static void overlay(const char *backing, const char *fmt)
{
	qt_sh(&t, "qemu-img create -q -f raw base.raw 1M; "
	      "qemu-img create -q -f qcow2 -F raw -b base.raw a.qcow2 && "
	      "qemu-img rebase -f qcow2 -u -b '%s' -F '%s' a.qcow2", backing, fmt);
}

Test(qcow2_read, test_backing_name_that_is_a_protocol_is_refused)
{
	static const char *const names[] = {
		"nbd:localhost:1", "json:{\"driver\":\"raw\"}", "fd:0", "file:base.raw"
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		overlay("name-of-20-characters", "raw");
		/* qemu-img refuses to write some of these itself. */
		qt_sh(&t, "off=$(grep -abo name-of-20 a.qcow2 | head -1 | cut -d: -f1); "
		      "printf '%%-21s' '%s' | tr ' ' x | dd of=a.qcow2 bs=1 seek=$off "
		      "conv=notrunc", names[i]);
		refused(OPEN, -EPERM, "no plain path");
	}
}

Test(qcow2_read, test_backing_without_format_is_not_guessed)
{
	overlay("base.raw", "raw");
	/* Its extension comes first, behind the header of 112 bytes; as another
	 * type it is unknown and ignored. */
	patch(112, 1, 4);
	refused(OPEN, -EINVAL, "without its format");
	cr_assert_eq(bt_drive(&t, "file=%s/base.raw,format=raw,if=none,id=d1"), 0);
}

Test(qcow2_read, test_backing_null_opens_none)
{
	overlay("gone.raw", "raw");
	refused(OPEN, -ENOENT, "gone.raw");
	cr_assert_eq(bt_blockdev(&t, "{\"driver\":\"qcow2\",\"node-name\":\"n\",\"read-only\":true,"
				 "\"backing\":null,\"file\":{\"driver\":\"file\","
				 "\"filename\":\"%s/a.qcow2\"}}"), 0, "%s", bt_error());
	cr_assert_null(block_node_find(t.g, "n")->backing.node);
}

Test(qcow2_read, test_backing_circle_ends_with_a_sentence)
{
	qt_sh(&t, "qemu-img create -q -f qcow2 b.qcow2 1M && "
	      "qemu-img create -q -f qcow2 -F qcow2 -b b.qcow2 a.qcow2 && "
	      "qemu-img rebase -f qcow2 -u -b a.qcow2 -F qcow2 b.qcow2");
	refused(OPEN, -ELOOP, "circle");
}

Test(qcow2_read, test_backing_block_device_is_not_opened)
{
	overlay("/dev/loop-control", "raw");
	refused(OPEN, -EINVAL, "/dev/loop-control");
}

/* ---- damage ---- */

Test(qcow2_read, test_corrupt_l2_entry_fails_only_its_cluster)
{
	uint8_t buf[512];

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M && "
	      "qemu-io -f qcow2 -c 'write -P 1 0 256k' a.qcow2");
	/* The first L2 table is at 0x40000; entry 1 gets an odd offset. */
	patch(0x40008, 0x8000000000050200ull, 8);
	qt_open(&t, "a.qcow2", "readonly=on");
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(buf[511], 1);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 65536, buf, 512, 0), -EIO);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 131072, buf, 512, 0), 0);
}

Test(qcow2_read, test_truncated_image_reports_an_error_not_zeroes)
{
	uint8_t buf[512];

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M && "
	      "qemu-io -f qcow2 -c 'write -P 1 0 1M' a.qcow2 && truncate -s 512k a.qcow2");
	qt_open(&t, "a.qcow2", "readonly=on");
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 900 * 1024, buf, 512, 0), -EIO);
}

Test(qcow2_read, test_broken_deflate_stream_is_an_error)
{
	uint8_t buf[512];

	qt_sh(&t, "seq 1 30000 >a.raw && truncate -s %%64k a.raw && "
	      "qemu-img convert -c -O qcow2 a.raw a.qcow2");
	patch(0x50000, 0xffffffffffffffffull, 8);
	qt_open(&t, "a.qcow2", "readonly=on");
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), -EIO);
}
