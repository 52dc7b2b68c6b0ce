//! Tests of what a pool makes of an endpoint's choice (ALPN), and of connections that no longer begin as they did.

use std::sync::Mutex as StdMutex;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tsunagi_proto::model::{LoadBalancer, TlsFiles};

use super::super::testing::{WAITS, endpoint, policy};
use super::super::{Cluster, Lease, Members, acquire, acquire_ready};
use super::*;
use crate::telemetry::{Direction, Telemetry};
use crate::tls::Offer;
use crate::tls::testing::{Authority, Issued, server};

/// An endpoint that chooses among these; who speaks HTTP/2 is greeted.
struct Choosy {
    port: u16,
    issued: Issued,
    config: Arc<StdMutex<Arc<ServerConfig>>>,
    _serving: JoinSet<()>,
}

impl Choosy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issued = Authority::new("any").good(&["any"]);
        let config = Arc::new(StdMutex::new(Arc::new(server(&issued, None, &[]))));
        let (port, current) = (listener.local_addr().unwrap().port(), Arc::clone(&config));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&current.lock().unwrap()));
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        let mut connection = h2::server::handshake(stream).await.ok()?;
                        while connection.accept().await.is_some() {}
                        return Some(());
                    }
                    while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
                    Some(())
                });
            }
        });
        Self {
            port,
            issued,
            config,
            _serving: serving,
        }
    }

    fn chooses_among(&self, protocols: &[&str]) {
        *self.config.lock().unwrap() = Arc::new(server(&self.issued, None, protocols));
    }
}

struct Setting {
    cluster: Arc<Cluster>,
    policy: Arc<model::Cluster>,
    members: Arc<Members>,
}

impl Setting {
    fn new(port: u16) -> Self {
        let mut told = model::Cluster::clone(&policy(LoadBalancer::RoundRobin, None));
        told.tls = Some(UpstreamTls {
            files: TlsFiles::Credential("none".into()),
            mutual: false,
            sni: None,
            subject_alt_names: Vec::new(),
            insecure_skip_verify: true,
        });
        let policy = Arc::new(told);
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&policy), series, 1);
        let members = cluster.reconcile(Arc::clone(&policy), &[endpoint(port, 1)]);
        Self {
            cluster,
            policy,
            members,
        }
    }

    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.members.list[0].endpoint
    }

    async fn acquire(&self, offer: Offer) -> Lease {
        let need = Need::of(offer);
        let lease = acquire(
            &self.cluster,
            self.endpoint(),
            &self.policy,
            &self.members,
            &need,
            0,
            &WAITS,
        );
        tokio::time::timeout(Duration::from_secs(10), lease)
            .await
            .unwrap()
            .unwrap()
    }

    fn has_ready(&self) -> bool {
        acquire_ready(self.endpoint(), &self.policy, &Need::of(Offer::Either), 0).is_some()
    }
}

#[tokio::test]
async fn what_an_endpoint_chooses_is_spoken_and_may_be_something_else_the_next_time() {
    let choosy = Choosy::start().await;
    let setting = Setting::new(choosy.port);
    for (protocols, http2) in [
        (&["http/1.1"][..], false),
        (&["h2", "http/1.1"], true),
        (&[], false),
        (&["h2"], true),
        (&["h2"], true),
    ] {
        choosy.chooses_among(protocols);
        setting.endpoint().close_idle();
        let (first, second) = tokio::join!(setting.acquire(Offer::Either), setting.acquire(Offer::Either));
        assert_eq!((first.is_http2(), second.is_http2()), (http2, http2), "{protocols:?}");
        drop((first, second));
        assert!(setting.has_ready(), "it is found again: {protocols:?}");
        assert_eq!(setting.endpoint().has_chosen_http1(), !http2);
    }
}

#[tokio::test]
async fn what_must_be_http1_is_asked_for_as_such_though_the_endpoint_would_rather_speak_http2() {
    let choosy = Choosy::start().await;
    choosy.chooses_among(&["h2", "http/1.1"]);
    let setting = Setting::new(choosy.port);
    assert!(setting.acquire(Offer::Either).await.is_http2());
    assert!(!setting.acquire(Offer::Http1).await.is_http2());
    assert!(setting.acquire(Offer::Either).await.is_http2());
}

#[tokio::test]
async fn connections_that_began_otherwise_are_not_kept() {
    let choosy = Choosy::start().await;
    for protocols in [&["http/1.1"][..], &["h2"]] {
        choosy.chooses_among(protocols);
        let setting = Setting::new(choosy.port);
        let used = setting.acquire(Offer::Either).await;
        drop(setting.acquire(Offer::Either).await);
        assert!(setting.has_ready());
        let mut other = model::Cluster::clone(&setting.policy);
        other.tls = other.tls.map(|tls| UpstreamTls {
            sni: Some("other.example".into()),
            ..tls
        });
        setting.cluster.reconcile(Arc::new(other), &[endpoint(choosy.port, 1)]);
        assert!(!setting.has_ready(), "{protocols:?}");
        used.give_back(true);
        assert!(!setting.has_ready(), "one that was in use either: {protocols:?}");
    }
}
