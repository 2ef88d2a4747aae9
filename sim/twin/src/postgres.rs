//! PostgreSQL: statements on its cores, commits on its disk, a bounded number of connections.

use alertstorm_model::scenario::knobs::Postgres as Knobs;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::costs;
use crate::disk::Disk;
use crate::investigation::Inv;
use crate::machines::Server;
use crate::streams;
use crate::world::World;

/// The pause of a client after "too many connections".
const CONNECT_AGAIN: Span = Span::millis(100);
/// The time until a client notices that its connection is refused.
const REFUSED: Span = Span::millis(2);

#[derive(Debug)]
pub(crate) struct Postgres {
    disk: Disk,
    down: bool,
    connections_max: u32,
    connections: u32,
}

/// Why a connection fails.
enum Refused {
    Down,
    Full,
}

impl Postgres {
    pub fn new(knobs: &Knobs, seed: u64) -> Self {
        Self {
            disk: Disk::new(knobs.fsync.dist, streams::postgres(seed)),
            down: false,
            connections_max: knobs.max_connections.get(),
            connections: 0,
        }
    }

    pub const fn stop(&mut self) {
        self.down = true;
    }

    pub const fn start(&mut self) {
        self.down = false;
    }

    const fn connect(&mut self) -> Result<(), Refused> {
        if self.down {
            return Err(Refused::Down);
        }
        if self.connections >= self.connections_max {
            return Err(Refused::Full);
        }
        self.connections += 1;
        Ok(())
    }
}

impl World<'_> {
    /// A transaction of Vault that begins at `at`. Returns when it is committed; `None` if the
    /// server is down.
    pub(crate) fn transaction(&mut self, at: Time, cost: Span) -> Option<Time> {
        if self.postgres.down {
            return None;
        }
        // Queued for a core now, as a core that is reserved from `at` on would idle until then.
        let now = self.now();
        let takes = self.work_on(Server::Postgres, cost).since(now);
        let rtt = self.plan.scenario().cluster.network_rtt;
        Some(self.postgres.disk.commit(at + takes) + rtt * 4)
    }

    /// A statement of an agent, which needs a connection.
    pub(crate) fn run_statement(&mut self, who: Key<Inv>) {
        match self.postgres.connect() {
            Err(Refused::Down) => self.engine.after(REFUSED, Ev::AgentActFailed(who)),
            Err(Refused::Full) => self.engine.after(CONNECT_AGAIN, Ev::AgentActs(who)),
            Ok(()) => {
                let done = self.work_on(Server::Postgres, costs::POSTGRES_STATEMENT);
                let rtt = self.plan.scenario().cluster.network_rtt;
                self.engine.at(done + rtt * 2, Ev::StatementDone(who));
            }
        }
    }

    pub(crate) fn on_statement_done(&mut self, who: Key<Inv>) {
        self.postgres.connections -= 1;
        self.on_action_answer(who);
    }
}
