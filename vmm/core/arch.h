/*
 * vmm/core/arch.h - what the control plane asks of the architecture; defined
 * once in vmm/arch/<arch>.
 *
 * Threads: main loop.
 */
#ifndef VMM_CORE_ARCH_H
#define VMM_CORE_ARCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct kvm;
struct vcpu;
struct vm;

/* QEMU's word for it: "x86_64". Its types of CPU end in it. */
const char *arch_target(void);

/* Names of CPU models, NULL-terminated; the first is the host's own. */
const char *const *arch_cpu_models(void);
/* {"EPYC": ["avx2", …], …}: what each model has and this host lacks, a new
 * object; NULL without KVM. */
json_t *arch_cpu_missing(struct kvm *k);
/* {"avx2": true, …} of @model with @props changed, a new object; every feature
 * that has a name is in it. Without KVM an error. */
int arch_cpu_expand(struct kvm *k, const char *model, const json_t *props,
		    json_t **out, struct err *e);
/* The same of the VM's CPUs as they are; NULL: it has none. A new object. */
json_t *arch_cpu_features(const struct vm *vm);
/* {"socket-id":…, "die-id":…, "core-id":…, "thread-id":…} of CPU @index. */
json_t *arch_cpu_place(const struct vm *vm, uint32_t index);

/* A non-maskable interrupt on every CPU. */
int arch_inject_nmi(struct vm *vm, struct err *e);

/* Registers of a parked vCPU, lines of text the caller frees. */
char *arch_vcpu_registers(const struct vcpu *v);

/* Registers of a parked vCPU by number; names are the architecture's, NULL
 * after the last one. */
const char *arch_register_name(unsigned int i);
int arch_register_read(struct vcpu *v, unsigned int i, uint64_t *value, struct err *e);
int arch_register_write(struct vcpu *v, unsigned int i, uint64_t value, struct err *e);

/* For an ELF core: machine (EM_*), and a note with the registers of a parked
 * vCPU as the kernel's own cores have them. Returns the length; @buf NULL: only
 * that. */
uint16_t arch_elf_machine(void);
size_t arch_elf_notes(const struct vcpu *v, uint8_t *buf);

#endif
