#!/usr/bin/env bash
# Runs 1,000 Jobs whose agents exit immediately on the same servers twice: driven by KWOK and a plain
# client, and by `alertstorm run tuned-1000 --on local`. Prints Jobs per second, and each driver's CPU
# time per Job.
#
#   cargo build --release --features live && benches/beside-kwok/measure.sh [JOBS]
#
# Needs the servers (alertstorm setup local), Go for KWOK, curl and python3. All load stays on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."
jobs=${1:-1000} nodes=20
alertstorm=${ALERTSTORM:-target/release/alertstorm}
work=$(mktemp -d)
# A state folder of its own, so that no other kept platform is mistaken for this one. PostgreSQL's user
# must be able to enter it.
chmod 711 "$work"
export ALERTSTORM_STATE=$work/state
kwok=${KWOK:-$work/kwok}
pids=()
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  "$alertstorm" down >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap end EXIT
[ -x "$kwok" ] || (cd benches/beside-kwok && CGO_ENABLED=0 go build -trimpath -o "$kwok" sigs.k8s.io/kwok/cmd/kwok)

ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }

"$alertstorm" up scenarios/tuned-1000.yaml 2> "$work/up"
kubeconfig=$(sed -n 's/.*kubeconfig: //p' "$work/up")
read -r server ca token < <(python3 - "$kubeconfig" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
print(c["clusters"][0]["cluster"]["server"], c["clusters"][0]["cluster"]["certificate-authority"], c["users"][0]["user"]["token"])
P
)
# The token is in no process's arguments.
printf 'header = "Authorization: Bearer %s"\ncacert = "%s"\nsilent\nno-progress-meter\n' "$token" "$ca" > "$work/auth"
chmod 600 "$work/auth"
stages=$(cd benches/beside-kwok && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
for stage in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat-with-lease/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
  cat "$stage"
  echo ---
done > "$work/stages.yaml"
"$kwok" --kubeconfig "$kubeconfig" --manage-all-nodes --node-lease-duration-seconds=40 --config "$work/stages.yaml" \
  > "$work/kwok.log" 2>&1 &
kwok_pid=$!
pids+=("$kwok_pid")

python3 - "$server" "$nodes" "$jobs" "$work" <<'P'
import json, sys
server, nodes, jobs, work = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def requests(path, name, bodies):
    with open(f"{work}/{name}", "w") as out:
        for n, body in enumerate(bodies):
            file = f"{work}/{name}-{n}.json"
            json.dump(body, open(file, "w"))
            if n: out.write("next\n")
            out.write(f'url = "{server}{path}"\nrequest = POST\nheader = "Content-Type: application/json"\n')
            out.write(f'data = "@{file}"\noutput = /dev/null\n')
            out.write(open(f"{work}/auth").read())
room = {"cpu": "32", "memory": "256Gi", "pods": "110"}
requests("/api/v1/nodes", "nodes", [{"metadata": {"name": f"kwok-{n:02}"}, "status": {"capacity": room, "allocatable": room}} for n in range(nodes)])
spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [{"name": "agent", "image": "agent"}]}
requests("/apis/batch/v1/namespaces/default/jobs", "jobs", [{"metadata": {"name": f"job-{n:04}"}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}} for n in range(jobs)])
P
curl --config "$work/nodes"
sleep 8

python3 -c '
import subprocess, sys, time
jobs, out, auth, url = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
done, last = set(), 0.0
# A watch may end at any time; the next one starts with the current state.
while len(done) < jobs:
    with subprocess.Popen(["curl", "--config", auth, "-N", url], stdout=subprocess.PIPE, text=True) as watch:
        for line in watch.stdout:
            if "\"type\":\"Complete\",\"status\":\"True\"" in line:
                at = line.index("\"name\":\"job-") + 8
                if line[at:at + 8] not in done:
                    done.add(line[at:at + 8]); last = time.time()
            if len(done) == jobs: break
        watch.kill()
open(out, "w").write(str(last))
' "$jobs" "$work/last" "$work/auth" "$server/apis/batch/v1/namespaces/default/jobs?watch=1&timeoutSeconds=300" &
sleep 1
before=$(ticks "$kwok_pid") began=$(date +%s.%N)
curl --no-progress-meter --parallel --parallel-max 16 --config "$work/jobs"
until [ -s "$work/last" ]; do sleep 0.2; done
after=$(ticks "$kwok_pid")
python3 - "$jobs" "$began" "$(cat "$work/last")" "$before" "$after" <<'P'
import sys
jobs, began, last, before, after = [float(a) for a in sys.argv[1:]]
print(f"KWOK and a plain client: {jobs / (last - began):.1f} Jobs/s, KWOK {(after - before) * 10 / jobs:.2f} ms of CPU time per Job")
P
kill "$kwok_pid"
"$alertstorm" down > /dev/null 2>&1

"$alertstorm" run scenarios/tuned-1000.yaml --set "alerts.0.flood=$jobs" --on local -o "$work/runs" --json > "$work/report.json" || true
python3 - "$work/report.json" <<'P'
import json, sys
r = json.load(open(sys.argv[1]))
jobs = r["accounting"]["finished"]
last = next(row["max_s"] for row in r["latencies"] if (row["from"], row["to"]) == ("alert", "job_finished"))
audited = r["audited"]
print(f"alertstorm run --on local: {jobs / last:.1f} Jobs/s, harness {audited['harness_cpu_ns'] / 1e6 / jobs:.2f} ms of CPU time per Job,",
      f"send lag p99 {audited['send_lag']['p99_ns'] / 1e6:.2f} ms, invalid: {r['invalid']}")
for cpu in r["cpu"]: print(f"  {cpu['process']:26} {cpu['busy_ns'] / 1e6 / jobs:6.2f} ms a Job")
P
