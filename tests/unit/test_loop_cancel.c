/*
 * tests/unit/test_loop_cancel.c - posted work that is taken back.
 */
#include <criterion/criterion.h>

#include "vmm/base/util.h"
#include "vmm/loop/loop.h"

struct job {
	struct loop_work work;
	struct loop *loop;
	struct job *victim;	/* cancelled from inside the callback */
	char name;
};

static char order[16];

static void run_job(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, work);
	size_t n = strlen(order);

	order[n] = j->name;
	order[n + 1] = '\0';
	if (j->victim)
		loop_work_cancel(j->loop, &j->victim->work);
}

static struct loop *make(struct job *jobs, int n)
{
	struct err e = ERR_INIT;
	struct loop *l;

	cr_assert_eq(loop_create(&l, "test", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	loop_turn(l, 0);	/* makes this thread the loop's */
	for (int i = 0; i < n; i++) {
		jobs[i] = (struct job){ .work.cb = run_job, .loop = l, .name = (char)('a' + i) };
		loop_post(l, &jobs[i].work);
	}
	order[0] = '\0';
	return l;
}

Test(loop_cancel, test_loop_work_cancel_keeps_the_order_of_the_rest)
{
	struct job jobs[4];
	struct loop *l = make(jobs, 4);

	loop_work_cancel(l, &jobs[1].work);
	loop_work_cancel(l, &jobs[1].work);	/* twice is no harm */
	loop_turn(l, 0);
	cr_assert_str_eq(order, "acd");
	loop_destroy(l);
}

Test(loop_cancel, test_loop_work_cancel_inside_a_callback_of_the_same_batch)
{
	struct job jobs[3];
	struct loop *l = make(jobs, 3);

	jobs[0].victim = &jobs[2];
	loop_turn(l, 0);
	cr_assert_str_eq(order, "ab");
	cr_assert(loop_post(l, &jobs[2].work), "may be posted again");
	loop_turn(l, 0);
	cr_assert_str_eq(order, "abc");
	loop_destroy(l);
}

Test(loop_cancel, test_loop_work_cancel_of_all_leaves_nothing)
{
	struct job jobs[2];
	struct loop *l = make(jobs, 2);

	loop_work_cancel(l, &jobs[0].work);
	loop_work_cancel(l, &jobs[1].work);
	loop_turn(l, 0);
	cr_assert_str_eq(order, "");
	loop_destroy(l);
}
