//! What the shards told so far, by investigation: it sees that nothing is told twice, and is what a
//! shard that replaces another begins with.

use std::collections::BTreeMap;

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;

use super::wire::{Memory, OpenMemory, is_agents};

/// What is known of one investigation.
#[derive(Clone, Debug)]
struct Known {
    shard: u32,
    memory: OpenMemory,
    /// Since when its Job is finished.
    finished: Option<Time>,
    /// Whether nothing more will come.
    over: bool,
}

impl Known {
    const fn new(shard: u32, id: InvestigationId) -> Self {
        Self { shard, memory: OpenMemory::new(id), finished: None, over: false }
    }

    /// What a successor must know of it, where it is under way.
    fn open(&self) -> OpenMemory {
        let mut open = self.memory.clone();
        // Its pod has told how its agent ended, and whom it told that died with it: the successor
        // reads the journal again, of which nothing is told twice.
        if open.journal_read && !open.ended {
            (open.journal_read, open.cost_micro_usd) = (false, 0);
        }
        open
    }
}

/// What shards told.
#[derive(Debug, Default)]
pub struct Register(BTreeMap<InvestigationId, Known>);

impl Register {
    /// Notes an event, of `shard` or, where that is none, of one of the agents; whether it tells
    /// something new.
    pub fn record(&mut self, shard: Option<u32>, event: &Event) -> bool {
        let Some(id) = event.inv else { return true };
        // Agents, leases and their like are heard of after their shard has told of the alert.
        let known = match (self.0.get_mut(&id), shard) {
            (Some(known), _) => known,
            (None, Some(shard)) => self.0.entry(id).or_insert_with(|| Known::new(shard, id)),
            (None, None) => return true,
        };
        match &event.fact {
            &Fact::Stage { stage: Stage::JobCollected } => {
                return !std::mem::replace(&mut known.over, true);
            }
            &Fact::Stage { stage: Stage::JobFinished } => {
                return known.finished.replace(event.at).is_none();
            }
            &Fact::Stage { stage } => {
                let stages = &mut known.memory.stages;
                let late = known.finished.is_some() && is_agents(&event.fact);
                if late || stages.iter().any(|(reached, _)| *reached == stage) {
                    return false;
                }
                stages.push((stage, event.at));
            }
            Fact::JobSent => {
                known.memory.sent.get_or_insert(event.at);
            }
            Fact::Ended { .. } => return !std::mem::replace(&mut known.memory.ended, true),
            Fact::Deduplicated { .. } | Fact::Shed { .. } => {
                return !std::mem::replace(&mut known.over, true);
            }
            Fact::Hypothesis { cost_micro_usd, .. } => {
                known.memory.cost_micro_usd += cost_micro_usd;
            }
            _ => {}
        }
        true
    }

    /// Notes that an agent's journal was told; whether it was not before.
    pub fn journal(&mut self, shard: u32, id: InvestigationId) -> bool {
        let known = self.0.entry(id).or_insert_with(|| Known::new(shard, id));
        !std::mem::replace(&mut known.memory.journal_read, true)
    }

    /// What the successor of `shard` must know.
    pub fn memory(&self, shard: u32) -> Memory {
        let mut memory = Memory::default();
        for (id, known) in self.0.iter().filter(|(_, known)| known.shard == shard) {
            match (known.over, known.finished) {
                (true, _) => memory.over.push(*id),
                (false, Some(at)) => memory.finished.push((*id, at)),
                (false, None) => memory.open.push(known.open()),
            }
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alertstorm_model::investigation::{Domain, Outcome, Severity};

    #[test]
    fn a_successor_knows_what_was_told_and_tells_none_of_it_again() {
        let mut register = Register::default();
        let alert = |n: u64| Fact::Alert {
            intended: Time(n),
            domain: Domain::Network,
            severity: Severity::Low,
        };
        let stage = |stage| Fact::Stage { stage };
        let facts = [
            (0, vec![alert(0), Fact::Shed { retry_after: alertstorm_model::time::Span(1) }]),
            (3, vec![alert(3), Fact::JobSent, stage(Stage::JobCreated)]),
            (6, vec![alert(6), Fact::Ended { outcome: Outcome::Resolved }]),
        ];
        for (id, facts) in &facts {
            for (at, fact) in facts.iter().enumerate() {
                let event = Event::of(Time(at as u64), InvestigationId(*id), fact.clone());
                assert!(register.record(Some(1), &event));
            }
        }
        let finished = Event::of(Time(9), InvestigationId(6), stage(Stage::JobFinished));
        assert!(register.record(Some(1), &finished) && !register.record(Some(1), &finished));
        let late = Event::of(Time(9), InvestigationId(6), stage(Stage::AgentDone));
        assert!(!register.record(Some(1), &late), "a Job that is finished reaches no more stages");
        assert!(
            register.journal(1, InvestigationId(3)) && !register.journal(1, InvestigationId(3))
        );

        let memory = register.memory(1);
        assert_eq!(memory.over, [InvestigationId(0)]);
        assert_eq!(memory.finished, [(InvestigationId(6), Time(9))]);
        let [open] = &memory.open[..] else { panic!("{memory:?}") };
        assert!(!open.journal_read && open.sent == Some(Time(1)) && !open.ended);
        assert_eq!(open.stages, [(Stage::JobCreated, Time(2))]);
        assert_eq!(register.memory(0), Memory::default());
    }

    #[test]
    fn an_end_that_was_not_told_is_read_again() {
        let (mut register, id) = (Register::default(), InvestigationId(3));
        let of = |fact| Event::of(Time(1), id, fact);
        register.record(Some(1), &of(Fact::JobSent));
        register.journal(1, id);
        let cost = Fact::Hypothesis { tool_calls: 1, tokens: 1, cost_micro_usd: 7 };
        register.record(None, &of(cost));
        // The shard died between the journal and the outcome.
        let [open] = &register.memory(1).open[..] else { panic!("one is under way") };
        assert!(!open.journal_read && open.cost_micro_usd == 0);
        assert!(!register.journal(1, id), "what it tells again is not heard again");
        register.record(Some(1), &of(Fact::Ended { outcome: Outcome::Resolved }));
        let [open] = &register.memory(1).open[..] else { panic!("one is under way") };
        assert!(open.journal_read && open.cost_micro_usd == 7);
    }
}
