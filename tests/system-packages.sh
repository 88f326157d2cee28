#!/usr/bin/env bash
# Installs the system programs that some tests run for real. This needs root on Debian; elsewhere the tests that need the
# programs are skipped, each with a line that says why.
set -euo pipefail
packages=(
  chromium                              # tests/browser opens the page of the human study in it; 80 MB
  slurmctld slurmd slurm-client munge   # tests/workflow/slurm starts a one-node SLURM on the loopback interface; 13 MB
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -q '^installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "not installed: ${missing[*]}; the tests that need them are skipped (sudo bash tests/system-packages.sh installs them)"
  exit 0
fi
echo "installing ${missing[*]}: takes less than a minute"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null; }; then
  echo "apt-get could not install ${missing[*]}: the tests that need them are skipped"
fi
