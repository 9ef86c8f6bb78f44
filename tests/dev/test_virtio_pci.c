/*
 * The PCI transport: identity, capabilities, registers, interrupts, the window
 * in config space, and the legacy interface.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define RNG	"{'driver': 'virtio-rng-pci', 'id': 'rng0'"
#define DATA	VDRV_DATA

static struct vdrv *rng(const char *more)
{
	char json[256];

	snprintf(json, sizeof(json), "%s%s}", RNG, more);
	return vdrv_create(json, VDRV_SPLIT);
}

static bool request(struct vdrv *v)
{
	struct drv_buf b = { DATA, 16, 1 };
	uint16_t id;
	uint32_t len;

	drv_add(&v->ring[0], &b, 1);
	return vdrv_wait_used(v, 0, &id, &len) && len == 16;
}

static uint16_t find_cap(struct vdrv *v, uint8_t id)
{
	uint16_t at = vdrv_pci_read(v, PCI_CAPABILITY_LIST, 1);

	while (at && vdrv_pci_read(v, at, 1) != id)
		at = vdrv_pci_read(v, at + 1, 1);
	return at;
}

/* ---- identity ---- */

Test(virtio_pci, test_virtio_pci_modern_is_the_default_on_pcie)
{
	struct vdrv *v = rng("");

	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1044);
	cr_expect_eq(vdrv_pci_read(v, PCI_REVISION_ID, 1), 1);
	cr_expect_geq(vdrv_pci_read(v, PCI_SUBSYSTEM_ID, 2), 0x40);
	cr_expect_eq(vdrv_pci_read(v, PCI_BASE_ADDRESS_0, 4), 0);
	cr_expect_neq(find_cap(v, PCI_CAP_ID_EXP), 0);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_conventional_bus_gets_a_transitional_device)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;

	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pci.1'}");
	v = vdrv_attach(r, RNG ", 'bus': 'pci.1'}", VDRV_SPLIT);
	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1005);
	cr_expect_eq(vdrv_pci_read(v, PCI_REVISION_ID, 1), 0);
	cr_expect_eq(find_cap(v, PCI_CAP_ID_EXP), 0);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_behind_a_root_port_works)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;

	rig_device(r, "{'driver': 'pcie-root-port', 'id': 'rp1'}");
	v = vdrv_attach(r, RNG ", 'bus': 'rp1'}", VDRV_SPLIT);
	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1044);
	vdrv_start(v);
	cr_expect(request(v));
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_fixed_types_have_their_interface)
{
	struct vdrv *v = vdrv_create("{'driver': 'virtio-rng-pci-transitional'}", VDRV_SPLIT);

	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1005);
	vdrv_start(v);
	cr_expect(request(v), "the modern interface of it");
	vdrv_destroy(v);
	v = vdrv_create("{'driver': 'virtio-rng-pci-non-transitional'}", VDRV_SPLIT);
	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1044);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_fixed_types_have_no_choice)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, "{'driver': 'virtio-rng-pci-transitional', "
				      "'disable-legacy': 'on'}", &e), 0);
	cr_expect(strstr(e.text, "disable-legacy"), "%s", e.text);
	rig_destroy(r);
}

/* ---- capabilities ---- */

/* s4.1.4: every structure lies inside its BAR, aligned. */
Test(virtio_pci, test_virtio_pci_structures_are_found)
{
	struct vdrv *v = rng("");

	cr_expect_neq(v->common, 0);
	cr_expect_neq(v->isr, 0);
	cr_expect_neq(v->notify, 0);
	cr_expect_neq(v->window_cap, 0);
	cr_expect_eq(v->common % 4, 0);
	cr_expect_eq(v->notify % 4, 0);
	cr_expect_neq(v->notify_mult, 0);
	cr_expect_eq(vdrv_pci_read(v, v->window_cap + 2, 1), sizeof(struct virtio_pci_cfg_cap));
	vdrv_destroy(v);
}

