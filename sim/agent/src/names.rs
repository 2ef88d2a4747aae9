//! Every name of a run in Kubernetes, Vault and PostgreSQL. They all contain the run's id, so that
//! runs share servers with each other and with other tenants.
//!
//! ```
//! use alertstorm_agent::names::{Names, RunId};
//! use alertstorm_model::investigation::Domain;
//!
//! let names = Names::of_run(&"k3x7".parse::<RunId>()?);
//! assert_eq!(names.namespace(), "alertstorm-k3x7");
//! assert_eq!(names.mount(Domain::Network), "alertstorm-k3x7/network");
//! assert_eq!(names.database(), "alertstorm_k3x7");
//! # Ok::<(), alertstorm_agent::names::InvalidRunId>(())
//! ```

use std::fmt;
use std::str::FromStr;

use alertstorm_model::investigation::{Domain, InvestigationId};
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};
use serde::{Deserialize, Serialize};

/// What every name begins with.
const PROGRAM: &str = "alertstorm";

/// The longest id of a run. The longest name that contains it is a role of PostgreSQL, which may have
/// 63 bytes (`NAMEDATALEN`).
const ID_MAX: usize = 20;

/// The id of a run: 1 to 20 lower-case letters and digits, the first one a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text is not the id of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the id of a run: 1 to 20 lower-case letters and digits, the first one a letter"
)]
pub struct InvalidRunId(String);

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        match first && rest && text.len() <= ID_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidRunId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: String) -> Result<Self, InvalidRunId> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of one run, or of a phase in an environment that `alertstorm render` writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    id: RunId,
    /// What every name begins with, which is the name of the namespace.
    namespace: String,
    /// The phase, in an environment. A run has only one.
    phase: Option<Phase>,
    /// The cluster of the run, where several clusters may share a Vault and a PostgreSQL.
    cluster: Option<String>,
}

impl Names {
    /// The names of a run.
    pub fn of_run(id: &RunId) -> Self {
        Self { id: id.clone(), namespace: format!("{PROGRAM}-{id}"), phase: None, cluster: None }
    }

    /// The names of a phase in an environment. Two phases share nothing, nor do two environments.
    pub fn of_environment(id: &RunId, phase: Phase) -> Self {
        let namespace = format!("{PROGRAM}-{id}-{phase}");
        Self { id: id.clone(), namespace, phase: Some(phase), cluster: None }
    }

    /// The names of a run in one of several clusters that share a Vault and a PostgreSQL: its marker there
    /// is another than that of a run with the same id in another cluster.
    #[must_use]
    pub fn in_cluster(self, cluster: &str) -> Self {
        Self { cluster: Some(cluster.to_owned()), ..self }
    }

    /// The run's id, or the environment's.
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// The namespace of the agents.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The key and the value of the label that marks the owner's objects in Kubernetes.
    pub fn label(&self) -> (&'static str, String) {
        match self.phase {
            None => (RUN_LABEL, self.id.to_string()),
            Some(phase) => ("alertstorm.dev/environment", format!("{}-{phase}", self.id)),
        }
    }

    /// The text that marks the owner's objects in Vault (a mount's description, a policy's comment)
    /// and PostgreSQL (a comment).
    pub fn marker(&self) -> String {
        match self.phase {
            None => match &self.cluster {
                None => format!("{PROGRAM} run {}", self.id),
                Some(cluster) => format!("{PROGRAM} run {} cluster {cluster}", self.id),
            },
            Some(phase) => format!("{PROGRAM} environment {} phase {phase}", self.id),
        }
    }

    /// The cluster-wide object of one of the harness's identities: its ClusterRole, and its
    /// ClusterRoleBinding.
    pub fn cluster_wide(&self, identity: &str) -> String {
        format!("{}-{identity}", self.namespace)
    }

    /// The FlowSchema.
    pub fn flow_schema(&self) -> String {
        self.namespace.clone()
    }

    /// The mount of a domain's secrets engine.
    pub fn mount(&self, domain: Domain) -> String {
        format!("{}/{domain}", self.namespace)
    }

    /// The mount of a version 1 key-value store that stands for the systems of the domains `network`
    /// and `security`: an action is a read or a write of a path there, which a policy allows or denies.
    pub fn systems(&self) -> String {
        format!("{}/systems", self.namespace)
    }

    /// The path below [`Names::systems`] that an action reads or writes.
    pub fn system_path(&self, action: Action) -> String {
        let what = match action.verb {
            Verb::Read => "state",
            Verb::SafeWrite => "reversible",
            Verb::RiskyWrite => "irreversible",
        };
        format!("{}/{}/{what}", self.systems(), action.target)
    }

    /// The prefix of the Vault policies' names.
    pub fn policies(&self) -> String {
        format!("{}-", self.namespace)
    }

    /// The Vault policy of agents that investigate the domain `home` in `phase`.
    pub fn policy(&self, phase: Phase, home: Domain) -> String {
        format!("{}{}", self.policies(), role(phase, home))
    }

