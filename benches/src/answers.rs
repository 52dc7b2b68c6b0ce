//! Endpoints that answer every GET with the same bytes, on a thread of their own: HTTP/1.1 by looking only for the end of
//! a head, HTTP/2 by the `h2` crate. They cost little, so that what is measured is the proxy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tsunagi_tests::Version;

/// `count` addresses that answer with a body of `body_bytes`, as long as the process lives.
pub fn answers(version: Version, count: usize, body_bytes: usize) -> io::Result<Vec<SocketAddr>> {
    let bind = |_| {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    };
    let bound: io::Result<Vec<_>> = (0..count).map(bind).collect();
    let (addresses, listeners): (_, Vec<_>) = bound?.into_iter().unzip();
    let body = Bytes::from(vec![b'x'; body_bytes]);
    let runtime = Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("answers".to_owned()).spawn(move || {
        runtime.block_on(async {
            let serve = |listener| accept(listener, version, body.clone());
            listeners
                .into_iter()
                .map(serve)
                .collect::<JoinSet<_>>()
                .join_all()
                .await
        })
    })?;
    Ok(addresses)
}

async fn accept(listener: std::net::TcpListener, version: Version, body: Bytes) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        // A proxy that closes its connection is no error here.
        match version {
            Version::Http1 => drop(tokio::spawn(async move { http1(stream, &body).await.ok() })),
            Version::Http2 => drop(tokio::spawn(async move { http2(stream, &body).await.ok() })),
        }
    }
}

async fn http1(mut stream: TcpStream, body: &[u8]) -> io::Result<()> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    let mut input = [0; 16 * 1024];
    let mut held = 0;
    loop {
        let count = stream.read(&mut input[held..]).await?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        while let Some(end) = input[..held].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            input.copy_within(end + 4..held, 0);
            held -= end + 4;
            stream.write_all(&answer).await?;
        }
    }
}

async fn http2(stream: TcpStream, body: &Bytes) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1000)
        .handshake(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (_, respond) = request?;
        answer(respond, body.clone())?;
    }
    Ok(())
}

fn answer(mut respond: SendResponse<Bytes>, body: Bytes) -> Result<(), h2::Error> {
    let mut response = http::Response::new(());
    let headers = response.headers_mut();
    headers.insert(http::header::SERVER, http::HeaderValue::from_static("bench"));
    headers.insert(http::header::CONTENT_LENGTH, body.len().into());
    respond.send_response(response, false)?.send_data(body, true)
}
