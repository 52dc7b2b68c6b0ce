//! TLS of one cluster: config joined with what is in its files, compiled off the request path, and the handshake.
//!
//! What is spoken inside is chosen in the handshake (ALPN, RFC 7301). Sessions are resumed by every worker: the tickets are
//! the compiled config's, so that they end with the certificates that they were got with. Who resumes one is verified again
//! as in a full handshake: an endpoint whose certificate, or the list that says it is not revoked, has ended since is let in
//! no longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, Error, HandshakeKind};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tsunagi_proto::model::UpstreamTls;

use super::Failure;
use super::material::Material;
use super::verifier::Verifier;
use crate::telemetry::TlsFailure;

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Sessions that are kept where there is one name to ask for, and where each request's host is asked for.
const SESSIONS: usize = 16;
const SESSIONS_OF_NAMES: usize = 512;

/// What may be spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nobody asks.
    Bytes,
    Http1,
    Http2,
    /// The endpoint chooses; one that does not speaks HTTP/1.1.
    Either,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        let named: &[&[u8]] = match self {
            Self::Bytes => &[],
            Self::Http1 => &[HTTP1],
            Self::Http2 => &[HTTP2],
            Self::Either => &[HTTP2, HTTP1],
        };
        named.iter().map(|name| name.to_vec()).collect()
    }
}

/// What a cluster was told of TLS. Its files may come and change later.
#[derive(Debug)]
pub struct Client {
    told: UpstreamTls,
    host: String,
    /// Raised with every change: connections of before are not kept.
    generation: Arc<AtomicU64>,
    compiled: Mutex<Result<Arc<Compiled>, Failure>>,
}

/// Ready for handshakes.
#[derive(Debug)]
pub struct Compiled {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    sessions: Arc<ClientSessionMemoryCache>,
    /// `None`: each connection asks for its own.
    server_name: Option<ServerName<'static>>,
    /// The rule names no authorities.
    believes_system: bool,
}

impl Client {
    pub(super) fn new(
        told: UpstreamTls,
        host: &str,
        generation: Arc<AtomicU64>,
        material: &Result<Arc<Material>, Failure>,
    ) -> Self {
        Self {
            compiled: Mutex::new(Compiled::new(&told, host, material)),
            host: host.to_owned(),
            told,
            generation,
        }
    }

    /// From now on new connections use it.
    pub(super) fn renew(&self, material: &Result<Arc<Material>, Failure>) {
        let compiled = Compiled::new(&self.told, &self.host, material);
        *self.compiled.lock().unwrap_or_else(PoisonError::into_inner) = compiled;
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// As of now; why not, where files are missing or config and files do not fit.
    pub fn current(&self) -> Result<Arc<Compiled>, Failure> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Compiled {
    pub(super) fn new(
        told: &UpstreamTls,
        host: &str,
        material: &Result<Arc<Material>, Failure>,
    ) -> Result<Arc<Self>, Failure> {
        let material = material.as_ref().map_err(Clone::clone)?;
        let server_name = match told.server_name_of(host) {
            Some(name) => Some(server_name(name)?),
            None => None,
        };
        let provider = provider();
        let verifier = Arc::new(Verifier {
            trust: material.trust.clone(),
            names: told.subject_alt_names.clone(),
            algorithms: provider.signature_verification_algorithms,
        });
        let as_verifier = Arc::<Verifier>::clone(&verifier);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Failure::new(TlsFailure::Files, error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(as_verifier);
        let mut config = match &material.identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
            None => config.with_no_client_auth(),
        };
        let sessions = Arc::new(ClientSessionMemoryCache::new(if server_name.is_some() {
            SESSIONS
        } else {
            SESSIONS_OF_NAMES
        }));
        let store = Arc::<ClientSessionMemoryCache>::clone(&sessions);
        config.resumption = Resumption::store(store);
        Ok(Arc::new(Self {
            config: Arc::new(config),
            verifier,
            sessions,
            server_name,
            believes_system: material.trust.as_ref().is_some_and(|trust| trust.given.is_empty()),
        }))
    }

    /// Within `rest` of the time to connect. `name`: asked for where no other was told. Dropping the future closes the
    /// connection.
    pub async fn connect(
        &self,
        socket: TcpStream,
        offer: Offer,
        name: Option<&str>,
        rest: Duration,
        time: Duration,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = self.name_to_ask_for(name)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let handshake = connector.with_alpn(offer.protocols()).connect(name.clone(), socket);
        match tokio::time::timeout(rest, handshake).await {
            Ok(Ok(stream)) => self.verify_resumed(&stream, &name).map(|()| stream),
            Ok(Err(error)) => Err(self.explain(Failure::of_handshake(&error))),
            Err(_) => Err(Failure::new(
                TlsFailure::Timeout,
                format!("the endpoint has not answered the TLS handshake within {time:?} (connectTimeout)"),
            )),
        }
    }

    fn name_to_ask_for(&self, name: Option<&str>) -> Result<ServerName<'static>, Failure> {
        match (&self.server_name, name) {
            (Some(told), _) => Ok(told.clone()),
            (None, Some(name)) => server_name(name),
            (None, None) => Err(Failure::new(
                TlsFailure::Files,
                "nothing says which server name to ask for (sni)".to_owned(),
            )),
        }
    }

    /// In a handshake that resumes a session rustls asks nobody.
    fn verify_resumed(&self, stream: &TlsStream<TcpStream>, name: &ServerName<'static>) -> Result<(), Failure> {
        let session = stream.get_ref().1;
        if session.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let now = self.config.time_provider.current_time();
        let verified = match (session.peer_certificates(), now) {
            (Some([leaf, rest @ ..]), Some(now)) => {
                let verified = self.verifier.verify_server_cert(leaf, rest, name, &[], now);
                verified.map(|_| ())
            }
            (_, Some(_)) => Err(Error::NoCertificatesPresented),
            (_, None) => Err(Error::FailedToGetCurrentTime),
        };
        verified.map_err(|error| {
            self.forget_sessions(name);
            self.explain(Failure::of_tls(&error))
        })
    }

    /// The next handshake is a full one, in which the endpoint may show another certificate.
    fn forget_sessions(&self, name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(name);
        while self.sessions.take_tls13_ticket(name).is_some() {}
    }

    /// Says where to look who believes other authorities than they think.
    fn explain(&self, mut failure: Failure) -> Failure {
        if failure.cause == TlsFailure::UnknownAuthority && self.believes_system {
            failure.reason.push_str(": the rule names none, so the system's count");
        }
        failure
    }
}

#[cfg(test)]
impl Compiled {
    /// The same, sessions too, at another time.
    pub(super) fn at(&self, time: std::time::SystemTime) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.time_provider = Arc::new(super::testing::Clock(time));
        Self {
            config: Arc::new(config),
            verifier: Arc::clone(&self.verifier),
            sessions: Arc::clone(&self.sessions),
            server_name: self.server_name.clone(),
            believes_system: self.believes_system,
        }
    }
}

/// Has HTTP/2 been chosen? `None`: nothing was.
pub fn chosen(stream: &TlsStream<TcpStream>) -> Option<bool> {
    stream.get_ref().1.alpn_protocol().map(|name| name == HTTP2)
}

fn server_name(name: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Failure::new(
            TlsFailure::Files,
            format!("{name} is no name that a certificate can have: say which to ask for (sni)"),
        )
    })
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}
