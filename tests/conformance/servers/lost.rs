//! A Vault whose responses are lost on the way to the agents.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alertstorm_model::event::{Event, Fact};
use alertstorm_model::investigation::InvestigationId;
use alertstorm_model::scenario::Plan;
use alertstorm_platform::provider::Provider;
use alertstorm_platform::provider::local::Local;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::altered::Altered;
use super::{run, runtime};
use crate::arm::Arm;
use crate::promises;

/// One agent, which takes one lease.
const ONE: &str = "[{flood: 1, mix: {database: 1}}]";

/// Requests are longer than this, and the records of a TLS handshake after its first are not.
const RECORD_OF_A_REQUEST: usize = 100;
/// Vault has answered when nothing has come from it for this long.
const ANSWERED: Duration = Duration::from_secs(3);
/// The type of a TLS record of application data.
const APPLICATION_DATA: u8 = 0x17;

/// The number of requests in what a client sent: the first may come with the end of the handshake.
fn requests_in(mut sent: &[u8]) -> usize {
    let mut requests = 0;
    while let [kind, _, _, high, low, rest @ ..] = sent {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        requests += usize::from(*kind == APPLICATION_DATA && length > RECORD_OF_A_REQUEST);
        sent = rest.get(length..).unwrap_or_default();
    }
    requests
}

/// Forwards a connection from the agent's own address, and loses the response to the request with number
/// `lose`: the agent sees its connection close.
async fn forward(mut agent: TcpStream, to: SocketAddr, lose: Option<usize>) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((agent.peer_addr()?.ip(), 0).into())?;
    let mut vault = socket.connect(to).await?;
    let (mut from_agent, mut from_vault) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut requests = 0;
    loop {
        tokio::select! {
            read = agent.read(&mut from_agent) => {
                let read = read?;
                if read == 0 {
                    return vault.shutdown().await;
                }
                vault.write_all(&from_agent[..read]).await?;
                let before = requests;
                requests += requests_in(&from_agent[..read]);
                if lose.is_some_and(|lose| (before..requests).contains(&lose)) {
                    let mut answer = async || vault.read(&mut from_vault).await;
                    while let Ok(Ok(1..)) = tokio::time::timeout(ANSWERED, answer()).await {}
                    return Ok(());
                }
            }
            read = vault.read(&mut from_vault) => {
                let read = read?;
                if read == 0 {
                    return agent.shutdown().await;
                }
                agent.write_all(&from_vault[..read]).await?;
            }
        }
    }
}

/// Loses the first response of the first connection, which is of a login, and the second of the second,
/// which is of a credential.
async fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let connections = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((agent, from)) = listener.accept().await {
            // The harness has its own connections.
            let is_agent = !from.ip().to_string().starts_with("127.0.0.");
            let number = if is_agent { connections.fetch_add(1, Ordering::SeqCst) } else { 9 };
            let lose = [Some(0), Some(1)].get(number).copied().flatten();
            tokio::spawn(forward(agent, to, lose));
        }
    });
    at
}

fn behind_the_proxy(plan: &Plan) -> Vec<Event> {
    runtime().block_on(async {
        let local = Local::start(plan.scenario(), false, &|_: &str| {}).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        let mut platform = local.platform().expect("a platform");
        let url = platform.vault.url.trim_start_matches("https://");
        let proxy = proxy(url.parse().expect("an address")).await;
        platform.vault.url = format!("https://{proxy}");
        run(plan, Arc::new(Altered { local, platform })).await
    })
}

#[test]
#[ignore = "needs the servers of `alertstorm setup local`"]
fn what_vault_issued_and_no_agent_received_is_an_orphan_of_its_investigation_in_a_valid_run() {
    let arm = Arm { settings: &[("alerts", ONE)], events_of: behind_the_proxy };
    let ran = arm.run(promises::PATIENT, &[]);
    promises::accounts_for_all(&ran);
    let (leases, tokens) = (ran.measures.leases(), ran.measures.tokens());
    assert_eq!((tokens.issued, tokens.orphaned, tokens.active), (2, 1, 0), "{tokens:?}");
    assert_eq!((leases.issued, leases.orphaned), (2, 1), "{leases:?}");
    let lost: Vec<(Option<InvestigationId>, &Fact)> = ran
        .events
        .iter()
        .filter(|event| {
            matches!(event.fact, Fact::LeaseUnclaimed { .. } | Fact::TokenUnclaimed { .. })
        })
        .map(|event| (event.inv, &event.fact))
        .collect();
    let inv = ran.events.iter().find_map(|event| event.inv);
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(inv.is_some() && lost.iter().all(|(of, _)| *of == inv), "{lost:?}");
    let remarks = &ran.measures.remarks;
    let revoked = "1 of the agents' Vault tokens were revoked";
    assert!(remarks.iter().any(|remark| remark.starts_with(revoked)), "{remarks:?}");
}
