/*
 * pci/internal.h - what the files of pci/ share and devices must not use.
 */
#ifndef PCI_INTERNAL_H
#define PCI_INTERNAL_H

#include "pci/pci.h"

/* ---- config.c: the byte engine ---- */

void pci_config_create(struct pci_dev *p, bool bridge);
void pci_config_destroy(struct pci_dev *p);
/* Make the masks cover @bytes. */
void pci_config_grow(struct pci_dev *p, uint16_t bytes);
/* Remember the present contents as those after a reset; go back to them. */
void pci_config_snapshot(struct pci_dev *p);
void pci_config_restore(struct pci_dev *p);
/* Guest accesses within one function; device lock held (or nobody else
 * there). @off + @len <= PCI_CFG_SIZE, @len 1..4. */
uint32_t pci_config_load(struct pci_dev *p, uint16_t off, unsigned int len);
void pci_config_store(struct pci_dev *p, uint16_t off, unsigned int len, uint32_t val);
/* Atomic reads and writes of the device's own, past the masks. Any thread. */
uint8_t pci_peek8(const struct pci_dev *p, uint16_t off);
void pci_poke8(struct pci_dev *p, uint16_t off, uint8_t val);
void pci_poke16(struct pci_dev *p, uint16_t off, uint16_t val);
void pci_poke32(struct pci_dev *p, uint16_t off, uint32_t val);
/* Set or clear @bits of one byte that other threads change as well. */
void pci_flip8(struct pci_dev *p, uint16_t off, uint8_t bits, bool on);

/* ---- bar.c ---- */

/* Map and unmap the BARs of @p as its registers and the bridges above say now.
 * Config lock and device lock held, or vCPUs not running. */
void pci_bars_update(struct pci_dev *p);
/* The same for everything behind the bridge @p; takes the devices' locks. */
void pci_bars_update_behind(struct pci_dev *p);
void pci_bars_unmap(struct pci_dev *p);
uint64_t pci_bar_value(const struct pci_dev *p, int n);
enum pci_space pci_bar_space(const struct pci_dev *p, int n);
void pci_bar_assign(struct pci_dev *p, int n, uint64_t addr);

/* ---- express.c ---- */

bool pci_in_d0(const struct pci_dev *p);
/* A port's or endpoint's link: @speed 1..4 (2.5 to 16 GT/s), @width lanes. */
void pci_express_link(struct pci_dev *p, uint8_t speed, uint8_t width);
/* The upstream end of a link takes over its port's speed and width. */
void pci_express_follow_port(struct pci_dev *p);
bool pci_express_is_port(const struct pci_dev *p);	/* root or downstream */
bool pci_express_link_up(const struct pci_dev *p);
/* What firmware sets: both ends of a link run from one clock. */
void pci_express_common_clock(struct pci_dev *p);
void pci_aer_add(struct pci_dev *p);
void pci_acs_add(struct pci_dev *p);
void pci_ssvid_add(struct pci_dev *p, uint16_t vendor, uint16_t device);

/* ---- slot.c ---- */

/* The port, whose bus exists, has a slot with physical number @number. */
void pci_slot_add(struct pci_dev *port, uint16_t number, bool hotplug);
uint16_t pci_slot_number(const struct pci_dev *port);
/* Link and presence bits of a port follow whether something is behind it;
 * @tell: the guest is to hear of a change. Config lock. */
void pci_slot_presence(struct pci_dev *port, bool present, bool tell);
bool pci_slot_link_up(const struct pci_dev *port);
/* After a reset, and after enumeration: no changes to report. Config lock, or
 * no vCPU runs. Does nothing for functions without a hot-plug slot. */
void pci_slot_settle(struct pci_dev *port);
/* The guest wrote the command register of @p. Config lock. */
void pci_slot_switched_on(struct pci_dev *p);
extern const struct dev_plug_ops pci_plug_ops;

/* ---- class.c ---- */

/* Take @p away from the guest: config space, BARs, link. Main loop. */
void pci_hide(struct pci_dev *p, bool tell);

/* ---- intx.c, msi.c, msix.c ---- */

/* Wire the pin to its line, once bus and slot are known. */
void pci_intx_wire(struct pci_dev *p);
void pci_intx_unwire(struct pci_dev *p);
/* The command register changed. Device lock. */
void pci_intx_update(struct pci_dev *p);
void msi_update(struct pci_dev *p);
void msix_update(struct pci_dev *p);
void msix_reset(struct pci_dev *p);

/* ---- bus.c ---- */

/* Note which bus answers to which number. Config lock. */
void pci_routes_update(struct pci_root *r);
/* Bus number and devfn as the bridges above are numbered now. Any thread. */
uint16_t pci_rid(const struct pci_dev *p);

/* ---- place.c ---- */

int pci_place(struct pci_dev *p, const struct pci_ops *ops, struct err *e);

/* ---- ports.c: which port is free ---- */

/* The first hot-plug port, in the order of creation, that holds nothing. NULL:
 * none. Main loop. */
struct pci_bus *pci_port_free(const struct pci_root *r);
/* All ports in that order: the bus behind the one after @after (NULL: first). */
struct pci_bus *pci_port_next(const struct pci_root *r, const struct pci_bus *after);
/*
 * Chassis and slot number of a port: properties that the user gave or not (then
 * they are filled in), checked against the ports that are there already.
 */
#define PCI_SLOT_MAX 8191	/* PCIe s7.5.3.9: 13 bits */
#define PCI_CHASSIS_PROPS(st, c)						\
	PROP_U8(st, c.chassis, "chassis", 0, 255, 0,				\
		"number of the chassis its slot is in; default: one more than the last"), \
	PROP_U16(st, c.slot, "slot", 0, PCI_SLOT_MAX, 0,			\
		 "physical slot number, unique in the chassis; default: the chassis", \
		 .flags = PROP_GUEST)
int pci_chassis_choose(struct pci_dev *port, struct pci_chassis *c, struct err *e);
/* Some function on @b, NULL: it is empty. */
struct pci_dev *pci_port_holds(const struct pci_bus *b);
/* "rp1 holds disk0, rp2 holds net0" into @buf. */
const char *pci_ports_text(const struct pci_root *r, char *buf, size_t len);

/* ---- bridge.c ---- */

/* Does bridge @p forward [addr, addr+size) of memory or I/O downwards? */
bool pci_bridge_forwards(const struct pci_dev *p, bool io, uint64_t addr, uint64_t size);
/* Warn where what is on bus @b needs more than its bridge forwards: guests seldom
 * move windows. */
void pci_bridge_check_room(const struct pci_bus *b);
/* Implement the I/O window of @p (NULL: nothing) and all bridges above. */
void pci_bridge_enable_io(struct pci_dev *p);

/* ---- eject.c ---- */

void pci_eject_request(struct pci_root *r, struct pci_bus *b);
/* Number the hot-plug slots for the guest. Config lock. */
void pci_eject_count(struct pci_root *r);

/* ---- host.c ---- */

extern const struct dev_type pci_host_bridge_type;

#endif