static void window(struct vdrv *v, uint32_t off, uint32_t len)
{
	vdrv_pci_write(v, v->window_cap + VIRTIO_PCI_CAP_BAR, 1, 4);
	vdrv_pci_write(v, v->window_cap + VIRTIO_PCI_CAP_OFFSET, 4, off);
	vdrv_pci_write(v, v->window_cap + VIRTIO_PCI_CAP_LENGTH, 4, len);
}

Test(virtio_pci, test_virtio_pci_window_reads_and_writes_registers)
{
	struct vdrv *v = rng("");
	uint16_t data = v->window_cap + sizeof(struct virtio_pci_cap);

	window(v, VIRTIO_PCI_COMMON_STATUS, 1);
	vdrv_pci_write(v, data, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_expect_eq(vdrv_status(v), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	cr_expect_eq(vdrv_pci_read(v, data, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	window(v, VIRTIO_PCI_COMMON_NUMQ, 2);
	cr_expect_eq(vdrv_pci_read(v, data, 2), 1);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_window_misused_does_nothing)
{
	static const uint32_t bad[][2] = {
		{ 0, 0 }, { 0, 3 }, { 0, 8 }, { 1, 2 }, { 0x4000, 4 }, { 0xfffffffc, 4 },
	};
	struct vdrv *v = rng("");
	uint16_t data = v->window_cap + sizeof(struct virtio_pci_cap);

	for (unsigned int i = 0; i < ARRAY_LEN(bad); i++) {
		window(v, bad[i][0], bad[i][1]);
		vdrv_pci_write(v, data, 4, 0x01020304);
		cr_expect_eq(vdrv_pci_read(v, data, 4), 0x01020304);
	}
	window(v, 0, 4);
	vdrv_pci_write(v, v->window_cap + VIRTIO_PCI_CAP_BAR, 1, 1);
	vdrv_pci_write(v, data, 4, 1);
	cr_expect_eq(vdrv_read(v, 0, 4), 0);
	vdrv_destroy(v);
}

/* ---- registers ---- */

Test(virtio_pci, test_virtio_pci_addresses_take_halves_and_wholes)
{
	struct vdrv *v = rng("");

	vdrv_write(v, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x1);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x23450);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0x100023450);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, 0x700000010);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_AVAILHI, 4), 7);
	/* Each queue has its own; there is no queue 1. */
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0x100023450);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_queue_size_is_at_most_the_offered_one)
{
	struct vdrv *v = rng("");
	uint64_t max = vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2);

	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 2, max * 2);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), max);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 2, 0);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), max);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), 2);
	vdrv_reset(v);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2), max);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_features_are_fixed_after_features_ok)
{
	struct vdrv *v = rng("");

	vdrv_reset(v);
	cr_assert(vdrv_negotiate(v));
	vdrv_driver_features(v, UINT64_MAX);
	vdrv_write(v, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_GF, 4), v->features >> 32);
	vdrv_write(v, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_DF, 4), 0);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_ring_features_follow_the_properties)
{
	struct vdrv *v = rng(", 'event_idx': false, 'indirect_desc': false, 'packed': true, "
			     "'queue_reset': false");
	uint64_t f = vdrv_device_features(v);

	cr_expect_eq(f, BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_RING_PACKED));
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_status_bits_are_not_cleared_by_writing)
{
	struct vdrv *v = rng("");

	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 1);
	cr_expect_eq(vdrv_status(v), 3);
	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(vdrv_status(v), 3, "NEEDS_RESET is the device's");
	vdrv_destroy(v);
}

/* s4.1.4.3.1: as seen by a driver that reads the configuration. */
Test(virtio_pci, test_virtio_pci_generation_moves_with_the_config)
{
	struct vdrv *v = rng("");
	uint64_t before = vdrv_read(v, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	rig_mmio_read(v->rig, v->config, 4);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_CFGGENERATION, 1), before);
	for (int i = 0; i < 256; i++)
		virtio_config_changed(v->v);
	rig_mmio_read(v->rig, v->config, 4);
	cr_expect_neq(vdrv_read(v, VIRTIO_PCI_COMMON_CFGGENERATION, 1), before);
	vdrv_destroy(v);
}

