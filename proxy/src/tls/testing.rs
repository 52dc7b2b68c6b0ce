//! An authority with its certificates, and endpoints that speak TLS, for unit tests of this room and those above.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tsunagi_proto::model::{TlsFiles, UpstreamTls};

use super::{Client, Compiled, Store};

/// A time that stands.
#[derive(Debug)]
pub(super) struct Clock(pub SystemTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// In PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names, which are DNS names, addresses or URIs.
    pub fn issue(&self, names: &[&str], serial: u64, end: (i32, u8, u8)) -> Issued {
        let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(others).unwrap();
        for uri in uris {
            params
                .subject_alt_names
                .push(rcgen::SanType::URI(uri.try_into().unwrap()));
        }
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// One that nobody has signed but itself.
    pub fn alone(names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn good(&self, names: &[&str]) -> Issued {
        self.issue(names, 7, (2090, 1, 1))
    }

    pub fn revoke(&self, serials: &[u64]) -> String {
        self.revoke_until(serials, 2090)
    }

    /// The list is to be replaced at the beginning of that year.
    pub fn revoke_until(&self, serials: &[u64], year: i32) -> String {
        self.revoke_between(serials, 2020, year)
    }

    /// From the beginning of one year to that of the other.
    pub fn revoke_between(&self, serials: &[u64], first: i32, year: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(first, 1, 1),
            next_update: rcgen::date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// An endpoint that echoes. What it saw can be asked for.
pub(crate) struct EchoEndpoint {
    pub address: SocketAddr,
    pub full_handshakes: Arc<AtomicUsize>,
    pub names: Arc<std::sync::Mutex<Vec<Option<String>>>>,
}

pub(crate) fn server(issued: &Issued, clients: Option<&Authority>, protocols: &[&str]) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let mut config = builder
        .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub(crate) async fn echo(config: ServerConfig) -> EchoEndpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = EchoEndpoint {
        address: listener.local_addr().unwrap(),
        full_handshakes: Arc::default(),
        names: Arc::default(),
    };
    let (full, names) = (Arc::clone(&endpoint.full_handshakes), Arc::clone(&endpoint.names));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, full, names) = (acceptor.clone(), Arc::clone(&full), Arc::clone(&names));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let session = stream.get_ref().1;
                names.lock().unwrap().push(session.server_name().map(ToOwned::to_owned));
                if session.handshake_kind() != Some(rustls::HandshakeKind::Resumed) {
                    full.fetch_add(1, Ordering::SeqCst);
                }
                let mut buffer = [0; 1024];
                loop {
                    let count = stream.read(&mut buffer).await.ok()?;
                    if count == 0 {
                        return stream.shutdown().await.ok();
                    }
                    stream.write_all(&buffer[..count]).await.ok()?;
                    stream.flush().await.ok()?;
                }
            });
        }
    });
    endpoint
}

/// Files of a proxy.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn named(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Files by these names; mutual where there is a certificate.
    pub fn told(&self, certificate: &str, key: &str, authorities: &str, revoked: &str) -> UpstreamTls {
        let named = |name: &str| {
            if name.is_empty() {
                String::new()
            } else {
                self.named(name)
            }
        };
        UpstreamTls {
            files: TlsFiles::Paths {
                client_certificate: named(certificate),
                private_key: named(key),
                ca_certificates: named(authorities),
                ca_crl: named(revoked),
            },
            mutual: !certificate.is_empty(),
            sni: None,
            subject_alt_names: Vec::new(),
            insecure_skip_verify: false,
        }
    }

    pub fn store(&self) -> Arc<Store> {
        Arc::new(Store::new(self.path().to_owned()))
    }
}

pub(crate) fn client(store: &Store, told: &UpstreamTls) -> (Arc<Client>, Arc<AtomicU64>) {
    let generation = Arc::default();
    (store.client(told, "users.example", Arc::clone(&generation)), generation)
}

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Connects; says something and hears it.
pub(crate) async fn exchange(
    client: &Client,
    address: SocketAddr,
    offer: super::Offer,
) -> Result<Option<bool>, String> {
    let compiled = client.current().map_err(|failure| failure.to_string())?;
    exchange_with(&compiled, address, offer).await
}

/// The same with what a client was at some time.
pub(super) async fn exchange_with(
    compiled: &Compiled,
    address: SocketAddr,
    offer: super::Offer,
) -> Result<Option<bool>, String> {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut stream = compiled
        .connect(socket, offer, None, LIMIT, LIMIT)
        .await
        .map_err(|failure| failure.to_string())?;
    let mut heard = [0; 5];
    let said = async {
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_exact(&mut heard).await
    };
    let said = tokio::time::timeout(LIMIT, said).await.unwrap();
    said.map_err(|error| super::Failure::of_connection(&error).map_or(error.to_string(), |it| it.to_string()))?;
    assert_eq!(&heard, b"hello");
    Ok(super::chosen(&stream))
}

/// The same endpoint, ten years older.
pub(crate) fn only_tls12(issued: &Issued) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    builder.with_no_client_auth().with_single_cert(chain, key).unwrap()
}
