/*
 * tests/dev/lib_virtio_hostile.c - what a hostile driver tries, against every
 * virtio device, in both ring formats. After each attack the device must be
 * usable again by a reset and an ordinary request.
 *
 * TARGETS.md's patterns 1 (queue changed after activation), 2 (duplicate head),
 * 11 (zero-length and looping descriptors), 12 (unbounded memory in flight) and
 * 13 (writes after the end) are in here.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define PIECES	8

static bool needs_reset(struct vdrv *v)
{
	return vdrv_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static int add_request(struct vdrv *v, const struct hostile *h)
{
	struct drv_buf b[PIECES];
	int n = h->request(b);

	return drv_add(&v->ring[0], b, n);
}

/* Kick and let everything that can happen happen. */
static void kick_and_turn(struct vdrv *v)
{
	vdrv_kick(v, 0);
	vdrv_settle(v);
}

static void expect_usable(struct vdrv *v, const struct hostile *h)
{
	uint16_t id, want;
	uint32_t len;

	vdrv_start(v);
	want = add_request(v, h);
	cr_assert(vdrv_wait_used(v, 0, &id, &len), "%s: no answer after a reset", h->name);
	cr_expect_eq(id, want);
	cr_expect_not(needs_reset(v));
}

static void expect_broken(struct vdrv *v, const struct hostile *h)
{
	uint16_t id;
	uint32_t len;

	kick_and_turn(v);
	cr_expect(needs_reset(v), "%s: NEEDS_RESET is not set", h->name);
	/* s2.1.2: and from then on it does nothing. */
	cr_expect_not(drv_used(&v->ring[0], &id, &len));
}

/* ---- descriptors ---- */

void hostile_zero_length_descriptors(struct vdrv *v, const struct hostile *h)
{
	struct drv_buf b[] = { { 0, 0, 0 }, { UINT64_MAX, 0, 1 } };

	vdrv_start(v);
	drv_add(&v->ring[0], b, 2);
	kick_and_turn(v);	/* any answer will do */
}

void hostile_looping_descriptors(struct vdrv *v, const struct hostile *h)
{
	struct drv_ring *r = &v->ring[0];
	uint16_t i, bits = r->packed ? DRV_F_AVAIL : 0;

	vdrv_start(v);
	for (i = 0; i < r->size; i++)	/* packed: every entry has a successor */
		drv_put_desc(r, i, VDRV_DATA, 0, VRING_DESC_F_NEXT | bits, 0);
	drv_offer(r, 0, r->packed ? 0 : 1);
	expect_broken(v, h);
}

