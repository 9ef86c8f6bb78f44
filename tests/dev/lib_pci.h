/*
 * tests/dev/lib_pci.h - a rig with a root complex, and a PCI function whose
 * BARs and interrupts the test chooses.
 *
 *	struct rig *r = pci_rig();
 *	struct tpci *t = pci_fn(r, "'id': 'f', 'addr': '3', 'mem32': 4096");
 *	ecam_write(r, BDF(0, 3, 0), PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
 *	pci_rig_end(r);
 */
#ifndef TESTS_DEV_LIB_PCI_H
#define TESTS_DEV_LIB_PCI_H

#include "pci/pci.h"
#include "tests/dev/lib_rig.h"

#define BDF(bus, slot, fn)	((uint16_t)((bus) << 8 | (slot) << 3 | (fn)))

#define T_ECAM		0xb0000000ull
#define T_MEM32		0xc0000000ull
#define T_MEM32_SIZE	0x3ec00000ull
#define T_MEM64		0x800000000ull
#define T_MEM64_SIZE	0x8000000000ull		/* 512 GiB */
#define T_PIO		0x1000u
#define T_PIO_SIZE	0xf000u
#define T_GSI		16u			/* of pin 0 in slot 0 */

/* Which BAR each size property makes. */
enum { T_BAR_MEM32 = 0, T_BAR_MSIX = 1, T_BAR_64 = 2, T_BAR_IO = 4, T_BAR_MEM32_B = 5 };

struct tpci {
	struct pci_dev pci;
	/* properties; a size of 0 leaves the BAR out */
	uint64_t mem32, mem32b, pref64, mem64, io;
	uint32_t msix, msi, pin;
	bool express;		/* PCIe and power management capabilities */
	/* what happened */
	uint32_t moves[PCI_BARS];
	uint64_t seen_off, seen_val;
	uint32_t writes;
};

extern const struct dev_type *const pci_test_types[];
extern const struct dev_type tpci_type, tpci_conventional_type, tpci_express_type;

/* A rig, a root complex as on the q35 machine, interrupts on 16 + (slot + pin)
 * mod 8. _with: other windows. */
struct rig *pci_rig(void);
struct rig *pci_rig_with(const struct pci_windows *w);
struct pci_windows pci_test_windows(void);
void pci_rig_end(struct rig *r);

/* A "tpci" with these members in its description; it must come to be. */
struct tpci *pci_fn(struct rig *r, const char *members);
struct pci_dev *pci_port(struct rig *r, const char *members);

uint64_t ecam_read(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width);
void ecam_write(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width, uint64_t val);
uint32_t cf8_read(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width);
void cf8_write(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width, uint32_t val);

/* Offset of a capability as a driver finds it, 0: none. Bounded walks. */
uint16_t find_cap(struct rig *r, uint16_t bdf, uint8_t id);
uint16_t find_ecap(struct rig *r, uint16_t bdf, uint16_t id);

/* pci_enumerate(); it must succeed. */
void pci_enumerate_ok(struct rig *r);

#endif
