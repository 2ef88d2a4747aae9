"""The steps of the load ladder; started by measure.sh, which explains it. Usage: ladder.py WORK [STEP…]
[--who NAME,…] [--out FILE]"""

import argparse, collections, json, os, pathlib, re, signal, subprocess, sys, threading, time

NODES = {300: 20, 1_000: 60, 3_000: 200, 10_000: 200}
WHO = ["kubelet", "kwok", "KWOK", "paced"]
CONNECTIONS = 16
# A flood is measured until its last Job, but not longer.
GIVE_UP_S = 1_800
# Alerts per second of a paced run; two cores that run everything sustain twice as many.
PACE = 10
CPU, MEMORY, PODS = 32, "256Gi", 110
# An agent that ends at once and needs no credentials.
PROFILE = "".join(f"{domain}: {{hypotheses: 0, credentials: {{at_start: []}}}}\n"
                  for domain in ["network", "database", "application", "security"])
# The outcomes of agents whose container ends with 0, so that their Jobs become Complete.
CONCLUDED = {"resolved", "inconclusive", "escalated"}
TICK_MS = 1_000 / os.sysconf("SC_CLK_TCK")
# By their names in a platform's record.
SERVERS = {"ApiServer": "kube-apiserver", "Etcd": "etcd", "ControllerManager": "kube-controller-manager",
           "Scheduler": "kube-scheduler", "Vault": "vault", "Postgres": "postgres"}
# Long-running requests are counted by the gauge apiserver_longrunning_requests instead.
CALL = re.compile(r'^apiserver_request_total\{(.*)\} (\S+)$')
OF_WATCH = re.compile(r'^apiserver_watch_events_(total|sizes_sum)\{(.*)\} (\S+)$')
RUNNING = re.compile(r'^apiserver_longrunning_requests\{(.*)\} (\S+)$')
LABEL = re.compile(r'(\w+)="([^"]*)"')

work = pathlib.Path(sys.argv[1])
alertstorm = os.environ["ALERTSTORM"]
os.environ["ALERTSTORM_STATE"] = str(work / "state")
children = []


def scenario(jobs, runtime, over=None):
    """The settings of the measured floods, as a file."""
    flood = {"flood": jobs} | ({"over": f"{over['s']}s"} if over else {})
    bucket = {"kube_api_qps": 1000, "kube_api_burst": 2000}
    text = {
        "name": f"ladder-{jobs}", "seed": jobs, "alerts": [flood], "agents": "profile.yaml",
        "identity": "shared-agent",
        "controller": {"admission": "direct", "client": {"connections": CONNECTIONS},
                       "job": {"active_deadline": "1h", "ttl_after_finished": "2h"}},
        "cluster": {
            "nodes": NODES.get(jobs, 200) if not over else over["nodes"],
            "node": {"runtime": runtime, "cpu": CPU, "memory": MEMORY, "pods": PODS},
            "control_plane": {"controller_manager": bucket | {"concurrent_job_syncs": 20},
                              "scheduler": bucket},
        },
    }
    (work / "profile.yaml").write_text(PROFILE)
    path = work / f"{text['name']}.yaml"
    path.write_text(json.dumps(text))
    return path


