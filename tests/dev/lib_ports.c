/*
 * tests/dev/lib_ports.c - hostile accesses to fixed I/O ports.
 */
#include "tests/dev/lib_ports.h"

#include "vmm/base/util.h"

void ports_hostile(struct rig *r, uint16_t first, uint16_t count)
{
	static const uint64_t patterns[] = {
		0, UINT64_MAX, 0xaaaaaaaaaaaaaaaa, 0x5555555555555555, 0x0102040810204080,
	};
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	for (size_t w = 0; w < ARRAY_LEN(widths); w++) {
		int from = MAX((int)first - (int)widths[w] + 1, 0);

		for (int p = from; p < first + count; p++) {
			rig_pio_read(r, (uint16_t)p, widths[w]);
			for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
				rig_pio_write(r, (uint16_t)p, widths[w], patterns[i]);
				rig_pio_read(r, (uint16_t)p, widths[w]);
			}
		}
	}
	rig_turn(r);
}
