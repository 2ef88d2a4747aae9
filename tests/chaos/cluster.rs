//! A kind cluster for runs in pods: its faults, made from outside with Docker, and what exists in it.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use alertstorm_platform::provider::{Program, images};
use serde_json::Value;

/// The name of the cluster, which the cases share one after another.
pub const NAME: &str = "alertstorm-chaos";
/// A fault waits this long for what it is to hit.
const THERE_WITHIN: Duration = Duration::from_secs(60);
/// The interval of looking for it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The label of a run's containers of Vault and PostgreSQL.
const SIDECARS: &str = "label=dev.alertstorm.platform";

/// Runs `docker`; its standard output.
fn docker(args: &[&str]) -> Result<String, String> {
    command("docker", args)
}

fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).output().expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match done.status.success() {
        true => Ok(text(&done.stdout)),
        false => Err(format!("{program} {}: {}", args.join(" "), text(&done.stderr))),
    }
}

fn control_plane() -> String {
    format!("{NAME}-control-plane")
}

fn kubectl(args: &[&str]) -> Result<String, String> {
    let node = control_plane();
    let exec = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    docker(&exec.into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
}

/// The pods of all namespaces with a label.
fn pods(selector: &str) -> Result<Vec<Value>, String> {
    let list = kubectl(&["get", "pods", "-A", "-l", selector, "-o", "json"])?;
    let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn text<'v>(of: &'v Value, pointer: &str) -> &'v str {
    of.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the cluster exists.
pub fn exists() -> bool {
    let clusters = command("kind", &["get", "clusters"]).expect("kind");
    clusters.lines().any(|name| name == NAME)
}

/// Deletes the cluster.
pub fn delete() {
    command("kind", &["delete", "cluster", "--name", NAME]).expect("deleted");
}

/// Repeats `what` until it succeeds, for a minute.
fn patiently<T>(mut what: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let until = Instant::now() + THERE_WITHIN;
    loop {
        match what() {
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => sleep(LOOK_EVERY),
            done => return done,
        }
    }
}

/// Kills a server: a component's process, which its kubelet restarts, or a container.
pub fn kill(program: Program) -> Result<(), String> {
    match program {
        Program::Vault | Program::Postgres => docker(&["kill", &sidecar(program)?]).map(drop),
        component => {
            let pattern = format!("^{} ", component.file());
            docker(&["exec", &control_plane(), "pkill", "-KILL", "-f", &pattern]).map(drop)
        }
    }
}

/// The container of Vault or PostgreSQL.
fn sidecar(program: Program) -> Result<String, String> {
    let (variable, default) = match program {
        Program::Vault => ("ALERTSTORM_VAULT_IMAGE", images::VAULT),
        _ => ("ALERTSTORM_POSTGRES_IMAGE", images::POSTGRES),
    };
    let image = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let of = format!("ancestor={image}");
    let found = docker(&["ps", "--quiet", "--filter", SIDECARS, "--filter", &of])?;
    found.lines().next().map(str::to_owned).ok_or_else(|| format!("no container of {image} runs"))
}

/// Seals Vault with the token in its container's environment.
pub fn seal() -> Result<(), String> {
    let id = sidecar(Program::Vault)?;
    let env = docker(&["inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", &id])?;
    let token = env.lines().find_map(|line| line.strip_prefix("VAULT_DEV_ROOT_TOKEN_ID="));
    let done = Command::new("docker")
        .args(["exec", "--env", "VAULT_ADDR=http://127.0.0.1:8200", "--env", "VAULT_TOKEN", &id])
        .args(["vault", "operator", "seal"])
        .env("VAULT_TOKEN", token.ok_or("the container has no token")?)
        .output()
        .expect("docker");
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// The youngest pod of an agent that runs.
fn agent() -> Result<Value, String> {
    let pods = pods("alertstorm.dev/run")?;
    let running = pods.into_iter().filter(|pod| pod["status"]["phase"] == "Running");
    let youngest = running.max_by_key(|pod| text(pod, "/status/startTime").to_owned());
    youngest.ok_or_else(|| "no agent runs".to_owned())
}

fn delete_now(pod: &Value) -> Result<(), String> {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let force = ["--force", "--grace-period=0", "--wait=false"];
    let args = ["delete", "pod", "-n", namespace, name].into_iter().chain(force);
    kubectl(&args.collect::<Vec<_>>()).map(drop)
}

/// Deletes the pod of an agent by force.
pub fn delete_an_agent() -> Result<(), String> {
    patiently(|| delete_now(&agent()?))
}

/// Deletes the pod of a shard by force.
pub fn delete_a_shard() -> Result<(), String> {
    let running = |pod: &&Value| pod["status"]["phase"] == "Running";
    patiently(|| {
        let pods = pods("alertstorm.dev/part=shard")?;
        delete_now(pods.iter().find(running).ok_or("no shard runs")?)
    })
}

/// Kills the process of a shard.
pub fn kill_a_shard() -> Result<(), String> {
    patiently(|| {
        let nodes = command("kind", &["get", "nodes", "--name", NAME])?;
        let kill = ["pkill", "-KILL", "-o", "-f", "^/alertstorm shard"];
        let killed = nodes.lines().any(|node| {
            docker(&["exec", node].into_iter().chain(kill).collect::<Vec<_>>()).is_ok()
        });
        if killed { Ok(()) } else { Err("no shard runs".to_owned()) }
    })
}

/// How a worker fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// All of its processes stand still.
    Paused,
    /// It loses its power, and is started again.
    Stopped,
    /// Its kubelet stops.
    Kubelet,
}

/// A worker that is out of service.
pub struct Down {
    node: String,
    outage: Outage,
}

impl Down {
    /// Takes a worker out of service: one with an agent, or the first.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(outage: Outage, with_agent: bool) -> Result<Self, String> {
        let worker = || {
            let node = text(&agent()?, "/spec/nodeName").to_owned();
            match node == control_plane() {
                true => Err("no agent runs on a worker".to_owned()),
                false => Ok(node),
            }
        };
        let node = if with_agent { patiently(worker)? } else { format!("{NAME}-worker") };
        match outage {
            Outage::Paused => docker(&["pause", &node])?,
            Outage::Stopped => docker(&["stop", "--time", "0", &node])?,
            Outage::Kubelet => docker(&["exec", &node, "systemctl", "stop", "kubelet"])?,
        };
        Ok(Self { node, outage })
    }

    /// Brings it back.
    ///
    /// # Errors
    /// If Docker fails.
    pub fn bring_back(self) -> Result<(), String> {
        let node = self.node.as_str();
        match self.outage {
            Outage::Paused => docker(&["unpause", node]),
            Outage::Stopped => docker(&["start", node]),
            Outage::Kubelet => docker(&["exec", node, "systemctl", "start", "kubelet"]),
        }
        .map(drop)
    }
}

/// Everything that a run could leave in the cluster or in Docker.
pub fn remains() -> BTreeSet<String> {
    let kinds = "namespaces,clusterroles,clusterrolebindings,flowschemas,nodes,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let objects = patiently(|| kubectl(&["get", kinds, "--output=name"])).expect("a list");
    let containers = ["ps", "--all", "--filter", SIDECARS, "--format", "container {{.Names}}"];
    let networks = ["network", "ls", "--format", "network {{.Name}}"];
    let volumes = ["volume", "ls", "--format", "volume {{.Name}}"];
    let mut all: BTreeSet<String> = objects.lines().map(str::to_owned).collect();
    for args in [&containers[..], &networks, &volumes] {
        all.extend(docker(args).expect("a list").lines().map(str::to_owned));
    }
    all
}
