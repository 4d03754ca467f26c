#!/usr/bin/env bash
# Programs of the system that some tests run for real. Installs what is missing where this is Debian and we are root;
# elsewhere, or without a network, it says so and the tests that need them are skipped.
set -uo pipefail

packages=()
need() {  # need PROGRAM PACKAGE
  PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || packages+=("$2")
}
need slurmctld slurm-wlm
need slurmd slurm-wlm
need fio fio
need initdb postgresql
need chromium chromium

if [ "${#packages[@]}" -eq 0 ]; then
  echo "nothing is missing"
elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing, and not installed (needs root and apt-get): ${packages[*]}"
elif apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${packages[@]}" >/dev/null; then
  echo "installed: ${packages[*]}"
else
  echo "could not be installed: ${packages[*]}"
fi
exit 0
