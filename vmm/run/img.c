/*
 * vmm/run/img.c - `roost img`: options, opening, the list of sub-commands.
 * Threads: the only one of the process.
 */
#include "vmm/run/img.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/img_pipe.h"
#include "vmm/run/verb.h"

static const struct {
	const char *name, *opts, *longs, *usage;
	int min, max;
	int (*run)(struct img *m, struct err *e);
} commands[] = {
	{ "create", "f:b:F:o:qu", "",
	  "[-f FMT] [-q] [-u] [-b BACKING -F FMT] [-o k=v,...] FILE [SIZE]", 1, 2,
	  img_create },
	{ "info", "f:U", "output json backing-chain force-share",
	  "[-f FMT] [--output=json] [--backing-chain] [-U] FILE", 1, 1, img_info },
	{ "check", "f:r:qUpT:", "output json force-share",
	  "[-f FMT] [-r leaks|all] [-T CACHE] [--output=json] [-p] [-q] [-U] FILE", 1, 1,
	  img_check },
	{ "map", "f:Us:l:", "output json force-share start-offset max-length",
	  "[-f FMT] [--start-offset=BYTES] [--max-length=BYTES] [--output=json] [-U] FILE", 1, 1,
	  img_map },
	{ "convert", "f:O:o:B:F:cpqUt:T:nl:m:WS:r:", "target-is-zero salvage force-share",
	  "[-f FMT] [-O FMT] [-c] [-n [--target-is-zero]] [-p] [-q] [-U] "
	  "[-m REQUESTS] [-W] [-r RATE] [-S BYTES] [-t CACHE] [-T CACHE] [--salvage] [-o k=v,...] "
	  "[-l SNAPSHOT] [-B BACKING -F FMT] FILE OUT", 2, 2, img_convert },
	{ "compare", "f:F:T:psqU", "force-share",
	  "[-f FMT] [-F FMT] [-T CACHE] [-s] [-p] [-q] [-U] FILE1 FILE2", 2, 2,
	  img_compare },
	{ "resize", "f:q", "shrink preallocation",
	  "[-f FMT] [--shrink] [--preallocation=off|metadata|falloc|full] [-q] FILE [+|-]SIZE",
	  2, 2, img_resize },
	{ "commit", "f:pqdt:r:", "",
	  "[-f FMT] [-t CACHE] [-r RATE] [-d] [-p] [-q] FILE", 1, 1, img_commit },
	{ "rebase", "f:b:F:upqt:T:", "",
	  "[-f FMT] [-t CACHE] [-T CACHE] [-u] [-p] [-q] -b BACKING [-F FMT] FILE", 1, 1,
	  img_rebase },
	{ "bench", "f:c:d:s:S:o:wt:i:nqU", "pattern flush-interval force-share",
	  "[-f FMT] [-c COUNT] [-d DEPTH] [-s BYTES] [-S STEP] "
	  "[-o OFFSET] [-w [--pattern=BYTE]] [-t CACHE] [-n] [-q] [-U] FILE", 1, 1, img_bench },
};

/* Options without a letter of their own. */
enum {
	OPT_OUTPUT = 1, OPT_SHRINK, OPT_JSON, OPT_PATTERN, OPT_FLUSH_INTERVAL, OPT_BACKING_CHAIN,
	OPT_TARGET_IS_ZERO, OPT_SALVAGE, OPT_HELP, OPT_START_OFFSET, OPT_MAX_LENGTH,
	OPT_PREALLOCATION, OPT_RATE, OPT_BENCH_OFFSET, OPT_BENCH_STEP
};

/* Letters that mean something else in one command than in the others. */
static const struct {
	const char *name;
	char letter;
	int means;
} letters[] = {
	{ "map", 's', OPT_START_OFFSET }, { "map", 'l', OPT_MAX_LENGTH },
	{ "convert", 'r', OPT_RATE }, { "commit", 'r', OPT_RATE },
	{ "bench", 'o', OPT_BENCH_OFFSET }, { "bench", 'S', OPT_BENCH_STEP },
};

static const struct option longs[] = {
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "shrink", no_argument, NULL, OPT_SHRINK },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "force-share", no_argument, NULL, 'U' },
	{ "pattern", required_argument, NULL, OPT_PATTERN },
	{ "flush-interval", required_argument, NULL, OPT_FLUSH_INTERVAL },
	{ "backing-chain", no_argument, NULL, OPT_BACKING_CHAIN },
	{ "target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO },
	{ "salvage", no_argument, NULL, OPT_SALVAGE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "start-offset", required_argument, NULL, OPT_START_OFFSET },
	{ "max-length", required_argument, NULL, OPT_MAX_LENGTH },
	{ "preallocation", required_argument, NULL, OPT_PREALLOCATION },
	{ 0 }
};

