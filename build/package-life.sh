#!/bin/sh
# package-life.sh DEB PORT: installs, upgrades, removes and purges the package on a copy of this machine's root that
# vanishes with the mount namespace it runs in (`unshare --mount sh package-life.sh …`); systemd does not run there.
set -eu
deb=$1 port=$2
work=$(mktemp -d)
trap 'umount -R "$work" && rmdir "$work"' EXIT
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
mount -t tmpfs tmpfs "$work/root/run"
mount -t tmpfs tmpfs "$work/root/tmp"
cp "$deb" "$work/root/tmp/holdfast.deb"
chroot "$work/root" sh -eu -s "$port" <<'INSIDE'
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
port=$1 etc=/etc/holdfast state=/var/lib/holdfast
fail() { echo "life cycle: $1" >&2; exit 1; }
install_it() { dpkg --force-confold -i /tmp/holdfast.deb >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "dpkg -i"; }; }
install_it
id holdfast >/dev/null
[ -L /etc/systemd/system/multi-user.target.wants/holdfast.service ] || fail "not enabled"
[ ! -e /etc/systemd/system/multi-user.target.wants/holdfast-regional.service ] || fail "regional is enabled"
systemd-analyze verify holdfast.service holdfast-regional.service
(cd / && md5sum --quiet -c /var/lib/dpkg/info/holdfast.md5sums)
# As the unit starts it, with a source; killed with points in the write-ahead log.
sed -i "s/^sources: \[\]/sources: [{name: http, type: http, listen: '127.0.0.1:$port'}]/" $etc/holdfast.yaml
touch $etc/agent-key.pem
install -d -o holdfast -g holdfast -m 700 $state
STATE_DIRECTORY=$state setpriv --reuid=holdfast --regid=holdfast --clear-groups \
  /usr/lib/holdfast/bin/node /usr/lib/holdfast/agent.mjs run --config $etc/holdfast.yaml >/tmp/agent 2>&1 &
agent=$!
/usr/lib/holdfast/bin/node -e '
  const send = async (left) => {
    const body = "plant value=1 1\nplant value=2 2000\nplant value=3 3000000\n"
    const answer = await fetch(`http://127.0.0.1:${process.argv[1]}/write`, { method: "POST", body }).catch(() => null)
    if (answer?.ok) return
    if (left === 0) throw new Error(`answer ${answer?.status}`)
    await new Promise((resolve) => setTimeout(resolve, 250))
    await send(left - 1)
  }
  send(80)' "$port" || { cat /tmp/agent >&2; fail "no point taken"; }
kill -9 $agent
wait $agent || true
install_it
grep -q "127.0.0.1:$port" $etc/holdfast.yaml || fail "the upgrade replaced the configuration"
# What the package's scripts count, and keep, with a spool set aside and nothing after it: by safe mode, by damage; and
# with a spool on another disk.
scripts=/var/lib/dpkg/info/holdfast
counts() {
  $scripts.prerm remove
  [ "$(cat $state.unsent)" = "$1" ] || fail "unsent: $(cat $state.unsent), not $1 ($2)"
}
keeps() {
  $scripts.postrm purge >/tmp/log 2>&1
  grep -q "never sent: $1" /tmp/log || { cat /tmp/log >&2; fail "purge did not keep: $2"; }
  [ -e $etc/agent-key.pem ] || fail "purge took the key of: $2"
}
for kind in suspect damaged; do
  aside=$state/spool.db.$kind-0a1b2c3d
  mv $state/spool.db $aside
  mv $state/spool.db-wal $aside-wal
  counts unknown $kind
  touch $aside-salvaged
  counts 0 "$kind, salvaged"
  rm $aside-salvaged
  keeps unknown "$kind after it was counted"
  [ -e $aside ] || fail "purge took what was $kind"
  mv $aside-wal $state/spool.db-wal
  mv $aside $state/spool.db
done
mv $state/spool.db /var/before
counts 0 nothing
mv /var/before $state/spool.db
keeps unknown "a spool that came back after it was counted"
mv $state /var/elsewhere
install -d -o holdfast -g holdfast -m 700 $state
sed -i 's|^agent:$|agent:\n  state_dir: /var/elsewhere|' $etc/holdfast.yaml
counts '3 (in /var/elsewhere)' elsewhere
keeps 3 elsewhere
sed -i '/state_dir: .var.elsewhere/d' $etc/holdfast.yaml
rmdir $state
mv /var/elsewhere $state
dpkg -r holdfast >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "dpkg -r"; }
[ -e $state/spool.db ] || fail "remove took the spool"
[ "$(cat $state.unsent)" = 3 ] || fail "unsent: $(cat $state.unsent), not 3"
dpkg -P holdfast >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "dpkg -P"; }
grep -q 'never sent: 3' /tmp/log || { cat /tmp/log >&2; fail "purge did not say what it kept"; }
[ -e $state/spool.db ] && [ -e $etc/agent-key.pem ] || fail "purge took unsent points, or their key"
[ ! -e $etc/holdfast.yaml ] || fail "purge left the configuration"
install_it
HOLDFAST_PURGE_DATA=yes dpkg -P holdfast >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "dpkg -P of all"; }
for left in $etc $state $state.unsent /usr/lib/holdfast /etc/systemd/system/multi-user.target.wants/holdfast.service; do
  [ ! -e $left ] || fail "purge left $left"
done
INSIDE
