/*
 * pci/place.c - where a function goes: the properties bus and addr.
 *
 * Spec:    PCIe Base 5.0 s7.3.1 (only device 0 behind a link); for the syntax,
 *          QEMU's "addr": hexadecimal SLOT[.FN], or a JSON number, a devfn.
 * Threads: main loop.
 * Missing: ARI function numbers above 7.
 *
 * A function without bus= goes to pcie.0, without addr= to function 0 of the
 * first empty slot. Whether function 0 exists is known only when all devices
 * are there, so enumeration checks that.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define BUSES_MAX 256	/* bus numbers are bytes */

static int no_port(const struct pci_dev *p, struct err *e)
{
	struct pci_root *r = p->dev.vm->pci;
	char text[256];

	if (!pci_port_next(r, NULL))
		return err_set(e, -ENODEV, "Bus '%s' does not support hotplugging, and there "
			       "is no root port for %s; reserve some at the start with -device "
			       "pcie-root-port", r->bus0->name, p->dev.path);
	return err_set(e, -ENOSPC, "%s: no free root port: %s; reserve more at the start with "
		       "-device pcie-root-port", p->dev.path,
		       pci_ports_text(r, text, sizeof(text)));
}

/* A device that is plugged goes where it can leave again. */
static int find_hot_bus(struct pci_dev *p, struct pci_bus **out, struct err *e)
{
	*out = pci_port_free(p->dev.vm->pci);
	return *out ? 0 : no_port(p, e);
}

static int check_hot(const struct pci_dev *p, const struct pci_bus *b, int devfn, struct err *e)
{
	char text[256];

	if (!p->dev.hotplugged)
		return 0;
	if (!b->hotplug)
		return err_set(e, -EINVAL, "Bus '%s' does not support hotplugging; %s: use bus= "
			       "with a pcie-root-port: %s", b->name, p->dev.path,
			       pci_ports_text(b->root, text, sizeof(text)));
	/* The guest has looked at the slot already and does not look again. */
	if (b->slot[0] && devfn)
		return err_set(e, -EBUSY, "%s: slot 0 function 0 of '%s' is already occupied by "
			       "'%s', so the guest would not find function %d; add function 0 "
			       "last", p->dev.path, b->name, b->slot[0]->dev.path, devfn & 7);
	return 0;
}

static int find_bus(struct pci_dev *p, struct pci_bus **out, struct err *e)
{
	struct pci_root *r = p->dev.vm->pci;
	const char *names[BUSES_MAX + 1], *near;
	struct pci_bus *b;
	int n = 0;

	if (!p->bus_name && p->dev.hotplugged)
		return find_hot_bus(p, out, e);
	*out = p->bus_name ? pci_bus_find(r, p->bus_name) : r->bus0;
	if (*out)
		return 0;
	for (b = r->buses; b && n < BUSES_MAX; b = b->next)
		names[n++] = b->name;
	names[n] = NULL;
	near = util_nearest(p->bus_name, names);
	return err_set(e, -ENOENT, "%s: bus=%s: there is no such bus%s%s%s",
		       p->dev.path, p->bus_name, near ? "; did you mean '" : "",
		       near ? near : "", near ? "'?" : "");
}

static int check_kind(const struct pci_dev *p, const struct pci_ops *ops,
		      const struct pci_bus *b, struct err *e)
{
	if (!ops)
		return 0;
	if (ops->root_only && b->bridge)
		return err_set(e, -EINVAL,
			       "%s: a %s goes on the root bus 'pcie.0', not on '%s'",
			       p->dev.path, p->dev.type->name, b->name);
	if (ops->conventional && b->bridge && b->express)
		return err_set(e, -EINVAL,
			       "%s: %s is a conventional PCI device, '%s' takes PCIe "
			       "devices only; use 'pcie.0' or a pcie-pci-bridge",
			       p->dev.path, p->dev.type->name, b->name);
	if (ops->express_only && !b->express)
		return err_set(e, -EINVAL,
			       "%s: %s is a PCIe device, '%s' is a conventional PCI bus; "
			       "use 'pcie.0' or a pcie-root-port",
			       p->dev.path, p->dev.type->name, b->name);
	return 0;
}

static int bad_addr(const struct pci_dev *p, const char *why, struct err *e)
{
	return err_set(e, -EINVAL, "%s: addr=%s: %s", p->dev.path, p->addr, why);
}

/* Digits only: strtoul() alone would take signs and blanks. */
static bool parse_hex(const char *text, char **end, unsigned long *val)
{
	*end = (char *)text;
	if (!isxdigit((unsigned char)*text))
		return false;
	*val = strtoul(text, end, 16);
	return true;
}

