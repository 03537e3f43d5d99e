# Sourced with package names: installs them from Debian. Their daemons are not started.
export DEBIAN_FRONTEND=noninteractive
[ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 -print -quit)" ] || apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