bool img_is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

const char *img_human(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t i = 0;

	for (; v >= 1000 && i < ARRAY_LEN(units) - 1; i++)
		v /= 1024;
	snprintf(buf, 32, "%.3g %s", v, units[i]);
	return buf;
}

void img_progress(const struct img *m, uint64_t done, uint64_t all)
{
	static unsigned int last = UINT32_MAX;
	unsigned int now = all ? (unsigned int)((double)done * 10000 / (double)all) : 10000;

	if (!m->progress || now == last)
		return;
	last = now;
	printf("    (%u.%02u/100%%)\r", now / 100, now % 100);
	if (done == all)
		printf("\n");
	fflush(stdout);
}

int img_size(const char *text, uint64_t *bytes, struct err *e)
{
	static const struct prop p = { .name = "size", .type = PROP_T_SIZE, .max = INT64_MAX };
	json_t *v = json_string(text);
	int r = v ? prop_set(&p, bytes, v, "img", NULL) : -EINVAL;

	json_decref(v);
	return r ? err_set(e, r, "'%.64s' is no number; say 65536, 64k or 10G, for example",
			   text) : 0;
}

const char *img_format(const char *path, const char *fmt)
{
	const char *looks = fmt ? NULL : graph_detect_format(path);

	return fmt ? fmt : looks && strcmp(looks, "qcow2") == 0 ? "qcow2" : "raw";
}

static json_t *node_args(struct img *m, const char *path, const char *fmt, uint32_t flags)
{
	bool write = flags & (IMG_WRITE | IMG_REPAIR), none, unsafe;
	json_t *args = json_object(), *file = json_object();
	const char *cache = flags & IMG_SOURCE ? m->source_cache : m->cache;
	struct stat st;
	bool dev = stat(path, &st) == 0 && S_ISBLK(st.st_mode);

	json_put_str(file, "driver", dev ? "host_device" : "file");
	json_put_str(file, "filename", path);
	json_object_set_new(file, "read-only", json_boolean(!write));
	json_put_str(args, "driver", fmt);
	json_object_set_new(args, "read-only", json_boolean(!(flags & IMG_WRITE)));
	json_put_str(args, "discard", "unmap");
	if (m->force_share && !write)
		json_object_set_new(args, "force-share", json_true());
	none = cache && (!strcmp(cache, "none") || !strcmp(cache, "directsync"));
	unsafe = cache && !strcmp(cache, "unsafe");
	json_object_set_new(args, "cache.direct", json_boolean(none));
	json_object_set_new(args, "cache.no-flush", json_boolean(unsafe));
	if ((flags & IMG_NO_BACKING) && strcmp(fmt, "raw"))
		json_object_set_new(args, "backing", json_null());
	if (flags & IMG_SNAPSHOT)
		json_put_str(args, "internal-snapshot", m->snapshot);
	json_object_set_new(args, "file", file);
	return args;
}

int img_open(struct img *m, struct img_file *f, const char *path, const char *fmt,
	     uint32_t flags, struct err *e)
{
	uint32_t perm = BLOCK_PERM_READ | (flags & IMG_WRITE ? BLOCK_PERM_WRITE |
					   BLOCK_PERM_RESIZE : 0);
	uint32_t shared = BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED;
	json_t *args = node_args(m, path, img_format(path, fmt), flags);
	int r;

	memset(f, 0, sizeof(*f));
	r = graph_node_create(m->g, args, true, &f->n, e);
	json_decref(args);
	if (r == 0) {
		r = block_attach(&f->c, f->n, "roost img", perm, shared, e);
		if (r)
			graph_node_destroy(f->n);
	}
	if (r == 0 && (flags & IMG_REPAIR) && f->n->file.node)
		r = block_reattach(&f->n->file, BLOCK_PERM_READ | BLOCK_PERM_WRITE |
				   BLOCK_PERM_RESIZE, shared, e);
	if (r)
		err_prefix(e, "Could not open '%.200s'", path);
	return r;
}

void img_close(struct img_file *f)
{
	if (f->c.node)
		block_detach(&f->c);	/* the node goes with its last user */
}

int img_io(struct img *m, const struct img_file *f, enum block_op op, uint32_t flags,
	   uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov = { buf, len };

	return block_io_wait(f->n, m->l, op, flags, off, buf ? &iov : NULL, buf != NULL, len);
}

/* ---- the command line ---- */

static int take_number(const char *text, uint64_t max, uint64_t *v, char opt, struct err *e)
{
	int r = img_size(text, v, e);

	if (r)
		err_prefix(e, "-%c", opt);
	if (r == 0 && *v > max)
		r = err_set(e, -EINVAL, "-%c %s: at most %" PRIu64, opt, text, max);
	return r;
}

