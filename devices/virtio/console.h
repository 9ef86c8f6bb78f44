/*
 * devices/virtio/console.h - between the virtio-serial controller (console.c)
 * and its ports (console_port.c).
 *
 * Threads: everything here with the controller's device lock held, and on the
 *          main loop unless a comment says otherwise.
 */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"
#include "vmm/char/char.h"
#include "vmm/core/dev_bus.h"

#define VCON_BUS	"virtio-serial-bus"
#define VCON_PORTS	31	/* two queues each, and two for control, of 64 */
#define VCON_NR_AUTO	UINT32_MAX

/* Control messages the driver is owed about a port, in the order in which they
 * go: a bit each, so that no number of events needs memory. */
enum vcon_message {
	VCON_REMOVE = 1 << 0,
	VCON_ADD = 1 << 1,
	VCON_IS_CONSOLE = 1 << 2,
	VCON_NAME = 1 << 3,
	VCON_RESIZE = 1 << 4,
	VCON_OPEN = 1 << 5,
};

/* A virtconsole or virtserialport. */
struct vcon_port {
	struct dev dev;			/* first */
	/* properties */
	char *bus_name;
	uint32_t nr;
	char *name;
	char *chardev;
	/* set-up */
	struct vcon *con;		/* NULL: not on a bus */
	bool is_console;
	struct chardev *chr;		/* NULL: none */
	struct char_front front;
	bool connected;			/* front is the chardev's */
	_Atomic bool paused;		/* the VM stands still: no input */
	/* controller's lock */
	bool guest_open;		/* the guest wants input */
	bool guest_told;		/* as VSERPORT_CHANGE said last */
	bool host_open;			/* a peer is at the chardev */
	bool open_told;			/* as the driver was told last */
	bool flapped;			/* closed since, though open again now */
	uint16_t cols, rows;		/* 0: not known */
};

struct vcon_slot {
	struct vcon_port *port;		/* NULL: free */
	unsigned int owed;		/* enum vcon_message */
	bool announced;			/* the driver knows of the port */
	/* main loop: the chain each queue is at */
	struct virtq_chain *rx, *tx;	/* NULL: none */
	size_t tx_off;			/* bytes of tx the chardev has taken */
};

struct vcon {
	struct virtio_dev v;		/* first */
	/* properties */
	uint32_t max_ports;
	bool rows_first;
	/* main loop */
	struct dev_bus bus;
	struct loop_work event_work;	/* tells who listens to the VM */
	/* device lock */
	struct vcon_slot slot[VCON_PORTS];
	bool driver_ready;		/* DEVICE_READY was received */
	bool multiport;			/* negotiated */
};

/* ---- console.c ---- */

struct vcon *vcon_of_bus(struct dev_bus *b);
/* The driver is owed @messages about port @nr. */
void vcon_owe(struct vcon *con, uint32_t nr, unsigned int messages);
/* Give back what the port's queues hold. */
void vcon_return_chains(struct vcon *con, uint32_t nr);
/* Look for changes of guest_open to tell. Any thread. */
void vcon_post_events(struct vcon *con);
/* Port 0's window has a new size. */
void vcon_set_size(struct vcon *con, uint16_t cols, uint16_t rows);
/* The transmit queue can go on; the receive queue's chain is used up. */
void vcon_tx_resume(struct vcon *con, uint32_t nr);
void vcon_rx_done(struct vcon *con, uint32_t nr, uint32_t bytes);

/* ---- console_port.c ---- */

/* Send [tx_off, end) of the slot's tx; true when all of it is taken. */
bool vcon_port_send(struct vcon_slot *s);
void vcon_port_set_guest_open(struct vcon_port *p, bool open);

#endif
