#!/usr/bin/env bash
# usage: [SWEEP=DIR] stop-cluster.sh STATE_DIR
# Ends the processes that start-cluster.sh listed, after checking that each pid still belongs to the listed program. The
# cluster has no cgroups, so a job's process with its own session can outlive the job: SWEEP=DIR also ends this user's
# processes whose parent has ended and whose working directory is DIR or below.
D=$(realpath -m "$1")
export SLURM_CONF=$D/slurm.conf
PIDS=$D/run/started.pids
[ -f "$PIDS" ] || exit 0
timeout 5 scancel -u "$(id -un)" 2> /dev/null; sleep 0.5
tac "$PIDS" | while read -r what pid; do
  prog=${what%%:*}
  if [ -r "/proc/$pid/comm" ] && [[ "$(cat "/proc/$pid/comm")" == "${prog:0:15}" ]]; then
    kill -TERM "$pid"
    for _ in $(seq 50); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    [ -d "/proc/$pid" ] && kill -KILL "$pid"
  fi
done
if [ -n "${SWEEP:-}" ]; then
  for p in $(ps -u "$(id -u)" -o pid=,ppid= | awk '$2==1 {print $1}'); do
    w=$(readlink "/proc/$p/cwd" 2> /dev/null) || continue
    case "$w/" in "${SWEEP%/}"/*) kill -KILL "$p";; esac
  done
fi
rm -f "$PIDS"
exit 0