    /// The path that issues a credential, which is also the prefix of its leases' ids.
    pub fn credential_path(&self, engine: Engine, domain: Domain, role: &str) -> String {
        let mount = self.mount(domain);
        match engine {
            Engine::Postgresql => format!("{mount}/creds/{role}"),
            Engine::Pki => format!("{mount}/issue/{role}"),
            Engine::Kubernetes => format!("{mount}/creds/{role}"),
            Engine::Kv => format!("{mount}/{role}"),
        }
    }

    /// The mount of the auth method.
    pub fn login_mount(&self, auth: AuthMethod) -> String {
        format!("{}-{}", self.namespace, method(auth))
    }

    /// The login path of the auth method.
    pub fn login_path(&self, auth: AuthMethod) -> String {
        format!("auth/{}/login", self.login_mount(auth))
    }

    /// The database that agents read and write. Statements in it are logged, except those of Vault's
    /// user, whose `CREATE ROLE` statements contain passwords.
    pub fn database(&self) -> String {
        self.namespace.replace('-', "_")
    }

    /// The user with which Vault logs in to PostgreSQL.
    pub fn vault_user(&self) -> String {
        format!("{}_vault", self.database())
    }

    /// The role in PostgreSQL with the privileges of a verb; see `kind-config/postgres/evidence.sql`.
    pub fn group(&self, verb: Verb) -> String {
        let what = match verb {
            Verb::Read => "reads",
            Verb::SafeWrite => "safe_writes",
            Verb::RiskyWrite => "risky_writes",
        };
        format!("{}_{what}", self.database())
    }
}

/// The label of a run's objects in Kubernetes; its value is the run's id.
pub const RUN_LABEL: &str = "alertstorm.dev/run";

/// The name of both the Kubernetes Role and the Vault role of agents that investigate the domain
/// `home` in `phase`. Each is in a namespace or a mount of its run.
pub fn role(phase: Phase, home: Domain) -> String {
    format!("agent-{phase}-{home}")
}

/// The ConfigMap that an action on the domain `application` reads or changes.
pub const fn application_object(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "application-state",
        Verb::SafeWrite => "application-reversible",
        Verb::RiskyWrite => "application-irreversible",
    }
}

/// The role of a secrets engine. An agent has more privileges in its own domain than in others.
pub fn credential_role(phase: Phase, home: Domain, target: Domain, config: u32) -> String {
    let whose = if home == target { "own" } else { "other" };
    format!("{phase}-{whose}-{config}")
}

/// The DNS domain of the certificates that a domain's secrets engine issues, and no others.
pub fn certificate_domain(domain: Domain) -> String {
    format!("{domain}.agents.alertstorm")
}

/// The name in the certificate of an investigation's agent for the systems of a domain.
pub fn certificate_name(id: InvestigationId, domain: Domain) -> String {
    format!("{id}.{}", certificate_domain(domain))
}

/// The type of the auth method.
pub const fn method(auth: AuthMethod) -> &'static str {
    match auth {
        AuthMethod::Kubernetes => "kubernetes",
        AuthMethod::Jwt => "jwt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_would_not_be_valid_in_every_name_is_refused() {
        for wrong in ["", "7abc", "Run", "a-b", "a_b", "a/b", "a'b", "ä", "abcdefghijklmnopqrstu"]
        {
            assert!(wrong.parse::<RunId>().is_err(), "{wrong}");
            assert!(serde_json::from_value::<RunId>(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_runs_share_no_name_nor_do_an_environment_and_a_run_or_two_phases() {
        let id = |text: &str| text.parse::<RunId>().unwrap();
        let of = |names: &Names| {
            let mut all = vec![
                names.namespace().to_owned(),
                names.label().1,
                names.marker(),
                names.cluster_wide("vault"),
                names.flow_schema(),
                names.systems(),
                names.policies(),
                names.login_mount(AuthMethod::Kubernetes),
                names.login_mount(AuthMethod::Jwt),
                names.database(),
                names.vault_user(),
            ];
            all.extend(Domain::ALL.iter().map(|&domain| names.mount(domain)));
            all.extend(Verb::ALL.iter().map(|&verb| names.group(verb)));
            all
        };
        let (one, other) = (Names::of_run(&id("a")), Names::of_run(&id("ab")));
        let others = of(&other);
        assert!(of(&one).iter().all(|name| !others.contains(name)));
        let elsewhere = Names::of_run(&id("a")).in_cluster("another");
        assert_ne!(elsewhere.marker(), one.marker());
        let environment = Names::of_environment(&id("a"), Phase::Shadow);
        let others = of(&environment);
        assert!(of(&one).iter().all(|name| !others.contains(name)));
        let others = of(&Names::of_environment(&id("a"), Phase::Autonomous));
        assert!(of(&environment).iter().all(|name| !others.contains(name)));
    }

    #[test]
    fn the_longest_names_are_valid_in_postgresql() {
        let id = "a".repeat(ID_MAX).parse().unwrap();
        let names = Names::of_environment(&id, Phase::ReadOnlyAssist);
        let longest = Verb::ALL.iter().map(|&verb| names.group(verb).len()).max();
        assert!(longest.is_some_and(|length| length < 64), "{longest:?}");
    }
}
