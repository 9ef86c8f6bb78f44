/*
 * devices/virtio/console.c - virtio-serial: a controller whose ports are
 * consoles and byte channels. The ports are devices of their own, on its bus
 * (console_port.c).
 *
 * Spec:    virtio 1.3 s5.3.
 * Threads: queues run on the main loop, and take the device lock there: a
 *          driver's reset clears the ports' state on a vCPU thread.
 * Missing: iothread; ports beyond 31 (the specification allows 2^32).
 *
 * A driver that knows no MULTIPORT has port 0 only, always open. Control
 * messages are bits per port, sent when there is a buffer: a chardev that opens
 * and closes a thousand times while the driver sleeps costs nothing.
 *
 * Each queue of a port holds at most one chain at a time: the one that the host
 * side is busy with. Further ones wait in the ring, and that is the whole of
 * the flow control, in both directions.
 */
#include <errno.h>
#include <linux/virtio_console.h>

#include "devices/virtio/console.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(virtio_console_to_driver);
TRACE_DEFINE(virtio_console_from_driver);

enum {
	QUEUE_SIZE = 128, CTL_QUEUE_SIZE = 32,
	PIECES = 64,		/* of one chain; Linux's splice sends a pipe's 16 */
	CTL_RX = 2, CTL_TX = 3,	/* s5.3.2 */
	NAME_BYTES = 128,	/* of a port's name that are sent */
};

static const struct prop vcon_props[] = {
	PROP_U32(struct vcon, max_ports, "max_ports", 1, VCON_PORTS, VCON_PORTS,
		 "ports that the controller can have", .flags = PROP_GUEST),
	PROP_BOOL(struct vcon, rows_first, "x-rows-first", false,
		  "window sizes as Linux of before 2025 expects them, rows before columns",
		  .flags = PROP_GUEST | PROP_EXPERIMENTAL),
	PROP_END
};

static struct vcon *to_vcon(struct virtio_dev *v)
{
	return (struct vcon *)v;
}

struct vcon *vcon_of_bus(struct dev_bus *b)
{
	return container_of(b, struct vcon, bus);
}

/* ---- queues of ports, s5.3.2 ---- */

static uint16_t rx_queue(uint32_t nr)
{
	return (uint16_t)(nr ? 2 * nr + 2 : 0);
}

static uint32_t queue_port(const struct virtio_queue *q)
{
	return q->index < CTL_RX ? 0 : q->index / 2u - 1;
}

static void return_chain(struct virtio_queue *q, struct virtq_chain **c)
{
	if (*c)
		virtio_push(q, *c, 0);
	*c = NULL;
}

/* Its buffer waits for input; without a port for ever. */
static int serve_rx(struct vcon *con, struct virtio_queue *q)
{
	struct vcon_slot *s = &con->slot[queue_port(q)];
	int r;

	if (s->rx)
		return 1;
	while ((r = virtio_pop(q, &s->rx)) > 0 && !s->rx->in_bytes)
		return_chain(q, &s->rx);	/* it can hold nothing */
	if (r > 0 && s->port && s->port->chr)
		char_accept_input(s->port->chr);
	return r;
}

void vcon_rx_done(struct vcon *con, uint32_t nr, uint32_t bytes)
{
	struct virtio_queue *q = &con->v.queue[rx_queue(nr)];

	virtio_push(q, con->slot[nr].rx, bytes);
	con->slot[nr].rx = NULL;
	virtio_rekick(q);
}

static int serve_tx(struct vcon *con, struct virtio_queue *q)
{
	struct vcon_slot *s = &con->slot[queue_port(q)];
	int r;

	for (;;) {
		if (s->tx && !vcon_port_send(s))
			return 1;	/* the chardev says when: vcon_tx_resume() */
		if (s->tx)
			virtio_push(q, s->tx, 0);
		s->tx = NULL;
		s->tx_off = 0;
		r = virtio_pop(q, &s->tx);
		if (r <= 0)
			return r;
	}
}

void vcon_tx_resume(struct vcon *con, uint32_t nr)
{
	virtio_rekick(&con->v.queue[rx_queue(nr) + 1]);
}

/* Buffers for input go back empty only with their queue: Linux takes one
 * without bytes for the end of the port's life. */
void vcon_return_chains(struct vcon *con, uint32_t nr)
{
	return_chain(&con->v.queue[rx_queue(nr) + 1], &con->slot[nr].tx);
	con->slot[nr].tx_off = 0;
}

