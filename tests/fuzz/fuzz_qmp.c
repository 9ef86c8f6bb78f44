/*
 * tests/fuzz/fuzz_qmp.c - a QMP client of any kind: bytes into a session, which
 * has a VM with PCI, a device, the block layer and all tables behind it. What
 * comes back has to be lines of JSON, and the session has to live on.
 *
 * Words that write files are kept out, and escapes with them, which could spell
 * such words.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/block.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/machine.h"
#include "vmm/run/obj_list.h"
#include "vmm/run/options.h"

#define TURNS 64

struct fuzz {
	struct rig *r;
	struct char_set *chars;
	struct block_graph *blocks;
	struct qmp *q;
	int fd;
	char in[1 << 20];
	size_t len;
};

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void start(struct fuzz *f)
{
	struct chardev *c;
	json_t *args;
	int pair[2];

	f->r = pci_rig();
	f->r->vm->types = dev_list;
	f->r->vm->object_types = obj_list;
	f->r->vm->machine_types = machine_list;
	f->r->vm->describe_options = options_describe;
	/* Not vm->chars: no chardev can be added, and no file made that way. */
	f->chars = char_set_create(f->r->loop);
	f->blocks = f->r->vm->blocks = block_graph_create(f->r->loop);
	f->q = qmp_create(f->r->vm);
	rig_device(f->r, "{'driver':'virtio-rng-pci','id':'r0','addr':'4'}");
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	args = json_pack("{s:s,s:s,s:o}", "id", "m", "backend", "socket", "fd",
			 json_sprintf("%d", pair[0]));
	must(char_add(f->chars, args, &c, NULL) == 0);
	must(qmp_serve(f->q, c, NULL) == 0);
	json_decref(args);
	f->fd = pair[1];
}

static void stop(struct fuzz *f)
{
	qmp_destroy(f->q);
	close(f->fd);
	char_set_destroy(f->chars);
	pci_rig_end(f->r);
	block_graph_destroy(f->blocks);
}

static void receive(struct fuzz *f)
{
	ssize_t n;

	for (int i = 0; i < TURNS; i++) {
		loop_turn(f->r->loop, 0);
		n = recv(f->fd, f->in + f->len, sizeof(f->in) - 1 - f->len, MSG_DONTWAIT);
		if (n <= 0 && i > 4)
			break;
		if (n > 0)
			f->len += (size_t)n;
	}
}

/* Whole lines, each an object. */
static void check_lines(struct fuzz *f)
{
	char *at = f->in, *nl;
	json_t *o;

	while ((nl = memchr(at, '\n', f->len - (size_t)(at - f->in)))) {
		must(nl > at && nl[-1] == '\r');
		o = json_loadb(at, (size_t)(nl - at), 0, NULL);
		must(json_is_object(o));
		json_decref(o);
		at = nl + 1;
	}
	f->len -= (size_t)(at - f->in);
	memmove(f->in, at, f->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
	static struct fuzz f;

	log_set_sink(quiet, NULL);
	if (len > 32768 || memchr(data, '\\', len) || memmem(data, len, "dump", 4) ||
	    memmem(data, len, "create", 6))
		return -1;
	memset(&f, 0, offsetof(struct fuzz, in));
	f.len = 0;
	start(&f);
	if (len && (data[0] & 1))
		must(send(f.fd, hello, sizeof(hello) - 1, 0) > 0);
	must(send(f.fd, data, len, 0) == (ssize_t)len);
	receive(&f);
	check_lines(&f);
	/* 0xff brings the parser back from anywhere. */
	must(send(f.fd, "\xff", 1, 0) == 1);
	must(send(f.fd, hello, sizeof(hello) - 1, 0) > 0);
	receive(&f);
	check_lines(&f);
	stop(&f);
	return 0;
}
