/*
 * vmm/char/char_null.c - output to nowhere, no input.
 * Threads: none of its own.
 */
#include "vmm/char/char_priv.h"

static int null_open(struct chardev *c, struct err *e)
{
	c->open = true;
	return 0;
}

static void null_close(struct chardev *c)
{
}

const struct char_driver char_null_driver = {
	.name = "null", .help = "drops output, gives no input",
	.size = sizeof(struct chardev),
	.open = null_open, .close = null_close,
};
