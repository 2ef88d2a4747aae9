//! A file of profiles: typed, and checked for what types cannot say.

use super::check::in_order;
use super::problem::{Problem, Problems};
use super::yaml::Node;
use crate::agent::{Profile, Profiles};
use crate::investigation::Domain;

/// Reads a file of profiles. `source` names it in problems.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_profiles(text: &str, source: &str) -> Result<Profiles, Vec<Problem>> {
    let root = Node::parse(text, source)?;
    let found = match deserr::deserialize::<Profiles, _, Problems>(root.clone()) {
        Ok(profiles) => {
            let mut found = Problems::default();
            for domain in Domain::ALL {
                check(*domain, profiles.of(*domain), &mut found);
            }
            if found.0.is_empty() {
                return Ok(profiles);
            }
            found
        }
        Err(found) => found,
    };
    Err(in_order(found.0.into_iter().map(|at| root.locate(source, at)).collect()))
}

fn check(domain: Domain, profile: &Profile, found: &mut Problems) {
    let fails = &profile.failures;
    let sum = fails.crash.0 + fails.oom.0 + fails.endless_loop.0 + fails.gives_up.0;
    if sum > 1.0 {
        let message = format!("the shares of failures add up to {sum}, above 1");
        found.add(&format!("{domain}.failures"), message, None);
    }
    let to = &profile.conclusions;
    if to.resolved.0 + to.inconclusive.0 + to.escalated.0 <= 0.0 {
        let at = format!("{domain}.conclusions");
        found.add(&at, "expected at least one weight above 0", None);
    }
    for (i, need) in profile.credentials.mid_run.iter().enumerate() {
        if need.domain.is_none() {
            let help = Some(format!("add `domain:`, one of {}", Domain::WORDS.join(", ")));
            let at = format!("{domain}.credentials.mid_run.{i}");
            found.add(&at, "a credential needs its domain", help);
        }
    }
}
