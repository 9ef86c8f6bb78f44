/*
 * pci/bridge.h - what all PCI-to-PCI bridges share (ports, PCIe-PCI bridge).
 */
#ifndef PCI_BRIDGE_H
#define PCI_BRIDGE_H

#include "pci/internal.h"

/* First member of every bridge's struct. */
struct pci_bridge {
	struct pci_dev pci;
	/* properties; sizes in bytes. What is set aside behind the bridge for
	 * devices that come later; explicit ones are never cut down. */
	uint32_t bus_reserve;		/* bus numbers beside its own */
	uint64_t mem_reserve, pref64_reserve, io_reserve;
};

#define PCI_BRIDGE_MEM_RESERVE	(2 * MIB)
#define PCI_BRIDGE_PREF_RESERVE	(32 * MIB)
#define PCI_BRIDGE_PROPS(st, b)							\
	PROP_U32(st, b.bus_reserve, "bus-reserve", 0, 255, 0,			\
		 "bus numbers kept free behind the bridge"),			\
	PROP_SIZE(st, b.mem_reserve, "mem-reserve", 0, 2 * GIB,			\
		  PCI_BRIDGE_MEM_RESERVE, "least size of the 32-bit memory window"), \
	PROP_SIZE(st, b.pref64_reserve, "pref64-reserve", 0, 1ull << 46,	\
		  PCI_BRIDGE_PREF_RESERVE,					\
		  "least size of the 64-bit prefetchable window"),		\
	PROP_SIZE(st, b.io_reserve, "io-reserve", 0, 0xf000, 0,			\
		  "least size of the I/O window; 0: none unless a device needs it")

/* Registers of header type 1 and the bus behind, which gets the device's path
 * as its name. @express: that bus takes PCIe functions. */
int pci_bridge_init(struct pci_bridge *b, bool express, struct err *e);
/* Close the window (@size 0) or open it over [base, base+size). */
void pci_bridge_set_window(struct pci_bridge *b, enum pci_space space,
			   uint64_t base, uint64_t size);

/* What the window's registers say: base and last byte; closed: base > last. */
void pci_bridge_window(const struct pci_dev *p, enum pci_space space, uint64_t *base,
		       uint64_t *last);

#endif
