/*
 * tests/unit/test_qcow2_img.c - `roost img` beside qemu-img: what one makes the
 * other finds in order, and their words and statuses agree.
 *
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/qcow2/qcow2.h"
#include "lib_qcow2.h"

static struct bt t;

static void setup(void)
{
	char cwd[256];

	bt_start(&t, LOOP_AIO_AUTO);
	cr_assert_not_null(getcwd(cwd, sizeof(cwd)));
	/* As "roost" in the test's folder. */
	qt_sh(&t, "ln -s %s/" TEST_BUILD "/roost roost && test -x roost", cwd);
	qt_sh(&t, "{ seq 1 400000; head -c 300000 /dev/zero; seq 7 90000; } >s.raw && "
	      "truncate -s %%64k s.raw");
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(qcow2_img, .init = setup, .fini = teardown, .timeout = 240);

static const char *const layouts[] = {
	"cluster_size=64k", "compat=0.10", "cluster_size=512", "cluster_size=2M",
	"cluster_size=4k,refcount_bits=1", "refcount_bits=64,lazy_refcounts=on",
	"extended_l2=on", "extended_l2=on,cluster_size=16k,refcount_bits=8",
	"compression_type=zstd",
};

static void poke(uint64_t off, uint64_t v, unsigned int width)
{
	int fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	uint8_t b[8];

	put_be64(b, v << (64 - 8 * width));
	cr_assert_eq(pwrite(fd, b, width, (off_t)off), (ssize_t)width);
	close(fd);
}

static uint64_t peek(uint64_t off)
{
	int fd = open(bt_path(&t, "a.qcow2"), O_RDONLY | O_CLOEXEC);
	uint8_t b[8];

	cr_assert_eq(pread(fd, b, sizeof(b), (off_t)off), (ssize_t)sizeof(b));
	close(fd);
	return get_be64(b);
}

Test(qcow2_img, test_create_makes_what_qemu_img_accepts)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		qt_sh(&t, "rm -f a.qcow2 && ./roost img create -q -f qcow2 -o %s a.qcow2 40M",
		      layouts[i]);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "qemu-img create -q -f qcow2 -o %s b.qcow2 40M && "
		      "qemu-img info b.qcow2 | sed s/b.qcow2/a.qcow2/ | grep -v 'disk size' | "
		      "sort >want && qemu-img info a.qcow2 | grep -v 'disk size' | sort | "
		      "diff want - && ./roost img info a.qcow2 | grep -v 'disk size' | sort | "
		      "diff want -", layouts[i]);
		qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 7 1M 3M' -c 'read -P 7 1M 3M' a.qcow2");
		qt_check(&t, "a.qcow2");
	}
}

Test(qcow2_img, test_preallocated_metadata_is_in_order)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		qt_sh(&t, "rm -f a.qcow2 && ./roost img create -q -f qcow2 -o preallocation=metadata,%s "
		      "a.qcow2 40M && truncate -s 40M z.raw && qemu-img compare z.raw a.qcow2",
		      layouts[i]);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "qemu-img check a.qcow2 | grep -q ' = 100.00%% allocated' && "
		      "test $(du -k a.qcow2 | cut -f1) -lt 12000");
		qt_open(&t, "a.qcow2", "");
		qt_equals(&t, "z.raw");
		qt_close(&t);
		qt_check(&t, "a.qcow2");
	}
	cr_expect_eq(qt_status(&t, "./roost img create -o preallocation=metadata z.raw 1M 2>err"), 1);
	qt_sh(&t, "grep -q 'is for qcow2 images' err");
}

Test(qcow2_img, test_convert_round_trip_in_every_layout)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		qt_sh(&t, "./roost img convert -f raw -O qcow2 -o %s s.raw a.qcow2", layouts[i]);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "qemu-img compare -f raw -F qcow2 s.raw a.qcow2");
		qt_sh(&t, "./roost img convert -c -f qcow2 -O qcow2 -o %s a.qcow2 c.qcow2",
		      layouts[i]);
		qt_check(&t, "c.qcow2");
		qt_sh(&t, "qemu-img compare -f raw -F qcow2 s.raw c.qcow2");
		qt_sh(&t, "./roost img check c.qcow2 && ./roost img convert c.qcow2 o.raw && "
		      "cmp s.raw o.raw");
	}
}