/* ---- interrupts ---- */

static uint32_t line(struct vdrv *v)
{
	return 16 + (v->bdf >> 3 & 0x1f) % 4;	/* INTA of the slot, see vdrv_rig() */
}

Test(virtio_pci, test_virtio_pci_line_rises_and_falls_with_isr)
{
	struct vdrv *v = rng("");

	vdrv_start(v);
	cr_assert(request(v));
	cr_expect(rig_level(v->rig, line(v)));
	cr_expect(vdrv_pci_read(v, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cr_expect_eq(rig_mmio_read(v->rig, v->isr, 1), 1);
	cr_expect_not(rig_level(v->rig, line(v)));
	cr_expect_eq(rig_mmio_read(v->rig, v->isr, 1), 0);
	virtio_config_changed(v->v);
	cr_expect_eq(rig_mmio_read(v->rig, v->isr, 1), VIRTIO_PCI_ISR_CONFIG);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_reset_lowers_the_line)
{
	struct vdrv *v = rng("");

	vdrv_start(v);
	cr_assert(request(v));
	vdrv_reset(v);
	cr_expect_not(rig_level(v->rig, line(v)));
	cr_expect_eq(rig_mmio_read(v->rig, v->isr, 1), 0);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_msix_takes_the_mapped_vector)
{
	struct vdrv *v = rng("");

	vdrv_start(v);
	vdrv_msix(v);
	cr_assert(request(v));
	cr_expect_eq(rig_msis(v->rig), 1);
	cr_expect_eq(rig_last_msi(v->rig).data, 1);
	cr_expect_not(rig_level(v->rig, line(v)));
	virtio_config_changed(v->v);
	cr_expect_eq(rig_last_msi(v->rig).data, 0);
	cr_expect_eq(rig_msis(v->rig), 2);
	vdrv_destroy(v);
}

/* A busy queue interrupts through an eventfd, whatever vector it has. */
Test(virtio_pci, test_virtio_pci_busy_queue_gets_an_irqfd)
{
	struct vdrv *v = rng("");
	uint64_t count = 0;
	uint32_t msis;
	int i;

	v->v->irqfd = true;	/* else only with KVM */
	vdrv_start(v);
	vdrv_msix(v);
	for (i = 0; i < 300; i++)
		cr_assert(request(v));
	rig_turn(v->rig);
	msis = rig_msis(v->rig);
	cr_expect_lt(msis, 300);
	cr_assert_geq(v->rig->route_fd[0], 0);
	cr_expect_eq(v->rig->route[0].data, 1);
	cr_assert_eq(read(v->rig->route_fd[0], &count, sizeof(count)), sizeof(count));
	cr_expect_eq(count, 300 - msis);
	/* Another vector: the signal follows it. */
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	cr_assert(request(v));
	rig_turn(v->rig);
	cr_expect_eq(v->rig->route[1].data, 0);
	cr_assert_eq(read(v->rig->route_fd[1], &count, sizeof(count)), sizeof(count));
	cr_expect_eq(count, 1);
	vdrv_destroy(v);
}

/* s4.1.5.1.2.1, s4.1.5.3.1 */
Test(virtio_pci, test_virtio_pci_vector_out_of_range_is_no_vector)
{
	struct vdrv *v = rng("");

	vdrv_start(v);
	vdrv_msix(v);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	vdrv_write(v, VIRTIO_PCI_COMMON_MSIX, 2, 0x7ff);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	cr_assert(request(v));
	cr_expect_eq(rig_msis(v->rig), 0);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_vectors_zero_has_no_msix)
{
	struct vdrv *v = rng(", 'vectors': 0");

	cr_expect_eq(v->msix_cap, 0);
	vdrv_start(v);
	cr_expect(request(v));
	cr_expect(rig_level(v->rig, line(v)));
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_too_many_vectors_are_refused)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, RNG ", 'vectors': 2049}", &e), 0);
	cr_expect(strstr(e.text, "vectors"), "%s", e.text);
	rig_destroy(r);
}

