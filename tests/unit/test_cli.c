/*
 * tests/unit/test_cli.c - what the command line is made of: guesses, tables,
 * the monitor's language.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/guess.h"
#include "vmm/run/options.h"
#include "vmm/run/qmp_line.h"
#include "vmm/run/runtime.h"
#include "vmm/run/table.h"

/* ---- guesses ---- */

static json_t *parse(int argc, const char *const *words)
{
	char *argv[10] = { (char *)"roost" };
	enum options_action act;
	json_t *d;

	for (int i = 0; i < argc; i++)
		argv[i + 1] = (char *)words[i];
	cr_assert_eq(options_parse(argc + 1, argv, &d, &act, NULL), 0);
	return d;
}
#define PARSE(...) parse(ARRAY_LEN(((const char *[]){ __VA_ARGS__ })), \
			 (const char *const[]){ __VA_ARGS__ })

static const json_t *device(const json_t *d, size_t i)
{
	return json_array_get(json_object_get(d, "devices"), i);
}

Test(guess, test_image_becomes_a_disk_on_a_port_of_its_own)
{
	json_t *d = PARSE("a.raw", "b.raw");

	guess_defaults(d, 8);
	cr_assert_eq(json_array_size(json_object_get(d, "devices")), 4 + GUESS_SPARE_PORTS);
	cr_expect_str_eq(json_str(device(d, 1), "bus", ""), "port0");
	cr_expect_str_eq(json_str(device(d, 3), "bus", ""), "port1");
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(d, "smp"), "cpus")), 2);
	json_decref(d);
}

Test(guess, test_one_cpu_host_gets_one_vcpu)
{
	json_t *d = PARSE("a.raw");

	guess_defaults(d, 1);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(d, "smp"), "cpus")), 1);
	json_decref(d);
}

Test(guess, test_what_is_given_stays)
{
	json_t *d = PARSE("-smp", "5", "-m", "64M", "-cpu", "qemu64");

	guess_defaults(d, 8);
	cr_expect_str_eq(json_str(json_object_get(d, "smp"), "cpus", ""), "5");
	cr_expect_str_eq(json_str(json_object_get(d, "memory"), "size", ""), "64M");
	cr_expect_str_eq(json_str(d, "cpu", ""), "qemu64");
	json_decref(d);
}

Test(guess, test_machine_or_nodefaults_leave_all_as_it_is)
{
	json_t *a = PARSE("-machine", "q35", "x.raw"), *b = PARSE("-nodefaults", "x.raw");
	json_t *a2 = json_deep_copy(a), *b2 = json_deep_copy(b);

	guess_defaults(a, 8);
	guess_defaults(b, 8);
	cr_expect(json_equal(a, a2));
	cr_expect(json_equal(b, b2));
	json_decref(a);
	json_decref(b);
	json_decref(a2);
	json_decref(b2);
}

Test(guess, test_guesses_avoid_ids_that_are_taken)
{
	json_t *d = PARSE("-device", "virtio-rng-pci,id=port0", "-drive", "file=x,if=none,id=drive0",
			  "a.raw");

	guess_defaults(d, 8);
	cr_expect_str_eq(json_str(device(d, 1), "id", ""), "port1");
	cr_expect_str_eq(json_str(device(d, 2), "drive", ""), "drive1");
	json_decref(d);
}

Test(guess, test_twice_is_as_once)
{
	json_t *d = PARSE("a.raw"), *once;

	guess_defaults(d, 8);
	once = json_deep_copy(d);
	guess_defaults(d, 8);
	cr_expect(json_equal(d, once));
	json_decref(d);
	json_decref(once);
}

static void expect_name(json_t *d, const char *want, bool given)
{
	bool g;
	char *name = guess_name(d, &g);

	cr_expect_str_eq(name, want);
	cr_expect_eq(g, given, "%s", name);
	cr_expect_eq(runtime_check_name(name, NULL), 0);
	free(name);
	json_decref(d);
}

Test(guess, test_names_come_from_the_name_or_the_image)
{
	expect_name(PARSE("-name", "web"), "web", true);
	expect_name(PARSE("-name", "my guest/1"), "1", false);
	expect_name(PARSE("/srv/web 1.raw"), "web-1", false);
	expect_name(PARSE("-drive", "file=../x/db.qcow2"), "db", false);
	expect_name(PARSE("-kernel", "k"), "vm", false);
	expect_name(PARSE("äöü"), "vm", false);
	expect_name(PARSE("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff.raw"),
		    "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd", false);
}

/* ---- tables ---- */

