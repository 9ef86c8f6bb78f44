/*
 * virtio-blk on a raw file: every command, every status, framing, queues, I/O
 * threads, and the hostile suite. TSAN: queues run on I/O threads.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define DISK	(1ull * MIB)
#define SECTORS	(DISK / 512)
#define HEADER	(VDRV_DATA - 0x1000)
#define STATUS	(VDRV_DATA - 0x800)
#define DATA	VDRV_DATA
#define UNSET	0xee	/* what the status byte holds before */

#define BLK	"{'driver': 'virtio-blk-pci', 'id': 'disk0', 'drive': 'd0', 'packed': true"

/* ---- rig ---- */

static struct vdrv *create_with(const char *json, const char *drive_options, int flags)
{
	struct rig *r = vdrv_rig(NULL);

	vdrv_drive(r, "d0", drive_options, DISK);
	return vdrv_attach(r, json, flags);
}

static struct vdrv *create(int flags)
{
	return create_with(BLK "}", NULL, flags);
}

static struct vdrv *started(void)
{
	struct vdrv *v = create(VDRV_EVENT_IDX);

	vdrv_start(v);
	return v;
}

/* The disk's contents, as another process would see them. */
static void disk_read(struct vdrv *v, uint64_t off, void *buf, size_t len)
{
	struct drive *d = drive_find(v->rig->vm->blocks, "d0");
	char path[64];
	int fd = -1, i;

	/* The file is unlinked: find its descriptor. */
	for (i = 3; i < 200 && fd < 0; i++) {
		char target[256] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		if (readlink(path, target, sizeof(target) - 1) > 0 &&
		    strncmp(target, d->node->filename, strlen(d->node->filename)) == 0)
			fd = i;
	}
	cr_assert_geq(fd, 0, "no descriptor of %s", d->node->filename);
	cr_assert_eq(fd_read_full(fd, buf, len, off), 0);
}

static void header(struct vdrv *v, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = { htole32(type), 0, htole64(sector) };

	rig_mem_write(v->rig, HEADER, &h, sizeof(h));
	rig_mem_put(v->rig, STATUS, 1, UNSET);
}

/* Run the chain @b on queue 0; returns its length as told by the device. */
static uint32_t run(struct vdrv *v, const struct drv_buf *b, int n)
{
	uint16_t id, want = drv_add(&v->ring[0], b, n);
	uint32_t len;

	cr_assert(vdrv_wait_used(v, 0, &id, &len), "no answer");
	cr_assert_eq(id, want);
	return len;
}

static uint8_t status(struct vdrv *v)
{
	return rig_mem_get(v->rig, STATUS, 1);
}

/* A request with @len bytes of data at DATA in one piece; its status. */
static uint8_t request(struct vdrv *v, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { DATA, len, in }, { STATUS, 1, 1 } };

	header(v, type, sector);
	run(v, b, 3);
	return status(v);
}

static void fill(struct vdrv *v, uint64_t at, uint8_t seed, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		v->rig->ram[at + i] = seed + i * 7 + i / 512;
}

static bool equals(struct vdrv *v, uint64_t at, uint8_t seed, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (v->rig->ram[at + i] != (uint8_t)(seed + i * 7 + i / 512))
			return false;
	return true;
}

/* ---- hostile suite ---- */

static int valid_request(struct drv_buf *b)
{
	/* A zeroed header is a read of sector 0. */
	b[0] = (struct drv_buf){ VDRV_TABLE + 0x8000, 16, 0 };
	b[1] = (struct drv_buf){ VDRV_DATA, 4096, 1 };
	b[2] = (struct drv_buf){ VDRV_DATA + 4096, 1, 1 };
	return 3;
}

static const struct hostile hostile_blk = { "virtio-blk", create, valid_request };

HOSTILE_SUITE(virtio_blk, hostile_blk)

static struct vdrv *create_on_iothread(int flags)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	cr_assert_eq(vm_iothread_add(r->vm, "io0", NULL, &e), 0, "%s", e.text);
	vdrv_drive(r, "d0", NULL, DISK);
	return vdrv_attach(r, BLK ", 'iothread': 'io0'}", flags);
}

