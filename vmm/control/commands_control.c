/*
 * vmm/control/commands_control.c - QMP commands about QMP itself.
 *
 * Spec:    QEMU's qapi/control.json and introspect.json.
 * Threads: main loop.
 */
#include <errno.h>

#include "vmm/base/util.h"
#include "vmm/control/qmp.h"

/* Sessions answer it themselves; in process there is nothing to negotiate. */
static int qmp_capabilities(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return err_class(e, ERR_COMMAND_NOT_FOUND, -EINVAL, "Capabilities negotiation is "
			 "already complete, command 'qmp_capabilities' ignored");
}

static int query_version(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = qmp_version();
	return 0;
}

static int query_commands(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const struct qmp_table *const *t;
	const struct qmp_cmd *c;

	*ret = json_array();
	for (t = qmp_tables; *t; t++)
		for (c = (*t)->cmds; c && c->name; c++)
			json_array_append_new(*ret, json_pack("{s:s}", "name", c->name));
	return 0;
}

static int query_qmp_schema(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_incref(qmp_schema(q));
	return 0;
}

struct capabilities_args {
	json_t *enable;
};

static const struct prop capabilities_args[] = {
	PROP_JSON(struct capabilities_args, enable, "enable", "capabilities to switch on",
		  .kind = "[QMPCapability]"),
	PROP_END
};

static const struct qmp_cmd cmds[] = {
	{ .name = "qmp_capabilities", .help = "switch a session to command mode",
	  .args = capabilities_args, .args_size = sizeof(struct capabilities_args),
	  .run = qmp_capabilities },
	{ .name = "query-version", .help = "version of the interface and of roost",
	  .run = query_version, .ret = "VersionInfo", .flags = QMP_OOB },
	{ .name = "query-commands", .help = "names of all commands",
	  .run = query_commands, .ret = "[CommandInfo]", .flags = QMP_OOB },
	{ .name = "query-qmp-schema", .help = "all commands, events and types",
	  .run = query_qmp_schema, .ret = "[SchemaInfo]" },
	{ 0 }
};

/* ---- types ---- */

static const char *const capability_words[] = { "oob", NULL };

static const struct qmp_member version_triple[] = {
	{ "major", "int" }, { "minor", "int" }, { "micro", "int" }, { 0 }
};
static const struct qmp_member version_info[] = {
	{ "qemu", "VersionTriple" }, { "package", "str" }, { 0 }
};
static const struct qmp_member command_info[] = { { "name", "str" }, { 0 } };

static const char *const meta_words[] = {
	"builtin", "enum", "array", "object", "alternate", "command", "event", NULL
};
static const char *const json_words[] = {
	"string", "number", "int", "boolean", "null", "object", "array", "value", NULL
};
static const struct qmp_member schema_info[] = {
	{ "name", "str" }, { "meta-type", "SchemaMetaType" }, { "*features", "[str]" }, { 0 }
};
static const struct qmp_variant schema_variants[] = {
	{ "builtin", "SchemaInfoBuiltin" }, { "enum", "SchemaInfoEnum" },
	{ "array", "SchemaInfoArray" }, { "object", "SchemaInfoObject" },
	{ "alternate", "SchemaInfoAlternate" }, { "command", "SchemaInfoCommand" },
	{ "event", "SchemaInfoEvent" }, { 0 }
};
static const struct qmp_member schema_builtin[] = { { "json-type", "JSONType" }, { 0 } };
static const struct qmp_member schema_enum[] = {
	{ "members", "[SchemaInfoEnumMember]" }, { "values", "[str]" }, { 0 }
};
static const struct qmp_member schema_enum_member[] = {
	{ "name", "str" }, { "*features", "[str]" }, { 0 }
};
static const struct qmp_member schema_array[] = { { "element-type", "str" }, { 0 } };
static const struct qmp_member schema_object[] = {
	{ "members", "[SchemaInfoObjectMember]" }, { "*tag", "str" },
	{ "*variants", "[SchemaInfoObjectVariant]" }, { 0 }
};
static const struct qmp_member schema_object_member[] = {
	{ "name", "str" }, { "type", "str" }, { "*default", "any" },
	{ "*features", "[str]" }, { 0 }
};
static const struct qmp_member schema_object_variant[] = {
	{ "case", "str" }, { "type", "str" }, { 0 }
};
static const struct qmp_member schema_alternate[] = {
	{ "members", "[SchemaInfoAlternateMember]" }, { 0 }
};
static const struct qmp_member schema_alternate_member[] = { { "type", "str" }, { 0 } };
static const struct qmp_member schema_command[] = {
	{ "arg-type", "str" }, { "ret-type", "str" }, { "*allow-oob", "bool" }, { 0 }
};
static const struct qmp_member schema_event[] = { { "arg-type", "str" }, { 0 } };

static const struct qmp_type types[] = {
	{ .name = "QMPCapability", .meta = QMP_ENUM, .words = capability_words },
	{ .name = "VersionTriple", .members = version_triple },
	{ .name = "VersionInfo", .members = version_info },
	{ .name = "CommandInfo", .members = command_info },
	{ .name = "SchemaMetaType", .meta = QMP_ENUM, .words = meta_words },
	{ .name = "JSONType", .meta = QMP_ENUM, .words = json_words },
	{ .name = "SchemaInfo", .members = schema_info, .tag = "meta-type",
	  .variants = schema_variants },
	{ .name = "SchemaInfoBuiltin", .members = schema_builtin },
	{ .name = "SchemaInfoEnum", .members = schema_enum },
	{ .name = "SchemaInfoEnumMember", .members = schema_enum_member },
	{ .name = "SchemaInfoArray", .members = schema_array },
	{ .name = "SchemaInfoObject", .members = schema_object },
	{ .name = "SchemaInfoObjectMember", .members = schema_object_member },
	{ .name = "SchemaInfoObjectVariant", .members = schema_object_variant },
	{ .name = "SchemaInfoAlternate", .members = schema_alternate },
	{ .name = "SchemaInfoAlternateMember", .members = schema_alternate_member },
	{ .name = "SchemaInfoCommand", .members = schema_command },
	{ .name = "SchemaInfoEvent", .members = schema_event },
	{ 0 }
};

const struct qmp_table qmp_table_control = { .cmds = cmds, .types = types };
