/*
 * vmm/run/verb.h - the native verbs: `roost ps`, `roost stop NAME`, …
 *
 * A verb is one row of verb_list.c and one function. The row says what the
 * function may rely on, and is what the usage, the manual page and the shells'
 * completion are made from. Part of the program, not of the library: verbs
 * print to stdout.
 *
 * Threads: the only one of the process.
 */
#ifndef VMM_RUN_VERB_H
#define VMM_RUN_VERB_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"
#include "vmm/run/qmpc.h"
#include "vmm/run/runtime.h"

/* What the process ends with. A VM's own process (run) ends with 0 or 1, or as
 * the guest's isa-debug-exit device says. */
enum verb_exit {
	VERB_OK,		/* done */
	VERB_ERROR,		/* the VM, or roost, said no; a sentence is on stderr */
	VERB_USAGE,		/* the command line makes no sense */
	VERB_NO_VM,		/* no VM of that name is running */
	VERB_NO_ANSWER,		/* the VM, or its guest, did not do it in time */
	VERB_EXITS
};

/* Every option that a verb may take; its table says which it does. */
struct verb_opts {
	bool json;
	bool follow;
	bool read_only;
	bool take;
	bool live, config;	/* of attach, detach */
	uint32_t timeout;	/* seconds */
	char *text;		/* one option with a word, named by the verb */
};

struct verb_call {
	const struct verb *verb;
	int argc;		/* words that are no options */
	char **argv;		/* NULL-terminated */
	struct verb_opts opts;
	enum verb_exit exit;	/* of a failure; VERB_ERROR unless changed */
};

struct verb {
	const char *name;
	const char *args;	/* "NAME DEVICE[,k=v...]"; "" for none */
	int min, max;		/* words it takes; max -1: any number */
	const struct prop *opts;	/* over struct verb_opts; NULL: none */
	/* 0, or negative errno with a sentence in @e. */
	int (*run)(struct verb_call *c, struct err *e);
	const char *help;	/* lower case, no full stop */
	const char *more;	/* paragraph for help and manual page, or NULL */
	bool raw;		/* its words are not looked at: it has its own options */
};

/* NULL name ends it. */
extern const struct verb verbs[];

const struct verb *verb_find(const char *name);
/* The nearest verb's name, or NULL. */
const char *verb_nearest(const char *word);
/* Run @v with the words behind its name; the exit status. */
int verb_run(const struct verb *v, int argc, char **argv);
/* "usage: roost ps [--json]" and what it does. */
void verb_print_help(const struct verb *v, FILE *f);
/* The whole of --help. */
void verb_print_all_help(FILE *f);
/* One line for each verb. */
void verb_print_list(FILE *f);
const char *verb_exit_help(enum verb_exit x);

/* The VM that argv[0] names, and a QMP connection to it; both also set c->exit
 * so that a script can tell a missing VM from a hanging one. */
int verb_vm(struct verb_call *c, struct runtime *rt, struct err *e);
int verb_qmp(struct verb_call *c, struct runtime *rt, struct qmpc **q, struct err *e);

/* "what, 3 s" on the terminal's line, rewritten each time, from the second
 * second on; nothing when stderr is no terminal. verb_progress_end() clears it. */
void verb_progress(const char *what, uint64_t since_ns);
void verb_progress_end(void);

/* The rows' functions. */
int verb_ps(struct verb_call *c, struct err *e);
int verb_disks(struct verb_call *c, struct err *e);
int verb_attach(struct verb_call *c, struct err *e);
int verb_detach(struct verb_call *c, struct err *e);
int verb_topology(struct verb_call *c, struct err *e);
int verb_snapshot(struct verb_call *c, struct err *e);
int verb_stop(struct verb_call *c, struct err *e);
int verb_kill(struct verb_call *c, struct err *e);
int verb_pause(struct verb_call *c, struct err *e);
int verb_resume(struct verb_call *c, struct err *e);
int verb_reset(struct verb_call *c, struct err *e);
int verb_events(struct verb_call *c, struct err *e);
int verb_log(struct verb_call *c, struct err *e);
int verb_console(struct verb_call *c, struct err *e);
int verb_monitor(struct verb_call *c, struct err *e);
int verb_img(struct verb_call *c, struct err *e);
int verb_help(struct verb_call *c, struct err *e);
extern const struct prop verb_json_opts[], verb_stop_opts[], verb_log_opts[];

#endif
