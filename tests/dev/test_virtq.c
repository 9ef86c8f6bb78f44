/*
 * Virtqueues against guest memory alone, no device: what a careful driver may
 * do works, what a hostile one does is refused, in both ring formats.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <string.h>

#include "devices/virtio/virtq.h"
#include "tests/dev/lib_virtio_ring.h"
#include "vmm/base/util.h"

#define RING	0x10000ull	/* where things are in guest memory */
#define TABLE	0x40000ull
#define DATA	0x80000ull
#define RAM	(1ull * MIB)
#define HIGH	(4ull * GIB)	/* a second region, sparse */
#define HIGH_SIZE (2560ull * MIB)
#define IOV	16

/* The four kinds of ring. */
struct kind {
	bool packed, event_idx;
};
static struct kind kinds[] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } };

struct env {
	struct gmem *gm;
	uint8_t *ram;
	struct drv_ring r;
	struct virtq_setup setup;
	struct virtq *q;
	struct virtq_chain *c;
};

static void env_ram(struct env *v)
{
	struct gmem_backing how = { .share = true };
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	memset(v, 0, sizeof(*v));
	v->gm = gmem_create();
	cr_assert_eq(gmem_alloc(v->gm, "ram", RAM, &how, &fd, &v->ram, &e), 0, "%s", e.text);
	/* Two regions side by side, so that buffers may cross from one to the
	 * other, in swapped host order, so that they cannot be merged. */
	gmem_add_region(v->gm, 0, RAM / 2, v->ram + RAM / 2, fd, RAM / 2, false, &e);
	gmem_add_region(v->gm, RAM / 2, RAM / 2, v->ram, fd, 0, false, &e);
	cr_assert_eq(gmem_alloc(v->gm, "high", HIGH_SIZE, &how, &fd, &host, &e), 0, "%s", e.text);
	gmem_add_region(v->gm, HIGH, HIGH_SIZE, host, fd, 0, false, &e);
	cr_assert_eq(v->gm->count, 3);
}

static void env_make(struct env *v, struct kind k, uint16_t size)
{
	struct err e = ERR_INIT;

	env_ram(v);
	drv_ring_init(&v->r, v->gm, RING, size, k.packed, k.event_idx);
	v->setup = (struct virtq_setup){
		.size = size, .desc = gpa(v->r.desc), .driver = gpa(v->r.driver),
		.device = gpa(v->r.device), .packed = k.packed, .event_idx = k.event_idx,
		.indirect = true, .iov_max = IOV, .priv_bytes = 24,
	};
	cr_assert_eq(virtq_start(&v->q, v->gm, &v->setup, &e), 0, "%s", e.text);
}

static void env_free(struct env *v)
{
	virtq_stop(v->q);
	gmem_destroy(v->gm);
}

static void expect_bad(struct env *v, const char *why)
{
	cr_expect_eq(virtq_pop(v->q, &v->c), -EBADMSG);
	cr_expect(strstr(virtq_error(v->q), why), "'%s' is not about '%s'",
		  virtq_error(v->q), why);
	cr_expect_eq(virtq_inflight(v->q), 0);
	env_free(v);
}

static void expect_start_fails(struct env *v, const char *why)
{
	struct err e = ERR_INIT;

	virtq_stop(v->q);
	cr_expect_lt(virtq_start(&v->q, v->gm, &v->setup, &e), 0);
	cr_expect_null(v->q);
	cr_expect(strstr(e.text, why), "'%s' is not about '%s'", e.text, why);
	env_free(v);
}

