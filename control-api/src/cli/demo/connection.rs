//! One keep-alive HTTP/1.1 connection and small GETs on it. Called by `traffic` and `mesh`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{HeaderMap, Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::CliError;
use crate::error;

pub(super) struct Connection {
    address: SocketAddr,
    sender: http1::SendRequest<Empty<Bytes>>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// From the request's first byte to the answer's last.
    pub(super) elapsed: Duration,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, CliError> {
        let broken = |error: &dyn std::error::Error| failed(address, error);
        let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
        stream.set_nodelay(true).map_err(|error| broken(&error))?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            // Whoever waits for an answer sees the same error and tells it.
            drop(driver.await);
        });
        Ok(Self { address, sender })
    }

    /// Dropping the future closes the connection.
    pub(super) async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, CliError> {
        let address = self.address;
        let broken = |error: hyper::Error| failed(address, &error);
        self.sender.ready().await.map_err(broken)?;
        let started = Instant::now();
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            elapsed: started.elapsed(),
        })
    }
}

impl Answer {
    /// Empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One request on a connection of its own.
pub(super) async fn ask(address: SocketAddr, method: Method, path: &str) -> Result<Answer, CliError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(Empty::new())
        .map_err(|error| failed(address, &error))?;
    Connection::open(address).await?.send(request).await
}

fn failed(address: SocketAddr, error: &dyn std::error::Error) -> CliError {
    CliError::Failed(format!("a request to {address} failed: {}", error::sentence(error)))
}
