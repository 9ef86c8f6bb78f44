/*
 * vmm/control/tables.c - every chapter of commands, one line each.
 */
#include <stddef.h>

#include "vmm/control/qmp.h"

#define QMP_TABLES(X)		\
	X(qmp_table_block)	\
	X(qmp_table_blockdev)	\
	X(qmp_table_reopen)	\
	X(qmp_table_medium)	\
	X(qmp_table_create)	\
	X(qmp_table_snapshot)	\
	X(qmp_table_stream)	\
	X(qmp_table_commit)	\
	X(qmp_table_job)	\
	X(qmp_table_control)	\
	X(qmp_table_vm)		\
	X(qmp_table_machine)	\
	X(qmp_table_dump)	\
	X(qmp_table_hmp)	\
	X(qmp_table_stats)	\
	X(qmp_table_char)	\
	X(qmp_table_fd)		\
	X(qmp_table_ringbuf)	\
	X(qmp_table_qom)	\
	X(qmp_table_dev)	\
	X(qmp_table_pci)

#define TABLE_EXTERN(t) extern const struct qmp_table t;
QMP_TABLES(TABLE_EXTERN)

#define TABLE_ENTRY(t) &(t),
const struct qmp_table *const qmp_tables[] = { QMP_TABLES(TABLE_ENTRY) NULL };
