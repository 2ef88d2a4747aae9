//! The backend: the investigation controller with its alerts, its connections and its crashes.

use std::collections::{BTreeMap, VecDeque};

use alertstorm_model::alert::{Alert, Alerts};
use alertstorm_model::controller::{Command, Controller, Input};
use alertstorm_model::event::{Component, Event, Fact};
use alertstorm_model::investigation::{IdentityKind, InvestigationId, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::apiserver::{Client, Then};
use crate::bucket::Bucket;
use crate::costs::Op;
use crate::investigation::{Inv, JobStatus, Who};
use crate::world::World;

/// An alert that has neither a Job nor a refusal yet.
#[derive(Debug)]
struct Undecided {
    alert: Alert,
    /// Attempts its sender has left.
    retries: u32,
    who: Option<Who>,
    /// When its Job was ready to be sent.
    ready_at: Time,
}

pub(crate) struct Backend<'a> {
    controller: Controller,
    alerts: Alerts<'a>,
    next: Option<Alert>,
    undecided: BTreeMap<InvestigationId, Undecided>,
    jobs: BTreeMap<InvestigationId, Who>,
    to_send: VecDeque<InvestigationId>,
    in_flight: u32,
    connections: u32,
    pub bucket: Option<Bucket>,
    pub down_since: Option<Time>,
    outages: Vec<(Time, Time)>,
    commands: Vec<Command>,
}

impl<'a> Backend<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let knobs = &plan.scenario.controller;
        let client = &knobs.client;
        let mut alerts = Alerts::new(plan);
        Self {
            controller: Controller::new(knobs),
            next: alerts.next(),
            alerts,
            undecided: BTreeMap::new(),
            jobs: BTreeMap::new(),
            to_send: VecDeque::new(),
            in_flight: 0,
            connections: client.connections.get(),
            bucket: client.kube_api_qps.map(|qps| Bucket::new(qps.0, client.kube_api_burst.get())),
            down_since: None,
            outages: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// When the next alert comes.
    pub fn next_alert(&self) -> Option<Time> {
        self.next.map(|alert| alert.intended)
    }

    /// Whether every alert has come and is decided upon.
    pub fn is_idle(&self) -> bool {
        self.next.is_none() && self.undecided.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.controller.waiting()
    }

    /// How much of the time between the two the controller was down.
    fn outage_within(&self, from: Time, to: Time) -> Span {
        let within = |(began, ended): &(Time, Time)| (*ended).min(to).since((*began).max(from));
        self.outages.iter().map(within).fold(Span::ZERO, |sum, span| sum + span)
    }
}

