//! The third phase: the servers' counters and trails, and whether the run's own records agree with
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alertstorm_agent::vault::VaultError;
use alertstorm_model::event::{Audited, Fact};
use alertstorm_platform::Agents;
use alertstorm_platform::provider::{Progress, Provider};
use tokio::time::{Instant, sleep};

use super::drive::Driven;
use super::error::{RunError, with_causes};
use super::host::Run;
use crate::agent_reports::AgentReports;
use crate::lags::{Lag, Lags};
use crate::reporter::Observation;
use crate::tokens::{Revoked, some};
use crate::usage::resident_max;
use crate::{forensics, leases, tokens};

/// Leases whose token is revoked leave Vault's list within this time, if PostgreSQL answers.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// Reads counters and audit logs, and writes the results to the event log. If they cannot be read, the
/// run is invalid.
pub(super) async fn judge(
    driven: &mut Driven<'_>,
    provider: &Arc<dyn Provider>,
    progress: Progress<'_>,
) {
    let Driven { lead, run, trails_before, interrupted, lags, used, .. } = driven;
    progress("reading the servers' counters and audit logs");
    let compared = verdict(run, trails_before, *interrupted).await;
    // Also if the audit logs could not be read, and after an interruption.
    revoke_tokens(run, *interrupted).await;
    let failed =
        |error: &VaultError| run.agent_reports.reporter.failed("the client of Vault", error);
    let vault = provider.vault().inspect_err(failed).ok();
    let usage = provider.usage().await;
    let (mut sample, occupied) = run.scraper.sample(&usage, vault.as_ref(), true).await;
    // Also if the audit logs could not be read.
    for text in run.agent_reports.reporter.failures() {
        lead.platform(Fact::Remark { text: text.into() });
    }
    let (mut verdict, invalid) = match compared {
        // A server may be gone, or sealed. What was measured is reported.
        Err(error) => {
            lead.platform(Fact::Sample { sample: Box::new(sample) });
            lead.platform(Fact::Occupied { of: occupied });
            let why = format!("the servers' records could not be read: {}", with_causes(&error));
            for why in [why].into_iter().chain(lags.doubts()) {
                tracing::warn!(why, "the run is invalid");
                lead.platform(Fact::Invalid { why: why.into() });
            }
            return;
        }
        Ok(compared) => compared,
    };
    verdict.leases.lost = run.agent_reports.book.lost_with_storage();
    sample.audit = verdict.audit;
    lead.platform(Fact::Sample { sample: Box::new(sample) });
    lead.platform(Fact::Occupied { of: occupied });
    for why in invalid.into_iter().chain(lags.doubts()) {
        tracing::warn!(why, "the run is invalid");
        lead.platform(Fact::Invalid { why: why.into() });
    }
    let audited = audited(lags, *used, verdict);
    lead.platform(Fact::Audited { audited: Box::new(audited) });
}