static char *printed(const json_t *rows, bool json)
{
	static const struct table_col cols[] = {
		{ "name", "NAME", TABLE_TEXT }, { "size", "SIZE", TABLE_SIZE },
		{ "up", "UP", TABLE_SECONDS }, { "disks", "DISKS", TABLE_LIST },
		{ NULL, NULL, TABLE_TEXT }
	};
	char *buf;
	size_t len;
	FILE *f = open_memstream(&buf, &len);

	table_print(f, cols, rows, json);
	fclose(f);
	return buf;
}

Test(table, test_columns_align_by_characters)
{
	json_t *rows = json_pack("[{s:s,s:i,s:i,s:[s,s]},{s:s}]", "name", "wéb", "size", 1536,
				 "up", 3725, "disks", "a", "b", "name", "longer");
	char *s = printed(rows, false);

	cr_expect_str_eq(s, "NAME    SIZE  UP     DISKS\n"
			    "wéb     1.5K  1h02m  a,b\n"
			    "longer  -     -      -\n");
	free(s);
	json_decref(rows);
}

Test(table, test_control_characters_do_not_reach_the_terminal)
{
	json_t *rows = json_pack("[{s:s}]", "name", "a\033[2Jb\nc");
	char *s = printed(rows, false);

	cr_expect(strstr(s, "a?[2Jb?c"), "%s", s);
	free(s);
	json_decref(rows);
}

Test(table, test_json_is_the_rows_as_they_are)
{
	json_t *rows = json_pack("[{s:s,s:i}]", "name", "x", "size", 5), *back;
	char *s = printed(rows, true);

	back = json_loads(s, 0, NULL);
	cr_expect(json_equal(rows, back));
	free(s);
	json_decref(back);
	json_decref(rows);
}

static void expect_cell(enum table_kind kind, json_t *val, const char *want)
{
	char *s = table_cell(kind, val);

	cr_expect_str_eq(s, want);
	free(s);
	json_decref(val);
}

Test(table, test_cells_read_well)
{
	expect_cell(TABLE_SIZE, json_integer(1ll << 40), "1T");
	expect_cell(TABLE_SIZE, json_integer(1000), "1000");
	expect_cell(TABLE_SECONDS, json_integer(59), "59s");
	expect_cell(TABLE_SECONDS, json_integer(61), "1m01s");
	expect_cell(TABLE_SECONDS, json_integer(90061), "1d01h");
	expect_cell(TABLE_TEXT, json_true(), "yes");
	expect_cell(TABLE_LIST, json_array(), "-");
	expect_cell(TABLE_LIST, json_pack("[i]", 1), "?");
}

/* ---- the monitor's language ---- */

static const char schema_text[] =
	"[{\"name\":\"device_add\",\"meta-type\":\"command\",\"arg-type\":\"1\"},"
	"{\"name\":\"device_del\",\"meta-type\":\"command\",\"arg-type\":\"2\"},"
	"{\"name\":\"stop\",\"meta-type\":\"command\",\"arg-type\":\"0\"},"
	"{\"name\":\"0\",\"meta-type\":\"object\",\"members\":[]},"
	"{\"name\":\"1\",\"meta-type\":\"object\",\"members\":[{\"name\":\"driver\",\"type\":\"str\"},"
	"{\"name\":\"count\",\"type\":\"int\"},{\"name\":\"ro\",\"type\":\"bool\"},"
	"{\"name\":\"kind\",\"type\":\"3\"},{\"name\":\"file\",\"type\":\"4\"}],"
	"\"tag\":\"kind\",\"variants\":[{\"case\":\"tcp\",\"type\":\"5\"}]},"
	"{\"name\":\"2\",\"meta-type\":\"object\",\"members\":[{\"name\":\"id\",\"type\":\"str\"}]},"
	"{\"name\":\"3\",\"meta-type\":\"enum\",\"members\":[{\"name\":\"tcp\"},{\"name\":\"unix\"}]},"
	"{\"name\":\"4\",\"meta-type\":\"alternate\",\"members\":[{\"type\":\"str\"},{\"type\":\"6\"}]},"
	"{\"name\":\"5\",\"meta-type\":\"object\",\"members\":[{\"name\":\"port\",\"type\":\"int\"}]},"
	"{\"name\":\"6\",\"meta-type\":\"object\",\"members\":[{\"name\":\"filename\",\"type\":\"str\"},"
	"{\"name\":\"direct\",\"type\":\"bool\"}]},"
	"{\"name\":\"str\",\"meta-type\":\"builtin\",\"json-type\":\"string\"},"
	"{\"name\":\"int\",\"meta-type\":\"builtin\",\"json-type\":\"int\"},"
	"{\"name\":\"bool\",\"meta-type\":\"builtin\",\"json-type\":\"boolean\"}, 7, {}]";

