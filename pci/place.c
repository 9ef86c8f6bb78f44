/*
 * pci/place.c - where a function goes: the properties bus and addr.
 *
 * Spec:    PCIe Base 5.0 s7.3.1 (only device 0 behind a link); for the syntax,
 *          QEMU's "addr": hexadecimal SLOT[.FN], or a JSON number, a devfn.
 * Threads: main loop.
 * Missing: ARI function numbers above 7.
 *
 * Where nobody says otherwise: a root port goes to pcie.0, eight of them to a
 * slot; a PCIe device goes behind the first free port; a conventional one behind
 * the first PCIe-PCI bridge with a free slot; and where there is none of these,
 * to the first empty slot of pcie.0. Ports and slots that another device of the
 * description asks for by name are left to it. Whether function 0 exists is
 * known only when all devices are there, so enumeration checks that.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/internal.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define BUSES_MAX 256	/* bus numbers are bytes */

static int no_port(const struct pci_dev *p, const struct pci_bus *b, struct err *e)
{
	struct pci_root *r = p->dev.vm->pci;
	char text[256];

	if (!pci_port_next(r, NULL))
		return err_set(e, -ENODEV, "Bus '%s' does not support hotplugging, and there "
			       "is no root port for %s; reserve some at the start with -device "
			       "pcie-root-port", b->name, p->dev.path);
	return err_set(e, -ENOSPC, "%s: no free root port: %s; reserve more at the start with "
		       "-device pcie-root-port", p->dev.path,
		       pci_ports_text(r, text, sizeof(text)));
}

/* A device that is plugged goes where it can leave again. */
static int find_hot_bus(struct pci_dev *p, struct pci_bus **out, struct err *e)
{
	*out = pci_port_free(p->dev.vm->pci);
	return *out ? 0 : no_port(p, p->dev.vm->pci->bus0, e);
}