#define EACH_KIND(name)							\
	static void name##_(struct kind k);				\
	ParameterizedTestParameters(virtq, name)			\
	{								\
		return cr_make_param_array(struct kind, kinds, ARRAY_LEN(kinds)); \
	}								\
	ParameterizedTest(struct kind *k, virtq, name) { name##_(*k); }	\
	static void name##_(struct kind k)

/* ---- set-up ---- */

EACH_KIND(test_virtq_misaligned_desc_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.desc.v += 8;
	expect_start_fails(&v, "aligned");
}

EACH_KIND(test_virtq_misaligned_driver_area_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.driver.v += 1;
	expect_start_fails(&v, "aligned");
}

EACH_KIND(test_virtq_misaligned_device_area_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.device.v += 2;
	expect_start_fails(&v, "aligned");
}

EACH_KIND(test_virtq_ring_outside_ram_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.desc.v = 0xfffffffffffffff0ull;
	expect_start_fails(&v, "not in RAM");
}

EACH_KIND(test_virtq_ring_over_ram_end_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.desc.v = RAM - 7 * 16;
	expect_start_fails(&v, "not in RAM");
}

EACH_KIND(test_virtq_size_zero_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.size = 0;
	expect_start_fails(&v, "queue size");
}

EACH_KIND(test_virtq_size_above_limit_refused)
{
	struct env v;

	env_make(&v, k, 8);
	v.setup.size = 2048;
	expect_start_fails(&v, "queue size");
}

Test(virtq, test_virtq_split_size_not_power_of_two_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	v.setup.size = 7;
	expect_start_fails(&v, "power of two");
}

/* ---- chains ---- */

EACH_KIND(test_virtq_empty_ring_pops_nothing)
{
	struct env v;

	env_make(&v, k, 8);
	cr_expect_eq(virtq_pop(v.q, &v.c), 0);
	cr_expect_null(v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_chain_is_translated)
{
	struct drv_buf b[] = { { DATA, 16, 0 }, { DATA + 4096, 512, 0 }, { DATA + 8192, 1, 1 } };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, b, 3);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_n, 2);
	cr_expect_eq(v.c->in_n, 1);
	cr_expect_eq(v.c->out_bytes, 528);
	cr_expect_eq(v.c->in_bytes, 1);
	cr_expect_eq(v.c->iov[1].iov_base, gmem_ptr(v.gm, gpa(DATA + 4096), 512, false));
	cr_expect_eq(v.c->iov[2].iov_len, 1);
	cr_expect_eq(virtq_inflight(v.q), 1);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_indirect_chain_is_translated)
{
	struct drv_buf b[] = { { DATA, 16, 0 }, { DATA + 4096, 512, 1 }, { DATA + 8192, 1, 1 } };
	struct env v;

	env_make(&v, k, 2);
	drv_add_indirect(&v.r, b, 3, TABLE + 1);	/* alignment is not asked for */
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_n, 1);
	cr_expect_eq(v.c->in_n, 2);
	cr_expect_eq(v.c->in_bytes, 513);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_indirect_table_over_two_regions_works)
{
	struct drv_buf b[] = { { DATA, 16, 0 }, { DATA + 4096, 512, 1 } };
	struct env v;

	env_make(&v, k, 2);
	drv_add_indirect(&v.r, b, 2, RAM / 2 - 24);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_bytes, 16);
	cr_expect_eq(v.c->in_bytes, 512);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_buffer_over_two_regions_takes_two_entries)
{
	struct drv_buf b = { RAM / 2 - 100, 300, 1 };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, &b, 1);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->in_n, 2);
	cr_expect_eq(v.c->iov[0].iov_len, 100);
	cr_expect_eq(v.c->iov[1].iov_len, 200);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_buffer_up_to_last_byte_of_ram_works)
{
	struct drv_buf b = { RAM - 1, 1, 1 };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, &b, 1);
	cr_expect_eq(virtq_pop(v.q, &v.c), 1);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_buffer_over_ram_end_refused)
{
	struct drv_buf b = { RAM - 1, 2, 1 };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, &b, 1);
	expect_bad(&v, "outside RAM");
}

EACH_KIND(test_virtq_buffer_that_wraps_addresses_refused)
{
	struct drv_buf b = { UINT64_MAX - 3, 16, 0 };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, &b, 1);
	expect_bad(&v, "outside RAM");
}

EACH_KIND(test_virtq_zero_length_describes_nothing)
{
	struct drv_buf b[] = { { UINT64_MAX, 0, 0 }, { DATA, 4, 0 }, { 0, 0, 1 }, { DATA, 9, 1 } };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, b, 4);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_n, 1);
	cr_expect_eq(v.c->in_n, 1);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

EACH_KIND(test_virtq_only_zero_length_pops_an_empty_chain)
{
	struct drv_buf b = { 0, 0, 0 };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, &b, 1);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_n + v.c->in_n, 0);
	virtq_push(v.q, v.c, 0);
	virtq_flush(v.q);
	env_free(&v);
}

