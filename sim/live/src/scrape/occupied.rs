//! How long the platform's resources were occupied since the start of the run, from the servers'
//! counters.

use std::collections::BTreeMap;

use alertstorm_model::event::{Capacity, Occupation, Resource};
use alertstorm_model::scenario::Scenario;

/// Adds up each resource's counter over restarts of its server.
#[derive(Debug, Default)]
pub struct Occupied {
    /// The counter in the latest reading, and the sum since the start, in seconds.
    by_resource: BTreeMap<Resource, (f64, f64)>,
    capacities: BTreeMap<Resource, Capacity>,
}

/// How many occupations of each resource are possible at once, as the scenario sets up its servers.
fn capacities(scenario: &Scenario, cores: Capacity) -> BTreeMap<Resource, Capacity> {
    let manager = &scenario.cluster.control_plane.controller_manager;
    let configs = scenario.vault.secrets.database.configs.get();
    let one = Capacity::whole(1);
    [
        (Resource::Cores, cores),
        (Resource::JobSyncs, Capacity::whole(manager.concurrent_job_syncs.get())),
        (Resource::SchedulerAlgorithm, one),
        (Resource::EtcdFsync, one),
        (Resource::EtcdCommit, one),
        (Resource::VaultDatabaseUsers, Capacity::whole(configs)),
    ]
    .into()
}

impl Occupied {
    /// The start of a run: `counters` are the servers' counters in seconds. `scenario` is given where
    /// the servers were set up for it, on this number of cores.
    pub fn start(
        counters: &BTreeMap<Resource, f64>,
        scenario: Option<(&Scenario, Capacity)>,
    ) -> Self {
        let capacities =
            scenario.map_or_else(BTreeMap::new, |(scenario, cores)| capacities(scenario, cores));
        let by_resource = counters.iter().map(|(of, counter)| (*of, (*counter, 0.0))).collect();
        Self { by_resource, capacities }
    }

    /// Adds a reading; the occupations of the resources that it contains. A counter that decreased
    /// started again from 0, with its server.
    pub fn add(&mut self, counters: &BTreeMap<Resource, f64>) -> Box<[Occupation]> {
        let mut add = |(&of, &now): (&Resource, &f64)| {
            // A metric may appear with its first observation.
            let (before, sum) = self.by_resource.entry(of).or_default();
            *sum += if now >= *before { now - *before } else { now };
            *before = now;
            let capacity = self.capacities.get(&of).copied().unwrap_or_default();
            Occupation { of, busy_ns: (*sum * 1e9) as u64, capacity }
        };
        counters.iter().map(&mut add).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_server_and_a_missing_page_lose_nothing() {
        let read = |seconds: f64| BTreeMap::from([(Resource::JobSyncs, seconds)]);
        let mut occupied = Occupied::start(&read(5.0), None);
        let mut busy =
            |counters: &BTreeMap<_, _>| occupied.add(counters).first().map(|of| of.busy_ns);
        assert_eq!(busy(&read(7.0)), Some(2_000_000_000));
        assert_eq!(busy(&BTreeMap::new()), None);
        assert_eq!(busy(&read(1.0)), Some(3_000_000_000));
        assert_eq!(busy(&read(1.5)), Some(3_500_000_000));
    }
}