class Platform:
    """Fresh servers, kept for one measurement."""

    def __init__(self, path):
        up = subprocess.run([alertstorm, "up", path], stderr=subprocess.PIPE, text=True)
        if up.returncode:
            sys.exit(up.stderr)
        config = re.search(r"kubeconfig: (.*)", up.stderr)[1]
        self.kubeconfig = config
        config = json.load(open(config))
        self.server = config["clusters"][0]["cluster"]["server"]
        # The token is in no process's arguments.
        auth = work / "auth"
        auth.touch(mode=0o600)
        auth.write_text(
            f'header = "Authorization: Bearer {config["users"][0]["user"]["token"]}"\n'
            f'cacert = "{config["clusters"][0]["cluster"]["certificate-authority"]}"\n'
            "silent\nno-progress-meter\n")
        self.auth = auth
        record = json.load(open(next((work / "state/local").glob("*/platform.json"))))
        self.pids = {SERVERS[name]: id["pid"] for name, id in record["servers"] if name in SERVERS}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait()
        children.clear()
        subprocess.run([alertstorm, "down"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(self, path):
        return subprocess.run(["curl", "--config", self.auth, self.server + path],
                              stdout=subprocess.PIPE, text=True, check=True).stdout

    def counters(self):
        """Calls by verb and resource, watch events and their bytes, watches, and processor time."""
        calls, events = collections.Counter(), collections.Counter()
        watches = collections.Counter()
        for line in self.get("/metrics").splitlines():
            if found := CALL.match(line):
                label = dict(LABEL.findall(found[1]))
                if label["verb"] != "WATCH":
                    what = label["resource"] + ("/" + label["subresource"] if label["subresource"] else "")
                    calls[label["verb"], what] += float(found[2])
            elif found := OF_WATCH.match(line):
                label = dict(LABEL.findall(found[2]))
                if label["resource"] in ("pods", "jobs", "nodes", "leases"):
                    unit, by = ("kB", 1_000) if found[1] == "sizes_sum" else ("events", 1)
                    events[label["resource"], unit] += float(found[3]) / by
            elif found := RUNNING.match(line):
                label = dict(LABEL.findall(found[1]))
                if label["verb"] == "WATCH":
                    watches[label["resource"]] += float(found[2])
        return {"calls": calls, "events": events, "watches": watches} | self.used()

    def used(self):
        """Processor time of the servers."""
        return {"cpu": {name: ticks(pid) for name, pid in self.pids.items()}}


def ticks(pid):
    """Processor time of a process in milliseconds."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


class Memory(threading.Thread):
    """The resident memory of a process in bytes: at the start, and at most."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.first, self.peak, self.over = f"/proc/{pid}/statm", 0, 0, threading.Event()
        self.first = self.peak = self.now()
        self.start()

    def now(self):
        try:
            return int(open(self.path).read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def run(self):
        while not self.over.wait(0.1):
            self.peak = max(self.peak, self.now())

    def stop(self):
        self.over.set()
        self.join()
        return max(self.peak - self.first, 0)


def difference(after, before, jobs):
    """Per Job: calls, watch events and bytes, server CPU."""
    return {
        "calls": {" ".join(key): (n - before["calls"][key]) / jobs for key, n in after["calls"].items()
                  if n > before["calls"][key]},
        "events": {" ".join(key): (n - before["events"][key]) / jobs for key, n in after["events"].items()
                   if n > before["events"][key]},
        "watches": {key: int(n) for key, n in after["watches"].items() if key in ("pods", "jobs", "nodes", "leases")},
        "servers": {name: (n - before["cpu"][name]) / jobs for name, n in after["cpu"].items()},
    }


def own(jobs, runtime, over=None):
    """A run of alertstorm."""
    path = scenario(jobs, runtime, over)
    with Platform(path) as platform, open(work / "report.json", "w") as report:
        runs, before = work / "runs", platform.counters()
        run = subprocess.Popen([alertstorm, "run", path, "--on", "local", "-o", runs, "--json"],
                               stdout=report, stderr=open(work / "run.log", "w"))
        children.append(run)
        events = runs / f"ladder-{jobs}-{jobs}-1" / "events.jsonl"
        until = time.time() + GIVE_UP_S
        while not (events.exists() and events.stat().st_size) and run.poll() is None:
            time.sleep(0.05)
        if run.poll() is not None:
            sys.exit((work / "run.log").read_text())
        # Calls count from before the run's preparation, which makes about a hundred and five for each node.
        before |= platform.used()
        memory, watches = Memory(run.pid), {}
        live, peak, finished, lines = 0, 0, 0, open(events)
        while finished < jobs and run.poll() is None and time.time() < until:
            line = lines.readline()
            if not line.endswith("\n"):
                time.sleep(0.05)
                lines.seek(lines.tell() - len(line))
            elif '"admitted"' in line:
                live += 1
                peak = max(peak, live)
            elif '"job_finished"' in line and '"stage"' in line and '"waited"' not in line:
                live, finished = live - 1, finished + 1
                watches = watches or platform.counters()["watches"]
        grown, after = memory.stop(), platform.counters() | {"watches": watches}
        if run.poll() is None and finished < jobs:
            run.send_signal(signal.SIGINT)
        run.wait()
        done, took = completed(events)
        subprocess.run(["rm", "-rf", runs])
    r = json.load(open(work / "report.json"))
    audited = r["audited"]
    return difference(after, before, jobs) | {
        "accounted": f"{done} of {jobs}", "invalid": r["invalid"], "rate": done / took if done else 0,
        "cpu": audited["harness_cpu_ns"] / 1e6 / jobs,
        "memory": grown / max(peak, 1), "live": peak,
        "send": audited["send_lag"]["p99_ns"] / 1e6, "watch": audited["watch_lag"]["p99_ns"] / 1e6,
        "probe": audited["probe_lag"]["p99_ns"] / 1e6, "reading": audited["own_watch_lag"]["p99_ns"] / 1e6,
    }


def completed(events):
    """The Jobs that became Complete, as in the row of KWOK, and the seconds from the first alert to the
    last of them. A Job is Complete if its agent came to a conclusion."""
    concluded, finished, first = set(), {}, None
    for line in open(events):
        event = json.loads(line)
        match event:
            case {"fact": "alert", "intended": at}:
                first = at if first is None else min(first, at)
            case {"fact": "ended", "inv": inv, "outcome": outcome} if outcome in CONCLUDED:
                concluded.add(inv)
            case {"fact": "stage", "inv": inv, "stage": "job_finished", "t_ns": at}:
                finished[inv] = at
    ends = [at for inv, at in finished.items() if inv in concluded]
    return len(ends), (max(ends) - first) / 1e9 if ends else 0


def requests(platform, path, name, bodies):
    """A configuration of curl with one request for each body."""
    auth = platform.auth.read_text()
    # It holds the administrator's token.
    (work / name).touch(mode=0o600)
    with open(work / name, "w") as out:
        for number, body in enumerate(bodies):
            file = work / f"{name}-{number}.json"
            file.write_text(json.dumps(body))
            out.write("next\n" if number else "")
            out.write(f'url = "{platform.server}{path}"\nrequest = POST\nheader = "Content-Type: application/json"\n'
                      f'data = "@{file}"\noutput = /dev/null\n{auth}')
    return work / name


def job(number, small):
    """The Job that alertstorm creates, or with as few fields as possible."""
    name = f"job-{number:05}"
    if small:
        spec = {"restartPolicy": "Never", "automountServiceAccountToken": False,
                "containers": [{"name": "agent", "image": "agent"}]}
        return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}
    labels = {"app.kubernetes.io/managed-by": "alertstorm", "alertstorm.dev/plan": "0123abcd",
              "alertstorm.dev/investigation": f"inv-{number}", "alertstorm.dev/domain": "network",
              "alertstorm.dev/phase": "read-only-assist", "alertstorm.dev/run": "0123abcd"}
    token = lambda path, more: {"serviceAccountToken": {"path": path, "expirationSeconds": 3607} | more}
    container = {
        "name": "agent", "image": "alertstorm/agent", "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "volumeMounts": [{"name": "tokens", "mountPath": "/var/run/tokens", "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never", "serviceAccountName": "default", "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tokens", "projected": {"sources": [
            token("vault", {"audience": "vault"}), token("kubernetes", {}),
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
    }
    return {"metadata": {"name": name, "labels": labels},
            "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 7200,
                     "template": {"metadata": {"labels": labels}, "spec": spec}}}


def of_kwok(jobs, small=False):
    """KWOK and a plain client."""
    with Platform(scenario(jobs, "kwok")) as platform:
        stages = pathlib.Path(os.environ["KWOK_STAGES"])
        files = [file for folder in ["node/fast", "node/heartbeat-with-lease", "pod/fast"]
                 for file in sorted((stages / folder).glob("*-*.yaml"))]
        (work / "stages.yaml").write_text("\n---\n".join(file.read_text() for file in files))
        kwok = subprocess.Popen([os.environ["KWOK"], "--kubeconfig", platform.kubeconfig, "--manage-all-nodes",
                                 "--node-lease-duration-seconds=40", "--config", work / "stages.yaml"],
                                stdout=open(work / "kwok.log", "w"), stderr=subprocess.STDOUT)
        children.append(kwok)
        room = {"cpu": str(CPU), "memory": MEMORY, "pods": str(PODS)}
        nodes = ({"metadata": {"name": f"kwok-{n:03}"}, "status": {"capacity": room, "allocatable": room}}
                 for n in range(NODES.get(jobs, 200)))
        subprocess.run(["curl", "--config", requests(platform, "/api/v1/nodes", "nodes", nodes)], check=True)
        while any(node["spec"].get("taints") for node in json.loads(platform.get("/api/v1/nodes"))["items"]):
            time.sleep(0.5)
        path = "/apis/batch/v1/namespaces/default/jobs"
        create = requests(platform, path, "jobs", (job(number, small) for number in range(jobs)))
        done, last, client = set(), [0.0], [0.0]

        def follow():
            # A watch may end at any time; the next one starts with the current state.
            while len(done) < jobs:
                watch = subprocess.Popen(["curl", "--config", platform.auth, "-N",
                                          f"{platform.server}{path}?watch=1&timeoutSeconds=3000"],
                                         stdout=subprocess.PIPE, text=True)
                children.append(watch)
                for line in watch.stdout:
                    if '"type":"Complete","status":"True"' in line:
                        at = line.index('"name":"job-') + 8
                        if line[at:at + 9] not in done:
                            done.add(line[at:at + 9])
                            last[0] = time.time()
                    if len(done) == jobs:
                        break
                client[0] += ticks(watch.pid)
                watch.kill()
                watch.wait()

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        time.sleep(1)
        memory, before, used, began = Memory(kwok.pid), platform.counters(), ticks(kwok.pid), time.time()
        curl = subprocess.Popen(["curl", "--no-progress-meter", "--parallel", "--parallel-max", str(CONNECTIONS),
                                 "--config", create])
        children.append(curl)
        client_create = 0.0
        while curl.poll() is None:
            client_create = ticks(curl.pid) if curl.poll() is None else client_create
            time.sleep(0.1)
        follower.join(GIVE_UP_S)
        used, grown, after = ticks(kwok.pid) - used, memory.stop(), platform.counters()
        return difference(after, before, jobs) | {
            "accounted": f"{len(done)} of {jobs}", "invalid": [], "rate": len(done) / (last[0] - began),
            "cpu": used / jobs, "client": (client[0] + client_create) / jobs,
            "memory": grown / jobs, "live": jobs, "send": None, "watch": None, "probe": None, "reading": None,
        }


def number(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def row(jobs, who, r):
    calls = sum(r["calls"].values())
    return [f"{jobs:,}", who, r["accounted"] + (" invalid" if r["invalid"] else ""), number(r["rate"]),
            number(r["cpu"], 2), number(r["memory"] / 1e3), number(r["send"], 2), number(r["watch"]),
            number(r["probe"]), number(r["reading"]), number(calls), number(r["servers"]["kube-apiserver"])]


HEAD = ["Jobs", "who", "complete", "Jobs/s", "CPU ms/Job", "kB/live", "send p99 ms", "watch p99 ms",
        "probe", "its own part", "calls/Job", "API server ms/Job"]


def table(head, rows):
    width = [max(len(line[n]) for line in [head, *rows]) for n in range(len(head))]
    for line in [head, ["-" * w for w in width], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, width)) + " |", flush=True)


