//! The backend: the investigation controller with its alerts, its connections and its crashes.

use std::collections::{BTreeMap, VecDeque};

use alertstorm_model::alert::{Alert, Alerts};
use alertstorm_model::delivery::{Action, Delivery, FoundJob, Input};
use alertstorm_model::event::{Component, Fact};
use alertstorm_model::investigation::{IdentityKind, InvestigationId, Stage};
use alertstorm_model::scenario::Plan;
use alertstorm_model::time::{Span, Time};

use crate::agenda::Ev;
use crate::arena::Key;
use crate::call::{Client, Then};
use crate::costs::Op;
use crate::investigation::Inv;
use crate::world::World;

/// A Job that waits for a connection.
#[derive(Clone, Copy, Debug)]
struct Unsent {
    id: InvestigationId,
    who: Key<Inv>,
    /// When it began to wait.
    ready_at: Time,
}

pub(crate) struct Backend<'a> {
    delivery: Delivery,
    alerts: Alerts<'a>,
    next: Option<Alert>,
    /// From admission until the backend's watch shows the Job finished.
    jobs: BTreeMap<InvestigationId, Key<Inv>>,
    to_send: VecDeque<Unsent>,
    in_flight: u32,
    connections: u32,
    down_since: Option<Time>,
    outages: Vec<(Time, Time)>,
    /// Empty between inputs; kept for its capacity.
    actions: Vec<Action>,
}

impl<'a> Backend<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let knobs = &plan.scenario().controller;
        let mut alerts = plan.alerts();
        Self {
            delivery: Delivery::new(knobs),
            next: alerts.next(),
            alerts,
            jobs: BTreeMap::new(),
            to_send: VecDeque::new(),
            in_flight: 0,
            connections: knobs.client.connections.get(),
            down_since: None,
            outages: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// The intended time of the next alert.
    pub fn next_alert(&self) -> Option<Time> {
        self.next.map(|alert| alert.intended)
    }

    /// Whether every alert was delivered and decided on.
    pub fn is_idle(&self) -> bool {
        self.next.is_none() && self.delivery.undecided().len() == 0
    }

    pub fn waiting(&self) -> usize {
        self.delivery.queued()
    }

    /// How long the controller was down between `from` and `to`.
    fn outage_within(&self, from: Time, to: Time) -> Span {
        let within = |(began, ended): &(Time, Time)| (*ended).min(to).since((*began).max(from));
        self.outages.iter().map(within).fold(Span::ZERO, |sum, span| sum + span)
    }
}

