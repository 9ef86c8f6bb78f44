/*
 * tests/dev/lib_virtio.c - a small virtio driver for device tests.
 */
#include "tests/dev/lib_virtio.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/block.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"

#define UNTIL_NS	(10 * NS_PER_SEC)
#define MSI_ADDR	0xfee00000u

extern const struct dev_type virtio_blk_type, virtio_blk_modern_type,
	virtio_blk_transitional_type, virtio_rng_type, virtio_rng_modern_type,
	virtio_rng_transitional_type, pcie_root_port_type, pcie_pci_bridge_type,
	virtio_serial_type, virtio_serial_modern_type, virtio_serial_transitional_type,
	virtconsole_type, virtserialport_type;

static const struct dev_type *const all_types[] = {
	&virtio_blk_type, &virtio_blk_modern_type, &virtio_blk_transitional_type,
	&virtio_rng_type, &virtio_rng_modern_type, &virtio_rng_transitional_type,
	&pcie_root_port_type, &pcie_pci_bridge_type, &virtio_serial_type,
	&virtio_serial_modern_type, &virtio_serial_transitional_type, &virtconsole_type,
	&virtserialport_type, NULL
};

/* ---- VM ---- */

static void machine_fini(struct vm *vm)
{
	pci_root_destroy(vm->pci);
	block_graph_destroy(vm->blocks);
	char_set_destroy(vm->chars);
}

static int machine_boot(struct vm *vm, struct err *e)
{
	return pci_enumerate(vm->pci, e);
}

static const struct vm_machine_ops machine = {
	.name = "test", .boot = machine_boot, .fini = machine_fini,
};

static uint32_t intx_gsi(struct pci_root *r, uint8_t slot, uint8_t pin)
{
	return 16 + (slot + pin) % 4;
}

struct rig *vdrv_rig(const struct dev_type *const *types)
{
	struct pci_windows w = {
		.ecam_base = 0xb0000000, .buses = 15,
		.mmio32_base = 0xc0000000, .mmio32_size = 0x10000000,
		.mmio64_base = 0x800000000, .mmio64_size = 0x800000000,
		.pio_base = 0xc000, .pio_size = 0x3000,
	};
	struct rig *r = rig_create(types ? types : all_types, VDRV_RAM);
	struct err e = ERR_INIT;

	r->vm->blocks = block_graph_create(r->loop);
	r->vm->chars = char_set_create(r->loop);
	r->vm->machine = &machine;
	cr_assert_eq(pci_root_create(r->vm, &w, true, &e), 0, "%s", e.text);
	r->vm->pci->intx_gsi = intx_gsi;
	return r;
}

void vdrv_drive(struct rig *r, const char *id, const char *options, uint64_t bytes)
{
	char path[] = "/tmp/roost-test-XXXXXX";
	struct err e = ERR_INIT;
	int fd = mkstemp(path);
	json_t *args;

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, bytes), 0);
	close(fd);
	args = json_pack("{s:s, s:s, s:s, s:s}", "file", path, "format", "raw", "if", "none",
			 "id", id);
	if (options) {
		json_t *more = json_loads(options, 0, NULL);

		cr_assert_not_null(more, "%s", options);
		json_object_update(args, more);
		json_decref(more);
	}
	cr_assert_eq(block_drive_add(r->vm->blocks, args, &e), 0, "%s", e.text);
	json_decref(args);
	unlink(path);
}

/* ---- PCI ---- */

uint32_t vdrv_pci_read(struct vdrv *v, uint16_t off, unsigned int width)
{
	return pci_config_read(v->rig->vm->pci, v->bdf, off, width);
}

void vdrv_pci_write(struct vdrv *v, uint16_t off, unsigned int width, uint32_t val)
{
	pci_config_write(v->rig->vm->pci, v->bdf, off, width, val);
}

