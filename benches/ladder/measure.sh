#!/usr/bin/env bash
# The load ladder: 300, 1,000, 3,000 and 10,000 Jobs whose agents end at once, on 20, 60, 200 and 200 nodes
# of the local control plane. Each step runs three times on fresh servers with the same flags:
#
#   kubelet   alertstorm run --on local, with the calls of a kubelet (node.runtime: kubelet)
#   kwok      alertstorm run --on local, with the calls of KWOK      (node.runtime: kwok)
#   KWOK      KWOK itself and a plain client, which creates the same Jobs over 16 connections
#
# and once more at a rate that the servers sustain, for the send lag (paced). Prints a table, and the
# calls to the API server of each by verb and resource.
#
#   cargo build --release --features live && benches/ladder/measure.sh [STEP…] [--who NAME,…] [--out FILE]
#
# A step is a number of Jobs: `measure.sh 300 1000`; without one, all four run. Needs the servers
# (alertstorm setup local), Go for KWOK (or KWOK=PROGRAM), curl and python3. ALERTSTORM names another
# program. All load stays on loopback. The processes that it started are ended also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
# PostgreSQL's user must be able to enter it.
chmod 711 "$work"
pid=
end() {
  trap - EXIT INT TERM
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap end EXIT
trap 'end; exit 130' INT TERM
target=${CARGO_TARGET_DIR:-target}
export ALERTSTORM=${ALERTSTORM:-$target/release/alertstorm}
export KWOK=${KWOK:-$work/kwok}
module=benches/ladder
[ -x "$KWOK" ] || (cd "$module" && CGO_ENABLED=0 go build -trimpath -o "$KWOK" sigs.k8s.io/kwok/cmd/kwok)
KWOK_STAGES=$(cd "$module" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
export KWOK_STAGES
python3 "$module/ladder.py" "$work" "$@" &
pid=$!
wait "$pid"
