/*
 * tests/unit/test_options.c - from argv to the description.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/options.h"

static int parse(const char *const *words, json_t **desc, struct err *e)
{
	enum options_action act;
	char *argv[32] = { (char *)"roost" };
	int argc = 1;

	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	return options_parse(argc, argv, desc, &act, e);
}

Test(options, test_options_issue_command_line_becomes_json)
{
	static const char *const words[] = {
		"-machine", "q35,accel=kvm", "-smp", "2", "-m", "1G", "-kernel", "k",
		"-append", "console=ttyS0 root=/dev/vda", "-drive",
		"file=a,,b.raw,format=raw,if=none,id=d0", "-device", "virtio-blk-pci,drive=d0",
		"--serial", "mon:stdio", "disk.raw", NULL
	};
	struct err e = ERR_INIT;
	json_t *d, *drive;

	cr_assert_eq(parse(words, &d, &e), 0, "%s", e.text);
	drive = json_array_get(json_object_get(d, "drives"), 0);
	cr_assert_str_eq(json_str(json_object_get(d, "machine"), "type", ""), "q35");
	cr_assert_str_eq(json_str(json_object_get(d, "smp"), "cpus", ""), "2");
	cr_assert_str_eq(json_str(drive, "file", ""), "a,b.raw");
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(d, "images"), 0)),
			 "disk.raw");
	json_decref(d);
}

Test(options, test_options_json_and_keyval_devices_agree)
{
	static const char *const a[] = { "-device", "virtio-rng-pci,id=r", NULL };
	static const char *const b[] = { "-device", "{\"driver\":\"virtio-rng-pci\",\"id\":\"r\"}", NULL };
	struct err e = ERR_INIT;
	json_t *da, *db;

	cr_assert_eq(parse(a, &da, &e), 0);
	cr_assert_eq(parse(b, &db, &e), 0);
	cr_assert(json_equal(da, db));
	json_decref(da);
	json_decref(db);
}

Test(options, test_options_repeated_object_merges)
{
	static const char *const words[] = { "-machine", "q35", "-machine", "kernel-irqchip=split", NULL };
	struct err e = ERR_INIT;
	json_t *d, *m;

	cr_assert_eq(parse(words, &d, &e), 0);
	m = json_object_get(d, "machine");
	cr_assert_str_eq(json_str(m, "type", ""), "q35");
	cr_assert_str_eq(json_str(m, "kernel-irqchip", ""), "split");
	json_decref(d);
}

Test(options, test_options_mistakes_are_one_sentence)
{
	static const struct { const char *words[4], *text; } bad[] = {
		{ { "-kernle", "x" }, "unknown option -kernle; did you mean -kernel?" },
		{ { "-m" }, "-m needs an argument: SIZE" },
		{ { "-spice", "x" }, "-spice: QEMU has this option, roost has not (yet); see roost --help" },
		{ { "-append", "\xff" }, "-append: the value is not valid UTF-8" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		json_t *d;

		cr_assert_eq(parse(bad[i].words, &d, &e), -EINVAL);
		cr_assert_str_eq(e.text, bad[i].text);
		json_decref(d);
	}
}
