//! Selects the cluster from the kubeconfig.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::environment::{ClusterError, Options};
use super::production::looks_like_production;
use crate::objects;

/// The selected context, with a client, the URL and the CA certificate of its API server.
pub(super) struct Target {
    pub name: String,
    pub api_server: String,
    pub ca: String,
    pub client: Client,
}

impl Target {
    /// The selected context; its client's default namespace is the run's.
    pub async fn find(options: &Options, namespace: &str) -> Result<Self, ClusterError> {
        let kubeconfig = Kubeconfig::read()?;
        let current = kubeconfig.current_context.clone();
        let name = options.context.clone().or(current).unwrap_or_default();
        let context = kubeconfig.contexts.iter().find(|context| context.name == name);
        let Some(context) = context else {
            let known: Vec<&str> = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect();
            let known = known.join(", ");
            return Err(ClusterError::NoContext { name, known });
        };
        let cluster = context.context.as_ref().map(|context| context.cluster.clone());
        let chosen = KubeConfigOptions { context: Some(name.clone()), ..Default::default() };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &chosen).await?;
        config.default_namespace = namespace.to_owned();
        let api_server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let names = [name.as_str(), cluster.as_deref().unwrap_or_default(), &api_server];
        if options.context.is_none() && names.into_iter().any(looks_like_production) {
            return Err(ClusterError::Production(name));
        }
        let Some(authority) = config.root_cert.clone() else {
            let why = "the kubeconfig has no CA certificate of the API server";
            return Err(ClusterError::Unsupported(why));
        };
        let ca = authority.iter().map(|der| pem(der)).collect();
        Ok(Self { name, api_server, ca, client: Client::try_from(config)? })
    }
}

/// What distinguishes a cluster from others: the uid of its namespace `kube-system`.
pub(super) async fn uid_of(client: &Client) -> Result<String, ClusterError> {
    let found = objects::get(client, "/api/v1/namespaces/kube-system").await?;
    let uid = found.and_then(|found| found["metadata"]["uid"].as_str().map(str::to_owned));
    // It is part of a comment in PostgreSQL.
    let is_uid = |uid: &String| uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let why = "the cluster's namespace kube-system has no uid";
    uid.filter(is_uid).ok_or(ClusterError::Unsupported(why))
}

/// A certificate in PEM format.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|l| str::from_utf8(l).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