/* ---- control messages to the driver, s5.3.6.2 ---- */

struct message {
	struct virtio_console_control head;
	char name[NAME_BYTES];
	size_t len;		/* of all */
};

static void put_head(struct message *m, uint32_t nr, uint16_t event, uint16_t value)
{
	m->head.id = htole32(nr);
	m->head.event = htole16(event);
	m->head.value = htole16(value);
	m->len = sizeof(m->head);
}

static void put_name(struct message *m, uint32_t nr, const struct vcon_port *p)
{
	size_t n = MIN(strlen(p->name) + 1, sizeof(m->name));

	put_head(m, nr, VIRTIO_CONSOLE_PORT_NAME, 1);
	memcpy(m->name, p->name, n);
	m->name[n - 1] = '\0';
	m->len += n;
}

/* s5.3.6.1: struct virtio_console_resize { le16 cols; le16 rows; }. Linux had
 * it the other way round until 6.15 and the stable kernels of that time. */
static void put_size(struct message *m, uint32_t nr, const struct vcon_port *p, bool rows_first)
{
	put_head(m, nr, VIRTIO_CONSOLE_RESIZE, 1);
	put_le16(m->name, rows_first ? p->rows : p->cols);
	put_le16(m->name + 2, rows_first ? p->cols : p->rows);
	m->len += 4;
}

/* A peer that went and came shows as both. */
static bool next_open_state(const struct vcon_port *p)
{
	return p->host_open && !(p->flapped && p->open_told);
}

/* Make the next message about port @nr; returns its bit. */
static unsigned int make_message(struct vcon *con, uint32_t nr, struct message *m)
{
	struct vcon_slot *s = &con->slot[nr];
	struct vcon_port *p = s->port;
	unsigned int bit = s->owed & -s->owed;

	switch (bit) {
	case VCON_REMOVE:
		put_head(m, nr, VIRTIO_CONSOLE_PORT_REMOVE, 1);
		break;
	case VCON_ADD:
		put_head(m, nr, VIRTIO_CONSOLE_PORT_ADD, 1);
		break;
	case VCON_IS_CONSOLE:
		put_head(m, nr, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
		break;
	case VCON_NAME:
		put_name(m, nr, p);
		break;
	case VCON_RESIZE:
		put_size(m, nr, p, con->rows_first);
		break;
	case VCON_OPEN:
		put_head(m, nr, VIRTIO_CONSOLE_PORT_OPEN, next_open_state(p));
		break;
	}
	return bit;
}

/* The message is on its way. */
static void message_sent(struct vcon_slot *s, unsigned int bit)
{
	struct vcon_port *p = s->port;

	s->owed &= ~bit;
	if (bit == VCON_REMOVE)
		s->announced = false;
	if (bit == VCON_ADD)
		s->announced = true;
	if (bit != VCON_OPEN)
		return;
	p->open_told = next_open_state(p);
	p->flapped = false;
	if (p->open_told != p->host_open)
		s->owed |= VCON_OPEN;
}

static uint32_t first_owed(const struct vcon *con)
{
	uint32_t nr;

	for (nr = 0; nr < con->max_ports; nr++)
		if (con->slot[nr].owed)
			break;
	return nr;
}

static int serve_ctl_rx(struct vcon *con, struct virtio_queue *q)
{
	struct virtq_chain *c;
	struct message m;
	unsigned int bit;
	uint32_t nr;
	int r;

	while ((nr = first_owed(con)) < con->max_ports) {
		r = virtio_pop(q, &c);
		if (r <= 0)
			return r;
		if (c->in_bytes < sizeof(m.head) + 4) {	/* not even a resize */
			virtio_push(q, c, 0);
			continue;
		}
		bit = make_message(con, nr, &m);
		trace(virtio_console_to_driver, "%s port %u event %u value %u",
		      con->v.pci.dev.path, nr, le16toh(m.head.event), le16toh(m.head.value));
		virtio_push(q, c, (uint32_t)chain_write(c, 0, &m, m.len));
		message_sent(&con->slot[nr], bit);
	}
	return 1;		/* vcon_owe() will call */
}

void vcon_owe(struct vcon *con, uint32_t nr, unsigned int messages)
{
	struct vcon_slot *s = &con->slot[nr];

	if (!con->multiport || !con->driver_ready)
		return;
	if (!s->announced && !((s->owed | messages) & VCON_ADD))
		messages &= VCON_REMOVE;	/* nothing it could refer to */
	s->owed |= messages;
	if (s->owed)
		virtio_rekick(&con->v.queue[CTL_RX]);
}

/* ---- control messages from the driver ---- */

static void port_ready(struct vcon *con, uint32_t nr)
{
	struct vcon_port *p = con->slot[nr].port;

	p->open_told = p->flapped = false;
	vcon_owe(con, nr, (p->is_console ? VCON_IS_CONSOLE : 0) | (p->name ? VCON_NAME : 0) |
		 (p->is_console && p->cols ? VCON_RESIZE : 0) | (p->host_open ? VCON_OPEN : 0));
}

static void device_ready(struct vcon *con)
{
	uint32_t nr;

	con->driver_ready = true;
	for (nr = 0; nr < con->max_ports; nr++)
		if (con->slot[nr].port)
			vcon_owe(con, nr, VCON_ADD);
}

static void control(struct vcon *con, uint32_t nr, uint16_t event, uint16_t value)
{
	struct vcon_port *p = nr < con->max_ports ? con->slot[nr].port : NULL;

	trace(virtio_console_from_driver, "%s port %u event %u value %u",
	      con->v.pci.dev.path, nr, event, value);
	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		if (value)
			device_ready(con);
		else
			dev_guest_error(&con->v.pci.dev, "the driver failed to set itself up");
		return;
	}
	if (!p) {	/* it may have been unplugged meanwhile */
		if (nr >= con->max_ports)
			dev_guest_error(&con->v.pci.dev, "the driver names port %u of %u",
					nr, con->max_ports);
		return;
	}
	if (event == VIRTIO_CONSOLE_PORT_OPEN)
		vcon_port_set_guest_open(p, value != 0);
	else if (event == VIRTIO_CONSOLE_PORT_READY && value)
		port_ready(con, nr);
	else if (event == VIRTIO_CONSOLE_PORT_READY)
		dev_guest_error(&p->dev, "the driver failed to set up the port");
}

