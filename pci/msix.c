/*
 * pci/msix.c - MSI-X: a table of messages and pending bits in a BAR.
 *
 * Spec:    PCI Local Bus 3.0 s6.8.2, s6.8.3; PCIe Base 5.0 s6.1.4, s7.7.2.
 * Threads: msix_fire from any thread; table and config writes under the device
 *          lock. Each vector has a lock of its own, so queues on several
 *          threads do not meet: it keeps mask, pending bit and message
 *          together, is held while the message is sent, and takes only irq's.
 *          Once a guest's mask write returns, no message of that vector follows.
 * Missing: nothing known.
 *
 * A vector is live while MSI-X is enabled, neither the function nor the vector
 * is masked, and bus mastering is on. What is fired at a vector that is not
 * live becomes pending. Whoever changes one of those conditions stores the
 * condition first and then looks at each vector under its lock; msix_fire()
 * looks at the conditions under the same lock. So either the one sees the
 * pending bit or the other the new condition, and nothing is lost.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define ENTRY		PCI_MSIX_ENTRY_SIZE
#define VECTORS_MAX	2048		/* s6.8.2.3: 11 bits */
#define BAR_MIN		(4 * KIB)	/* a page of its own */

struct msix_vector {
	pthread_mutex_t lock;
	/* lock */
	uint32_t word[ENTRY / 4];	/* the table entry */
	bool pending;
	int fd;				/* irqfd, -1: none; owned */
	uint32_t gsi;			/* its route */
	bool connected;			/* the kernel listens to fd */
	struct irq_msg routed;		/* what the route says */
};

struct msix {
	uint16_t cap;
	uint16_t vectors;
	uint32_t pba;			/* offset in the BAR */
	_Atomic bool on, function_masked;
	struct msix_vector vector[];
};

