#!/bin/bash
# Boot Debian's kernels with several CPU counts and memory sizes.
# memory: 6144
# case: cloud 1 128
# case: cloud 2 512
# case: cloud 4 1024
# case: cloud 1 3584
# case: amd64 1 256
# case: amd64 2 2048
# case: amd64 4 6144
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
kernel=$1 cpus=$2 mib=$3

point "boots from a virtio-blk root"
memory_needed "$mib"
disk_root d0
disk_args d0
guest_boot "$kernel" "root=/dev/vda rw" -smp "$cpus" -m "$mib" "${ARGS[@]}"

point "has its CPUs and its memory"
guest_sh nproc
expect "$OUTPUT" "^$cpus"$'\n' "nproc"
guest_sh "awk '/MemTotal/ { print int(\$2 / 1024) }' /proc/meminfo"
# The kernel keeps some for itself: its image, a 64th for struct page, 64 MiB
# of bounce buffers where memory reaches above 4 GiB.
kept=$((mib / 48 + (mib < 1024 ? 56 : 128)))
[[ $OUTPUT -le $mib && $OUTPUT -ge $((mib - kept)) ]] ||
	fail "the guest has ${OUTPUT%$'\n'} MiB"

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$DISK"
finish
