//! What held up the investigations of a live run. Only the gaps between stages are observed; while an
//! investigation is within a gap, the servers' counters show which resource of its component was
//! exhausted. Each gap is divided accordingly, sample interval by sample interval.

use alertstorm_model::event::{Component, CpuUse, Occupation, Resource, Wait};
use alertstorm_model::investigation::Stage;
use alertstorm_model::scenario::FaultKind;
use alertstorm_model::time::{Span, Time};

/// A machine's cores hold up what runs on them from the first share of busy cores on, in part, and
/// from the second on entirely. Below, a request finds an idle core.
const CORES: (f64, f64) = (0.75, 0.9);
/// The same for a resource that one request at a time occupies, such as the disk of etcd's log.
const SERIAL: (f64, f64) = (0.6, 0.85);
/// How many processes are named that use the cores.
const PROCESSES: usize = 5;
/// Processes that are neither servers of the platform nor the harness.
const FOREIGN: &str = "other processes";
/// Workers hold up their queue from this share of busy workers on.
const WORKERS: f64 = 0.8;

/// Sums by component.
pub(super) type Sums = [Span; Component::COUNT];

/// What is known of the time between two samples, or between a sample and a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Interval {
    until: Time,
    /// By [`Resource`]: seconds of occupation per second; `None` if no server reports it.
    load: [Option<f64>; Resource::COUNT],
    capacity: [u32; Resource::COUNT],
    /// Share of the pending pods for which no node has room.
    unschedulable: f64,
    /// Busy cores by process.
    processes: Vec<(String, f64)>,
    /// Faults in force.
    faults: Vec<FaultKind>,
}

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

/// A part of a gap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cause {
    pub component: Component,
    /// Share of the gap, 0 to 1.
    pub share: f64,
    /// Whether counters show the cause; otherwise it is the component that ends the gap.
    pub shown: bool,
}

impl Causes {
    /// The interval of this number. Of the open one no counters are known.
    pub fn interval(&self, number: usize) -> &Interval {
        self.intervals.get(number).unwrap_or(&self.none)
    }

    /// Counters in words, for a cause of gaps in some intervals: their numbers and weights. `None` if
    /// no counter shows this cause.
    pub fn evidence(&self, component: Component, weights: &[(usize, f64)]) -> Option<String> {
        let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mean = |of: &dyn Fn(&Interval) -> f64| {
            weights.iter().map(|(i, weight)| of(self.interval(*i)) * weight).sum::<f64>()
                / all.max(1e-9)
        };
        let load = |of: Resource| mean(&|interval| interval.of(of).unwrap_or(0.0));
        let capacity = |of: Resource| {
            weights.iter().map(|(i, _)| self.interval(*i).capacity[of.index()]).max().unwrap_or(0)
        };
        let percent = |of: &dyn Fn(&Interval) -> f64| mean(of) * 100.0;
        let busy = |of: Resource| format!("{:.1} of {}", load(of), capacity(of));
        let in_fault = mean(&|interval| {
            let of = |fault: &FaultKind| outage_is(*fault, component);
            if interval.faults.iter().any(of) { 1.0 } else { 0.0 }
        });
        if in_fault > 0.5 {
            return Some("a fault of the scenario".to_owned());
        }
        Some(match component {
            Component::ControlPlaneCpu | Component::VaultCpu => {
                format!("{} cores busy: {}", busy(Resource::Cores), self.busiest(weights))
            }
            Component::JobControllerBucket => format!(
                "its sync workers waited for a token {:.0} % of their time",
                percent(&Interval::controller_manager_limited)
            ),
            Component::JobControllerWorkers => {
                format!("{} sync workers busy", busy(Resource::JobSyncs))
            }
            Component::SchedulerBucket => format!(
                "the scheduler waited for a token {:.0} % of its time",
                percent(&Interval::scheduler_limited)
            ),
            Component::SchedulerCycle => format!(
                "it chose nodes for {:.0} % of the time",
                load(Resource::SchedulerAlgorithm) * 100.0
            ),
            Component::NodeCapacity => format!(
                "no node had room for {:.0} % of the pending pods",
                percent(&|interval| interval.unschedulable)
            ),
            Component::ApiSeats => format!(
                "requests spent {:.0} % of their time in the API server in its queues",
                percent(&Interval::queued_for_seats)
            ),
            Component::Etcd => {
                format!("its disk was busy {:.0} % of the time", percent(&Interval::etcd_disk))
            }
            Component::VaultDatabaseLock => format!(
                "{:.1} requests were at the lock of {} connection config(s)",
                load(Resource::VaultDatabaseUsers),
                capacity(Resource::VaultDatabaseUsers)
            ),
            Component::Concurrency | Component::CostBudget | Component::BackendClient => {
                "measured by the controller itself".to_owned()
            }
            Component::PodStart => {
                "from the pod's binding to its start, less what full cores explain".to_owned()
            }
            _ => return None,
        })
    }