static const struct hostile hostile_iothread = {
	"virtio-blk with iothread", create_on_iothread, valid_request
};

HOSTILE_SUITE(virtio_blk_iothread, hostile_iothread)

/* ---- configuration ---- */

Test(virtio_blk, test_virtio_blk_config_describes_the_disk)
{
	struct vdrv *v = create(VDRV_SPLIT);
	uint64_t f = vdrv_device_features(v);

	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1042);
	cr_expect_eq(rig_mmio_read(v->rig, v->config, 8), SECTORS);
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 12, 4), 254, "seg_max");
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 20, 4), 512, "blk_size");
	cr_expect(f & BIT64(VIRTIO_BLK_F_FLUSH));
	cr_expect(f & BIT64(VIRTIO_BLK_F_DISCARD));
	cr_expect(f & BIT64(VIRTIO_BLK_F_WRITE_ZEROES));
	cr_expect_not(f & BIT64(VIRTIO_BLK_F_RO));
	cr_expect_not(f & BIT64(VIRTIO_BLK_F_MQ));
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_block_sizes_are_shown)
{
	struct vdrv *v = create_with(BLK ", 'logical_block_size': 4096, "
				     "'physical_block_size': 16384, 'min_io_size': 8192}",
				     NULL, VDRV_SPLIT);

	cr_expect_eq(rig_mmio_read(v->rig, v->config + 20, 4), 4096);
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 24, 1), 2, "physical_block_exp");
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 26, 2), 2, "min_io_size");
	vdrv_destroy(v);
}

static void expect_refused(const char *json, const char *why)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	vdrv_drive(r, "d0", NULL, DISK);
	cr_expect_lt(rig_device_error(r, json, &e), 0);
	cr_expect(strstr(e.text, why), "'%s' does not say '%s'", e.text, why);
	cr_expect_null(drive_find(r->vm->blocks, "d0")->owner);
	rig_destroy(r);
}

Test(virtio_blk, test_virtio_blk_bad_properties_are_refused)
{
	expect_refused(BLK ", 'queue-size': 100}", "power of two");
	expect_refused(BLK ", 'num-queues': 65}", "num-queues");
	expect_refused(BLK ", 'logical_block_size': 513}", "logical_block_size");
	expect_refused(BLK ", 'logical_block_size': 4096, 'physical_block_size': 512}", "below");
	expect_refused(BLK ", 'iothread': 'nope'}", "nope");
	expect_refused(BLK ", 'scsi': true}", "scsi");
	expect_refused(BLK ", 'iommu_platform': true}", "iommu_platform");
	expect_refused(BLK ", 'disable-legacy': 'on', 'disable-modern': true}", "no interface");
	expect_refused("{'driver': 'virtio-blk-pci'}", "drive");
	expect_refused("{'driver': 'virtio-blk-pci', 'drive': 'd1'}", "d1");
}

Test(virtio_blk, test_virtio_blk_second_device_on_a_drive_is_refused)
{
	struct vdrv *v = create(VDRV_SPLIT);
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(v->rig, "{'driver': 'virtio-blk', 'drive': 'd0'}", &e), 0);
	cr_expect(strstr(e.text, "disk0"), "%s", e.text);
	vdrv_destroy(v);
}

/* ---- reads and writes ---- */

Test(virtio_blk, test_virtio_blk_write_reaches_the_disk)
{
	struct vdrv *v = started();
	uint8_t got[1024];

	fill(v, DATA, 3, 1024);
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, 5, 1024, false), VIRTIO_BLK_S_OK);
	disk_read(v, 5 * 512, got, sizeof(got));
	cr_expect_arr_eq(got, v->rig->ram + DATA, sizeof(got));
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_read_returns_what_was_written)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { DATA, 8192, 1 }, { STATUS, 1, 1 } };
	struct vdrv *v = started();

	fill(v, DATA, 9, 8192);
	cr_assert_eq(request(v, VIRTIO_BLK_T_OUT, SECTORS - 16, 8192, false), VIRTIO_BLK_S_OK);
	rig_mem_fill(v->rig, DATA, 0, 8192);
	header(v, VIRTIO_BLK_T_IN, SECTORS - 16);
	cr_expect_eq(run(v, b, 3), 8193, "data and status");
	cr_expect_eq(status(v), VIRTIO_BLK_S_OK);
	cr_expect(equals(v, DATA, 9, 8192));
	vdrv_destroy(v);
}

