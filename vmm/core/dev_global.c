/*
 * vmm/core/dev_global.c - -global: defaults for what a device leaves out.
 *
 * Spec:    QEMU's -global DRIVER.PROP=VALUE and driver=,property=,value=.
 * Threads: main loop.
 * Missing: defaults for a whole class of devices ("pci-device").
 */
#include <stdio.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"

#define DRIVER_MAX 64	/* longer names are no device's */

static void apply(json_t *args, const char *driver, const char *name, json_t *val)
{
	if (strcmp(driver, json_str(args, "driver", "")) == 0 && !json_object_get(args, name))
		json_object_set(args, name, val);
}

/* {"virtio-blk-pci.num-queues": "2"} */
static void apply_short(json_t *args, json_t *global)
{
	char driver[DRIVER_MAX];
	const char *key, *dot;
	json_t *val;

	json_object_foreach(global, key, val) {
		dot = strchr(key, '.');
		if (!dot || dot - key >= DRIVER_MAX)
			continue;
		snprintf(driver, sizeof(driver), "%.*s", (int)(dot - key), key);
		apply(args, driver, dot + 1, val);
	}
}

json_t *dev_args_with_globals(const struct vm *vm, const json_t *args)
{
	json_t *full = json_deep_copy(args), *g;
	size_t i;

	json_array_foreach(json_object_get(vm->desc, "globals"), i, g) {
		if (json_object_get(g, "property"))
			apply(full, json_str(g, "driver", ""), json_str(g, "property", ""),
			      json_object_get(g, "value"));
		else
			apply_short(full, g);
	}
	return full;
}
