/*
 * tests/unit/lib_script.c - a node that fails as a test says.
 */
#include "lib_script.h"

#include <errno.h>
#include <string.h>

struct script script;

static const struct block_driver *real;
static struct block_driver fake;
static struct block_node *top;

static _Thread_local unsigned int seed = 1;

static unsigned int dice(unsigned int n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static int verdict(const struct block_req *r)
{
	if (script.fail)
		return -script.fail;
	if (script.bad && r->op != BLOCK_FLUSH && r->offset == script.bad)
		return -EIO;
	if (r->op == BLOCK_FLUSH && script.fail_flush)
		return -script.fail_flush;
	return dice(100) < script.percent ? -EIO : 0;
}

static void submit(struct block_node *n, struct block_req *r)
{
	int ret = verdict(r);

	if (script.logging && script.n < SCRIPT_LOG) {
		script.flags[script.n] = r->now.flags;
		script.log[script.n++] = r;
	}
	if (script.hold)
		script.held[script.holding++] = r;
	else if (ret)
		block_done_later(r, ret);
	else
		real->submit(n, r);
}

void script_install(struct drive *d)
{
	memset(&script, 0, sizeof(script));
	script.logging = true;
	top = d->node;
	real = top->drv;
	fake = *real;
	fake.submit = submit;
	d->node->drv = &fake;
}

void script_release(int ret)
{
	for (int i = 0; i < script.holding; i++) {
		struct block_req *r = script.held[i];

		if (ret)
			block_done_later(r, ret);
		else
			real->submit(top, r);
	}
	script.holding = 0;
	script.hold = false;
}

void script_clear(void)
{
	script.n = 0;
}