/* s2.7.4: the driver may cut header, data and status wherever it likes. */
Test(virtio_blk, test_virtio_blk_any_framing_is_understood)
{
	struct drv_buf w[] = {
		{ HEADER, 1, 0 }, { HEADER + 1, 0, 0 }, { HEADER + 1, 15, 0 },
		{ DATA, 100, 0 }, { DATA + 100, 924, 0 }, { 0, 0, 1 }, { STATUS, 1, 1 },
	};
	struct drv_buf in[] = {
		{ HEADER, 9, 0 }, { HEADER + 9, 7, 0 }, { DATA + 4096, 1000, 1 },
		/* the last of the data and the status byte in one */
		{ DATA + 5096, 25, 1 },
	};
	struct vdrv *v = started();

	fill(v, DATA, 50, 1024);
	header(v, VIRTIO_BLK_T_OUT, 1);
	run(v, w, 7);
	cr_expect_eq(status(v), VIRTIO_BLK_S_OK);
	header(v, VIRTIO_BLK_T_IN, 1);
	rig_mem_put(v->rig, DATA + 5120, 1, UNSET);
	cr_expect_eq(run(v, in, 4), 1025);
	cr_expect_eq(rig_mem_get(v->rig, DATA + 5120, 1), VIRTIO_BLK_S_OK);
	cr_expect(equals(v, DATA + 4096, 50, 1024));
	vdrv_destroy(v);
}

/* Header and data to write in one piece, as s2.7.4 allows. */
Test(virtio_blk, test_virtio_blk_header_and_data_in_one_piece_work)
{
	struct drv_buf b[] = { { DATA - 16, 16 + 512, 0 }, { STATUS, 1, 1 } };
	struct virtio_blk_outhdr h = { htole32(VIRTIO_BLK_T_OUT), 0, htole64(7) };
	struct vdrv *v = started();
	uint8_t got[512];

	fill(v, DATA, 77, 512);
	rig_mem_write(v->rig, DATA - 16, &h, sizeof(h));
	rig_mem_put(v->rig, STATUS, 1, UNSET);
	cr_expect_eq(run(v, b, 2), 1);
	cr_expect_eq(status(v), VIRTIO_BLK_S_OK);
	disk_read(v, 7 * 512, got, 512);
	cr_expect_arr_eq(got, v->rig->ram + DATA, 512);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_many_segments_work)
{
	struct drv_buf b[130] = { { HEADER, 16, 0 } };
	struct vdrv *v = started();
	int i;

	for (i = 0; i < 128; i++)
		b[1 + i] = (struct drv_buf){ DATA + 8192 * (127 - i), 512, 0 };
	b[129] = (struct drv_buf){ STATUS, 1, 1 };
	for (i = 0; i < 128; i++)
		fill(v, DATA + 8192 * (127 - i), i, 512);
	header(v, VIRTIO_BLK_T_OUT, 0);
	drv_add_indirect(&v->ring[0], b, 130, VDRV_TABLE);
	cr_assert(vdrv_wait_used(v, 0, &(uint16_t){ 0 }, &(uint32_t){ 0 }));
	cr_assert_eq(status(v), VIRTIO_BLK_S_OK);
	cr_assert_eq(request(v, VIRTIO_BLK_T_IN, 0, 65536, true), VIRTIO_BLK_S_OK);
	for (i = 0; i < 128; i++)
		cr_expect(equals(v, DATA + 512 * i, i, 512), "segment %d", i);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_empty_read_and_write_succeed)
{
	struct vdrv *v = started();

	cr_expect_eq(request(v, VIRTIO_BLK_T_IN, 0, 0, true), VIRTIO_BLK_S_OK);
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, SECTORS, 0, false), VIRTIO_BLK_S_OK);
	vdrv_destroy(v);
}

/* ---- refused requests ---- */

