#!/bin/bash
# ssh.sh install|start|stop -- one throw-away sshd on 127.0.0.{1..4}:PORT, own host key + client key, nothing in ~/.ssh or /etc/ssh
set -u
B=${LAB_DIR:?}/ssh; PORT=${SSH_LAB_PORT:-22122}; N=${SSH_LAB_HOSTS:-4}
install() { [ -x /usr/sbin/sshd ] || source "$(dirname "$0")/install.sh" openssh-server; }
# running and not a zombie: PID 1 here reaps orphans only every ~2 s, and kill -0 succeeds on a zombie
live() { case "$(ps -o stat= -p "${1:-0}" 2>/dev/null)" in ''|Z*) return 1;; esac; }
alive() { [ -s "$1" ] && live "$(cat "$1")"; }
start() { umask 077; mkdir -p $B; chmod 700 $B
  # sshd needs its privilege-separation dir; /run is empty without systemd
  mkdir -p /run/sshd; chmod 755 /run/sshd
  [ -s $B/host_key ] || ssh-keygen -q -t ed25519 -N '' -f $B/host_key
  [ -s $B/id ] || ssh-keygen -q -t ed25519 -N '' -C lab -f $B/id
  cp $B/id.pub $B/authorized_keys; chmod 600 $B/authorized_keys
  { for i in $(seq $N); do echo "ListenAddress 127.0.0.$i:$PORT"; done
    cat <<C
HostKey $B/host_key
PidFile $B/sshd.pid
AuthorizedKeysFile $B/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AcceptEnv DASK_* PYTHON* LAB_*
MaxStartups 100
MaxSessions 100
PrintMotd no
Subsystem sftp internal-sftp
C
  } > $B/sshd_config
  for i in $(seq $N); do echo "[127.0.0.$i]:$PORT $(cut -d' ' -f1,2 $B/host_key.pub)"; done > $B/known_hosts
  cat > $B/ssh_config <<C
Host 127.0.0.*
  Port $PORT
  User root
  IdentityFile $B/id
  IdentitiesOnly yes
  UserKnownHostsFile $B/known_hosts
C
  alive $B/sshd.pid || /usr/sbin/sshd -f $B/sshd_config -E $B/sshd.log || return 1
  for _ in $(seq 50); do ssh -F $B/ssh_config 127.0.0.1 true 2>/dev/null && return 0; sleep .1; done; tail $B/sshd.log >&2; return 1; }
stop() { [ -s $B/sshd.pid ] && { kill "$(cat $B/sshd.pid)"; for _ in $(seq 50); do [ -e $B/sshd.pid ] || break; sleep .1; done; }; true; }
case ${1:-} in
  install) install;; start) start;; stop) stop;;
  *) echo "usage: $0 install|start|stop" >&2; exit 2;;
esac
