#!/bin/bash
# sge.sh install|start|stop -- (Son of) Grid Engine 8.1.9 from Debian on loopback, no systemd.
# Its state is where Debian's package has it; $LAB_DIR holds the rest.
set -u
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
B=${LAB_DIR:?}/sge; H=localhost; SLOTS=${SGE_LAB_SLOTS:-4}
RUN=/var/run/gridengine; QP=/var/spool/gridengine/qmaster/qmaster.pid   # this build ignores SGE_MASTER_PIDFILE
SP=/var/spool/gridengine; C=$SGE_ROOT/$SGE_CELL/common
install() { command -v sge_qmaster >/dev/null && command -v sge_execd >/dev/null && command -v qsub >/dev/null && return
  source "$(dirname "$0")/install.sh" gridengine-master gridengine-exec gridengine-client; }
# running and not a zombie: PID 1 here reaps orphans only every ~2 s, and kill -0 succeeds on a zombie
live() { case "$(ps -o stat= -p "${1:-0}" 2>/dev/null)" in ''|Z*) return 1;; esac; }
alive() { [ -s "$1" ] && live "$(cat "$1")"; }
term() { [ -s "$1" ] || return 0; local p; p=$(cat "$1"); kill "$p" 2>/dev/null
  for _ in $(seq 100); do live "$p" || { rm -f "$1"; return 0; }; sleep .1; done; kill -9 "$p" 2>/dev/null; rm -f "$1"; }
start() {
  mkdir -p $B $RUN; chown sgeadmin:sgeadmin $RUN
  # every loopback name is the same host, called "localhost" (the first name 127.0.0.1 maps back to)
  echo "localhost $(hostname) $(hostname -s) $(hostname -f 2>/dev/null) $(awk '$1=="127.0.0.1"{for(i=2;i<=NF;i++)print $i}' /etc/hosts)" \
    | tr ' ' '\n' | awk 'NF && !s[$0]++' | tr '\n' ' ' > $C/host_aliases; echo >> $C/host_aliases
  echo $H > $C/act_qmaster; chown sgeadmin:sgeadmin $C/act_qmaster $C/host_aliases
  if ! alive $QP; then
    rm -f $QP; sge_qmaster || return 1
  fi
  for _ in $(seq 100); do qconf -sh >/dev/null 2>&1 && break; sleep .1; done
  qconf -sh >/dev/null || { tail -20 $SP/qmaster/messages >&2; return 1; }
  qconf -ah $H >/dev/null 2>&1; qconf -as $H >/dev/null 2>&1; qconf -am root >/dev/null 2>&1
  # scheduler: react at once instead of every 15 s
  qconf -ssconf | sed -E 's/^(schedule_interval) .*/\1 0:0:1/; s/^(flush_submit_sec) .*/\1 1/; s/^(flush_finish_sec) .*/\1 1/; s/^(load_adjustment_decay_time) .*/\1 0:0:0/; s/^(job_load_adjustments) .*/\1 NONE/' > $B/sconf; qconf -Msconf $B/sconf >/dev/null
  qconf -sconf global | sed -E 's/^(load_report_time) .*/\1 00:00:02/; s/^(max_unheard) .*/\1 00:00:20/; s/^(reschedule_unknown) .*/\1 00:00:00/; s/^(min_uid|min_gid) .*/\1 0/' > $B/global; ( cd $B; qconf -Mconf $B/global >/dev/null )
  cat > $B/host <<X
hostname $H
load_scaling NONE
complex_values NONE
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
X
  qconf -sel 2>/dev/null | grep -qx $H || qconf -Ae $B/host >/dev/null
  cat > $B/pe <<X
pe_name smp
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule \$pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
X
  qconf -spl 2>/dev/null | grep -qx smp || qconf -Ap $B/pe >/dev/null
  for q in cpu.q short.q; do
    qconf -sql 2>/dev/null | grep -qx $q && continue
    # 'qconf -sq' without an argument prints the built-in template queue
    qconf -sq | sed -E "s/^qname .*/qname $q/; s/^hostlist .*/hostlist $H/; s/^slots .*/slots $SLOTS/; s/^load_thresholds .*/load_thresholds NONE/; s/^pe_list .*/pe_list smp/; s/^rerun .*/rerun TRUE/; s#^shell .*#shell /bin/bash#; s/^shell_start_mode .*/shell_start_mode unix_behavior/; s/^(notify) .*/\1 00:00:05/" > $B/$q
    [ $q = short.q ] && sed -i -E 's/^h_rt .*/h_rt 0:0:30/; s/^s_rt .*/s_rt INFINITY/' $B/$q
    qconf -Aq $B/$q >/dev/null || return 1
  done
  if ! alive $RUN/execd.pid; then
    SGE_EXECD_PIDFILE=$RUN/execd.pid sge_execd || return 1
  fi
  for _ in $(seq 200); do s=$(qstat -f -q cpu.q 2>/dev/null | awk '/^cpu.q@/{print $6}'); l=$(qstat -f -q cpu.q 2>/dev/null | awk '/^cpu.q@/{print $4}')
    [ -z "$s" ] && [ -n "$l" ] && [ "$l" != -NA- ] && { qstat -f; return 0; }; sleep .1; done
  echo "sge: execd not up" >&2; qstat -f >&2; tail -20 $SP/qmaster/messages $SP/execd/*/messages >&2; return 1
}
stop() { alive $QP && { qdel -f -u '*' >/dev/null 2>&1; for _ in $(seq 50); do [ -z "$(qstat -u '*' 2>/dev/null)" ] && break; sleep .1; done; }
  term $RUN/execd.pid; term $QP; }
case ${1:-} in
  install) install;; start) start;; stop) stop;;
  *) echo "usage: $0 install|start|stop" >&2; exit 2;;
esac
