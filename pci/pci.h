/*
 * pci/pci.h - PCI and PCIe functions: config space, BARs, buses, interrupts.
 *
 * Spec: PCI Local Bus 3.0, PCIe Base 5.0.
 *
 * Config space is plain bytes: one page-aligned 4 KiB page per function, with
 * a writable and a write-1-to-clear mask (all else is read-only). Reads have no
 * side effects by rule, so a read is a copy, and the page can later be shown to
 * the guest read-only without exits. Writes go through the masks byte by byte,
 * then to the hooks of those who registered for the bytes (BARs, command, MSI,
 * bridge windows, device hooks).
 *
 * Threads: config accesses come from vCPU threads under the root's config lock
 * (struct pci_root), then the function's device lock: order config lock, device
 * lock, bus, msi/msix/intx (leaves of this folder), irq. No device callback may
 * call pci_config_*(). Topology changes only on the main loop with the config
 * lock held. Run-time stores to config bytes are atomic, because other threads
 * look at the command register and set the interrupt status bit.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/irq.h"

#define PCI_CFG_SIZE	4096	/* PCIe Base 7.2.2: extended config space */
#define PCI_BARS	6
#define PCI_CONFIG_HOOKS 8
#define PCI_NUMA_NONE	0xffff

struct pci_dev;
struct pci_bus;
struct pci_root;
struct msix;
struct msi;

struct pci_bar {
	struct bus_win win;	/* size 0: BAR not present */
	uint8_t flags;		/* PCI_BASE_ADDRESS_* type bits */
	uint64_t addr;		/* where it is mapped; valid if mapped */
	bool mapped;
	/* Told when the BAR appears at, or leaves, an address (ioeventfds
	 * follow it). Device lock held. May be NULL. */
	void (*moved)(struct pci_dev *p, int bar, bool mapped, uint64_t addr);
};

/* Runs after a config write touched [off, off+len), and with the hook's whole
 * range after a reset. Device lock held. */
struct pci_config_hook {
	uint16_t off, len;
	void (*written)(struct pci_dev *p, uint16_t off, unsigned int len);
	/* The exception to "reads have no side effects" (virtio 1.3 s4.1.4.9,
	 * VIRTIO_PCI_CAP_PCI_CFG): refresh config[] before it is read. */
	void (*reading)(struct pci_dev *p, uint16_t off, unsigned int len);
};

/* The first member of every PCI function's struct. */
struct pci_dev {
	struct dev dev;
	/* properties of class pci */
	char *bus_name;			/* "bus" */
	char *addr;			/* "addr": "SLOT[.FN]", NULL: first free */
	bool multifunction;
	bool packed;			/* a port that shares its slot with others
					 * because nobody said where it goes */
	/* state */
	struct pci_bus *bus;		/* the bus it sits on; NULL: not plugged */
	uint8_t devfn;
	bool visible;			/* config accesses reach it; config lock */
	uint8_t *config;		/* one page, owned */
	/* Masks cover the bytes in use, mask_bytes of them; the rest of the
	 * page is read-only. pci_ecap_add() moves them: index through p->. */
	uint8_t *wmask, *w1cmask;
	uint8_t *reset_config;		/* taken when set-up is done */
	uint16_t mask_bytes;
	struct pci_bar bar[PCI_BARS];
	struct pci_config_hook hook[PCI_CONFIG_HOOKS];
	int hooks;
	uint16_t cap_next;		/* where the next capability goes */
	uint16_t cap_last;		/* whose next pointer to fill */
	uint16_t ecap_next, ecap_last;
	uint16_t express_cap, pm_cap;	/* offsets, 0: has none */
	bool express;			/* has a PCIe capability */
	bool pm_d3;			/* in D3hot; device lock */
	bool child_stale;		/* bridge: windows changed, BARs behind it
					 * are to be mapped anew; config lock */
	pthread_mutex_t intx_lock;	/* leaf */
	struct irq_pin intx;		/* valid when intx_wired */
	bool intx_level, intx_wired;	/* what the device wants; intx_lock */
	struct msi *msi;		/* NULL: none; owned */
	struct msix *msix;		/* NULL: none; owned */
	struct pci_bus *child;		/* bridges: the bus behind; owned */
};

