//! `doctor`: what is there and what is missing for each world.

use anyhow::Result;

use crate::exit::Exit;

/// Say what is there and what is missing for each world, and what gets it
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Looks at each world.
#[cfg(feature = "live")]
pub fn run(_: &Args) -> Result<Exit> {
    use alertstorm_live::provider::local::doctor::{self, Finding};

    anstream::println!("twin     ready: it needs nothing");
    let mut worlds: Vec<(&str, Vec<Finding>)> = vec![("local", doctor::local())];
    if worlds[0].1.iter().any(|finding| finding.found.is_none()) {
        worlds[0].1.extend(doctor::setup());
    }
    worlds.push(("kind", doctor::kind()));
    worlds.push(("cluster", doctor::cluster()));
    for (world, findings) in &worlds {
        let missing = findings.iter().filter(|finding| finding.found.is_none()).count();
        let state = if missing == 0 { "ready".to_owned() } else { format!("{missing} missing") };
        anstream::println!("{world:8} {state}");
        for Finding { what, found, got_by } in findings {
            match found {
                Some(place) => anstream::println!("  ✓ {what:24} {place}"),
                None => anstream::println!("  ✗ {what:24} {got_by}"),
            }
        }
    }
    let local = worlds[0].1.iter().all(|finding| finding.found.is_some());
    Ok(if local { Exit::Held } else { Exit::Missing })
}

/// The twin alone.
#[cfg(not(feature = "live"))]
pub fn run(_: &Args) -> Result<Exit> {
    anstream::println!("twin     ready: it needs nothing");
    anstream::println!("local, kind, cluster: {}", crate::live::ABSENT);
    Ok(Exit::Held)
}
