/*
 * vmm/run/help.c - `help` as an argument: lists made from the tables.
 */
#include "vmm/run/help.h"

#include <string.h>

#include "block/block.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/machine.h"
#include "vmm/run/obj_list.h"

static bool asks(const char *word)
{
	return strcmp(word, "help") == 0 || strcmp(word, "?") == 0;
}

static void print_default(const struct prop *p, FILE *f)
{
	static const char *const autos[] = { "auto", "on", "off" };

	switch (p->type) {
	case PROP_T_STR:
	case PROP_T_LINK:
		if (p->def_str)
			fprintf(f, " (default %s)", p->def_str);
		break;
	case PROP_T_BOOL:
		fprintf(f, " (default %s)", p->def ? "on" : "off");
		break;
	case PROP_T_AUTO:
		fprintf(f, " (default %s)", autos[p->def]);
		break;
	case PROP_T_ENUM:
		fprintf(f, " (default %s)", p->choices[p->def]);
		break;
	case PROP_T_JSON:
		break;
	default:
		fprintf(f, " (default %lld)", (long long)p->def);
		break;
	}
}

static void print_table(const struct prop *p, FILE *f)
{
	char left[80], range[160];

	for (; p->type != PROP_T_END; p++) {
		if (p->flags & PROP_HIDDEN)
			continue;
		snprintf(left, sizeof(left), "%s=<%s>", p->name, prop_type_name(p));
		fprintf(f, "  %-32s %s: %s%s%s", left, p->help,
			prop_range(p, range, sizeof(range)), p->unit ? " " : "",
			p->unit ? p->unit : "");
		print_default(p, f);
		fprintf(f, "%s\n", p->flags & PROP_REQUIRED ? " (required)" : "");
	}
}

const struct prop *help_option_props(const char *name)
{
	static const struct {
		const char *name;
		const struct prop *props;
	} parts[] = {
		{ "machine", machine_props }, { "M", machine_props }, { "smp", smp_props },
		{ "m", mem_props }, { "accel", accel_props }, { "name", name_props },
		{ "boot", boot_props }, { "overcommit", overcommit_props },
		{ "msg", msg_props }, { "sandbox", sandbox_props }, { "drive", drive_props },
		{ "blockdev", block_node_props }, { "chardev", char_props },
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (strcmp(parts[i].name, name) == 0)
			return parts[i].props;
	return NULL;
}

void help_option_parts(const char *name, FILE *f)
{
	const struct prop *props = help_option_props(name);

	if (props)
		print_table(props, f);
	for (int i = 0; strcmp(name, "chardev") == 0 && char_drivers[i]; i++) {
		fprintf(f, "%s: %s\n", char_drivers[i]->name, char_drivers[i]->help);
		print_table(char_drivers[i]->props, f);
	}
}

static void list_devices(FILE *f)
{
	for (int i = 0; dev_list[i]; i++) {
		const struct dev_type *t = dev_list[i];

		if (t->flags & DEV_BUILTIN)
			continue;
		fprintf(f, "  %-28s %s%s%s%s\n", t->name, t->help, t->alias ? " (also " : "",
			t->alias ? t->alias : "", t->alias ? ")" : "");
	}
}

bool help_device(const char *driver, FILE *f)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct dev_type *t = dev_type_find(dev_list, driver);

	if (!t)
		return false;	/* building it reports the unknown driver */
	fprintf(f, "%s: %s\n", t->name, t->help);
	dev_type_tables(t, tables);
	for (int i = 0; tables[i]; i++)
		print_table(tables[i], f);
	return true;
}

static bool help_devices(const json_t *desc, FILE *f)
{
	json_t *list = json_object_get(desc, "devices"), *d;
	const char *driver;
	size_t i;

	json_array_foreach(list, i, d) {
		driver = json_str(d, "driver", "");
		if (asks(driver)) {
			list_devices(f);
			return true;
		}
		if (json_object_get(d, "help") && help_device(driver, f))
			return true;
	}
	return false;
}

static bool help_objects(const json_t *desc, FILE *f)
{
	json_t *list = json_object_get(desc, "objects"), *o;
	size_t i;

	json_array_foreach(list, i, o) {
		if (asks(json_str(o, "qom-type", ""))) {
			for (size_t k = 0; obj_list[k]; k++) {
				fprintf(f, "%s: %s\n", obj_list[k]->name, obj_list[k]->help);
				/* Three share one table. */
				if (!obj_list[k + 1] || obj_list[k + 1]->props != obj_list[k]->props)
					print_table(obj_list[k]->props, f);
			}
			return true;
		}
	}
	return false;
}

static void print_trace(const struct trace_point *p, void *arg)
{
	fprintf(arg, "  %s\n", p->name);
}

static bool help_trace(const json_t *desc, FILE *f)
{
	json_t *list = json_object_get(desc, "trace"), *t;
	size_t i;

	json_array_foreach(list, i, t) {
		if (asks(json_string_value(t))) {
			trace_each(print_trace, f);
			return true;
		}
	}
	return false;
}

static void print_words(const char *const *words, FILE *f)
{
	for (; *words; words++)
		fprintf(f, "  %s\n", *words);
}

bool help_print(const json_t *desc, FILE *f)
{
	json_t *machine = json_object_get(desc, "machine");

	if (asks(json_str(desc, "cpu", ""))) {
		print_words(machine_cpu_names(), f);
		return true;
	}
	if (asks(json_str(machine, "type", "")) || json_object_get(machine, "help")) {
		for (int i = 0; machine_list[i]; i++)
			fprintf(f, "  %-20s %s%s%s%s\n", machine_list[i]->name,
				machine_list[i]->help,
				machine_list[i]->alias ? " (also " : "",
				machine_list[i]->alias ? machine_list[i]->alias : "",
				machine_list[i]->alias ? ")" : "");
		print_table(machine_props, f);
		return true;
	}
	return help_devices(desc, f) || help_objects(desc, f) || help_trace(desc, f);
}
