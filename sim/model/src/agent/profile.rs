//! Profiles: for each domain, the distributions from which the traces of agents are drawn.

use deserr::Deserr;
use schemars::JsonSchema;
use serde::Serialize;

use crate::input::Problems;
use crate::investigation::Domain;
use crate::knobs;
use crate::quantity::{Amount, Bytes, Share};
use crate::spread::Spread;
use crate::time::Span;

knobs! {
    /// Number, duration and tokens of the calls to one tool.
    pub struct ToolUse {
        /// Number of calls per hypothesis; rounded.
        calls: Spread<Amount> = Spread::literal("0"),
        /// Duration of a call.
        takes: Spread<Span> = Spread::literal("1s"),
        /// LLM tokens, input and output, per call.
        tokens: Spread<Amount> = Spread::literal("0"),
    }

    /// The calls to each tool of an agent.
    pub struct Tools {
        /// Calls to the API of the language model.
        llm: ToolUse = ToolUse::default(),
        /// Calls to log search.
        log_search: ToolUse = ToolUse::default(),
        /// Calls to network telemetry.
        network_telemetry: ToolUse = ToolUse::default(),
        /// Calls to cloud storage.
        cloud_storage: ToolUse = ToolUse::default(),
    }

    /// Memory of the agent's process over time.
    pub struct Memory {
        /// Memory at the start.
        start: Spread<Bytes> = Spread::literal("200Mi"),
        /// Growth per hypothesis.
        per_hypothesis: Spread<Bytes> = Spread::literal("20Mi"),
        /// Memory that an agent with a leak (`failures.oom`) reaches, unless it is killed before at
        /// the limit of its Job.
        leak: Spread<Bytes> = Spread::literal("5Gi..8Gi"),
    }

    /// A further credential that some agents need during the investigation.
    pub struct MidRun {
        /// Domain of the credential. Without it, none is requested.
        domain: Option<Domain> = None,
        /// Probability per investigation.
        probability: Share = Share(1.0),
    }

    /// Credentials that an agent requests from Vault.
    pub struct Credentials {
        /// Domains of the credentials requested before the first hypothesis; by default that of the
        /// alert. An empty list means none.
        at_start: Option<Vec<Domain>> = None,
        /// Credentials requested between hypotheses.
        mid_run: Vec<MidRun> = Vec::new(),
    }

    /// Actions that an agent attempts, whether its phase allows them or not.
    pub struct Actions {
        /// Number of reads per hypothesis; rounded.
        reads: Spread<Amount> = Spread::literal("1"),
        /// Probability per hypothesis of a write that can be undone.
        safe_write: Share = Share(0.0),
        /// Probability per hypothesis of a write that cannot be undone.
        risky_write: Share = Share(0.0),
        /// Probability that an action targets the systems of another domain.
        foreign: Share = Share(0.0),
        /// Probability that the agent ends with the outcome `denied` when it is refused something,
        /// instead of going on without it.
        stops_when_denied: Share = Share(0.0),
    }

    /// Weights of the conclusions of agents that do not fail.
    pub struct Conclusions {
        /// Weight of `resolved`: the agent found the cause.
        resolved: Amount = Amount(1.0),
        /// Weight of `inconclusive`: the agent ran out of hypotheses.
        inconclusive: Amount = Amount(0.0),
        /// Weight of `escalated`: the agent handed over to a person.
        escalated: Amount = Amount(0.0),
        /// Share of the resolved investigations whose conclusion a review finds wrong.
        wrong: Share = Share(0.0),
    }

    /// Failures, as shares of all investigations. The first four exclude each other.
    pub struct Failures {
        /// The process crashes.
        crash: Share = Share(0.0),
        /// The memory grows up to `memory.leak`.
        oom: Share = Share(0.0),
        /// The agent loops until the deadline of its Job.
        endless_loop: Share = Share(0.0),
        /// The agent gives up after some of its hypotheses; the outcome is `inconclusive`.
        gives_up: Share = Share(0.0),
        /// The agent ends without returning its credentials. Independent of the other failures.
        keeps_credentials: Share = Share(0.0),
    }

    /// Behaviour of agents that investigate alerts of one domain.
    pub struct Profile {
        /// Number of hypotheses; rounded.
        hypotheses: Spread<Amount> = Spread::literal("1"),
        /// Time that the agent works by itself before each tool call.
        think: Spread<Span> = Spread::literal("0s"),
        /// Calls to tools.
        tools: Tools = Tools::default(),
        /// Price of a million LLM tokens, in dollars.
        usd_per_million_tokens: Amount = Amount(5.0),
        /// Memory of the agent's process.
        memory: Memory = Memory::default(),
        /// Credentials that the agent requests.
        credentials: Credentials = Credentials::default(),
        /// Actions that the agent attempts.
        actions: Actions = Actions::default(),
        /// Weights of its conclusions.
        conclusions: Conclusions = Conclusions::default(),
        /// Shares of its failures.
        failures: Failures = Failures::default(),
    }

    /// The profile of each domain. A domain that is not given has the defaults.
    pub struct Profiles {
        /// Agents on network alerts.
        network: Profile = Profile::default(),
        /// Agents on database alerts.
        database: Profile = Profile::default(),
        /// Agents on application alerts.
        application: Profile = Profile::default(),
        /// Agents on security alerts.
        security: Profile = Profile::default(),
    }
}

impl Profiles {
    /// The profile of `domain`.
    pub const fn of(&self, domain: Domain) -> &Profile {
        match domain {
            Domain::Network => &self.network,
            Domain::Database => &self.database,
            Domain::Application => &self.application,
            Domain::Security => &self.security,
        }
    }
}