/// Compares the audit logs with the run's records. Returns also why the run is invalid, if it is.
async fn verdict(
    run: &Run,
    from: &forensics::Read,
    interrupted: bool,
) -> Result<(forensics::Verdict, Vec<String>), RunError> {
    run.provider.settle_trails().await?;
    let left = listed(run).await?;
    let (trails, names) = (run.platform.trails.clone(), run.platform.names.clone());
    let (from, plan) = (*from, Arc::clone(&run.plan));
    let AgentReports { truth, book, tokens, reporter, .. } = run.agent_reports.clone();
    let in_pods = matches!(run.platform.agents, Agents::Pods(_));
    let read = tokio::task::spawn_blocking(move || {
        let (scenario, clock) = (plan.scenario(), reporter.clock());
        let run = forensics::Run { names: &names, scenario, clock, in_pods };
        let listed = (!interrupted).then_some(&left);
        forensics::judge(&trails, &run, &from, &truth, (&book, &tokens), listed)
    });
    let mut verdict = match read.await {
        Ok(verdict) => verdict?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let left = listed(run).await?;
    let vault = run.provider.vault()?;
    let alive: BTreeSet<String> = run.agent_reports.book.open().into_iter().collect();
    verdict.leases.alive = alive.intersection(&left).count() as u64;
    verdict.leases.alive_unbooked = left.difference(&alive).count() as u64;
    verdict.leases.booked_not_alive = alive.difference(&left).count() as u64;
    let login = login_path(run);
    let unanswered = verdict.unanswered_logins;
    let tokens = &run.agent_reports.tokens;
    let (now, of_tokens) = tokens::reconcile(&vault, &login, tokens, unanswered).await?;
    verdict.tokens.booked = now.booked;
    verdict.tokens.alive = now.alive;
    verdict.tokens.alive_unbooked = now.alive_unbooked;
    verdict.tokens.booked_not_alive = now.booked_not_alive;
    let mut of_leases = Vec::new();
    for (what, only) in [
        ("the ledger lacks", left.difference(&alive)),
        ("Vault does not have", alive.difference(&left)),
    ] {
        let names: Vec<String> = only.cloned().collect();
        if !names.is_empty() {
            of_leases.push(format!("{what} {}", some(&names)));
        }
    }
    let [of_trail, tokens_of_trail] = std::mem::take(&mut verdict.differences);
    let of_leases = [of_trail, of_leases].concat().join("; ");
    let of_tokens = [tokens_of_trail, of_tokens].concat().join("; ");
    let mut invalid = Vec::new();
    // After an interruption agents still run, so the records need not agree.
    if !interrupted {
        if !verdict.leases.agrees() {
            let leases = &verdict.leases;
            invalid.push(format!(
                "the lease book does not reconcile with vault: {of_leases}; {leases:?}"
            ));
        }
        if let Some(why) = unclaimed(&run.agent_reports.book.unclaimed()) {
            invalid.push(why);
        }
        if !verdict.tokens.agrees() {
            let tokens = &verdict.tokens;
            invalid.push(format!(
                "the token book does not reconcile with vault: {of_tokens}; {tokens:?}"
            ));
        }
        if !verdict.denials.agree() {
            let denials = &verdict.denials;
            invalid.push(format!("denials do not match the audit logs: {denials:?}"));
        }
    }
    Ok((verdict, invalid))
}

/// The leases that Vault lists. One that died or was sealed after the last agent is awaited.
async fn listed(run: &Run) -> Result<BTreeSet<String>, RunError> {
    let prefixes = leases::prefixes(run.plan.scenario(), &run.platform.names);
    match leases::listed(&run.provider.vault()?, &prefixes).await {
        Err(VaultError::Unavailable(why)) => {
            tracing::warn!(why, "Vault's leases could not be listed, and are listed again");
            run.provider.vault_ready().await?;
            Ok(leases::listed(&run.provider.vault()?, &prefixes).await?)
        }
        listed => Ok(listed?),
    }
}

fn login_path(run: &Run) -> String {
    run.platform.names.login_path(run.plan.scenario().vault.auth)
}

/// Revokes the tokens of the ledger that have not ended: of agents that ended without it, and after an
/// interruption of agents that the harness has stopped. An agent in a pod revokes its own on SIGTERM, and
/// is not in the ledger before it ends.
async fn revoke_tokens(run: &Run, interrupted: bool) {
    let AgentReports { tokens: book, book: of_leases, reporter, .. } = &run.agent_reports;
    let in_pods = matches!(run.platform.agents, Agents::Pods(_));
    let login = login_path(run);
    let Revoked { revoked, failed } = match run.provider.vault() {
        Ok(vault) if interrupted && !in_pods => {
            tokens::revoke_interrupted(&vault, &login, book).await
        }
        Ok(vault) => tokens::revoke_all(&vault, &login, book).await,
        Err(error) => Revoked { revoked: 0, failed: vec![error; book.open().len()] },
    };
    if revoked > 0 {
        reporter.send(Observation::Remark(format!(
            "{revoked} of the agents' Vault tokens were revoked at the end of the run: their agents had \
             not done so"
        )));
    }
    if let Some(error) = failed.first() {
        reporter.send(Observation::Remark(format!(
            "{} tokens of agents that have ended could not be revoked, and stay valid until they \
             expire or the run's auth method is deleted: {error}",
            failed.len()
        )));
    }
    // The leases of these tokens are revoked with them.
    let until = Instant::now() + REVOKED_WITHIN;
    while revoked > 0 && of_leases.alive() > 0 && Instant::now() < until {
        let asked = reporter.now();
        let prefixes = leases::prefixes(run.plan.scenario(), &run.platform.names);
        let listed = match run.provider.vault() {
            Ok(vault) => leases::listed(&vault, &prefixes).await,
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => of_leases.left(asked, &listed),
            Err(error) => return reporter.failed("the list of Vault's leases", &error),
        }
        sleep(leases::LIST_EVERY).await;
    }
}

fn unclaimed(leases: &[String]) -> Option<String> {
    (!leases.is_empty()).then(|| {
        format!(
            "{} leases that Vault listed were claimed by no agent, and no audit log shows that they \
             were issued to one of the run: {}",
            leases.len(),
            some(leases)
        )
    })
}

fn audited(lags: &Lags, used: Duration, verdict: forensics::Verdict) -> Audited {
    Audited {
        send_lag: lags.summary(Lag::Send),
        watch_lag: lags.summary(Lag::Watch),
        own_watch_lag: lags.summary(Lag::Reading),
        probe_lag: lags.summary(Lag::Probe),
        heartbeat_lag: lags.summary(Lag::Heartbeat),
        timer_lag: lags.summary(Lag::Runtime),
        harness_cpu_ns: used.as_nanos() as u64,
        harness_resident_max: resident_max(),
        leases: verdict.leases,
        tokens: verdict.tokens,
        denials: verdict.denials,
        attribution: verdict.attribution,
    }
}
