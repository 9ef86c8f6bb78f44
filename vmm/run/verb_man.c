/*
 * vmm/run/verb_man.c - the parts of roost.1 that are made from tables:
 * `roost help --man verbs|options|ignored|devices|status`, in man(7) macros.
 * Threads: the only one of the process.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/ignored.h"
#include "vmm/run/options.h"
#include "vmm/run/verb_man.h"
#include "vmm/run/verb.h"

/* Text as troff takes it: no escapes, no request at the start of a line, and
 * hyphens that stay hyphens when they are copied. */
static void text(const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", stdout);
	for (; *s; s++) {
		if (*s == '\\')
			fputs("\\e", stdout);
		else if (*s == '-')
			fputs("\\-", stdout);
		else
			putchar(*s);
		if (*s == '\n' && (s[1] == '.' || s[1] == '\''))
			fputs("\\&", stdout);
	}
}

/* ".TP" and a bold word with its argument. */
static void head(const char *dash, const char *name, const char *arg)
{
	fputs(".TP\n\\fB", stdout);
	text(dash);
	text(name);
	fputs("\\fR", stdout);
	if (arg && *arg) {
		fputs(" \\fI", stdout);
		text(arg);
		fputs("\\fR", stdout);
	}
	putchar('\n');
}

static void sentence(const char *s)
{
	text(s);
	fputs(".\n", stdout);
}

static void man_props(const struct prop *p, const char *dash)
{
	char range[160];

	for (; p->type != PROP_T_END; p++) {
		if (p->flags & PROP_HIDDEN)
			continue;
		head(dash, p->name, *dash && p->type == PROP_T_BOOL ? NULL : prop_type_name(p));
		text(p->help);
		if (!*dash || p->type != PROP_T_BOOL) {	/* --json takes no value */
			fputs(": ", stdout);
			text(prop_range(p, range, sizeof(range)));
		}
		if (p->unit)
			printf(" %s", p->unit);
		fputs(p->flags & PROP_REQUIRED ? " (required).\n" : ".\n", stdout);
	}
}

static void man_verbs(void)
{
	for (const struct verb *v = verbs; v->name; v++) {
		head("", v->name, v->args);
		sentence(v->help);
		if (v->more) {
			text(v->more);
			putchar('\n');
		}
		if (!v->opts)
			continue;
		fputs(".RS\n", stdout);
		man_props(v->opts, "--");
		fputs(".RE\n", stdout);
	}
}

static void man_options(void)
{
	struct option_info o;

	for (size_t i = 0; options_at(i, &o); i++) {
		head("-", o.name, o.arg);
		sentence(o.help);
	}
}

static void man_ignored(void)
{
	const struct ignored *ig;

	for (size_t i = 0; (ig = ignored_at(i)); i++) {
		head("-", ig->option, ig->arg);
		sentence(ig->why);
	}
}

static void man_devices(void)
{
	const struct prop *tables[DEV_TABLES_MAX];

	for (size_t i = 0; dev_list[i]; i++) {
		if (dev_list[i]->flags & DEV_BUILTIN)
			continue;
		fputs(".SS ", stdout);
		text(dev_list[i]->name);
		putchar('\n');
		sentence(dev_list[i]->help);
		dev_type_tables(dev_list[i], tables);
		for (int k = 0; tables[k]; k++)
			man_props(tables[k], "");
	}
}

static void man_status(void)
{
	for (int x = 0; x < VERB_EXITS; x++) {
		printf(".TP\n%d\n", x);
		sentence(verb_exit_help((enum verb_exit)x));
	}
}

int verb_man(const char *part, struct err *e)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} parts[] = {
		{ "verbs", man_verbs }, { "options", man_options }, { "ignored", man_ignored },
		{ "devices", man_devices }, { "status", man_status },
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (part && strcmp(parts[i].name, part) == 0) {
			parts[i].print();
			return 0;
		}
	}
	return err_set(e, -EINVAL, "help --man: needs verbs, options, ignored, devices or status");
}
