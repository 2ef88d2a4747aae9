//! What a run creates outside of its namespace, in Kubernetes, Vault and PostgreSQL, and the owners of
//! those objects that exist already.

use alertstorm_agent::names::Names;
use alertstorm_agent::postgres::{Login, PostgresError, connect};
use alertstorm_agent::vault::{Vault, VaultError};
use alertstorm_model::investigation::Domain;
use alertstorm_model::phase::{Phase, Verb};
use alertstorm_model::scenario::knobs::AuthMethod;
use kube::Client;

use crate::call;
use crate::objects::{self, collection, is_marked};
use crate::postgres::{Kind, comment_of};
use crate::vault::{Owner, mount_owner, policy_owner};

/// An object, and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is, its kind and its name.
    pub what: String,
    /// Its owner, by its marker.
    pub owner: Owner,
}

/// The objects to look for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Whose they are.
    pub names: &'a Names,
    /// The phases whose policies are among them.
    pub phases: &'a [Phase],
    /// The auth methods whose mounts are among them.
    pub auths: &'a [AuthMethod],
    /// Whether a FlowSchema is among them.
    pub flow_schema: bool,
}

impl<'a> Scope<'a> {
    /// Everything that a run with these names may have created.
    pub const fn all(names: &'a Names) -> Self {
        const AUTHS: &[AuthMethod] = &[AuthMethod::Kubernetes, AuthMethod::Jwt];
        Self { names, phases: Phase::ALL, auths: AUTHS, flow_schema: true }
    }

    /// Kind and name of the cluster-wide objects in Kubernetes; the namespace, which shows that the
    /// others may exist, is the last one.
    pub fn objects(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("ClusterRole", self.names.cluster_wide("scraper")),
            ("ClusterRoleBinding", self.names.cluster_wide("scraper")),
            ("ClusterRoleBinding", self.names.cluster_wide("vault")),
        ];
        if self.flow_schema {
            all.push(("FlowSchema", self.names.flow_schema()));
        }
        all.push(("Namespace", self.names.namespace().to_owned()));
        all
    }

    /// The paths of mounts in Vault: `sys/mounts/…` and `sys/auth/…`.
    pub fn mounts(&self) -> Vec<String> {
        let engines = Domain::ALL.iter().map(|&domain| self.names.mount(domain));
        let mut all: Vec<String> = engines
            .chain([self.names.systems()])
            .map(|mount| format!("sys/mounts/{mount}"))
            .collect();
        let auths = self.auths.iter().map(|&auth| self.names.login_mount(auth));
        all.extend(auths.map(|mount| format!("sys/auth/{mount}")));
        all
    }

    /// The paths of policies in Vault.
    pub fn policies(&self) -> Vec<String> {
        let of =
            |&phase: &Phase| Domain::ALL.iter().map(move |&home| self.names.policy(phase, home));
        let names = self.phases.iter().flat_map(of);
        names.map(|name| format!("sys/policies/acl/{name}")).collect()
    }

    /// Database and roles in PostgreSQL.
    pub fn in_postgres(&self) -> Vec<(Kind, String)> {
        let mut all =
            vec![(Kind::Database, self.names.database()), (Kind::Role, self.names.vault_user())];
        all.extend(Verb::ALL.iter().map(|&verb| (Kind::Role, self.names.group(verb))));
        all
    }
}

/// Looks for the objects in Kubernetes.
///
/// # Errors
/// If a request fails.
pub async fn in_kubernetes(client: &Client, scope: &Scope<'_>) -> Result<Vec<Item>, kube::Error> {
    let mut found = Vec::new();
    for (kind, name) in scope.objects() {
        let path = format!("{}/{name}", collection(kind, ""));
        let read = match objects::get(client, &path).await {
            // A user who may not read FlowSchemas cannot have created one.
            Err(error) if kind == "FlowSchema" && call::is_forbidden(&error) => None,
            read => read?,
        };
        let owner = match read {
            None => Owner::Nobody,
            Some(object) if is_marked(&object, scope.names) => Owner::Run,
            Some(_) => Owner::Other,
        };
        found.push(Item { what: format!("Kubernetes: {kind} {name}"), owner });
    }
    Ok(found)
}

/// Looks for the objects in Vault.
///
/// # Errors
/// If a request fails.
pub async fn in_vault(vault: &Vault, scope: &Scope<'_>) -> Result<Vec<Item>, VaultError> {
    let mut found = Vec::new();
    for path in scope.mounts() {
        let owner = mount_owner(vault, &path, scope.names).await?;
        found.push(Item { what: format!("Vault: {path}"), owner });
    }
    for path in scope.policies() {
        let owner = policy_owner(vault, &path, scope.names).await?;
        found.push(Item { what: format!("Vault: {path}"), owner });
    }
    Ok(found)
}

/// Looks for the objects in PostgreSQL.
///
/// # Errors
/// If the login or a statement fails.
pub async fn in_postgres(login: Login<'_>, scope: &Scope<'_>) -> Result<Vec<Item>, PostgresError> {
    let (client, marker) = (connect(login).await?, scope.names.marker());
    let mut found = Vec::new();
    for (kind, name) in scope.in_postgres() {
        let owner = match comment_of(&client, kind, &name).await? {
            None => Owner::Nobody,
            Some(comment) if comment == marker => Owner::Run,
            Some(_) => Owner::Other,
        };
        let kind = match kind {
            Kind::Database => "database",
            Kind::Role => "role",
        };
        found.push(Item { what: format!("PostgreSQL: {kind} {name}"), owner });
    }
    Ok(found)
}
