#!/bin/bash
# slurm.sh install|start|stop -- throw-away Slurm on loopback: no systemd, no cgroups, nothing in /etc.
# $LAB_DIR holds all state. Starting twice starts nothing twice; stopping leaves nothing running.
set -u
B=${LAB_DIR:?}/slurm        # must be traversable by all (munge socket)
NODES=${SLURM_LAB_NODES:-2}; CPUS=${SLURM_LAB_CPUS:-4}; MEM=${SLURM_LAB_MEM:-8000}
PORT0=${SLURM_LAB_PORT:-26817}                # ctld; slurmd nN listens on PORT0+N
export SLURM_CONF=$B/slurm.conf
SBIN=/usr/sbin

install() { command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  source "$(dirname "$0")/install.sh" slurmctld slurmd slurm-client munge; }

# running and not a zombie: PID 1 here reaps orphans only every ~2 s, and kill -0 succeeds on a zombie
live() { case "$(ps -o stat= -p "${1:-0}" 2>/dev/null)" in ''|Z*) return 1;; esac; }
alive() { [ -s "$1" ] && live "$(cat "$1")"; }
term() { # pidfile: TERM, wait up to 10 s, KILL
  [ -s "$1" ] || return 0; local p; p=$(cat "$1")
  kill "$p" 2>/dev/null; for _ in $(seq 100); do live "$p" || { rm -f "$1"; return 0; }; sleep .1; done
  kill -9 "$p" 2>/dev/null; rm -f "$1"; }

conf() {
  local h; h=$(hostname -s)
  cat > $B/slurm.conf <<C
ClusterName=lab
SlurmctldHost=$h(127.0.0.1)
SlurmctldPort=$PORT0
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$B/munge/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$B/state
SlurmctldPidFile=$B/run/slurmctld.pid
SlurmctldLogFile=$B/log/slurmctld.log
SlurmdSpoolDir=$B/spool/%n
SlurmdPidFile=$B/run/slurmd-%n.pid
SlurmdLogFile=$B/log/slurmd-%n.log
# no cgroups, no affinity, no PMI
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
# memory limit enforced by polling (no cgroups): job killed when RSS > --mem
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$B/log/jobcomp.txt
# fast for CI
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0,sched_interval=1
BatchStartTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=300
OverTimeLimit=0
CompleteWait=0
MessageTimeout=10
SlurmctldTimeout=30
SlurmdTimeout=20
ReturnToService=1
RebootProgram=/bin/true
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
JobSubmitPlugins=lua
PropagateResourceLimits=NONE
SlurmctldDebug=info
SlurmdDebug=info
C
  for i in $(seq $NODES); do
    echo "NodeName=n$i NodeHostname=$h NodeAddr=127.0.0.1 Port=$((PORT0+i)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN"
  done >> $B/slurm.conf
  cat >> $B/slurm.conf <<C
PartitionName=cpu  Nodes=n[1-$NODES] Default=YES MaxTime=1-0 DefaultTime=10 LLN=YES State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low  Nodes=n[1-$NODES] MaxTime=1-0 DefaultTime=10 LLN=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=one  Nodes=n1 MaxTime=2 DefaultTime=1 State=UP PriorityTier=10 PreemptMode=OFF
C
  # A limit of submitted jobs needs an accounting database. Instead, while $B/submit_limit is there,
  # it says how many more are accepted; Slurm refuses the others in the words of such a limit.
  cat > $B/job_submit.lua <<C
local path = "$B/submit_limit"
function slurm_job_submit(job, partitions, uid)
  local file = io.open(path)
  if file == nil then return slurm.SUCCESS end
  local left = file:read("*n")
  file:close()
  if left == 0 then return slurm.ESLURM_ACCOUNTING_POLICY end
  file = io.open(path, "w")
  file:write(left - 1)
  file:close()
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid) return slurm.SUCCESS end
return slurm.SUCCESS
C
  # never written to /etc; an explicit cgroup.conf keeps slurmd from probing
  echo 'CgroupAutomount=no' > $B/cgroup.conf
}

start() {
  umask 022
  mkdir -p $B/{munge,state,spool,run,log}; chmod 755 $B $B/munge
  if ! alive $B/run/munged.pid; then
    [ -s $B/munge/munge.key ] || { dd if=/dev/urandom of=$B/munge/munge.key bs=128 count=1 status=none; }
    chmod 600 $B/munge/munge.key
    $SBIN/munged --key-file=$B/munge/munge.key --socket=$B/munge/munge.socket --pid-file=$B/run/munged.pid \
      --seed-file=$B/munge/munged.seed --log-file=$B/log/munged.log --num-threads=2 || { tail $B/log/munged.log >&2; return 1; }
  fi
  for _ in $(seq 50); do munge -S $B/munge/munge.socket -n >/dev/null 2>&1 && break; sleep .1; done
  alive $B/run/slurmctld.pid || { conf; $SBIN/slurmctld -c -f $SLURM_CONF || return 1; }   # -c: drop saved state
  for i in $(seq $NODES); do
    mkdir -p $B/spool/n$i
    alive $B/run/slurmd-n$i.pid || $SBIN/slurmd -N n$i -f $SLURM_CONF || { tail -5 $B/log/slurmd-n$i.log >&2; return 1; }
  done
  scontrol update nodename="n[1-$NODES]" state=resume 2>/dev/null   # refused if nothing is wrong
  for _ in $(seq 150); do
    [ "$(sinfo -h -N -p cpu -t idle,mix,alloc -o %N 2>/dev/null | wc -l)" = $NODES ] && { sinfo; return 0; }; sleep .2
  done
  echo "slurm: nodes not up" >&2; sinfo >&2; tail -n 20 $B/log/*.log >&2; return 1
}
stop() {
  alive $B/run/slurmctld.pid && { scancel --state=PENDING 2>/dev/null; scancel --state=RUNNING 2>/dev/null
    for _ in $(seq 80); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep .1; done; }
  for i in $(seq $NODES); do term $B/run/slurmd-n$i.pid; done
  term $B/run/slurmctld.pid; term $B/run/munged.pid
}
case ${1:-} in
  install) install;; start) start;; stop) stop;;
  *) echo "usage: $0 install|start|stop" >&2; exit 2;;
esac
