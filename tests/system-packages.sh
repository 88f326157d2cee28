#!/usr/bin/env bash
# Programs of the system that some tests drive for real. They are installed where that may be done (root on Debian);
# elsewhere the tests that need them are skipped, each with a line that says why.
set -euo pipefail
packages=(
  chromium                              # tests/browser: the study's page; 80 MB
  slurmctld slurmd slurm-client munge   # tests/workflow/slurm: a SLURM of one node on the loopback; 13 MB
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -q '^installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "not installed, the tests that need them are skipped: ${missing[*]} (sudo bash tests/system-packages.sh)"
  exit 0
fi
echo "installing ${missing[*]}: under a minute"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null; }; then
  echo "apt-get could not install them: the tests that need them are skipped"
fi
