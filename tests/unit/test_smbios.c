/* SMBIOS: entry point, walk over the structures, overrides. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "vmm/arch/x86/x86.h"
#include "vmm/base/util.h"
#include "vmm/core/gmem.h"

#define RAM	(4 * MIB)
#define BASE	(3 * MIB)
#define ENTRY	0xf0000

static const uint8_t uuid[16] = {
	0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
	0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
};

struct env {
	struct gmem *gm;
	uint8_t *host;
	struct x86_topology topo;
	struct smbios_info s;
	struct err e;
};

static void env_open(struct env *v)
{
	int fd;

	memset(v, 0, sizeof(*v));
	v->gm = gmem_create();
	cr_assert_eq(gmem_alloc(v->gm, "ram", RAM, NULL, &fd, &v->host, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, 0, RAM, v->host, fd, 0, false, &v->e), 0);
	v->topo = (struct x86_topology){ 4, 2, 1, 2, 1 };
	v->s = (struct smbios_info){ .uuid = uuid, .ram_bytes = 40 * GIB, .topo = &v->topo };
}

static void env_close(struct env *v)
{
	json_decref((json_t *)v->s.overrides);
	gmem_destroy(v->gm);
}

static int build(struct env *v, uint64_t space)
{
	return smbios_build(v->gm, &v->s, BASE, space, &v->e);
}

/* Walk as dmidecode does; the n-th structure of @type, or NULL. Checks that
 * the last one ends where the entry point says. */
static const uint8_t *find(const struct env *v, uint8_t type, unsigned int n)
{
	const uint8_t *entry = v->host + ENTRY, *found = NULL;
	const uint8_t *p = v->host + get_le64(entry + 16);
	const uint8_t *end = p + get_le32(entry + 12);

	while (p < end) {
		const uint8_t *next = p + p[1];

		if (p[0] == type && n-- == 0)
			found = p;
		while (next[0] || next[1])
			next++;
		next += 2;
		if (p[0] == 127)
			cr_assert_eq(next, end);
		p = next;
	}
	cr_assert_eq(p, end);
	return found;
}

static const char *string(const uint8_t *s, unsigned int off)
{
	const char *p = (const char *)s + s[1];
	unsigned int n = s[off];

	if (!n)
		return "";
	while (--n)
		p += strlen(p) + 1;
	return p;
}

Test(smbios, entry_point_sums_up_to_zero)
{
	struct env v;
	uint8_t sum = 0;

	env_open(&v);
	cr_assert_eq(build(&v, 65536), 0, "%s", v.e.text);
	for (int i = 0; i < 24; i++)
		sum = (uint8_t)(sum + v.host[ENTRY + i]);
	cr_expect_eq(sum, 0);
	cr_expect_arr_eq(v.host + ENTRY, "_SM3_", 5);
	env_close(&v);
}

Test(smbios, structures_of_every_type_are_there)
{
	static const uint8_t types[] = { 0, 1, 3, 4, 16, 17, 19, 32, 127 };
	struct env v;

	env_open(&v);
	cr_assert_eq(build(&v, 65536), 0, "%s", v.e.text);
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		cr_expect(find(&v, types[i], 0), "type %u", types[i]);
	cr_expect(find(&v, 4, 1), "one per socket");
	cr_expect_null(find(&v, 4, 2));
	cr_expect(find(&v, 17, 2), "40 GiB are three DIMMs");
	cr_expect_null(find(&v, 17, 3));
	cr_expect_eq(get_le16(find(&v, 17, 2) + 0x0c), 8192);
	cr_expect(find(&v, 19, 1), "RAM above 4 GiB");
	env_close(&v);
}

Test(smbios, uuid_has_little_endian_fields)
{
	struct env v;
	const uint8_t *s;

	env_open(&v);
	cr_assert_eq(build(&v, 65536), 0, "%s", v.e.text);
	s = find(&v, 1, 0);
	cr_expect_eq(get_le32(s + 8), 0x00112233);
	cr_expect_eq(get_le16(s + 12), 0x4455);
	cr_expect_eq(s[16], 0x88);
	env_close(&v);
}

Test(smbios, overrides_replace_strings_of_their_type_only)
{
	struct env v;

	env_open(&v);
	v.s.overrides = json_pack("[{s:s,s:s},{s:i,s:s,s:s}]", "type", "1",
				  "manufacturer", "ACME", "type", 0, "vendor", "V",
				  "release", "3.14");
	cr_assert_eq(build(&v, 65536), 0, "%s", v.e.text);
	cr_expect_str_eq(string(find(&v, 1, 0), 4), "ACME");
	cr_expect_str_eq(string(find(&v, 3, 0), 4), "roost");
	cr_expect_str_eq(string(find(&v, 0, 0), 4), "V");
	cr_expect_eq(find(&v, 0, 0)[0x14], 3);
	cr_expect_eq(find(&v, 0, 0)[0x15], 14);
	env_close(&v);
}

Test(smbios, bad_uuid_override_is_refused)
{
	struct env v;

	env_open(&v);
	v.s.overrides = json_pack("[{s:s,s:s}]", "type", "1", "uuid", "12345");
	cr_expect_eq(build(&v, 65536), -EINVAL);
	cr_expect(strstr(v.e.text, "uuid=12345"), "%s", v.e.text);
	env_close(&v);
}

Test(smbios, string_longer_than_the_area_is_an_error)
{
	static char big[70000];
	struct env v;

	env_open(&v);
	memset(big, 'x', sizeof(big) - 1);
	v.s.overrides = json_pack("[{s:s,s:s}]", "type", "3", "serial", big);
	cr_expect_eq(build(&v, 65536), -ENOSPC);
	cr_expect_eq(build(&v, 3), -ENOSPC);
	env_close(&v);
}