/* The operations a PCI device type names in dev_type.class_ops. A class that
 * sits on pci (virtio) has ops of its own and calls the functions below. */
struct pci_ops {
	uint16_t vendor, device, subvendor, subdevice;
	uint8_t revision;
	uint32_t class;		/* 24 bits: base, sub, interface */
	bool conventional;	/* a PCI, not PCIe, function: not behind a port */
	bool express_only;	/* not behind a PCI bridge; without both flags a
				 * function fits either kind of bus */
	bool root_only;		/* on a root bus only (root ports) */
	bool upstream;		/* a switch's end towards the root: behind a port */
	bool downstream;	/* a switch's port: on the bus of its upstream end */
	bool bridge;		/* type 1 header */
};

extern const struct dev_class pci_class;

/* ---- for device code, during init ---- */

void pci_set_ids(struct pci_dev *p, const struct pci_ops *ids);
void pci_set16(struct pci_dev *p, uint16_t off, uint16_t val);
void pci_set32(struct pci_dev *p, uint16_t off, uint32_t val);
uint16_t pci_get16(const struct pci_dev *p, uint16_t off);
uint32_t pci_get32(const struct pci_dev *p, uint16_t off);

/* Declare BAR @n: power-of-two @win.size (16 bytes at least for memory, 4 for
 * I/O). PCI_BASE_ADDRESS_MEM_TYPE_64 also takes BAR n+1. */
int pci_bar_add(struct pci_dev *p, int n, uint8_t flags, const struct bus_win *win,
		void (*moved)(struct pci_dev *, int, bool, uint64_t), struct err *e);

/* Append a capability of @len bytes (header included); returns its offset.
 * Overflow of the 256 bytes is our bug: asserts. Contents are then filled in
 * config/wmask/w1cmask by the caller. */
uint16_t pci_cap_add(struct pci_dev *p, uint8_t id, uint8_t len);
uint16_t pci_ecap_add(struct pci_dev *p, uint16_t id, uint8_t version, uint16_t len);
/* PCIe capability, version 2, for @port_type (PCI_EXP_TYPE_*); @port is a
 * port's number. Ports set their link with pci_express_link(). */
uint16_t pci_express_add(struct pci_dev *p, uint8_t port_type, uint8_t port);
/* What an endpoint calls: root-complex integrated endpoint on pcie.0, endpoint
 * with its port's link behind a port, nothing (returns 0) on a PCI bus. */
uint16_t pci_express_endpoint_add(struct pci_dev *p);
/* Power management capability: D0 and D3hot, no soft reset. @pme: the states
 * PME# is signalled from (PCI_PM_CAP_PME_* bits), 0: none. */
uint16_t pci_pm_add(struct pci_dev *p, uint16_t pme);

void pci_hook_add(struct pci_dev *p, uint16_t off, uint16_t len,
		  void (*written)(struct pci_dev *, uint16_t, unsigned int));
/* The same for bytes whose value is made when they are read; @written may be
 * NULL. Such a function's page is never shown to the guest without exits. */
void pci_read_hook_add(struct pci_dev *p, uint16_t off, uint16_t len,
		       void (*reading)(struct pci_dev *, uint16_t, unsigned int),
		       void (*written)(struct pci_dev *, uint16_t, unsigned int));

/* Wired interrupt: INTA..INTD (1..4) chosen at init, then a level, from any
 * thread. Honours the command register's disable bit and keeps the status
 * register's. */
void pci_intx_init(struct pci_dev *p, uint8_t pin);
void pci_intx_set(struct pci_dev *p, bool level);

/* MSI-X (pci/msix.c): adds the capability and BAR @bar (32-bit memory) with
 * table and PBA. The pci class calls msix_fini() and msi_fini() itself when
 * the device goes; calling them earlier is allowed. */