EACH_KIND(test_virtq_readable_after_writable_refused)
{
	struct drv_buf b[] = { { DATA, 4, 1 }, { DATA, 4, 0 } };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, b, 2);
	expect_bad(&v, "readable descriptor follows");
}

EACH_KIND(test_virtq_chain_beyond_2_to_the_32_refused)
{
	struct drv_buf b[] = { { HIGH, 2560u * MIB, 0 }, { HIGH, 2048u * MIB, 1 } };
	struct env v;

	env_make(&v, k, 8);
	drv_add(&v.r, b, 2);
	expect_bad(&v, "2^32");
}

EACH_KIND(test_virtq_more_segments_than_the_device_takes_refused)
{
	struct drv_buf b[IOV + 1];
	struct env v;

	for (int i = 0; i <= IOV; i++)
		b[i] = (struct drv_buf){ DATA + i, 1, 0 };
	env_make(&v, k, 64);
	drv_add(&v.r, b, IOV + 1);
	expect_bad(&v, "more segments");
}

EACH_KIND(test_virtq_indirect_longer_than_queue_and_device_refused)
{
	struct drv_buf b[IOV + 1];
	struct env v;

	for (int i = 0; i <= IOV; i++)
		b[i] = (struct drv_buf){ 0, 0, 0 };
	env_make(&v, k, 2);
	drv_add_indirect(&v.r, b, IOV + 1, TABLE);
	expect_bad(&v, "longer than");
}

EACH_KIND(test_virtq_indirect_length_not_multiple_of_16_refused)
{
	struct env v;

	env_make(&v, k, 8);
	drv_put_desc(&v.r, 0, TABLE, 24, VRING_DESC_F_INDIRECT, 0);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "multiple of 16");
}

EACH_KIND(test_virtq_indirect_empty_table_refused)
{
	struct env v;

	env_make(&v, k, 8);
	drv_put_desc(&v.r, 0, TABLE, 0, VRING_DESC_F_INDIRECT, 0);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "multiple of 16");
}

EACH_KIND(test_virtq_indirect_table_outside_ram_refused)
{
	struct env v;

	env_make(&v, k, 8);
	drv_put_desc(&v.r, 0, RAM, 16, VRING_DESC_F_INDIRECT, 0);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "outside RAM");
}

