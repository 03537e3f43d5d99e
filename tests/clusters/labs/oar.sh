#!/bin/bash
# oar.sh install|start|stop -- OAR 2.5.9 from Debian on loopback, with a PostgreSQL and an sshd of its own;
# no systemd, no cpusets. Its settings are where its setuid programs look, in /etc/oar and ~oar; what Debian
# had there is kept beside it and comes back at stop. $LAB_DIR holds the rest. Starting twice starts nothing twice.
set -u
B=${LAB_DIR:?}/oar; CORES=${OAR_LAB_CORES:-4}; PGPORT=${OAR_LAB_PG_PORT:-55432}; SSHPORT=${OAR_LAB_SSH_PORT:-6667}
CONF=/etc/oar/oar.conf; BASHRC=/var/lib/oar/.batch_job_bashrc; SERVER=/var/run/oar-server.pid
pgbin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1; }
install() { command -v oarsub >/dev/null && [ -x /usr/lib/oar/Almighty ] && [ -x /usr/sbin/sshd ] && [ -x "$(pgbin)/initdb" ] && return
  source "$(dirname "$0")/install.sh" postgresql oar-server oar-server-pgsql oar-node oar-user oar-user-pgsql openssh-server; }
# running and not a zombie: PID 1 here reaps orphans only every ~2 s, and kill -0 succeeds on a zombie
live() { case "$(ps -o stat= -p "${1:-0}" 2>/dev/null)" in ''|Z*) return 1;; esac; }
alive() { [ -s "$1" ] && live "$(head -1 "$1")"; }
term() { [ -s "$1" ] || return 0; local p; p=$(head -1 "$1"); kill "$p" 2>/dev/null
  for _ in $(seq 100); do live "$p" || { rm -f "$1"; return 0; }; sleep .1; done; kill -9 "$p" 2>/dev/null; rm -f "$1"; }
conf() { # what a key is to be; keys that Debian has commented out too
  sed -i -E "s|^#? ?($1)=.*|\1=\"$2\"|" $CONF; grep -q "^$1=" $CONF || echo "$1=\"$2\"" >> $CONF; }
as_postgres() { su postgres -s /bin/bash -c "$*"; }
sql() { PGPASSWORD=${3:-oar} "$(pgbin)/psql" -qAt -h 127.0.0.1 -p $PGPORT -U "${2:-oar}" -d "${4:-oar}" -c "$1"; }

database() {
  mkdir -p $B/socket; chmod 755 $B; chown postgres $B/socket
  [ -d $B/pg ] || { command install -d -o postgres -m 700 $B/pg
    as_postgres "$(pgbin)/initdb -A trust -N -D $B/pg" >$B/initdb.log 2>&1 || { cat $B/initdb.log >&2; return 1; }; }
  alive $B/pg/postmaster.pid || as_postgres "$(pgbin)/pg_ctl -w -D $B/pg -l $B/pg/log -o '-p $PGPORT -c listen_addresses=127.0.0.1 -c unix_socket_directories=$B/socket -c fsync=off' start" >/dev/null \
    || { cat $B/pg/log >&2; return 1; }
  [ "$(sql "select 1 from pg_database where datname='oar'" postgres x postgres)" = 1 ] && return
  sql "create role oar login password 'oar'" postgres x postgres && sql "create role oar_ro login password 'oar_ro'" postgres x postgres \
    && sql "create database oar owner oar" postgres x postgres || return 1
  for f in pg_structure pg_default_admission_rules default_data; do
    PGPASSWORD=oar "$(pgbin)/psql" -q -h 127.0.0.1 -p $PGPORT -U oar -f /usr/lib/oar/database/$f.sql oar >>$B/db.log 2>&1; done
  # A rule of the site, and no more than that, keeps root from submitting. Ids are as long as elsewhere.
  sql "alter sequence jobs_job_id_seq restart with 4711; grant select on all tables in schema public to oar_ro; delete from admission_rules where rule like '%root and oar users are not allowed%'"; }

settings() {
  for f in $CONF $BASHRC; do [ -e $f.before-lab ] || cp -p $f $f.before-lab; done
  conf DB_TYPE Pg; conf DB_HOSTNAME 127.0.0.1; conf DB_PORT $PGPORT; conf DB_BASE_PASSWD oar; conf DB_BASE_PASSWD_RO oar_ro
  conf OPENSSH_CMD "/usr/bin/ssh -p $SSHPORT -e none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
  conf OARSUB_DEFAULT_RESOURCES "/core=1"; conf OARSUB_FORCE_JOB_KEY no; conf SCHEDULER_JOB_SECURITY_TIME 2
  sed -i -E 's/^(JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD=.*)/#\1/' $CONF    # no cpusets
  # Every bash of a job reads this. It reads ~/.bashrc, which has no end where that starts a bash script.
  : > $BASHRC; }

nodes() { # a signal to oarexec goes through this sshd; a '!' (locked) password makes one without PAM refuse keys
  usermod -p '*' oar; mkdir -p /run/sshd; chmod 755 /run/sshd
  sed -E '/UsePrivilegeSeparation|^Protocol|KeepAlive yes|RSAAuth|^Port|^PidFile|^UsePAM/d' /etc/oar/sshd_config > $B/sshd_config
  { echo "Port $SSHPORT"; echo "ListenAddress 127.0.0.1"; echo "PidFile $B/sshd.pid"; echo "UsePAM no"; } >> $B/sshd_config
  alive $B/sshd.pid || /usr/sbin/sshd -f $B/sshd_config -E $B/sshd.log; }

start() {
  mkdir -p $B
  if [ ! -e $CONF.before-lab ] && timeout 20 oarnodes -s >/dev/null 2>&1; then
    echo "this host belongs to an OAR already" >&2; return 1; fi
  database && settings && nodes || return 1
  touch /var/log/oar.log; mkdir -p /var/run/oar; chown oar /var/log/oar.log /var/run/oar
  if [ -z "$(oarnodes -s 2>/dev/null)" ]; then
    oarproperty -a core >/dev/null; oarproperty -c -a host >/dev/null
    for i in $(seq $CORES); do oarnodesetting -a -h localhost -p host=localhost -p core=$i -p cpuset=$((i-1)) >/dev/null || return 1; done; fi
  alive $SERVER || { /usr/sbin/oar-server </dev/null >/dev/null 2>&1; for _ in $(seq 100); do alive $SERVER && break; sleep .1; done; }
  for _ in $(seq 100); do oarnodesetting -h localhost -s Alive >/dev/null 2>&1
    [ "$(oarnodes -s 2>/dev/null | grep -c Alive)" -gt 0 ] && { oarnodes -s; return 0; }; sleep .2; done
  echo "oar: nodes not up" >&2; tail -20 /var/log/oar.log >&2; return 1; }
stop() {
  if alive $SERVER; then
    jobs=$(oarstat 2>/dev/null | awk '$1+0 {print $1}'); [ -z "$jobs" ] || oardel $jobs >/dev/null 2>&1
    for _ in $(seq 100); do [ -z "$(oarstat 2>/dev/null | awk '$1+0')" ] && break; sleep .1; done; fi
  term $SERVER; term $B/sshd.pid
  [ -s $B/pg/postmaster.pid ] && as_postgres "$(pgbin)/pg_ctl -m fast -w -D $B/pg stop" >/dev/null
  for f in $CONF $BASHRC; do [ ! -e $f.before-lab ] || mv $f.before-lab $f; done; }
case ${1:-} in
  install) install;; start) start;; stop) stop;;
  *) echo "usage: $0 install|start|stop" >&2; exit 2;;
esac
