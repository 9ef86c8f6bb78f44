/*
 * vmm/core/dev_bus.h - devices that sit on another device: ports on a
 * virtio-serial controller, disks on a SCSI controller.
 *
 * The controller's init makes a bus with dev_bus_add(), its fini ends it with
 * dev_bus_del(), which destroys who still sits there. A child's class joins in
 * its attach with what the user gave as bus=, and leaves in detach:
 *
 *	static int port_attach(struct dev *d, struct err *e)
 *	{
 *		return dev_bus_join(d, "virtio-serial-bus", to_port(d)->bus_name, e);
 *	}
 *
 * What parent and child have to say to each other is their own header's affair.
 * PCI buses are not these: see pci/pci.h.
 *
 * Threads: main loop. A vCPU thread that needs a child finds it in the parent's
 *          own tables, under the parent's lock.
 */
#ifndef VMM_CORE_DEV_BUS_H
#define VMM_CORE_DEV_BUS_H

#include "vmm/core/dev.h"

struct dev_bus {
	const char *type;	/* "virtio-serial-bus", "SCSI" */
	char *name;		/* QEMU's: "ID.0", or "virtio-serial-bus.0" without id */
	struct dev *owner;	/* NULL: not added */
	struct dev *child;	/* the first; the others by d->sibling, oldest first */
	struct dev_bus *next;	/* the VM's list, creation order */
};

/* @b, zeroed, becomes a bus of @owner: its number @index, of @type (a constant). */
void dev_bus_add(struct dev_bus *b, struct dev *owner, const char *type, unsigned int index);
/* Destroy the children, the newest first, and the bus. Also when not added. */
void dev_bus_del(struct dev_bus *b);

/*
 * @d goes on the bus of @type called @name: the bus's own name, or its owner's
 * id; NULL takes the first there is. Sets d->parent. 0, or -ENOENT or -EINVAL
 * with a sentence.
 */
int dev_bus_join(struct dev *d, const char *type, const char *name, struct err *e);
void dev_bus_leave(struct dev *d);	/* also when it never joined */

#endif
