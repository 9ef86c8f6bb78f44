/*
 * Devices: names, properties, the order of set-up steps and of their undoing,
 * failure at each of them, reset.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"

static char steps[512];		/* what ran, in order */
static const char *fail_at;	/* the step that fails */
static int fail_with = -EIO;
static const char *busy;	/* "type", "inner" or "outer": reset takes time */

static void say(const char *what)
{
	strcat(steps, what);
	strcat(steps, " ");
}

static int step(const char *what, struct err *e)
{
	say(what);
	if (!fail_at || strcmp(what, fail_at) != 0)
		return 0;
	return err_set(e, fail_with, "%s went wrong", what);
}

static int reset_step(struct dev *d, const char *what)
{
	say(what);
	cr_assert_eq(pthread_mutex_trylock(&d->lock), EBUSY, "reset runs under the lock");
	return busy && strcmp(busy, what) == 0 ? -EINPROGRESS : 0;
}

static int outer_attach(struct dev *d, struct err *e) { return step("outer+", e); }
static int outer_start(struct dev *d, struct err *e) { return step("outer!", e); }
static void outer_stop(struct dev *d) { say("outer."); }
static void outer_detach(struct dev *d) { say("outer-"); }
static int outer_reset(struct dev *d) { return reset_step(d, "outer-reset"); }
static int inner_attach(struct dev *d, struct err *e) { return step("inner+", e); }
static int inner_start(struct dev *d, struct err *e) { return step("inner!", e); }
static void inner_stop(struct dev *d) { say("inner."); }
static void inner_detach(struct dev *d) { say("inner-"); }
static int inner_reset(struct dev *d) { return reset_step(d, "inner-reset"); }
static int type_init(struct dev *d, struct err *e) { return step("init", e); }
static void type_fini(struct dev *d) { say("fini"); }
static int type_reset(struct dev *d) { return reset_step(d, "reset"); }

static void type_pause(struct dev *d, bool paused)
{
	cr_assert_eq(pthread_mutex_trylock(&d->lock), EBUSY);
	say(paused ? "pause" : "resume");
}

struct outer {
	struct dev dev;
	uint32_t slot;
};

struct thing {
	struct outer outer;
	uint32_t rate;
	char *file;
};

static const struct prop outer_props[] = {
	PROP_U32(struct outer, slot, "slot", 0, 31, 3, "where it sits"),
	PROP_END
};

static const struct prop thing_props[] = {
	PROP_U32(struct thing, rate, "rate", 1, 1000, 10, "beats per second"),
	PROP_STR(struct thing, file, "file", NULL, "where to"),
	PROP_END
};

static const struct dev_class outer_class = {
	.name = "outer", .props = outer_props, .attach = outer_attach, .start = outer_start,
	.stop = outer_stop, .detach = outer_detach, .reset = outer_reset,
};

static const struct dev_class inner_class = {
	.name = "inner", .parent = &outer_class, .attach = inner_attach, .start = inner_start,
	.stop = inner_stop, .detach = inner_detach, .reset = inner_reset,
};

static const struct dev_type thing_type = {
	.name = "thing", .alias = "old-thing", .help = "a thing", .class = &inner_class,
	.size = sizeof(struct thing), .props = thing_props,
	.ops = { .init = type_init, .fini = type_fini, .reset = type_reset,
		 .pause = type_pause },
};

static const struct dev_type builtin_type = {
	.name = "board", .size = sizeof(struct dev), .flags = DEV_BUILTIN,
};

static const struct dev_type bare_type = {
	.name = "bare", .size = sizeof(struct dev),
};

static const struct dev_type *const types[] = { &thing_type, &builtin_type, &bare_type, NULL };

static struct loop *loop;
static struct vm *vm;
static struct err err;

static void setup(void)
{
	cr_assert_eq(loop_create(&loop, "main", LOOP_AIO_AUTO, &err), 0, "%s", err.text);
	vm = vm_create(loop);
	vm->types = types;
}

static void teardown(void)
{
	vm_destroy(vm);
	loop_destroy(loop);
}

TestSuite(dev, .init = setup, .fini = teardown);