Test(qcow2_img, test_convert_with_any_number_of_requests)
{
	static const char *const how[] = {
		"-m 1", "-m 16", "-m 16 -W", "-W -S 64k", "-W -S 0", "-m 2 -t none -T none", "-c -m 3 -W"
	};
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(how); i++) {
		qt_sh(&t, "rm -f a.qcow2 a.raw && ./roost img convert %s -f raw -O qcow2 s.raw a.qcow2",
		      how[i]);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 s.raw a.qcow2");
		if (strstr(how[i], "-c"))
			continue;
		qt_sh(&t, "./roost img convert %s -f qcow2 -O raw a.qcow2 a.raw && cmp s.raw a.raw",
		      how[i]);
	}
	/* -S 0: all of it is there. */
	qt_sh(&t, "rm -f a.raw && ./roost img convert -S 0 -O raw s.raw a.raw");
	cr_assert_eq(stat(bt_path(&t, "a.raw"), &st), 0);
	cr_expect_geq(st.st_blocks * 512, st.st_size);
	/* What is known to be zero stays as it is. */
	qt_sh(&t, "rm -f a.raw && truncate -s %zu a.raw && ./roost img convert -n --target-is-zero "
	      "s.raw a.raw && cmp s.raw a.raw", (size_t)st.st_size);
	cr_expect_eq(qt_status(&t, "./roost img convert --target-is-zero s.raw b.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'requires use of -n' err");
	qt_sh(&t, "./roost img convert --help | grep -q -- --salvage && ./roost img help | grep -q bench");
	cr_expect_eq(qt_status(&t, "./roost img convert -m 17 s.raw a.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'between 1 and 16' err");
	cr_expect_eq(qt_status(&t, "./roost img convert -S 1000 s.raw a.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'must be a multiple of 512' err");
	/* What another sub-command takes. */
	cr_expect_eq(qt_status(&t, "./roost img info --salvage s.raw 2>err"), 1);
	qt_sh(&t, "grep -q \"unknown or incomplete option '--salvage'\" err");
}

Test(qcow2_img, test_convert_that_fails_says_where)
{
	qt_sh(&t, "rm -f a.raw");
	cr_expect_eq(qt_status(&t, "bash -c 'trap \"\" XFSZ; ulimit -f 1024; ./roost img convert "
			       "-S 0 -W -m 8 -f raw -O raw s.raw a.raw 2>err'"), 1);
	qt_sh(&t, "grep -Eq 'error while converting at offset [0-9]+: File too large|cannot' err");
}

Test(qcow2_img, test_convert_salvages_what_can_be_read)
{
	qt_sh(&t, "./roost img convert -c -f raw -O qcow2 s.raw a.qcow2");
	for (uint64_t at = 0x60000; at < 0x62000; at += 8)
		poke(at, UINT64_MAX, 8);
	cr_expect_eq(qt_status(&t, "./roost img convert -O raw a.qcow2 a.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'error while converting at offset' err");
	/* No more is lost than the clusters that are damaged. */
	qt_sh(&t, "./roost img convert --salvage -O raw a.qcow2 a.raw 2>err && "
	      "test $(grep -c 'error while reading offset' err) -ge 1 -a $(wc -l <err) -le 2 && "
	      "test $(stat -c %%s a.raw) = $(stat -c %%s s.raw) && "
	      "test $(cmp -l s.raw a.raw | wc -l) -le 131072");
}

Test(qcow2_img, test_compare_statuses_are_those_of_qemu_img)
{
	qt_sh(&t, "qemu-img convert -O qcow2 s.raw a.qcow2 && cp s.raw b.raw && "
	      "truncate -s +1M b.raw && cp s.raw c.raw && printf x | "
	      "dd of=c.raw bs=1 seek=70000 conv=notrunc");
	cr_assert_eq(qt_status(&t, "./roost img compare a.qcow2 s.raw"), 0);
	cr_assert_eq(qt_status(&t, "./roost img compare a.qcow2 b.raw"), 0);
	cr_assert_eq(qt_status(&t, "./roost img compare -s a.qcow2 b.raw"), 1);
	cr_assert_eq(qt_status(&t, "./roost img compare a.qcow2 c.raw"), 1);
	cr_assert_eq(qt_status(&t, "./roost img compare a.qcow2 c.raw | "
			       "grep 'Content mismatch at offset 69632!'"), 0);
	cr_assert_eq(qt_status(&t, "./roost img compare a.qcow2 none"), 2);
}

Test(qcow2_img, test_map_equals_that_of_qemu_img)
{
	static const char *const norm = "tr -d ' \\n' | sed 's/,\"compressed\":[a-z]*//g; s/}/}\\n/g'";

	qt_sh(&t, "qemu-img convert -O qcow2 s.raw b.qcow2 && "
	      "qemu-img create -q -f qcow2 -F qcow2 -b b.qcow2 -o extended_l2=on a.qcow2 8M && "
	      "qemu-io -f qcow2 -c 'write 100k 33k' -c 'write -z 1M 64k' -c 'write 5M 1M' a.qcow2");
	qt_sh(&t, "qemu-img map --output=json a.qcow2 | %s >want; "
	      "./roost img map --output=json a.qcow2 | %s | diff want -", norm, norm);
}

Test(qcow2_img, test_map_of_a_part_equals_that_of_qemu_img)
{
	static const char *const norm = "tr -d ' \\n' | sed 's/,\"compressed\":[a-z]*//g; s/}/}\\n/g'";
	static const char *const parts[] = {
		"--start-offset=96k --max-length=64k", "--start-offset=100 --max-length=70000",
		"--start-offset=1M", "-s 64k -l 8M", "--max-length=0", "--start-offset=64M",
		"--start-offset=7M --max-length=1E",
	};

	qt_sh(&t, "qemu-img create -q -f qcow2 a.qcow2 8M && qemu-io -f qcow2 -c 'write 64k 128k' "
	      "-c 'write 1M 64k' -c 'write 5M 3M' a.qcow2");
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		qt_sh(&t, "qemu-img map --output=json %s a.qcow2 | %s >want; "
		      "./roost img map --output=json %s a.qcow2 | %s | diff want -", parts[i], norm,
		      parts[i], norm);
		qt_sh(&t, "qemu-img map %s a.qcow2 >want; ./roost img map %s a.qcow2 | diff want -",
		      parts[i], parts[i]);
	}
	cr_expect_eq(qt_status(&t, "./roost img map --max-length=x a.qcow2 2>err"), 1);
	qt_sh(&t, "grep -q -e --max-length err");
	cr_expect_eq(qt_status(&t, "./roost img info --max-length=1 a.qcow2 2>err"), 1);
}

/* ---- resize ---- */

Test(qcow2_img, test_preallocated_growth_is_in_order)
{
	static const char *const how[] = { "off", "metadata", "falloc", "full" };

	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		for (size_t k = 0; k < ARRAY_LEN(how); k++) {
			qt_sh(&t, "rm -f a.qcow2 && qemu-img create -q -f qcow2 -o %s a.qcow2 3000k && "
			      "qemu-io -f qcow2 -c 'write -P 3 1M 1976k' a.qcow2 && "
			      "qemu-img resize -q -f qcow2 --shrink a.qcow2 2500k", layouts[i]);
			qt_sh(&t, "qemu-img convert a.qcow2 z.raw && truncate -s 9000k z.raw && "
			      "./roost img resize -q --preallocation=%s a.qcow2 9000k", how[k]);
			qt_check(&t, "a.qcow2");
			qt_sh(&t, "qemu-img compare -f raw -F qcow2 z.raw a.qcow2");
			if (k)
				qt_sh(&t, "test $(qemu-img map --output=json -s 6M a.qcow2 | "
				      "grep -c '\"data\": false') = 0");
		}
	}
}

Test(qcow2_img, test_growth_over_what_an_image_had_once_leaks_nothing)
{
	qt_sh(&t, "qemu-img create -q -f qcow2 a.qcow2 4M && qemu-io -c 'write -P 5 0 4M' a.qcow2 && "
	      "./roost img resize -q --shrink a.qcow2 1M && "
	      "./roost img resize -q --preallocation=metadata a.qcow2 4M && "
	      "qemu-io -c 'read -P 5 0 1M' -c 'read -P 0 1M 3M' a.qcow2 >log && ! grep -i fail log");
	qt_check(&t, "a.qcow2");
}

Test(qcow2_img, test_preallocation_of_a_resize_that_cannot_be_is_refused)
{
	static const char *const lines[] = {
		"-f raw --preallocation=metadata s.raw +1M", "-f raw --preallocation=some s.raw +1M",
		"--preallocation=full --shrink b.qcow2 1M", "--preallocation=falloc b.qcow2 +0",
	};

	qt_sh(&t, "qemu-img create -q -f qcow2 b.qcow2 2M && cp b.qcow2 was.qcow2 && cp s.raw was.raw");
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		cr_expect_eq(qt_status(&t, "qemu-img resize %s 2>err", lines[i]), 1, "%s", lines[i]);
		cr_expect_eq(qt_status(&t, "./roost img resize %s 2>err", lines[i]), 1, "%s", lines[i]);
		qt_sh(&t, "test $(wc -l <err) = 1");
	}
	qt_sh(&t, "cmp b.qcow2 was.qcow2 && cmp s.raw was.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 a.qcow2");
	cr_expect_eq(qt_status(&t, "./roost img resize --preallocation=metadata a.qcow2 +1M 2>err"), 1);
	qt_sh(&t, "grep -q 'use falloc or full' err && "
	      "./roost img resize --preallocation=falloc a.qcow2 +1M");
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "cp s.raw z.raw && ./roost img resize -f raw --preallocation=full z.raw +1M && "
	      "qemu-img compare -f raw -F raw s.raw z.raw");
}

