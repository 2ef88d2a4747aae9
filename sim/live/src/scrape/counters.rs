//! The counters of all servers at one time, from their metrics pages.

use std::collections::BTreeMap;

use alertstorm_model::event::{Etcd, Resource};

use crate::metrics::{Buckets, lines};

/// The metrics that samples are made of.
const WANTED: [&str; 21] = [
    "apiserver_request_total",
    "apiserver_request_duration_seconds_bucket",
    "apiserver_flowcontrol_dispatched_requests_total",
    "apiserver_flowcontrol_rejected_requests_total",
    "apiserver_flowcontrol_request_wait_duration_seconds_sum",
    "apiserver_flowcontrol_request_execution_seconds_sum",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_mvcc_put_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "workqueue_depth",
    "workqueue_queue_duration_seconds_bucket",
    "rest_client_rate_limiter_duration_seconds_bucket",
    "rest_client_rate_limiter_duration_seconds_sum",
    "scheduler_pending_pods",
    "scheduler_scheduling_attempt_duration_seconds_bucket",
    "scheduler_scheduling_attempt_duration_seconds_sum",
    "scheduler_scheduling_algorithm_duration_seconds_sum",
    "workqueue_work_duration_seconds_sum",
    "etcd_disk_wal_fsync_duration_seconds_sum",
    "etcd_disk_backend_commit_duration_seconds_sum",
];

/// Vault's summaries and their names in the report. Those of the database engine are kept for all
/// plugins together, and once more for each plugin's type (`pgx` for PostgreSQL).
const OF_VAULT: [(&str, &str); 8] = [
    ("vault_core_handle_login_request", "vault: login"),
    ("vault_core_handle_request", "vault: request"),
    ("vault_database_NewUser", "vault: a database user is made"),
    ("vault_database_UpdateUser", "vault: a database user is renewed"),
    ("vault_database_DeleteUser", "vault: a database user is dropped"),
    ("vault_expire_register", "vault: a lease is registered"),
    ("vault_expire_revoke", "vault: a lease is revoked"),
    ("vault_expire_renew", "vault: a lease is renewed"),
];

/// The summaries whose requests wait for the lock of a configuration of the database engine.
const USERS: [&str; 3] =
    ["vault_database_NewUser", "vault_database_UpdateUser", "vault_database_DeleteUser"];

/// All counters at one time, since the servers' starts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By verb and resource: requests, and those rejected with 429.
    pub calls: BTreeMap<(String, String), (u64, u64)>,
    /// By priority level: requests dispatched and rejected, seconds in queues and in execution.
    pub levels: BTreeMap<String, (u64, u64, f64, f64)>,
    pub etcd: Etcd,
    pub depths: BTreeMap<String, u64>,
    /// Seconds that a component's client waited for its token bucket.
    pub limited: BTreeMap<&'static str, f64>,
    pub histograms: BTreeMap<String, Buckets>,
    pub cpu: BTreeMap<&'static str, (u64, u64)>,
    /// Vault's summaries: count, median and 99th percentile in milliseconds.
    pub vault: BTreeMap<&'static str, (u64, f64, f64)>,
    /// Seconds that each resource was occupied; those that no page reports are missing.
    pub occupied: BTreeMap<Resource, f64>,
}

/// The Kubernetes verb of an HTTP method in the API server's metrics.
fn verb(method: &str) -> String {
    match method {
        "POST" => "create",
        "PUT" => "update",
        "APPLY" | "PATCH" => "patch",
        "DELETECOLLECTION" => "deletecollection",
        other => return other.to_lowercase(),
    }
    .to_owned()
}

impl Counters {
    /// Adds Vault's metrics page.
    pub fn add_vault(&mut self, page: &str) {
        for line in lines(page, &["vault_expire_num_leases"]) {
            let leases = "vault leases, tokens among them".to_owned();
            *self.depths.entry(leases).or_default() = line.value as u64;
        }
        for (name, what) in OF_VAULT {
            let (count, sum) = (format!("{name}_count"), format!("{name}_sum"));
            for line in lines(page, &[name, count.as_str(), sum.as_str()]) {
                if line.name == sum {
                    if USERS.contains(&name) {
                        // Vault's summaries are in milliseconds.
                        self.occupy(Resource::VaultDatabaseUsers, line.value / 1e3);
                    }
                    continue;
                }
                let known = self.vault.entry(what).or_default();
                match line.label("quantile") {
                    "0.5" => known.1 = line.value,
                    "0.99" => known.2 = line.value,
                    "" if line.name == count => known.0 += line.value as u64,
                    _ => {}
                }
            }
        }
    }

