/*
 * tests/fuzz/fuzz_virtq.c - rings made of fuzz bytes against virtq, both formats.
 *
 * Input: byte 0 flags (1 packed, 2 EVENT_IDX, 4 INDIRECT), byte 1 queue size,
 * bytes 2-3 the length of the memory image at guest address 0, the image, then
 * steps. A step's low three bits say what to do, its other five are its operand.
 * The ring parts lie at fixed addresses inside the image.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/virtq.h"
#include "vmm/base/util.h"

#define RAM	0x4000u
#define DESC	0x0000u
#define DRIVER	0x1000u		/* available ring or driver event */
#define DEVICE	0x1800u
#define IOV	6
#define HELD	1024
#define STEPS_MAX 4096

static struct gmem *gm;
static uint8_t *ram;

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* RAM in two regions whose host addresses do not follow each other, and a ROM
 * behind them. */
static void set_up(void)
{
	uint8_t *host;
	int fd;

	gm = gmem_create();
	check(gmem_alloc(gm, "fuzz", RAM + 0x1000, NULL, &fd, &host, NULL) == 0);
	ram = host;
	check(gmem_add_region(gm, 0, RAM / 2, host, fd, 0, false, NULL) == 0);
	check(gmem_add_region(gm, RAM / 2, RAM / 2, host + RAM / 2 + 0x1000, fd,
			      RAM / 2 + 0x1000, false, NULL) == 0);
	check(gmem_add_region(gm, RAM, 0x1000, host + RAM / 2, fd, RAM / 2, true, NULL) == 0);
}

static void put_ram(uint32_t at, uint8_t val)
{
	if (at < RAM)
		ram[at < RAM / 2 ? at : at + 0x1000] = val;
}

/* What a chain promises: bounded, inside RAM, sums that agree. */
static void check_chain(const struct virtq_chain *c)
{
	uint64_t out = 0, in = 0;
	int i;

	check(c->out_n + c->in_n <= IOV);
	for (i = 0; i < c->out_n + c->in_n; i++) {
		const uint8_t *p = c->iov[i].iov_base;
		size_t n = c->iov[i].iov_len;

		check(n > 0 && p >= ram && p + n <= ram + RAM + 0x1000);
		if (i < c->out_n) {
			out += n;
			continue;
		}
		in += n;	/* the ROM's page in the middle is not written */
		check(p + n <= ram + RAM / 2 || p >= ram + RAM / 2 + 0x1000);
	}
	check(out == c->out_bytes && in == c->in_bytes);
}

struct run {
	struct virtq *q;
	struct virtq_chain *held[HELD];
	int count;
	bool bad;
};

static void pop(struct run *r)
{
	struct virtq_chain *c;
	int ret;

	if (r->bad)		/* a device stops at the first bad chain */
		return;
	ret = virtq_pop(r->q, &c);
	check(ret == 0 || ret == 1 || ret == -EBADMSG);
	check((ret == 1) == (c != NULL));
	if (c) {
		check_chain(c);
		r->held[r->count++] = c;
	}
	r->bad = ret < 0;
	check(virtq_inflight(r->q) == r->count && r->count <= virtq_size(r->q));
}

static void give_back(struct run *r, uint8_t which, bool push)
{
	struct virtq_chain *c;
	uint8_t byte = which;

	if (!r->count)
		return;
	which %= r->count;
	c = r->held[which];
	r->held[which] = r->held[--r->count];
	chain_write(c, 0, &byte, 1);
	if (push)
		virtq_push(r->q, c, MIN(c->in_bytes, 1u));
	else
		virtq_drop(r->q, c);
}

static void step(struct run *r, uint8_t op, const uint8_t **data, size_t *size)
{
	switch (op & 7) {
	case 0:
	case 1:
		pop(r);
		break;
	case 2:
	case 3:
		give_back(r, op >> 3, true);
		break;
	case 4:
		give_back(r, op >> 3, false);
		break;
	case 5:
		virtq_flush(r->q);
		break;
	case 6:
		virtq_disable_kick(r->q);
		virtq_enable_kick(r->q);
		break;
	case 7:		/* the driver writes a byte: address, value */
		if (*size < 3)
			break;
		put_ram(get_le16(*data), (*data)[2]);
		*data += 3;
		*size -= 3;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtq_setup s = { .iov_max = IOV, .priv_bytes = 8, .desc = gpa(DESC),
				 .driver = gpa(DRIVER), .device = gpa(DEVICE) };
	struct run r = { NULL };
	uint32_t image, i;
	int steps;

	if (size < 4)
		return 0;
	if (!gm)
		set_up();
	s.packed = data[0] & 1;
	s.event_idx = data[0] & 2;
	s.indirect = data[0] & 4;
	s.size = data[1];
	image = MIN((size_t)get_le16(data + 2), size - 4);
	data += 4;
	size -= 4;
	memset(ram, 0, RAM + 0x1000);
	for (i = 0; i < image; i++)
		put_ram(i, data[i]);
	data += image;
	size -= image;
	if (virtq_start(&r.q, gm, &s, NULL) < 0)
		return 0;
	for (steps = 0; size && steps < STEPS_MAX; steps++) {
		size--;
		step(&r, *data++, &data, &size);
	}
	virtq_flush(r.q);
	while (r.count)
		give_back(&r, 0, false);
	virtq_stop(r.q);
	return 0;
}
