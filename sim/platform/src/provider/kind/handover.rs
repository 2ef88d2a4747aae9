//! The platform of a kind cluster and its sidecar containers.

use alertstorm_agent::names::Names;
use alertstorm_model::scenario::Scenario;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::config;
use super::error::KindError;
use super::nodes::NAME;
use super::sidecars::{Sidecars, VAULT_PORT};
use crate::platform::{
    Agents, Identities, MetricsOf, Page, Platform, PodSpec, Surroundings, Trails,
};
use crate::provider::command::run;
use crate::provider::state::Folder;
use crate::reach::{self, Dns, Peer, Reach};

/// The CA certificate of the API server in PEM format.
fn authority(kubeconfig: &Kubeconfig) -> Result<String, KindError> {
    use base64::Engine;
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let data = cluster.and_then(|cluster| cluster.certificate_authority_data.as_deref());
    let data = data.ok_or_else(|| KindError::Authority("it has none".to_owned()))?;
    let wrong = |why: &dyn std::fmt::Display| KindError::Authority(why.to_string());
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| wrong(&error))?;
    String::from_utf8(bytes).map_err(|error| wrong(&error))
}

fn metrics(node: &str) -> Vec<MetricsOf> {
    let pod = |component: &'static str, scheme: &str, port: u16| {
        let path = format!(
            "/api/v1/namespaces/kube-system/pods/{scheme}:{component}-{node}:{port}/proxy/metrics"
        );
        MetricsOf { component, page: Page::Proxied(path) }
    };
    vec![
        MetricsOf { component: "kube-apiserver", page: Page::ApiServer },
        pod("etcd", "http", 2381),
        pod("kube-controller-manager", "https", 10257),
        pod("kube-scheduler", "https", 10259),
    ]
}

/// A client of a cluster's API server with the administrator's credentials.
pub(super) async fn client_of(name: &str, names: &Names) -> Result<Client, KindError> {
    let text = run("kind", &["get", "kubeconfig", "--name", name]).await?;
    let kubeconfig = Kubeconfig::from_yaml(&text)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_namespace = names.namespace().to_owned();
    Ok(Client::try_from(config)?)
}

/// The platform, and the names of the cluster's worker nodes.
pub(super) async fn platform_of(
    name: &str,
    folder: &Folder,
    sidecars: &Sidecars,
    agent: String,
    scenario: &Scenario,
    there: bool,
) -> Result<(Platform, Vec<String>), KindError> {
    let text = run("kind", &["get", "kubeconfig", "--name", name]).await?;
    let kubeconfig = Kubeconfig::from_yaml(&text)?;
    let ca = authority(&kubeconfig)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_namespace = sidecars.names.namespace().to_owned();
    let api_server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let node = format!("{name}-control-plane");
    let key = ["exec", &node, "cat", "/etc/kubernetes/pki/sa.pub"];
    let accounts_key = run("docker", &key).await?;
    let nodes = run("kind", &["get", "nodes", "--name", name]).await?;
    let mut workers: Vec<String> =
        nodes.lines().filter(|of| !of.contains("-control-plane")).map(str::to_owned).collect();
    workers.sort_unstable();
    let trail = folder.path().join("trail").join(config::TRAIL_FILE);
    let mut remarks = Vec::new();
    let (asked, got) = (scenario.cluster.nodes.get(), workers.len().max(1));
    if asked as usize != got {
        remarks.push(format!("the scenario has {asked} nodes, and the kind cluster has {got}"));
    }
    if there {
        let why = "the cluster existed before the run, so the scenario's control-plane flags do not apply";
        remarks.push(why.to_owned());
    }
    if !trail.is_file() {
        remarks.push(
            "the API server's audit log cannot be read: attribution of its requests is not checked"
                .to_owned(),
        );
    }
    let admin = Client::try_from(config)?;
    // Pods use addresses only, so they need no DNS.
    let reach = Reach {
        api_server: reach::of_api_server(&admin).await.map_err(KindError::ApiServer)?,
        vault: vec![Peer::at((sidecars.vault.ip, VAULT_PORT).into())],
        postgres: vec![Peer::at(sidecars.database.at)],
        dns: Dns::None,
    };
    let platform = Platform {
        provider: NAME,
        names: sidecars.names.clone(),
        is_prepared: false,
        api_server,
        admin,
        identities: Identities::Accounts,
        agents: Agents::Pods(Box::new(PodSpec {
            image: agent,
            vault: sidecars.address.url.clone(),
            vault_ca: String::new(),
            vault_namespace: None,
            postgres: sidecars.database.clone(),
            reach,
        })),
        vault: sidecars.address.clone(),
        around: Surroundings {
            api_server: format!("https://{node}:6443"),
            api_server_ca: ca.clone(),
            accounts_key,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            postgres: sidecars.database.clone(),
            postgres_user: (sidecars.names.vault_user(), sidecars.vault_password.clone()),
            // Docker keeps the standard output of a container.
            audit: Some("stdout".to_owned()),
        },
        ca,
        postgres: sidecars.database.clone(),
        trails: Trails {
            vault: Some(sidecars.vault.log.clone()),
            api_server: trail.is_file().then_some(trail),
            postgres: Some(sidecars.postgres.log.clone()),
        },
        metrics: metrics(&node),
        remarks,
    };
    Ok((platform, workers))
}
