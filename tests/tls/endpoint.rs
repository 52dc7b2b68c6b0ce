//! Both ends of TLS: servers with a certificate of their own that say their name, and clients that trust these servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, block_in_place};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tsunagi_tests::{LIMIT, Pod, within};

/// Answers every connection with one HTTP/1 response: its name.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    certificate: CertificateDer<'static>,
    _serving: JoinSet<()>,
}

impl Endpoint {
    pub(crate) fn in_pod(pod: &Pod, name: &'static str) -> Endpoint {
        let listener = block_in_place(|| pod.listen(0));
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime runs");
        Endpoint::over(listener, pod.address(), name)
    }

    pub(crate) async fn start(name: &'static str) -> Endpoint {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((local, 0)).await.expect("a free port");
        Endpoint::over(listener, local, name)
    }

    fn over(listener: TcpListener, ip: IpAddr, name: &'static str) -> Endpoint {
        let names = ["example.com".to_owned(), "*.example.com".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("its own key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let address = SocketAddr::new(ip, listener.local_addr().expect("bound").port());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { answer(&acceptor, stream, name).await });
            }
        });
        Endpoint {
            address,
            certificate,
            _serving: serving,
        }
    }
}

async fn answer(acceptor: &TlsAcceptor, stream: TcpStream, name: &str) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let _request = stream.read(&mut [0; 4096]).await?;
    let length = name.len();
    let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{name}");
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// How asking ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Said(String),
    /// The alert of this name.
    UnrecognizedName,
    Reset,
    Other(String),
}

/// Of a client.
pub(crate) struct Trust(TlsConnector);

impl Trust {
    pub(crate) fn of(endpoints: &[&Endpoint]) -> Trust {
        let mut roots = RootCertStore::empty();
        for endpoint in endpoints {
            roots.add(endpoint.certificate.clone()).expect("a certificate");
        }
        Trust(TlsConnector::from(Arc::new(config(roots))))
    }

    /// Who answers to the name at the other end.
    pub(crate) async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> Answer {
        let ask = async {
            let mut stream = self.0.connect(server_name(name), stream).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await?;
            io::Result::Ok(response)
        };
        match within("an answer", LIMIT, ask).await {
            Ok(response) => Answer::Said(response.rsplit("\r\n").next().unwrap_or_default().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Answer::Reset,
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => Answer::UnrecognizedName,
                _ => Answer::Other(error.to_string()),
            },
        }
    }
}

fn config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a host name")
}

/// What a client says first.
pub(crate) fn hello_for(name: &str) -> Vec<u8> {
    let config = Arc::new(config(RootCertStore::empty()));
    let mut client = ClientConnection::new(config, server_name(name)).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory takes it");
    hello
}

/// Writes a few bytes at a time, each in a packet of its own.
pub(crate) struct Crumbs(pub(crate) TcpStream);

const CRUMB_BYTES: usize = 7;

impl AsyncRead for Crumbs {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Crumbs {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(CRUMB_BYTES)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
