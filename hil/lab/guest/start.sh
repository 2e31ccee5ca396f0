#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest's image: readies the machine and runs the suite, as a person at a lab machine would.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
b=/bin/busybox
$b mkdir -p /run/hil /dev/shm /dev/virtio-ports
$b mount -t tmpfs tmpfs /tmp
$b mount -t tmpfs tmpfs /dev/shm
$b mount -t hugetlbfs hugetlbfs /dev/hugepages 2>/dev/null
$b mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
$b mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
echo 1 >/proc/sys/kernel/sysrq
echo 1 >/proc/sys/kernel/unknown_nmi_panic # the lab's last question to a silent guest is an NMI
echo 1 >/proc/sys/vm/unprivileged_userfaultfd 2>/dev/null
for port in /sys/class/virtio-ports/*; do
	$b ln -s "/dev/${port##*/}" "/dev/virtio-ports/$($b cat "$port/name")"
done

devdax() { # the pmem device $1 (pmemN) becomes a device-dax character device
	namespace=$($b basename "$($b readlink -f "/sys/block/$1/device")")
	region=$($b dirname "$($b readlink -f "/sys/bus/nd/devices/$namespace")")
	seed=$($b cat "$region/dax_seed")
	echo "$namespace" >/sys/bus/nd/drivers/nd_pmem/unbind
	echo ram >"$region/$seed/mode"
	echo 2097152 >"$region/$seed/align"
	$b cat /proc/sys/kernel/random/uuid >"$region/$seed/uuid"
	echo "$namespace" >"$region/$seed/namespace"
	echo "$seed" >/sys/bus/nd/drivers_probe 2>/dev/null || echo "$seed" >/sys/bus/nd/drivers/dax_pmem/bind
}

warm() { # what Python is about to import comes into the page cache on the other CPU
	$b cat /opt/site-packages/*/__pycache__/*.pyc /usr/lib/python3.11/__pycache__/*.pyc \
		/opt/hil/hil/*/__pycache__/*.pyc >/dev/null
}

webcams() { # the board's webcams are a process of their own; it waits for vhci_hcd, and plugs them in
	[ -s /hil/webcams ] || return 0
	# shellcheck disable=SC2046
	PYTHONPATH=/opt/hil python3.11 -B -S -m hil.silicon.webcam --ready /run/hil/webcams \
		$($b cat /hil/webcams) >/run/hil/webcam.log 2>&1 &
	camera=$!
}

plugged() { # wait for the webcams' video nodes
	[ -s /hil/webcams ] || return 0
	while [ ! -e /run/hil/webcams ] && $b kill -0 $camera 2>/dev/null; do $b usleep 10000; done
	[ -e /run/hil/webcams ] || { echo "hil: no webcam"; $b cat /run/hil/webcam.log; }
}

ready() { # drivers, file systems and swap; the suite waits for the files drivers and ready
	webcams
	warm
	folder=/lib/modules/$($b uname -r)
	$b mkdir -p "$folder"
	$b cp /hil/modules.dep "$folder"
	$b cp /hil/modprobe.conf /etc/modprobe.conf
	[ ! -d /hil/firmware ] || $b printf /hil/firmware >/sys/module/firmware_class/parameters/path
	# shellcheck disable=SC2046
	$b modprobe -a $($b cat /hil/drivers) || echo "hil: not every driver could be loaded"
	plugged
	: >/run/hil/drivers
	# shellcheck disable=SC2046
	$b modprobe -a $($b cat /hil/modules) || echo "hil: not every module could be loaded"
	while read -r device filesystem where options; do
		case $device in # empty so far
		ram*)
			case $filesystem in
			swap) mkswap "/dev/$device" >/dev/null ;;
			ext4) mkfs.ext4 -q -F -b 4096 "/dev/$device" ;;
			*) "mkfs.$filesystem" -q -f "/dev/$device" ;;
			esac || echo "hil: no $filesystem could be made on $device"
			;;
		esac
		case $filesystem in
		swap) $b swapon "/dev/$device" || echo "hil: swapon $device failed" ;;
		devdax) devdax "$device" || echo "hil: device-dax on $device failed" ;;
		*)
			$b mkdir -p "$where"
			$b mount -t "$filesystem" -o "$options" "/dev/$device" "$where" ||
				echo "hil: mounting $filesystem on $where failed"
			;;
		esac
	done </hil/mounts
	$b mkdir -p /mnt/tmpfs /mnt/tmpfs-huge
	$b mount -t tmpfs tmpfs /mnt/tmpfs
	$b mount -t tmpfs -o huge=always tmpfs /mnt/tmpfs-huge
	: >/run/hil/ready
}
ready &

cd /opt/hil || exit
# The collector would look through all that is being imported again and again, and find nothing.
pytest='import gc; gc.disable(); import pytest; raise SystemExit(pytest.console_main())'
set --
while read -r argument; do set -- "$@" "$argument"; done </hil/pytest-arguments
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH=/opt/hil:/opt/site-packages \
	python3.11 -B -S -c "$pytest" "$@" >/run/hil/pytest.log 2>&1
status=$?
wait # for what still comes up beside it: its errors in a machine that goes down would be the last words
[ $status -le 1 ] || $b tail -n 60 /run/hil/pytest.log
echo "{\"event\": \"exit\", \"status\": $status}" >/dev/virtio-ports/org.hil.control
$b sleep 1
$b poweroff -f
