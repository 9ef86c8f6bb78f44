/*
 * pci/topology.c - the PCI tree of a VM as text, drawn from query-pci's reply.
 *
 * Spec:    none of its own.
 * Threads: any; it works on the JSON alone, so a client can draw what it got.
 * Missing: nothing known.
 *
 *	pcie.0
 *	|- 00.0  Host bridge  8086:29c0
 *	|- 01.0  rp1 pcie-root-port, slot 1: present
 *	|  `- 00.0  disk0 virtio-blk-pci  1af4:1042
 *	`- 01.1  rp2 pcie-root-port, slot 2: empty
 *	1 of 2 hot-plug ports is free: rp2
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/pci.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

struct drawing {
	char *text, *indent, *free_ports;
	size_t len;
	int ports, free;	/* hot-plug ports */
};

static void add(struct drawing *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct drawing *d, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	d->text = xrealloc(d->text, d->len + (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(d->text + d->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	d->len += (size_t)n;
}

static char *joined(char *a, const char *b)
{
	char *s = xasprintf("%s%s", a ? a : "", b);

	free(a);
	return s;
}

static int number(const json_t *o, const char *key)
{
	return (int)json_integer_value(json_object_get(o, key));
}

static void draw_name(struct drawing *d, const json_t *dev)
{
	const json_t *id = json_object_get(dev, "id");
	const char *name = json_str(dev, "qdev_id", "");

	add(d, "%02x.%x  %s%s%s", number(dev, "slot"), number(dev, "function"), name,
	    *name ? " " : "", json_str(dev, "__org.roost_driver",
				       json_str(json_object_get(dev, "class_info"), "desc",
						"device")));
	if (!json_object_get(dev, "pci_bridge"))
		add(d, "  %04x:%04x", number(id, "vendor"), number(id, "device"));
}

static void draw_slot(struct drawing *d, const json_t *dev, const json_t *slot)
{
	const char *name = json_str(dev, "qdev_id", "");

	add(d, ", slot %d: %s%s", number(slot, "number"), json_str(slot, "state", "?"),
	    json_is_true(json_object_get(slot, "hotplug")) ? "" : ", no hot-plug");
	if (!json_is_true(json_object_get(slot, "hotplug")))
		return;
	d->ports++;
	if (json_array_size(json_object_get(json_object_get(dev, "pci_bridge"), "devices")))
		return;
	d->free++;
	if (d->free > 1)
		d->free_ports = joined(d->free_ports, ", ");
	d->free_ports = joined(d->free_ports, *name ? name : "(no id)");
}

static void draw_devices(struct drawing *d, const json_t *list);

static void draw_device(struct drawing *d, const json_t *dev, bool last)
{
	const json_t *bridge = json_object_get(dev, "pci_bridge");
	const json_t *slot = json_object_get(bridge, "__org.roost_slot");
	size_t len = strlen(d->indent);

	add(d, "%s%s ", d->indent, last ? "`-" : "|-");
	draw_name(d, dev);
	if (slot)
		draw_slot(d, dev, slot);
	add(d, "\n");
	d->indent = joined(d->indent, last ? "   " : "|  ");
	draw_devices(d, json_object_get(bridge, "devices"));
	d->indent[len] = '\0';
}

/* As deep as the reply is: QMP's reader bounds that of a stranger's. */
static void draw_devices(struct drawing *d, const json_t *list)
{
	size_t i, n = json_array_size(list);

	for (i = 0; i < n; i++)
		draw_device(d, json_array_get(list, i), i + 1 == n);
}

char *pci_topology_text(const json_t *query_pci)
{
	struct drawing d = { .indent = xstrdup("") };
	size_t i;

	for (i = 0; i < json_array_size(query_pci); i++) {
		const json_t *bus = json_array_get(query_pci, i);

		add(&d, "%s", json_str(bus, "__org.roost_id", "pcie.0"));
		if (number(bus, "bus"))
			add(&d, ", bus %02x", number(bus, "bus"));
		add(&d, "\n");
		draw_devices(&d, json_object_get(bus, "devices"));
	}
	if (d.ports)
		add(&d, "%d of %d hot-plug ports %s free%s%s\n", d.free, d.ports,
		    d.free == 1 ? "is" : "are", d.free ? ": " : "",
		    d.free ? d.free_ports : "");
	free(d.indent);
	free(d.free_ports);
	return d.text ? d.text : xstrdup("");
}
