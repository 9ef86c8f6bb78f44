/*
 * tests/fuzz/fuzz_virtio_blk.c - a driver of fuzz bytes against virtio-blk on a
 * small disk. See lib_virtio_fuzz.h; head() takes type (1) and sector (3),
 * framed() the same and the number of sectors (1).
 */
#include "tests/fuzz/lib_virtio_fuzz.h"
#include "vmm/base/util.h"

#define DISK	(64u * 1024)

static struct vdrv *create(void)
{
	struct rig *r = vdrv_rig(NULL);

	vdrv_drive(r, "d0", NULL, DISK);
	return vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'drive': 'd0', 'packed': true}", 0);
}

static uint64_t refuse(uint8_t flags)
{
	return (flags & 4 ? BIT64(VIRTIO_BLK_F_FLUSH) : 0) |
	       (flags & 8 ? BIT64(VIRTIO_BLK_F_CONFIG_WCE) : 0);
}

static uint64_t head(struct vfuzz *f)
{
	struct virtio_blk_outhdr h = { .type = htole32(vfuzz_take(f, 1)) };

	h.sector = htole64(vfuzz_take(f, 3));
	rig_mem_write(f->v->rig, VFUZZ_HEADER, &h, sizeof(h));
	return VFUZZ_HEADER;
}

static int framed(struct vfuzz *f, struct drv_buf *b)
{
	uint8_t type = f->left ? f->p[0] : 0;

	b[0] = (struct drv_buf){ head(f), sizeof(struct virtio_blk_outhdr), false };
	b[1] = (struct drv_buf){ VDRV_DATA, 512 * vfuzz_take(f, 1),
				 type != VIRTIO_BLK_T_OUT && type < VIRTIO_BLK_T_DISCARD };
	b[2] = (struct drv_buf){ VFUZZ_STATUS, 1, true };
	return 3;
}

static const uint8_t read_sector_0[] = { VIRTIO_BLK_T_IN, 0, 0, 0, 1 };

static const struct vfuzz_device blk = {
	create, refuse, head, framed, read_sector_0, sizeof(read_sector_0),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return vfuzz_run(&blk, data, size);
}