/* ---- rate, cache ---- */

static double seconds_of(const char *line)
{
	uint64_t t0 = clock_ns();

	qt_sh(&t, "%s", line);
	return (double)(clock_ns() - t0) / 1e9;
}

Test(qcow2_img, test_copies_keep_to_their_rate)
{
	qt_sh(&t, "head -c 8M /dev/urandom >d.raw && "
	      "qemu-img create -q -f qcow2 b.qcow2 8M && "
	      "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 a.qcow2 && "
	      "qemu-img convert -n -O qcow2 d.raw a.qcow2");
	/* 8 MiB in pieces of 2 MiB, of which the last needs no wait after it. */
	cr_expect_geq(seconds_of("./roost img convert -r 6M -f raw -O qcow2 d.raw o.qcow2"), 1.0);
	qt_sh(&t, "qemu-img compare -f raw -F qcow2 d.raw o.qcow2");
	cr_expect_geq(seconds_of("./roost img commit -q -r 6M a.qcow2"), 1.0);
	qt_sh(&t, "qemu-img compare -f raw -F qcow2 d.raw b.qcow2");
	cr_expect_eq(qt_status(&t, "./roost img convert -r fast d.raw o.raw 2>err"), 1);
	qt_sh(&t, "./roost img convert -r 0 d.raw o.raw && cmp d.raw o.raw");
}

Test(qcow2_img, test_bench_writes_the_pattern_or_says_why_not)
{
	qt_sh(&t, "./roost img create -q -f qcow2 a.qcow2 4M && "
	      "./roost img bench -q -w --pattern=0xa5 -c 4 a.qcow2 && "
	      "qemu-io -f qcow2 -c 'read -P 0xa5 0 16k' a.qcow2 >log && ! grep -i fail log");
	cr_expect_eq(qt_status(&t, "./roost img bench -q -w --pattern=300 a.qcow2 2>err"), 1);
	qt_sh(&t, "grep -q 'must be a byte' err");
}

