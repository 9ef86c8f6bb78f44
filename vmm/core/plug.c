/*
 * vmm/core/plug.c - devices that leave a running VM, and states of those that
 * come and go. What is special to a bus is behind struct dev_plug_ops.
 *
 * Threads: main loop; answers of the guest come from any thread and are posted.
 * Missing: nothing known.
 *
 * A device leaves in these steps, whoever asked for it:
 *	hide	no vCPU finds it any more, doorbells and windows are gone
 *	reset	its I/O is drained or cancelled, as in a reset of the machine; then
 *		it settles: a disk's image has its last flush
 *	destroy	in a later turn of the loop, because what ended the reset may
 *		have left work of the device's in this one
 *	tell	DEVICE_DELETED; id and place have been free since the last step
 * What is forced out is first shown to be gone: see TEAR_NS.
 * With a controller leaves what sits on it, with a function its whole slot.
 * From hide to tell each of them counts as a pending reset, so that a reset of
 * the machine and the end of the VM wait for it.
 */
#include "vmm/core/plug.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/dev_bus.h"
#include "vmm/core/vm.h"

#define QOM_DEVICES	"/machine/peripheral/"
#define QOM_ANONYMOUS	"/machine/peripheral-anon/"

/* How long a guest's driver finds the device that was torn out. Linux resets a
 * virtio device that it has lost, and reads the status until that is 0: for ever
 * when nothing answers any more, and its hot-plug driver waits with it. */
#define TEAR_NS		NS_PER_SEC

TRACE_DEFINE(dev_plug_state);

enum answer { ANSWER_TAKEN = 1, ANSWER_GRANTED = 2, ANSWER_REFUSED = 4 };

struct plug {
	struct dev *dev;
	enum dev_plug_state state;
	_Atomic uint32_t answers;	/* enum answer, any thread */
	struct loop_work answer_work;
	/* of a device that stands for its group */
	bool asked;			/* the guest was, and has not answered */
	bool surprise;			/* told, rather than asked */
	uint64_t timeout_ns;
	struct loop_timer timer;
	/* while it leaves */
	struct plug *lead;		/* whom it leaves with; NULL: it stays */
	bool is_ready;			/* its reset has ended */
	/* of all that leave together, at the lead */
	int members, ready;
	bool late;			/* remove_work was put off by one turn */
	struct loop_work remove_work;
};

static const char *const state_names[] = {
	[DEV_PLUG_EMPTY] = "empty",
	[DEV_PLUG_PLUGGING] = "plugging",
	[DEV_PLUG_PRESENT] = "present",
	[DEV_PLUG_REQUESTED] = "unplug-requested",
	[DEV_PLUG_ACKNOWLEDGED] = "guest-acknowledged",
	[DEV_PLUG_EJECTED] = "ejected",
	[DEV_PLUG_REFUSED] = "refused",
	[DEV_PLUG_TIMED_OUT] = "timed-out",
	[DEV_PLUG_SURPRISE] = "surprise-removed",
};
static_assert(ARRAY_LEN(state_names) == DEV_PLUG_STATES, "one word per state");

const char *dev_plug_state_name(enum dev_plug_state s)
{
	return state_names[s];
}

enum dev_plug_state dev_plug_state(const struct dev *d)
{
	return d->plug->state;
}

char *dev_qom_path(const struct dev *d)
{
	return xasprintf("%s%s", d->id ? QOM_DEVICES : QOM_ANONYMOUS, d->path);
}

const struct dev_plug_ops *dev_type_plug(const struct dev_type *t)
{
	const struct dev_class *c;

	for (c = t->class; c; c = c->parent)
		if (c->plug)
			return c->plug;
	return NULL;
}

static int group_of(struct dev *d, struct dev **list)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);

	list[0] = d;
	return ops->group ? ops->group(d, list) : 1;
}

/* ---- states ---- */

static void put_name(json_t *o, const struct dev *d)
{
	char *path = dev_qom_path(d);

	if (d->id)
		json_put_str(o, "device", d->id);
	json_put_str(o, "path", path);
	free(path);
}

static json_t *state_data(const struct dev *d, enum dev_plug_state s)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);
	json_t *o = ops->place ? ops->place(d) : NULL;

	if (!o)
		return NULL;
	put_name(o, d);
	json_put_str(o, "state", state_names[s]);
	return o;
}

