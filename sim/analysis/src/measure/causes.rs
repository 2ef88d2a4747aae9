//! What held up the investigations of a live run. Only the gaps between stages are observed; while an
//! investigation is within a gap, the servers' counters show which resource of its component was
//! exhausted. Each gap is divided accordingly, sample interval by sample interval.

mod evidence;
mod interval;
mod rules;

use alertstorm_model::event::{Component, CpuUse, Occupation, Resource, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::scenario::FaultKind;
use alertstorm_model::time::{Span, Time};

use evidence::evidence;
use interval::Interval;
use rules::{Cause, causes};

/// Sums by component.
pub(super) type Sums = [Span; Component::COUNT];

/// The servers' counters over time, in intervals.
#[derive(Clone, Debug, Default)]
pub(super) struct Causes {
    intervals: Vec<Interval>,
    /// What is known of an interval without a sample.
    none: Interval,
    /// Begin of the part of the sample interval that is still open.
    sampled_until: Time,
    /// By [`Resource`]: when it was last read, its occupation then, and the number of the first interval
    /// after that.
    read: [(Time, u64, usize); Resource::COUNT],
    /// The most processor time of each process so far, and what it used since the sample before.
    cpu: Vec<(String, u64, u64)>,
    unschedulable: f64,
    faults: Vec<FaultKind>,
    /// The first interval whose counters are not read yet.
    unread: usize,
}

impl Causes {
    /// The interval of this number. Of the open one no counters are known.
    fn interval(&self, number: usize) -> &Interval {
        self.intervals.get(number).unwrap_or(&self.none)
    }

    /// Counters in words, for a cause of gaps in some intervals: their numbers and weights. `None` if
    /// no counter shows this cause.
    pub fn evidence(&self, component: Component, weights: &[(usize, f64)]) -> Option<String> {
        let intervals: Vec<_> =
            weights.iter().map(|(number, weight)| (self.interval(*number), *weight)).collect();
        evidence(component, &intervals)
    }

    /// The causes of a gap in the interval of this number. `excess` is the share by which pods start later
    /// than the quickest did.
    pub fn of(&self, number: usize, gap: Component, excess: f64) -> Vec<Cause> {
        causes(self.interval(number), gap, excess)
    }

    /// Adds a sample's queues and processor times. The occupations of the same instant follow.
    pub fn sample(&mut self, depths: impl Iterator<Item = (String, u64)>, cpu: &[CpuUse]) {
        let pending = depths.filter_map(|(of, depth)| {
            Some((of.strip_prefix("scheduler queue ")? == "unschedulable", depth))
        });
        let (none, all) = pending.fold((0, 0), |(none, all), (unschedulable, depth)| {
            (none + if unschedulable { depth } else { 0 }, all + depth)
        });
        self.unschedulable = none as f64 / all.max(1) as f64;
        for (_, _, used) in &mut self.cpu {
            *used = 0;
        }
        for now in cpu {
            // After a server's end its time may be missing for a moment, and is back with the next start.
            match self.cpu.iter_mut().find(|(process, ..)| *process == now.process) {
                Some((_, most, used)) => {
                    *used = now.busy_ns.saturating_sub(*most);
                    *most = now.busy_ns.max(*most);
                }
                None => self.cpu.push((now.process.clone(), now.busy_ns, now.busy_ns)),
            }
        }
    }

    /// Ends the open interval: a fault begins or ends.
    pub fn fault(&mut self, at: Time, kind: FaultKind, began: bool) {
        self.end(at);
        match began {
            true => self.faults.push(kind),
            false => self.faults.retain(|fault| *fault != kind),
        }
    }

    fn end(&mut self, at: Time) {
        let faults = self.faults.clone();
        self.intervals.push(Interval { until: at, faults, ..Interval::default() });
    }

    /// Ends the open interval with the counters of a sample. A counter holds since it was last read: a
    /// page that could not be read in time is made up for by the next one.
    pub fn occupied(&mut self, at: Time, of: &[Occupation]) {
        self.end(at);
        let length = at.since(self.sampled_until).as_secs_f64();
        self.sampled_until = at;
        for occupation in of {
            let i = occupation.of.index();
            let (since, before, first) = self.read[i];
            self.read[i] = (at, occupation.busy_ns, self.intervals.len());
            let length = at.since(since).as_secs_f64();
            let busy = Span(occupation.busy_ns.saturating_sub(before)).as_secs_f64();
            for interval in self.intervals.iter_mut().skip(first) {
                interval.load[i] = (length > 0.0).then(|| busy / length);
                interval.capacity[i] = occupation.capacity;
            }
        }
        let cores = |(process, _, used): &(String, u64, u64)| {
            (process.clone(), Span(*used).as_secs_f64() / length.max(1e-9))
        };
        let processes: Vec<_> = self.cpu.iter().map(cores).collect();
        for interval in self.intervals.iter_mut().skip(self.unread) {
            interval.unschedulable = self.unschedulable;
            interval.processes.clone_from(&processes);
        }
        self.unread = self.intervals.len();
    }

    /// Calls `add` with the number of each interval that overlaps the time, and the overlap. The
    /// open interval is the last.
    fn overlaps(&self, from: Time, until: Time, mut add: impl FnMut(usize, Span)) {
        let first = self.intervals.partition_point(|interval| interval.until <= from);
        let mut begin = from;
        for (i, interval) in self.intervals.iter().enumerate().skip(first) {
            if begin >= until {
                return;
            }
            let end = interval.until.min(until);
            add(i, end.since(begin));
            begin = end;
        }
        if begin < until {
            add(self.intervals.len(), until.since(begin));
        }
    }

    /// Adds the gaps of an investigation to the sums by interval. The gaps follow one another from the
    /// alert on; on the way to the Job's end the Job controller's second one ends there, after the agent's
    /// work.
    pub fn divide(
        &self,
        until: Stage,
        at: Time,
        total: Span,
        waits: &[Wait],
        sums: &mut Vec<Sums>,
    ) {
        let alert = Time(at.0.saturating_sub(total.0));
        let mut from = alert;
        for (i, wait) in waits.iter().enumerate() {
            // Only after the pod's start is the Job controller waited for a second time.
            let after_work = waits[..i].iter().any(|earlier| {
                matches!(earlier.component, Component::JobControllerWorkers | Component::PodStart)
            });
            if until == Stage::JobFinished
                && wait.component == Component::JobControllerWorkers
                && after_work
            {
                from = Time(at.0.saturating_sub(wait.span.0));
            }
            let end = from + wait.span;
            self.overlaps(from, end, |interval, overlap| {
                if sums.len() <= interval {
                    sums.resize(interval + 1, [Span::ZERO; Component::COUNT]);
                }
                sums[interval][wait.component.index()] += overlap;
            });
            from = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use alertstorm_model::event::Capacity;

    use super::*;

    fn occupied(of: Resource, busy_ms: u64, capacity: u32) -> Occupation {
        Occupation { of, busy_ns: busy_ms * 1_000_000, capacity: Capacity::whole(capacity) }
    }

    #[test]
    fn an_outage_explains_the_gaps_that_overlap_it() {
        let mut causes = Causes::default();
        causes.occupied(Time::ZERO, &[]);
        causes.fault(Time(400), FaultKind::SchedulerDown, true);
        causes.fault(Time(700), FaultKind::SchedulerDown, false);
        causes.occupied(Time(1_000), &[occupied(Resource::Cores, 0, 2)]);
        let waits = [Wait { component: Component::SchedulerCycle, span: Span(500) }];
        let mut sums = Vec::new();
        causes.divide(Stage::CredentialsReady, Time(900), Span(500), &waits, &mut sums);
        let spans: Vec<u64> =
            sums.iter().map(|of| of[Component::SchedulerCycle.index()].0).collect();
        assert_eq!(spans, [0, 0, 300, 200]);
        let during = causes.of(2, Component::SchedulerCycle, 0.0);
        assert_eq!(during[0].component, Component::SchedulerDown);
        assert!(!causes.of(3, Component::SchedulerCycle, 0.0)[0].shown);
    }

    #[test]
    fn the_last_gap_of_the_way_to_the_jobs_end_ends_there() {
        let mut causes = Causes::default();
        for at in [0, 100, 900, 1_000] {
            causes.occupied(Time(at), &[]);
        }
        let waits = [
            Wait { component: Component::PodStart, span: Span(100) },
            Wait { component: Component::JobControllerWorkers, span: Span(50) },
        ];
        let mut sums = Vec::new();
        causes.divide(Stage::JobFinished, Time(1_000), Span(1_000), &waits, &mut sums);
        assert_eq!(sums[1][Component::PodStart.index()], Span(100));
        assert_eq!(sums[3][Component::JobControllerWorkers.index()], Span(50));
    }
}
