#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The module's packaging, in a Debian tree made for it: dkms (add, build,
# install, the rebuild for another kernel as at boot, remove), make install and
# uninstall, the udev rule, the group, the modprobe options.
#
#   sudo test/package/kernel-module.sh [SUITE]
#
# Needs root and mmdebstrap, downloads about 150 MB, takes some minutes, and is
# no part of `npm test`. SUITE: trixie (as default) or later, for udevadm verify.
set -eu

suite=${1:-trixie}
sources=$(cd "$(dirname "$0")/../../kernel-module" && pwd)
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"$/\1/p' "$sources/dkms.conf")

directory=$(mktemp -d)
tree=$directory/tree
trap 'umount -q "$tree/proc" || :; rm -rf --one-file-system "$directory"' EXIT
trap 'exit 1' INT TERM

fail() {
	echo "not ok - $*" >&2
	exit 1
}

inside() {
	chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# The modules of ours that the tree has, one a line.
modules() {
	(cd "$tree/usr/lib/modules" && find . -name 'iospace.ko*' | sort)
}

# Everything that a kernel's folder has, but depmod's own files.
files() {
	(cd "$tree/usr/lib/modules" && find . ! -name 'modules.*' | sort)
}

# Two kernels: dkms needs their headers, not the kernels themselves.
mmdebstrap --quiet --variant=minbase \
	--include=dkms,kmod,make,udev,systemd,linux-headers-amd64,linux-headers-cloud-amd64 \
	"$suite" "$tree"
mount -t proc proc "$tree/proc"
mkdir "$tree/iospace"
cp -r "$sources" "$tree/iospace/"
cloud=$(basename "$tree"/usr/lib/modules/*-cloud-amd64)
plain=$(echo "$cloud" | sed 's/-cloud-amd64$/-amd64/')

inside dkms add /iospace/kernel-module
inside dkms build "iospace/$version" -k "$plain"
inside dkms install "iospace/$version" -k "$plain"
modules | grep -q "^./$plain/updates/dkms/iospace.ko" || fail "dkms install"
inside modinfo -k "$plain" -F version iospace | grep -qx "$version" ||
	fail "modprobe would find another version"
echo "ok - dkms add, build, install"

# What a new kernel's package and dkms.service call.
inside dkms autoinstall -k "$cloud"
[ "$(modules | wc -l)" = 2 ] || fail "dkms autoinstall: $(modules)"
echo "ok - dkms autoinstall for another kernel"

inside dkms remove "iospace/$version" --all
[ -z "$(modules)" ] || fail "dkms remove left $(modules)"
echo "ok - dkms remove"

rm -rf "$tree/usr/src/iospace-$version"
before=$(files)
inside make -s -C /iospace/kernel-module KDIR="/lib/modules/$plain/build" install
inside modinfo -k "$plain" -F version iospace | grep -qx "$version" ||
	fail "make install"
neighbour=$tree/usr/lib/modules/$plain/updates/neighbour
touch "$neighbour"
inside make -s -C /iospace/kernel-module KDIR="/lib/modules/$plain/build" uninstall
[ -e "$neighbour" ] || fail "make uninstall removed what is not ours"
rm "$neighbour"
inside make -s -C /iospace/kernel-module KDIR="/lib/modules/$plain/build" uninstall
[ "$(files)" = "$before" ] || fail "make uninstall left something"
if inside modinfo -k "$plain" iospace 2>/dev/null; then
	fail "make uninstall: modprobe still finds it"
fi
echo "ok - make install, uninstall"

mkdir -p "$tree/etc/sysusers.d" "$tree/etc/modprobe.d"
cp "$tree/iospace/kernel-module/packaging/iospace.sysusers" \
	"$tree/etc/sysusers.d/iospace.conf"
inside systemd-sysusers
inside getent group iospace || fail "the group"
inside udevadm verify /iospace/kernel-module/packaging/60-iospace.rules
echo "ok - group and udev rule"

# Every option of the example is one that the module has.
sed 's/^#options/options/' "$sources/packaging/iospace.modprobe" \
	>"$tree/etc/modprobe.d/iospace.conf"
inside make -s -C /iospace/kernel-module KDIR="/lib/modules/$plain/build"
known=$(inside modinfo -F parm /iospace/kernel-module/iospace.ko | cut -d: -f1)
for option in $(inside modprobe --showconfig | sed -n 's/^options iospace //p'); do
	echo "$known" | grep -qx "${option%%=*}" || fail "no parameter ${option%%=*}"
done
echo "ok - modprobe options"