static void state_event(struct vm *vm, json_t *data)
{
	if (data)
		vm_event(vm, "__org.roost_SLOT_STATE", data);
}

/* Note state @s for the whole group of @d, which stands for it. */
static void state_note(struct dev *d, enum dev_plug_state s)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);
	struct dev *list[DEV_GROUP_MAX];
	int i, n = group_of(d, list);

	trace(dev_plug_state, "%s %s", d->path, state_names[s]);
	for (i = 0; i < n; i++)
		list[i]->plug->state = s;
	if (ops->state)
		ops->state(d, s);
}

/* A listener may do anything with @d: nothing of it is used afterwards. */
static void state_set(struct dev *d, enum dev_plug_state s)
{
	state_note(d, s);
	state_event(d->vm, state_data(d, s));
}

/* ---- leaving ---- */

/* All that leave with @lead, in the order of creation; the caller frees it. */
static struct dev **leavers(const struct plug *lead)
{
	struct dev **list = xcalloc((size_t)lead->members, sizeof(struct dev *)), *d;
	int n = 0;

	for (d = lead->dev->vm->devs; d; d = d->next)
		if (d->plug->lead == lead)
			list[n++] = d;
	assert(n == lead->members);
	return list;
}

/* Children go before their parents, which are older. */
static json_t *destroy_all(struct dev **list, int n, const struct dev *lead)
{
	json_t *deleted = json_array(), *last = json_object(), *o;

	put_name(last, lead);
	while (n-- > 0) {
		if (list[n] != lead) {
			o = json_object();
			put_name(o, list[n]);
			json_array_append_new(deleted, o);
		}
		dev_destroy(list[n]);
	}
	json_array_append_new(deleted, last);
	return deleted;
}

static void leave_finish(struct plug *lead)
{
	enum dev_plug_state end = lead->surprise ? DEV_PLUG_SURPRISE : DEV_PLUG_EJECTED;
	struct dev **list = leavers(lead);
	json_t *deleted, *state, *o;
	struct vm *vm = lead->dev->vm;
	int n = lead->members;
	size_t i;

	state_note(lead->dev, end);
	state = state_data(lead->dev, end);
	deleted = destroy_all(list, n, lead->dev);
	free(list);
	if (atomic_load(&vm->state) == VM_PRELAUNCH)
		vm->booted = false;	/* as in dev_plug() */
	json_array_foreach(deleted, i, o)
		vm_event(vm, "DEVICE_DELETED", json_incref(o));
	json_decref(deleted);
	state_event(vm, state);
	while (n-- > 0)
		vm_reset_drop(vm);
}

/* One turn later than asked, so that what the devices deferred in the turn that
 * ended their reset has run: they must not turn the loop in here. */
static void remove_cb(struct loop_work *w)
{
	struct plug *lead = container_of(w, struct plug, remove_work);

	if (lead->late) {
		leave_finish(lead);
		return;
	}
	lead->late = true;
	loop_post(lead->dev->vm->main, &lead->remove_work);
}

static void member_ready(struct plug *p)
{
	struct plug *lead = p->lead;

	p->is_ready = true;
	if (++lead->ready == lead->members)
		loop_post(lead->dev->vm->main, &lead->remove_work);
}

bool plug_reset_done(struct dev *d)
{
	if (!d->plug->lead)
		return false;
	member_ready(d->plug);
	return true;
}

bool dev_is_leaving(const struct dev *d)
{
	return d->plug->lead;
}

/* @d leaves with @lead, also when it was leaving by itself already. */
static void join(struct dev *d, struct plug *lead)
{
	struct plug *p = d->plug;

	if (p->lead == p)
		loop_work_cancel(d->vm->main, &p->remove_work);
	p->lead = lead;
	lead->members++;
	lead->ready += p->is_ready;
	p->asked = false;
	loop_timer_cancel(&p->timer);
}

/* The group, and what sits on its devices, which is younger. */
static void join_all(struct plug *lead)
{
	struct dev *list[DEV_GROUP_MAX], *d;
	int i, n = group_of(lead->dev, list);

	for (i = 0; i < n; i++)
		join(list[i], lead);
	for (d = lead->dev->vm->devs; d; d = d->next)
		if (d->parent && d->parent->owner->plug->lead == lead && d->plug->lead != lead)
			join(d, lead);
}