static json_t *index_of(void)
{
	json_t *schema = json_loads(schema_text, 0, NULL), *index;

	cr_assert(schema);
	index = qmp_line_index(schema);
	json_decref(schema);
	return index;
}

static void expect_request(const char *line, const char *want)
{
	json_t *index = index_of(), *req, *wanted = json_loads(want, 0, NULL);
	struct err e = ERR_INIT;

	cr_assert(wanted, "%s", want);
	req = qmp_line_parse(line, index, &e);
	cr_expect(json_equal(req, wanted), "%s: %s %s", line, e.text,
		  req ? json_dumps(req, 0) : "");
	json_decref(req);
	json_decref(wanted);
	json_decref(index);
}

Test(qmp_line, test_words_become_what_the_schema_says)
{
	expect_request("stop", "{\"execute\":\"stop\",\"arguments\":{}}");
	expect_request("device_add driver=7 count=7 ro=on",
		       "{\"execute\":\"device_add\",\"arguments\":"
		       "{\"driver\":\"7\",\"count\":7,\"ro\":true}}");
	expect_request("device_add count=-0x10 ro=false",
		       "{\"execute\":\"device_add\",\"arguments\":{\"count\":-16,\"ro\":false}}");
	expect_request("device_add file.filename='a b' file.direct=true",
		       "{\"execute\":\"device_add\",\"arguments\":"
		       "{\"file\":{\"filename\":\"a b\",\"direct\":true}}}");
	expect_request("device_add kind=tcp port=5 x=[1,2]",
		       "{\"execute\":\"device_add\",\"arguments\":"
		       "{\"kind\":\"tcp\",\"port\":5,\"x\":[1,2]}}");
	expect_request("unknown a=1", "{\"execute\":\"unknown\",\"arguments\":{\"a\":\"1\"}}");
	expect_request(" {\"execute\":\"stop\",\"id\":[1]}", "{\"execute\":\"stop\",\"id\":[1]}");
}

static void expect_refusal(const char *line, const char *words)
{
	json_t *index = index_of();
	struct err e = ERR_INIT;

	cr_expect_null(qmp_line_parse(line, index, &e), "%s", line);
	cr_expect(strstr(e.text, words), "%s: %s", line, e.text);
	json_decref(index);
}

Test(qmp_line, test_bad_lines_are_refused)
{
	expect_refusal("device_add driver", "an argument is name=value");
	expect_refusal("device_add =x", "an argument is name=value");
	expect_refusal("device_add a='x", "a ' is missing");
	expect_refusal("device_add a=1 a.b=2", "not an object");
	expect_refusal("device_add a.b.c.d.e.f.g.h.i.j.k=1", "too many dots");
	expect_refusal("{\"execute\":", "column");
	expect_refusal("device_add a=\xff", "UTF-8");
}

static void expect_completion(const char *line, const char *want)
{
	json_t *index = index_of(), *words, *w;
	char got[400] = "";
	size_t start, i;

	words = qmp_line_complete(line, strlen(line), &start, index);
	json_array_foreach(words, i, w) {
		strncat(got, i ? " " : "", sizeof(got) - strlen(got) - 1);
		strncat(got, json_string_value(w), sizeof(got) - strlen(got) - 1);
	}
	cr_expect_str_eq(got, want, "'%s': %s", line, got);
	json_decref(words);
	json_decref(index);
}

Test(qmp_line, test_completion_follows_the_schema)
{
	expect_completion("", "device_add device_del stop");
	expect_completion("device_", "device_add device_del");
	expect_completion("  sto", "stop");
	expect_completion("device_add ", "count= driver= file. kind= ro=");
	expect_completion("device_add count=1 dr", "driver=");
	expect_completion("device_add count=1 c", "");
	expect_completion("device_add kind=", "kind=tcp kind=unix");
	expect_completion("device_add kind=u", "kind=unix");
	expect_completion("device_add ro=t", "ro=true");
	expect_completion("device_add kind=tcp p", "port=");
	expect_completion("device_add kind=unix p", "");
	expect_completion("device_add file.", "file.direct= file.filename=");
	expect_completion("device_add file.direct=", "file.direct=false file.direct=true");
	expect_completion("nonsense ", "");
	expect_completion("device_add a='", "");
}
