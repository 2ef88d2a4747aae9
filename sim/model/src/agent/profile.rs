//! An agent's profile: for each domain, distributions instead of constants.

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
    /// How often a tool is called for a hypothesis, and what a call takes.
    pub struct ToolUse {
        /// Calls for each hypothesis.
        calls: Spread<Amount> = Spread::literal("0"),
        /// How long a call takes.
        takes: Spread<Span> = Spread::literal("1s"),
        /// Tokens that the model behind the agent reads and writes for a call.
        tokens: Spread<Amount> = Spread::literal("0"),
    }

    /// The tools of an agent.
    pub struct Tools {
        /// The API of the language model.
        llm: ToolUse = ToolUse::default(),
        /// Log search.
        log_search: ToolUse = ToolUse::default(),
        /// Network telemetry.
        network_telemetry: ToolUse = ToolUse::default(),
        /// Cloud storage.
        cloud_storage: ToolUse = ToolUse::default(),
    }

    /// Memory over time.
    pub struct Memory {
        /// At the start.
        start: Spread<Bytes> = Spread::literal("200Mi"),
        /// More with each hypothesis.
        per_hypothesis: Spread<Bytes> = Spread::literal("20Mi"),
        /// Where an agent that leaks (`failures.oom`) ends.
        leak: Spread<Bytes> = Spread::literal("5Gi..8Gi"),
    }

    /// A credential that turns out to be needed.
    pub struct MidRun {
        /// For whose systems.
        domain: Option<Domain> = None,
        /// How likely.
        probability: Share = Share(1.0),
    }

    /// Credentials needed.
    pub struct Credentials {
        /// From the start; the profile's own domain where it is left out.
        at_start: Option<Vec<Domain>> = None,
        /// Later, between hypotheses.
        mid_run: Vec<MidRun> = Vec::new(),
    }

    /// Actions attempted, allowed or not.
    pub struct Actions {
        /// Reads for each hypothesis.
        reads: Spread<Amount> = Spread::literal("1"),
        /// How likely a write that can be undone is, for each hypothesis.
        safe_write: Share = Share(0.0),
        /// How likely a write that cannot be undone is, for each hypothesis.
        risky_write: Share = Share(0.0),
        /// How likely an action goes to another domain's systems.
        foreign: Share = Share(0.0),
        /// How likely the agent stops when it is refused something.
        stops_when_denied: Share = Share(0.0),
    }

    /// What the agent comes to, where nothing fails: weights.
    pub struct Conclusions {
        /// Found the cause.
        resolved: Amount = Amount(1.0),
        /// Ran out of hypotheses.
        inconclusive: Amount = Amount(0.0),
        /// Handed over to a person.
        escalated: Amount = Amount(0.0),
        /// The share of those resolved whose conclusion a review finds wrong.
        wrong: Share = Share(0.0),
    }

    /// How the agent fails: shares of all investigations.
    pub struct Failures {
        /// Its process dies.
        crash: Share = Share(0.0),
        /// It takes more and more memory.
        oom: Share = Share(0.0),
        /// It goes round in circles until the deadline.
        endless_loop: Share = Share(0.0),
        /// It gives up half-way.
        gives_up: Share = Share(0.0),
        /// It concludes, but does not give its credentials back.
        keeps_credentials: Share = Share(0.0),
    }

    /// What an agent does in one domain.
    pub struct Profile {
        /// Hypotheses worked through; rounded.
        hypotheses: Spread<Amount> = Spread::literal("1"),
        /// Thinking before each tool call.
        think: Spread<Span> = Spread::literal("0s"),
        /// Tools.
        tools: Tools = Tools::default(),
        /// Dollars for a million tokens.
        usd_per_million_tokens: Amount = Amount(5.0),
        /// Memory over time.
        memory: Memory = Memory::default(),
        /// Credentials needed.
        credentials: Credentials = Credentials::default(),
        /// Actions attempted.
        actions: Actions = Actions::default(),
        /// What it comes to.
        conclusions: Conclusions = Conclusions::default(),
        /// How it fails.
        failures: Failures = Failures::default(),
    }

    /// A profile for each domain.
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