int msix_init(struct pci_dev *p, uint16_t vectors, int bar, struct err *e);
void msix_fini(struct pci_dev *p);
/* Fire @vector: delivered, or pending while masked, or dropped when MSI-X is
 * off. Any thread. */
void msix_fire(struct pci_dev *p, uint16_t vector);
bool msix_enabled(const struct pci_dev *p);	/* any thread */
/* For vhost, VFIO: an eventfd that raises @vector while it is unmasked. */
int msix_irqfd(struct pci_dev *p, uint16_t vector, int *fd, struct err *e);
uint16_t msix_vectors(const struct pci_dev *p);		/* 0: no MSI-X */

/* MSI (pci/msi.c), up to 32 messages. */
int msi_init(struct pci_dev *p, uint8_t vectors, bool mask_per_vector, struct err *e);
void msi_fini(struct pci_dev *p);
void msi_fire(struct pci_dev *p, uint8_t vector);
bool msi_enabled(const struct pci_dev *p);

/* Bus master enabled? DMA by the device is allowed only then. Any thread. */
bool pci_master(const struct pci_dev *p);
/* "00:03.0" into @buf (at least 16 bytes). */
const char *pci_name(const struct pci_dev *p, char *buf);

/* ---- buses and the root complex ---- */

enum pci_space {		/* what a bridge forwards; index of need[] */
	PCI_SPACE_MEM,		/* 32-bit, prefetchable or not */
	PCI_SPACE_PREF,		/* 64-bit prefetchable */
	PCI_SPACE_IO,
	PCI_SPACES
};

struct pci_bus {
	char *name;			/* "pcie.0", "rp1", … unique in the VM */
	struct pci_root *root;
	struct pci_dev *bridge;		/* NULL on a root bus */
	struct pci_dev *expander;	/* whose root bus it is; NULL: pcie.0 */
	uint8_t number;			/* of a root bus */
	uint16_t numa_node;		/* of a root bus, or PCI_NUMA_NONE */
	struct pci_dev *slot[256];	/* by devfn */
	bool express;			/* takes PCIe functions */
	bool inside_switch;		/* takes a switch's downstream ports only */
	uint8_t first_slot, last_slot;	/* allowed device numbers: 0..31; 0..0
					 * behind a root or downstream port */
	struct pci_chassis {		/* behind a port: how its slot is called */
		uint8_t chassis;
		uint16_t slot;
	} chassis;
	bool hotplug;			/* its slot can be filled at run time */
	struct pci_slot_hp {		/* slot.c, when hotplug; config lock */
		bool raised;		/* its port's interrupt */
		bool let_go;		/* the guest switched the light off */
		bool requested;		/* eject.c: the guest has not read it yet */
		uint16_t number;	/* eject.c: of its slot, 1, 2, …, since
					 * the enumeration; 0: none */
		uint16_t indicator;	/* PCI_EXP_SLTCTL_PWR_IND_* */
		enum dev_plug_state last;	/* what became last; main loop */
	} slot_hp;
	struct pci_bus *next;		/* all buses of the root */
	struct pci_need {		/* enumerate.c's scratch, main loop; of a
					 * root bus afterwards: its windows */
		uint64_t size, align, base;
	} need[PCI_SPACES];
};

/* Windows of one root complex, as ACPI _CRS and the bridges see them. */
struct pci_windows {
	uint64_t ecam_base;		/* 1 MiB per bus */
	uint8_t buses;			/* last bus number, 255 at most */
	uint64_t mmio32_base, mmio32_size;
	uint64_t mmio64_base, mmio64_size;
	uint32_t pio_base, pio_size;
};

