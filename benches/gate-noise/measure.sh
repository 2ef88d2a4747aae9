#!/usr/bin/env bash
# Measures how often the gate raises a false alarm between identical runs on real servers, and how
# often it detects a slowdown of 15 % that one knob causes (kube_api_qps 30 to 26.1).
#
#   cargo build --release --features live && benches/gate-noise/measure.sh [RUNS] [PLANTED] [REPEATS] [PAIRS]
#
# Makes RUNS identical runs and PLANTED slower ones, about 20 s each. Then judges PAIRS pairs of REPEATS
# runs each, drawn at random, with no run on both sides. Pairs share runs and are not independent: only
# more runs make the figures more precise, more pairs do not. Needs the servers (alertstorm setup local).
# All load stays on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-24} planted=${2:-12} repeats=${3:-6} pairs=${4:-50}
alertstorm=${ALERTSTORM:-target/release/alertstorm}
scenario=benches/gate-noise/flood.yaml
knob=cluster.control_plane.controller_manager.kube_api_qps
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT

make() { # FOLDER COUNT [OPTION…]
  local folder=$1 count=$2 have; shift 2
  mkdir -p "$folder"
  have=$(find "$folder" -name report.json | wc -l)
  for _ in $(seq "$((have + 1))" "$count"); do
    "$alertstorm" run "$scenario" --on local -o "$folder" "$@" > "$folder/last.log" 2>&1 || [ $? -le 1 ] || { cat "$folder/last.log"; exit 1; }
  done
}
make "$work/cold" 1 # A warm-up run, as the gate makes one.
make "$work/same" "$runs"
make "$work/slow" "$planted" --set "$knob=26.1"

# Draws REPEATS folders from each of two lists, none twice.
draw() { python3 - "$repeats" "$3" "$1" "$2" <<'P'
import glob, os, random, sys
repeats, seed, a, b = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
of = lambda folder: sorted(os.path.dirname(p) for p in glob.glob(folder + "/*/report.json"))
r = random.Random(seed)
if a == b:
    both = r.sample(of(a), 2 * repeats)
    before, after = both[:repeats], both[repeats:]
else:
    before, after = r.sample(of(a), repeats), r.sample(of(b), repeats)
print(" ".join(before)); print(" ".join(after))
P
}
judge() { # BEFORE AFTER [OPTION…]: prints how many pairs regressed
  local before=$1 after=$2 alarms=0 undecided=0 status; shift 2
  for pair in $(seq "$pairs"); do
    mapfile -t drawn < <(draw "$before" "$after" "$pair")
    # shellcheck disable=SC2086
    "$alertstorm" gate "$scenario" --baseline "$work/base.json" --update --runs ${drawn[0]} 2> /dev/null
    status=0
    # shellcheck disable=SC2086
    "$alertstorm" gate "$scenario" --baseline "$work/base.json" "$@" --runs ${drawn[1]} > /dev/null 2>&1 || status=$?
    case $status in 0) ;; 1) alarms=$((alarms + 1)) ;; 5) undecided=$((undecided + 1)) ;; *) echo "the gate ended with $status" >&2; exit 1 ;; esac
  done
  echo "$alarms of $pairs ($undecided inconclusive)"
}
echo "identical runs, false alarms: $(judge "$work/same" "$work/same")"
echo "15 % planted, detected: $(judge "$work/same" "$work/slow" --set "$knob=26.1" --may-differ "$knob")"
