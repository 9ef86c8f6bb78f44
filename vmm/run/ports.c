/*
 * vmm/run/ports.c - root ports of a description: how many were asked for, and
 * what they are called.
 *
 * Threads: main loop.
 * Missing: nothing known.
 *
 * The short form states only how many: -machine root-ports=6, or -device
 * pcie-root-port without an id. Here ports get their ids, rp1, rp2, …; address,
 * chassis, slot and port number are filled in where a port is built (pci/). All
 * ports come before all other devices, so that these find them, and behind the
 * expanders whose buses they may go on.
 */
#include "vmm/run/ports.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define EXPANDER "pxb-pcie"
#define ROOT_PORT "pcie-root-port"

static bool is_a(const json_t *dev, const char *driver)
{
	return strcmp(json_str(dev, "driver", ""), driver) == 0;
}

static bool id_taken(const json_t *devices, const char *id)
{
	for (size_t i = 0; i < json_array_size(devices); i++)
		if (strcmp(json_str(json_array_get(devices, i), "id", ""), id) == 0)
			return true;
	return false;
}

/* The next free of rp1, rp2, …; *n is the last one given. */
static void name_port(const json_t *devices, json_t *port, unsigned int *n)
{
	char id[16];

	do
		snprintf(id, sizeof(id), "rp%u", ++*n);
	while (id_taken(devices, id));
	json_put_str(port, "id", id);
}

void ports_complete(json_t *desc, uint32_t count)
{
	json_t *devices = json_object_get(desc, "devices"), *ports = json_array(), *dev;
	json_t *all = json_array(), *rest = json_array();
	unsigned int n = 0;
	size_t i;

	json_array_foreach(devices, i, dev)
		json_array_append(is_a(dev, EXPANDER) ? all : is_a(dev, ROOT_PORT) ? ports : rest,
				  dev);
	while (count--)
		json_array_append_new(ports, json_pack("{s:s}", "driver", ROOT_PORT));
	json_array_foreach(ports, i, dev)
		if (!json_object_get(dev, "id"))
			name_port(devices, dev, &n);
	json_array_extend(all, ports);
	json_array_extend(all, rest);
	json_decref(ports);
	json_decref(rest);
	json_object_set_new(desc, "devices", all);
}
