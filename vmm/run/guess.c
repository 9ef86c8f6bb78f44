/*
 * vmm/run/guess.c - what `roost disk.raw` means.
 * Threads: any; works on the description alone.
 */
#include "vmm/run/guess.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/runtime.h"

#define MEMORY_DEFAULT	"1G"
#define CPUS_DEFAULT	2

static json_t *list_of(json_t *desc, const char *key)
{
	json_t *list = json_object_get(desc, key);

	if (!list) {
		list = json_array();
		json_object_set_new(desc, key, list);
	}
	return list;
}

static bool id_taken(const json_t *list, const char *id)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		if (strcmp(json_str(item, "id", ""), id) == 0)
			return true;
	return false;
}

/* The first of STEM0, STEM1… that @list does not have. */
static char *new_id(const json_t *list, const char *stem)
{
	char *id;

	for (int i = 0;; i++) {
		id = xasprintf("%s%d", stem, i);
		if (!id_taken(list, id))
			return id;
		free(id);
	}
}

/* A root port; its id is the caller's. */
static char *add_port(json_t *devices)
{
	char *id = new_id(devices, "port");

	json_array_append_new(devices, json_pack("{s:s, s:s}", "driver", "pcie-root-port",
						 "id", id));
	return id;
}

static void add_disk(json_t *devices, const char *drive)
{
	char *port = add_port(devices), *id = new_id(devices, "disk");

	json_array_append_new(devices, json_pack("{s:s, s:s, s:s, s:s}", "driver",
						 "virtio-blk-pci", "id", id, "drive", drive,
						 "bus", port));
	free(port);
	free(id);
}

static void place_disks(json_t *desc)
{
	json_t *images = json_object_get(desc, "images"), *drives = list_of(desc, "drives");
	json_t *devices = list_of(desc, "devices"), *item;
	char *id;
	size_t i;

	json_array_foreach(images, i, item)	/* the guest boots from the first */
		json_array_insert_new(drives, i, json_pack("{s:O}", "file", item));
	json_object_del(desc, "images");
	json_array_foreach(drives, i, item) {
		if (strcmp(json_str(item, "if", "virtio"), "virtio"))
			continue;	/* none, or one that build_vm() refuses */
		if (!json_object_get(item, "id")) {
			id = new_id(drives, "drive");
			json_put_str(item, "id", id);
			free(id);
		}
		json_put_str(item, "if", "none");
		add_disk(devices, json_str(item, "id", ""));
	}
	for (int k = 0; k < GUESS_SPARE_PORTS; k++)
		free(add_port(devices));
}

void guess_defaults(json_t *desc, unsigned int host_cpus)
{
	if (json_object_get(desc, "machine") || json_object_get(desc, "nodefaults"))
		return;
	json_object_set_new(desc, "machine", json_pack("{s:s}", "type", "q35"));
	if (!json_object_get(desc, "cpu"))
		json_put_str(desc, "cpu", "host");
	if (!json_object_get(desc, "smp"))
		json_object_set_new(desc, "smp", json_pack("{s:I}", "cpus",
				    (json_int_t)MIN(MAX(host_cpus, 1u), CPUS_DEFAULT + 0u)));
	if (!json_object_get(desc, "memory"))
		json_object_set_new(desc, "memory", json_pack("{s:s}", "size", MEMORY_DEFAULT));
	place_disks(desc);
}

/* "/srv/web 1.raw" -> "web-1". */
static char *name_from(const char *path)
{
	const char *slash = strrchr(path, '/'), *from = slash ? slash + 1 : path;
	char name[RUNTIME_NAME_MAX - 7];	/* "-1000" may follow */
	char *dot;
	size_t n = 0;

	for (; *from && n < sizeof(name) - 1; from++)
		if (isalnum((unsigned char)*from) || (n && strchr("._+-", *from)))
			name[n++] = *from;
		else if (n)
			name[n++] = '-';
	name[n] = '\0';
	dot = slash || strchr(path, '.') ? strrchr(name, '.') : NULL;
	if (dot)
		*dot = '\0';
	return xstrdup(*name ? name : "vm");
}

char *guess_name(const json_t *desc, bool *given)
{
	const char *name = json_str(json_object_get(desc, "name"), "guest", NULL), *file;
	const json_t *drives = json_object_get(desc, "drives"), *d;
	size_t i;

	*given = name && runtime_check_name(name, NULL) == 0;
	if (*given)
		return xstrdup(name);
	if (name)
		return name_from(name);
	file = json_string_value(json_array_get(json_object_get(desc, "images"), 0));
	json_array_foreach(drives, i, d)
		if (!file)
			file = json_str(d, "file", NULL);
	return file ? name_from(file) : xstrdup("vm");
}
