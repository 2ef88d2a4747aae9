//! The servers that agents may connect to, by IP block and port: the egress rules of their
//! NetworkPolicy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::{Request, Uri};
use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call;

/// Addresses of clouds' metadata services, which hand out credentials of the node.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// How long requests to the API server are retried.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// An IP block and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    network: IpAddr,
    bits: u8,
    port: u16,
}

/// A text that is not like `10.0.0.0/24:8200` or `[fd00::/8]:8200`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address or an IP block with a port, like 10.1.2.3:8200, 10.0.0.0/24:8200 or \
     [fd00::/64]:8200"
)]
pub struct NotAPeer(String);

impl Peer {
    /// One address.
    pub fn at(address: SocketAddr) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self { network: address.ip(), bits, port: address.port() }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && masked(address, self.bits) == self.network
    }

    /// An egress rule of a NetworkPolicy. A block never includes a metadata service, unless it is
    /// that address alone.
    fn rule(&self, protocols: &[&str]) -> Value {
        let mut block = json!({"cidr": format!("{}/{}", self.network, self.bits)});
        let full = if self.network.is_ipv4() { 32 } else { 128 };
        let inside: Vec<String> = METADATA
            .into_iter()
            .filter(|address| self.bits < full && self.contains(*address))
            .map(|address| format!("{address}/{full}"))
            .collect();
        if !inside.is_empty() {
            block["except"] = json!(inside);
        }
        json!({"to": [{"ipBlock": block}], "ports": ports(self.port, protocols)})
    }
}

fn ports(port: u16, protocols: &[&str]) -> Value {
    protocols.iter().map(|protocol| json!({"protocol": protocol, "port": port})).collect()
}

/// An address with all but its first bits cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl FromStr for Peer {
    type Err = NotAPeer;

    fn from_str(text: &str) -> Result<Self, NotAPeer> {
        let parsed = || {
            let (block, port) = text.rsplit_once(':')?;
            let block = match block.strip_prefix('[') {
                Some(inside) => inside.strip_suffix(']')?,
                None if block.contains(':') => return None,
                None => block,
            };
            let (address, bits) = block.split_once('/').unwrap_or((block, ""));
            let address: IpAddr = address.parse().ok()?;
            let full = if address.is_ipv4() { 32 } else { 128 };
            let bits =
                if bits.is_empty() && !block.contains('/') { full } else { bits.parse().ok()? };
            let port = port.parse().ok().filter(|port| *port != 0)?;
            (bits <= full).then(|| Self { network: masked(address, bits), bits, port })
        };
        parsed().ok_or_else(|| NotAPeer(text.to_owned()))
    }
}

/// The DNS servers that agents may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dns {
    /// None: every server is known by its address.
    #[default]
    None,
    /// The pods of the cluster's DNS: `k8s-app: kube-dns` in `kube-system`.
    Cluster,
    /// Those at these addresses, such as a DNS cache on each node.
    At(Vec<Peer>),
}

/// The servers that agents may connect to. A list that is empty allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The API server: its Service and the addresses behind it.
    pub api_server: Vec<Peer>,
    /// Vault.
    pub vault: Vec<Peer>,
    /// PostgreSQL.
    pub postgres: Vec<Peer>,
    /// DNS.
    pub dns: Dns,
}

impl Reach {
    /// The egress rules of a NetworkPolicy.
    pub fn rules(&self) -> Vec<Value> {
        let servers = [&self.api_server, &self.vault, &self.postgres];
        let mut rules: Vec<Value> =
            servers.into_iter().flatten().map(|peer| peer.rule(&["TCP"])).collect();
        let both = ["UDP", "TCP"];
        match &self.dns {
            Dns::None => {}
            Dns::Cluster => rules.push(json!({
                "to": [{
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": "kube-system"},
                    },
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                }],
                "ports": ports(53, &both),
            })),
            Dns::At(peers) => rules.extend(peers.iter().map(|peer| peer.rule(&both))),
        }
        rules
    }

    /// What of these agents cannot connect to, as no address is named.
    pub fn lacking(&self) -> Vec<&'static str> {
        let servers = [
            ("the API server", &self.api_server),
            ("Vault", &self.vault),
            ("PostgreSQL", &self.postgres),
        ];
        servers.into_iter().filter(|(_, peers)| peers.is_empty()).map(|(name, _)| name).collect()
    }
}

/// The addresses of a cluster's API server as pods see it. A network plugin checks a packet before
/// or after it is sent on from the Service's address, so both are needed.
///
/// # Errors
/// If the Service or the EndpointSlice `kubernetes` cannot be read.
pub async fn of_api_server(client: &Client) -> Result<Vec<Peer>, kube::Error> {
    let get = async |path: &str| {
        let ask = || async {
            let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
            client.request::<Value>(request).await
        };
        call::patiently(PATIENCE, ask).await
    };
    let service = get("/api/v1/namespaces/default/services/kubernetes").await?;
    // The API server writes it itself, under this name, unless another reconciler is configured
    // (pkg/controlplane/reconcilers, v1.36.3).
    let slice = get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
    let slice = match slice {
        Err(error) if call::is_gone(&error) => Value::Null,
        found => found?,
    };
    let mut peers = Vec::new();
    let mut add = |addresses: &Value, ports: &Value| {
        let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for address in each(addresses).iter().filter_map(|value| value.as_str()?.parse().ok()) {
            let ports = each(ports);
            let ports = ports.iter().filter_map(|port| u16::try_from(port["port"].as_u64()?).ok());
            peers.extend(ports.map(|port| Peer::at(SocketAddr::new(address, port))));
        }
    };
    add(&service["spec"]["clusterIPs"], &service["spec"]["ports"]);
    for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
        add(&endpoint["addresses"], &slice["ports"]);
    }
    peers.sort();
    peers.dedup();
    Ok(peers)
}

