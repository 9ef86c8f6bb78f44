/*
 * devices/virtio/console_port.c - the ports of a virtio-serial controller: a
 * console (virtconsole, the guest's hvc0) or a channel with a name
 * (virtserialport, org.qemu.guest_agent.0 and its like).
 *
 * Spec:    virtio 1.3 s5.3.6.
 * Threads: main loop; the chardev's callbacks and the controller's calls come
 *          with the controller's device lock held.
 * Missing: nothing known.
 *
 * The host side of a console is always open: a guest may print before anybody
 * looks, and the chardev's replay shows it later. A channel tells the guest
 * whether a peer is there.
 */
#include <errno.h>

#include "devices/virtio/console.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

static struct vcon_port *to_port(struct dev *d)
{
	return DEV_OF(d, struct vcon_port);
}

static struct vcon_slot *slot_of(const struct vcon_port *p)
{
	return &p->con->slot[p->nr];
}

/* ---- data ---- */

bool vcon_port_send(struct vcon_slot *s)
{
	const struct virtq_chain *c = s->tx;
	struct chardev *chr = s->port ? s->port->chr : NULL;
	size_t skip = s->tx_off, len, n;
	uint16_t i;

	if (!chr)
		return true;	/* to nowhere */
	for (i = 0; i < c->out_n; i++) {
		len = c->iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		n = char_write(chr, (const uint8_t *)c->iov[i].iov_base + skip, len - skip);
		s->tx_off += n;
		if (n < len - skip)
			return false;
		skip = 0;
	}
	return true;
}

static struct vcon_port *port_of(struct char_front *f)
{
	return container_of(f, struct vcon_port, front);
}

static size_t port_can_read(struct char_front *f)
{
	const struct vcon_port *p = port_of(f);
	const struct virtq_chain *rx = slot_of(p)->rx;

	return rx && p->guest_open && !p->paused ? rx->in_bytes : 0;
}

static void port_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct vcon_port *p = port_of(f);

	vcon_rx_done(p->con, p->nr, (uint32_t)chain_write(slot_of(p)->rx, 0, buf, len));
}

static void port_writable(struct char_front *f)
{
	vcon_tx_resume(port_of(f)->con, port_of(f)->nr);
}

/* ---- state ---- */

static void set_host_open(struct vcon_port *p, bool open)
{
	if (p->is_console || open == p->host_open)
		return;
	p->host_open = open;
	p->flapped |= !open;
	vcon_owe(p->con, p->nr, VCON_OPEN);
}

static void take_winsize(struct vcon_port *p)
{
	char_winsize(p->chr, &p->cols, &p->rows);
	if (!p->is_console)
		return;
	if (p->nr == 0)
		vcon_set_size(p->con, p->cols, p->rows);
	vcon_owe(p->con, p->nr, VCON_RESIZE);
}

static void port_event(struct char_front *f, enum char_event ev)
{
	struct vcon_port *p = port_of(f);

	switch (ev) {
	case CHAR_OPENED:
		set_host_open(p, true);
		break;
	case CHAR_CLOSED:
		set_host_open(p, false);
		break;
	case CHAR_WINSIZE:
		take_winsize(p);
		break;
	case CHAR_BREAK:	/* there is none on these ports */
		break;
	}
}

static void port_moved(struct char_front *f, struct chardev *to)
{
	port_of(f)->chr = to;
}

void vcon_port_set_guest_open(struct vcon_port *p, bool open)
{
	if (p->guest_open == open)
		return;
	p->guest_open = open;
	vcon_post_events(p->con);
	if (open && p->chr)
		char_accept_input(p->chr);
}

static void port_pause(struct dev *d, bool paused)
{
	struct vcon_port *p = to_port(d);

	p->paused = paused;
	if (!paused && p->chr)
		char_accept_input(p->chr);
}

/* ---- life ---- */

static int nr_range(const struct vcon_port *p, struct err *e)
{
	if (p->nr >= p->con->max_ports)
		return err_set(e, -ERANGE, "%s: nr=%u is not below max_ports=%u of %s",
			       p->dev.path, p->nr, p->con->max_ports, p->con->v.pci.dev.path);
	if (p->nr == 0 && !p->is_console)
		return err_set(e, -EINVAL, "%s: nr=0 is for a virtconsole; choose 1 or more",
			       p->dev.path);
	if (slot_of(p)->port)
		return err_set(e, -EBUSY, "%s: nr=%u is taken by %s; choose another", p->dev.path,
			       p->nr, slot_of(p)->port->dev.path);
	return 0;
}

