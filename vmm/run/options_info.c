/*
 * vmm/run/options_info.c - query-command-line-options: the options whose
 * arguments have names, from the tables that will read them.
 *
 * Spec:    QEMU's qapi/misc.json, CommandLineOptionInfo; the names of the groups
 *          are QEMU's ("smp-opts" for -smp).
 * Threads: any; constant tables.
 */
#include <string.h>

#include "block/block.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/run/machine.h"
#include "vmm/run/options.h"

static const struct group {
	const char *name;
	const struct prop *props;	/* NULL: depends on the first word */
} groups[] = {
	{ "machine", machine_props }, { "accel", accel_props }, { "smp-opts", smp_props },
	{ "memory", mem_props }, { "name", name_props }, { "overcommit", overcommit_props },
	{ "msg", msg_props }, { "drive", drive_props }, { "chardev", char_props },
	{ "device", NULL }, { "object", NULL }, { "blockdev", NULL }, { "global", NULL },
};

static const char *type_word(const struct prop *p)
{
	switch (p->type) {
	case PROP_T_BOOL:
		return "boolean";
	case PROP_T_SIZE:
		return "size";
	case PROP_T_U8:
	case PROP_T_U16:
	case PROP_T_U32:
	case PROP_T_U64:
	case PROP_T_I32:
	case PROP_T_I64:
		return "number";
	default:
		return "string";
	}
}

static bool has(const json_t *list, const char *name)
{
	json_t *p;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, p)
		if (strcmp(json_string_value(json_object_get(p, "name")), name) == 0)
			return true;
	return false;
}

static void add_props(json_t *list, const struct prop *p)
{
	for (; p && p->type != PROP_T_END; p++)
		if (!(p->flags & PROP_HIDDEN) && !has(list, p->name))
			json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "name", p->name,
							      "type", type_word(p),
							      "help", p->help));
}

json_t *options_describe(void)
{
	json_t *all = json_array(), *params;

	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		params = json_array();
		add_props(params, groups[i].props);
		for (int k = 0; groups[i].props == char_props && char_drivers[k]; k++)
			add_props(params, char_drivers[k]->props);
		json_array_append_new(all, json_pack("{s:s,s:o}", "option", groups[i].name,
						     "parameters", params));
	}
	return all;
}
