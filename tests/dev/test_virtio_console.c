/*
 * virtio-serial and its ports: control messages, data both ways, flow control,
 * and the hostile suite on a console's receive queue.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

#define CTL_RX		2
#define CTL_TX		3
#define SLOT		0x1000u		/* guest memory of one buffer */
#define CTL_AT		(VDRV_DATA + 0x10000)
#define TX_AT		(VDRV_DATA + 0x20000)
#define RX_AT		(VDRV_DATA + 0x30000)
#define CONTROLLER	"{'driver': 'virtio-serial-pci', 'id': 'vs', 'max_ports': 3, " \
			"'packed': true}"
#define AGENT		"{'driver': 'virtserialport', 'id': 'agent', 'chardev': 'c1', " \
			"'name': 'org.qemu.guest_agent.0', 'bus': 'vs.0'}"

static int cable[3];		/* the far ends of the chardevs c0.. */

static void add_char(struct rig *r, int i)
{
	struct err e = ERR_INIT;
	json_t *args;
	char id[4];
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cable[i] = fd[1];
	snprintf(id, sizeof(id), "c%d", i);
	args = json_pack("{s:s, s:s, s:i}", "backend", "socket", "id", id, "fd", fd[0]);
	cr_assert_eq(char_add(r->vm->chars, args, NULL, &e), 0, "%s", e.text);
	json_decref(args);
}

/* A console on c0 and an agent's port on c1. */
static struct vdrv *create(int flags)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;

	add_char(r, 0);
	add_char(r, 1);
	v = vdrv_attach(r, CONTROLLER, flags);
	rig_device(r, "{'driver': 'virtconsole', 'chardev': 'c0'}");
	rig_device(r, AGENT);
	return v;
}

static void destroy(struct vdrv *v)
{
	vdrv_destroy(v);
	close(cable[0]);
	close(cable[1]);
}

/* ---- the hostile suite ---- */

/* Input without end, nearly: 20 floods of 128 requests take 160 KiB. */
static struct vdrv *create_hostile(int flags)
{
	static const uint8_t input[64 << 10];
	struct vdrv *v = create(flags);
	ssize_t n;

	v->refuse = BIT64(VIRTIO_CONSOLE_F_MULTIPORT);
	do {
		n = write(cable[0], input, sizeof(input));
	} while (n > 0);
	return v;
}

static int request(struct drv_buf *b)
{
	b[0] = (struct drv_buf){ VDRV_DATA, 16, 1 };
	return 1;
}

static const struct hostile hostile_console = { "virtconsole", create_hostile, request };

HOSTILE_SUITE(virtio_console, hostile_console)

/* ---- what a driver does ---- */

static int ctl_next;		/* the next buffer to be used */

static void put_ctl_buffers(struct vdrv *v, int n)
{
	ctl_next = 0;
	for (int i = 0; i < n; i++) {
		struct drv_buf b = { CTL_AT + i * SLOT, 256, 1 };

		drv_add(&v->ring[CTL_RX], &b, 1);
	}
	vdrv_kick(v, CTL_RX);
	rig_turn(v->rig);
}

static void say(struct vdrv *v, uint32_t port, uint16_t event, uint16_t value)
{
	struct virtio_console_control m = { htole32(port), htole16(event), htole16(value) };
	struct drv_buf b = { TX_AT, sizeof(m), 0 };
	uint16_t id;
	uint32_t len;

	rig_mem_write(v->rig, TX_AT, &m, sizeof(m));
	drv_add(&v->ring[CTL_TX], &b, 1);
	cr_assert(vdrv_wait_used(v, CTL_TX, &id, &len));
}

/* The next control message as "ID EVENT VALUE[ TEXT]"; "" when there is none.
 * Buffers are used in the order they were put. */
