//! PostgreSQL: statements on its cores, commits on its disk, a bounded number of connections.

use alertstorm_model::scenario::knobs::Postgres as Knobs;
use alertstorm_model::seed::Purpose;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::costs;
use crate::disk::Disk;
use crate::investigation::Who;
use crate::world::{Machine, World};

/// A client that finds no connection free tries again after this.
const CONNECT_AGAIN: Span = Span::millis(100);
/// A client that is refused notices after this.
const REFUSED: Span = Span::millis(2);

#[derive(Debug)]
pub(crate) struct Postgres {
    pub disk: Disk,
    pub down: bool,
    connections_max: u32,
    pub connections: u32,
}

impl Postgres {
    pub fn new(knobs: &Knobs, seed: u64) -> Self {
        Self {
            disk: Disk::new(knobs.fsync.dist, seed, Purpose::Postgres),
            down: false,
            connections_max: knobs.max_connections.get(),
            connections: 0,
        }
    }
}

impl World<'_> {
    /// A transaction of Vault's that begins at `at`: when it is committed, or nothing where the
    /// server is down.
    pub(crate) fn transaction(&mut self, at: Time, cost: Span) -> Option<Time> {
        if self.postgres.down {
            return None;
        }
        // The cores are asked now, so that none is kept idle until `at`.
        let now = self.now();
        let takes = self.work_on(Machine::Postgres, cost).since(now);
        let rtt = self.plan.scenario().cluster.network_rtt;
        Some(self.postgres.disk.commit(at + takes) + rtt * 4)
    }

    /// An agent's statement.
    pub(crate) fn statement(&mut self, who: Who) {
        if self.postgres.down {
            return self.engine.after(REFUSED, Ev::AgentActFailed(who.slot, who.generation));
        }
        if self.postgres.connections >= self.postgres.connections_max {
            return self.engine.after(CONNECT_AGAIN, Ev::AgentActs(who.slot, who.generation));
        }
        self.postgres.connections += 1;
        let done = self.work_on(Machine::Postgres, costs::POSTGRES_STATEMENT);
        let rtt = self.plan.scenario().cluster.network_rtt;
        self.engine.at(done + rtt * 2, Ev::StatementDone(who.slot, who.generation));
    }

    pub(crate) fn statement_done(&mut self, who: Who) {
        self.postgres.connections -= 1;
        self.acted(who);
    }
}
