/*
 * devices/x86/lpc_pm.c - the ICH9's power management block.
 * Spec:    Intel ICH9 datasheet (316972) s13.8.3; ACPI 6.4 s4.8.3 (fixed
 *          hardware).
 * Threads: register hooks on vCPU threads, timer and power button on the main
 *          loop; device lock held.
 * Missing: TCO watchdog (0x60), SMIs, sleep states but S5, wake events.
 *
 * No firmware runs on direct kernel boot, so the block starts in ACPI mode
 * (SCI_EN set), as firmware would leave it.
 */
#include "devices/x86/lpc.h"
#include "devices/x86/x86_devices.h"
#include "vmm/base/util.h"
#include "vmm/core/reg.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(lpc_sleep);
TRACE_DEFINE(lpc_power_button);

#define PM1_STS		0x00
#define PM1_EN		0x02
#define PM1_CNT		0x04
#define PM1_TMR		0x08
#define GPE0_STS	0x20
#define GPE0_EN		0x28
#define SMI_EN		0x30
#define SMI_STS		0x34

#define TMR_STS		BIT(0)
#define GBL_STS		BIT(5)
#define PWRBTN_STS	BIT(8)
#define RTC_STS		BIT(10)
#define WAK_STS		BIT(15)
#define PM1_EVENTS	(TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS)

#define SCI_EN		BIT(0)
#define BM_RLD		BIT(1)
#define SLP_TYP		(7u << 10)
#define SLP_EN		BIT(13)
/* 7 is the datasheet's S5, 0 what QEMU's tables and firmware write. */
#define SLP_TYP_S5	7u
#define SLP_TYP_S5_QEMU	0u

#define PM_TIMER_HZ	3579545u
#define PM_TIMER_BITS	24	/* FADT: TMR_VAL_EXT clear */
#define PM_TIMER_HALF	(1u << (PM_TIMER_BITS - 1))

static uint16_t pm16(const struct lpc *l, unsigned int off)
{
	return get_le16(l->pm + off);
}

static uint64_t timer_ticks(const struct lpc *l)
{
	return (uint64_t)((unsigned __int128)(clock_ns() - l->timer_base_ns) *
			  PM_TIMER_HZ / NS_PER_SEC);
}

/* TMR_STS is set whenever bit 23 changes (ACPI 4.8.2.1). */
static void timer_status(struct lpc *l)
{
	uint64_t halves = timer_ticks(l) / PM_TIMER_HALF;

	if (halves != l->timer_halves)
		put_le16(l->pm + PM1_STS, pm16(l, PM1_STS) | TMR_STS);
	l->timer_halves = halves;
}

static void timer_arm(struct lpc *l)
{
	uint64_t next = 0;

	if (pm16(l, PM1_EN) & TMR_STS) {
		next = (uint64_t)((unsigned __int128)(l->timer_halves + 1) * PM_TIMER_HALF *
				  NS_PER_SEC / PM_TIMER_HZ);
		next += l->timer_base_ns + 1000;	/* certainly past the change */
	}
	deadline_set(&l->overflow, next);
}

static void sci_update(struct lpc *l)
{
	bool fixed = pm16(l, PM1_STS) & pm16(l, PM1_EN) & PM1_EVENTS;
	bool general = get_le64(l->pm + GPE0_STS) & get_le64(l->pm + GPE0_EN);

	irq_pin_set(&l->sci, (pm16(l, PM1_CNT) & SCI_EN) && (fixed || general));
}

static void overflow(struct dev *d)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	timer_status(l);
	timer_arm(l);
	sci_update(l);
}

static void event_wr(struct dev *d, const struct reg *r, uint32_t index, uint64_t val)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	if (r->off == PM1_EN) {
		timer_status(l);
		timer_arm(l);
	}
	sci_update(l);
}

static uint64_t status_rd(struct dev *d, const struct reg *r, uint32_t index)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	timer_status(l);
	return reg_get(l->pm, r, index);
}

static uint64_t timer_rd(struct dev *d, const struct reg *r, uint32_t index)
{
	return timer_ticks(DEV_OF(d, struct lpc)) & ((1u << PM_TIMER_BITS) - 1);
}