Test(virtio_blk, test_virtio_blk_out_of_range_is_an_error)
{
	struct vdrv *v = started();

	cr_expect_eq(request(v, VIRTIO_BLK_T_IN, SECTORS, 512, true), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(v, VIRTIO_BLK_T_IN, SECTORS - 1, 1024, true), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, false),
		     VIRTIO_BLK_S_IOERR);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_partial_sector_is_an_error)
{
	struct vdrv *v = started();

	cr_expect_eq(request(v, VIRTIO_BLK_T_IN, 0, 511, true), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, 0, 513, false), VIRTIO_BLK_S_IOERR);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_failed_read_claims_no_data)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { DATA, 512, 1 }, { STATUS, 1, 1 } };
	struct vdrv *v = started();

	header(v, VIRTIO_BLK_T_IN, SECTORS);
	cr_expect_eq(run(v, b, 3), 0);
	cr_expect_eq(status(v), VIRTIO_BLK_S_IOERR);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_short_header_is_an_error)
{
	struct drv_buf b[] = { { HEADER, 15, 0 }, { STATUS, 1, 1 } };
	struct vdrv *v = started();

	header(v, VIRTIO_BLK_T_IN, 0);
	run(v, b, 2);
	cr_expect_eq(status(v), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(run(v, b + 1, 1), 1);
	cr_expect_eq(status(v), VIRTIO_BLK_S_IOERR);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_missing_status_byte_breaks_the_device)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { DATA, 512, 0 } };
	struct vdrv *v = started();
	uint8_t got[512];

	fill(v, DATA, 1, 512);
	header(v, VIRTIO_BLK_T_OUT, 0);
	drv_add(&v->ring[0], b, 2);
	vdrv_kick(v, 0);
	rig_turn(v->rig);
	cr_expect(vdrv_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	disk_read(v, 0, got, 512);
	for (int i = 0; i < 512; i++)
		cr_assert_eq(got[i], 0);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_unknown_command_is_unsupported)
{
	static const uint32_t types[] = { 2, 3, 5, 10, 14, 15, 16, 18, 26, 0x80000000, UINT32_MAX };
	struct vdrv *v = started();

	for (unsigned int i = 0; i < ARRAY_LEN(types); i++)
		cr_expect_eq(request(v, types[i], 0, 512, true), VIRTIO_BLK_S_UNSUPP,
			     "type 0x%x", types[i]);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_read_only_disk_refuses_writes)
{
	struct vdrv *v = create_with(BLK "}", "{\"readonly\": \"on\"}", VDRV_SPLIT);

	vdrv_start(v);
	cr_expect(v->features & BIT64(VIRTIO_BLK_F_RO));
	cr_expect_eq(request(v, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	cr_expect_eq(request(v, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	cr_expect_eq(request(v, VIRTIO_BLK_T_FLUSH, 0, 0, true), VIRTIO_BLK_S_OK);
	vdrv_destroy(v);
}

/* ---- the other commands ---- */

Test(virtio_blk, test_virtio_blk_flush_succeeds)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { STATUS, 1, 1 } };
	struct vdrv *v = started();
	struct drive_totals t;

	header(v, VIRTIO_BLK_T_FLUSH, 0);
	cr_expect_eq(run(v, b, 2), 1);
	cr_expect_eq(status(v), VIRTIO_BLK_S_OK);
	t = drive_totals(drive_find(v->rig->vm->blocks, "d0"));
	cr_expect_eq(t.ops[BLOCK_FLUSH], 1);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_get_id_is_the_serial)
{
	struct vdrv *v = create_with(BLK ", 'serial': '12345678901234567890cut'}", NULL,
				     VDRV_SPLIT);

	vdrv_start(v);
	cr_expect_eq(request(v, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(v->rig->ram + DATA, "12345678901234567890", 20);
	rig_mem_fill(v->rig, DATA, 0xaa, 20);
	cr_expect_eq(request(v, VIRTIO_BLK_T_GET_ID, 0, 4, true), VIRTIO_BLK_S_OK);
	cr_expect_arr_eq(v->rig->ram + DATA, "1234\xaa", 5);
	vdrv_destroy(v);
}

static uint8_t ranges(struct vdrv *v, uint32_t type,
		      const struct virtio_blk_discard_write_zeroes *g, uint32_t bytes)
{
	rig_mem_write(v->rig, DATA, g, bytes);
	return request(v, type, 0, bytes, false);
}

Test(virtio_blk, test_virtio_blk_write_zeroes_zeroes_every_range)
{
	struct virtio_blk_discard_write_zeroes g[] = {
		{ htole64(0), htole32(8), htole32(0) },
		{ htole64(16), htole32(8), htole32(VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) },
		{ htole64(SECTORS), htole32(0), htole32(0) },
	};
	struct vdrv *v = started();
	uint8_t got[24 * 512];

	rig_mem_fill(v->rig, DATA, 0x55, sizeof(got));
	cr_assert_eq(request(v, VIRTIO_BLK_T_OUT, 0, sizeof(got), false), VIRTIO_BLK_S_OK);
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_WRITE_ZEROES, g, sizeof(g)), VIRTIO_BLK_S_OK);
	disk_read(v, 0, got, sizeof(got));
	for (size_t i = 0; i < sizeof(got); i++)
		cr_assert_eq(got[i], i / 4096 == 1 ? 0x55 : 0, "byte %zu", i);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_discard_succeeds)
{
	struct virtio_blk_discard_write_zeroes g = { htole64(8), htole32(8), 0 };
	struct vdrv *v = started();

	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, &g, sizeof(g)), VIRTIO_BLK_S_OK);
	vdrv_destroy(v);
}