static bool vector_live(const struct pci_dev *p, const struct msix_vector *v)
{
	const struct msix *m = p->msix;

	return atomic_load(&m->on) && !atomic_load(&m->function_masked) &&
	       !(v->word[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT) && pci_master(p);
}

static struct irq_msg vector_msg(const struct pci_dev *p, const struct msix_vector *v)
{
	return (struct irq_msg){
		.addr = v->word[0] | (uint64_t)v->word[1] << 32,
		.data = v->word[2],
		.devid = pci_rid(p),
	};
}

/* ---- vectors that somebody outside this process fires ---- */

/* The route follows the message; the kernel listens while the vector is live.
 * What the eventfd collects meanwhile is delivered when it listens again. */
static void irqfd_update(struct pci_dev *p, struct msix_vector *v)
{
	struct irqchip *chip = p->dev.vm->irq;
	struct irq_msg msg = vector_msg(p, v);
	bool live = vector_live(p, v);

	if (v->fd < 0)
		return;
	if (live && (msg.addr != v->routed.addr || msg.data != v->routed.data)) {
		if (irq_route_update(chip, v->gsi, &msg) == 0)
			v->routed = msg;
	}
	if (live != v->connected && irq_route_fd(chip, v->gsi, v->fd, live) == 0)
		v->connected = live;
}

static bool irqfd_pending(const struct msix_vector *v)
{
	struct pollfd pfd = { .fd = v->fd, .events = POLLIN };

	return v->fd >= 0 && !v->connected && poll(&pfd, 1, 0) > 0;
}

int msix_irqfd(struct pci_dev *p, uint16_t vector, int *fd, struct err *e)
{
	struct msix_vector *v;
	struct irq_msg msg;
	int r = 0;

	assert(p->msix && vector < p->msix->vectors);
	v = &p->msix->vector[vector];
	pthread_mutex_lock(&v->lock);
	if (v->fd < 0) {
		msg = vector_msg(p, v);
		r = irq_route_alloc(p->dev.vm->irq, &msg, &v->gsi);
		if (r)
			err_sys(e, r, "%s: no interrupt route for vector %u",
				p->dev.path, vector);
		else if ((v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
			r = err_sys(e, -errno, "%s: eventfd", p->dev.path);
			irq_route_free(p->dev.vm->irq, v->gsi);
		}
		v->routed = msg;
		irqfd_update(p, v);
	}
	*fd = v->fd;
	pthread_mutex_unlock(&v->lock);
	return r;
}

/* ---- firing ---- */

/* A condition changed: send what waits. v->lock held. */
static void vector_update(struct pci_dev *p, struct msix_vector *v)
{
	struct irq_msg msg;

	irqfd_update(p, v);
	if (!v->pending || !vector_live(p, v))
		return;
	v->pending = false;
	msg = vector_msg(p, v);
	irq_msi(p->dev.vm->irq, &msg);
}

void msix_fire(struct pci_dev *p, uint16_t vector)
{
	struct msix *m = p->msix;
	struct msix_vector *v;

	/* The vector often is a number the driver chose: out of range is its
	 * own loss (virtio 1.3 s4.1.5.1.2 hands it back NO_VECTOR). */
	if (!m || vector >= m->vectors || !atomic_load(&m->on))
		return;
	v = &m->vector[vector];
	pthread_mutex_lock(&v->lock);
	if (atomic_load(&m->on)) {
		v->pending = true;
		vector_update(p, v);
	}
	pthread_mutex_unlock(&v->lock);
}

bool msix_enabled(const struct pci_dev *p)
{
	return p->msix && atomic_load(&p->msix->on);
}

uint16_t msix_vectors(const struct pci_dev *p)
{
	return p->msix ? p->msix->vectors : 0;
}

/* Config writes: enable, function mask, bus mastering. */
void msix_update(struct pci_dev *p)
{
	struct msix *m = p->msix;
	uint16_t flags, i;

	if (!m)
		return;
	flags = pci_get16(p, m->cap + PCI_MSIX_FLAGS);
	atomic_store(&m->function_masked, !!(flags & PCI_MSIX_FLAGS_MASKALL));
	atomic_store(&m->on, !!(flags & PCI_MSIX_FLAGS_ENABLE));
	for (i = 0; i < m->vectors; i++) {
		pthread_mutex_lock(&m->vector[i].lock);
		vector_update(p, &m->vector[i]);
		pthread_mutex_unlock(&m->vector[i].lock);
	}
}

static void msix_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	msix_update(p);
}

/* ---- the BAR ---- */

/* s6.8.2: software uses whole aligned dwords and quadwords. Narrower reads are
 * answered, narrower writes dropped; the bus lets no access be misaligned. */
static uint32_t table_read32(struct msix *m, uint32_t off)
{
	struct msix_vector *v = &m->vector[off / ENTRY];
	uint32_t word;

	pthread_mutex_lock(&v->lock);
	word = v->word[off % ENTRY / 4];
	pthread_mutex_unlock(&v->lock);
	return word;
}

static void table_write32(struct pci_dev *p, uint32_t off, uint32_t val)
{
	struct msix_vector *v = &p->msix->vector[off / ENTRY];
	unsigned int word = off % ENTRY / 4;

	if (word == 0)
		val &= ~3u;		/* s6.8.2.7 */
	else if (word == 3)
		val &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pthread_mutex_lock(&v->lock);
	v->word[word] = val;
	vector_update(p, v);
	pthread_mutex_unlock(&v->lock);
}

static uint32_t pba_read32(struct msix *m, uint32_t off)
{
	uint32_t first = off * 8, bits = 0, i;

	for (i = first; i < first + 32 && i < m->vectors; i++) {
		struct msix_vector *v = &m->vector[i];

		pthread_mutex_lock(&v->lock);
		if (v->pending || irqfd_pending(v))
			bits |= BIT(i - first);
		pthread_mutex_unlock(&v->lock);
	}
	return bits;
}

static uint32_t bar_read32(struct msix *m, uint32_t off)
{
	if (off < (uint32_t)m->vectors * ENTRY)
		return table_read32(m, off);
	return off >= m->pba ? pba_read32(m, off - m->pba) : 0;
}

static uint64_t msix_bar_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct msix *m = ((struct pci_dev *)w->dev)->msix;
	uint32_t at = (uint32_t)off & ~3u;
	uint64_t val = bar_read32(m, at);

	if (width == 8)
		return val | (uint64_t)bar_read32(m, at + 4) << 32;
	return val >> (8 * (off & 3));
}

