#!/bin/sh
# Boots the systemd of this machine once more, in namespaces of its own: its own processes, mounts, host name and
# cgroups. All it writes goes into memory, above a view of this machine's files; nothing of it is left behind.
#
#   machine.sh FOLDER CGROUP probe|boot [OUTSIDE INSIDE]…
#
# FOLDER is empty and only holds mounts, which nobody outside sees. Each OUTSIDE can be read at INSIDE. With `probe`
# it ends where systemd would begin. The network is that of this machine, for servers on its loopback addresses.
set -eu

if [ "$1" != inside ]; then
    echo $$ >"$2/cgroup.procs"
    exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child "$0" inside "$@"
fi
shift
folder=$1 what=$3
shift 3

mount --make-rprivate /
mount -t tmpfs -o size=75% tmpfs "$folder"
root=$folder/root
mkdir "$root" "$folder/upper" "$folder/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
mount -t proc proc "$root/proc"
# What can be set there is the kernel's, and that is everybody's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in dev run tmp; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$place"
done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
while [ $# -gt 0 ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}" && touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done

# Of what this machine starts, nothing: only the journal, and what is asked for.
rm -rf "$root"/etc/systemd/system/* "$root"/lib/systemd/system/*.wants "$root"/lib/systemd/system-generators \
    "$root"/etc/systemd/system-generators "$root"/etc/fstab "$root"/var/lib/systemd/timers
mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/systemd/journald.conf.d"
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s "/lib/systemd/system/$unit" "$root/etc/systemd/system/sysinit.target.wants/"
done
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nForwardToSyslog=no\n' >"$root/etc/systemd/journald.conf.d/test.conf"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"

cd "$root"
mkdir .outside
pivot_root . .outside
umount -l .outside
rmdir .outside
# Credentials of units are mounted in a child, and have to be seen by all.
mount --make-rshared /
[ -x /lib/systemd/systemd ]
[ "$what" = boot ] || exit 0
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=test \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    /lib/systemd/systemd --system --unit=multi-user.target
