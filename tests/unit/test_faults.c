/*
 * tests/unit/test_faults.c - -object fault: targets, names, serial lines that
 * stall, the clock's jump, and that all end when the fault is removed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "lib_char.h"
#include "vmm/base/json.h"
#include "vmm/control/faults.h"
#include "vmm/core/object.h"
#include "vmm/core/vm.h"

static const struct vm_object_type *const types[] = { &fault_object_type, NULL };
static struct vm *vm;
static int64_t jumped;

static void clock_jump(struct vm *v, int64_t seconds)
{
	jumped += seconds;
}

static const struct vm_machine_ops machine = { .name = "test", .clock_jump = clock_jump };
static const struct vm_machine_ops no_clock = { .name = "test" };

static void begin(void)
{
	char_test_begin();
	vm = vm_create(l);
	vm->chars = set;
	vm->blocks = block_graph_create(l);
	vm->machine = &machine;
	vm->object_types = types;
}

static void end(void)
{
	struct block_graph *g = vm->blocks;

	vm_destroy(vm);
	block_graph_destroy(g);
	char_test_end();
}

TestSuite(faults, .init = begin, .fini = end, .timeout = 60);

static int add(const char *text)
{
	json_t *args;
	int r;

	e = (struct err)ERR_INIT;
	args = json_from_keyval(text, "qom-type", 0, "test", &e);
	cr_assert_not_null(args, "%s", e.text);
	r = vm_object_add(vm, args, &e);
	json_decref(args);
	return r;
}

static struct chardev *line(void)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "backend=file,id=s0,path=%s", in_dir("out")), 0, "%s", e.text);
	return connected(c);
}

Test(faults, test_stall_takes_no_output_until_it_is_removed)
{
	struct chardev *c = line();

	write_all(c, "before ");
	cr_assert_eq(add("fault,id=f,chardev=s0,stall=out"), 0, "%s", e.text);
	cr_expect_eq(char_write(c, "lost", 4), 0);
	turns(5);
	cr_expect_eq(rec.writable, 0, "told to go on while it stalls");
	cr_assert_eq(vm_object_del(vm, "f", &e), 0, "%s", e.text);
	cr_expect_eq(rec.writable, 1, "not told to go on");
	write_all(c, "after");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "before after");
}

Test(faults, test_stall_of_input_only_takes_output)
{
	struct chardev *c = line();

	cr_assert_eq(add("fault,id=f,chardev=s0,stall=in"), 0, "%s", e.text);
	cr_expect_eq(char_write(c, "x", 1), 1);
}

Test(faults, test_clock_jumps_and_jumps_back)
{
	cr_assert_eq(add("fault,id=f,clock=-3600"), 0, "%s", e.text);
	cr_expect_eq(jumped, -3600);
	cr_assert_eq(vm_object_del(vm, "f", &e), 0);
	cr_expect_eq(jumped, 0);
}

Test(faults, test_list_names_target_and_what_is_wrong)
{
	json_t *list;
	char *text;

	line();
	cr_assert_eq(add("fault,id=a,chardev=s0"), 0, "%s", e.text);
	cr_assert_eq(add("fault,id=b,clock=5"), 0, "%s", e.text);
	list = fault_list(vm);
	text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);
	cr_expect_str_eq(text, "[{\"chardev\":\"s0\",\"id\":\"a\",\"stall\":\"both\"},"
			 "{\"clock\":5,\"id\":\"b\"}]");
	free(text);
	json_decref(list);
}

static void refused(const char *text, const char *sentence)
{
	cr_expect_lt(add(text), 0, "%s is accepted", text);
	cr_expect(strstr(e.text, sentence), "%s: '%s' lacks '%s'", text, e.text, sentence);
}

Test(faults, test_mistakes_are_named)
{
	refused("fault,chardev=s0", "needs id=");
	refused("fault,id=f", "drive=, chardev= or clock= is missing");
	refused("fault,id=f,clock=1,drive=d0", "one target");
	refused("fault,id=f,chardev=s9", "no chardev");
	refused("fault,id=f,chardev=s9,stall=up", "stall");
	refused("fault,id=f,drive=d9,errno=EIO", "no drive");
	refused("fault,id=f,clock=soon", "clock");
	refused("fault,id=f,clock=5,errno=EIO", "errno");
	cr_assert_eq(add("fault,id=f,clock=1"), 0, "%s", e.text);
	refused("fault,id=f,clock=1", "taken");
	vm->machine = &no_clock;
	refused("fault,id=g,clock=1", "no clock");
	vm->machine = &machine;
	cr_expect_eq(vm_object_del(vm, "g", &e), -ENOENT);
}
