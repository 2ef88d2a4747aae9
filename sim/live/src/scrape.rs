//! Samples of the servers' metrics, read from the servers directly. They are read at the run's
//! start, at every sample, and at its end; a sample holds the differences to the start.

use std::collections::BTreeMap;
use std::time::Duration;

use alertstorm_agent::vault::Vault;
use alertstorm_model::event::{
    ApiCalls, AuditCount, Bucket, CpuUse, Depth, Etcd, Sample, WaitSummary,
};
use alertstorm_platform::provider::{Program, Usage};
use alertstorm_platform::{MetricsOf, Page, Platform, call};

use crate::metrics::{Buckets, lines};
use crate::reporter::Reporter;
use crate::usage::{harness_cpu, resident_max};
use kube::Client;

/// A metrics page that takes longer is left out of the sample.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The metrics that samples are made of.
const WANTED: [&str; 16] = [
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
];

/// Vault's summaries and their names in the report.
const OF_VAULT: [(&str, &str); 7] = [
    ("vault_core_handle_login_request", "vault: login"),
    ("vault_core_handle_request", "vault: request"),
    ("vault_database_postgresql_database_plugin_NewUser", "vault: a database user is made"),
    ("vault_database_postgresql_database_plugin_DeleteUser", "vault: a database user is dropped"),
    ("vault_expire_register", "vault: a lease is registered"),
    ("vault_expire_revoke", "vault: a lease is revoked"),
    ("vault_expire_renew", "vault: a lease is renewed"),
];

/// All counters at one time, since the servers' starts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By verb and resource: requests, and those rejected with 429.
    calls: BTreeMap<(String, String), (u64, u64)>,
    /// By priority level: requests dispatched and rejected, seconds in queues and in execution.
    levels: BTreeMap<String, (u64, u64, f64, f64)>,
    etcd: Etcd,
    depths: BTreeMap<String, u64>,
    /// Seconds that a component's client waited for its token bucket.
    limited: BTreeMap<&'static str, f64>,
    histograms: BTreeMap<String, Buckets>,
    cpu: BTreeMap<&'static str, (u64, u64)>,
    /// Vault's summaries: count, median and 99th percentile in milliseconds.
    vault: BTreeMap<&'static str, (u64, f64, f64)>,
}

/// Reads the servers' metrics pages.
pub struct Scraper {
    http: reqwest::Client,
    pages: Vec<MetricsOf>,
    token: String,
    scraper: Client,
    admin: Client,
    cores: u32,
    /// The counters at the run's start.
    base: Counters,
    db_bytes_max: std::sync::atomic::AtomicU64,
    /// Counts the pages that could not be read.
    reporter: Reporter,
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

impl Scraper {
    /// A scraper of a platform's metrics pages.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(
        platform: &Platform,
        token: &str,
        scraper: Client,
        tls: rustls::ClientConfig,
        reporter: Reporter,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let base = Counters::default();
        let db_bytes_max = std::sync::atomic::AtomicU64::new(0);
        let (pages, token) = (platform.metrics.clone(), token.to_owned());
        let admin = platform.admin.clone();
        Ok(Self { http, pages, token, scraper, admin, cores, base, db_bytes_max, reporter })
    }

    /// Sets the start: later samples are differences to the counters of now.
    pub async fn start(&mut self, usage: &BTreeMap<Program, Usage>, vault: Option<&Vault>) {
        self.base = self.counters(usage, vault).await;
    }