static int check_hot(const struct pci_dev *p, const struct pci_bus *b, int devfn, struct err *e)
{
	char text[256];

	if (!p->dev.hotplugged)
		return 0;
	if (!b->hotplug && !pci_port_next(b->root, NULL))
		return no_port(p, b, e);
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

/* ---- what the rest of the description asks for ---- */

/* The next device after *i of those that the VM was described with. */
static const json_t *described(const struct pci_dev *p, size_t *i)
{
	return json_array_get(json_object_get(p->dev.vm->desc, "devices"), (*i)++);
}

static bool bus_spoken_for(const struct pci_dev *p, const char *name)
{
	const json_t *d;
	size_t i = 0;

	while ((d = described(p, &i)))
		if (strcmp(json_str(d, "bus", ""), name) == 0)
			return true;
	return false;
}

static bool slot_spoken_for(const struct pci_dev *p, const struct pci_bus *b, int slot)
{
	const char *addr, *bus;
	const json_t *d;
	size_t i = 0;
	char *end;

	while (!b->bridge && (d = described(p, &i))) {
		bus = json_str(d, "bus", NULL);
		addr = json_str(d, "addr", NULL);
		if (addr && (!bus || strcmp(bus, b->name) == 0) &&
		    strtoul(addr, &end, 16) == (unsigned long)slot)
			return true;
	}
	return false;
}

/* ---- the bus ---- */

static bool slot_empty(const struct pci_bus *b, int slot)
{
	int fn;

	for (fn = 0; fn < 8; fn++)
		if (b->slot[slot << 3 | fn])
			return false;
	return true;
}

static bool has_room(const struct pci_bus *b)
{
	int slot;

	for (slot = b->first_slot; slot <= b->last_slot; slot++)
		if (slot_empty(b, slot))
			return true;
	return false;
}

/* The oldest of the buses that suit; r->buses has the youngest first. */
static struct pci_bus *oldest(const struct pci_root *r, bool (*suits)(const struct pci_bus *))
{
	struct pci_bus *b, *found = NULL;

	for (b = r->buses; b; b = b->next)
		if (b->bridge && suits(b) && has_room(b))
			found = b;
	return found;
}

static bool is_conventional(const struct pci_bus *b)
{
	return !b->express;
}

static bool is_switch(const struct pci_bus *b)
{
	return b->inside_switch;
}

static struct pci_bus *free_port(const struct pci_dev *p)
{
	const struct pci_root *r = p->dev.vm->pci;
	struct pci_bus *b = NULL;

	while ((b = pci_port_next(r, b)))
		if (!pci_port_holds(b) && !bus_spoken_for(p, b->name))
			return b;
	return NULL;
}

/* NULL: none suits better than the root bus. */
static struct pci_bus *default_bus(const struct pci_dev *p, const struct pci_ops *ops)
{
	const struct pci_root *r = p->dev.vm->pci;

	if (p->addr || (p->dev.type->flags & DEV_BUILTIN) || (ops && ops->root_only))
		return NULL;
	if (ops && ops->downstream)
		return oldest(r, is_switch);
	if (ops && ops->conventional)
		return oldest(r, is_conventional);
	return free_port(p);
}

/* Command lines for conventional machines call the root bus "pci.0"; here that is the
 * root complex, unless a bus has the name. */
static struct pci_bus *named_bus(struct pci_root *r, const char *name)
{
	struct pci_bus *b = pci_bus_find(r, name);

	return b || strcmp(name, "pci.0") ? b : r->bus0;
}

static int find_bus(struct pci_dev *p, const struct pci_ops *ops, struct pci_bus **out,
		    struct err *e)
{
	struct pci_root *r = p->dev.vm->pci;
	const char *names[BUSES_MAX + 1], *near;
	struct pci_bus *b;
	int n = 0;

	if (!p->bus_name && p->dev.hotplugged)
		return find_hot_bus(p, out, e);
	*out = p->bus_name ? named_bus(r, p->bus_name) : default_bus(p, ops);
	if (!p->bus_name && !*out)
		*out = r->bus0;
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
	if (b->inside_switch && !(ops && ops->downstream))
		return err_set(e, -EINVAL,
			       "%s: '%s' is the inside of a switch, which takes "
			       "xio3130-downstream ports only; put %s behind one of these",
			       p->dev.path, b->name, p->dev.type->name);
	if (!ops)
		return 0;
	if (ops->downstream && !b->inside_switch)
		return err_set(e, -EINVAL,
			       "%s: a %s goes on the bus of an x3130-upstream, not on '%s'",
			       p->dev.path, p->dev.type->name, b->name);
	if (ops->upstream && !b->bridge)
		return err_set(e, -EINVAL,
			       "%s: a %s goes behind a port, not on '%s'; add a pcie-root-port "
			       "and give its id as bus=", p->dev.path, p->dev.type->name, b->name);
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

/* Root ports share slots, eight to each. */
static int find_packed(struct pci_dev *p, const struct pci_bus *b, int *devfn)
{
	int slot, fn;

	p->packed = true;
	for (slot = b->first_slot; slot <= b->last_slot; slot++) {
		if (!b->slot[slot << 3] || !b->slot[slot << 3]->packed)
			continue;
		for (fn = 1; fn < 8; fn++) {
			*devfn = slot << 3 | fn;
			if (!b->slot[*devfn])
				return 0;
		}
	}
	return -ENOSPC;
}

static int find_free(struct pci_dev *p, const struct pci_ops *ops, const struct pci_bus *b,
		     int *devfn, struct err *e)
{
	bool port = ops && ops->root_only && ops->bridge;
	int slot;

	if (port && find_packed(p, b, devfn) == 0)
		return 0;
	p->multifunction |= port;	/* others will share the slot */
	for (slot = b->first_slot; slot <= b->last_slot; slot++) {
		if (slot_empty(b, slot) && !slot_spoken_for(p, b, slot)) {
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
	if ((r = find_bus(p, ops, &b, e)) || (r = check_kind(p, ops, b, e)) ||
	    (r = parse_addr(p, &devfn, e)))
		return r;
	r = check_hot(p, b, devfn < 0 ? 0 : devfn, e);
	if (r == 0)
		r = devfn < 0 ? find_free(p, ops, b, &devfn, e) : check_slot(p, b, devfn, e);
	if (r)
		return r;
	pthread_mutex_lock(&b->root->lock);
	p->bus = b;
	p->devfn = (uint8_t)devfn;
	b->slot[devfn] = p;
	pthread_mutex_unlock(&b->root->lock);
	return 0;
}
