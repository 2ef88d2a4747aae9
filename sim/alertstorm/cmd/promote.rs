//! `promote`: whether the evidence justifies an agent's next trust phase. With `--backtest`: what the
//! policies do to simulated agents of known quality.

mod backtest;
mod evidence;

use std::path::{Path, PathBuf};

use alertstorm_analysis::verdict::promotion::{self, Policy, State, Tally, Verdict};
use alertstorm_reports::printable;
use alertstorm_reports::promotion::{Promotion, SCHEMA};
use anyhow::Result;

use crate::exit::{Exit, WrongInput};
use crate::{files, interrupt, out};

/// Judge whether the evidence justifies an agent's next trust phase
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The promotion policy; for --backtest, one for each phase
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    policy: Vec<PathBuf>,
    /// The folders of the runs to take as evidence
    #[arg(long, value_name = "RUN", num_args = 1.., required_unless_present = "backtest", conflicts_with = "backtest")]
    evidence: Vec<PathBuf>,
    /// Print the judgement as JSON
    #[arg(long)]
    json: bool,
    /// Simulate agents of known quality that are promoted by the policies
    #[arg(long)]
    backtest: bool,
    #[command(flatten, next_help_heading = "Backtest")]
    simulated: backtest::Simulated,
}

/// Judges the evidence, or runs the backtest.
pub fn run(args: &Args) -> Result<Exit> {
    let policies = args.policy.iter().map(|path| policy(path)).collect::<Result<Vec<_>>>()?;
    interrupt::listen()?;
    if args.backtest {
        return backtest::run(&args.simulated, &args.policy, policies, args.json);
    }
    let ([path], [policy]) = (&args.policy[..], &policies[..]) else {
        let why = "evidence is judged by a single policy, the one of its phase";
        return Err(WrongInput::of("--policy", why));
    };
    let evidence = evidence::read(&args.evidence, policy)?;
    let mut tally = Tally::new(policy);
    evidence.cases.iter().for_each(|case| tally.take(policy, case));
    tally.days = evidence.days;
    let promotion = Promotion {
        schema: SCHEMA.to_owned(),
        policy: path.display().to_string(),
        because: printable::one_line(&policy.because).into_owned(),
        evidence: evidence.runs,
        judgement: promotion::judge(policy, &tally),
    };
    if args.json {
        out::json(&promotion)?;
    } else {
        out::text(&promotion.table())?;
    }
    let judgement = &promotion.judgement;
    let against = judgement.records.iter().any(|record| record.state == State::Against);
    Ok(match judgement.verdict {
        Verdict::Promote => Exit::Held,
        Verdict::Hold if !against => Exit::Inconclusive,
        Verdict::Hold | Verdict::Demote => Exit::Missed,
    })
}

fn policy(path: &Path) -> Result<Policy> {
    let name = path.display().to_string();
    let text = files::text(path)
        .map_err(|error| WrongInput::of(&name, format!("could not read the policy: {error}")))?;
    promotion::load(&text, &name)
        .map_err(|problems| WrongInput { files: vec![(name, text)], problems }.into())
}