static int take_fix(struct img *m, const char *word, struct err *e)
{
	m->fix = strcmp(word, "all") ? IMAGE_FIX_LEAKS : IMAGE_FIX_ALL;
	if (strcmp(word, "all") && strcmp(word, "leaks"))
		return err_set(e, -EINVAL, "-r %.32s: must be leaks or all", word);
	return 0;
}

static int take_output(struct img *m, const char *word, struct err *e)
{
	m->json = strcmp(word, "json") == 0;
	if (!m->json && strcmp(word, "human"))
		return err_set(e, -EINVAL, "--output=%.32s: must be human or json", word);
	return 0;
}

static int take_jobs(struct img *m, const char *text, struct err *e)
{
	if (parse_u64(text, &m->jobs) || m->jobs < 1 || m->jobs > IMG_DEPTH_MAX)
		return err_set(e, -EINVAL, "-m %.32s: the number of requests in flight must be "
			       "between 1 and %u", text, IMG_DEPTH_MAX);
	return 0;
}

static int take_sparse(struct img *m, const char *text, struct err *e)
{
	int r = take_number(text, IMG_CHUNK, &m->sparse, 'S', e);

	if (r == 0 && m->sparse % BLOCK_SECTOR)
		r = err_set(e, -EINVAL, "-S %.32s: must be a multiple of %d, or 0 to write zeroes as "
			    "well", text, BLOCK_SECTOR);
	return r;
}

static int take_cache(char opt, const char *word, const char **cache, struct err *e)
{
	static const char *const words[] = {
		"none", "off", "writeback", "writethrough", "directsync", "unsafe"
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*cache = i == 1 ? words[0] : words[i];
			return 0;
		}
	return err_set(e, -EINVAL, "-%c %.32s: must be none, writeback, writethrough, directsync "
		       "or unsafe", opt, word);
}

static int take_offset(const char *text, const char *option, uint64_t *v, struct err *e)
{
	int r = img_size(text, v, e);

	if (r)
		err_prefix(e, "%s", option);
	return r;
}

static int take_pattern(struct img *m, const char *text, struct err *e)
{
	uint64_t v;

	if (parse_u64(text, &v) || v > UINT8_MAX)
		return err_set(e, -EINVAL, "--pattern=%.32s: must be a byte, 0 to 255", text);
	m->pattern = (int)v;
	return 0;
}

static void take_flag(struct img *m, int c)
{
	m->quiet |= c == 'q';
	m->force_share |= c == 'U';
	m->progress |= c == 'p';
	m->compressed |= c == 'c';
	m->unsafe |= c == 'u';
	m->writes |= c == 'w';
	m->keep |= c == 'd' || c == 'n';
	m->strict |= c == 's';
	m->shrink |= c == OPT_SHRINK;
	m->json |= c == OPT_JSON;
	m->chain |= c == OPT_BACKING_CHAIN;
	m->any_order |= c == 'W';
	m->target_is_zero |= c == OPT_TARGET_IS_ZERO;
	m->salvage |= c == OPT_SALVAGE;
	m->help |= c == OPT_HELP;
}