Test(qcow2_img, test_cache_modes_are_those_of_qemu_img)
{
	static const char *const modes[] = {
		"none", "off", "writeback", "writethrough", "directsync", "unsafe", "fast"
	};
	static const char *const lines[] = {
		"check -T %s a.qcow2", "rebase -u -t %s -T writeback -b b.qcow2 -F qcow2 a.qcow2",
		"rebase -T %s -b b.qcow2 -F qcow2 a.qcow2", "bench -n -c 1 -t %s a.qcow2",
	};
	char line[128];

	qt_sh(&t, "qemu-img create -q -f qcow2 b.qcow2 8M && "
	      "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 a.qcow2");
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		for (size_t k = 0; k < ARRAY_LEN(lines); k++) {
			snprintf(line, sizeof(line), lines[k], modes[i]);
			cr_expect_eq(qt_status(&t, "./roost img %s 2>err", line),
				     strcmp(modes[i], "fast") == 0, "%s", line);
		}
	qt_check(&t, "a.qcow2");
}

/* ---- damage ---- */

/* 64 KiB clusters: 1 is the refcount table, 2 its block, 3 the L1 table. */
static void damaged(const char *what, int status, bool leaks_only)
{
	cr_assert_eq(qt_status(&t, "qemu-img check -f qcow2 a.qcow2"), status, "%s", what);
	cr_assert_eq(qt_status(&t, "./roost img check -f qcow2 a.qcow2"), status, "%s", what);
	cr_assert_eq(qt_status(&t, "./roost img check -q -r %s a.qcow2",
			       leaks_only ? "leaks" : "all"), 0, "%s", what);
	qt_check(&t, "a.qcow2");
	cr_assert_eq(qt_status(&t, "./roost img check -f qcow2 a.qcow2"), 0, "%s", what);
}

static void fresh(void)
{
	qt_sh(&t, "./roost img convert -f raw -O qcow2 s.raw a.qcow2");
}

Test(qcow2_img, test_check_finds_and_repairs)
{
	fresh();
	poke(0x20000 + 2 * 400, 1, 2);
	qt_sh(&t, "truncate -s 32M a.qcow2");
	damaged("a leak", 3, true);
	fresh();
	poke(0x20000 + 2 * 8, 0, 2);
	damaged("a count that is too small", 2, false);
	qt_sh(&t, "qemu-img compare s.raw a.qcow2");
	fresh();
	/* A leak, for which qemu-img also blames the entry's COPIED flag. */
	poke(0x20000 + 2 * 8, 5, 2);
	cr_assert_eq(qt_status(&t, "./roost img check a.qcow2"), 3);
	cr_assert_eq(qt_status(&t, "./roost img check -r leaks a.qcow2"), 0);
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "qemu-img compare s.raw a.qcow2");
	fresh();
	poke(0x10000, 0, 8);
	damaged("no refcount block", 2, false);
	qt_sh(&t, "qemu-img compare s.raw a.qcow2");
	fresh();
	poke(0x40000 + 8, 0x50000, 8);
	cr_assert_eq(qt_status(&t, "./roost img check -r all a.qcow2"), 0);
	qt_check(&t, "a.qcow2");
}

Test(qcow2_img, test_dirty_image_is_repaired_when_opened_for_writing)
{
	fresh();
	poke(72, 1, 8);
	poke(0x20000 + 2 * 9, 0, 2);
	cr_assert_eq(qt_status(&t, "qemu-img info a.qcow2"), 0);
	qt_open(&t, "a.qcow2", "");
	qt_equals(&t, "s.raw");
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "qemu-img compare s.raw a.qcow2");
}

Test(qcow2_img, test_corrupt_bit_goes_with_a_repair)
{
	fresh();
	poke(72, 2, 8);
	cr_assert_eq(bt_drive(&t, "file=%s/a.qcow2,format=qcow2,if=none,id=d0"), -EUCLEAN);
	cr_assert_eq(qt_status(&t, "./roost img check -r all a.qcow2"), 0);
	qt_open(&t, "a.qcow2", "");
	qt_equals(&t, "s.raw");
}

Test(qcow2_img, test_check_of_raw_has_status_63)
{
	cr_assert_eq(qt_status(&t, "./roost img check -f raw s.raw"), 63);
}

/* ---- chains and sizes ---- */

Test(qcow2_img, test_commit_moves_the_overlay_down)
{
	qt_sh(&t, "./roost img convert -O qcow2 s.raw b.qcow2 && "
	      "./roost img create -q -f qcow2 -b b.qcow2 -F qcow2 a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 9 1M 100k' -c 'write -z 100k 200k' a.qcow2 && "
	      "qemu-img convert -O raw a.qcow2 want.raw");
	qt_sh(&t, "./roost img commit a.qcow2 && qemu-img compare b.qcow2 want.raw && "
	      "qemu-img compare a.qcow2 want.raw");
	qt_check(&t, "a.qcow2");
	qt_check(&t, "b.qcow2");
	qt_sh(&t, "qemu-img map --output=json a.qcow2 | grep -q '\"depth\": 0, \"present\": true' "
	      "&& exit 1 || true");
}

