//! The names that set-up and agents agree on: roles, paths in Vault, objects in Kubernetes.

use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::{Action, Phase, Verb};
use alertstorm_model::scenario::knobs::{AuthMethod, Engine};

/// The version 1 key-value store that stands for the systems of the domains `network` and
/// `security`: what an agent reads and changes there is a path that a policy grants or refuses.
pub const SYSTEMS: &str = "alertstorm/systems";

/// The mount of a domain's engine. Everything of ours in Vault is below a name of ours, as a Vault
/// may have other tenants.
pub fn mount(domain: Domain) -> String {
    format!("alertstorm/{domain}")
}

/// The policy of agents on `home` in `phase`.
pub fn policy(phase: Phase, home: Domain) -> String {
    format!("{POLICIES}{}", role(phase, home))
}

/// How the names of our policies in Vault begin.
pub const POLICIES: &str = "alertstorm-";

/// What agents on `home` are in `phase`: the name of their Role in Kubernetes, and of their role in
/// Vault.
pub fn role(phase: Phase, home: Domain) -> String {
    format!("agent-{phase}-{home}")
}

/// The ConfigMap that an action on an application reads or changes.
pub const fn application_object(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "application-state",
        Verb::SafeWrite => "application-reversible",
        Verb::RiskyWrite => "application-irreversible",
    }
}

/// The path of a domain's action on its system, where that is one that Vault guards.
pub fn system_path(action: Action) -> String {
    let what = match action.verb {
        Verb::Read => "state",
        Verb::SafeWrite => "reversible",
        Verb::RiskyWrite => "irreversible",
    };
    format!("{SYSTEMS}/{}/{what}", action.target)
}

/// The role of an engine's credentials: an agent's own domain grants more than another's.
pub fn credential_role(phase: Phase, home: Domain, target: Domain, config: u32) -> String {
    let whose = if home == target { "own" } else { "other" };
    format!("{phase}-{whose}-{config}")
}

/// The path that gives a credential; for leases, the prefix of their names.
pub fn credential_path(engine: Engine, domain: Domain, role: &str) -> String {
    let mount = mount(domain);
    match engine {
        Engine::Postgresql => format!("{mount}/creds/{role}"),
        Engine::Pki => format!("{mount}/issue/{role}"),
        Engine::Kubernetes => format!("{mount}/creds/{role}"),
        Engine::Kv => format!("{mount}/{role}"),
    }
}

/// The login method's mount.
pub fn login_mount(auth: AuthMethod) -> String {
    format!("alertstorm-{}", method(auth))
}

/// The login method's name.
pub const fn method(auth: AuthMethod) -> &'static str {
    match auth {
        AuthMethod::Kubernetes => "kubernetes",
        AuthMethod::Jwt => "jwt",
    }
}

/// The path of a login.
pub fn login_path(auth: AuthMethod) -> String {
    format!("auth/{}/login", login_mount(auth))
}