static void msix_bar_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct pci_dev *p = (struct pci_dev *)w->dev;

	if (width < 4 || off >= (uint64_t)p->msix->vectors * ENTRY)
		return;		/* the PBA is read-only */
	table_write32(p, (uint32_t)off, (uint32_t)val);
	if (width == 8)		/* entries are 16 bytes: still the same one */
		table_write32(p, (uint32_t)off + 4, (uint32_t)(val >> 32));
}

static const struct bus_win_ops msix_bar_ops = {
	.read = msix_bar_read, .write = msix_bar_write,
};

/* ---- set-up ---- */

/* Table at 0, PBA in the upper half or behind the table, as on QEMU's devices. */
static uint32_t lay_out(uint16_t vectors, uint32_t *pba)
{
	uint32_t table = (uint32_t)vectors * ENTRY;
	uint32_t bits = (uint32_t)align_up(vectors, 64) / 8;
	uint32_t size = BAR_MIN;

	while (size / 2 < table || size / 2 < bits)
		size *= 2;
	*pba = size / 2;
	return size;
}

/* An entry is masked from the start (s6.8.2.9). */
void msix_reset(struct pci_dev *p)
{
	struct msix *m = p->msix;
	uint16_t i;

	for (i = 0; m && i < m->vectors; i++) {
		struct msix_vector *v = &m->vector[i];

		pthread_mutex_lock(&v->lock);
		memset(v->word, 0, sizeof(v->word));
		v->word[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		v->pending = false;
		irqfd_update(p, v);
		pthread_mutex_unlock(&v->lock);
	}
}

int msix_init(struct pci_dev *p, uint16_t vectors, int bar, struct err *e)
{
	struct bus_win win = { .name = "msix", .ops = &msix_bar_ops };
	struct msix *m;
	uint16_t i;
	int r;

	assert(!p->msix);
	if (!vectors || vectors > VECTORS_MAX)
		return err_set(e, -EINVAL, "%s: %u MSI-X vectors; 1 to %u are possible",
			       p->dev.path, vectors, VECTORS_MAX);
	m = xcalloc(1, sizeof(*m) + vectors * sizeof(m->vector[0]));
	win.size = lay_out(vectors, &m->pba);
	r = pci_bar_add(p, bar, PCI_BASE_ADDRESS_SPACE_MEMORY, &win, NULL, e);
	if (r) {
		free(m);
		return r;
	}
	m->vectors = vectors;
	for (i = 0; i < vectors; i++) {
		pthread_mutex_init(&m->vector[i].lock, NULL);
		m->vector[i].fd = -1;
	}
	m->cap = pci_cap_add(p, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	pci_set16(p, m->cap + PCI_MSIX_FLAGS, vectors - 1);
	put_le16(p->wmask + m->cap + PCI_MSIX_FLAGS,
		 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_set32(p, m->cap + PCI_MSIX_TABLE, (uint32_t)bar);
	pci_set32(p, m->cap + PCI_MSIX_PBA, m->pba | (uint32_t)bar);
	p->msix = m;
	msix_reset(p);
	pci_hook_add(p, m->cap + PCI_MSIX_FLAGS, 2, msix_written);
	return 0;
}

static void vector_fini(struct pci_dev *p, struct msix_vector *v)
{
	struct irqchip *chip = p->dev.vm->irq;

	if (v->fd >= 0) {
		if (v->connected)
			irq_route_fd(chip, v->gsi, v->fd, false);
		irq_route_free(chip, v->gsi);
		fd_close(&v->fd);
	}
	pthread_mutex_destroy(&v->lock);
}

void msix_fini(struct pci_dev *p)
{
	uint16_t i;

	if (!p->msix)
		return;
	for (i = 0; i < p->msix->vectors; i++)
		vector_fini(p, &p->msix->vector[i]);
	free(p->msix);
	p->msix = NULL;
}