/* s5.2.6.2: which flags make which command unsupported. */
Test(virtio_blk, test_virtio_blk_range_flags_are_checked)
{
	struct virtio_blk_discard_write_zeroes g = { 0, htole32(8), htole32(1) };
	struct vdrv *v = started();

	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, &g, sizeof(g)), VIRTIO_BLK_S_UNSUPP);
	g.flags = htole32(2);
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, &g, sizeof(g)), VIRTIO_BLK_S_UNSUPP);
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_WRITE_ZEROES, &g, sizeof(g)), VIRTIO_BLK_S_UNSUPP);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_bad_ranges_are_errors)
{
	struct virtio_blk_discard_write_zeroes g[17] = { { htole64(SECTORS - 1), htole32(2), 0 } };
	struct vdrv *v = started();

	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 16), VIRTIO_BLK_S_IOERR, "past the end");
	g[0].sector = UINT64_MAX;
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 16), VIRTIO_BLK_S_IOERR, "wraps");
	g[0].sector = 0;
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 15), VIRTIO_BLK_S_IOERR, "short");
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 0), VIRTIO_BLK_S_IOERR, "none");
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 17 * 16), VIRTIO_BLK_S_IOERR, "17");
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, g, 16 * 16), VIRTIO_BLK_S_OK, "16 of none");
	g[1].num_sectors = UINT32_MAX;
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_WRITE_ZEROES, g, 32), VIRTIO_BLK_S_IOERR, "too many");
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_commands_switched_off_are_unsupported)
{
	struct virtio_blk_discard_write_zeroes g = { 0, htole32(8), 0 };
	struct vdrv *v = create_with(BLK ", 'discard': false, 'write-zeroes': false}", NULL,
				     VDRV_SPLIT);

	vdrv_start(v);
	cr_expect_not(v->features & (BIT64(VIRTIO_BLK_F_DISCARD) |
				     BIT64(VIRTIO_BLK_F_WRITE_ZEROES)));
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_DISCARD, &g, 16), VIRTIO_BLK_S_UNSUPP);
	cr_expect_eq(ranges(v, VIRTIO_BLK_T_WRITE_ZEROES, &g, 16), VIRTIO_BLK_S_UNSUPP);
	vdrv_destroy(v);
}

/* ---- write cache (s5.2.5) ---- */

#define WCE	32

static bool cache_is_on(struct vdrv *v)
{
	return drive_find(v->rig->vm->blocks, "d0")->write_cache;
}