impl World<'_> {
    /// The next alert of the plan comes.
    pub(crate) fn alert_comes(&mut self) {
        let Some(alert) = self.backend.next.take() else {
            return;
        };
        self.backend.next = self.backend.alerts.next();
        if let Some(at) = self.backend.next_alert() {
            self.engine.at(at, Ev::Alert);
        }
        let Alert { intended, domain, severity, .. } = alert;
        self.fact_of(alert.id, Fact::Alert { intended, domain, severity });
        let retries = self.plan.scenario.controller.sender_retries;
        let undecided = Undecided { alert, retries, who: None, ready_at: Time::ZERO };
        self.backend.undecided.insert(alert.id, undecided);
        self.deliver(alert);
    }

    /// The sender delivers an alert; it comes again when nobody is there.
    fn deliver(&mut self, alert: Alert) {
        if self.backend.down_since.is_none() {
            self.tell_controller(Input::Alert(alert));
        }
    }

    /// A sender that was turned away comes again.
    pub(crate) fn redeliver(&mut self, alert: u32) {
        let id = InvestigationId(u64::from(alert));
        if let Some(alert) = self.backend.undecided.get(&id).map(|undecided| undecided.alert) {
            self.deliver(alert);
        }
    }

    fn tell_controller(&mut self, input: Input) {
        let now = self.now();
        let mut commands = std::mem::take(&mut self.backend.commands);
        self.backend.controller.step(now, input, &mut commands);
        for command in commands.drain(..) {
            self.obey(command);
        }
        self.backend.commands = commands;
    }

    pub(crate) fn controller_wakes(&mut self) {
        if self.backend.down_since.is_none() {
            self.tell_controller(Input::Wake);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::CreateJob { alert, budget_wait } => self.create_job(alert, budget_wait),
            Command::Deduplicate { alert, of } => {
                self.backend.undecided.remove(&alert.id);
                self.fact_of(alert.id, Fact::Deduplicated { of });
            }
            Command::Shed { alert, retry_after } => self.shed(alert, retry_after),
            Command::DeleteJob(id) => {
                if let Some(who) = self.backend.jobs.get(&id).copied() {
                    self.call(Client::Backend, Op::DeleteJob, who, Then::Nothing, false);
                }
            }
            Command::WakeAt(at) => self.engine.at(at, Ev::ControllerWake),
            Command::Pressure(shedding) => self.platform_fact(Fact::Pressure { shedding }),
        }
    }

    fn shed(&mut self, alert: Alert, retry_after: Span) {
        let Some(undecided) = self.backend.undecided.get_mut(&alert.id) else {
            return;
        };
        match (undecided.retries.checked_sub(1), u32::try_from(alert.id.0)) {
            (Some(left), Ok(number)) => {
                undecided.retries = left;
                self.fact_of(alert.id, Fact::TurnedAway { retry_after });
                self.engine.after(retry_after, Ev::Redeliver(number));
            }
            _ => {
                self.backend.undecided.remove(&alert.id);
                self.fact_of(alert.id, Fact::Shed { retry_after });
            }
        }
    }

    fn create_job(&mut self, alert: Alert, budget_wait: Span) {
        let now = self.now();
        let Some(undecided) = self.backend.undecided.get_mut(&alert.id) else {
            return;
        };
        undecided.ready_at = now;
        if undecided.who.is_none() {
            let mut inv = Inv::new(alert);
            let waited = now.since(alert.intended);
            let down = self.backend.outage_within(alert.intended, now);
            inv.wait(Component::ControllerDown, down);
            inv.wait(Component::CostBudget, budget_wait);
            inv.wait(Component::Concurrency, waited - down - budget_wait);
            let who = self.invs.insert(inv);
            if let Some(undecided) = self.backend.undecided.get_mut(&alert.id) {
                undecided.who = Some(who);
            }
            self.backend.jobs.insert(alert.id, who);
            self.stage(who, Stage::Admitted);
        }
        self.backend.to_send.push_back(alert.id);
        self.send_jobs();
    }

    /// Sends what waits, as far as there are connections.
    fn send_jobs(&mut self) {
        let now = self.now();
        while self.backend.in_flight < self.backend.connections {
            let Some(id) = self.backend.to_send.pop_front() else {
                return;
            };
            let Some(undecided) = self.backend.undecided.get(&id) else {
                continue;
            };
            let (Some(who), ready_at) = (undecided.who, undecided.ready_at) else {
                continue;
            };
            let Some(inv) = self.invs.get_mut(who) else {
                continue;
            };
            inv.wait(Component::BackendClient, now.since(ready_at));
            let account = inv.account;
            self.backend.in_flight += 1;
            self.fact(who, Fact::JobSent);
            let own = self.plan.scenario.identity == IdentityKind::PerInvestigation;
            if own && !account {
                let then = Then::BackendAccount;
                self.call(Client::Backend, Op::CreateServiceAccount, who, then, true);
            } else {
                self.call(Client::Backend, Op::CreateJob, who, Then::BackendJob, true);
            }
        }
    }

    /// An identity of its own is a ServiceAccount and its binding to the domain's Role.
    pub(crate) fn account_created(&mut self, who: Who) {
        let then = Then::BackendBinding;
        self.call(Client::Backend, Op::CreateRoleBinding, who, then, true);
    }

    pub(crate) fn binding_created(&mut self, who: Who) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.account = true;
            self.call(Client::Backend, Op::CreateJob, who, Then::BackendJob, true);
        }
    }

    /// The API server has the Job: it was created now, or by an earlier attempt (409).
    pub(crate) fn job_answered(&mut self, who: Who) {
        self.backend.in_flight -= 1;
        if let Some(inv) = self.invs.get_mut(who) {
            let id = inv.alert.id;
            self.backend.undecided.remove(&id);
            if !std::mem::replace(&mut inv.job.created, true) {
                self.stage(who, Stage::JobCreated);
                self.watchers_see(Ev::JobAdded(who.slot, who.generation), who);
            }
            if self.backend.down_since.is_none() {
                self.tell_controller(Input::JobCreated(id));
            }
        }
        self.send_jobs();
    }

    /// The backend's watch shows the Job finished.
    pub(crate) fn job_finished_seen(&mut self, who: Who) {
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let (id, cost_micro_usd) = (inv.alert.id, inv.cost_micro_usd);
        let finished_at = inv.job.finished_at;
        self.backend.jobs.remove(&id);
        if self.plan.scenario.identity == IdentityKind::PerInvestigation {
            for op in [Op::DeleteRoleBinding, Op::DeleteServiceAccount] {
                self.call(Client::Backend, op, who, Then::Nothing, false);
            }
        }
        self.keep_until_collected(who, finished_at);
        if self.backend.down_since.is_none() {
            self.tell_controller(Input::JobFinished { id, cost_micro_usd });
        }
    }

    /// The controller's process dies, and with it all that it knew.
    pub(crate) fn controller_crashes(&mut self) {
        self.backend.down_since = Some(self.now());
        self.backend.controller = Controller::new(&self.plan.scenario.controller);
        self.backend.to_send.clear();
    }

    /// It starts again: it lists its Jobs, and senders deliver again what has none.
    pub(crate) fn controller_restarts(&mut self) {
        let now = self.now();
        if let Some(since) = self.backend.down_since.take() {
            self.backend.outages.push((since, now));
        }
        let jobs: Vec<Who> = self.backend.jobs.values().copied().collect();
        for who in jobs {
            let Some(inv) = self.invs.get(who).filter(|inv| inv.job.created) else {
                continue;
            };
            let finished = inv.job.status == JobStatus::Finished;
            self.tell_controller(Input::FoundJob { alert: inv.alert, finished });
        }
        let again: Vec<Alert> = self.backend.undecided.values().map(|one| one.alert).collect();
        for alert in again {
            self.deliver(alert);
        }
    }

    /// A fact of an investigation that may have no place in the twin yet.
    pub(crate) fn fact_of(&mut self, id: InvestigationId, fact: Fact) {
        let event = Event::of(self.now(), id, fact);
        self.sink.take(&event);
    }
}
