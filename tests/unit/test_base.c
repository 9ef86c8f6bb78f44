/*
 * tests/unit/test_base.c - errors, utilities, option syntax, property tables.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/prop.h"
#include "vmm/base/util.h"

struct obj {
	bool on;
	int tri, word;
	uint8_t u8;
	uint64_t u64, size;
	int32_t i32;
	char *text, *link;
	json_t *any;
};

static const char *const words[] = { "red", "green", NULL };
static const struct prop props[] = {
	PROP_BOOL(struct obj, on, "on", 1, "a switch"),
	PROP_ONOFFAUTO(struct obj, tri, "tri", PROP_AUTO, "a switch with auto"),
	PROP_ENUM(struct obj, word, "word", words, 1, "a colour"),
	PROP_U8(struct obj, u8, "u8", 1, 200, 7, "a small number"),
	PROP_U64(struct obj, u64, "u64", 0, UINT64_MAX, 0, "a large number"),
	PROP_SIZE(struct obj, size, "size", 512, 1ull << 40, 4096, "a size", .unit = "bytes"),
	PROP_I32(struct obj, i32, "i32", -5, 5, -1, "a signed number"),
	PROP_STR(struct obj, text, "text", "hello", "a text"),
	PROP_LINK(struct obj, link, "link", "drive", "a drive"),
	PROP_JSON(struct obj, any, "any", "anything"),
	PROP_END
};
static const struct prop *const tables[] = { props, NULL };

static int apply(struct obj *o, const char *text, struct err *e)
{
	json_t *args = json_from_keyval(text, NULL, 0, "obj", e);
	int r = -EINVAL;

	if (args)
		r = prop_apply(tables, o, args, NULL, "obj 'o1'", e);
	json_decref(args);
	return r;
}

Test(err, test_err_set_twice_keeps_first)
{
	struct err e = ERR_INIT;

	cr_assert_eq(err_set(&e, -EINVAL, "first %d", 1), -EINVAL);
	cr_assert_eq(err_set(&e, -EIO, "second"), -EIO);
	cr_assert_str_eq(e.text, "first 1");
	err_prefix(&e, "disk '%s'", "d0");
	cr_assert_str_eq(e.text, "disk 'd0': first 1");
}

Test(err, test_err_sys_appends_reason)
{
	struct err e = ERR_INIT;

	err_sys(&e, -ENOENT, "cannot open %s", "x");
	cr_assert_str_eq(e.text, "cannot open x: No such file or directory");
}

Test(prop, test_prop_defaults_are_those_of_the_table)
{
	struct obj o = { 0 };

	prop_defaults(tables, &o);
	cr_assert(o.on && o.tri == PROP_AUTO && o.word == 1 && o.u8 == 7);
	cr_assert(o.size == 4096 && o.i32 == -1 && !o.link && !o.any);
	cr_assert_str_eq(o.text, "hello");
	prop_free(tables, &o);
}

Test(prop, test_prop_apply_strings_and_json_agree)
{
	const char *forms[] = {
		"on=off,tri=on,word=red,u8=9,size=1k,i32=-5,text=a,,b,link=d0,u64=0xffffffffffffffff",
		"{\"on\":false,\"tri\":\"on\",\"word\":\"red\",\"u8\":9,\"size\":1024,"
		"\"i32\":-5,\"text\":\"a,b\",\"link\":\"d0\",\"u64\":\"18446744073709551615\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct err e = ERR_INIT;
		struct obj o = { 0 };

		prop_defaults(tables, &o);
		cr_assert_eq(apply(&o, forms[i], &e), 0, "%s", e.text);
		cr_assert(!o.on && o.tri == PROP_ON && o.word == 0 && o.u8 == 9);
		cr_assert(o.size == 1024 && o.i32 == -5 && o.u64 == UINT64_MAX);
		cr_assert_str_eq(o.text, "a,b");
		cr_assert_str_eq(o.link, "d0");
		prop_free(tables, &o);
	}
}

Test(prop, test_prop_apply_bad_values_are_refused_by_name)
{
	static const struct { const char *args, *text; } bad[] = {
		{ "u8=0", "obj 'o1': u8=0: must be 1..200" },
		{ "u8=201", "obj 'o1': u8=201: must be 1..200" },
		{ "u8=-1", "obj 'o1': u8=-1: must be 1..200" },
		{ "u8=1x", "obj 'o1': u8=1x: must be 1..200" },
		{ "i32=6", "obj 'o1': i32=6: must be -5..5" },
		{ "i32=-6", "obj 'o1': i32=-6: must be -5..5" },
		{ "size=511", "obj 'o1': size=511: must be 512..1099511627776 bytes" },
		{ "size=99999999999999999999", "obj 'o1': size=99999999999999999999: must be 512..1099511627776 bytes" },
		{ "size=1Z", "obj 'o1': size=1Z: must be 512..1099511627776 bytes" },
		{ "word=blue", "obj 'o1': word=blue: must be red|green" },
		{ "on=maybe", "obj 'o1': on=maybe: must be on|off" },
		{ "{\"u8\":-1}", "obj 'o1': u8=-1: must be 1..200" },
		{ "sise=1", "obj 'o1' has no option 'sise'; did you mean 'size'?" },
		{ "qqqqqqq=1", "obj 'o1' has no option 'qqqqqqq'" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		struct obj o = { 0 };

		prop_defaults(tables, &o);
		cr_assert_eq(apply(&o, bad[i].args, &e), -EINVAL, "%s", bad[i].args);
		cr_assert_str_eq(e.text, bad[i].text);
		prop_free(tables, &o);
	}
}

Test(prop, test_prop_get_returns_what_was_set)
{
	struct err e = ERR_INIT;
	struct obj o = { 0 };
	json_t *got;

	prop_defaults(tables, &o);
	cr_assert_eq(apply(&o, "tri=off,word=red,i32=-3", &e), 0);
	got = prop_get(prop_find(tables, "tri"), &o);
	cr_assert_str_eq(json_string_value(got), "off");
	json_decref(got);
	got = prop_get(prop_find(tables, "i32"), &o);
	cr_assert_eq(json_integer_value(got), -3);
	json_decref(got);
	prop_free(tables, &o);
}

Test(prop, test_prop_required_missing_is_named)
{
	static const struct prop need[] = {
		PROP_LINK(struct obj, link, "drive", "drive", "the disk", .flags = PROP_REQUIRED),
		PROP_END
	};
	static const struct prop *const t[] = { need, NULL };
	struct err e = ERR_INIT;
	struct obj o = { 0 };
	json_t *args = json_object();

	cr_assert_eq(prop_apply(t, &o, args, NULL, "disk", &e), -EINVAL);
	cr_assert_str_eq(e.text, "disk needs drive= (the disk)");
	json_decref(args);
}

Test(json, test_keyval_implied_nested_and_commas)
{
	struct err e = ERR_INIT;
	json_t *o = json_from_keyval("raw,file.driver=file,file.filename=a,,b,ro", "driver", 1,
				     "-blockdev", &e);
	json_t *f = json_object_get(o, "file");

	cr_assert_not_null(o, "%s", e.text);
	cr_assert_str_eq(json_str(o, "driver", ""), "raw");
	cr_assert_str_eq(json_str(o, "ro", ""), "on");
	cr_assert_str_eq(json_str(f, "filename", ""), "a,b");
	json_decref(o);
}

Test(json, test_keyval_broken_input_is_refused)
{
	const char *bad[] = { "=x", "a=1,=2", "a=1,a.b=2", ".a=1", "a..b=1", "{", "{\"a\":1,\"a\":2}",
			      "x=\xff" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		cr_assert_null(json_from_keyval(bad[i], NULL, 1, "-x", &e), "%s", bad[i]);
		cr_assert(err_is_set(&e));
	}
}

Test(util, test_iov_walks_respect_offsets_and_ends)
{
	char a[4] = "abcd", b[3] = "efg", out[8] = "";
	struct iovec iov[3] = { { a, 4 }, { NULL, 0 }, { b, 3 } };

	cr_assert_eq(iov_to_buf(iov, 3, 2, out, 8), 5);
	cr_assert_eq(memcmp(out, "cdefg", 5), 0);
	cr_assert_eq(iov_from_buf(iov, 3, 3, "XY", 2), 2);
	cr_assert(a[3] == 'X' && b[0] == 'Y');
	cr_assert_eq(iov_zero(iov, 3, 5, 100), 2);
	cr_assert(b[1] == 0 && b[2] == 0);
	cr_assert_eq(iov_advance(iov, 3, 4), 1);
	cr_assert_eq(iov[0].iov_base, b);
	cr_assert_eq(iov_advance(iov, 1, 9), 0);
}

Test(util, test_nearest_finds_typing_mistakes_only)
{
	const char *const list[] = { "virtio-blk-pci", "virtio-rng-pci", "isa-serial", NULL };

	cr_assert_str_eq(util_nearest("virtio-blk-pic", list), "virtio-blk-pci");
	cr_assert_str_eq(util_nearest("virtio-rng", list), "virtio-rng-pci");
	cr_assert_null(util_nearest("e1000", list));
}

static int lines;
static char last[1024];

static void count_lines(enum log_level level, const char *line, void *arg)
{
	lines++;
	snprintf(last, sizeof(last), "%s", line);
}

TRACE_DEFINE(test_point);

Test(log, test_log_guest_is_limited)
{
	struct log_limit lim = { 0 };

	log_set_sink(count_lines, NULL);
	for (int i = 0; i < 1000; i++)
		log_guest(&lim, "disk0", "bad ring");
	/* A second boundary may fall inside the loop. */
	cr_assert(lines >= LOG_LIMIT_BURST && lines <= 2 * LOG_LIMIT_BURST);
	log_set_sink(NULL, NULL);
}

Test(log, test_trace_is_off_until_enabled)
{
	log_set_sink(count_lines, NULL);
	trace(test_point, "x=%d", 1);
	cr_assert_eq(lines, 0);
	cr_assert_eq(trace_enable("test_*"), 1);
	trace(test_point, "x=%d", 2);
	cr_assert_eq(lines, 1);
	cr_assert_str_eq(last, "test_point x=2");
	log_set_sink(NULL, NULL);
}
