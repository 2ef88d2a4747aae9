//! Names that both the set-up of a platform and its agents use: roles, paths in Vault, objects in
//! Kubernetes.

use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};

/// The mount of a version 1 key-value store that stands for the systems of the domains `network` and
/// `security`: an action is a read or a write of a path there, which a policy allows or denies.
pub const SYSTEMS: &str = "alertstorm/systems";

/// The mount of a domain's secrets engine. All names in Vault start with `alertstorm`, as Vault may
/// have other tenants.
pub fn mount(domain: Domain) -> String {
    format!("alertstorm/{domain}")
}

/// The Vault policy of agents that investigate the domain `home` in `phase`.
pub fn policy(phase: Phase, home: Domain) -> String {
    format!("{POLICIES}{}", role(phase, home))
}

/// The prefix of the Vault policies' names.
pub const POLICIES: &str = "alertstorm-";

/// The name of both the Kubernetes Role and the Vault role of agents that investigate the domain
/// `home` in `phase`.
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

/// The path below [`SYSTEMS`] that an action reads or writes.
pub fn system_path(action: Action) -> String {
    let what = match action.verb {
        Verb::Read => "state",
        Verb::SafeWrite => "reversible",
        Verb::RiskyWrite => "irreversible",
    };
    format!("{SYSTEMS}/{}/{what}", action.target)
}

/// The role of a secrets engine. An agent has more privileges in its own domain than in others.
pub fn credential_role(phase: Phase, home: Domain, target: Domain, config: u32) -> String {
    let whose = if home == target { "own" } else { "other" };
    format!("{phase}-{whose}-{config}")
}

/// The path that issues a credential, which is also the prefix of its leases' ids.
pub fn credential_path(engine: Engine, domain: Domain, role: &str) -> String {
    let mount = mount(domain);
    match engine {
        Engine::Postgresql => format!("{mount}/creds/{role}"),
        Engine::Pki => format!("{mount}/issue/{role}"),
        Engine::Kubernetes => format!("{mount}/creds/{role}"),
        Engine::Kv => format!("{mount}/{role}"),
    }
}

/// The mount of the auth method.
pub fn login_mount(auth: AuthMethod) -> String {
    format!("alertstorm-{}", method(auth))
}

/// The type of the auth method.
pub const fn method(auth: AuthMethod) -> &'static str {
    match auth {
        AuthMethod::Kubernetes => "kubernetes",
        AuthMethod::Jwt => "jwt",
    }
}

/// The login path of the auth method.
pub fn login_path(auth: AuthMethod) -> String {
    format!("auth/{}/login", login_mount(auth))
}
