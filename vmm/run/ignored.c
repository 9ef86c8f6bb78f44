/*
 * vmm/run/ignored.c - the one table of QEMU options that are taken and change
 * nothing. What would change something is refused instead.
 */
#include "vmm/run/ignored.h"

#include <string.h>

#include "vmm/base/util.h"

static const struct ignored table[] = {
	{ "audiodev", "none,id=...", "none", false, "there is no sound" },
	{ "boot", "order=...,strict=...", NULL, true,
	  "without firmware the kernel given is what boots" },
	{ "display", "none", "none", false, "there is no display" },
	{ "enable-kvm", NULL, NULL, false, "KVM is what roost runs on" },
	{ "global", "kvm-pit.lost_tick_policy=...", NULL, true,
	  "the timer is the kernel's, which catches up lost ticks" },
	{ "machine", "acpi=...,graphics=...,vmport=...", NULL, true,
	  "ACPI is always there, a display and VMware's port never" },
	{ "name", "debug-threads=...", NULL, true, "threads always have names" },
	{ "no-acpi", NULL, NULL, false, "nothing on this machine could be found without ACPI" },
	{ "no-hpet", NULL, NULL, false, "there is no HPET" },
	{ "no-user-config", NULL, NULL, false, "no configuration file is read" },
	{ "object", "secret,...", NULL, true, "nothing here is encrypted, so no secret is used" },
	{ "sandbox", "obsolete=...,elevateprivileges=...,spawn=...", NULL, true,
	  "roost does none of it, so the filter always denies it" },
	{ "vga", "none", "none", false, "there is no VGA" },
};

const struct ignored *ignored_at(size_t i)
{
	return i < ARRAY_LEN(table) ? &table[i] : NULL;
}

const struct ignored *ignored_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (!table[i].part && strcmp(table[i].option, name) == 0)
			return &table[i];
	return NULL;
}

void ignored_print(FILE *f)
{
	char left[80];

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		snprintf(left, sizeof(left), "-%s%s%s", table[i].option, table[i].arg ? " " : "",
			 table[i].arg ? table[i].arg : "");
		if (strlen(left) > 44)
			fprintf(f, "  %s\n  %-44s %s\n", left, "", table[i].why);
		else
			fprintf(f, "  %-44s %s\n", left, table[i].why);
	}
}