static const char *heard(struct vdrv *v)
{
	static char text[160];
	struct virtio_console_control m;
	char more[64] = "";
	uint16_t id;
	uint32_t len;

	rig_turn(v->rig);
	if (!drv_used(&v->ring[CTL_RX], &id, &len))
		return "";
	rig_mem_read(v->rig, CTL_AT + (uint64_t)ctl_next * SLOT, &m, sizeof(m));
	rig_mem_read(v->rig, CTL_AT + (uint64_t)ctl_next * SLOT + sizeof(m), more,
		     MIN(len - sizeof(m), sizeof(more) - 1));
	ctl_next++;
	if (le16toh(m.event) == VIRTIO_CONSOLE_RESIZE)
		snprintf(text, sizeof(text), "%u %u %u %ux%u", le32toh(m.id), le16toh(m.event),
			 le16toh(m.value), get_le16(more), get_le16(more + 2));
	else
		snprintf(text, sizeof(text), "%u %u %u%s%s", le32toh(m.id), le16toh(m.event),
			 le16toh(m.value), *more ? " " : "", more);
	return text;
}

/* The whole dialogue until both ports are open. */
static struct vdrv *start(struct vdrv *v)
{
	vdrv_start(v);
	put_ctl_buffers(v, 16);
	say(v, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	cr_expect_str_eq(heard(v), "0 1 1");
	cr_expect_str_eq(heard(v), "1 1 1");
	say(v, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	cr_expect_str_eq(heard(v), "0 4 1");
	cr_expect_str_eq(heard(v), "0 6 1");
	say(v, 1, VIRTIO_CONSOLE_PORT_READY, 1);
	cr_expect_str_eq(heard(v), "1 7 1 org.qemu.guest_agent.0");
	cr_expect_str_eq(heard(v), "1 6 1");
	say(v, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(v, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	cr_expect_str_eq(heard(v), "");
	return v;
}

static void send_text(struct vdrv *v, uint16_t queue, const char *text)
{
	struct drv_buf b = { TX_AT, (uint32_t)strlen(text), 0 };

	rig_mem_write(v->rig, TX_AT, text, strlen(text));
	drv_add(&v->ring[queue], &b, 1);
	vdrv_kick(v, queue);
	rig_turn(v->rig);
}

static void expect_at(struct vdrv *v, int i, const char *want)
{
	char buf[256] = "";
	size_t n = 0;
	uint64_t end = clock_ns() + 5 * NS_PER_SEC;
	ssize_t r;

	while (n < strlen(want) && clock_ns() < end) {
		rig_turn(v->rig);
		r = read(cable[i], buf + n, sizeof(buf) - 1 - n);
		n += r > 0 ? (size_t)r : 0;
	}
	cr_expect_str_eq(buf, want);
}

/* ---- identity ---- */

Test(virtio_console, test_virtio_console_identity_is_the_specifications)
{
	struct vdrv *v = create(VDRV_SPLIT);

	cr_expect_eq(vdrv_pci_read(v, PCI_VENDOR_ID, 2), 0x1af4);
	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1043);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_NUMQ, 2), 8);
	cr_expect_eq(rig_mmio_read(v->rig, v->config + 4, 4), 3);
	destroy(v);
}

Test(virtio_console, test_virtio_console_transitional_has_the_old_id)
{
	struct vdrv *v = vdrv_create("{'driver': 'virtio-serial-pci-transitional'}", 0);

	cr_expect_eq(vdrv_pci_read(v, PCI_DEVICE_ID, 2), 0x1003);
	cr_expect_eq(vdrv_read(v, VIRTIO_PCI_COMMON_NUMQ, 2), 64);
	vdrv_destroy(v);
}

/* ---- dialogue and data ---- */

Test(virtio_console, test_virtio_console_ports_come_up_and_carry_data)
{
	struct vdrv *v = start(create(VDRV_SPLIT));
	struct drv_buf b = { RX_AT, 100, 1 };
	char got[6] = "";
	uint16_t id;
	uint32_t len;

	send_text(v, 1, "Linux version 6");
	expect_at(v, 0, "Linux version 6");
	send_text(v, 5, "{\"return\": {}}");
	expect_at(v, 1, "{\"return\": {}}");
	cr_assert_eq(write(cable[1], "hello", 5), 5);
	drv_add(&v->ring[4], &b, 1);
	cr_assert(vdrv_wait_used(v, 4, &id, &len));
	cr_expect_eq(len, 5);
	rig_mem_read(v->rig, RX_AT, got, 5);
	cr_expect_str_eq(got, "hello");
	destroy(v);
}

Test(virtio_console, test_virtio_console_without_multiport_is_port_0)
{
	struct vdrv *v = create(VDRV_PACKED);
	struct drv_buf b = { RX_AT, 3, 1 };
	uint16_t id;
	uint32_t len;

	v->refuse = BIT64(VIRTIO_CONSOLE_F_MULTIPORT);
	vdrv_start(v);
	send_text(v, 1, "out");
	expect_at(v, 0, "out");
	cr_assert_eq(write(cable[0], "abcdef", 6), 6);
	drv_add(&v->ring[0], &b, 1);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(len, 3);
	drv_add(&v->ring[0], &b, 1);
	cr_assert(vdrv_wait_used(v, 0, &id, &len));
	cr_expect_eq(rig_mem_get(v->rig, RX_AT, 1), 'd');
	destroy(v);
}

Test(virtio_console, test_virtio_console_closed_port_gets_no_input)
{
	struct vdrv *v = start(create(VDRV_SPLIT));
	struct drv_buf b = { RX_AT, 100, 1 };
	uint16_t id;
	uint32_t len;

	say(v, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	cr_assert_eq(write(cable[1], "hello", 5), 5);
	drv_add(&v->ring[4], &b, 1);
	vdrv_kick(v, 4);
	rig_turn(v->rig);
	cr_expect_not(drv_used(&v->ring[4], &id, &len));
	say(v, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	cr_assert(vdrv_wait_used(v, 4, &id, &len));
	cr_expect_eq(len, 5);
	destroy(v);
}

/* Nobody reads: the guest's buffers wait, and then every byte arrives. */
Test(virtio_console, test_virtio_console_full_chardev_holds_the_queue)
{
	enum { CHUNK = 4096, CHUNKS = 256 };
	struct vdrv *v = start(create(VDRV_SPLIT));
	uint32_t sent = 0, len, i;
	uint64_t got = 0, end;
	uint8_t buf[CHUNK];
	uint16_t id;
	ssize_t n;

	for (i = 0; i < CHUNK; i++)
		rig_mem_put(v->rig, TX_AT + i, 1, (uint8_t)(i * 7));
	end = clock_ns() + 20 * NS_PER_SEC;
	while (got < (uint64_t)CHUNK * CHUNKS && clock_ns() < end) {
		struct drv_buf b[] = { { TX_AT, 1000, 0 }, { TX_AT + 1000, CHUNK - 1000, 0 } };

		while (sent < CHUNKS && v->ring[1].nfree > 2) {
			drv_add(&v->ring[1], b, 2);
			sent++;
		}
		vdrv_kick(v, 1);
		rig_turn(v->rig);
		if (got == 0)	/* it stands: the ring is full of waiting buffers */
			cr_assert_lt(v->ring[1].nfree, 64);
		n = read(cable[0], buf, sizeof(buf));
		for (i = 0; n > 0 && i < (uint32_t)n; i++, got++)
			cr_assert_eq(buf[i], (uint8_t)(got % CHUNK * 7));
		while (drv_used(&v->ring[1], &id, &len))
			;
	}
	cr_expect_eq(got, (uint64_t)CHUNK * CHUNKS);
	destroy(v);
}

Test(virtio_console, test_virtio_console_reset_while_the_chardev_is_full)
{
	struct vdrv *v = start(create(VDRV_SPLIT));
	struct drv_buf b = { VDRV_DATA, 1 << 20, 0 };
	int i;

	for (i = 0; i < 3; i++) {
		drv_add(&v->ring[1], &b, 1);
		vdrv_kick(v, 1);
		rig_turn(v->rig);
		vdrv_start(v);
		cr_expect_eq(vdrv_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	}
	destroy(v);
}

Test(virtio_console, test_virtio_console_emergency_write_needs_no_queue)
{
	struct vdrv *v = create(VDRV_SPLIT);

	rig_mmio_write(v->rig, v->config + 8, 4, '!');
	expect_at(v, 0, "!");
	destroy(v);
}

/* ---- state of the host side ---- */

Test(virtio_console, test_virtio_console_peer_of_a_channel_shows_as_open)
{
	struct vdrv *v = start(create(VDRV_SPLIT));

	close(cable[1]);
	cr_expect_str_eq(heard(v), "1 6 0");
	close(cable[0]);
	cable[0] = cable[1] = -1;
	cr_expect_str_eq(heard(v), "");		/* a console stays open */
	vdrv_destroy(v);
}

static void change_char(struct rig *r, const char *json)
{
	json_t *args = json_loads(json, 0, NULL);
	struct err e = ERR_INIT;

	cr_assert_eq(char_change(r->vm->chars, args, NULL, &e), 0, "%s", e.text);
	json_decref(args);
}

Test(virtio_console, test_virtio_console_port_goes_over_to_another_chardev)
{
	struct vdrv *v = start(create(VDRV_SPLIT));
	char json[80];
	int fd[2];

	send_text(v, 5, "before");
	expect_at(v, 1, "before");
	change_char(v->rig, "{\"backend\": \"null\", \"id\": \"c1\"}");
	cr_expect_str_eq(heard(v), "");		/* there is a peer as before */
	change_char(v->rig, "{\"backend\": \"pty\", \"id\": \"c1\"}");
	cr_expect_str_eq(heard(v), "1 6 0");
	close(cable[1]);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cable[1] = fd[1];
	snprintf(json, sizeof(json), "{\"backend\": \"socket\", \"id\": \"c1\", "
		 "\"fd\": \"%d\"}", fd[0]);
	change_char(v->rig, json);
	cr_expect_str_eq(heard(v), "1 6 1");
	send_text(v, 5, "after");
	expect_at(v, 1, "after");
	destroy(v);
}

Test(virtio_console, test_virtio_console_window_size_reaches_the_driver)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;
	struct chardev *c;
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s, s:s}", "backend", "null", "id", "n");

	cr_assert_eq(char_add(r->vm->chars, args, &c, &e), 0, "%s", e.text);
	json_decref(args);
	v = vdrv_attach(r, CONTROLLER, VDRV_SPLIT);
	rig_device(r, "{'driver': 'virtconsole', 'chardev': 'n'}");
	vdrv_start(v);
	put_ctl_buffers(v, 8);
	say(v, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(v, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	cr_expect_str_eq(heard(v), "0 1 1");
	cr_expect_str_eq(heard(v), "0 4 1");
	cr_expect_str_eq(heard(v), "0 6 1");
	char_set_winsize(c, 132, 50);
	cr_expect_str_eq(heard(v), "0 5 1 132x50");
	cr_expect_eq(rig_mmio_read(r, v->config, 2), 132);
	cr_expect_eq(rig_mmio_read(r, v->config + 2, 2), 50);
	vdrv_destroy(v);
}

Test(virtio_console, test_virtio_console_open_and_close_are_events)
{
	struct vdrv *v = start(create(VDRV_SPLIT));

	rig_turn(v->rig);
	cr_expect(strstr(v->rig->events, "VSERPORT_CHANGE"), "%s", v->rig->events);
	cr_expect_str_eq(json_string_value(json_object_get(v->rig->last_data, "id")), "agent");
	cr_expect(json_is_true(json_object_get(v->rig->last_data, "open")));
	say(v, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	rig_turn(v->rig);
	cr_expect(json_is_false(json_object_get(v->rig->last_data, "open")));
	say(v, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	vdrv_reset(v);
	rig_turn(v->rig);
	cr_expect(json_is_false(json_object_get(v->rig->last_data, "open")));
	destroy(v);
}

/* ---- ports that come and go ---- */

Test(virtio_console, test_virtio_console_port_is_plugged_and_unplugged)
{
	struct vdrv *v = start(create(VDRV_SPLIT));
	struct dev *d = rig_device(v->rig, "{'driver': 'virtserialport', 'nr': 2, 'name': 'x'}");

	cr_expect_str_eq(heard(v), "2 1 1");
	say(v, 2, VIRTIO_CONSOLE_PORT_READY, 1);
	cr_expect_str_eq(heard(v), "2 7 1 x");
	dev_destroy(d);
	cr_expect_str_eq(heard(v), "2 2 1");
	cr_expect_eq(dev_unplug(v->rig->vm, "vs.nope", NULL, NULL), -ENOENT);
	dev_destroy(dev_find(v->rig->vm, "agent"));
	rig_device(v->rig, AGENT);
	cr_expect_str_eq(heard(v), "1 2 1");
	cr_expect_str_eq(heard(v), "1 1 1");
	destroy(v);
}

Test(virtio_console, test_virtio_console_controller_takes_its_ports_along)
{
	struct vdrv *v = start(create(VDRV_SPLIT));

	dev_destroy(v->dev);
	v->dev = NULL;
	cr_expect_null(dev_find(v->rig->vm, "agent"));
	cr_expect_null(v->rig->vm->buses);
	destroy(v);
}

static void expect_refused(struct vdrv *v, const char *json, const char *words)
{
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(v->rig, json, &e), 0, "%s", json);
	cr_expect(strstr(e.text, words), "%s", e.text);
}

Test(virtio_console, test_virtio_console_mistakes_are_named)
{
	struct vdrv *v = create(VDRV_SPLIT);

	expect_refused(v, "{'driver': 'virtserialport', 'nr': 0}", "nr=0 is for a virtconsole");
	expect_refused(v, "{'driver': 'virtserialport', 'nr': 3}", "max_ports=3");
	expect_refused(v, "{'driver': 'virtserialport', 'nr': 1}", "taken by agent");
	expect_refused(v, "{'driver': 'virtserialport', 'bus': 'nope'}", "bus=nope");
	expect_refused(v, "{'driver': 'virtserialport', 'chardev': 'nope'}", "chardev=nope");
	expect_refused(v, "{'driver': 'virtserialport', 'chardev': 'c1'}", "in use by agent");
	rig_device(v->rig, "{'driver': 'virtserialport', 'bus': 'vs'}");
	expect_refused(v, "{'driver': 'virtserialport'}", "all 3 ports of vs");
	destroy(v);
	v = vdrv_create("{'driver': 'virtio-rng-pci'}", 0);
	expect_refused(v, "{'driver': 'virtconsole'}", "add its controller first");
	vdrv_destroy(v);
}

/* ---- a hostile driver's control messages ---- */

Test(virtio_console, test_virtio_console_wild_control_messages_are_survived)
{
	static const uint32_t ports[] = { 0, 1, 2, 3, 31, 32, UINT32_MAX };
	struct vdrv *v = start(create(VDRV_SPLIT));
	unsigned int i, event;

	for (i = 0; i < ARRAY_LEN(ports); i++)
		for (event = 0; event < 10; event++) {
			say(v, ports[i], (uint16_t)event, 1);
			say(v, ports[i], (uint16_t)event, 0);
		}
	say(v, 0, UINT16_MAX, UINT16_MAX);
	cr_expect_eq(vdrv_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	start(v);
	destroy(v);
}

Test(virtio_console, test_virtio_console_tiny_control_buffers_lose_no_message)
{
	struct vdrv *v = create(VDRV_SPLIT);
	struct drv_buf tiny = { CTL_AT + 15 * SLOT, 4, 1 };
	uint16_t id;
	uint32_t len;
	int i;

	vdrv_start(v);
	for (i = 0; i < 5; i++)
		drv_add(&v->ring[CTL_RX], &tiny, 1);
	say(v, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	vdrv_kick(v, CTL_RX);
	rig_turn(v->rig);
	for (i = 0; i < 5; i++) {
		cr_assert(drv_used(&v->ring[CTL_RX], &id, &len));
		cr_expect_eq(len, 0);
	}
	put_ctl_buffers(v, 2);
	cr_expect_str_eq(heard(v), "0 1 1");
	cr_expect_str_eq(heard(v), "1 1 1");
	destroy(v);
}
