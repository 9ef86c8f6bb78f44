/*
 * tests/fuzz/fuzz_virtio_rng.c - a driver of fuzz bytes against virtio-rng. See
 * lib_virtio_fuzz.h; framed() takes the length of its buffer (1).
 */
#include "tests/fuzz/lib_virtio_fuzz.h"

static struct vdrv *create(void)
{
	return vdrv_create("{'driver': 'virtio-rng-pci', 'packed': true}", 0);
}

static uint64_t head(struct vfuzz *f)
{
	return VDRV_DATA;
}

static int framed(struct vfuzz *f, struct drv_buf *b)
{
	b[0] = (struct drv_buf){ VDRV_DATA, vfuzz_take(f, 1), true };
	return 1;
}

static const uint8_t valid[] = { 64 };

static const struct vfuzz_device rng = { create, NULL, head, framed, valid, sizeof(valid) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return vfuzz_run(&rng, data, size);
}