EACH_KIND(test_virtq_indirect_with_next_refused)
{
	struct env v;

	env_make(&v, k, 8);
	drv_put_desc(&v.r, 0, TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	drv_put_desc(&v.r, 1, DATA, 16, 0, 0);
	drv_offer(&v.r, 0, 2);
	expect_bad(&v, "NEXT");
}

EACH_KIND(test_virtq_indirect_without_the_feature_refused)
{
	struct drv_buf b = { DATA, 16, 0 };
	struct err e = ERR_INIT;
	struct env v;

	env_make(&v, k, 8);
	v.setup.indirect = false;
	virtq_stop(v.q);
	virtq_start(&v.q, v.gm, &v.setup, &e);
	drv_add_indirect(&v.r, &b, 1, TABLE);
	expect_bad(&v, "feature is off");
}

Test(virtq, test_virtq_split_nested_indirect_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_put_desc(&v.r, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_put_entry(&v.r, TABLE, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "inside an indirect table");
}

Test(virtq, test_virtq_packed_nested_indirect_is_a_plain_entry)
{
	struct env v;

	env_make(&v, kinds[2], 8);
	drv_put_desc(&v.r, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_put_entry(&v.r, TABLE, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_offer(&v.r, 0, 1);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_bytes, 16);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

Test(virtq, test_virtq_split_indirect_at_the_end_of_a_chain_works)
{
	struct drv_buf b = { DATA, 32, 1 };
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_table(&v.r, TABLE, &b, 1);
	drv_put_desc(&v.r, 3, DATA, 16, VRING_DESC_F_NEXT, 5);
	drv_put_desc(&v.r, 5, TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	drv_offer(&v.r, 3, 2);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	cr_expect_eq(v.c->out_bytes, 16);
	cr_expect_eq(v.c->in_bytes, 32);
	virtq_drop(v.q, v.c);
	env_free(&v);
}

Test(virtq, test_virtq_packed_indirect_inside_a_list_refused)
{
	struct env v;

	env_make(&v, kinds[2], 8);
	drv_put_desc(&v.r, 0, DATA, 16, VRING_DESC_F_NEXT, 0);
	drv_put_desc(&v.r, 1, TABLE, 16, VRING_DESC_F_INDIRECT | DRV_F_AVAIL, 0);
	drv_offer(&v.r, 0, 2);
	expect_bad(&v, "inside a list");
}

Test(virtq, test_virtq_split_loop_of_zero_length_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_put_desc(&v.r, 0, DATA, 0, VRING_DESC_F_NEXT, 1);
	drv_put_desc(&v.r, 1, DATA, 0, VRING_DESC_F_NEXT, 0);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "loops");
}

Test(virtq, test_virtq_split_loop_inside_indirect_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_put_desc(&v.r, 0, TABLE, 32, VRING_DESC_F_INDIRECT, 0);
	drv_put_entry(&v.r, TABLE, 0, DATA, 1, VRING_DESC_F_NEXT, 1);
	drv_put_entry(&v.r, TABLE, 1, DATA, 1, VRING_DESC_F_NEXT, 1);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "loops");
}

Test(virtq, test_virtq_split_next_outside_table_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_put_desc(&v.r, 0, DATA, 1, VRING_DESC_F_NEXT, 8);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "next index");
}

Test(virtq, test_virtq_split_next_outside_indirect_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_put_desc(&v.r, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	drv_put_entry(&v.r, TABLE, 0, DATA, 1, VRING_DESC_F_NEXT, 1);
	drv_offer(&v.r, 0, 1);
	expect_bad(&v, "next index");
}

Test(virtq, test_virtq_packed_list_longer_than_ring_refused)
{
	struct env v;

	env_make(&v, kinds[2], 5);
	for (int i = 0; i < 5; i++)
		drv_put_desc(&v.r, i, DATA, 1, VRING_DESC_F_NEXT | DRV_F_AVAIL, 0);
	drv_offer(&v.r, 0, 5);
	expect_bad(&v, "in flight");
}

/* ---- indices ---- */

Test(virtq, test_virtq_split_head_outside_table_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_offer(&v.r, 8, 1);
	expect_bad(&v, "head index");
}

Test(virtq, test_virtq_split_available_index_ran_ahead_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_set_avail_idx(&v.r, 9);
	expect_bad(&v, "ran ahead");
}

Test(virtq, test_virtq_split_available_index_went_back_refused)
{
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_set_avail_idx(&v.r, 0xffff);
	expect_bad(&v, "ran ahead");
}

/* TARGETS pattern 2: a second request in the slot of one in flight. */
Test(virtq, test_virtq_split_head_in_flight_refused)
{
	struct drv_buf b = { DATA, 16, 0 };
	struct virtq_chain *first;
	struct env v;

	env_make(&v, kinds[0], 8);
	drv_offer(&v.r, drv_add(&v.r, &b, 1), 1);
	cr_assert_eq(virtq_pop(v.q, &first), 1);
	cr_expect_eq(virtq_pop(v.q, &v.c), -EBADMSG);
	cr_expect(strstr(virtq_error(v.q), "in flight already"));
	cr_expect_eq(virtq_inflight(v.q), 1);
	virtq_drop(v.q, first);
	env_free(&v);
}

Test(virtq, test_virtq_packed_id_in_flight_refused)
{
	struct virtq_chain *first;
	struct env v;

	env_make(&v, kinds[2], 8);
	drv_put_desc(&v.r, 0, DATA, 16, 0, 77);
	drv_offer(&v.r, 0, 1);
	drv_put_desc(&v.r, 1, DATA, 16, 0, 77);
	drv_offer(&v.r, 1, 1);
	cr_assert_eq(virtq_pop(v.q, &first), 1);
	cr_expect_eq(virtq_pop(v.q, &v.c), -EBADMSG);
	cr_expect(strstr(virtq_error(v.q), "in flight already"));
	virtq_drop(v.q, first);
	env_free(&v);
}

Test(virtq, test_virtq_packed_any_buffer_id_is_given_back)
{
	struct vring_packed_desc d;
	struct env v;

	env_make(&v, kinds[2], 8);
	drv_put_desc(&v.r, 0, DATA, 16, VRING_DESC_F_WRITE, 65535);
	drv_offer(&v.r, 0, 1);
	cr_assert_eq(virtq_pop(v.q, &v.c), 1);
	virtq_push(v.q, v.c, 5);
	virtq_flush(v.q);
	gmem_read(v.gm, gpa(v.r.desc), &d, sizeof(d));
	cr_expect_eq(d.id, 65535);
	cr_expect_eq(d.len, 5);
	cr_expect_eq(d.flags, DRV_F_AVAIL | DRV_F_USED | VRING_DESC_F_WRITE);
	env_free(&v);
}

/* Entries turned available again while the device holds them. */
Test(virtq, test_virtq_packed_entries_offered_over_those_in_flight_refused)
{
	struct virtq_chain *held[2];
	struct env v;

	env_make(&v, kinds[2], 4);
	for (int i = 0; i < 2; i++) {
		drv_put_desc(&v.r, 2 * i, DATA, 1, VRING_DESC_F_NEXT, 0);
		drv_put_desc(&v.r, 2 * i + 1, DATA, 1, DRV_F_AVAIL, i);
		drv_offer(&v.r, 2 * i, 2);
		cr_assert_eq(virtq_pop(v.q, &held[i]), 1);
	}
	drv_put_desc(&v.r, 0, DATA, 1, 0, 9);
	drv_offer(&v.r, 0, 1);
	cr_expect_eq(virtq_pop(v.q, &v.c), -EBADMSG);
	cr_expect_eq(virtq_inflight(v.q), 2);
	virtq_drop(v.q, held[0]);
	virtq_drop(v.q, held[1]);
	env_free(&v);
}

EACH_KIND(test_virtq_all_slots_in_flight_pops_no_more)
{
	struct drv_buf b = { DATA, 1, 1 };
	struct virtq_chain *held[4];
	struct env v;

	env_make(&v, k, 4);
	for (int i = 0; i < 4; i++) {
		drv_add(&v.r, &b, 1);
		cr_assert_eq(virtq_pop(v.q, &held[i]), 1);
		cr_expect_neq(held[i]->priv, i ? held[i - 1]->priv : NULL);
	}
	cr_expect_eq(virtq_pop(v.q, &v.c), 0);
	cr_expect_eq(virtq_inflight(v.q), 4);
	for (int i = 0; i < 4; i++)
		virtq_drop(v.q, held[i]);
	env_free(&v);
}

/* ---- used ---- */

EACH_KIND(test_virtq_used_is_visible_from_flush_on)
{
	struct drv_buf b[] = { { DATA, 4, 0 }, { DATA, 9, 1 } };
	uint16_t id, got;
	uint32_t len;
	struct env v;

	env_make(&v, k, 8);
	id = drv_add(&v.r, b, 2);
	virtq_pop(v.q, &v.c);
	virtq_push(v.q, v.c, 7);
	cr_expect_not(drv_used(&v.r, &got, &len));
	virtq_flush(v.q);
	cr_assert(drv_used(&v.r, &got, &len));
	cr_expect_eq(got, id);
	cr_expect_eq(len, 7);
	cr_expect_eq(virtq_inflight(v.q), 0);
	env_free(&v);
}

EACH_KIND(test_virtq_batch_is_visible_at_once_and_in_order)
{
	struct drv_buf b[] = { { DATA, 4, 0 }, { DATA, 9, 1 } };
	struct virtq_chain *c[3];
	uint16_t id[3], got;
	uint32_t len;
	struct env v;

	env_make(&v, k, 8);
	for (int i = 0; i < 3; i++) {
		id[i] = drv_add(&v.r, b, 2);
		virtq_pop(v.q, &c[i]);
	}
	for (int i = 2; i >= 0; i--)
		virtq_push(v.q, c[i], 10 + i);
	cr_expect_not(drv_used(&v.r, &got, &len));
	virtq_flush(v.q);
	for (int i = 2; i >= 0; i--) {
		cr_assert(drv_used(&v.r, &got, &len));
		cr_expect_eq(got, id[i]);
		cr_expect_eq(len, 10 + (uint32_t)i);
	}
	cr_expect_not(drv_used(&v.r, &got, &len));
	env_free(&v);
}

/* Many rounds over a ring whose size does not divide the chains' sizes, with
 * completions out of order: wrap counters and the 16-bit index wrap. */
static void many_rounds(struct kind k, uint16_t size, int rounds)
{
	struct drv_buf b[] = { { DATA, 4, 0 }, { DATA, 8, 0 }, { DATA, 9, 1 } };
	struct virtq_chain *c[3];
	uint16_t id[3], got;
	uint32_t len;
	struct env v;

	env_make(&v, k, size);
	for (int i = 0; i < rounds; i++) {
		for (int j = 0; j < 3; j++) {
			id[j] = drv_add(&v.r, b, 1 + (i + j) % 3);
			cr_assert_eq(virtq_pop(v.q, &c[j]), 1);
		}
		cr_assert_eq(virtq_pop(v.q, &v.c), 0);
		for (int j = 2; j >= 0; j--)
			virtq_push(v.q, c[j], i);
		virtq_flush(v.q);
		for (int j = 2; j >= 0; j--) {
			cr_assert(drv_used(&v.r, &got, &len), "round %d", i);
			cr_assert_eq(got, id[j]);
			cr_assert_eq(len, (uint32_t)i);
		}
	}
	env_free(&v);
}

EACH_KIND(test_virtq_many_rounds_keep_step)
{
	many_rounds(k, 8, 30000);
}

Test(virtq, test_virtq_packed_odd_size_keeps_step)
{
	many_rounds(kinds[3], 7, 1000);
}

Test(virtq, test_virtq_packed_base_has_the_wrap_counters)
{
	struct drv_buf b = { DATA, 1, 1 };
	uint16_t avail, used;
	struct env v;

	env_make(&v, kinds[2], 2);
	virtq_get_base(v.q, &avail, &used);
	cr_expect_eq(avail, 0x8000);
	cr_expect_eq(used, 0x8000);
	drv_add(&v.r, &b, 1);
	drv_add(&v.r, &b, 1);
	for (int i = 0; i < 2; i++) {
		virtq_pop(v.q, &v.c);
		virtq_push(v.q, v.c, 1);
	}
	virtq_flush(v.q);
	virtq_get_base(v.q, &avail, &used);
	cr_expect_eq(avail, 0);
	cr_expect_eq(used, 0);
	env_free(&v);
}

/* ---- notifications ---- */

/* One buffer through the queue; did the device want to interrupt? */
static bool use_one(struct env *v)
{
	struct drv_buf b = { DATA, 1, 1 };
	uint16_t id;
	uint32_t len;
	bool irq;

	drv_add(&v->r, &b, 1);
	cr_assert_eq(virtq_pop(v->q, &v->c), 1);
	virtq_push(v->q, v->c, 1);
	irq = virtq_flush(v->q);
	cr_assert(drv_used(&v->r, &id, &len));
	return irq;
}

EACH_KIND(test_virtq_flush_of_nothing_asks_for_no_interrupt)
{
	struct env v;

	env_make(&v, k, 8);
	cr_expect_not(virtq_flush(v.q));
	env_free(&v);
}

EACH_KIND(test_virtq_driver_that_wants_interrupts_gets_them)
{
	struct env v;

	env_make(&v, k, 8);
	for (int i = 0; i < 20; i++) {
		drv_irq_on(&v.r);
		cr_expect(use_one(&v), "buffer %d", i);
	}
	env_free(&v);
}

EACH_KIND(test_virtq_driver_that_wants_no_interrupt_gets_none)
{
	struct env v;

	env_make(&v, k, 8);
	use_one(&v);
	drv_irq_off(&v.r);
	for (int i = 0; i < 20; i++)
		cr_expect_not(use_one(&v), "buffer %d", i);
	env_free(&v);
}

static void event_is_exact(struct kind k, uint16_t size)
{
	struct env v;

	env_make(&v, k, size);
	for (int round = 0; round < 10; round++) {
		drv_irq_at(&v.r, 3);
		for (int i = 0; i < 8; i++)
			cr_expect_eq(use_one(&v), i == 3, "round %d buffer %d", round, i);
	}
	env_free(&v);
}

Test(virtq, test_virtq_split_event_fires_at_its_entry_only)
{
	event_is_exact(kinds[1], 8);
}

Test(virtq, test_virtq_packed_event_fires_at_its_entry_only)
{
	event_is_exact(kinds[3], 9);
}

/* An event inside a batch fires once, for the batch. */
static void event_in_batch(struct kind k, uint16_t ahead, bool fires)
{
	struct drv_buf b = { DATA, 1, 1 };
	struct env v;

	env_make(&v, k, 8);
	drv_irq_at(&v.r, ahead);
	for (int i = 0; i < 4; i++) {
		drv_add(&v.r, &b, 1);
		virtq_pop(v.q, &v.c);
		virtq_push(v.q, v.c, 1);
	}
	cr_expect_eq(virtq_flush(v.q), fires);
	env_free(&v);
}

Test(virtq, test_virtq_event_at_the_last_of_a_batch_fires)
{
	event_in_batch(kinds[1], 3, true);
	event_in_batch(kinds[3], 3, true);
}

Test(virtq, test_virtq_event_behind_a_batch_does_not_fire)
{
	event_in_batch(kinds[1], 4, false);
	event_in_batch(kinds[3], 4, false);
}

Test(virtq, test_virtq_packed_event_outside_the_ring_fires)
{
	struct env v;

	env_make(&v, kinds[3], 8);
	drv_irq_at(&v.r, 0);
	*(uint16_t *)v.r.driver_host = 0x7fff;
	cr_expect(use_one(&v));
	env_free(&v);
}

EACH_KIND(test_virtq_suppressed_kick_is_not_asked_for)
{
	struct drv_buf b = { DATA, 1, 1 };
	struct env v;

	env_make(&v, k, 8);
	use_one(&v);
	drv_wants_kick(&v.r);
	virtq_disable_kick(v.q);
	drv_add(&v.r, &b, 1);
	cr_expect_not(drv_wants_kick(&v.r));
	env_free(&v);
}

EACH_KIND(test_virtq_enabled_kick_is_asked_for)
{
	struct drv_buf b = { DATA, 1, 1 };
	struct env v;

	env_make(&v, k, 8);
	for (int i = 0; i < 20; i++) {
		virtq_disable_kick(v.q);
		use_one(&v);
		cr_expect_not(virtq_enable_kick(v.q));
		drv_wants_kick(&v.r);
		drv_add(&v.r, &b, 1);
		cr_expect(drv_wants_kick(&v.r), "round %d", i);
		virtq_pop(v.q, &v.c);
		virtq_push(v.q, v.c, 1);
		virtq_flush(v.q);
		cr_assert(drv_used(&v.r, &(uint16_t){ 0 }, &(uint32_t){ 0 }));
	}
	env_free(&v);
}

EACH_KIND(test_virtq_enable_kick_sees_what_came_meanwhile)
{
	struct drv_buf b = { DATA, 1, 1 };
	struct env v;

	env_make(&v, k, 8);
	virtq_disable_kick(v.q);
	drv_add(&v.r, &b, 1);
	cr_expect(virtq_enable_kick(v.q));
	env_free(&v);
}

/* ---- copies ---- */

EACH_KIND(test_virtq_copies_stop_at_the_ends_of_a_chain)
{
	struct drv_buf b[] = { { DATA, 3, 0 }, { DATA + 64, 3, 0 }, { DATA + 128, 2, 1 } };
	uint8_t buf[8] = "";
	struct env v;

	env_make(&v, k, 8);
	gmem_write(v.gm, gpa(DATA), "abc", 3);
	gmem_write(v.gm, gpa(DATA + 64), "def", 3);
	drv_add(&v.r, b, 3);
	virtq_pop(v.q, &v.c);
	cr_expect_eq(chain_read(v.c, 2, buf, sizeof(buf)), 4);
	cr_expect_arr_eq(buf, "cdef", 4);
	cr_expect_eq(chain_read(v.c, 6, buf, 1), 0);
	cr_expect_eq(chain_write(v.c, 1, "xyz", 3), 1);
	gmem_read(v.gm, gpa(DATA + 128), buf, 3);
	cr_expect_arr_eq(buf, "\0x\0", 3);
	virtq_drop(v.q, v.c);
	env_free(&v);
}
