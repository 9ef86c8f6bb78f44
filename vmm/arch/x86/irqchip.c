/*
 * vmm/arch/x86/irqchip.c - interrupt controllers in the kernel, and the per-VM
 * state of the architecture.
 *
 * Spec:    Linux Documentation/virt/kvm/api.rst: KVM_CREATE_IRQCHIP,
 *          KVM_CREATE_PIT2, KVM_CAP_SPLIT_IRQCHIP, KVM_SET_GSI_ROUTING,
 *          KVM_CAP_X2APIC_API; Intel 8259A, 82093AA IOAPIC, 8254.
 * Threads: irq_ops from any thread under irq.c's locks; set-up on the main loop.
 * Missing: a PIC and PIT in user space (split has neither); extended
 *          destination ids in messages, hence APIC ids end at 254.
 *
 * GSIs 0..23 are the IOAPIC's pins, ISA interrupts 0..15 also reach the PIC.
 * As on real chip sets the PIT (ISA 0) is wired to pin 2; the MADT says so.
 */
#include "vmm/arch/x86/arch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/util.h"
#include "vmm/core/irq.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vm.h"

#define PIC_PINS	8
/* Message routes for vhost and VFIO; KVM takes 4096 in all. */
#define MSG_ROUTES	1024u

struct x86_platform *x86_platform(const struct vm *vm)
{
	return irq_arg(vm->irq);
}

/* ---- irq_ops ---- */

static int set_line(struct irqchip *c, uint32_t gsi, bool level)
{
	struct x86_platform *x = irq_arg(c);
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	if (x->split) {
		if (x->ioapic)
			x->ioapic->set_line(x->ioapic_arg, gsi, level);
		return 0;
	}
	return ioctl(x->vm_fd, KVM_IRQ_LINE, &l) < 0 ? -errno : 0;
}