static void hide(struct dev *d)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);

	if (ops)
		ops->hide(d);
}

static void leave(struct dev *d)
{
	struct vm *vm = d->vm;
	struct dev **list;
	int i;

	join_all(d->plug);
	list = leavers(d->plug);
	/* Function 0 last: with it the slot's link goes down. */
	for (i = d->plug->members; i-- > 0;)
		if (list[i] != d)
			hide(list[i]);
	hide(d);
	for (i = 0; i < d->plug->members; i++) {
		if (list[i]->plug->is_ready || dev_leave(list[i]) != 0)
			continue;	/* counted already */
		vm->resets_pending++;
		member_ready(list[i]->plug);
	}
	/* All were ready before they came together. */
	if (d->plug->ready == d->plug->members)
		loop_post(vm->main, &d->plug->remove_work);
	free(list);
}

/* ---- asking the guest ---- */

static void timer_arm(struct plug *p)
{
	if (p->timeout_ns)
		loop_timer_arm(&p->timer, clock_ns() + p->timeout_ns);
	else
		loop_timer_cancel(&p->timer);
}

/* The guest keeps the device: it may be asked again. */
static void give_up(struct dev *d, enum dev_plug_state why)
{
	json_t *data = json_object();

	d->plug->asked = false;
	loop_timer_cancel(&d->plug->timer);
	put_name(data, d);
	vm_event(d->vm, "DEVICE_UNPLUG_GUEST_ERROR", data);
	state_set(d, why);
}

static void timer_cb(struct loop_timer *t)
{
	struct plug *p = container_of(t, struct plug, timer);

	if (p->asked && p->surprise)
		leave(p->dev);
	/* A guest that does not run cannot answer. */
	else if (atomic_load(&p->dev->vm->state) != VM_RUNNING)
		timer_arm(p);
	else if (p->asked)
		give_up(p->dev, DEV_PLUG_TIMED_OUT);
}

static void granted(struct dev *d)
{
	if (d->plug->surprise) {
		leave(d);
		return;
	}
	state_note(d, DEV_PLUG_ACKNOWLEDGED);
	leave(d);
	state_event(d->vm, state_data(d, DEV_PLUG_ACKNOWLEDGED));
}

static void answer_cb(struct loop_work *w)
{
	struct plug *p = container_of(w, struct plug, answer_work);
	uint32_t a = atomic_exchange(&p->answers, 0);

	if (p->asked && (a & ANSWER_GRANTED))
		granted(p->dev);
	else if (p->asked && !p->surprise && (a & ANSWER_REFUSED))
		give_up(p->dev, DEV_PLUG_REFUSED);
	else if ((a & ANSWER_TAKEN) && p->state == DEV_PLUG_PLUGGING)
		state_set(p->dev, DEV_PLUG_PRESENT);
}

static void answer(struct dev *d, enum answer a)
{
	atomic_fetch_or(&d->plug->answers, a);
	loop_post(d->vm->main, &d->plug->answer_work);
}

void dev_unplug_answer(struct dev *d, bool is_granted)
{
	answer(d, is_granted ? ANSWER_GRANTED : ANSWER_REFUSED);
}

void dev_plug_taken(struct dev *d)
{
	answer(d, ANSWER_TAKEN);
}

/* ---- the user's request ---- */

static struct dev *find(struct vm *vm, const char *name)
{
	bool anonymous = strncmp(name, QOM_ANONYMOUS, strlen(QOM_ANONYMOUS)) == 0;
	struct dev *d;

	if (!anonymous) {
		if (strncmp(name, QOM_DEVICES, strlen(QOM_DEVICES)) == 0)
			name += strlen(QOM_DEVICES);
		return dev_find(vm, name);
	}
	for (d = vm->devs; d; d = d->next)
		if (!d->id && strcmp(d->path, name + strlen(QOM_ANONYMOUS)) == 0)
			return d;
	return NULL;
}