impl World<'_> {
    /// The next alert of the plan is due.
    pub(crate) fn on_alert(&mut self) {
        let Some(alert) = self.backend.next.take() else {
            return;
        };
        self.backend.next = self.backend.alerts.next();
        if let Some(at) = self.backend.next_alert() {
            self.engine.at(at, Ev::Alert);
        }
        let Alert { intended, domain, severity, .. } = alert;
        self.fact_of(alert.id, Fact::Alert { intended, domain, severity });
        self.deliver(Input::Alert(alert));
    }

    /// A sender's pause is over, and it delivers its alert again.
    pub(crate) fn redeliver(&mut self, id: InvestigationId) {
        self.deliver(Input::Retry(id));
    }

    pub(crate) fn on_controller_wake(&mut self) {
        self.deliver(Input::Wake);
    }

    fn deliver(&mut self, input: Input) {
        let now = self.now();
        let mut actions = std::mem::take(&mut self.backend.actions);
        self.backend.delivery.step(now, input, &mut actions);
        for action in actions.drain(..) {
            self.act_on(action);
        }
        self.backend.actions = actions;
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::CreateJob { alert, budget_wait } => self.create_job(alert, budget_wait),
            Action::DeleteJob(id) => {
                if self.backend.jobs.contains_key(&id) {
                    self.call(Client::Backend, Op::DeleteJob, Then::Nothing, None);
                }
            }
            Action::WakeAt(at) => self.engine.at(at, Ev::ControllerWake),
            Action::Pressure(shedding) => self.platform_fact(Fact::Pressure { shedding }),
            Action::Deduplicated { id, of } => self.fact_of(id, Fact::Deduplicated { of }),
            Action::TurnedAway { id, retry_after } => {
                self.fact_of(id, Fact::TurnedAway { retry_after });
                self.engine.after(retry_after, Ev::redeliver(id));
            }
            Action::Shed { id, retry_after } => self.fact_of(id, Fact::Shed { retry_after }),
        }
    }

    fn create_job(&mut self, alert: Alert, budget_wait: Span) {
        let (id, now) = (alert.id, self.now());
        let who = match self.backend.jobs.get(&id) {
            // It was admitted before the controller crashed.
            Some(who) => *who,
            None => {
                let mut inv = Inv::new(alert);
                let waited = now.since(alert.intended);
                let down = self.backend.outage_within(alert.intended, now);
                inv.wait(Component::ControllerDown, down);
                inv.wait(Component::CostBudget, budget_wait);
                inv.wait(Component::Concurrency, waited - down - budget_wait);
                let who = self.invs.insert(inv);
                self.backend.jobs.insert(id, who);
                self.stage(who, Stage::Admitted);
                who
            }
        };
        self.backend.to_send.push_back(Unsent { id, who, ready_at: now });
        self.send_jobs();
    }

    /// Sends waiting Jobs while connections are free.
    fn send_jobs(&mut self) {
        let now = self.now();
        while self.backend.in_flight < self.backend.connections {
            let Some(Unsent { id, who, ready_at }) = self.backend.to_send.pop_front() else {
                return;
            };
            // The answer to an earlier attempt may have come while it waited.
            if !self.backend.delivery.is_undecided(id) {
                continue;
            }
            let Some(inv) = self.invs.get_mut(who) else {
                continue;
            };
            inv.wait(Component::BackendClient, now.since(ready_at));
            let account = inv.has_account();
            self.backend.in_flight += 1;
            self.fact(who, Fact::JobSent);
            let own = self.plan.scenario().identity == IdentityKind::PerInvestigation;
            if own && !account {
                let then = Then::BackendAccount(who);
                self.call(Client::Backend, Op::CreateServiceAccount, then, Some(who));
            } else {
                self.call(Client::Backend, Op::CreateJob, Then::BackendJob(who), Some(who));
            }
        }
    }

    /// With an identity per investigation, a RoleBinding to the domain's Role follows.
    pub(crate) fn on_account_created(&mut self, who: Key<Inv>) {
        let then = Then::BackendBinding(who);
        self.call(Client::Backend, Op::CreateRoleBinding, then, Some(who));
    }

    pub(crate) fn on_binding_created(&mut self, who: Key<Inv>) {
        if let Some(inv) = self.invs.get_mut(who) {
            inv.account_created();
            self.call(Client::Backend, Op::CreateJob, Then::BackendJob(who), Some(who));
        }
    }

    /// The API server has the Job, from this attempt or from an earlier one (409).
    pub(crate) fn on_job_created(&mut self, who: Key<Inv>) {
        self.backend.in_flight -= 1;
        if let Some(inv) = self.invs.get_mut(who) {
            let id = inv.id();
            if inv.job.create() {
                self.stage(who, Stage::JobCreated);
                self.notify_watchers(Ev::JobAdded(who), who);
            }
            self.deliver(Input::JobCreated(id));
        }
        self.send_jobs();
    }

    /// The backend's watch shows the Job finished.
    pub(crate) fn on_job_finished(&mut self, who: Key<Inv>) {
        let Some(inv) = self.invs.get(who) else {
            return;
        };
        let (id, cost_micro_usd) = (inv.id(), inv.agent.cost_micro_usd());
        let finished_at = inv.job.finished_at();
        self.backend.jobs.remove(&id);
        if self.plan.scenario().identity == IdentityKind::PerInvestigation {
            for op in [Op::DeleteRoleBinding, Op::DeleteServiceAccount] {
                self.call(Client::Backend, op, Then::Nothing, None);
            }
        }
        self.keep_until_collected(who, finished_at);
        self.deliver(Input::JobFinished { id, cost_micro_usd });
    }

    /// The controller's process ends, and its memory is lost.
    pub(crate) fn crash_controller(&mut self) {
        self.backend.down_since = Some(self.now());
        self.backend.to_send.clear();
        self.deliver(Input::ControllerCrashed);
    }

    /// It starts again and lists its Jobs.
    pub(crate) fn restart_controller(&mut self) {
        let now = self.now();
        if let Some(since) = self.backend.down_since.take() {
            self.backend.outages.push((since, now));
        }
        let jobs = self.backend.jobs.values().filter_map(|who| {
            let inv = self.invs.get(*who).filter(|inv| inv.job.is_created())?;
            let finished = inv.job.is_finished();
            Some(FoundJob { alert: inv.alert(), finished })
        });
        let jobs = jobs.collect();
        self.deliver(Input::ControllerStarted(jobs));
    }
}