Test(qcow2_img, test_rebase_keeps_what_the_guest_sees)
{
	qt_sh(&t, "./roost img convert -O qcow2 s.raw b.qcow2 && cp s.raw n.raw && "
	      "dd if=/dev/urandom of=n.raw bs=64k seek=3 count=4 conv=notrunc && "
	      "./roost img create -q -f qcow2 -b b.qcow2 -F qcow2 a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 9 1M 100k' a.qcow2 && "
	      "qemu-img convert -O raw a.qcow2 want.raw");
	qt_sh(&t, "./roost img rebase -b n.raw -F raw a.qcow2 && "
	      "qemu-img info a.qcow2 | grep -q 'backing file: n.raw' && "
	      "qemu-img compare a.qcow2 want.raw");
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "./roost img rebase -b '' a.qcow2 && rm n.raw b.qcow2 && "
	      "qemu-img compare a.qcow2 want.raw");
	qt_check(&t, "a.qcow2");
}

Test(qcow2_img, test_resize_grows_with_zeroes_and_shrinks)
{
	qt_sh(&t, "./roost img convert -O qcow2 -o cluster_size=4k s.raw a.qcow2 && "
	      "cp s.raw want.raw && truncate -s +60M want.raw && "
	      "./roost img resize a.qcow2 +60M && qemu-img convert -O raw a.qcow2 got.raw && cmp got.raw want.raw");
	qt_check(&t, "a.qcow2");
	cr_assert_eq(qt_status(&t, "./roost img resize a.qcow2 1M"), 1);
	qt_sh(&t, "./roost img resize --shrink a.qcow2 1000k && truncate -s 1000k want.raw && "
	      "qemu-img convert -O raw a.qcow2 got.raw && cmp got.raw want.raw");
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "./roost img resize a.qcow2 9M && truncate -s 9M want.raw && "
	      "qemu-img convert -O raw a.qcow2 got.raw && cmp got.raw want.raw");
	qt_check(&t, "a.qcow2");
}

/* What is added takes its space at once; what was there is as it was. */
Test(qcow2_img, test_resize_preallocates_what_it_adds)
{
	static const struct { const char *mode; int added_mib; } cases[] = {
		{ "off", 0 }, { "metadata", 0 }, { "falloc", 8 }, { "full", 8 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		qt_sh(&t, "./roost img convert -O qcow2 s.raw a.qcow2 && before=$(stat -c %%b "
		      "a.qcow2) && ./roost img resize --preallocation=%s a.qcow2 +8M && "
		      "after=$(stat -c %%b a.qcow2) && test $(((after - before) / 2048)) = %d",
		      cases[i].mode, cases[i].added_mib);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "cp s.raw want.raw && truncate -s +8M want.raw && "
		      "qemu-img compare -f qcow2 -F raw a.qcow2 want.raw");
		/* Clusters of what was added: all or none. */
		qt_sh(&t, "at=$(stat -c %%s s.raw) && qemu-img map --output=json "
		      "--start-offset=$at a.qcow2 | grep -c '\"offset\"' | grep -qx %d",
		      i ? 1 : 0);
		qt_sh(&t, "cp s.raw b.raw && %s ./roost img resize -f raw --preallocation=%s b.raw "
		      "+8M", i == 1 ? "!" : "", cases[i].mode);
	}
	qt_sh(&t, "! ./roost img resize --shrink --preallocation=full a.qcow2 1M 2>err && "
	      "grep -q 'is for images that grow' err");
	qt_sh(&t, "! ./roost img resize --preallocation=some a.qcow2 +1M 2>err && "
	      "grep -q 'must be off, metadata, falloc or full' err");
}

/* Also below an overlay, and where the file ends in a hole. */
Test(qcow2_img, test_map_knows_the_holes_of_raw)
{
	qt_sh(&t, "truncate -s 8M h.raw && for at in 0 17 40 100; do dd if=/dev/urandom of=h.raw "
	      "bs=64k seek=$at count=3 conv=notrunc,fsync; done");
	qt_sh(&t, "qemu-img map --output=json -f raw h.raw >want && "
	      "./roost img map --output=json -f raw h.raw >got && python3 -c 'import json; "
	      "a, b = json.load(open(\"want\")), json.load(open(\"got\")); "
	      "[e.pop(\"compressed\", 0) for e in a + b]; assert a == b and len(a) == 8, (a, b)'");
	qt_sh(&t, "qemu-img map -f raw h.raw >want && ./roost img map -f raw h.raw | diff want -");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b h.raw -F raw o.qcow2 && "
	      "./roost img convert -O raw o.qcow2 c.raw && cmp h.raw c.raw && "
	      "test $(stat -c %%b c.raw) -le $(stat -c %%b h.raw)");
	qt_sh(&t, "./roost img convert -f raw -O qcow2 -c h.raw z.qcow2 && qemu-img compare h.raw z.qcow2");
	qt_check(&t, "z.qcow2");
	qt_sh(&t, "cp s.raw used.raw && truncate -s 8M used.raw && "
	      "./roost img convert -n -f raw -O raw h.raw used.raw && cmp h.raw used.raw");
}

Test(qcow2_img, test_info_of_a_chain_is_that_of_qemu_img)
{
	qt_sh(&t, "mkdir sub && ./roost img create -q -f qcow2 -b ../s.raw -F raw sub/a.qcow2 && "
	      "./roost img create -q -f qcow2 -b sub/a.qcow2 -F qcow2 b.qcow2");
	qt_sh(&t, "qemu-img info --backing-chain b.qcow2 | grep -E '^(image|file format|virtual size|"
	      "$)' >want && ./roost img info --backing-chain b.qcow2 | "
	      "grep -E '^(image|file format|virtual size|$)' | diff want -");
	qt_sh(&t, "./roost img info --backing-chain --output=json b.qcow2 | python3 -c 'import json,"
	      "sys; print([i[\"filename\"] for i in json.load(sys.stdin)])' | grep -F "
	      "\"['b.qcow2', 'sub/a.qcow2', 'sub/../s.raw']\"");
	qt_sh(&t, "qemu-img rebase -u -b ../b.qcow2 -F qcow2 sub/a.qcow2");
	cr_assert_eq(qt_status(&t, "./roost img info --backing-chain b.qcow2 2>err"), 1);
	qt_sh(&t, "grep -q 'creates an infinite loop' err && test $(wc -l <err) = 1");
}