/* Port 0 is what a driver without MULTIPORT sees, so only a console goes there. */
static int take_number(struct vcon_port *p, struct err *e)
{
	uint32_t nr = p->is_console ? 0 : 1;

	if (p->nr != VCON_NR_AUTO)
		return nr_range(p, e);
	while (nr < p->con->max_ports && p->con->slot[nr].port)
		nr++;
	if (nr == p->con->max_ports)
		return err_set(e, -ENOSPC, "%s: all %u ports of %s are taken", p->dev.path,
			       p->con->max_ports, p->con->v.pci.dev.path);
	p->nr = nr;
	return 0;
}

extern const struct dev_type virtconsole_type;

static int port_attach(struct dev *d, struct err *e)
{
	struct vcon_port *p = to_port(d);
	int r = dev_bus_join(d, VCON_BUS, p->bus_name, e);

	if (r < 0)
		return r;
	p->con = vcon_of_bus(d->parent);
	p->is_console = d->type == &virtconsole_type;
	return take_number(p, e);
}

static void port_detach(struct dev *d)
{
	dev_bus_leave(d);
}

/* From here on the controller and its driver see the port. */
static int port_start(struct dev *d, struct err *e)
{
	struct vcon_port *p = to_port(d);
	int r;

	pthread_mutex_lock(&p->con->v.pci.dev.lock);
	p->host_open = p->is_console;
	slot_of(p)->port = p;
	if (p->nr == 0 && p->con->v.started && !p->con->multiport)
		vcon_port_set_guest_open(p, true);
	if (p->chr && p->is_console)
		take_winsize(p);
	vcon_owe(p->con, p->nr, VCON_ADD);
	pthread_mutex_unlock(&p->con->v.pci.dev.lock);
	if (!p->chr)
		return 0;
	r = char_connect(p->chr, &p->front, d->path, e);
	p->connected = r == 0;
	return r;
}

static void port_stop(struct dev *d)
{
	struct vcon_port *p = to_port(d);
	struct vcon_slot *s = slot_of(p);

	if (p->connected)
		char_connect(p->chr, NULL, NULL, NULL);
	p->connected = false;
	pthread_mutex_lock(&p->con->v.pci.dev.lock);
	vcon_return_chains(p->con, p->nr);
	s->port = NULL;
	s->owed = 0;
	if (s->announced)
		vcon_owe(p->con, p->nr, VCON_REMOVE);
	pthread_mutex_unlock(&p->con->v.pci.dev.lock);
}

static int port_init(struct dev *d, struct err *e)
{
	struct vcon_port *p = to_port(d);

	if (!p->chardev)
		return 0;
	p->chr = char_find(d->vm->chars, p->chardev);
	if (!p->chr)
		return err_set(e, -ENOENT, "%s: chardev=%s: no such chardev; add -chardev "
			       "null,id=%s or another", d->path, p->chardev, p->chardev);
	p->front = (struct char_front){
		.can_read = port_can_read, .read = port_read, .writable = port_writable,
		.event = port_event, .moved = port_moved, .lock = &p->con->v.pci.dev.lock,
	};
	return 0;
}

static const struct prop port_props[] = {
	PROP_STR(struct vcon_port, bus_name, "bus", NULL,
		 "controller's id, or its bus ID.0; default: the first there is"),
	PROP_U32(struct vcon_port, nr, "nr", 0, VCON_NR_AUTO, VCON_NR_AUTO,
		 "number of the port; 4294967295: the next free one", .flags = PROP_GUEST),
	PROP_STR(struct vcon_port, name, "name", NULL, "name that the guest finds it by",
		 .flags = PROP_GUEST),
	PROP_LINK(struct vcon_port, chardev, "chardev", "chardev", "where the bytes go"),
	PROP_END
};

/* No vCPU finds a port by itself, and port_stop() takes it off the controller. */
static void port_hide(struct dev *d)
{
}

static const struct dev_plug_ops port_plug_ops = { .hide = port_hide };

static const struct dev_class virtio_serial_port_class = {
	.name = "virtio-serial-port", .props = port_props,
	.attach = port_attach, .start = port_start, .stop = port_stop, .detach = port_detach,
	.plug = &port_plug_ops,
};

#define PORT_TYPE(name_, help_)						\
	{								\
		.name = (name_), .help = (help_),			\
		.class = &virtio_serial_port_class,			\
		.size = sizeof(struct vcon_port),			\
		.ops = { .init = port_init, .pause = port_pause },	\
	}

const struct dev_type virtconsole_type =
	PORT_TYPE("virtconsole", "console on a virtio-serial controller");
const struct dev_type virtserialport_type =
	PORT_TYPE("virtserialport", "named channel on a virtio-serial controller");
