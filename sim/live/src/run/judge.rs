//! The third phase: the servers' counters and trails, and whether the run's own records agree with
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::event::{Audited, Fact};
use alertstorm_platform::provider::{Progress, Provider};

use super::drive::Driven;
use super::error::RunError;
use super::host::Run;
use crate::agent_reports::AgentReports;
use crate::lags::{Lag, Lags};
use crate::reporter::Observation;
use crate::usage::resident_max;
use crate::{forensics, leases, tokens};

/// Reads counters and audit logs, and writes the results to the event log.
pub(super) async fn judge(
    driven: &mut Driven<'_>,
    provider: &Arc<dyn Provider>,
    progress: Progress<'_>,
) -> Result<(), RunError> {
    let Driven { lead, run, trails_before, interrupted, lags, used, .. } = driven;
    progress("reading the servers' counters and audit logs");
    let compared = verdict(run, trails_before, *interrupted).await;
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
        // The servers may be gone. What exists is reported.
        Err(error) if lead.is_aborted() => {
            let why = format!("the servers' records could not be read: {error}");
            lead.platform(Fact::Invalid { why: why.into() });
            return Ok(());
        }
        compared => compared?,
    };
    verdict.leases.lost = run.lost.load(Ordering::SeqCst) as u64;
    sample.audit = verdict.audit;
    lead.platform(Fact::Sample { sample: Box::new(sample) });
    lead.platform(Fact::Occupied { of: occupied });
    for why in invalid.into_iter().chain(lags.doubts()) {
        tracing::warn!(why, "the run is invalid");
        lead.platform(Fact::Invalid { why: why.into() });
    }
    let audited = audited(lags, *used, verdict);
    lead.platform(Fact::Audited { audited: Box::new(audited) });
    Ok(())
}

/// Compares the audit logs with the run's records. Returns also why the run is invalid, if it is.
async fn verdict(
    run: &Run,
    from: &forensics::Read,
    interrupted: bool,
) -> Result<(forensics::Verdict, Vec<String>), RunError> {
    run.provider.settle_trails().await?;
    let (trails, names) = (run.platform.trails.clone(), run.platform.names.clone());
    let (from, AgentReports { truth, book, tokens, .. }) = (*from, run.agent_reports.clone());
    let read = tokio::task::spawn_blocking(move || {
        forensics::judge(&trails, &names, &from, &truth, (&book, &tokens))
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
    let (names, auth) = (&run.platform.names, run.plan.scenario().vault.auth);
    let now = tokens::reconcile(&vault, names, auth, &run.agent_reports.tokens).await?;
    verdict.tokens.alive = now.alive;
    verdict.tokens.alive_unbooked = now.alive_unbooked;
    verdict.tokens.booked_not_alive = now.booked_not_alive;
    let mut invalid = Vec::new();
    // After an interruption agents still run, so the records need not agree.
    if !interrupted {
        if !verdict.leases.agrees() {
            let leases = &verdict.leases;
            invalid.push(format!("the lease book does not reconcile with vault: {leases:?}"));
        }
        if let Some(why) = unclaimed(run.agent_reports.book.unclaimed()) {
            invalid.push(why);
        }
        if !verdict.tokens.agrees() {
            let tokens = &verdict.tokens;
            invalid.push(format!("the token book does not reconcile with vault: {tokens:?}"));
        }
        revoke_tokens(run, &vault).await;
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

/// Revokes the tokens of agents that have ended without it. An agent that is interrupted revokes its
/// own.
async fn revoke_tokens(run: &Run, vault: &Vault) {
    let AgentReports { tokens: book, reporter, .. } = &run.agent_reports;
    let login = run.platform.names.login_path(run.plan.scenario().vault.auth);
    let failed = tokens::revoke_all(vault, &login, book).await;
    if let Some(error) = failed.first() {
        reporter.send(Observation::Remark(format!(
            "{} tokens of agents that have ended could not be revoked, and stay valid until they \
             expire or the run's auth method is deleted: {error}",
            failed.len()
        )));
    }
}

fn unclaimed(leases: usize) -> Option<String> {
    (leases > 0).then(|| {
        format!("{leases} leases that Vault listed were claimed by no agent: a journal, or Vault's response, was lost")
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
