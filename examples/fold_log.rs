//! Reads the event log of a run's folder: counts facts by kind, and computes the measures again.
//!
//!     cargo run --example fold_log -- runs/NAME-SEED-1

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::{env, fs};

use alertstorm_analysis::measure::Measures;
use alertstorm_model::event::{Event, Sink};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).ok_or("expected the folder of a run")?;
    let log = fs::File::open(Path::new(&folder).join("events.jsonl"))?;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut measures = Measures::default();
    for line in BufReader::new(log).lines() {
        let line = line?;
        let event: Event = serde_json::from_str(&line)?;
        let fields: serde_json::Value = serde_json::from_str(&line)?;
        *kinds.entry(fields["fact"].to_string()).or_default() += 1;
        measures.take(&event);
    }
    measures.close();
    for (kind, count) in kinds {
        println!("{count:>8} {kind}");
    }
    println!("{} events, digest {}", measures.events(), measures.digest());
    Ok(())
}
