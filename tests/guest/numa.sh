#!/bin/bash
# Two NUMA nodes, the second with a root complex of its own: the kernel sees the
# memory, vCPUs, distance and devices of each; disks come and go there as well.
# case: cloud
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots with two nodes and two root complexes"
disk_root d0
truncate -s 32M "$LAB_TMP/d1.raw"
guest_boot "$1" "root=LABEL=guest rw" -smp 3,sockets=3 -m 640 \
	-object memory-backend-ram,id=m0,size=256M \
	-object memory-backend-memfd,id=m1,size=384M \
	-numa node,nodeid=0,cpus=0,cpus=2,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1 \
	-numa dist,src=0,dst=1,val=33 \
	-device pxb-pcie,id=pcie.1,bus_nr=64,numa_node=1 \
	-device pcie-root-port,id=rp1 -device pcie-root-port,id=rp2,bus=pcie.1 \
	-device pcie-root-port,id=rp3,bus=pcie.1 \
	-drive "file=$LAB_TMP/d0.raw,format=raw,if=none,id=d0" \
	-device virtio-blk-pci,drive=d0,bus=rp1 -device virtio-rng-pci,bus=rp2 \
	-drive "file=$LAB_TMP/d1.raw,format=raw,if=none,id=d1" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"

point "memory, vCPUs and distance are as given"
node=/sys/devices/system/node
guest_sh "cat $node/online $node/node0/cpulist $node/node1/cpulist $node/node0/distance
$node/node1/distance"
expect "${OUTPUT//$'\n'/ | }" "^0-1 \| 0,2 \| 1 \| 10 33 \| 33 10" "nodes"
guest_sh "sed -n 's/.*MemTotal: *//p' $node/node0/meminfo $node/node1/meminfo"
read -r m0 _ m1 _ <<<"${OUTPUT//$'\n'/ }"
[[ $m0 -gt 150000 && $m0 -lt 262144 && $m1 -gt 330000 && $m1 -lt 393216 ]] ||
	fail "the nodes have $m0 and $m1 KiB"

point "the second root complex is on its node"
guest_sh "ls /sys/bus/pci/devices; ls -d /sys/devices/pci*"
expect "$OUTPUT" "0000:40:00.0" "its ports"
expect "$OUTPUT" "/sys/devices/pci0000:40" "host bridges"
guest_sh "cat /sys/bus/pci/devices/0000:41:00.0/numa_node /sys/bus/pci/devices/0000:00:1f.0/numa_node"
expect "${OUTPUT//$'\n'/ }" "^1 (-1|0)" "nodes of devices"
guest_sh "dd if=/dev/hwrng of=/dev/null bs=64 count=1 2>&1" || fail "$OUTPUT"

point "a disk comes and goes there"
qmp device_add '{"driver": "virtio-blk-pci", "id": "d1", "drive": "d1", "bus": "rp3"}' ||
	fail "$REPLY"
guest_disks 2
guest_sh "cat /sys/block/vdb/device/../numa_node; dd if=/dev/vdb of=/dev/null bs=64k count=4 2>&1"
expect "$OUTPUT" "^1" "node of the disk"
qmp device_del '{"id": "d1"}' || fail "$REPLY"
qmp_event DEVICE_DELETED
guest_disks 1

point "it is there after a reboot"
guest_sh "sync; mount -o remount,ro /"
qmp system_reset
guest_ready
guest_sh "cat /sys/bus/pci/devices/0000:41:00.0/numa_node"
expect "$OUTPUT" "^1" "node"

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$LAB_TMP/d0.raw"
finish
