/*
 * pci/ports.c - the ports of a machine as a user sees them: which are free, who
 * holds the others.
 *
 * Spec:    none.
 * Threads: main loop.
 * Missing: nothing known.
 */
#include <stdio.h>
#include <string.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define NAMED_MAX 8	/* in a sentence; the rest is counted */

static bool is_pci(const struct dev *d)
{
	const struct dev_class *c;

	for (c = d->type->class; c; c = c->parent)
		if (c == &pci_class)
			return true;
	return false;
}

const struct pci_bus *pci_bus_of(const struct dev *d)
{
	return is_pci(d) ? ((const struct pci_dev *)d)->bus : NULL;
}

const struct pci_bus *pci_bus_behind(const struct dev *d)
{
	return is_pci(d) ? ((const struct pci_dev *)d)->child : NULL;
}

struct pci_bus *pci_port_next(const struct pci_root *r, const struct pci_bus *after)
{
	const struct dev *d;

	for (d = r->vm->devs; d; d = d->next) {
		const struct pci_dev *p = (const struct pci_dev *)d;

		if (!is_pci(d) || !p->child || !pci_express_is_port(p))
			continue;
		if (!after)
			return p->child;
		if (p->child == after)
			after = NULL;
	}
	return NULL;
}

struct pci_dev *pci_port_holds(const struct pci_bus *b)
{
	int i;

	for (i = 0; i < 256; i++)
		if (b->slot[i])
			return b->slot[i];
	return NULL;
}

struct pci_bus *pci_port_free(const struct pci_root *r)
{
	struct pci_bus *b = NULL;

	while ((b = pci_port_next(r, b)))
		if (b->hotplug && !pci_port_holds(b))
			return b;
	return NULL;
}

const char *pci_ports_text(const struct pci_root *r, char *buf, size_t len)
{
	struct pci_bus *b = NULL;
	size_t used = 0;
	int n = 0;

	buf[0] = '\0';
	while ((b = pci_port_next(r, b))) {
		const struct pci_dev *p = pci_port_holds(b);

		if (++n > NAMED_MAX || used >= len)
			continue;
		used += (size_t)snprintf(buf + used, len - used, "%s%s %s", n > 1 ? ", " : "",
					 b->name, b->hotplug ? "holds " : "has hotplug=off");
		if (b->hotplug && used < len)
			used += (size_t)snprintf(buf + used, len - used, "%s",
						 p ? p->dev.path : "nothing");
	}
	if (n > NAMED_MAX && used < len)
		snprintf(buf + used, len - used, " and %d more are taken", n - NAMED_MAX);
	return buf;
}