static int signal_msi(struct irqchip *c, const struct irq_msg *m)
{
	struct x86_platform *x = irq_arg(c);
	struct kvm_msi msi = {
		.address_lo = (uint32_t)m->addr,
		.address_hi = (uint32_t)(m->addr >> 32),
		.data = m->data,
	};

	return ioctl(x->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

static struct kvm_irq_routing_entry *route_find(struct x86_platform *x, uint32_t gsi)
{
	for (uint32_t i = 0; i < x->routes->nr; i++) {
		struct kvm_irq_routing_entry *r = &x->routes->entries[i];

		if (r->gsi == gsi && r->type == KVM_IRQ_ROUTING_MSI)
			return r;
	}
	return NULL;
}

static int routes_commit(struct x86_platform *x)
{
	return ioctl(x->vm_fd, KVM_SET_GSI_ROUTING, x->routes) < 0 ? -errno : 0;
}

static struct kvm_irq_routing_entry *route_new(struct x86_platform *x)
{
	struct kvm_irq_routing_entry *r;

	if (x->routes->nr == x->route_room)
		return NULL;
	r = &x->routes->entries[x->routes->nr++];
	memset(r, 0, sizeof(*r));
	return r;
}

static void route_fill(struct kvm_irq_routing_entry *r, uint32_t gsi, const struct irq_msg *m)
{
	r->gsi = gsi;
	r->type = KVM_IRQ_ROUTING_MSI;
	r->u.msi.address_lo = (uint32_t)m->addr;
	r->u.msi.address_hi = (uint32_t)(m->addr >> 32);
	r->u.msi.data = m->data;
}

/* Takes the whole table to the kernel; on failure nothing has changed. */
static int route_change(struct x86_platform *x, uint32_t gsi, const struct irq_msg *m)
{
	struct kvm_irq_routing_entry *r = route_find(x, gsi), old;
	bool is_new = !r;
	int ret;

	if (!m) {
		if (!r)
			return 0;
		*r = x->routes->entries[--x->routes->nr];
		return routes_commit(x);
	}
	if (is_new && !(r = route_new(x)))
		return -ENOSPC;
	old = *r;
	route_fill(r, gsi, m);
	ret = routes_commit(x);
	if (ret < 0 && is_new)
		x->routes->nr--;
	else if (ret < 0)
		*r = old;
	return ret;
}

static int route_set(struct irqchip *c, uint32_t gsi, const struct irq_msg *m)
{
	struct x86_platform *x = irq_arg(c);
	int ret;

	pthread_mutex_lock(&x->route_lock);
	ret = route_change(x, gsi, m);
	pthread_mutex_unlock(&x->route_lock);
	return ret;
}

int x86_ioapic_route(struct vm *vm, uint32_t pin, const struct irq_msg *m)
{
	return route_set(vm->irq, pin, m);
}

static int set_irqfd(struct irqchip *c, uint32_t gsi, int fd, int resample_fd, bool on)
{
	struct x86_platform *x = irq_arg(c);
	struct kvm_irqfd i = {
		.fd = (uint32_t)fd, .gsi = gsi,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (on && resample_fd >= 0) {
		i.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		i.resamplefd = (uint32_t)resample_fd;
	}
	return ioctl(x->vm_fd, KVM_IRQFD, &i) < 0 ? -errno : 0;
}

static const struct irq_ops x86_irq_ops = {
	.set_line = set_line, .signal_msi = signal_msi,
	.route_set = route_set, .irqfd = set_irqfd,
};

/* ---- creation ---- */

static void route_pin(struct x86_platform *x, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	struct kvm_irq_routing_entry *r = route_new(x);

	r->gsi = gsi;
	r->type = KVM_IRQ_ROUTING_IRQCHIP;
	r->u.irqchip.irqchip = chip;
	r->u.irqchip.pin = pin;
}

static void route_pins(struct x86_platform *x)
{
	for (uint32_t i = 0; i < 2 * PIC_PINS; i++)
		if (i != 2)	/* the cascade */
			route_pin(x, i, i < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER :
				  KVM_IRQCHIP_PIC_SLAVE, i % PIC_PINS);
	for (uint32_t i = 0; i < X86_IOAPIC_PINS; i++)
		if (i != 2)	/* taken by the PIT, ISA interrupt 0 */
			route_pin(x, i, KVM_IRQCHIP_IOAPIC, i ? i : 2);
}

static int create_full(struct vm *vm, struct x86_platform *x, struct err *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int ret;

	if (ioctl(x->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_sys(e, -errno, "KVM cannot create its interrupt controllers");
	if (ioctl(x->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_sys(e, -errno, "KVM cannot create its timer (PIT)");
	route_pins(x);
	ret = routes_commit(x);
	return ret < 0 ? err_sys(e, ret, "KVM does not take the interrupt routes") : 0;
}

static int create_split(struct vm *vm, struct x86_platform *x, struct err *e)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_SPLIT_IRQCHIP, .args = { X86_IOAPIC_PINS },
	};

	if (ioctl(x->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return err_sys(e, -errno, "kernel-irqchip=split: this KVM cannot; use "
			       "kernel-irqchip=on");
	return 0;
}

/* Where KVM may put what old Intel CPUs need for real mode. */
static int set_addresses(struct x86_platform *x, struct err *e)
{
	uint64_t identity = X86_IDENTITY_MAP;

	if (ioctl(x->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    ioctl(x->vm_fd, KVM_SET_TSS_ADDR, X86_TSS_ADDR) < 0)
		return err_sys(e, -errno, "KVM does not take the addresses of its TSS");
	return 0;
}

/* In x2APIC mode 0xff is a CPU, not a broadcast. */
static void enable_x2apic_ids(struct x86_platform *x)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X2APIC_API,
		.args = { KVM_X2APIC_API_USE_32BIT_IDS |
			  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK },
	};

	(void)ioctl(x->vm_fd, KVM_ENABLE_CAP, &cap);	/* old KVM: xAPIC rules */
}

static int platform_reset(struct dev *d);

static int platform_init(struct dev *d, struct err *e)
{
	pthread_mutex_init(&DEV_OF(d, struct x86_platform)->route_lock, NULL);
	return 0;
}

static void platform_fini(struct dev *d)
{
	struct x86_platform *x = DEV_OF(d, struct x86_platform);

	pthread_mutex_destroy(&x->route_lock);
	free(x->routes);
	free(x->cpuid);
}

static const struct dev_type platform_type = {
	.name = "x86-platform", .help = "interrupt controllers and CPU state in KVM",
	.size = sizeof(struct x86_platform), .flags = DEV_BUILTIN,
	.ops = { .init = platform_init, .fini = platform_fini, .reset = platform_reset },
};

int x86_irqchip_create(struct vm *vm, bool split, struct err *e)
{
	struct x86_platform *x;
	struct dev *d;
	int ret;

	ret = dev_create_type(vm, &platform_type, NULL, &d, e);
	if (ret < 0)
		return ret;
	x = DEV_OF(d, struct x86_platform);
	x->vm_fd = vm->kvm->vm_fd;
	x->split = split;
	x->route_room = 2 * PIC_PINS + X86_IOAPIC_PINS + MSG_ROUTES;
	x->routes = xcalloc(1, sizeof(*x->routes) +
			    x->route_room * sizeof(x->routes->entries[0]));
	ret = set_addresses(x, e);
	if (ret == 0)
		ret = split ? create_split(vm, x, e) : create_full(vm, x, e);
	if (ret < 0)
		return ret;
	enable_x2apic_ids(x);
	vm->irq = irq_create(&x86_irq_ops, x, X86_IOAPIC_PINS, MSG_ROUTES);
	return 0;
}

void x86_ioapic_connect(struct vm *vm, const struct x86_ioapic_ops *ops, void *arg)
{
	struct x86_platform *x = x86_platform(vm);

	x->ioapic_arg = arg;
	x->ioapic = ops;
}

bool x86_irqchip_is_split(const struct vm *vm)
{
	return x86_platform(vm)->split;
}

/* ---- reset ---- */

static int chip_set(struct x86_platform *x, struct kvm_irqchip *chip)
{
	return ioctl(x->vm_fd, KVM_SET_IRQCHIP, chip) < 0 ? -errno : 0;
}

/* A PIC before its ICWs: nothing requested, nothing in service. Which lines
 * may be level triggered is the board's (ELCR mask). */
static int pic_reset(struct x86_platform *x, uint32_t id)
{
	struct kvm_irqchip chip = { .chip_id = id };

	chip.chip.pic.elcr_mask = id == KVM_IRQCHIP_PIC_MASTER ? 0xf8 : 0xde;
	return chip_set(x, &chip);
}

static int ioapic_reset(struct x86_platform *x)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	chip.chip.ioapic.base_address = X86_IOAPIC_BASE;
	for (int i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		chip.chip.ioapic.redirtbl[i].fields.mask = 1;
	return chip_set(x, &chip);
}

static int pit_reset(struct x86_platform *x)
{
	struct kvm_pit_state2 pit = { 0 };

	for (int i = 0; i < 3; i++) {
		pit.channels[i].mode = 0xff;	/* no mode until one is written */
		pit.channels[i].gate = i != 2;
	}
	return ioctl(x->vm_fd, KVM_SET_PIT2, &pit) < 0 ? -errno : 0;
}

int x86_irqchip_reset(struct vm *vm, struct err *e)
{
	struct x86_platform *x = x86_platform(vm);
	int ret = 0;

	if (x->split)		/* the IOAPIC is a device of its own */
		return 0;
	if ((ret = pic_reset(x, KVM_IRQCHIP_PIC_MASTER)) < 0 ||
	    (ret = pic_reset(x, KVM_IRQCHIP_PIC_SLAVE)) < 0 ||
	    (ret = ioapic_reset(x)) < 0 || (ret = pit_reset(x)) < 0)
		return err_sys(e, ret, "KVM does not reset its interrupt controllers");
	return 0;
}

/* Runs at creation too, where the chips are new and vm->irq is not set yet. */
static int platform_reset(struct dev *d)
{
	struct x86_platform *x = DEV_OF(d, struct x86_platform);
	struct err e = ERR_INIT;

	if (x->started && x86_irqchip_reset(d->vm, &e) < 0)
		log_err("%s", e.text);
	return 0;
}
