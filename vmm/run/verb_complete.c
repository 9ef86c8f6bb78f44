/*
 * vmm/run/verb_complete.c - completion for the shells, from the tables and the
 * running VMs: `roost help --complete WORD...`.
 * Threads: the only one of the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/help.h"
#include "vmm/run/ignored.h"
#include "vmm/run/img.h"
#include "vmm/run/machine.h"
#include "vmm/run/obj_list.h"
#include "vmm/run/options.h"
#include "vmm/run/verb.h"
#include "vmm/run/verb_man.h"

/* A candidate when it goes on from @word. @before and @after stand around it. */
static void offer(const char *word, const char *before, const char *text, const char *after)
{
	char *whole = xasprintf("%s%s%s", before, text, after);

	if (strncmp(whole, word, strlen(word)) == 0)
		puts(whole);
	free(whole);
}

static void offer_vms(const char *word)
{
	struct runtime *list;
	size_t count;

	if (runtime_list(&list, &count, NULL))
		return;
	for (size_t i = 0; i < count; i++)
		offer(word, "", list[i].name, "");
	runtime_list_free(list, count);
}

static void offer_devices(const char *word)
{
	for (size_t i = 0; dev_list[i]; i++)
		if (!(dev_list[i]->flags & DEV_BUILTIN))
			offer(word, "", dev_list[i]->name, "");
}

static void offer_options(const char *word)
{
	struct option_info o;

	for (size_t i = 0; options_at(i, &o); i++)
		offer(word, "-", o.name, "");
	for (size_t i = 0; ignored_at(i); i++)
		if (!ignored_at(i)->part)
			offer(word, "-", ignored_at(i)->option, "");
}

static void offer_verbs(const char *word)
{
	for (const struct verb *v = verbs; v->name; v++)
		offer(word, "", v->name, "");
}

/* ---- k=v ---- */

static void offer_values(const struct prop *p, const char *word, const char *before)
{
	static const char *const bools[] = { "on", "off", NULL };
	static const char *const autos[] = { "auto", "on", "off", NULL };
	const char *const *words = p->type == PROP_T_BOOL ? bools :
				   p->type == PROP_T_AUTO ? autos :
				   p->type == PROP_T_ENUM ? p->choices : NULL;

	for (; words && *words; words++)
		offer(word, before, *words, "");
}

/* The last member of @word, after its last comma, by @tables. */
static void offer_members(const struct prop *const *tables, const char *word)
{
	const char *comma = strrchr(word, ','), *eq = comma ? strchr(comma, '=') : NULL;
	char *before = xasprintf("%.*s", (int)((eq ? eq : comma) + 1 - word), word);
	char name[64];

	snprintf(name, sizeof(name), "%.*s", eq ? (int)(eq - comma - 1) : 0, comma + 1);
	for (; *tables; tables++)
		for (const struct prop *p = *tables; p->type != PROP_T_END; p++) {
			if (eq && strcmp(p->name, name) == 0)
				offer_values(p, word, before);
			else if (!eq && !(p->flags & PROP_HIDDEN))
				offer(word, before, p->name, "=");
		}
	free(before);
}

static void offer_device(const char *word)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct dev_type *t;
	char driver[64];

	snprintf(driver, sizeof(driver), "%.*s", (int)strcspn(word, ","), word);
	t = dev_type_find(dev_list, driver);
	if (!strchr(word, ',')) {
		offer_devices(word);
	} else if (t) {
		dev_type_tables(t, tables);
		offer_members(tables, word);
	}
}

static void offer_list(const char *word, const char *const *list)
{
	for (; list && *list; list++)
		offer(word, "", *list, "");
}

static void offer_first(const char *option, const char *word)
{
	if (strcmp(option, "machine") == 0 || strcmp(option, "M") == 0)
		for (size_t i = 0; machine_list[i]; i++)
			offer(word, "", machine_list[i]->alias ? machine_list[i]->alias :
			      machine_list[i]->name, "");
	else if (strcmp(option, "object") == 0)
		for (size_t i = 0; obj_list[i]; i++)
			offer(word, "", obj_list[i]->name, "");
	else if (strcmp(option, "chardev") == 0)
		for (size_t i = 0; char_drivers[i]; i++)
			offer(word, "", char_drivers[i]->name, "");
	else if (strcmp(option, "cpu") == 0)
		offer_list(word, machine_cpu_names());
	else
		puts("@file");
}

/* The argument of @option. */
static void offer_argument(const char *option, const char *word)
{
	const struct prop *tables[2] = { help_option_props(option), NULL };

	if (strcmp(option, "device") == 0)
		offer_device(word);
	else if (strchr(word, ',') && tables[0])
		offer_members(tables, word);
	else if (!strchr(word, ','))
		offer_first(option, word);
}

static bool takes_argument(const char *option)
{
	const struct ignored *ig = ignored_find(option);
	struct option_info o;

	for (size_t i = 0; options_at(i, &o); i++)
		if (strcmp(o.name, option) == 0)
			return o.arg != NULL;
	return ig && ig->arg;
}

static void complete_run(int n, char **words)
{
	const char *word = words[n - 1], *prev = n > 1 ? words[n - 2] : "";

	if (prev[0] == '-' && takes_argument(prev + strspn(prev, "-")))
		offer_argument(prev + strspn(prev, "-"), word);
	else if (word[0] == '-')
		offer_options(word);
	else
		puts("@file");
}

/* ---- verbs ---- */

/* The @i-th word of "NAME DEVICE[,k=v...] [IMAGE]". */
static const char *shown_word(const struct verb *v, int i)
{
	const char *p = v->args;

	while (i-- > 0 && p)
		p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL;
	return p ? p : "";
}

static bool is(const char *shown, const char *kind)
{
	return strncmp(shown + (*shown == '['), kind, strlen(kind)) == 0;
}

static void complete_verb(const struct verb *v, int n, char **words)
{
	const char *word = words[n - 1], *shown;
	int place = 0;

	if (word[0] == '-') {
		for (const struct prop *p = v->opts; p && p->type != PROP_T_END; p++)
			offer(word, "--", p->name, p->type == PROP_T_BOOL ? "" : "=");
		return;
	}
	for (int i = 0; i < n - 1; i++)
		place += words[i][0] != '-';
	shown = shown_word(v, place);
	if (is(shown, "NAME"))
		offer_vms(word);
	else if (is(shown, "DEVICE"))
		offer_device(word);
	else if (is(shown, "IMAGE"))
		puts("@file");
	if (!is(shown, "VERB"))
		return;
	offer_verbs(word);
	offer_devices(word);
	offer_options(word);
	offer(word, "", "ignored", "");
}

/* img has sub-commands, and options of qemu-img's kind: a table of its own. */
static void complete_img(int n, char **words)
{
	const char *word = words[n - 1], *command = n > 1 ? words[0] : NULL;
	char buf[IMG_WORD_MAX];

	if (command && word[0] != '-') {
		puts("@file");
		return;
	}
	for (size_t i = 0; img_word_at(command, i, buf); i++)
		offer(word, "", buf, "");
}

int verb_complete(int n, char **words)
{
	const struct verb *v = n > 1 ? verb_find(words[0]) : NULL;

	if (n < 1)
		return 0;
	if (n == 1 && words[0][0] != '-') {
		offer_verbs(words[0]);
		puts("@file");
	} else if (v && strcmp(v->name, "img") == 0) {
		complete_img(n - 1, words + 1);
	} else if (v && v->run) {
		complete_verb(v, n - 1, words + 1);
	} else {
		complete_run(n, words);
	}
	return 0;
}
