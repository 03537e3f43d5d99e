# Sourced with package names: installs them from Debian. Their daemons are not started.
export DEBIAN_FRONTEND=noninteractive
# Several labs may be installed at the same time.
exec 9>"${TMPDIR:-/tmp}/espnet3-lab-install.lock"; flock 9
[ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 -print -quit)" ] || apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
installed=$?; exec 9>&-; return $installed