static uint64_t bar_address(struct vdrv *v, int bar)
{
	uint32_t low = vdrv_pci_read(v, PCI_BASE_ADDRESS_0 + 4 * bar, 4);
	uint64_t high = 0;

	if (low & PCI_BASE_ADDRESS_MEM_TYPE_64)
		high = vdrv_pci_read(v, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4);
	return high << 32 | (low & PCI_BASE_ADDRESS_MEM_MASK);
}

static void found_vendor_cap(struct vdrv *v, uint16_t at)
{
	uint64_t where = bar_address(v, vdrv_pci_read(v, at + VIRTIO_PCI_CAP_BAR, 1)) +
			 vdrv_pci_read(v, at + VIRTIO_PCI_CAP_OFFSET, 4);

	switch (vdrv_pci_read(v, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		v->common = where;
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		v->isr = where;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		v->config = where;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		v->notify = where;
		v->notify_mult = vdrv_pci_read(v, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		break;
	case VIRTIO_PCI_CAP_PCI_CFG:
		v->window_cap = at;
		break;
	}
}

static void find_caps(struct vdrv *v)
{
	uint16_t at = vdrv_pci_read(v, PCI_CAPABILITY_LIST, 1);

	for (; at; at = vdrv_pci_read(v, at + 1, 1)) {
		uint8_t id = vdrv_pci_read(v, at, 1);

		if (id == PCI_CAP_ID_VNDR) {
			found_vendor_cap(v, at);
		} else if (id == PCI_CAP_ID_MSIX) {
			v->msix_cap = at;
			v->msix_table = bar_address(v, vdrv_pci_read(v, at + PCI_MSIX_TABLE, 1));
		}
	}
}

struct vdrv *vdrv_attach(struct rig *r, const char *json, int flags)
{
	struct vdrv *v = xcalloc(1, sizeof(*v));
	struct err e = ERR_INIT;

	v->rig = r;
	v->flags = flags;
	v->rings_at = VDRV_RINGS;
	v->dev = rig_device(r, json);
	v->v = DEV_OF(v->dev, struct virtio_dev);
	cr_assert_eq(pci_enumerate(r->vm->pci, &e), 0, "%s", e.text);
	v->bdf = v->v->pci.devfn;
	if (v->v->pci.bus->bridge)
		v->bdf |= (uint16_t)(v->v->pci.bus->bridge->config[PCI_SECONDARY_BUS] << 8);
	vdrv_pci_write(v, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO |
		       PCI_COMMAND_MASTER);
	find_caps(v);
	return v;
}

struct vdrv *vdrv_create(const char *json, int flags)
{
	return vdrv_attach(vdrv_rig(NULL), json, flags);
}

void vdrv_destroy(struct vdrv *v)
{
	rig_destroy(v->rig);
	free(v);
}

void vdrv_msix(struct vdrv *v)
{
	uint16_t n = (vdrv_pci_read(v, v->msix_cap + PCI_MSIX_FLAGS, 2) &
		      PCI_MSIX_FLAGS_QSIZE) + 1, i;

	for (i = 0; i < n; i++) {
		uint64_t entry = v->msix_table + PCI_MSIX_ENTRY_SIZE * i;

		rig_mmio_write(v->rig, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, MSI_ADDR);
		rig_mmio_write(v->rig, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
		rig_mmio_write(v->rig, entry + PCI_MSIX_ENTRY_DATA, 4, i);
		rig_mmio_write(v->rig, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
	}
	vdrv_pci_write(v, v->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vdrv_write(v, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (i = 0; i < v->queues; i++) {
		vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		vdrv_write(v, VIRTIO_PCI_COMMON_Q_MSIX, 2, i + 1);
	}
}

/* ---- registers ---- */

uint64_t vdrv_read(struct vdrv *v, uint32_t off, unsigned int width)
{
	return rig_mmio_read(v->rig, v->common + off, width);
}

void vdrv_write(struct vdrv *v, uint32_t off, unsigned int width, uint64_t val)
{
	rig_mmio_write(v->rig, v->common + off, width, val);
}

uint8_t vdrv_status(struct vdrv *v)
{
	return vdrv_read(v, VIRTIO_PCI_COMMON_STATUS, 1);
}

void vdrv_set_status(struct vdrv *v, uint8_t bits)
{
	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, vdrv_status(v) | bits);
}

uint64_t vdrv_device_features(struct vdrv *v)
{
	uint64_t low, high;

	vdrv_write(v, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	low = vdrv_read(v, VIRTIO_PCI_COMMON_DF, 4);
	vdrv_write(v, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	high = vdrv_read(v, VIRTIO_PCI_COMMON_DF, 4);
	return high << 32 | low;
}

void vdrv_driver_features(struct vdrv *v, uint64_t f)
{
	vdrv_write(v, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	vdrv_write(v, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)f);
	vdrv_write(v, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	vdrv_write(v, VIRTIO_PCI_COMMON_GF, 4, f >> 32);
}

/* ---- steps ---- */

void vdrv_reset(struct vdrv *v)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	vdrv_write(v, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	while (vdrv_status(v) && clock_ns() < end)
		loop_turn(v->rig->loop, NS_PER_MS);
	cr_assert_eq(vdrv_status(v), 0, "the device does not finish its reset");
}

bool vdrv_negotiate(struct vdrv *v)
{
	uint64_t f = vdrv_device_features(v) & ~v->refuse;

	if (!(v->flags & VDRV_PACKED))
		f &= ~BIT64(VIRTIO_F_RING_PACKED);
	if (!(v->flags & VDRV_EVENT_IDX))
		f &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	vdrv_set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER);
	vdrv_driver_features(v, f);
	vdrv_set_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
	v->features = f;
	v->queues = MIN(vdrv_read(v, VIRTIO_PCI_COMMON_NUMQ, 2), (uint64_t)VDRV_QUEUES);
	return vdrv_status(v) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write64(struct vdrv *v, uint32_t off, uint64_t val)
{
	vdrv_write(v, off, 4, (uint32_t)val);
	vdrv_write(v, off + 4, 4, val >> 32);
}

void vdrv_queue(struct vdrv *v, uint16_t i, uint16_t size)
{
	struct drv_ring *r = &v->ring[i];

	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
	if (!size)
		size = vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	drv_ring_init(r, v->rig->mem, v->rings_at + i * (uint64_t)DRV_RING_BYTES, size,
		      v->features & BIT64(VIRTIO_F_RING_PACKED),
		      v->features & BIT64(VIRTIO_RING_F_EVENT_IDX));
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	write64(v, VIRTIO_PCI_COMMON_Q_DESCLO, r->desc);
	write64(v, VIRTIO_PCI_COMMON_Q_AVAILLO, r->driver);
	write64(v, VIRTIO_PCI_COMMON_Q_USEDLO, r->device);
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

void vdrv_start(struct vdrv *v)
{
	uint16_t i;

	vdrv_reset(v);
	cr_assert(vdrv_negotiate(v));
	for (i = 0; i < v->queues; i++)
		vdrv_queue(v, i, 0);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	rig_turn(v->rig);
}

void vdrv_kick(struct vdrv *v, uint16_t i)
{
	rig_mmio_write(v->rig, v->notify + v->notify_mult * i, 2, i);
}

static void nothing(void *arg)
{
}

/* A kick that was written before reaches another thread's loop within a few of
 * its turns; a millisecond covers the way from the eventfd to it. */
void vdrv_settle(struct vdrv *v)
{
	int i;

	rig_turn(v->rig);
	if (v->v->queue[0].loop == v->rig->loop)
		return;
	for (i = 0; i < 4; i++) {
		usleep(1000);
		loop_call(v->v->queue[0].loop, nothing, NULL);
	}
	rig_turn(v->rig);
}

bool vdrv_wait_used(struct vdrv *v, uint16_t i, uint16_t *id, uint32_t *len)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	vdrv_kick(v, i);
	while (clock_ns() < end) {
		if (drv_used(&v->ring[i], id, len))
			return true;
		loop_turn(v->rig->loop, NS_PER_MS);
	}
	return false;
}
