/*
 * Root ports of a description: the short form.
 */
#include <criterion/criterion.h>

#include "vmm/base/json.h"
#include "vmm/run/ports.h"

static const char *id_of(const json_t *desc, size_t i)
{
	return json_str(json_array_get(json_object_get(desc, "devices"), i), "id", "-");
}

Test(ports, test_ports_counted_are_added_and_named)
{
	json_t *d = json_object();

	ports_complete(d, 3);
	cr_expect_eq(json_array_size(json_object_get(d, "devices")), 3);
	cr_expect_str_eq(id_of(d, 0), "rp1");
	cr_expect_str_eq(id_of(d, 2), "rp3");
	json_decref(d);
}

Test(ports, test_ports_come_first_and_names_in_use_are_left_out)
{
	json_t *d = json_pack("{s:[{s:s,s:s},{s:s},{s:s,s:s}]}", "devices",
			      "driver", "virtio-rng-pci", "id", "rp2",
			      "driver", "pcie-root-port",
			      "driver", "pcie-root-port", "id", "mine");

	ports_complete(d, 1);
	cr_expect_eq(json_array_size(json_object_get(d, "devices")), 4);
	cr_expect_str_eq(id_of(d, 0), "rp1");
	cr_expect_str_eq(id_of(d, 1), "mine");
	cr_expect_str_eq(id_of(d, 2), "rp3");
	cr_expect_str_eq(id_of(d, 3), "rp2");
	json_decref(d);
}
