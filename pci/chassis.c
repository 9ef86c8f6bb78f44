/*
 * pci/chassis.c - chassis and slot numbers of ports.
 *
 * Spec:    PCIe Base 5.0 s7.5.3.9 (physical slot number); for the rules, QEMU's
 *          (no two slots alike) and libvirt's (chassis ascend).
 * Threads: main loop.
 * Missing: nothing known.
 *
 * The chassis is the host's affair alone, a name to tell slots by. The guest
 * sees the slot number and calls the slot by it, so that is the chassis where
 * nobody says otherwise.
 */
#include <errno.h>

#include "pci/bridge.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define CHASSIS_MAX 255

/* The other port that @match finds, in the order of creation. */
struct search {
	const struct pci_dev *self;
	const struct pci_chassis *want;
	const struct pci_dev *same;	/* has chassis and slot */
	const struct pci_dev *highest;	/* of those whose chassis is given */
	uint8_t top;			/* chassis in use */
};

static bool given(const struct pci_dev *p, const char *key)
{
	return json_object_get(p->dev.args, key) != NULL;
}

static void look(struct search *s)
{
	const struct pci_root *r = s->self->bus->root;
	struct pci_bus *b = NULL;
	uint8_t top_given = 0;

	while ((b = pci_port_next(r, b))) {
		const struct pci_dev *p = b->bridge;
		const struct pci_chassis *c = &b->chassis;

		if (p == s->self)
			continue;
		if (c->chassis == s->want->chassis && c->slot == s->want->slot)
			s->same = p;
		s->top = MAX(s->top, c->chassis);
		if (given(p, "chassis") && c->chassis >= top_given) {
			top_given = c->chassis;
			s->highest = p;
		}
	}
}

static int check_order(const struct pci_dev *port, const struct pci_chassis *c,
		       const struct search *s, struct err *e)
{
	const struct pci_chassis *last = s->highest ? &s->highest->child->chassis : NULL;

	if (!last || c->chassis > last->chassis ||
	    (c->chassis == last->chassis && given(port, "slot")))
		return 0;
	if (c->chassis == last->chassis)
		return err_set(e, -EBUSY, "%s: chassis=%u: '%s' has this chassis; give it %u or "
			       "more, or a slot= of its own", port->dev.path, c->chassis,
			       s->highest->dev.path, last->chassis + 1);
	return err_set(e, -EINVAL, "%s: chassis=%u comes after chassis=%u of '%s', but they "
		       "must ascend; give it %u or more, or leave it out", port->dev.path,
		       c->chassis, last->chassis, s->highest->dev.path, last->chassis + 1);
}

int pci_chassis_choose(struct pci_dev *port, struct pci_chassis *c, struct err *e)
{
	struct search s = { .self = port, .want = c };
	int r;

	look(&s);
	if (given(port, "chassis")) {
		r = check_order(port, c, &s, e);
		if (r)
			return r;
	} else if (s.top == CHASSIS_MAX) {
		return err_set(e, -ENOSPC, "%s: there is no chassis after %d; give some ports "
			       "the same chassis= and different slot=", port->dev.path,
			       CHASSIS_MAX);
	} else {
		c->chassis = (uint8_t)(s.top + 1);
	}
	if (!given(port, "slot"))
		c->slot = c->chassis;
	s.same = NULL;
	look(&s);
	if (s.same)
		return err_set(e, -EBUSY,
			       "%s: slot=%u: '%s' has this slot of chassis %u; give one of "
			       "them another slot or chassis", port->dev.path, c->slot,
			       s.same->dev.path, c->chassis);
	return 0;
}