struct pci_root {
	struct vm *vm;
	struct pci_windows win;
	struct pci_bus *bus0;
	struct pci_bus *buses;
	struct pci_bus *by_number[256];	/* as the bridges route now; config lock */
	pthread_mutex_t lock;		/* config accesses and topology */
	/* The wired interrupt of root bus slot/pin (0: INTA): filled by the
	 * machine. */
	uint32_t (*intx_gsi)(struct pci_root *r, uint8_t slot, uint8_t pin);
	void *intx_arg;
	struct bus_win ecam, cf8;
	uint32_t cf8_addr;
	/* Port 0xcf9 lies inside the config address port but is the chipset's
	 * reset control: byte accesses to it come here. May be NULL. No lock
	 * is held. Filled by the machine, like intx_gsi. */
	uint8_t (*cf9_read)(struct pci_root *r);
	void (*cf9_write)(struct pci_root *r, uint8_t val);
	void *cf9_arg;
	/* Ask the guest to let go of what is on @b. NULL: there is no way. Main
	 * loop, no lock held. Filled by the machine. */
	void (*eject)(struct pci_root *r, struct pci_bus *b);
	/* With pci_eject_create(): raise the event whose AML reads REQUEST.
	 * Filled by the machine. */
	void (*eject_raise)(struct pci_root *r);
	void *eject_arg;
	struct bus_win eject_win;
};

/* Create the root complex, its bus "pcie.0", the host bridge at 00:00.0, the
 * ECAM window and, with @cf8, the port pair 0xcf8/0xcfc. Stores itself in
 * vm->pci. The machine fills intx_gsi before it adds a device with a pin.
 * destroy: after the VM's devices are gone. */
int pci_root_create(struct vm *vm, const struct pci_windows *w, bool cf8, struct err *e);
void pci_root_destroy(struct pci_root *r);

/* Root buses in the order of their numbers: the one after @after (NULL: pcie.0).
 * To each belong the numbers up to pci_root_bus_last(). */
struct pci_bus *pci_root_bus_next(const struct pci_root *r, const struct pci_bus *after);
uint8_t pci_root_bus_last(const struct pci_bus *b);
struct pci_bus *pci_bus_create(struct pci_root *r, const char *name, struct pci_dev *bridge);
void pci_bus_destroy(struct pci_bus *b);
struct pci_bus *pci_bus_find(struct pci_root *r, const char *name);
/* The bus that @d sits on, and the one behind it. NULL: it is no PCI function, or
 * no bridge. Main loop. */
const struct pci_bus *pci_bus_of(const struct dev *d);
const struct pci_bus *pci_bus_behind(const struct dev *d);

/*
 * What firmware does, for direct kernel boot: number buses depth first, give
 * every BAR an address, size and program the bridge windows (with the ports'
 * reserves), set interrupt lines, enable memory and I/O. Every reset repeats
 * it. Main loop. Fails with a sentence that names the device when the windows
 * do not fit.
 */
int pci_enumerate(struct pci_root *r, struct err *e);

/* Registers of ACPI's eject requests (eject.c) at I/O port @port. */
#define PCI_EJECT_BYTES	12
int pci_eject_create(struct pci_root *r, uint16_t port);

/* query-pci's reply: all buses and functions, a new reference. Main loop. */
json_t *pci_query(struct pci_root *r);
/* Such a reply as a tree in text, with the free hot-plug ports at its end; the
 * caller frees it. Any thread. */
char *pci_topology_text(const json_t *query_pci);

/* Visit every function, parents before children. */
void pci_each(struct pci_root *r, void (*fn)(struct pci_dev *p, void *arg), void *arg);

/* A config access by bus/devfn, as ECAM and CF8 do it. @len 1 to 4 within
 * the function; absent functions read all ones. Takes the root's lock. */
uint32_t pci_config_read(struct pci_root *r, uint16_t bdf, uint16_t off, unsigned int len);
void pci_config_write(struct pci_root *r, uint16_t bdf, uint16_t off, unsigned int len,
		      uint32_t val);

/* Device types of this folder, for the list of types. */
extern const struct dev_type pxb_pcie_type;		/* "pxb-pcie" */
extern const struct dev_type pcie_root_port_type;	/* "pcie-root-port" */
extern const struct dev_type pcie_pci_bridge_type;	/* "pcie-pci-bridge" */
extern const struct dev_type x3130_upstream_type;	/* "x3130-upstream" */
extern const struct dev_type xio3130_downstream_type;	/* "xio3130-downstream" */

#endif
