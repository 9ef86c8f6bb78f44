/*
 * hello.c - the smallest client of libroost: boot a guest, print what it says.
 *
 *	cc -o hello hello.c $(pkg-config --cflags --libs roost)
 *	./hello "-m 256 -kernel /boot/vmlinuz -append console=ttyS0" "Linux version"
 */
#include <stdio.h>

#include <roost.h>

int main(int argc, char **argv)
{
	struct roost_error e;
	struct roost_vm *vm = NULL;
	char *text = NULL;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: hello OPTIONS TEXT (roost %s)\n", roost_version());
		return 2;
	}
	r = roost_vm_create(argv[1], &vm, &e);
	if (r == 0)
		r = roost_vm_start(vm, &e);
	if (r == 0)
		r = roost_serial_expect(vm, 0, argv[2], 0, 60000, &text, &e);
	if (text)
		printf("%s\n", text);
	if (r)
		fprintf(stderr, "hello: %s\n", e.text);
	roost_free(text);
	roost_vm_destroy(vm);
	return r != 0;
}