Test(virtio_blk, test_virtio_blk_guest_switches_the_write_cache)
{
	struct vdrv *v = started();

	cr_expect_eq(rig_mmio_read(v->rig, v->config + WCE, 1), 1);
	rig_mmio_write(v->rig, v->config + WCE, 1, 0);
	cr_expect_not(cache_is_on(v));
	cr_expect_eq(rig_mmio_read(v->rig, v->config + WCE, 1), 0);
	rig_mmio_write(v->rig, v->config + WCE, 1, 1);
	cr_expect(cache_is_on(v));
	rig_mmio_write(v->rig, v->config + WCE, 1, 0);
	vdrv_reset(v);
	cr_expect(cache_is_on(v), "a reset restores it");
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_driver_that_cannot_flush_gets_write_through)
{
	struct vdrv *v = create(VDRV_SPLIT);

	v->refuse = BIT64(VIRTIO_BLK_F_FLUSH);
	vdrv_start(v);
	cr_expect_not(cache_is_on(v));
	cr_expect_eq(rig_mmio_read(v->rig, v->config + WCE, 1), 0);
	v->refuse |= BIT64(VIRTIO_BLK_F_CONFIG_WCE);
	vdrv_start(v);
	cr_expect_not(cache_is_on(v));
	v->refuse = BIT64(VIRTIO_BLK_F_CONFIG_WCE);
	vdrv_start(v);
	cr_expect(cache_is_on(v));
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_write_cache_off_is_write_through)
{
	struct vdrv *v = create_with(BLK ", 'write-cache': 'off', 'config-wce': false}", NULL,
				     VDRV_SPLIT);

	vdrv_start(v);
	cr_expect_not(cache_is_on(v));
	rig_mmio_write(v->rig, v->config + WCE, 1, 1);
	cr_expect_not(cache_is_on(v));
	vdrv_destroy(v);
}

/* ---- queues and interrupts ---- */

Test(virtio_blk, test_virtio_blk_every_queue_works)
{
	struct vdrv *v = create_with(BLK ", 'num-queues': 4, 'queue-size': 8}", NULL, VDRV_PACKED);
	struct drv_buf b[] = { { HEADER, 16, 0 }, { DATA, 512, 1 }, { STATUS, 1, 1 } };
	uint16_t id, q;
	uint32_t len;

	vdrv_start(v);
	cr_assert_eq(v->queues, 4);
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 34, 2), 4, "num_queues");
	for (q = 0; q < 4; q++) {
		header(v, VIRTIO_BLK_T_IN, q);
		drv_add(&v->ring[q], b, 3);
		cr_assert(vdrv_wait_used(v, q, &id, &len), "queue %u", q);
		cr_expect_eq(status(v), VIRTIO_BLK_S_OK);
	}
	vdrv_destroy(v);
}

/* A batch of errors completes in the turn of its kick: one message. */
Test(virtio_blk, test_virtio_blk_batch_makes_one_interrupt)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { STATUS, 1, 1 } };
	struct vdrv *v = create(VDRV_SPLIT);
	uint16_t id;
	uint32_t len, n = 0;

	vdrv_start(v);
	vdrv_msix(v);
	header(v, 99, 0);
	for (int i = 0; i < 50; i++)
		drv_add(&v->ring[0], b, 2);
	vdrv_kick(v, 0);
	rig_turn(v->rig);
	while (drv_used(&v->ring[0], &id, &len))
		n++;
	cr_expect_eq(n, 50);
	cr_expect_eq(rig_msis(v->rig), 1);
	cr_expect_eq(rig_last_msi(v->rig).data, 1);
	vdrv_destroy(v);
}

Test(virtio_blk, test_virtio_blk_iothread_serves_many_requests)
{
	struct vdrv *v = create_on_iothread(VDRV_EVENT_IDX);
	struct drv_buf b[3];
	uint16_t id;
	uint32_t len, done = 0, sent = 0;
	uint64_t end = clock_ns() + 10 * NS_PER_SEC;

	vdrv_start(v);
	valid_request(b);
	while (done < 500 && clock_ns() < end) {
		while (sent < 500 && v->ring[0].nfree >= 3) {
			drv_add(&v->ring[0], b, 3);
			sent++;
		}
		if (drv_wants_kick(&v->ring[0]))
			vdrv_kick(v, 0);
		while (drv_used(&v->ring[0], &id, &len)) {
			cr_assert_eq(len, 4097);
			done++;
		}
	}
	cr_expect_eq(done, 500);
	vdrv_destroy(v);
}
