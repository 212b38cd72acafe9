#!/usr/bin/env bash
# record.sh NAME REMARKS: measures this machine into benches/record/NAME; see README.md beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."

name=${1:?the name of the folder}
remarks=${2:?remarks on the machine, or "none"}
folder=benches/record/$name
qcore=${QCORE:-target/release/qcore}
read -ra run <<<"${RUN:-}"
# Plain Rust takes hours for the large shapes.
usable=$("$qcore" info | awk '$2 == "yes" && $3 == "yes" && $1 != "portable" { print $1 }' | paste -sd ' ')
read -ra isas <<<"${ISAS:-$usable}"
read -ra options <<<"${OPTIONS:-}"
mkdir -p "$folder"

# The newest build of the bench.
peers=${PEERS:-$(ls -t target/release/deps/peers-* 2>/dev/null | grep -v '\.d$' | head -n 1 || true)}
load=$(cut -d ' ' -f 1-3 /proc/loadavg)
commands=()

measure() {
  commands+=("$*")
  echo "$*" >&2
  "${run[@]}" "$@"
}

for isa in "${isas[@]}"; do
  measure "$qcore" bench --isa "$isa" --json --markdown "$folder/$isa.md" "${options[@]}" >"$folder/$isa.json.new"
  mv "$folder/$isa.json.new" "$folder/$isa.json"
done
if [ -n "$peers" ]; then
  measure "$peers" --json "$folder/peers.json" --markdown "$folder/peers.md" >/dev/null
fi

{
  echo "# $name"
  echo
  echo "| | |"
  echo "|---|---|"
  echo "| CPU | $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), family $(sed -n 's/^cpu family[^:]*: //p' /proc/cpuinfo | head -n 1), model $(sed -n 's/^model[^n:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors |"
  echo "| clock | measured in each table beside the figures |"
  echo "| caches | $(lscpu | sed -n 's/^\(L[0-9][a-z]*\)[^:]*: *\(.*\)/\1 \2/p' | paste -sd ',' | sed 's/,/, /g') |"
  echo "| system | $(uname -srm), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release) |"
  echo "| compiler | $(rustc --version) |"
  echo "| qcore | $(git rev-parse --short HEAD 2>/dev/null || echo 'not from a repository') |"
  echo "| date | $(date -u +%Y-%m-%d) |"
  echo "| load | $load before, $(cut -d ' ' -f 1-3 /proc/loadavg) after |"
  echo "| remarks | $remarks |"
  echo
  echo "Commands:"
  echo
  echo '```sh'
  printf '%s\n' "${commands[@]}"
  echo '```'
} >"$folder/README.md"