    async fn counters(&self, usage: &BTreeMap<Program, Usage>, vault: Option<&Vault>) -> Counters {
        let mut counters = Counters::default();
        for source in &self.pages {
            // A server that is down is left out of this sample.
            match self.read(&source.page).await {
                Ok(text) => counters.add(source.component, &text),
                Err(why) => {
                    let error = format!("{}: {why}", source.component);
                    self.reporter.failed("the metrics of a server", &error);
                }
            }
        }
        let nanos = |usage: &Usage| u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX);
        let cpu = usage.iter().map(|(of, usage)| (of.file(), (nanos(usage), usage.resident)));
        counters.cpu = cpu.collect();
        let harness = u64::try_from(harness_cpu().as_nanos()).unwrap_or(u64::MAX);
        counters.cpu.insert("alertstorm", (harness, resident_max()));
        if let Some(vault) = vault {
            match vault.metrics().await {
                Ok(page) => counters.add_vault(&page),
                Err(error) => self.reporter.failed("the metrics of Vault", &error),
            }
        }
        counters
    }

    async fn read(&self, page: &Page) -> Result<String, String> {
        let through = async |client: &Client, path: &str| {
            let request = http::Request::get(path).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let answer = tokio::time::timeout(TIMEOUT, client.request_text(request)).await;
            let answer = answer.map_err(|_| format!("no answer within {TIMEOUT:?}"))?;
            answer.map_err(|error| call::describe(&error))
        };
        match page {
            Page::At { url, with_token } => {
                let mut request = self.http.get(url);
                if *with_token {
                    request = request.bearer_auth(&self.token);
                }
                let failed = |error: reqwest::Error| error.to_string();
                let answer = request.send().await.map_err(failed)?;
                answer.error_for_status().map_err(failed)?.text().await.map_err(failed)
            }
            Page::ApiServer => through(&self.scraper, "/metrics").await,
            Page::Proxied(path) => through(&self.admin, path).await,
        }
    }

    /// The differences to the start. `vault` needs a token that may read `sys/metrics`. Wait summaries are only in the `last` sample.
    pub async fn sample(
        &self,
        usage: &BTreeMap<Program, Usage>,
        vault: Option<&Vault>,
        last: bool,
    ) -> Sample {
        let now = self.counters(usage, vault).await;
        let depths =
            now.depths.iter().map(|(of, depth)| Depth { of: of.clone(), depth: *depth }).collect();
        let peak =
            self.db_bytes_max.fetch_max(now.etcd.db_bytes, std::sync::atomic::Ordering::SeqCst);
        Sample {
            api_calls: self.calls(&now),
            etcd: Etcd {
                writes: now.etcd.writes.saturating_sub(self.base.etcd.writes),
                fsyncs: now.etcd.fsyncs.saturating_sub(self.base.etcd.fsyncs),
                db_bytes: now.etcd.db_bytes,
                db_bytes_max: peak.max(now.etcd.db_bytes),
            },
            buckets: self.buckets(&now),
            depths,
            cpu: self.cpu(&now),
            token_reviews: self.token_reviews(&now),
            audit: AuditCount::default(),
            waits: if last { self.waits(&now) } else { Vec::new() },
            engine_events: 0,
        }
    }

    fn calls(&self, now: &Counters) -> Vec<ApiCalls> {
        let by_verb = now.calls.iter().map(|(key, &(count, rejected))| {
            let (before, before_rejected) = self.base.calls.get(key).copied().unwrap_or_default();
            ApiCalls {
                verb: key.0.clone(),
                resource: key.1.clone(),
                count: count.saturating_sub(before),
                rejected: rejected.saturating_sub(before_rejected),
                ..ApiCalls::default()
            }
        });
        let by_level = now.levels.iter().map(|(level, &(count, rejected, wait, seats))| {
            let before = self.base.levels.get(level).copied().unwrap_or_default();
            let nanos = |now: f64, before: f64| ((now - before).max(0.0) * 1e9) as u64;
            ApiCalls {
                verb: "all".to_owned(),
                resource: "all".to_owned(),
                level: level.clone(),
                count: count.saturating_sub(before.0),
                rejected: rejected.saturating_sub(before.1),
                seat_ns: nanos(seats, before.3),
                queue_wait_ns: nanos(wait, before.2),
            }
        });
        by_verb.chain(by_level).filter(|calls| calls.count > 0).collect()
    }

    fn token_reviews(&self, now: &Counters) -> u64 {
        let key = ("create".to_owned(), "tokenreviews".to_owned());
        let of = |counters: &Counters| counters.calls.get(&key).map_or(0, |calls| calls.0);
        of(now).saturating_sub(of(&self.base))
    }

    fn buckets(&self, now: &Counters) -> Vec<Bucket> {
        let bucket = |(&client, &wait): (&&'static str, &f64)| {
            let before = self.base.limited.get(client).copied().unwrap_or(0.0);
            let name = format!("{client}: client bucket");
            let calls = self.histogram(now, &name).count();
            Bucket {
                client: client.to_owned(),
                calls,
                wait_ns: ((wait - before).max(0.0) * 1e9) as u64,
                ..Bucket::default()
            }
        };
        now.limited.iter().map(bucket).filter(|bucket| bucket.calls > 0).collect()
    }

    fn cpu(&self, now: &Counters) -> Vec<CpuUse> {
        let of = |(&process, &(busy, resident)): (&&'static str, &(u64, u64))| CpuUse {
            host: "this machine".to_owned(),
            cores: self.cores,
            process: process.to_owned(),
            busy_ns: busy.saturating_sub(self.base.cpu.get(process).map_or(0, |before| before.0)),
            resident_bytes: Some(resident),
        };
        now.cpu.iter().map(of).filter(|cpu| cpu.busy_ns > 0).collect()
    }

    fn histogram(&self, now: &Counters, what: &str) -> Buckets {
        let empty = Buckets::default();
        let of =
            |counters: &'_ Counters| counters.histograms.get(what).cloned().unwrap_or_default();
        let before = self.base.histograms.get(what).unwrap_or(&empty);
        of(now).since(before)
    }

    fn waits(&self, now: &Counters) -> Vec<WaitSummary> {
        let summary = |what: &String| {
            let during = self.histogram(now, what);
            WaitSummary {
                what: what.clone(),
                count: during.count(),
                p50_ns: during.quantile(0.5),
                p99_ns: during.quantile(0.99),
                max_ns: during.quantile(1.0),
            }
        };
        let mut all: Vec<WaitSummary> = now.histograms.keys().map(summary).collect();
        // Vault computes these quantiles over its last 10 s with such a request.
        all.extend(now.vault.iter().map(|(what, &(count, p50, p99))| {
            let before = self.base.vault.get(what).map_or(0, |before| before.0);
            let nanos = |ms: f64| if ms.is_finite() { (ms * 1e6) as u64 } else { 0 };
            WaitSummary {
                what: format!("{what} (quantiles of its last 10 s)"),
                count: count.saturating_sub(before),
                p50_ns: nanos(p50),
                p99_ns: nanos(p99),
                max_ns: nanos(p99),
            }
        }));
        all.retain(|wait| wait.count > 0);
        all
    }
}

impl Counters {
    /// Adds Vault's metrics page.
    fn add_vault(&mut self, page: &str) {
        for line in lines(page, &["vault_expire_num_leases"]) {
            let leases = "vault leases, tokens among them".to_owned();
            *self.depths.entry(leases).or_default() = line.value as u64;
        }
        for (name, what) in OF_VAULT {
            let count = format!("{name}_count");
            for line in lines(page, &[name, count.as_str()]) {
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

    fn add(&mut self, component: &'static str, page: &str) {
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
                }
                "apiserver_flowcontrol_request_execution_seconds_sum" => {
                    self.levels.entry(level()).or_default().3 += value;
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
                }
                "scheduler_pending_pods" => {
                    let queue = line.label("queue");
                    *self.depths.entry(format!("scheduler queue {queue}")).or_default() += count;
                }
                "scheduler_scheduling_attempt_duration_seconds_bucket" => {
                    histogram("scheduler: attempt".to_owned());
                }
                _ => {}
            }
        }
    }
}