/* -> *devfn, or -1 for "any". */
static int parse_addr(const struct pci_dev *p, int *devfn, struct err *e)
{
	const json_t *j = json_object_get(p->dev.args, "addr");
	unsigned long slot, fn = 0;
	char *end;

	*devfn = -1;
	if (!p->addr)
		return 0;
	if (json_is_integer(j)) {
		if (json_integer_value(j) < 0 || json_integer_value(j) > 255)
			return bad_addr(p, "a number is slot * 8 + function, 0..255", e);
		*devfn = (int)json_integer_value(j);
		return 0;
	}
	if (!parse_hex(p->addr, &end, &slot) || (*end && *end != '.'))
		return bad_addr(p, "expected SLOT or SLOT.FUNCTION in hexadecimal, "
				"as in 3 or 1f.2", e);
	if (*end == '.' && (!parse_hex(end + 1, &end, &fn) || *end))
		return bad_addr(p, "expected a function 0..7 after the dot", e);
	if (slot > 0x1f)
		return bad_addr(p, "the slot must be 0..1f (hexadecimal)", e);
	if (fn > 7)
		return bad_addr(p, "the function must be 0..7", e);
	*devfn = (int)(slot << 3 | fn);
	return 0;
}

static bool slot_empty(const struct pci_bus *b, int slot)
{
	int fn;

	for (fn = 0; fn < 8; fn++)
		if (b->slot[slot << 3 | fn])
			return false;
	return true;
}

static int find_free(const struct pci_dev *p, const struct pci_bus *b, int *devfn,
		     struct err *e)
{
	int slot;

	for (slot = b->first_slot; slot <= b->last_slot; slot++) {
		if (slot_empty(b, slot)) {
			*devfn = slot << 3;
			return 0;
		}
	}
	if (b->first_slot == b->last_slot)
		return err_set(e, -EBUSY, "%s: the port '%s' is taken by '%s'; add another port",
			       p->dev.path, b->name, b->slot[b->first_slot << 3] ?
			       b->slot[b->first_slot << 3]->dev.path : "another function");
	return err_set(e, -EBUSY, "%s: bus '%s' has no free slot", p->dev.path, b->name);
}

/* PCI 3.0 s6.2.1: only function 0 says that there are more. */
static int check_functions(const struct pci_dev *p, const struct pci_bus *b, int devfn,
			   struct err *e)
{
	const struct pci_dev *zero = b->slot[devfn & ~7];

	if ((devfn & 7) && zero && !zero->multifunction)
		return err_set(e, -EINVAL,
			       "%s: function %d of slot %x on '%s' needs multifunction=on "
			       "at function 0, which is '%s'",
			       p->dev.path, devfn & 7, devfn >> 3, b->name, zero->dev.path);
	if (!(devfn & 7) && !p->multifunction && !slot_empty(b, devfn >> 3))
		return err_set(e, -EINVAL,
			       "%s: slot %x on '%s' has other functions already, so its "
			       "function 0 needs multifunction=on",
			       p->dev.path, devfn >> 3, b->name);
	return 0;
}

static int check_slot(const struct pci_dev *p, const struct pci_bus *b, int devfn,
		      struct err *e)
{
	int slot = devfn >> 3;

	if (b->slot[devfn])
		return err_set(e, -EBUSY, "%s: slot %x function %d on '%s' is taken by '%s'",
			       p->dev.path, slot, devfn & 7, b->name,
			       b->slot[devfn]->dev.path);
	if (slot < b->first_slot || slot > b->last_slot) {
		if (b->first_slot == b->last_slot)
			return err_set(e, -EINVAL,
				       "%s: addr=%s: behind the port '%s' there is only slot %x",
				       p->dev.path, p->addr, b->name, b->first_slot);
		return err_set(e, -EINVAL, "%s: addr=%s: '%s' has the slots %x to %x",
			       p->dev.path, p->addr, b->name, b->first_slot, b->last_slot);
	}
	return check_functions(p, b, devfn, e);
}

/* Takes the slot; nothing is to be undone when it fails. */
int pci_place(struct pci_dev *p, const struct pci_ops *ops, struct err *e)
{
	struct pci_bus *b;
	int devfn, r;

	if (!p->dev.vm->pci)
		return err_set(e, -ENODEV, "%s: this machine has no PCI bus", p->dev.path);
	if ((r = find_bus(p, &b, e)) || (r = check_kind(p, ops, b, e)) ||
	    (r = parse_addr(p, &devfn, e)))
		return r;
	r = check_hot(p, b, devfn < 0 ? 0 : devfn, e);
	if (r == 0)
		r = devfn < 0 ? find_free(p, b, &devfn, e) : check_slot(p, b, devfn, e);
	if (r)
		return r;
	pthread_mutex_lock(&b->root->lock);
	p->bus = b;
	p->devfn = (uint8_t)devfn;
	b->slot[devfn] = p;
	pthread_mutex_unlock(&b->root->lock);
	return 0;
}
