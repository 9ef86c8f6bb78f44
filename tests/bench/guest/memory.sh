#!/bin/bash
# Resident memory beyond the guest's RAM once the guest has started.
# timeout: 600
. "$(dirname "$0")/figures"

declare -A rss private

# memory_of NAME: of the running machine, KiB without guest RAM, which is the
# one mapping with a name of its own. The maps stay in $LAB_OUT.
memory_of() {
	local kib
	cp "/proc/$guest_pid/smaps" "$LAB_OUT/smaps-$1"
	kib=$(awk -v ram="$ram" '
		/^[0-9a-f]+-[0-9a-f]+ / { guest = $0 ~ ram; found += guest }
		guest { next }
		/^Rss:/ { rss += $2 }
		/^Private_/ { own += $2 }
		END { if (!found) exit 1; print rss, own }' \
		"$LAB_OUT/smaps-$1") || fail "$1: no mapping is called $ram"
	read -r rss[$1] private[$1] <<<"$kib"
	echo "$1: resident ${rss[$1]} KiB, private ${private[$1]} KiB"
	awk '/^[0-9a-f]+-[0-9a-f]+ / { name = $6 ? $6 : "anonymous" }
		/^Rss:/ { rss[name] += $2 }
		/^Private_/ { own[name] += $2 }
		END { for (n in rss) print rss[n], own[n], n }' \
		"$LAB_OUT/smaps-$1" | sort -rn | sed '15q'
}

# machine WHO ARGUMENT...: started from a root disk, with RAM that has a name.
ram=/memfd:
machine() {
	local who=$1
	shift
	disk_root root
	VMM=()
	vmm_disk "$who" "$DISK"
	machine_boot "$who" -m 128 -object memory-backend-memfd,id=m,size=128M \
		-machine memory-backend=m "${VMM[@]}" "$@"
}

minimal() {
	machine "$1"
	memory_of "$1"
	guest_kill || :
}

# One device of each type, with what a type needs; a type that is new is tried
# as it is.
every_type() {
	local type n=0
	EVERY=(-chardev "socket,id=q,path=$LAB_TMP/q.sock,server=on,wait=off"
		-mon chardev=q,mode=control -object iothread,id=t0)
	while read -r type _; do
		n=$((n + 1))
		case $type in
		virtio-blk-pci*)
			disk_root "every$n"	# whichever is /dev/vda
			EVERY+=(-drive "file=$LAB_TMP/every$n.raw,format=raw,if=none,id=e$n"
				-device "$type,drive=e$n,iothread=t0")
			;;
		pxb-pcie) EVERY+=(-device "$type,id=e$n,bus_nr=128") ;;
		pcie-root-port) EVERY+=(-device "$type,id=rp$n,chassis=$n") ;;
		x3130-upstream)
			EVERY+=(-device "pcie-root-port,id=switch,chassis=99"
				-device "$type,id=up,bus=switch")
			;;
		xio3130-downstream) EVERY+=(-device "$type,id=e$n,bus=up,chassis=100") ;;
		isa-serial)
			EVERY+=(-chardev pty,id=e$n -device "$type,chardev=e$n,index=1")
			;;
		*) EVERY+=(-device "$type,id=e$n") ;;
		esac
	done < <("$ROOST" -device help)
}

point "roost, minimal"
minimal roost
point "microvm, minimal"
minimal microvm-pcie
point "q35, minimal"
minimal q35
point "roost with every device type"
every_type
machine roost "${EVERY[@]}"
memory_of every
guest_kill || :

point "compares"
mib() {
	awk -v k="$1" 'BEGIN { printf "%.2f MiB\n", k / 1024 }'
}
for peer in microvm-pcie q35; do
	target=- verdict=-
	if [[ $peer = microvm-pcie ]]; then
		target="<= 2 MiB" verdict=$(met "${rss[roost]}" '<=' 2048)
	fi
	figure "resident beyond guest RAM, minimal, beside $peer" \
		"$(mib "${rss[roost]}")" "$(mib "${rss[$peer]}")" \
		"$target" "$verdict"
done
figure "  of it private" "$(mib "${private[roost]}")" \
	"$(mib "${private[microvm-pcie]}")" - -
figure "resident beyond guest RAM, every device type" \
	"$(mib "${rss[every]}")" - "<= 4 MiB" "$(met "${rss[every]}" '<=' 4096)"
figure "  of it private" "$(mib "${private[every]}")" - - -
finish