Test(virtio_pci, test_virtio_pci_broken_ring_tells_the_driver)
{
	struct drv_buf b = { VDRV_RAM, 16, 1 };
	struct vdrv *v = rng("");

	vdrv_start(v);
	vdrv_msix(v);
	drv_add(&v->ring[0], &b, 1);
	vdrv_kick(v, 0);
	rig_turn(v->rig);
	cr_expect(vdrv_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	cr_expect_eq(rig_msis(v->rig), 1, "s2.1.2: a configuration change notification");
	cr_expect_eq(rig_last_msi(v->rig).data, 0);
	vdrv_destroy(v);
}

/* ---- the BAR ---- */

Test(virtio_pci, test_virtio_pci_doorbells_follow_the_bar)
{
	struct vdrv *v = rng("");
	uint64_t moved = 0x900000000;
	uint32_t len;
	uint16_t id;
	struct drv_buf b = { DATA, 16, 1 };

	vdrv_start(v);
	vdrv_pci_write(v, PCI_BASE_ADDRESS_4, 4, (uint32_t)moved);
	vdrv_pci_write(v, PCI_BASE_ADDRESS_5, 4, moved >> 32);
	drv_add(&v->ring[0], &b, 1);
	vdrv_kick(v, 0);	/* at the old address */
	rig_turn(v->rig);
	cr_expect_not(drv_used(&v->ring[0], &id, &len));
	v->notify = moved + 0x3000;
	vdrv_kick(v, 0);
	rig_turn(v->rig);
	cr_expect(drv_used(&v->ring[0], &id, &len));
	vdrv_destroy(v);
}

/* ---- legacy (s4.1.4.10) ---- */

static uint16_t port(struct vdrv *v)
{
	return vdrv_pci_read(v, PCI_BASE_ADDRESS_0, 4) & ~3u;
}

/* What a legacy driver does: no FEATURES_OK, one page number for a ring whose
 * parts follow each other. */
static void legacy_start(struct vdrv *v, struct drv_ring *r)
{
	uint16_t p = port(v), size;

	rig_pio_write(v->rig, p + VIRTIO_PCI_STATUS, 1, 0);
	rig_pio_write(v->rig, p + VIRTIO_PCI_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	rig_pio_write(v->rig, p + VIRTIO_PCI_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE |
		      VIRTIO_CONFIG_S_DRIVER);
	rig_pio_write(v->rig, p + VIRTIO_PCI_GUEST_FEATURES, 4, 0);
	rig_pio_write(v->rig, p + VIRTIO_PCI_QUEUE_SEL, 2, 0);
	size = rig_pio_read(v->rig, p + VIRTIO_PCI_QUEUE_NUM, 2);
	drv_ring_init(r, v->rig->mem, VDRV_RINGS, size, false, false);
	r->driver = r->desc + 16 * size;
	r->driver_host = v->rig->ram + r->driver;
	r->device = align_up(r->driver + 6 + 2 * size, 4096);
	r->device_host = v->rig->ram + r->device;
	rig_pio_write(v->rig, p + VIRTIO_PCI_QUEUE_PFN, 4, r->desc / 4096);
}

static void legacy_driver_ok(struct vdrv *v)
{
	rig_pio_write(v->rig, port(v) + VIRTIO_PCI_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE |
		      VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool legacy_request(struct vdrv *v, struct drv_ring *r)
{
	struct drv_buf b = { DATA, 16, 1 };
	uint16_t id;
	uint32_t len;

	drv_add(r, &b, 1);
	rig_pio_write(v->rig, port(v) + VIRTIO_PCI_QUEUE_NOTIFY, 2, 0);
	rig_turn(v->rig);
	return drv_used(r, &id, &len) && len == 16;
}

Test(virtio_pci, test_virtio_pci_legacy_driver_works)
{
	struct vdrv *v = rng(", 'disable-legacy': 'off'");
	struct drv_ring r;

	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1005);
	cr_expect_eq(vdrv_pci_read(v, PCI_SUBSYSTEM_ID, 2), 4);
	cr_expect_eq(vdrv_pci_read(v, PCI_BASE_ADDRESS_0, 4) & 1, 1);
	legacy_start(v, &r);
	legacy_driver_ok(v);
	cr_expect(legacy_request(v, &r));
	cr_expect_eq(rig_pio_read(v->rig, port(v) + VIRTIO_PCI_ISR, 1), 1);
	vdrv_destroy(v);
}

/* s3.1.2: also before DRIVER_OK. */
Test(virtio_pci, test_virtio_pci_legacy_driver_may_start_early)
{
	struct vdrv *v = rng(", 'disable-legacy': 'off', 'disable-modern': true");
	struct drv_ring r;

	cr_expect_eq(v->common, 0);
	legacy_start(v, &r);
	cr_expect(legacy_request(v, &r));
	legacy_driver_ok(v);
	cr_expect(legacy_request(v, &r));
	vdrv_destroy(v);
}

/* The config moves when MSI-X is switched on (s4.1.4.10). */
Test(virtio_pci, test_virtio_pci_legacy_vectors_appear_with_msix)
{
	struct vdrv *v = rng(", 'disable-legacy': 'off'");
	struct drv_ring r;

	rig_pio_write(v->rig, port(v) + VIRTIO_MSI_QUEUE_VECTOR, 2, 1);
	vdrv_msix(v);
	cr_expect_eq(rig_pio_read(v->rig, port(v) + VIRTIO_MSI_QUEUE_VECTOR, 2),
		     VIRTIO_MSI_NO_VECTOR);
	legacy_start(v, &r);
	rig_pio_write(v->rig, port(v) + VIRTIO_MSI_QUEUE_VECTOR, 2, 1);
	cr_expect_eq(rig_pio_read(v->rig, port(v) + VIRTIO_MSI_QUEUE_VECTOR, 2), 1);
	legacy_driver_ok(v);
	cr_expect(legacy_request(v, &r));
	cr_expect_eq(rig_last_msi(v->rig).data, 1);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_legacy_disk_shows_its_size)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;
	uint16_t p;

	vdrv_drive(r, "d0", NULL, 1 << 20);
	v = vdrv_attach(r, "{'driver': 'virtio-blk-pci-transitional', 'drive': 'd0'}", VDRV_SPLIT);
	p = port(v);
	cr_expect_eq(rig_pio_read(r, p + 20, 4), 2048);
	vdrv_msix(v);
	cr_expect_eq(rig_pio_read(r, p + 24, 4), 2048);
	for (unsigned int i = 0; i < 4; i++)	/* any width (s4.1.4.10) */
		cr_expect_eq(rig_pio_read(r, p + 24 + i, 1), 2048 >> 8 * i & 0xff);
	vdrv_destroy(v);
}

Test(virtio_pci, test_virtio_pci_legacy_registers_survive_any_access)
{
	struct vdrv *v = rng(", 'disable-legacy': 'off'");
	struct drv_ring r;

	for (uint16_t off = 0; off < 32; off++)
		for (unsigned int width = 1; width <= 4; width *= 2)
			for (int i = 0; i < 3; i++) {
				rig_pio_write(v->rig, port(v) + off, width,
					      (uint64_t[]){ 0, 1, UINT64_MAX }[i]);
				rig_pio_read(v->rig, port(v) + off, width);
			}
	rig_turn(v->rig);
	legacy_start(v, &r);
	legacy_driver_ok(v);
	cr_expect(legacy_request(v, &r));
	vdrv_destroy(v);
}
