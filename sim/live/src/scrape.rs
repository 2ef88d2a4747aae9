//! Samples of the servers' metrics, read from the servers directly. They are read at the run's
//! start, at every sample, and at its end; a sample holds the differences to the start.

mod counters;
mod occupied;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alertstorm_agent::vault::Vault;
use alertstorm_model::event::{
    ApiCalls, AuditCount, Bucket, CpuUse, Depth, Etcd, Occupation, Resource, Sample, WaitSummary,
};
use alertstorm_platform::provider::{Program, Usage};
use alertstorm_platform::{Agents, MetricsOf, Page, Platform, call};

use alertstorm_model::scenario::Scenario;
use kube::Client;

use crate::cores::Cores;
use crate::metrics::Buckets;
use crate::reporter::Reporter;
use crate::usage::{harness_cpu, resident_max};
use counters::Counters;
use occupied::Occupied;

/// A metrics page that takes longer is left out of the sample.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Reads the servers' metrics pages.
pub struct Scraper {
    http: reqwest::Client,
    pages: Vec<MetricsOf>,
    token: String,
    scraper: Client,
    admin: Client,
    /// Those that the servers run on, if they run on this machine.
    cores: Cores,
    /// The counters at the run's start.
    base: Counters,
    db_bytes_max: std::sync::atomic::AtomicU64,
    occupied: Mutex<Occupied>,
    /// Whether the servers run on this machine.
    here: bool,
    /// Counts the pages that could not be read.
    reporter: Reporter,
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
        // The processes of the local provider are children of this one; kind's are not.
        let cores = match platform.agents {
            Agents::Hollow(_) => Cores::of_this_process(),
            Agents::Pods(_) => Cores::of_the_machine(),
        };
        let base = Counters::default();
        let db_bytes_max = std::sync::atomic::AtomicU64::new(0);
        let (pages, token) = (platform.metrics.clone(), token.to_owned());
        let admin = platform.admin.clone();
        let occupied = Mutex::default();
        let here = false;
        Ok(Self {
            http,
            pages,
            token,
            scraper,
            admin,
            cores,
            base,
            db_bytes_max,
            occupied,
            here,
            reporter,
        })
    }

    /// Sets the start: later samples are differences to the counters of now. `usage` is empty where the
    /// servers run elsewhere; they were not set up for `scenario` then.
    pub async fn start(
        &mut self,
        usage: &BTreeMap<Program, Usage>,
        vault: Option<&Vault>,
        scenario: &Scenario,
    ) {
        self.here = !usage.is_empty();
        self.base = self.counters(usage, vault).await;
        let set_up = self.here.then_some((scenario, self.cores.capacity()));
        self.occupied = Mutex::new(Occupied::start(&self.base.occupied, set_up));
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
        if self.here
            && let Some(busy) = self.cores.busy()
        {
            counters.occupied.insert(Resource::Cores, busy.as_secs_f64());
        }
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

    /// The differences to the start, and how long resources were occupied since then. `vault` needs a token
    /// that may read `sys/metrics`. Wait summaries are only in the `last` sample.
    pub async fn sample(
        &self,
        usage: &BTreeMap<Program, Usage>,
        vault: Option<&Vault>,
        last: bool,
    ) -> (Sample, Box<[Occupation]>) {
        let now = self.counters(usage, vault).await;
        let occupied =
            self.occupied.lock().unwrap_or_else(PoisonError::into_inner).add(&now.occupied);
        let depths =
            now.depths.iter().map(|(of, depth)| Depth { of: of.clone(), depth: *depth }).collect();
        let peak =
            self.db_bytes_max.fetch_max(now.etcd.db_bytes, std::sync::atomic::Ordering::SeqCst);
        let sample = Sample {
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
        };
        (sample, occupied)
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
                count: count.saturating_sub(before.0),
                rejected: rejected.saturating_sub(before.1),
                seat_ns: nanos(seats, before.3),
                queue_wait_ns: nanos(wait, before.2),
                ..ApiCalls::of_level(level)
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
            cores: self.cores.count().ceil() as u32,
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
