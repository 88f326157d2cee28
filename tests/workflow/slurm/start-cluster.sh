#!/usr/bin/env bash
# Starts a real SLURM on the loopback interface: munge, controller, one daemon per node. Needs no systemd, no root and
# no file in /etc.
# usage: start-cluster.sh STATE_DIR
# env:   NODES=1, per node CPUS=32 MEM=256000 GPUS=4 (simulated), CTLD_PORT=16817 SLURMD_PORT=16900, MIN_JOB_AGE=86400
# after: export SLURM_CONF=$STATE_DIR/slurm.conf PATH=$STATE_DIR/bin:$PATH
set -euo pipefail
D=$(realpath -m "$1")
NODES=${NODES:-1} CPUS=${CPUS:-32} MEM=${MEM:-256000} GPUS=${GPUS:-4}
CTLD_PORT=${CTLD_PORT:-16817} SLURMD_PORT=${SLURMD_PORT:-16900}
HOST=$(hostname -s) ME=$(id -un)
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$D"/{run,log,state,spool,dev,munge,bin}
chmod 755 "$D" "$D/run"; chmod 700 "$D/munge"
PIDS=$D/run/started.pids; : > "$PIDS"          # stop-cluster.sh ends the processes listed here, no others

# -- munge, with a key and a socket for this cluster only
SOCK=$D/run/munge.socket
[ -s "$D/munge/munge.key" ] || { dd if=/dev/urandom of="$D/munge/munge.key" bs=1024 count=1 status=none; chmod 400 "$D/munge/munge.key"; }
munged --force --key-file="$D/munge/munge.key" --socket="$SOCK" --log-file="$D/munge/munged.log" \
       --pid-file="$D/munge/munged.pid" --seed-file="$D/munge/munged.seed"
echo "munged $(cat "$D/munge/munged.pid")" >> "$PIDS"

# -- GPUs: links to a character device; without one SLURM allocates GPUs but does not set CUDA_VISIBLE_DEVICES
for ((g=0; g<GPUS; g++)); do ln -sfn /dev/null "$D/dev/nvidia$g"; done

# -- srun: Snakemake's jobstep plugin removes SLURM_CONF from a job's environment before it calls srun; this wrapper
#    sets it again
REAL=$(PATH=${PATH//$D\/bin:/} command -v srun)
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$D/slurm.conf" "$REAL" > "$D/bin/srun"; chmod 755 "$D/bin/srun"

{
cat <<CONF
ClusterName=a100test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmUser=$ME
SlurmdUser=$ME
AuthType=auth/munge
AuthInfo=socket=$SOCK
CredType=cred/munge
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# no cgroups, no cpu binding
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SwitchType=switch/none
MpiDefault=none
# pretend to be a large node: do not compare this file with the real hardware
SlurmdParameters=config_overrides
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# react fast
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=5,sbatch_wait_nodes=0
MinJobAge=${MIN_JOB_AGE:-86400}
KillWait=${KILL_WAIT:-5}
SlurmdTimeout=${SLURMD_TIMEOUT:-30}
SlurmctldTimeout=30
MessageTimeout=10
TCPTimeout=2
InactiveLimit=0
ReturnToService=2
UnkillableStepTimeout=30
RebootProgram=/bin/true
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
CONF
for ((n=1; n<=NODES; n++)); do
  printf 'NodeName=gpu%02d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d Boards=1 SocketsPerBoard=1 CoresPerSocket=%d ThreadsPerCore=1 RealMemory=%d Gres=gpu:a100:%d State=UNKNOWN\n' \
     "$n" "$HOST" $((SLURMD_PORT+n)) "$CPUS" "$CPUS" "$MEM" "$GPUS"
done
echo "PartitionName=a100 Nodes=ALL Default=YES MaxTime=3-00:00:00 DefaultTime=01:00:00 DefMemPerCPU=1000 State=UP"
} > "$D/slurm.conf"
if [ "$NODES" = 1 ]; then names=gpu01; else names=$(printf 'gpu[01-%02d]' "$NODES"); fi
echo "NodeName=$names Name=gpu Type=a100 File=$D/dev/nvidia[0-$((GPUS-1))]" > "$D/gres.conf"
printf 'CgroupAutomount=no\nCgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n' > "$D/cgroup.conf"
export SLURM_CONF=$D/slurm.conf

# -- daemons, without standard input and output, so that no caller waits for them
slurmctld -f "$SLURM_CONF" < /dev/null > /dev/null 2>&1
for _ in $(seq 50); do [ -s "$D/run/slurmctld.pid" ] && break; sleep 0.1; done
echo "slurmctld $(cat "$D/run/slurmctld.pid")" >> "$PIDS"
for _ in $(seq 50); do
  [ -d "/proc/$(cat "$D/run/slurmctld.pid")" ] || { echo "slurmctld died:" >&2; tail -5 "$D/log/slurmctld.log" >&2; exit 1; }
  (exec 3<>"/dev/tcp/127.0.0.1/$CTLD_PORT") 2> /dev/null && break; sleep 0.1
done
for ((n=1; n<=NODES; n++)); do
  name=$(printf 'gpu%02d' "$n"); mkdir -p "$D/spool/$name"
  slurmd -f "$SLURM_CONF" -N "$name" < /dev/null > /dev/null 2>&1
  for _ in $(seq 50); do [ -s "$D/run/slurmd.$name.pid" ] && break; sleep 0.1; done
  echo "slurmd:$name $(cat "$D/run/slurmd.$name.pid")" >> "$PIDS"
done
for _ in $(seq 300); do
  [ "$(timeout 5 sinfo -h -N -p a100 -o %T 2> /dev/null | grep -c '^idle$')" = "$NODES" ] && exit 0; sleep 0.1
done
echo "the nodes are not idle after 30 s:" >&2; timeout 10 sinfo -N >&2; exit 1
