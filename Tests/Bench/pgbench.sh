#!/usr/bin/env bash
# PostgreSQL with data checksums on an ext4 on a volume: network block device -> nbdfuse -> loop device -> ext4.
#   pgbench.sh speed     RUNS (5) times pgbench for SECONDS_EACH (20) on Elide and on nbdkit's file plugin, turn by turn on the same disk
#   pgbench.sh kills     KILLS (50) times: SIGKILL of the server under pgbench, then recovery, pg_checksums and pg_amcheck
# Needs root (loop, mount), installs Debian's postgresql; works in WORK (a directory on a disk, by default under /var/tmp).
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=${1:-speed}
elide=${ELIDE:-$PWD/.build/release/elide}
runs=${RUNS:-5} seconds=${SECONDS_EACH:-20} scale=${SCALE:-10} kills=${KILLS:-50} size=${SIZE:-4G}
scripts/install-deps.sh postgresql
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
work=$(mktemp -d "${WORK:-/var/tmp}/elide-pg-XXXXXX")
chmod 755 "$work"
export ELIDE_DATA_DIR=$work/elide ELIDE_STORE=${ELIDE_STORE:-file://$work/store}

# Waits until a command succeeds; the deadline is in tenths of a second.
until_true() {
  local left=$1 what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "pgbench.sh: $what did not happen in time" >&2; tail -n 5 "$work"/*.log >&2; exit 1; }
    sleep 0.1
  done
}

as_postgres() { (cd / && exec runuser -u postgres -- "$@"); }

server_up() { # NAME: starts the block server of that name
  case $1 in
    elide) setsid "$elide" serve db --nbd "unix:$work/elide.sock" >>"$work/elide.log" 2>&1 &
      echo $! >"$work/elide.pid" ;;
    nbdkit) setsid nbdkit -f -U "$work/nbdkit.sock" file "$work/peer.img" >>"$work/nbdkit.log" 2>&1 &
      echo $! >"$work/nbdkit.pid" ;;
  esac
  until_true 600 "$1's socket" nbdinfo "$(uri "$1")"
}

uri() { [ "$1" = elide ] && echo "nbd+unix:///db?socket=$work/elide.sock" || echo "nbd+unix://?socket=$work/nbdkit.sock"; }

disk_up() { # NAME: from the server to a mounted file system
  mkdir -p "$work/$1.fuse" "$work/$1.mnt"
  setsid nbdfuse "$work/$1.fuse" "$(uri "$1")" >>"$work/$1.log" 2>&1 &
  echo $! >"$work/$1.fuse.pid"
  until_true 300 "$1's nbdfuse" test -e "$work/$1.fuse/nbd"
  losetup --find --show "$work/$1.fuse/nbd" >"$work/$1.loop"
  blkid "$(cat "$work/$1.loop")" >/dev/null || mkfs.ext4 -q "$(cat "$work/$1.loop")"
  mount "$(cat "$work/$1.loop")" "$work/$1.mnt"
}

disk_down() { # NAME
  umount "$work/$1.mnt" 2>/dev/null || umount -l "$work/$1.mnt" 2>/dev/null || true
  if [ -s "$work/$1.loop" ]; then losetup -d "$(cat "$work/$1.loop")" 2>/dev/null || true; rm -f "$work/$1.loop"; fi
  fusermount3 -u "$work/$1.fuse" 2>/dev/null || fusermount3 -uz "$work/$1.fuse" 2>/dev/null || true
  if [ -s "$work/$1.fuse.pid" ]; then wait_gone "$(cat "$work/$1.fuse.pid")"; rm -f "$work/$1.fuse.pid"; fi
}

# A process that was started here is reaped quietly, so that the shell does not report each kill.
wait_gone() {
  { wait "$1" || true; } 2>/dev/null
  until_true 600 "the end of process $1" bash -c "! kill -0 $1"
}

server_down() { # NAME SIGNAL
  [ -s "$work/$1.pid" ] || return 0
  kill "-$2" "$(cat "$work/$1.pid")" 2>/dev/null || true
  wait_gone "$(cat "$work/$1.pid")"
  rm -f "$work/$1.pid"
}

db_up() { as_postgres "$bin/pg_ctl" -w -t 120 -D "$work/$1.mnt/pg" -l "$work/run/pg.log" -o "-k $work/run -c listen_addresses=" start >/dev/null || { tail -n 20 "$work/run/pg.log" >&2; return 1; }; }
# A database whose disk is gone cannot stop by itself.
db_kill() {
  local master children
  master=$(pgrep -o -u postgres -f -- "-D $work/$1.mnt/pg") || return 0
  children=$(pgrep -P "$master" || true)
  # shellcheck disable=SC2086
  kill -KILL "$master" $children 2>/dev/null || true
  for pid in $master $children; do wait_gone "$pid"; done
}
db_down() { as_postgres "$bin/pg_ctl" -w -t 120 -D "$work/$1.mnt/pg" -m "${2:-fast}" stop >/dev/null; }
bench() { as_postgres "$bin/pgbench" -h "$work/run" -c 8 -j 2 -T "$1" bench; }

db_make() { # NAME
  chmod 755 "$work/$1.mnt"
  install -d -o postgres "$work/$1.mnt/pg"
  as_postgres "$bin/initdb" -k -A trust -D "$work/$1.mnt/pg" >/dev/null 2>&1
  db_up "$1"
  as_postgres "$bin/createdb" -h "$work/run" bench
  as_postgres "$bin/psql" -q -h "$work/run" -d bench -c 'create extension amcheck'
  as_postgres "$bin/pgbench" -q -h "$work/run" -i -s "$scale" bench >/dev/null 2>&1
  db_down "$1"
}

cleanup() {
  local name
  for name in elide nbdkit; do
    [ ! -s "$work/$name.mnt/pg/postmaster.pid" ] || db_kill "$name"
    disk_down "$name"
    server_down "$name" KILL
  done
  rm -rf "$work"
}
trap cleanup EXIT
install -d -o postgres "$work/run"

speed() {
  # Each disk is as old as the other: both are filled and initialised once, and used by all runs.
  head -c "$(numfmt --from=iec "$size")" /dev/zero >"$work/peer.img"
  "$elide" volume create db --size "$size" >/dev/null
  local name run
  for name in elide nbdkit; do
    server_up "$name"
    disk_up "$name"
    db_make "$name"
  done
  for run in $(seq "$runs"); do
    for name in elide nbdkit; do
      db_up "$name"
      echo "$name $run $(bench "$seconds" 2>/dev/null | sed -nE 's/^tps = ([0-9.]+).*/\1/p')" | tee -a "$work/tps"
      db_down "$name"
    done
  done
  python3 - "$work/tps" <<'PY'
import statistics, sys
tps = {}
for line in open(sys.argv[1]):
    name, _, value = line.split()
    tps.setdefault(name, []).append(float(value))
ratios = [e / k for e, k in zip(tps["elide"], tps["nbdkit"])]
for name, values in tps.items():
    print(f"{name}: {min(values):.0f}/{statistics.median(values):.0f}/{max(values):.0f} transactions a second (min/median/max)")
print(f"ratio, run by run: {' '.join(f'{r:.2f}' for r in ratios)}; median {statistics.median(ratios):.2f} (target 0.9); last to first {ratios[-1] / ratios[0]:.2f}")
PY
}

kill_loop() {
  "$elide" volume create db --size "$size" >/dev/null
  server_up elide
  disk_up elide
  db_make elide
  local n load slowest=0 began took
  for n in $(seq "$kills"); do
    db_up elide
    bench 600 >"$work/load.log" 2>&1 &
    load=$!
    until_true 600 "a transaction" bash -c "[ \$(runuser -u postgres -- $bin/psql -h $work/run -d bench -Atc 'select count(*) from pgbench_history') -gt $((RANDOM % 200)) ]"
    server_down elide KILL
    wait "$load" || true
    db_kill elide
    disk_down elide
    began=$(date +%s%N)
    server_up elide
    took=$((($(date +%s%N) - began) / 1000000))
    [ "$took" -le "$slowest" ] || slowest=$took
    disk_up elide
    db_up elide
    as_postgres "$bin/pg_amcheck" -h "$work/run" -d bench --heapallindexed --install-missing 2>"$work/amcheck.log" || { cat "$work/amcheck.log"; exit 1; }
    as_postgres "$bin/psql" -h "$work/run" -d bench -Atqc 'truncate pgbench_history' >/dev/null
    db_down elide
    as_postgres "$bin/pg_checksums" --check -D "$work/elide.mnt/pg" >"$work/checksums.log" || { cat "$work/checksums.log"; exit 1; }
    echo "kill $n: recovered, checksums and indexes are right"
  done
  echo "$kills kills, all recovered; slowest start to the first answer $slowest ms"
}

case $mode in
  speed) speed ;;
  kills) kill_loop ;;
  *) echo "pgbench.sh speed|kills" >&2; exit 2 ;;
esac