static int create(const char *driver, const char *id, struct dev **out)
{
	json_t *args = json_object();
	int r;

	json_object_set_new(args, "driver", json_string(driver));
	if (id)
		json_object_set_new(args, "id", json_string(id));
	r = dev_create(vm, args, out, &err);
	json_decref(args);
	return r;
}

Test(dev, create_runs_the_steps_in_order)
{
	struct dev *d;

	cr_assert_eq(create("thing", "t0", &d), 0);
	cr_assert_str_eq(steps, "outer+ inner+ init inner! outer! "
			 "reset inner-reset outer-reset ");
	steps[0] = '\0';
	dev_destroy(d);
	cr_assert_str_eq(steps, "outer. inner. fini inner- outer- ");
	cr_assert_null(dev_find(vm, "t0"));
}

static void check_failure(const char *at, const char *expected)
{
	struct dev *d = NULL;

	fail_at = at;
	cr_assert_eq(create("thing", "t0", &d), -EIO);
	cr_assert_str_eq(steps, expected);
	cr_assert_str_eq(err.text + strlen(at), " went wrong");
	cr_assert_null(d);
	cr_assert_null(vm->devs);
}

Test(dev, create_failing_attach_of_the_outer_class_is_undone)
{
	check_failure("outer+", "outer+ outer- ");
}

Test(dev, create_failing_attach_of_the_inner_class_is_undone)
{
	check_failure("inner+", "outer+ inner+ inner- outer- ");
}

Test(dev, create_failing_init_is_undone)
{
	check_failure("init", "outer+ inner+ init fini inner- outer- ");
}

Test(dev, create_failing_start_of_the_inner_class_is_undone)
{
	check_failure("inner!", "outer+ inner+ init inner! inner. fini inner- outer- ");
}

Test(dev, create_failing_start_of_the_outer_class_is_undone)
{
	check_failure("outer!", "outer+ inner+ init inner! outer! outer. inner. fini "
		      "inner- outer- ");
}

static int silent_init(struct dev *d, struct err *e)
{
	return -EBUSY;
}

Test(dev, create_failing_without_a_sentence_gets_one)
{
	static const struct dev_type t = {
		.name = "mute", .size = sizeof(struct dev), .ops = { .init = silent_init },
	};

	cr_assert_eq(dev_create_type(vm, &t, NULL, NULL, &err), -EBUSY);
	cr_assert_not_null(strstr(err.text, "mute"), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "busy"), "%s", err.text);
}

Test(dev, create_applies_properties_of_type_and_class)
{
	json_t *args = json_pack("{s:s, s:s, s:i, s:s, s:s}", "driver", "old-thing", "id", "x",
				 "rate", 50, "slot", "7", "file", "/dev/null");
	struct dev *d;
	struct thing *t;

	cr_assert_eq(dev_create(vm, args, &d, &err), 0, "%s", err.text);
	json_decref(args);
	t = DEV_OF(d, struct thing);
	cr_assert_eq(t->rate, 50);
	cr_assert_eq(t->outer.slot, 7);
	cr_assert_str_eq(t->file, "/dev/null");
	cr_assert_str_eq(d->path, "x");
	cr_assert_eq(dev_find(vm, "x"), d);
}

Test(dev, create_without_properties_takes_the_defaults)
{
	struct dev *d;

	cr_assert_eq(create("thing", NULL, &d), 0);
	cr_assert_eq(DEV_OF(d, struct thing)->rate, 10);
	cr_assert_eq(DEV_OF(d, struct thing)->outer.slot, 3);
	cr_assert_null(d->id);
	cr_assert_eq(d->home, loop);
}

Test(dev, create_with_a_bad_property_names_device_and_value)
{
	json_t *args = json_pack("{s:s, s:s, s:i}", "driver", "thing", "id", "x", "rate", 5000);

	cr_assert_lt(dev_create(vm, args, NULL, &err), 0);
	json_decref(args);
	cr_assert_not_null(strstr(err.text, "thing 'x'"), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "5000"), "%s", err.text);
	cr_assert_str_eq(steps, "");
}

