/*
 * tests/runner/cycles.c - create, run and destroy a guest so many times; for
 * valgrind, which Criterion's processes confuse.
 *
 *	cycles GUEST COUNT
 *
 * valgrind lets one thread run at a time and does not know that
 * io_uring_enter() waits: the loops use threads instead.
 */
#include <stdio.h>
#include <stdlib.h>

#include "roost.h"

static int cycle(const char *options)
{
	struct roost_error e;
	struct roost_vm *vm = NULL;
	int r = roost_vm_create(options, &vm, &e);

	if (r == 0)
		r = roost_vm_start(vm, &e);
	if (r == 0)
		r = roost_serial_expect(vm, 0, "hello", 0, 60000, NULL, &e);
	if (r)
		fprintf(stderr, "%s\n", e.text);
	roost_vm_destroy(vm);
	return r;
}

int main(int argc, char **argv)
{
	char options[512];
	int n = argc == 3 ? atoi(argv[2]) : 0, i;

	if (n <= 0)
		return 2;
	snprintf(options, sizeof(options), "-aio threads -m 16 -kernel %s", argv[1]);
	for (i = 0; i < n && cycle(options) == 0; i++)
		;
	printf("%d cycles\n", i);
	return i != n;
}
