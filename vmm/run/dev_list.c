/*
 * vmm/run/dev_list.c - every device type this build offers: one line each.
 */
#include "vmm/run/dev_list.h"

#include <stddef.h>

#define DEV_LIST(X)		\
	X(virtio_blk_type)	\
	X(virtio_blk_modern_type) \
	X(virtio_blk_transitional_type) \
	X(virtio_rng_type)	\
	X(virtio_rng_modern_type) \
	X(virtio_rng_transitional_type) \
	X(virtio_serial_type)	\
	X(virtio_serial_modern_type) \
	X(virtio_serial_transitional_type) \
	X(virtconsole_type)	\
	X(virtserialport_type)	\
	X(pxb_pcie_type)	\
	X(pcie_root_port_type)	\
	X(pcie_pci_bridge_type)	\
	X(x3130_upstream_type)	\
	X(xio3130_downstream_type) \
	X(isa_serial_type)	\
	X(pvpanic_type)		\
	X(debug_exit_type)

#define DEV_EXTERN(t) extern const struct dev_type t;
DEV_LIST(DEV_EXTERN)

#define DEV_ENTRY(t) &(t),
const struct dev_type *const dev_list[] = { DEV_LIST(DEV_ENTRY) NULL };
