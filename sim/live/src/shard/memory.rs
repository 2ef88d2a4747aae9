//! What the shards have reported, by investigation. It drops events that are reported twice, and is
//! the state that a replaced shard's successor starts with.

use std::collections::BTreeMap;

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::{InvestigationId, Stage};
use alertstorm_model::time::Time;

use super::wire::{Memory, OpenMemory, is_agents};

/// The reported state of one investigation.
#[derive(Clone, Debug)]
struct Known {
    shard: u32,
    memory: OpenMemory,
    /// When its Job finished.
    finished: Option<Time>,
    /// Whether there is nothing more to report.
    over: bool,
}

impl Known {
    const fn new(shard: u32, id: InvestigationId) -> Self {
        Self { shard, memory: OpenMemory::new(id), finished: None, over: false }
    }

    /// The state for a successor, if the Job is not finished.
    fn open(&self) -> OpenMemory {
        let mut open = self.memory.clone();
        // The shard died between the journal and the outcome, which it takes from the pod's status.
        // The successor reads both again; `journal` drops the repeated journal.
        if open.journal_read && !open.ended {
            (open.journal_read, open.cost_micro_usd) = (false, 0);
        }
        open
    }
}

/// The reported state of all investigations.
#[derive(Debug, Default)]
pub struct Register(BTreeMap<InvestigationId, Known>);

impl Register {
    /// Records an event of `shard` or, if that is none, of an agent. Returns false if it was
    /// reported before.
    pub fn record(&mut self, shard: Option<u32>, event: &Event) -> bool {
        let Some(id) = event.inv else { return true };
        // An event without a shard belongs to an investigation that a shard has reported.
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

    /// Records that an agent's journal was read. Returns false if it was read before.
    pub fn journal(&mut self, shard: u32, id: InvestigationId) -> bool {
        let known = self.0.entry(id).or_insert_with(|| Known::new(shard, id));
        !std::mem::replace(&mut known.memory.journal_read, true)
    }

    /// The state for the successor of `shard`.
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
    fn a_successor_receives_the_reported_state_and_repeated_events_are_dropped() {
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
        assert!(!register.record(Some(1), &late), "a stage after the Job finished is dropped");
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
    fn a_journal_whose_outcome_was_not_reported_is_read_again() {
        let (mut register, id) = (Register::default(), InvestigationId(3));
        let of = |fact| Event::of(Time(1), id, fact);
        register.record(Some(1), &of(Fact::JobSent));
        register.journal(1, id);
        let cost = Fact::Hypothesis { tool_calls: 1, tokens: 1, cost_micro_usd: 7 };
        register.record(None, &of(cost));
        // The shard died between the journal and the outcome.
        let [open] = &register.memory(1).open[..] else { panic!("one investigation is open") };
        assert!(!open.journal_read && open.cost_micro_usd == 0);
        assert!(!register.journal(1, id), "a repeated journal is dropped");
        register.record(Some(1), &of(Fact::Ended { outcome: Outcome::Resolved }));
        let [open] = &register.memory(1).open[..] else { panic!("one investigation is open") };
        assert!(open.journal_read && open.cost_micro_usd == 7);
    }
}
