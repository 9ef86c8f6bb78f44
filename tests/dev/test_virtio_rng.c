/*
 * virtio-rng: what it gives, its limit, and the hostile suite.
 */
#include <criterion/criterion.h>

#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define RNG	"{'driver': 'virtio-rng-pci', 'id': 'rng0'}"

static struct vdrv *create(int flags)
{
	return vdrv_create("{'driver': 'virtio-rng-pci', 'id': 'rng0', 'packed': true}", flags);
}

static int request(struct drv_buf *b)
{
	b[0] = (struct drv_buf){ VDRV_DATA, 64, 1 };
	return 1;
}

static const struct hostile hostile_rng = { "virtio-rng", create, request };

HOSTILE_SUITE(virtio_rng, hostile_rng)

Test(virtio_rng, test_virtio_rng_identity_is_the_specifications)
{
	struct vdrv *v = vdrv_create(RNG, VDRV_SPLIT);

	cr_expect_eq(vdrv_pci_read(v, PCI_VENDOR_ID, 2), 0x1af4);
	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1044);
	cr_expect_eq(vdrv_pci_read(v, PCI_REVISION_ID, 1), 1);
	vdrv_destroy(v);
}

Test(virtio_rng, test_virtio_rng_request_gets_random_bytes)
{
	struct vdrv *v = vdrv_create(RNG, VDRV_SPLIT);
	struct drv_buf b[] = { { VDRV_DATA, 10, 1 }, { VDRV_DATA + 100, 22, 1 } };
	uint8_t zero[22] = { 0 }, got[22];
	uint16_t id;
	uint32_t len;

	vdrv_start(v);
	drv_add(&v->ring[0], b, 2);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(len, 32);
	rig_mem_read(v->rig, VDRV_DATA + 100, got, sizeof(got));
	cr_expect_arr_neq(got, zero, sizeof(got));	/* false in one of 2^176 runs */
	rig_mem_read(v->rig, VDRV_DATA + 10, got, sizeof(got));
	cr_expect_arr_eq(got, zero, sizeof(got));
	vdrv_destroy(v);
}

Test(virtio_rng, test_virtio_rng_readable_buffer_gives_nothing)
{
	struct vdrv *v = vdrv_create(RNG, VDRV_SPLIT);
	struct drv_buf b = { VDRV_DATA, 64, 0 };
	uint16_t id;
	uint32_t len;

	vdrv_start(v);
	drv_add(&v->ring[0], &b, 1);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(len, 0);
	cr_expect_eq(rig_mem_get(v->rig, VDRV_DATA, 8), 0);
	vdrv_destroy(v);
}

Test(virtio_rng, test_virtio_rng_large_buffer_is_filled_in_part)
{
	struct vdrv *v = vdrv_create(RNG, VDRV_SPLIT);
	struct drv_buf b = { VDRV_DATA, 1 << 20, 1 };
	uint16_t id;
	uint32_t len;

	vdrv_start(v);
	drv_add(&v->ring[0], &b, 1);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(len, 4096);
	cr_expect_eq(rig_mem_get(v->rig, VDRV_DATA + 4096, 8), 0);
	vdrv_destroy(v);
}

Test(virtio_rng, test_virtio_rng_limit_holds_until_the_next_period)
{
	struct vdrv *v = vdrv_create("{'driver': 'virtio-rng-pci', 'max-bytes': 100, "
				     "'period': 200}", VDRV_SPLIT);
	struct drv_buf b = { VDRV_DATA, 64, 1 };
	uint64_t start = clock_ns();
	uint16_t id;
	uint32_t len, sum = 0;

	vdrv_start(v);
	for (int i = 0; i < 3; i++)
		drv_add(&v->ring[0], &b, 1);
	vdrv_kick(v, 0);
	rig_turn(v->rig);
	while (drv_used(&v->ring[0], &id, &len))
		sum += len;
	cr_expect_eq(sum, 100);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(len, 64);
	cr_expect_geq(clock_ns() - start, 200 * NS_PER_MS);
	vdrv_destroy(v);
}

Test(virtio_rng, test_virtio_rng_max_bytes_zero_is_refused)
{
	struct rig *r = vdrv_rig(NULL);
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, "{'driver': 'virtio-rng-pci', 'max-bytes': 0}", &e), 0);
	cr_expect(strstr(e.text, "max-bytes"), "%s", e.text);
	rig_destroy(r);
}
