/*
 * vmm/run/guess.h - what `roost disk.raw` means: sensible parts for what the
 * command line leaves open.
 *
 * Nothing is guessed with -machine or -nodefaults: who names the machine means
 * every part as given, by QEMU's rules.
 */
#ifndef VMM_RUN_GUESS_H
#define VMM_RUN_GUESS_H

#include <jansson.h>
#include <stdbool.h>

/* Vacant root ports for `roost attach`. */
#define GUESS_SPARE_PORTS 4

/*
 * Complete @desc: q35, -cpu host, two vCPUs or what the host has (@host_cpus),
 * 1 GiB, every image and -drive without if=none as a virtio disk on a root
 * port of its own, GUESS_SPARE_PORTS more ports. What it adds is as if the
 * user had written it, so that -dump-config shows it.
 */
void guess_defaults(json_t *desc, unsigned int host_cpus);

/* A name for the VM: -name's, else its first image's, else "vm"; in letters
 * that runtime_check_name() takes. *given: by -name. The caller's to free. */
char *guess_name(const json_t *desc, bool *given);

#endif
