//! Files of profiles.

use crate::agent::{Profile, Profiles};
use crate::input::{Problem, Problems, read_document};
use crate::investigation::Domain;

/// Reads a file of profiles. `source` names it in problems.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_profiles(text: &str, source: &str) -> Result<Profiles, Vec<Problem>> {
    read_document(text, source, |profiles: &Profiles, found| {
        for domain in Domain::ALL {
            check(*domain, profiles.of(*domain), found);
        }
    })
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
