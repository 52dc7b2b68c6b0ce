//! A small HTTP client for the control plane's API: one connection for one request. Called by the commands.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::CliError;
use crate::error;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For an answer, besides the time that the command waits for proxies.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Client {
    /// As the user wrote it.
    server: String,
    /// `host:port`.
    authority: String,
    /// Where the API lives on that server; usually empty.
    path: String,
}

pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// From the API's root, with its query.
    pub(super) path: String,
    pub(super) media_type: Option<&'a str>,
    pub(super) body: String,
    /// How long the server itself may wait before it answers.
    pub(super) wait: Duration,
}

impl Call<'_> {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            media_type: None,
            body: String::new(),
            wait: Duration::ZERO,
        }
    }
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(server: &str) -> Result<Self, CliError> {
        let wrong = |reason: &str| CliError::Usage(format!("--server {server}: {reason}"));
        let url = if server.contains("://") {
            server.to_owned()
        } else {
            format!("http://{server}")
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong("not a URL such as http://127.0.0.1:15014"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only http:// is supported"));
        }
        if uri.query().is_some() {
            return Err(wrong("a query has no meaning here"));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("no host in it"))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            server: server.to_owned(),
            authority,
            path,
        })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The whole answer, whatever its status.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Reply, CliError> {
        let wait = call.wait;
        let request = self.request(call)?;
        let sender = self.connect().await?;
        match timeout(ANSWER_LIMIT + wait, exchange(sender, request)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) if error.is_parse() => Err(CliError::Failed(format!(
                "{}: that is not the HTTP API (is it the gRPC port?)",
                self.server
            ))),
            Ok(Err(error)) => Err(self.failed("the connection broke", &error)),
            Err(_) => Err(CliError::Failed(format!(
                "no answer from the control plane at {} in time",
                self.server
            ))),
        }
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, CliError> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.path, call.path))
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("tsunagi/", env!("CARGO_PKG_VERSION")));
        if let Some(media_type) = call.media_type {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let request = request.body(Full::new(Bytes::from(call.body)));
        request.map_err(|error| CliError::Usage(format!("that cannot be asked for: {error}")))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CliError> {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(&self.authority))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.failed("is `tsunagi serve` running there? (--server names another)", &error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed("the connection broke", &error))?;
        tokio::spawn(async move {
            // The exchange sees the same error and tells it.
            drop(connection.await);
        });
        Ok(sender)
    }

    fn failed(&self, hint: &str, error: &dyn std::error::Error) -> CliError {
        CliError::Failed(format!(
            "cannot reach the control plane at {}: {}; {hint}",
            self.server,
            error::sentence(error)
        ))
    }
}

async fn exchange(mut sender: SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Reply { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_or_host_and_port() {
        for (server, authority, path) in [
            ("http://127.0.0.1:15014", "127.0.0.1:15014", ""),
            ("http://control/mesh/", "control:80", "/mesh"),
            ("127.0.0.1:1", "127.0.0.1:1", ""),
            ("http://[::1]:1", "[::1]:1", ""),
        ] {
            let client = Client::new(server).ok().map(|client| (client.authority, client.path));
            assert_eq!(client, Some((authority.to_owned(), path.to_owned())), "{server}");
        }
        for server in ["https://control:1", "", "http://", "http://a b", "http://h/?q=1"] {
            assert!(matches!(Client::new(server), Err(CliError::Usage(_))), "{server}");
        }
    }

    #[tokio::test]
    async fn the_grpc_port_is_recognised() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let server = crate::api::serve_grpc(listener, tonic::service::Routes::default(), stopped);
        let server = tokio::spawn(server);
        let Ok(client) = Client::new(&address.to_string()) else {
            unreachable!("host and port")
        };
        let failed = client.call(Call::new(Method::GET, "/v1/proxies".to_owned())).await;
        let said = failed
            .map(|reply| reply.status)
            .expect_err("another protocol")
            .to_string();
        let expected = format!("{address}: that is not the HTTP API (is it the gRPC port?)");
        assert_eq!(said, expected);
        server.abort();
    }
}