static int serve_ctl_tx(struct vcon *con, struct virtio_queue *q)
{
	struct virtio_console_control m;
	struct virtq_chain *c;
	int r;

	while ((r = virtio_pop(q, &c)) > 0) {
		if (chain_read(c, 0, &m, sizeof(m)) == sizeof(m))
			control(con, le32toh(m.id), le16toh(m.event), le16toh(m.value));
		virtio_push(q, c, 0);
	}
	return r;
}

/* ---- events for who listens to the VM ---- */

static void tell(struct vcon *con, struct vcon_port *p)
{
	bool open, changed;

	pthread_mutex_lock(&con->v.pci.dev.lock);
	open = p->guest_open;
	changed = open != p->guest_told;
	p->guest_told = open;
	pthread_mutex_unlock(&con->v.pci.dev.lock);
	if (changed && p->dev.id)
		vm_event(p->dev.vm, "VSERPORT_CHANGE",
			 json_pack("{s:s, s:b}", "id", p->dev.id, "open", open));
}

static void event_cb(struct loop_work *w)
{
	struct vcon *con = container_of(w, struct vcon, event_work);
	uint32_t nr;

	for (nr = 0; nr < con->max_ports; nr++)
		if (con->slot[nr].port)
			tell(con, con->slot[nr].port);
}

void vcon_post_events(struct vcon *con)
{
	loop_post(con->v.pci.dev.vm->main, &con->event_work);
}

/* ---- the device ---- */

static int vcon_kick(struct virtio_dev *v, struct virtio_queue *q)
{
	struct vcon *con = to_vcon(v);
	int r;

	pthread_mutex_lock(&v->pci.dev.lock);
	if (q->index == CTL_RX)
		r = serve_ctl_rx(con, q);
	else if (q->index == CTL_TX)
		r = serve_ctl_tx(con, q);
	else
		r = q->index % 2 ? serve_tx(con, q) : serve_rx(con, q);
	pthread_mutex_unlock(&v->pci.dev.lock);
	return r;
}

static void vcon_cancel(struct virtio_dev *v, struct virtio_queue *q)
{
	struct vcon *con = to_vcon(v);
	struct vcon_slot *s = &con->slot[queue_port(q)];

	if (q->index == CTL_RX || q->index == CTL_TX)
		return;		/* they hold nothing */
	pthread_mutex_lock(&v->pci.dev.lock);
	return_chain(q, q->index % 2 ? &s->tx : &s->rx);
	s->tx_off = s->tx ? s->tx_off : 0;
	pthread_mutex_unlock(&v->pci.dev.lock);
}

