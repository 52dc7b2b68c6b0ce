//! How a connection to an endpoint begins: the socket, the words that say whose bytes it carries, TLS. All of it has to be
//! over within `connectTimeout`.
//!
//! What was told, and the files that it names, change while connections are open: each knows of which generation it is, and
//! is not kept when there is a newer one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tsunagi_proto::model::{self, ConnectionPool, ProxyProtocol, UpstreamTls};

use super::proxy_protocol::header;
use super::stream::UpstreamStream;
use super::{Binding, Endpoint, Need};
use crate::net::{ConnectError, connect, first_of};
use crate::telemetry::{ClusterSeries, TlsFailure};
use crate::tls::{self, Failure, chosen};

#[derive(Debug)]
pub(super) struct Beginning {
    credentials: Arc<tls::Store>,
    generation: Arc<AtomicU64>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    tls: Option<(UpstreamTls, Arc<tls::Client>)>,
    proxy_protocol: Option<ProxyProtocol>,
}

/// Of which generation a connection is, and which requests may be on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub generation: u64,
    pub binding: Binding,
}

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Begun {
    pub stream: UpstreamStream,
    /// The endpoint has chosen HTTP/2 or has not. `None`: it was not asked, or did not say.
    pub http2: Option<bool>,
    pub origin: Origin,
}

impl Beginning {
    pub fn new(credentials: Arc<tls::Store>, policy: &model::Cluster) -> Self {
        let beginning = Self {
            credentials,
            generation: Arc::default(),
            told: Mutex::default(),
        };
        beginning.bring_in_line(policy);
        beginning
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on connections begin as this says.
    pub fn bring_in_line(&self, policy: &model::Cluster) {
        let mut told = self.told();
        let same = told.tls.as_ref().map(|(told, _)| told) == policy.tls.as_ref();
        if same && told.proxy_protocol == policy.proxy_protocol {
            return;
        }
        if !same {
            let client = |tls: &UpstreamTls| {
                let client = self
                    .credentials
                    .client(tls, &policy.key.host, Arc::clone(&self.generation));
                (tls.clone(), client)
            };
            told.tls = policy.tls.as_ref().map(client);
        }
        told.proxy_protocol = policy.proxy_protocol;
        drop(told);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn current(&self) -> (Option<Arc<tls::Client>>, Option<ProxyProtocol>) {
        let told = self.told();
        let client = told.tls.as_ref().map(|(_, client)| Arc::clone(client));
        (client, told.proxy_protocol)
    }

    /// Connections of another one are not kept.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Connects. What is to be spoken matters where TLS lets the endpoint choose. Dropping the future closes the socket.
    pub async fn begin(
        &self,
        endpoint: &Endpoint,
        pool: &ConnectionPool,
        need: &Need,
        series: &Arc<ClusterSeries>,
    ) -> Result<Begun, ConnectError> {
        let origin = Origin {
            // Before what it is the generation of: should that change meanwhile, the connection is not kept.
            generation: self.generation(),
            binding: need.binding.clone(),
        };
        let (tls, proxy_protocol) = self.current();
        let failed = |failure: Failure| {
            series.tls_failed(failure.cause);
            of_failure(failure)
        };
        let compiled = match &tls {
            Some(client) => Some(client.current().map_err(failed)?),
            None => None,
        };
        let started = Instant::now();
        let time = pool.connect_timeout;
        let mut socket = reach(endpoint, pool).await?;
        if let Some(version) = proxy_protocol {
            say(&mut socket, &header(version, need.binding.client)).await?;
        }
        let Some(compiled) = compiled else {
            return Ok(Begun {
                stream: UpstreamStream::Plain(socket),
                http2: None,
                origin,
            });
        };
        let rest = time.saturating_sub(started.elapsed());
        // Boxed: few connections have it, and all would be larger by it.
        let stream = Box::pin(compiled.connect(socket, need.offer, need.binding.server_name.as_deref(), rest, time))
            .await
            .map_err(failed)?;
        Ok(Begun {
            http2: chosen(&stream),
            stream: UpstreamStream::tls(stream, Arc::clone(series)),
            origin,
        })
    }
}

/// Of an endpoint that is a name, the first address that answers.
async fn reach(endpoint: &Endpoint, pool: &ConnectionPool) -> Result<TcpStream, ConnectError> {
    let time = pool.connect_timeout;
    let to = |address| connect(address, endpoint.source, time, pool.tcp_keepalive);
    let turn = endpoint.take_turn();
    if turn.is_empty() {
        return to(endpoint.address).await;
    }
    // Boxed: few endpoints are names, and all would be larger by it.
    let first = Box::pin(tokio::time::timeout(time, first_of(&turn, to))).await;
    match first.map_err(|_| ConnectError::TimedOut(time))? {
        Some(found) => {
            let (address, socket) = found?;
            endpoint.reached(address);
            Ok(socket)
        }
        None => to(endpoint.address).await,
    }
}

/// It fits into the buffer of a new socket.
async fn say(socket: &mut TcpStream, words: &[u8]) -> Result<(), ConnectError> {
    Ok(socket.write_all(words).await?)
}

/// Why there is no connection.
pub(super) fn of_failure(failure: Failure) -> ConnectError {
    ConnectError::Tls {
        local: failure.cause == TlsFailure::Files,
        reason: failure.reason,
    }
}

#[cfg(test)]
#[path = "beginning_tests.rs"]
mod tests;