/* 262,144 L1 entries, each the same L2 table of 2 MiB. */
Test(qcow2_img, test_check_of_one_table_over_and_over_ends_soon)
{
	static uint64_t l1[0x40000];
	int fd;

	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=2M a.qcow2 64M && "
	      "truncate -s 10M a.qcow2");
	for (size_t i = 0; i < ARRAY_LEN(l1); i++)
		put_be64(&l1[i], OFLAG_COPIED | 0x800000);
	fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, l1, sizeof(l1), 0x600000), (ssize_t)sizeof(l1));
	close(fd);
	poke(36, ARRAY_LEN(l1), 4);
	cr_assert_eq(qt_status(&t, "timeout 60 ./roost img check -q a.qcow2"), 2);
	cr_assert_eq(qt_status(&t, "timeout 60 ./roost img check -q -r all a.qcow2"), 2);
}

/* What was in the target shines through nowhere. */
Test(qcow2_img, test_convert_into_a_used_target_leaves_nothing_of_it)
{
	qt_sh(&t, "truncate -s 4M z.raw && printf x | dd of=z.raw conv=notrunc status=none && "
	      "head -c 1M /dev/zero | dd of=z.raw bs=1M seek=1 conv=notrunc status=none");
	qt_sh(&t, "qemu-img create -q -f qcow2 a.qcow2 4M && "
	      "qemu-io -f qcow2 -c 'write -P 9 0 4M' a.qcow2 >/dev/null && "
	      "cp a.qcow2 b.qcow2 && ./roost img convert -n -c -O qcow2 z.raw a.qcow2 && "
	      "qemu-img compare -f raw z.raw -F qcow2 a.qcow2");
	qt_check(&t, "a.qcow2");
	/* With the same memory for data and then zeroes. */
	qt_sh(&t, "./roost img convert -m 1 -n -c -O qcow2 z.raw b.qcow2 && "
	      "qemu-img compare -f raw z.raw -F qcow2 b.qcow2");
	qt_check(&t, "b.qcow2");
}

Test(qcow2_img, test_convert_to_a_device_leaves_nothing_of_it)
{
	qt_sh(&t, "head -c 4M /dev/zero | tr '\\0' x > dev.img && truncate -s 4M z.raw && "
	      "printf y | dd of=z.raw bs=1M seek=1 conv=notrunc status=none");
	if (qt_status(&t, "losetup -f --show dev.img >dev 2>/dev/null"))
		cr_skip_test("no loop device");
	cr_expect_eq(qt_status(&t, "./roost img convert -f raw -O raw z.raw $(cat dev) && sync $(cat dev) && "
			       "cmp z.raw dev.img"), 0);
	qt_sh(&t, "losetup -d $(cat dev)");
}

/* New refcounts go behind what is in use; without room nothing changes. */
Test(qcow2_img, test_repair_of_a_device_needs_room)
{
	int full, roomy = -1;

	fresh();
	poke(0x20000 + 2 * 8, 0, 2);	/* a count that is too small */
	poke(0x40000 + 8, 1ull << 50, 8);	/* an entry that points nowhere */
	qt_sh(&t, "cp a.qcow2 was && cp a.qcow2 b.qcow2 && truncate -s +1M b.qcow2");
	if (qt_status(&t, "losetup -f --show a.qcow2 >dev 2>/dev/null && "
		      "losetup -f --show b.qcow2 >dev2 2>/dev/null"))
		cr_skip_test("no loop device");
	full = qt_status(&t, "./roost img check -q -f qcow2 -r all $(cat dev) 2>err");
	roomy = qt_status(&t, "./roost img check -q -f qcow2 -r all $(cat dev2)");
	qt_sh(&t, "sync $(cat dev) $(cat dev2); losetup -d $(cat dev) $(cat dev2)");
	cr_expect_eq(full, 1);
	qt_sh(&t, "grep -q 'no room for new refcounts' err && test $(wc -l <err) = 1 && cmp a.qcow2 was");
	cr_expect_eq(roomy, 0);
	qt_check(&t, "b.qcow2");
}

/* No cluster for a larger L1 table: the header keeps the old size as well. */
Test(qcow2_img, test_resize_that_fails_leaves_a_readable_image)
{
	fresh();
	poke(0x20000 + 2 * 3, 0, 2);	/* the L1 table counts as free */
	cr_assert_eq(qt_status(&t, "./roost img resize a.qcow2 8G"), 1);
	qt_sh(&t, "./roost img info a.qcow2");
	qt_sh(&t, "qemu-img compare s.raw a.qcow2");
}