static void control_wr(struct dev *d, const struct reg *r, uint32_t index, uint64_t val)
{
	struct lpc *l = DEV_OF(d, struct lpc);
	unsigned int typ = (unsigned int)(val & SLP_TYP) >> 10;

	sci_update(l);
	if (!(val & SLP_EN))	/* reads as 0, acts when written as 1 */
		return;
	trace(lpc_sleep, "SLP_TYP %u", typ);
	if (typ == SLP_TYP_S5 || typ == SLP_TYP_S5_QEMU)
		vm_request(d->vm, VM_REQ_SHUTDOWN, VM_CAUSE_GUEST_SHUTDOWN);
	else
		dev_guest_error(d, "sleep type %u is not offered", typ);
}

const struct reg lpc_pm_regs[] = {
	/* name      off  width reset wmask w1c */
	{ "PM1_STS", PM1_STS, 2, 0, 0, PM1_EVENTS | WAK_STS | BIT(4),
	  .rd = status_rd, .wr = event_wr, .flags = REG_PART | REG_WIDE },
	{ "PM1_EN", PM1_EN, 2, 0, PM1_EVENTS, 0,
	  .wr = event_wr, .flags = REG_PART | REG_WIDE },
	{ "PM1_CNT", PM1_CNT, 4, SCI_EN, SCI_EN | BM_RLD | SLP_TYP, 0,
	  .wr = control_wr, .flags = REG_PART },
	{ "PM1_TMR", PM1_TMR, 4, 0, 0, 0, .rd = timer_rd, .flags = REG_PART },
	{ "GPE0_STS", GPE0_STS, 8, 0, 0, UINT64_MAX, .wr = event_wr, .flags = REG_PART },
	{ "GPE0_EN", GPE0_EN, 8, 0, UINT64_MAX, 0, .wr = event_wr, .flags = REG_PART },
	/* Nothing raises an SMI; the bits keep what firmware writes. */
	{ "SMI_EN", SMI_EN, 4, 0, 0x0000406f, 0, .flags = REG_PART },
	{ "SMI_STS", SMI_STS, 4, 0, 0, UINT32_MAX, .flags = REG_PART },
	{ 0 }
};

void lpc_pm_set_acpi(struct lpc *l, bool on)
{
	uint16_t cnt = pm16(l, PM1_CNT);

	put_le16(l->pm + PM1_CNT, on ? cnt | SCI_EN : (uint16_t)(cnt & ~SCI_EN));
	sci_update(l);
}

/* Only a guest that listens is told: without PWRBTN_EN a later enable would
 * find a press of long ago. */
void lpc_power_button(struct dev *d)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	trace(lpc_power_button, "enabled %u", !!(pm16(l, PM1_EN) & PWRBTN_STS));
	pthread_mutex_lock(&d->lock);	/* called from outside the core */
	if (pm16(l, PM1_EN) & PWRBTN_STS) {
		put_le16(l->pm + PM1_STS, pm16(l, PM1_STS) | PWRBTN_STS);
		sci_update(l);
	}
	pthread_mutex_unlock(&d->lock);
}

void lpc_gpe(struct dev *d, unsigned int n)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	pthread_mutex_lock(&d->lock);	/* called from outside the core */
	put_le64(l->pm + GPE0_STS, get_le64(l->pm + GPE0_STS) | BIT64(n));
	sci_update(l);
	pthread_mutex_unlock(&d->lock);
}

void lpc_pm_reset(struct lpc *l)
{
	reg_reset(lpc_pm_regs, l->pm, sizeof(l->pm));
	l->timer_halves = timer_ticks(l) / PM_TIMER_HALF;
	timer_arm(l);
	sci_update(l);
}

int lpc_pm_init(struct lpc *l, struct err *e)
{
	l->timer_base_ns = clock_ns();
	irq_pin_init(&l->sci, l->pci.dev.vm->irq, X86_SCI_IRQ);
	return deadline_init(&l->overflow, &l->pci.dev, overflow, e);
}

void lpc_pm_fini(struct lpc *l)
{
	deadline_fini(&l->overflow);
	if (l->sci.chip)
		irq_pin_set(&l->sci, false);
}