Test(dev, create_unknown_type_offers_the_nearest)
{
	cr_assert_eq(create("thin", NULL, NULL), -ENOENT);
	cr_assert_not_null(strstr(err.text, "did you mean 'thing'?"), "%s", err.text);
	err.text[0] = '\0';
	cr_assert_eq(create("xyzzyplugh", NULL, NULL), -ENOENT);
	cr_assert_not_null(strstr(err.text, "'xyzzyplugh'"), "%s", err.text);
}

Test(dev, create_without_driver_says_so)
{
	json_t *args = json_object();

	cr_assert_eq(dev_create(vm, args, NULL, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "driver="), "%s", err.text);
	json_decref(args);
}

Test(dev, create_builtin_is_for_the_machine_only)
{
	struct dev *d;

	cr_assert_eq(create("board", NULL, NULL), -EINVAL);
	cr_assert_not_null(strstr(err.text, "part of the machine"), "%s", err.text);
	cr_assert_eq(dev_create_type(vm, &builtin_type, NULL, &d, &err), 0);
	cr_assert_str_eq(d->path, "board[0]");
}

Test(dev, create_with_a_taken_id_names_the_owner)
{
	cr_assert_eq(create("bare", "d0", NULL), 0);
	cr_assert_eq(create("thing", "d0", NULL), -EEXIST);
	cr_assert_not_null(strstr(err.text, "'d0' is taken by a bare"), "%s", err.text);
}

Test(dev, create_with_an_ill_formed_id_is_refused)
{
	cr_assert_eq(create("bare", "", NULL), -EINVAL);
	cr_assert_eq(create("bare", "0d", NULL), -EINVAL);
	cr_assert_eq(create("bare", "a/b", NULL), -EINVAL);
	cr_assert_eq(create("bare", "a-b_c.9", NULL), 0);
}

Test(dev, paths_of_nameless_devices_are_unique)
{
	struct dev *a, *b, *c;

	cr_assert_eq(create("bare", NULL, &a), 0);
	cr_assert_eq(create("bare", NULL, &b), 0);
	cr_assert_str_eq(a->path, "bare[0]");
	cr_assert_str_eq(b->path, "bare[1]");
	dev_destroy(a);
	cr_assert_eq(create("bare", NULL, &c), 0);
	cr_assert_str_eq(c->path, "bare[0]");
}

Test(dev, tables_list_type_classes_and_core)
{
	const struct prop *tables[DEV_TABLES_MAX];

	dev_type_tables(&thing_type, tables);
	cr_assert_eq(tables[0], thing_props);
	cr_assert_eq(tables[1], outer_props);
	cr_assert_str_eq(tables[2][0].name, "id");
	cr_assert_null(tables[3]);
}

Test(dev, type_find_knows_aliases)
{
	cr_assert_eq(dev_type_find(types, "old-thing"), &thing_type);
	cr_assert_null(dev_type_find(types, "thing2"));
	cr_assert_null(dev_type_find(NULL, "thing"));
}

Test(dev, destroy_waits_for_callbacks_in_progress)
{
	struct dev *d;
	uint8_t b[4];

	cr_assert_eq(create("bare", NULL, &d), 0);
	bus_read(vm->bus[BUS_MMIO], 0, b, 4);
	cr_assert_eq(d->refs, 1);
	dev_destroy(d);
}

Test(dev, reset_that_takes_time_is_counted_once)
{
	struct dev *d;

	cr_assert_eq(create("thing", NULL, &d), 0);
	busy = "inner-reset";
	cr_assert_eq(dev_reset(d), -EINPROGRESS);
	cr_assert(d->resetting);
	cr_assert_eq(dev_reset(d), -EINPROGRESS);
	cr_assert_eq(vm->resets_pending, 1);
	busy = NULL;
	dev_reset_done(d);
	cr_assert_not(d->resetting);
	cr_assert_eq(vm->resets_pending, 0);
	cr_assert_eq(dev_reset(d), 0);
}

Test(dev, pause_reaches_the_type_under_its_lock)
{
	struct dev *d, *bare;

	cr_assert_eq(create("thing", NULL, &d), 0);
	cr_assert_eq(create("bare", NULL, &bare), 0);
	steps[0] = '\0';
	dev_pause(d, true);
	dev_pause(bare, true);
	dev_pause(d, false);
	cr_assert_str_eq(steps, "pause resume ");
}
