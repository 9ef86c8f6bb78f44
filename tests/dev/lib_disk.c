/* tests/dev/lib_disk.c - see lib_disk.h. */
#include "tests/dev/lib_disk.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/fault.h"
#include "vmm/base/json.h"

char td_dir[32];

void td_make(void)
{
	snprintf(td_dir, sizeof(td_dir), "/var/tmp/roost-disk-XXXXXX");
	cr_assert_not_null(mkdtemp(td_dir));
}

void td_remove(void)
{
	td_sh("rm * && cd / && rmdir $OLDPWD");
}

void td_sh(const char *command)
{
	char text[1024];

	snprintf(text, sizeof(text), "cd %s && %s", td_dir, command);
	cr_assert_eq(system(text), 0, "%s", text);
}

void td_fault(struct block_graph *g, const char *rule, ...)
{
	struct err e = ERR_INIT;
	char text[160];
	json_t *args;
	va_list ap;

	va_start(ap, rule);
	vsnprintf(text, sizeof(text), rule, ap);
	va_end(ap);
	args = json_from_keyval(text, NULL, true, "fault", &e);
	cr_assert_eq(block_fault_add(g, args, &e), 0, "%s", e.text);
	json_decref(args);
}

static void add_held(const struct block_fault_info *i, void *arg)
{
	*(uint32_t *)arg += i->held;
}

uint32_t td_held(struct block_graph *g)
{
	uint32_t n = 0;

	block_fault_each(g, add_held, &n);
	return n;
}
