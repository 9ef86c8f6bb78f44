/*
 * vmm/run/verb_help.c - `roost help`: verbs, options, devices, from their tables.
 * Threads: the only one of the process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/help.h"
#include "vmm/run/ignored.h"
#include "vmm/run/options.h"
#include "vmm/run/verb.h"
#include "vmm/run/verb_man.h"

#define WORDS_MAX 512

void verb_print_all_help(FILE *f)
{
	fprintf(f,
		"usage: roost [run] [OPTIONS] [IMAGE...]\n"
		"       roost VERB [ARGUMENTS]\n\n"
		"Start a virtual machine. IMAGE is a disk image, shown to the guest as a virtio\n"
		"disk. The serial port is on this terminal; Ctrl-A x ends roost and Ctrl-A h\n"
		"lists the other keys.\n\n"
		"Verbs:\n");
	verb_print_list(f);
	fprintf(f, "\nOptions of run:\n");
	options_print_list(f);
	fprintf(f, "\nOptions without an effect (why: roost help ignored):");
	for (size_t i = 0; ignored_at(i); i++)
		if (!ignored_at(i)->part)
			fprintf(f, " -%s", ignored_at(i)->option);
	fprintf(f, "\n\nExit status:\n");
	for (int x = 0; x < VERB_EXITS; x++)
		fprintf(f, "  %d  %s\n", x, verb_exit_help((enum verb_exit)x));
	fprintf(f, "A guest with an isa-debug-exit device chooses the odd status of its run.\n");
}

static bool help_option(const char *topic)
{
	const char *name = topic + strspn(topic, "-");
	const struct ignored *ig = ignored_find(name);

	if (options_print_one(name, stdout)) {
		help_option_parts(name, stdout);
		return true;
	}
	if (ig)
		printf("-%s has no effect: %s.\n", name, ig->why);
	else if (options_qemu_only(name))
		printf("-%s is an option of QEMU that roost does not have (yet).\n", name);
	else
		return false;
	return true;
}

static int no_topic(const char *topic, struct err *e)
{
	const char *words[WORDS_MAX + 1], *near;
	struct option_info info;
	size_t n = 0;

	for (const struct verb *v = verbs; v->name && n < WORDS_MAX; v++)
		words[n++] = v->name;
	for (size_t i = 0; options_at(i, &info) && n < WORDS_MAX; i++)
		words[n++] = info.name;
	for (size_t i = 0; dev_list[i] && n < WORDS_MAX; i++)
		words[n++] = dev_list[i]->name;
	words[n] = NULL;
	near = util_nearest(topic + strspn(topic, "-"), words);
	if (near)
		return err_set(e, -EINVAL, "help: nothing is called '%s'; did you mean %s?",
			       topic, near);
	return err_set(e, -EINVAL, "help: nothing is called '%s'; see roost help and "
		       "roost -device help", topic);
}

int verb_help(struct verb_call *c, struct err *e)
{
	const char *topic = c->argv[0];
	const struct verb *v = topic ? verb_find(topic) : NULL;

	if (topic && strcmp(topic, "--man") == 0)
		return verb_man(c->argv[1], e);
	if (topic && strcmp(topic, "--complete") == 0)
		return verb_complete(c->argc - 1, c->argv + 1);
	if (!topic)
		verb_print_all_help(stdout);
	else if (v)
		verb_print_help(v, stdout);
	else if (strcmp(topic, "ignored") == 0)
		ignored_print(stdout);
	else if (!help_option(topic) && !help_device(topic, stdout)) {
		c->exit = VERB_USAGE;
		return no_topic(topic, e);
	}
	return 0;
}