void hostile_nested_indirect(struct vdrv *v, const struct hostile *h)
{
	struct drv_ring *r = &v->ring[0];

	vdrv_start(v);
	drv_put_desc(r, 0, VDRV_TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_put_entry(r, VDRV_TABLE, 0, VDRV_TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_offer(r, 0, 1);
	if (r->packed)	/* s2.8.7: the flag is ignored there */
		kick_and_turn(v);
	else
		expect_broken(v, h);
}

void hostile_indirect_with_next(struct vdrv *v, const struct hostile *h)
{
	struct drv_ring *r = &v->ring[0];

	vdrv_start(v);
	drv_put_desc(r, 0, VDRV_TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	drv_put_desc(r, 1, VDRV_TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_offer(r, 0, 1);
	expect_broken(v, h);
}

void hostile_buffer_over_ram_end(struct vdrv *v, const struct hostile *h)
{
	struct drv_buf b = { VDRV_RAM - 100, 101, 1 };

	vdrv_start(v);
	drv_add(&v->ring[0], &b, 1);
	expect_broken(v, h);
}

void hostile_device_registers_as_buffer(struct vdrv *v, const struct hostile *h)
{
	struct drv_buf b = { v->common, 64, 1 };	/* pattern 4: DMA reaches RAM only */

	vdrv_start(v);
	drv_add(&v->ring[0], &b, 1);
	expect_broken(v, h);
}

void hostile_duplicate_heads(struct vdrv *v, const struct hostile *h)
{
	struct drv_ring *r = &v->ring[0];
	uint16_t i, id;

	vdrv_start(v);
	id = add_request(v, h);
	for (i = 0; i < 4; i++) {	/* the same again while it may be in flight */
		if (r->packed)
			drv_put_desc(r, r->avail_next, VDRV_DATA, 16, 0, id);
		drv_offer(r, r->packed ? r->avail_next : id, 1);
	}
	kick_and_turn(v);
}

void hostile_index_ahead(struct vdrv *v, const struct hostile *h)
{
	struct drv_ring *r = &v->ring[0];
	uint16_t i;

	vdrv_start(v);
	if (r->packed) {	/* every entry available, one chain without end */
		for (i = 0; i < r->size; i++)
			drv_put_desc(r, i, VDRV_DATA, 1, DRV_F_AVAIL | VRING_DESC_F_NEXT, i);
		drv_offer(r, 0, 0);
	} else {
		drv_set_avail_idx(r, r->size + 1);
	}
	expect_broken(v, h);
}

/* Everything available at once, again and again without a pause: a turn is
 * bounded, and so is what is in flight. */
void hostile_flood(struct vdrv *v, const struct hostile *h)
{
	struct drv_buf b[PIECES];
	int n = h->request(b), i;
	uint16_t id;
	uint32_t len;

	vdrv_start(v);
	for (i = 0; i < 20; i++) {
		while (v->ring[0].packed ? v->ring[0].room >= n : v->ring[0].nfree >= n)
			drv_add(&v->ring[0], b, n);
		vdrv_kick(v, 0);
		cr_expect_geq(loop_turn(v->rig->loop, NS_PER_MS), 0);
		while (drv_used(&v->ring[0], &id, &len))
			;
	}
	cr_expect_not(needs_reset(v));
}

/* ---- registers ---- */

void hostile_any_width_anywhere(struct vdrv *v, const struct hostile *h)
{
	uint64_t at[] = { v->common, v->isr, v->config, v->notify };
	static const uint64_t vals[] = { 0, 1, 0x5a, UINT64_MAX };
	unsigned int i, j, width;
	uint64_t off;

	vdrv_start(v);
	for (i = 0; i < ARRAY_LEN(at); i++)
		for (off = 0; off < 0x1000; off += off < 80 ? 1 : 61)
			for (width = 1; width <= 8; width *= 2)
				for (j = 0; j < ARRAY_LEN(vals); j++) {
					rig_mmio_write(v->rig, at[i] + off, width, vals[j]);
					rig_mmio_read(v->rig, at[i] + off, width);
				}
	rig_turn(v->rig);
}

/* A register that takes a wrong width must not change. */
void hostile_wrong_width(struct vdrv *v, const struct hostile *h)
{
	uint64_t size;

	vdrv_reset(v);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	size = vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 1, 1);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 4, 1);
	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 2, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), size);
	cr_expect_eq(vdrv_status(v), 0);
}

void hostile_select_beyond_queues(struct vdrv *v, const struct hostile *h)
{
	uint32_t off;

	vdrv_reset(v);
	vdrv_negotiate(v);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);	/* s4.1.4.3.1 */
	for (off = VIRTIO_PCI_COMMON_Q_SIZE; off < VIRTIO_PCI_COMMON_Q_DESCLO; off += 2)
		vdrv_write(v, off, 2, 1);
	for (; off < VIRTIO_PCI_COMMON_Q_NDATA; off += 4)
		vdrv_write(v, off, 4, 0x1000);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	vdrv_kick(v, 63);
	vdrv_settle(v);
	cr_expect_not(needs_reset(v));
}

void hostile_features_not_offered(struct vdrv *v, const struct hostile *h)
{
	vdrv_reset(v);
	vdrv_set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	vdrv_driver_features(v, UINT64_MAX);
	vdrv_set_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
	cr_expect_not(vdrv_status(v) & VIRTIO_CONFIG_S_FEATURES_OK);
	vdrv_driver_features(v, 0);	/* VERSION_1 is not optional here */
	vdrv_set_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
	cr_expect_not(vdrv_status(v) & VIRTIO_CONFIG_S_FEATURES_OK);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	cr_expect_not(vdrv_status(v) & VIRTIO_CONFIG_S_DRIVER_OK);
}

/* ---- life ---- */

void hostile_notify_before_driver_ok(struct vdrv *v, const struct hostile *h)
{
	uint16_t id;
	uint32_t len;

	vdrv_kick(v, 0);
	vdrv_settle(v);
	vdrv_reset(v);
	vdrv_negotiate(v);
	vdrv_queue(v, 0, 0);
	add_request(v, h);
	kick_and_turn(v);
	cr_expect_not(drv_used(&v->ring[0], &id, &len));	/* s2.1.2 */
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	cr_expect(vdrv_wait_used(v, 0, &id, &len));
}

/* Pattern 1: size and addresses were latched at DRIVER_OK. */
void hostile_queue_changed_while_live(struct vdrv *v, const struct hostile *h)
{
	uint16_t id;
	uint32_t len, off;

	vdrv_start(v);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 2, 0x8000);
	for (off = VIRTIO_PCI_COMMON_Q_DESCLO; off < VIRTIO_PCI_COMMON_Q_NDATA; off += 4)
		vdrv_write(v, off, 4, 0xfffff000);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	add_request(v, h);
	cr_expect(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_not(needs_reset(v));
}

