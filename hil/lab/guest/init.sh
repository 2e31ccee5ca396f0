#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# First process of a guest of the virtual lab, in the initramfs: finds the image and enters it.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /up /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev

while read -r file; do
	$b insmod "/mod/$file" || echo "hil: insmod $file failed"
done </hil/boot-modules

tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 500 ]; do
	$b usleep 10000
	tries=$((tries + 1))
done
$b mount -t squashfs -o ro /dev/vda /lower || { echo "hil: no guest image on /dev/vda"; $b poweroff -f; }
$b mount -t tmpfs tmpfs /up
$b mkdir /up/upper /up/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/up/upper,workdir=/up/work overlay /new
for d in proc sys dev; do $b mount --move /$d /new/$d; done
$b mkdir -p /new/hil /new/mod
$b mount --bind /hil /new/hil
$b mount --bind /mod /new/mod
exec $b chroot /new /bin/busybox sh /opt/hil/hil/lab/guest/start.sh
