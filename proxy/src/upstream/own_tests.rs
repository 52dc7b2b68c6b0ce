//! What becomes of a client's own connections when it goes: those that wait for its next request, those in use, those that
//! are still being opened; and that it is nobody else's matter.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tsunagi_proto::model;
use tsunagi_proto::model::LoadBalancer;

use super::super::testing::{WAITS, endpoint, policy};
use super::super::{AcquireError, Binding, Cluster, Lease, Members, Need, acquire};
use super::*;
use crate::telemetry::{Direction, Telemetry};
use crate::tls::Offer;

const LIMIT: Duration = Duration::from_secs(10);

fn client(port: u16) -> ClientAddresses {
    ClientAddresses {
        source: ([192, 0, 2, 1], port).into(),
        destination: ([192, 0, 2, 2], 80).into(),
    }
}

/// It greets whoever speaks HTTP/2, once it may.
async fn serve(stream: TcpStream, greets: Arc<tokio::sync::Notify>) {
    let mut first = [0; 3];
    while !matches!(stream.peek(&mut first).await, Ok(0 | 3) | Err(_)) {
        yield_now().await;
    }
    if &first != b"PRI" {
        return;
    }
    greets.notified().await;
    greets.notify_one();
    if let Ok(mut connection) = h2::server::handshake(stream).await {
        while connection.accept().await.is_some() {}
    }
}

struct Setting {
    cluster: Arc<Cluster>,
    policy: Arc<model::Cluster>,
    members: Arc<Members>,
    greets: Arc<tokio::sync::Notify>,
    _serving: JoinSet<()>,
}

impl Setting {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let greets = Arc::<tokio::sync::Notify>::default();
        let (mut serving, may) = (JoinSet::new(), Arc::clone(&greets));
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&may)));
            }
        });
        let policy = policy(LoadBalancer::RoundRobin, None);
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&policy), series, 1);
        let members = cluster.reconcile(Arc::clone(&policy), &[endpoint(port, 1)]);
        Self {
            cluster,
            policy,
            members,
            greets,
            _serving: serving,
        }
    }

    async fn try_acquire(&self, offer: Offer, client: Option<ClientAddresses>) -> Result<Lease, AcquireError> {
        let endpoint = &self.members.list[0].endpoint;
        let need = Need {
            offer,
            binding: Binding::of_client(client),
        };
        acquire(&self.cluster, endpoint, &self.policy, &self.members, &need, 0, &WAITS).await
    }

    async fn acquire(&self, offer: Offer, client: Option<ClientAddresses>) -> Lease {
        let acquired = tokio::time::timeout(LIMIT, self.try_acquire(offer, client)).await;
        acquired.expect("it is opened").expect("somebody is there")
    }

    fn end(&self, port: u16) {
        self.cluster.own.end(Some(client(port)));
    }

    async fn open_connections_are(&self, expected: u32) {
        let reached = async {
            while self.cluster.open_connections() != expected {
                yield_now().await;
            }
        };
        let reached = tokio::time::timeout(LIMIT, reached).await;
        assert!(
            reached.is_ok(),
            "{} are open, not {expected}",
            self.cluster.open_connections()
        );
    }
}

#[tokio::test]
async fn with_a_client_go_the_connections_that_are_its_own_and_no_others() {
    for offer in [Offer::Http1, Offer::Http2] {
        let setting = Setting::new().await;
        setting.greets.notify_one();
        for own in [None, Some(client(1)), Some(client(2))] {
            let lease = setting.acquire(offer, own).await;
            lease.give_back(true);
        }
        assert_eq!(setting.cluster.open_connections(), 3);
        setting.end(1);
        setting.open_connections_are(2).await;
        setting.end(3);
        setting.end(2);
        setting.open_connections_are(1).await;
        assert_eq!(setting.cluster.own.count.load(Ordering::Relaxed), 0);
        assert!(setting.cluster.own.clients().is_empty(), "{offer:?}");
    }
}

#[tokio::test]
async fn a_connection_in_use_ends_with_its_request_when_its_client_has_gone() {
    for offer in [Offer::Http1, Offer::Http2] {
        let setting = Setting::new().await;
        setting.greets.notify_one();
        let lease = setting.acquire(offer, Some(client(1))).await;
        setting.end(1);
        assert_eq!(setting.cluster.open_connections(), 1);
        lease.give_back(true);
        setting.open_connections_are(0).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_still_being_opened_for_a_client_that_goes_is_not_kept() {
    let setting = Setting::new().await;
    {
        let waiting = setting.try_acquire(Offer::Http2, Some(client(1)));
        tokio::select! {
            biased;
            _ = waiting => unreachable!("the endpoint has not greeted"),
            () = setting.open_connections_are(1) => {}
        }
    }
    setting.end(1);
    setting.greets.notify_one();
    setting.open_connections_are(0).await;
}