/// Host and port of a URL; the port of its scheme if it has none.
pub fn host_of(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let port = match (uri.port_u16(), uri.scheme_str()?) {
        (Some(port), _) => port,
        (None, "https") => 443,
        (None, "http") => 80,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port))
}

/// The addresses of a URL's host.
///
/// # Errors
/// If the host name cannot be resolved here, or has no address.
pub async fn of_url(url: &str) -> std::io::Result<Vec<Peer>> {
    let (host, port) = host_of(url)
        .ok_or_else(|| std::io::Error::other(format!("`{url}` is not a URL with a host")))?;
    let found = tokio::net::lookup_host((host.as_str(), port)).await?;
    let mut peers: Vec<Peer> = found.map(Peer::at).collect();
    peers.sort();
    peers.dedup();
    if peers.is_empty() {
        return Err(std::io::Error::other(format!("{host} has no address")));
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_ip_block_with_a_port_is_parsed_and_its_other_bits_are_cleared() {
        assert_eq!(peer("10.1.2.3:8200"), Peer::at("10.1.2.3:8200".parse().unwrap()));
        assert_eq!(peer("10.1.2.3/8:8200"), peer("10.0.0.0/8:8200"));
        assert_eq!(peer("[fd00::1/64]:443"), peer("[fd00::/64]:443"));
        assert_eq!(peer("10.1.2.3/0:1"), peer("0.0.0.0/0:1"));
        for wrong in [
            "",
            "10.0.0.1",
            "10.0.0.0/33:1",
            "10.0.0.0/:1",
            "10.0.0.1:0",
            "10.0.0.1:70000",
            "fd00::1:443",
            "[fd00::/129]:1",
            "vault.example:8200",
            "10.0.0.0/-1:1",
        ] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn egress_is_allowed_to_the_named_servers_only() {
        let reach = Reach {
            api_server: vec![peer("10.96.0.1:443"), peer("172.18.0.2:6443")],
            vault: vec![peer("172.18.0.3:8200")],
            postgres: vec![peer("172.18.0.4:5432")],
            dns: Dns::None,
        };
        let rules = reach.rules();
        assert_eq!(rules.len(), 4);
        for (rule, (cidr, port)) in rules.iter().zip([
            ("10.96.0.1/32", 443),
            ("172.18.0.2/32", 6443),
            ("172.18.0.3/32", 8200),
            ("172.18.0.4/32", 5432),
        ]) {
            assert_eq!(rule["to"], json!([{"ipBlock": {"cidr": cidr}}]));
            assert_eq!(rule["ports"], json!([{"protocol": "TCP", "port": port}]));
        }
        assert_eq!(Reach::default().rules(), Vec::<Value>::new());
        assert_eq!(Reach::default().lacking().len(), 3);
    }

    #[test]
    fn no_block_includes_a_metadata_service() {
        let block = |text: &str| peer(text).rule(&["TCP"])["to"][0]["ipBlock"].clone();
        assert_eq!(block("0.0.0.0/0:443")["except"], json!(["169.254.169.254/32"]));
        assert_eq!(block("[::/0]:443")["except"], json!(["fd00:ec2::254/128"]));
        assert_eq!(block("10.0.0.0/8:443")["except"], Value::Null);
    }

    #[test]
    fn dns_is_allowed_to_the_cluster_s_servers_only() {
        let cluster = Reach { dns: Dns::Cluster, ..Reach::default() }.rules();
        assert_eq!(cluster.len(), 1);
        assert_eq!(cluster[0]["to"][0]["podSelector"]["matchLabels"]["k8s-app"], "kube-dns");
        assert_eq!(cluster[0]["to"].as_array().unwrap().len(), 1);
        let at = Reach { dns: Dns::At(vec![peer("169.254.20.10:53")]), ..Reach::default() }.rules();
        assert_eq!(at[0]["to"], json!([{"ipBlock": {"cidr": "169.254.20.10/32"}}]));
        assert_eq!(at[0]["ports"][0], json!({"protocol": "UDP", "port": 53}));
    }

    #[test]
    fn host_and_port_of_a_url_are_found() {
        let found = |url| host_of(url).unwrap();
        assert_eq!(found("https://vault.example"), ("vault.example".to_owned(), 443));
        assert_eq!(found("http://[::1]:8200/"), ("::1".to_owned(), 8200));
        assert_eq!(host_of("vault.example:8200"), None);
        assert_eq!(host_of("unix:///run/vault"), None);
    }

    #[tokio::test]
    async fn the_addresses_of_a_url_are_those_of_its_host() {
        let peers = of_url("https://172.18.0.3:8200").await.unwrap();
        assert_eq!(peers, [peer("172.18.0.3:8200")]);
        let peers = of_url("http://localhost:8200").await.unwrap();
        assert!(peers.contains(&peer("127.0.0.1:8200")), "{peers:?}");
    }

    #[tokio::test]
    async fn the_api_server_is_its_service_and_the_addresses_behind_it() {
        use kube::client::Body;
        let service = tower::service_fn(|request: Request<Body>| async move {
            let text = match request.uri().path() {
                "/api/v1/namespaces/default/services/kubernetes" => {
                    r#"{"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"port":443}]}}"#
                }
                _ => r#"{"endpoints":[{"addresses":["172.18.0.2"]}],"ports":[{"port":6443}]}"#,
            };
            Ok::<_, std::io::Error>(http::Response::new(Body::from(text.as_bytes().to_vec())))
        });
        let peers = of_api_server(&Client::new(service, "default")).await.unwrap();
        assert_eq!(peers, [peer("10.96.0.1:443"), peer("172.18.0.2:6443")]);
    }
}