static int take_valued(struct img *m, int c, const char *arg, struct err *e)
{
	switch (c) {
	case 'f':
		m->fmt = arg;
		return 0;
	case 'O':
		m->out_fmt = arg;
		return 0;
	case 'B':
	case 'b':
		m->backing = arg;
		m->backing_given = true;
		return 0;
	case 'F':
		m->backing_fmt = arg;
		return 0;
	case 't':
		return take_cache('t', arg, &m->cache, e);
	case 'T':
		return take_cache('T', arg, &m->source_cache, e);
	case 'm':
		return take_jobs(m, arg, e);
	case 'l':
		m->snapshot = arg;
		return 0;
	case 'r':
		return take_fix(m, arg, e);
	case 'o':
		if (m->noptions == (int)ARRAY_LEN(m->options))
			return err_set(e, -EINVAL, "too many -o");
		m->options[m->noptions++] = arg;
		return 0;
	case 'c':
		return take_number(arg, INT32_MAX, &m->count, 'c', e);
	case 'd':
		return take_number(arg, 256, &m->depth, 'd', e);
	case 's':
		return take_number(arg, 64 * MIB, &m->bytes, 's', e);
	case 'S':
		return take_sparse(m, arg, e);
	case OPT_OUTPUT:
		return take_output(m, arg, e);
	case OPT_PATTERN:
		return take_pattern(m, arg, e);
	case OPT_START_OFFSET:
		return take_offset(arg, "--start-offset", &m->offset, e);
	case OPT_MAX_LENGTH:
		return take_offset(arg, "--max-length", &m->length, e);
	case OPT_RATE:
		return take_number(arg, INT64_MAX, &m->rate, 'r', e);
	case OPT_BENCH_OFFSET:
		return take_number(arg, INT64_MAX, &m->offset, 'o', e);
	case OPT_BENCH_STEP:
		return take_number(arg, INT64_MAX, &m->step, 'S', e);
	case OPT_PREALLOCATION:
		m->prealloc = arg;
		return 0;
	default:
		return 0;	/* -i, --flush-interval: nothing to choose here */
	}
}

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; (p = strstr(p, word)); p += n)
		if ((p == words || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

static int meaning(const char *name, int c)
{
	for (size_t i = 0; i < ARRAY_LEN(letters); i++)
		if (letters[i].letter == c && strcmp(letters[i].name, name) == 0)
			return letters[i].means;
	return c;
}

static int parse(struct img *m, const char *opts, const char *words, int argc, char **argv,
		 struct err *e)
{
	int c, at, r = 0;

	opterr = 0;
	optind = 1;
	while (r == 0) {
		at = -1;
		c = getopt_long(argc, argv, opts, longs, &at);
		if (c == -1)
			break;
		if (c == '?' || (at >= 0 && c != OPT_HELP && !has_word(words, longs[at].name)))
			return err_set(e, -EINVAL, "img %s: unknown or incomplete option '%s'",
				       argv[0], argv[optind - 1]);
		if (optarg)
			r = take_valued(m, meaning(argv[0], c), optarg, e);
		else
			take_flag(m, c);
	}
	m->argc = argc - optind;
	m->argv = argv + optind;
	return r;
}

static int start(struct img *m, struct err *e)
{
	int r = loop_create(&m->loop, "img", LOOP_AIO_AUTO, e);

	if (r)
		return r;
	m->g = block_graph_create(m->loop);
	m->l = block_graph_wait_loop(m->g);
	return m->l ? 0 : err_set(e, -ENOMEM, "no memory for an event loop");
}

static int run(size_t i, int argc, char **argv, struct err *e)
{
	struct img m = { .count = 75000, .depth = 64, .bytes = 4096, .jobs = 8,
			 .sparse = 4096, .length = UINT64_MAX };
	int status = 1, r;

	r = parse(&m, commands[i].opts, commands[i].longs, argc, argv, e);
	if (r == 0 && m.help) {
		printf("usage: roost img %s %s\n", commands[i].name, commands[i].usage);
		return 0;
	}
	if (r == 0 && (m.argc < commands[i].min || m.argc > commands[i].max))
		r = err_set(e, -EINVAL, "usage: roost img %s %s", commands[i].name,
			    commands[i].usage);
	if (r == 0)
		r = start(&m, e);
	if (r == 0)
		status = commands[i].run(&m, e);
	block_graph_destroy(m.g);
	loop_destroy(m.loop);
	return status;
}

/* The @i-th flag of a command with short options @opts and the long ones in @words. */
static bool flag_at(const char *opts, const char *words, size_t i, char *buf)
{
	for (; *opts; opts++)
		if (*opts != ':' && i-- == 0) {
			snprintf(buf, IMG_WORD_MAX, "-%c", *opts);
			return true;
		}
	for (const struct option *o = longs; o->name; o++)
		if ((o->val == OPT_HELP || has_word(words, o->name)) && i-- == 0) {
			snprintf(buf, IMG_WORD_MAX, "--%s%s", o->name,
				 o->has_arg == required_argument ? "=" : "");
			return true;
		}
	return false;
}

bool img_word_at(const char *command, size_t i, char *buf)
{
	if (!command && i < ARRAY_LEN(commands)) {
		snprintf(buf, IMG_WORD_MAX, "%s", commands[i].name);
		return true;
	}
	for (size_t k = 0; command && k < ARRAY_LEN(commands); k++)
		if (strcmp(commands[k].name, command) == 0)
			return flag_at(commands[k].opts, commands[k].longs, i, buf);
	return false;
}

int verb_img(struct verb_call *c, struct err *e)
{
	const char *name = c->argc ? c->argv[0] : "";
	bool help = strcmp(name, "help") == 0;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, name))
			continue;
		c->exit = (enum verb_exit)run(i, c->argc, c->argv, e);
		return c->exit ? -EIO : 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("  roost img %s %s\n", commands[i].name, commands[i].usage);
	c->exit = help ? VERB_OK : VERB_ERROR;
	return *name && !help ? err_set(e, -EINVAL, "img: there is no command '%.32s'", name) : 0;
}