static int check(struct dev *d, bool force, struct err *e)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);

	if ((d->type->flags & (DEV_NO_HOTPLUG | DEV_BUILTIN)) || !ops)
		return err_set(e, -EINVAL, "Device '%s' does not support hotplugging; '%s' "
			       "stays for as long as the VM does", d->type->name, d->path);
	if (d->plug->lead || (d->plug->asked && d->plug->surprise && !force))
		return err_set(e, -EBUSY, "Device %s is already in the process of unplug; "
			       "DEVICE_DELETED follows", d->path);
	return ops->check ? ops->check(d, e) : 0;
}

/* Before the first instruction and after the last there is nobody to ask. */
static bool guest_is_there(const struct vm *vm)
{
	int s = atomic_load(&vm->state);

	return s != VM_PRELAUNCH && s != VM_SHUTDOWN && s != VM_INTERNAL_ERROR &&
	       s != VM_GUEST_PANICKED;
}

static void ask(struct dev *d, uint64_t timeout_ms)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);
	struct plug *p = d->plug;
	bool now;

	atomic_store(&p->answers, 0);	/* to an earlier question */
	p->asked = true;
	p->surprise = false;
	p->timeout_ns = MIN(timeout_ms, UINT64_MAX / 2 / NS_PER_MS) * NS_PER_MS;
	timer_arm(p);
	/* A reset that is under way ends with the device's removal. */
	now = !d->vm->resetting && (!ops->request || ops->request(d) == 1);
	state_note(d, DEV_PLUG_REQUESTED);
	if (now)
		leave(d);
	state_event(d->vm, state_data(d, DEV_PLUG_REQUESTED));
}

/* A second force does not wait. */
static void force(struct dev *d)
{
	const struct dev_plug_ops *ops = dev_type_plug(d->type);
	struct plug *p = d->plug;
	bool again = p->asked && p->surprise;

	p->surprise = guest_is_there(d->vm);
	if (again || d->vm->resetting || atomic_load(&d->vm->state) != VM_RUNNING ||
	    !ops->tear || !ops->tear(d)) {
		leave(d);
		return;
	}
	p->asked = true;
	p->timeout_ns = TEAR_NS;
	timer_arm(p);
}

int dev_unplug(struct vm *vm, const char *id, const struct dev_unplug_opts *o, struct err *e)
{
	static const struct dev_unplug_opts plain;
	struct dev *d = find(vm, id), *list[DEV_GROUP_MAX];
	int r;

	if (!d)
		return err_class(e, ERR_DEVICE_NOT_FOUND, -ENOENT, "Device '%s' not found", id);
	o = o ? o : &plain;
	r = check(d, o->force, e);
	if (r)
		return r;
	group_of(d, list);
	if (o->force || !guest_is_there(vm))
		force(list[0]);
	else
		ask(list[0], o->timeout_ms);
	return 0;
}

/* ---- with the machine ---- */

bool plug_at_reset(struct vm *vm)
{
	bool later = false;
	struct dev *d;

	for (d = vm->devs; d; d = d->next) {
		if (d->plug->state == DEV_PLUG_PLUGGING)
			state_note(d, DEV_PLUG_PRESENT);	/* firmware finds it */
		if (!d->plug->asked)
			continue;
		state_note(d, DEV_PLUG_ACKNOWLEDGED);
		leave(d);
		later = true;
	}
	return later;
}

/* ---- life ---- */

void plug_init(struct dev *d)
{
	struct plug *p = xcalloc(1, sizeof(*p));

	p->dev = d;
	p->state = DEV_PLUG_PRESENT;
	p->answer_work.cb = answer_cb;
	p->remove_work.cb = remove_cb;
	loop_timer_init(d->vm->main, &p->timer, timer_cb, NULL);
	d->plug = p;
}

void plug_free(struct dev *d)
{
	struct plug *p = d->plug;

	loop_timer_cancel(&p->timer);
	loop_work_cancel(d->vm->main, &p->answer_work);
	loop_work_cancel(d->vm->main, &p->remove_work);
	free(p);
	d->plug = NULL;
}

void plug_arrived(struct dev *d)
{
	if (!d->hotplugged || !guest_is_there(d->vm))
		return;
	dev_pause(d, atomic_load(&d->vm->state) != VM_RUNNING);
	d->plug->state = DEV_PLUG_PLUGGING;
	state_event(d->vm, state_data(d, DEV_PLUG_PLUGGING));
}