/* An L1 table longer than what one refcount block counts. */
Test(qcow2_img, test_resize_to_an_l1_table_of_many_blocks)
{
	static const char *const opts[] = { "cluster_size=512", "cluster_size=512,refcount_bits=64",
					    "cluster_size=512,refcount_bits=1" };

	for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
		qt_sh(&t, "./roost img convert -O qcow2 -o %s s.raw a.qcow2 && "
		      "./roost img resize a.qcow2 3G", opts[i]);
		qt_check(&t, "a.qcow2");
		qt_sh(&t, "test $(stat -c %%s a.qcow2) -lt 40000000");
		qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 7 2900M 70k' a.qcow2 >/dev/null && "
		      "./roost img resize --shrink a.qcow2 $(stat -c %%s s.raw) && "
		      "qemu-img compare -f raw s.raw -F qcow2 a.qcow2");
		qt_check(&t, "a.qcow2");
	}
}

/* Terminals obey what is in a name: it is shown without. */
Test(qcow2_img, test_names_from_images_are_fit_for_a_terminal)
{
	qt_sh(&t, "n=$(printf 'x\\033]0;owned\\007\\302\\233y') && cp s.raw \"$n\" && "
	      "qemu-img create -q -f qcow2 -b \"$n\" -F raw a.qcow2 && "
	      "qemu-img snapshot -c \"$n\" a.qcow2");
	qt_sh(&t, "./roost img info a.qcow2 >out && grep -q 'backing file: x?]0;owned???y' out && "
	      "grep -q 'x?]0;owned???y *0 B' out");
	qt_sh(&t, "rm x*; ! ./roost img map a.qcow2 >out 2>&1 && grep -q 'x?]0;owned???y' out");
	qt_sh(&t, "! grep -q \"$(printf '[\\033\\007]')\" out");
}

/* Another backing file's name: extensions of later versions stay. */
Test(qcow2_img, test_rebase_keeps_extensions_that_nobody_knows)
{
	uint8_t x[32] = { 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 13, 'k', 'e', 'e', 'p', ' ', 'm', 'e' };
	int fd;

	qt_sh(&t, "qemu-img create -q -f qcow2 a.qcow2 1M && cp s.raw b.raw");
	fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, x, sizeof(x), 112), (ssize_t)sizeof(x));
	close(fd);
	for (int i = 0; i < 2; i++) {
		qt_sh(&t, "./roost img rebase -u -b %s -F raw a.qcow2", i ? "s.raw" : "b.raw");
		qt_sh(&t, "head -c 65536 a.qcow2 | grep -a -q 'keep me'");
		qt_sh(&t, "qemu-img info a.qcow2 | grep -q 'backing file: %s'",
		      i ? "s.raw" : "b.raw");
	}
	qt_sh(&t, "./roost img rebase -u -b '' a.qcow2 && head -c 65536 a.qcow2 | grep -a -q 'keep me'");
	qt_check(&t, "a.qcow2");
}

/* A snapshot's L1 table that is the header: its "entries" are not repaired. */
Test(qcow2_img, test_check_leaves_a_table_in_the_header_alone)
{
	struct err e = ERR_INIT;

	fresh();
	qt_sh(&t, "qemu-img snapshot -c one a.qcow2");
	qt_sh(&t, "at=$(($(od -An -j64 -N8 --endian=big -tu8 a.qcow2))) && "
	      "head -c 8 /dev/zero | dd of=a.qcow2 bs=1 seek=$at conv=notrunc status=none");
	cr_assert_eq(qt_status(&t, "./roost img check a.qcow2"), 2);
	cr_assert_eq(qt_status(&t, "./roost img check -r all a.qcow2"), 2);
	cr_assert_eq(qt_status(&t, "./roost img check a.qcow2"), 2);
	qt_sh(&t, "./roost img convert -O raw a.qcow2 got.raw && cmp got.raw s.raw");
	poke(72, 1, 8);		/* dirty: a writer would have to repair it first */
	cr_assert_eq(bt_drive(&t, "file=%s/a.qcow2,format=qcow2,if=none,id=d0"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), -EUCLEAN);
	cr_assert_not_null(strstr(e.text, "cannot be repaired"), "%s", e.text);
}

Test(qcow2_img, test_image_in_use_is_not_cut_off)
{
	fresh();
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(qt_status(&t, "./roost img create -f qcow2 a.qcow2 1M"), 1);
	cr_assert_eq(qt_status(&t, "./roost img check -r all a.qcow2"), 1);
	cr_assert_eq(qt_status(&t, "./roost img info -U a.qcow2"), 0);
	qt_equals(&t, "s.raw");
}

/* ---- internal snapshots ---- */

/* Snapshots "one" (id 1) and "1" (id 2), each of another content. */
static void with_snapshots(const char *opts)
{
	qt_sh(&t, "qemu-img convert -f raw -O qcow2 -o %s s.raw a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 1 100k 300k' a.qcow2 && "
	      "qemu-img snapshot -c one a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 2 200k 1M' -c 'write -z 1536k 64k' a.qcow2 && "
	      "qemu-img snapshot -c 1 a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 3 0 2M' a.qcow2", opts);
}

Test(qcow2_img, test_convert_of_a_snapshot_is_that_of_qemu_img)
{
	static const char *const names[] = {
		"one", "1", "2", "snapshot.id=1", "snapshot.name=1",
		"snapshot.id=2,snapshot.name=1",
	};

	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		if (strstr(layouts[i], "refcount_bits=1"))
			continue;	/* no cluster can be shared */
		with_snapshots(layouts[i]);
		for (size_t k = 0; k < ARRAY_LEN(names); k++)
			qt_sh(&t, "qemu-img convert -l %s -O raw a.qcow2 want.raw && "
			      "./roost img convert -l %s a.qcow2 got.raw && cmp want.raw got.raw && "
			      "! cmp -s a.qcow2 want.raw", names[k], names[k]);
		qt_sh(&t, "./roost img convert -c -l one -O qcow2 a.qcow2 c.qcow2 && "
		      "qemu-img convert -l one -O raw a.qcow2 want.raw && "
		      "qemu-img compare want.raw c.qcow2");
		qt_check(&t, "a.qcow2");
	}
}