static int vcon_start(struct virtio_dev *v)
{
	struct vcon *con = to_vcon(v);

	con->multiport = virtio_has(v, VIRTIO_CONSOLE_F_MULTIPORT);
	if (!con->multiport && con->slot[0].port)
		vcon_port_set_guest_open(con->slot[0].port, true);
	return 0;
}

static void vcon_stopped(struct virtio_dev *v)
{
	struct vcon *con = to_vcon(v);
	uint32_t nr;

	con->driver_ready = con->multiport = false;
	for (nr = 0; nr < con->max_ports; nr++) {
		con->slot[nr].owed = 0;
		con->slot[nr].announced = false;
		if (con->slot[nr].port)
			vcon_port_set_guest_open(con->slot[nr].port, false);
	}
}

void vcon_set_size(struct vcon *con, uint16_t cols, uint16_t rows)
{
	put_le16(con->v.config + offsetof(struct virtio_console_config, cols), cols);
	put_le16(con->v.config + offsetof(struct virtio_console_config, rows), rows);
	virtio_config_changed(&con->v);
}

/* s5.3.5: a character for a console without queues, as early boot code has it. */
static void vcon_config_write(struct virtio_dev *v, uint16_t off, uint16_t len, const void *val)
{
	const struct vcon_port *p = to_vcon(v)->slot[0].port;

	if (off == offsetof(struct virtio_console_config, emerg_wr) && p && p->chr)
		char_write(p->chr, val, 1);
}

static int vcon_init(struct dev *d, struct err *e)
{
	struct vcon *con = DEV_OF(d, struct vcon);
	uint32_t i;

	for (i = 0; i < 2 * con->max_ports + 2; i++)
		virtio_queue_add(&con->v, i == CTL_RX || i == CTL_TX ? CTL_QUEUE_SIZE : QUEUE_SIZE,
				 PIECES, 0, NULL);
	/* QEMU's number: one for the configuration, one for all queues. */
	if (con->v.vectors == VIRTIO_VECTORS_AUTO)
		con->v.vectors = 2;
	put_le32(con->v.config + offsetof(struct virtio_console_config, max_nr_ports),
		 con->max_ports);
	if (con->max_ports == 1)
		con->v.features_offered &= ~BIT64(VIRTIO_CONSOLE_F_MULTIPORT);
	con->event_work.cb = event_cb;
	dev_bus_add(&con->bus, d, VCON_BUS, 0);
	return 0;
}

static void vcon_fini(struct dev *d)
{
	struct vcon *con = DEV_OF(d, struct vcon);

	dev_bus_del(&con->bus);
	loop_work_cancel(d->vm->main, &con->event_work);
}

static const struct virtio_ops vcon_ops = {
	.device_id = 3,
	.pci_class = 0x078000,
	.features = BIT64(VIRTIO_CONSOLE_F_SIZE) | BIT64(VIRTIO_CONSOLE_F_MULTIPORT) |
		    BIT64(VIRTIO_CONSOLE_F_EMERG_WRITE),
	.config_size = sizeof(struct virtio_console_config),
	.config_write = vcon_config_write,
	.start = vcon_start, .stopped = vcon_stopped,
	.kick = vcon_kick, .cancel = vcon_cancel,
};

#define VCON_TYPE(name_, alias_, class_, help_)				\
	{								\
		.name = (name_), .alias = (alias_), .help = (help_),	\
		.class = &(class_), .size = sizeof(struct vcon),	\
		.props = vcon_props, .ops = { .init = vcon_init, .fini = vcon_fini }, \
		.class_ops = &vcon_ops,					\
	}

const struct dev_type virtio_serial_type =
	VCON_TYPE("virtio-serial-pci", "virtio-serial", virtio_class,
		  "controller of virtconsole and virtserialport");
const struct dev_type virtio_serial_modern_type =
	VCON_TYPE("virtio-serial-pci-non-transitional", NULL, virtio_modern_class,
		  "controller of virtio ports, virtio 1.x interface only");
const struct dev_type virtio_serial_transitional_type =
	VCON_TYPE("virtio-serial-pci-transitional", NULL, virtio_transitional_class,
		  "controller of virtio ports with the legacy interface as well");