    fn occupy(&mut self, resource: Resource, seconds: f64) {
        *self.occupied.entry(resource).or_default() += seconds;
    }

    /// Adds the metrics page of a component of the control plane.
    pub fn add(&mut self, component: &'static str, page: &str) {
        for line in lines(page, &WANTED) {
            let (value, count) = (line.value, line.value as u64);
            let level = || line.label("priority_level").to_owned();
            let mut histogram = |name: String| self.histograms.entry(name).or_default().add(&line);
            match line.name {
                "apiserver_request_total" if component == "kube-apiserver" => {
                    let (resource, sub) = (line.label("resource"), line.label("subresource"));
                    let resource = match sub {
                        "" => resource.to_owned(),
                        sub => format!("{resource}/{sub}"),
                    };
                    let calls = self.calls.entry((verb(line.label("verb")), resource)).or_default();
                    calls.0 += count;
                    calls.1 += if line.label("code") == "429" { count } else { 0 };
                }
                "apiserver_request_duration_seconds_bucket" if component == "kube-apiserver" => {
                    let verb = line.label("verb");
                    if matches!(verb, "POST" | "PATCH" | "PUT" | "DELETE" | "GET" | "LIST") {
                        histogram(format!("API server: {verb}"));
                    }
                }
                "apiserver_flowcontrol_dispatched_requests_total" => {
                    self.levels.entry(level()).or_default().0 += count;
                }
                "apiserver_flowcontrol_rejected_requests_total" => {
                    self.levels.entry(level()).or_default().1 += count;
                }
                "apiserver_flowcontrol_request_wait_duration_seconds_sum" => {
                    self.levels.entry(level()).or_default().2 += value;
                    self.occupy(Resource::FlowControlQueues, value);
                }
                "apiserver_flowcontrol_request_execution_seconds_sum" => {
                    self.levels.entry(level()).or_default().3 += value;
                    self.occupy(Resource::FlowControlSeats, value);
                }
                "etcd_disk_wal_fsync_duration_seconds_bucket" => {
                    histogram("etcd: sync of the write-ahead log".to_owned());
                }
                "etcd_disk_wal_fsync_duration_seconds_count" => self.etcd.fsyncs += count,
                "etcd_mvcc_put_total" => self.etcd.writes += count,
                "etcd_mvcc_db_total_size_in_bytes" => self.etcd.db_bytes = count,
                "workqueue_depth" if component == "kube-controller-manager" => {
                    let name = line.label("name");
                    if matches!(
                        name,
                        "job" | "ttl_jobs_to_delete" | "garbage_collector_attempt_to_delete"
                    ) {
                        *self.depths.entry(format!("work queue {name}")).or_default() += count;
                    }
                }
                "workqueue_queue_duration_seconds_bucket" if line.label("name") == "job" => {
                    histogram("job controller: work queue".to_owned());
                }
                "rest_client_rate_limiter_duration_seconds_bucket" => {
                    histogram(format!("{component}: client bucket"));
                }
                "rest_client_rate_limiter_duration_seconds_sum" => {
                    *self.limited.entry(component).or_default() += value;
                    // All controllers are in one metric. Collection and TTL read and delete, and are not
                    // on an investigation's path.
                    let writes = matches!(line.label("verb"), "POST" | "PUT" | "PATCH");
                    match component {
                        "kube-controller-manager" if writes => {
                            self.occupy(Resource::ControllerManagerBucket, value);
                        }
                        "kube-scheduler" => self.occupy(Resource::SchedulerBucket, value),
                        _ => {}
                    }
                }
                "scheduler_pending_pods" => {
                    let queue = line.label("queue");
                    *self.depths.entry(format!("scheduler queue {queue}")).or_default() += count;
                }
                "scheduler_scheduling_attempt_duration_seconds_bucket" => {
                    histogram("scheduler: attempt".to_owned());
                }
                "scheduler_scheduling_attempt_duration_seconds_sum" => {
                    self.occupy(Resource::SchedulerAttempts, value);
                }
                "scheduler_scheduling_algorithm_duration_seconds_sum" => {
                    self.occupy(Resource::SchedulerAlgorithm, value);
                }
                "workqueue_work_duration_seconds_sum" if line.label("name") == "job" => {
                    self.occupy(Resource::JobSyncs, value);
                }
                "etcd_disk_wal_fsync_duration_seconds_sum" => {
                    self.occupy(Resource::EtcdFsync, value);
                }
                "etcd_disk_backend_commit_duration_seconds_sum" => {
                    self.occupy(Resource::EtcdCommit, value);
                }
                _ => {}
            }
        }
    }
}