void hostile_ring_outside_ram(struct vdrv *v, const struct hostile *h)
{
	vdrv_reset(v);
	vdrv_negotiate(v);
	vdrv_queue(v, 0, 0);
	vdrv_reset(v);
	vdrv_negotiate(v);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_DESCLO, 4, VDRV_RAM - 16);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0xfffffff0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0xfffffff0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	expect_broken(v, h);
}

static void start_in_flight(struct vdrv *v, const struct hostile *h)
{
	vdrv_start(v);
	add_request(v, h);
	add_request(v, h);
	vdrv_kick(v, 0);
	loop_turn(v->rig->loop, 0);
}

/* Once status reads 0, nothing of the old life is written (pattern 13). */
void hostile_reset_in_flight(struct vdrv *v, const struct hostile *h)
{
	uint8_t *before = malloc(VDRV_RAM);

	start_in_flight(v, h);
	vdrv_reset(v);
	memcpy(before, v->rig->ram, VDRV_RAM);
	rig_turn(v->rig);
	loop_turn(v->rig->loop, 20 * NS_PER_MS);
	cr_expect_arr_eq(before, v->rig->ram, VDRV_RAM);
	free(before);
}

/* A driver that does not wait for the reset still gets its device. */
void hostile_reset_not_awaited(struct vdrv *v, const struct hostile *h)
{
	uint16_t id;
	uint32_t len;

	start_in_flight(v, h);
	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	v->rings_at = VDRV_RINGS_ALT;	/* the old ones may still be written */
	cr_assert(vdrv_negotiate(v));
	vdrv_queue(v, 0, 0);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	add_request(v, h);
	cr_expect(vdrv_wait_used(v, 0, &id, &len));
}

void hostile_machine_reset_in_flight(struct vdrv *v, const struct hostile *h)
{
	start_in_flight(v, h);
	rig_reset(v->rig);
	cr_expect_eq(vdrv_pci_read(v, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	vdrv_pci_write(v, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO |
		       PCI_COMMAND_MASTER);
	cr_expect_eq(vdrv_status(v), 0);
}

void hostile_unplug_in_flight(struct vdrv *v, const struct hostile *h)
{
	start_in_flight(v, h);
	dev_destroy(v->dev);
	v->dev = NULL;
	rig_turn(v->rig);
	cr_expect_eq(vdrv_pci_read(v, PCI_VENDOR_ID, 2), 0xffff);
}

void hostile_no_bus_master(struct vdrv *v, const struct hostile *h)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;
	uint16_t id;
	uint32_t len;

	vdrv_start(v);
	/* A queue that has just looked at the bit may still look at the ring. */
	vdrv_settle(v);
	vdrv_pci_write(v, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	vdrv_settle(v);
	add_request(v, h);
	kick_and_turn(v);
	cr_expect_not(drv_used(&v->ring[0], &id, &len));
	vdrv_pci_write(v, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO |
		       PCI_COMMAND_MASTER);
	while (!drv_used(&v->ring[0], &id, &len)) {	/* without another kick */
		cr_assert_geq(loop_turn(v->rig->loop, NS_PER_MS), 0);
		cr_assert_lt(clock_ns(), end, "the request is never served");
	}
}

/* s2.6.1: one queue alone, also with requests in flight. */
void hostile_queue_reset_in_flight(struct vdrv *v, const struct hostile *h)
{
	uint64_t end = clock_ns() + 10 * NS_PER_SEC;
	uint16_t id;
	uint32_t len;

	start_in_flight(v, h);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	while (vdrv_read(v, VIRTIO_PCI_COMMON_Q_RESET, 2) && clock_ns() < end)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	vdrv_queue(v, 0, 4);
	add_request(v, h);
	cr_expect(vdrv_wait_used(v, 0, &id, &len));
}

void hostile_reset_storm(struct vdrv *v, const struct hostile *h)
{
	int i;

	for (i = 0; i < 50; i++) {
		start_in_flight(v, h);
		vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 0xff);
		vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	}
}

void hostile_run(const struct hostile *h,
		 void (*run)(struct vdrv *v, const struct hostile *h))
{
	static const int kinds[] = {
		VDRV_SPLIT, VDRV_EVENT_IDX, VDRV_PACKED, VDRV_PACKED | VDRV_EVENT_IDX
	};
	unsigned int k;

	for (k = 0; k < ARRAY_LEN(kinds); k++) {
		struct vdrv *v = h->create(kinds[k]);

		run(v, h);
		if (v->dev)
			expect_usable(v, h);
		vdrv_destroy(v);
	}
}