    /// The processes that used most of the cores, with the mean number of cores of each.
    fn busiest(&self, weights: &[(usize, f64)]) -> String {
        let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sums: Vec<(&str, f64)> = Vec::new();
        for (i, weight) in weights {
            for (process, busy) in &self.interval(*i).processes {
                match sums.iter_mut().find(|(of, _)| of == process) {
                    Some((_, sum)) => *sum += busy * weight,
                    None => sums.push((process, busy * weight)),
                }
            }
        }
        // Those that are not part of the platform, too: a build on the same machine is a cause.
        let busy = |(i, weight): &(usize, f64)| {
            self.interval(*i).of(Resource::Cores).unwrap_or(0.0) * weight
        };
        let known: f64 = sums.iter().map(|(_, sum)| sum).sum();
        sums.push((FOREIGN, weights.iter().map(busy).sum::<f64>() - known));
        sums.retain(|(_, sum)| *sum > 0.0);
        sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let word = |(process, sum): &(&str, f64)| format!("{process} {:.2}", sum / all.max(1e-9));
        sums.iter().take(PROCESSES).map(word).collect::<Vec<_>>().join(", ")
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

/// How far a resource is exhausted, 0 to 1: 0 up to the first bound, 1 from the second on.
fn exhausted(load: f64, (from, to): (f64, f64)) -> f64 {
    ((load - from) / (to - from)).clamp(0.0, 1.0)
}

/// The parts of a gap; each takes a share of what is left.
struct Parts {
    left: f64,
    parts: Vec<Cause>,
}

impl Parts {
    fn take(&mut self, component: Component, share: f64) {
        let share = self.left * share.clamp(0.0, 1.0);
        if share > 0.0 {
            self.left -= share;
            self.parts.push(Cause { component, share, shown: true });
        }
    }

    /// The rest goes to the component that ends the gap; `shown` if a counter shows it as the cause.
    fn rest(mut self, component: Component, shown: bool) -> Vec<Cause> {
        if self.left > 1e-9 {
            self.parts.push(Cause { component, share: self.left, shown });
        }
        self.parts
    }
}

impl Interval {
    fn of(&self, resource: Resource) -> Option<f64> {
        self.load[resource.index()]
    }

    /// Load of a resource over its capacity; `None` if either is not known.
    fn utilisation(&self, resource: Resource) -> Option<f64> {
        let capacity = self.capacity[resource.index()];
        (capacity > 0).then(|| self.of(resource).map(|load| load / f64::from(capacity)))?
    }

    fn ratio(&self, of: Resource, to: Resource) -> f64 {
        match (self.of(of), self.of(to)) {
            (Some(of), Some(to)) if to > 1e-9 => of / to,
            _ => 0.0,
        }
    }

    fn cores_exhausted(&self) -> f64 {
        self.utilisation(Resource::Cores).map_or(0.0, |load| exhausted(load, CORES))
    }

    /// Share of the work of the Job controller's workers in which they waited for a token.
    fn controller_manager_limited(&self) -> f64 {
        self.ratio(Resource::ControllerManagerBucket, Resource::JobSyncs).min(1.0)
    }

    /// Share of the time for scheduling attempts in which the scheduler waited for a token.
    fn scheduler_limited(&self) -> f64 {
        self.ratio(Resource::SchedulerBucket, Resource::SchedulerAttempts).min(1.0)
    }

    /// Share of the API server's time for requests that they spent in queues.
    fn queued_for_seats(&self) -> f64 {
        let of = |resource| self.of(resource).unwrap_or(0.0);
        let (queues, seats) = (of(Resource::FlowControlQueues), of(Resource::FlowControlSeats));
        queues / (queues + seats).max(1e-9)
    }

    /// Utilisation of etcd's disk, by its log or its database.
    fn etcd_disk(&self) -> f64 {
        let of = |resource| self.utilisation(resource).unwrap_or(0.0);
        of(Resource::EtcdFsync).max(of(Resource::EtcdCommit))
    }

    /// Share of the requests at the lock of Vault's database engine that wait for it: all but those
    /// that are served (Little's law).
    fn waiting_at_the_lock(&self) -> f64 {
        let served = self.capacity[Resource::VaultDatabaseUsers.index()];
        let all = self.of(Resource::VaultDatabaseUsers).filter(|_| served > 0);
        all.map_or(0.0, |all| (1.0 - f64::from(served) / all).max(0.0))
    }

    /// The causes of a gap in this interval; the gap is named by the component that ends it. `excess`
    /// is the share by which pods start later than the quickest did.
    pub fn causes(&self, gap: Component, excess: f64) -> Vec<Cause> {
        let mut parts = Parts { left: 1.0, parts: Vec::new() };
        if let Some(down) = self.faults.iter().find_map(|fault| outage(*fault, gap)) {
            parts.take(down, 1.0);
        }
        match gap {
            Component::JobControllerWorkers => {
                parts.take(Component::JobControllerBucket, self.controller_manager_limited());
                self.api_server(&mut parts);
                let busy = self.utilisation(Resource::JobSyncs).unwrap_or(0.0);
                parts.rest(gap, busy >= WORKERS)
            }
            Component::ControlPlaneCpu => {
                self.api_server(&mut parts);
                parts.rest(gap, false)
            }
            Component::SchedulerCycle => {
                parts.take(Component::NodeCapacity, self.unschedulable);
                parts.take(Component::SchedulerBucket, self.scheduler_limited());
                self.api_server(&mut parts);
                let busy = self.utilisation(Resource::SchedulerAlgorithm).unwrap_or(0.0);
                parts.rest(gap, busy >= WORKERS)
            }
            Component::PodStart => {
                parts.take(Component::ControlPlaneCpu, self.cores_exhausted() * excess);
                // The kubelet's own time, unless nothing is known of the cores.
                parts.rest(gap, self.utilisation(Resource::Cores).is_some())
            }
            Component::VaultCpu => {
                parts.take(gap, self.cores_exhausted());
                parts.rest(gap, false)
            }
            Component::VaultDatabaseLock => {
                parts.take(gap, self.waiting_at_the_lock());
                parts.take(Component::VaultCpu, self.cores_exhausted());
                parts.rest(gap, false)
            }
            // The controller measures its own queue and connections.
            other => parts.rest(other, true),
        }
    }

    /// What holds up requests to the API server: seats, cores, and etcd's disk.
    fn api_server(&self, parts: &mut Parts) {
        parts.take(Component::ApiSeats, self.queued_for_seats());
        parts.take(Component::ControlPlaneCpu, self.cores_exhausted());
        parts.take(Component::Etcd, exhausted(self.etcd_disk(), SERIAL));
    }
}

/// Whether a fault is the outage that a component stands for, on any gap.
fn outage_is(fault: FaultKind, component: Component) -> bool {
    Component::ALL.iter().any(|gap| outage(fault, *gap) == Some(component))
}

/// The outage that a fault is, for a gap that it can prolong.
fn outage(fault: FaultKind, gap: Component) -> Option<Component> {
    let vault = matches!(gap, Component::VaultCpu | Component::VaultDatabaseLock);
    let queued = matches!(gap, Component::Concurrency | Component::CostBudget);
    match fault {
        FaultKind::ApiServerDown if !queued => Some(Component::ApiServerDown),
        FaultKind::EtcdLeaderLoss | FaultKind::SlowFsync if !queued && !vault => {
            Some(Component::Etcd)
        }
        FaultKind::ControllerManagerDown if gap == Component::JobControllerWorkers => {
            Some(Component::ControllerManagerDown)
        }
        FaultKind::SchedulerDown if gap == Component::SchedulerCycle => {
            Some(Component::SchedulerDown)
        }
        FaultKind::VaultSealed | FaultKind::VaultRestart if vault => Some(Component::VaultDown),
        FaultKind::PostgresDown if gap == Component::VaultDatabaseLock => Some(Component::Postgres),
        FaultKind::ControllerCrash if queued => Some(Component::ControllerDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(of: Resource, busy_ms: u64, capacity: u32) -> Occupation {
        Occupation { of, busy_ns: busy_ms * 1_000_000, capacity }
    }

    /// One interval of a second with these counters.
    fn second(of: &[Occupation]) -> Causes {
        let mut causes = Causes::default();
        causes.occupied(Time::ZERO, &[]);
        causes.occupied(Time(1_000_000_000), of);
        causes
    }

    fn causes(of: &[Occupation], gap: Component) -> Vec<(Component, f64, bool)> {
        let causes = second(of).interval(1).causes(gap, 0.0);
        causes.iter().map(|c| (c.component, (c.share * 100.0).round(), c.shown)).collect()
    }

    #[test]
    fn full_cores_hold_up_sync_workers_that_are_busy() {
        let counters = [
            occupied(Resource::Cores, 1_950, 2),
            occupied(Resource::JobSyncs, 20_000, 20),
            occupied(Resource::ControllerManagerBucket, 0, 0),
        ];
        let found = causes(&counters, Component::JobControllerWorkers);
        assert_eq!(found, [(Component::ControlPlaneCpu, 100.0, true)]);
    }

    #[test]
    fn a_client_s_bucket_holds_up_sync_workers_on_idle_cores() {
        let counters = [
            occupied(Resource::Cores, 400, 2),
            occupied(Resource::JobSyncs, 5_000, 5),
            occupied(Resource::ControllerManagerBucket, 4_500, 0),
        ];
        let found = causes(&counters, Component::JobControllerWorkers);
        let expected = [
            (Component::JobControllerBucket, 90.0, true),
            (Component::JobControllerWorkers, 10.0, true),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_gap_whose_cause_no_counter_shows_is_not_shown() {
        let idle = [occupied(Resource::Cores, 400, 2), occupied(Resource::JobSyncs, 100, 5)];
        let found = causes(&idle, Component::JobControllerWorkers);
        assert_eq!(found, [(Component::JobControllerWorkers, 100.0, false)]);
        let found = causes(&[], Component::SchedulerCycle);
        assert_eq!(found, [(Component::SchedulerCycle, 100.0, false)]);
    }

    #[test]
    fn requests_at_the_lock_wait_but_for_those_that_are_served() {
        let counters =
            [occupied(Resource::Cores, 400, 2), occupied(Resource::VaultDatabaseUsers, 10_000, 1)];
        let found = causes(&counters, Component::VaultDatabaseLock);
        let expected = [
            (Component::VaultDatabaseLock, 90.0, true),
            (Component::VaultDatabaseLock, 10.0, false),
        ];
        assert_eq!(found, expected);
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
        let during = causes.interval(2).causes(Component::SchedulerCycle, 0.0);
        assert_eq!(during[0].component, Component::SchedulerDown);
        assert!(!causes.interval(3).causes(Component::SchedulerCycle, 0.0)[0].shown);
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