/* qemu-img gives the copy the disk's length of now, and zeroes for the rest. */
Test(qcow2_img, test_snapshot_of_a_shorter_disk_has_its_length)
{
	with_snapshots("cluster_size=4k");
	qt_sh(&t, "qemu-img resize -q -f qcow2 a.qcow2 +200M && "
	      "qemu-io -f qcow2 -c 'write -P 4 100M 1M' a.qcow2 && "
	      "qemu-img convert -l one -O raw a.qcow2 want.raw && "
	      "./roost img convert -l one a.qcow2 got.raw && qemu-img compare -f raw -F raw "
	      "want.raw got.raw && test $(stat -c %%s got.raw) = $(stat -c %%s s.raw)");
}

Test(qcow2_img, test_snapshot_is_not_written_to)
{
	struct err e = ERR_INIT;
	struct drive *d = NULL;
	char text[256];

	with_snapshots("cluster_size=4k");
	qt_sh(&t, "cp a.qcow2 before");
	snprintf(text, sizeof(text), "qcow2,node-name=s0,internal-snapshot=one,file.driver=file,"
		 "file.filename=%s", bt_path(&t, "a.qcow2"));
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	cr_expect_eq(drive_open(t.g, "s0", "dev0", DRIVE_OPEN_WRITE, &d, &e), -EROFS);
	cr_expect(strstr(e.text, "read-only"), "%s", e.text);
	cr_expect_eq(block_node_del(t.g, "s0", &e), 0);
	qt_sh(&t, "cmp a.qcow2 before");
}

Test(qcow2_img, test_snapshot_that_is_not_there_is_named)
{
	with_snapshots("cluster_size=64k");
	cr_expect_eq(qt_status(&t, "./roost img convert -l gone a.qcow2 o.raw 2>err"), 1);
	qt_sh(&t, "grep -q \"there is no snapshot 'gone'\" err && test ! -e o.raw");
	cr_expect_eq(qt_status(&t, "./roost img convert -l snapshot.id=1,snapshot.name=1 a.qcow2 "
			       "o.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'has no such snapshot' err");
	cr_expect_eq(qt_status(&t, "./roost img convert -f raw -l one s.raw o.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'only qcow2 images have internal snapshots' err");
}

/* "Bytes 0 - 7: Offset into the image file at which the L1 table for the snapshot
 * starts", "8 - 11: Number of entries". */
Test(qcow2_img, test_snapshot_with_a_hostile_l1_table_is_refused)
{
	uint64_t at;

	with_snapshots("cluster_size=4k");
	at = peek(64);
	poke(at + 8, 1, 4);
	cr_expect_eq(qt_status(&t, "./roost img convert -l one a.qcow2 o.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'too few for' err");
	poke(at + 8, UINT32_MAX, 4);
	cr_expect_eq(qt_status(&t, "./roost img convert -l one a.qcow2 o.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'out of place' err");
	poke(at + 8, 2, 4);
	poke(at, 1ull << 40, 8);
	cr_expect_eq(qt_status(&t, "./roost img convert -l one a.qcow2 o.raw 2>err"), 1);
	qt_sh(&t, "grep -q 'out of place' err");
}

/* What is behind the end would read as zeroes, and move when the file grows. */
Test(qcow2_img, test_snapshot_table_behind_the_end_is_told)
{
	struct stat st;
	uint64_t at;

	with_snapshots("cluster_size=4k");
	/* The fixed part of the only entry is the last of the file; its id is not there. */
	cr_assert_eq(stat(bt_path(&t, "a.qcow2"), &st), 0);
	at = align_up((uint64_t)st.st_size, 4096);
	poke(64, at, 8);
	cr_assert_eq(truncate(bt_path(&t, "a.qcow2"), (off_t)at + 40), 0);
	poke(at + 12, 1, 2);
	cr_expect_eq(qt_status(&t, "./roost img check -r all a.qcow2 2>err"), 1);
	qt_sh(&t, "grep -q 'the snapshot table at .* goes beyond the end' err");
	cr_expect_eq(qt_status(&t, "./roost img check a.qcow2 2>err"), 1);
	qt_sh(&t, "./roost img convert -O raw a.qcow2 o.raw");
}

/* An L1 table whose entries point to itself is repaired once as both. */
Test(qcow2_img, test_l1_table_that_is_an_l2_table_is_repaired_at_once)
{
	uint64_t l1;

	qt_sh(&t, "./roost img create -q -f qcow2 -o cluster_size=512 a.qcow2 128k && "
	      "qemu-io -c 'write 0 512' a.qcow2 >log");
	l1 = peek(40);
	/* 4 entries as the one, 64 as the other. */
	poke(l1 + 8, 1ull << 63 | l1, 8);
	poke(l1 + 8 * 10, 512, 8);
	cr_expect_eq(qt_status(&t, "./roost img check -r all a.qcow2 >log 2>&1"), 0);
	cr_expect_eq(qt_status(&t, "./roost img check a.qcow2 >log 2>&1"), 0);
}