def breakdown(results, part, title):
    """One table of a part of the results: a row for each kind, a column for each measurement."""
    of = [(f"{jobs:,} {who}", r[part]) for jobs, who, r in results]
    most = lambda kind: max(values.get(kind, 0) for _, values in of)
    kinds = sorted({kind for _, values in of for kind in values if most(kind) >= 0.05}, key=lambda kind: -most(kind))
    print(f"\n{title}")
    table(["", *(name for name, _ in of)],
          [[kind, *(number(values.get(kind, 0), 0 if part == "watches" else 2) for _, values in of)] for kind in kinds])


def main():
    parse = argparse.ArgumentParser(prog="measure.sh")
    parse.add_argument("work")
    parse.add_argument("steps", nargs="*", type=int, default=[])
    parse.add_argument("--who", default=",".join(WHO), help="kubelet, kwok, KWOK, KWOK-small, paced")
    parse.add_argument("--out", help="a file for all results, as JSON")
    args = parse.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    for jobs in args.steps or NODES:
        for who in args.who.split(","):
            if who == "paced":
                paced = min(jobs, 300)
                over = {"s": paced // PACE, "nodes": NODES.get(jobs, 200)}
                measured = [(f"{runtime} at {PACE}/s", own(paced, runtime, over)) for runtime in ["kubelet", "kwok"]]
            elif who in ("KWOK", "KWOK-small"):
                measured = [(who, of_kwok(jobs, who == "KWOK-small"))]
            else:
                measured = [(who, own(jobs, who))]
            for name, result in measured:
                results.append((jobs, name, result))
                print(" ".join(f"{h}: {c};" for h, c in zip(HEAD, row(jobs, name, result))), *result["invalid"],
                      file=sys.stderr, flush=True)
    print(f"\nCPU: of alertstorm, or of KWOK without its client. Memory: growth of the resident set for each of the "
          f"investigations that were alive at once.\n")
    table(HEAD, [row(*result) for result in results])
    breakdown(results, "calls", "Calls to the API server per Job, of all its clients")
    breakdown(results, "events", "Watch events and their size per Job, to all clients")
    breakdown(results, "watches", "Watches that were open")
    breakdown(results, "servers", "Processor time of the servers per Job in ms")
    if args.out:
        json.dump(results, open(args.out, "w"), indent=1)


main()
