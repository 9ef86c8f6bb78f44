/*
 * vmm/run/verb_topology.c - `roost topology NAME`: the PCI tree of a running VM,
 * and which of its ports are free.
 *
 * Threads: the only one of the process.
 * Missing: the tree of options alone, without a VM.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pci/pci.h"
#include "vmm/run/verb.h"

int verb_topology(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	json_t *pci = NULL;
	struct qmpc *q;
	char *text;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	r = qmpc_run(q, "query-pci", NULL, &pci, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	qmpc_close(q);
	runtime_close(&rt);
	if (r)
		return r;
	if (c->opts.json) {
		json_dumpf(pci, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	} else {
		text = pci_topology_text(pci);
		fputs(text, stdout);
		free(text);
	}
	json_decref(pci);
	return 0;
}
