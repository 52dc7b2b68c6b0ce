//! Ten endpoints of which one is ten times slower than the others: a process of one thread that answers each request after
//! its endpoint's time, in the order of a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::upstreams::SMALL_BODY_BYTES;

/// Set in the process that is these endpoints: their addresses.
pub const SLOW_ROLE: &str = "TSUNAGI_COMPARE_SLOW_UPSTREAM";
pub const ENDPOINTS: usize = 10;
const TIME: Duration = Duration::from_millis(5);
/// Of the first.
const SLOW_TIME: Duration = Duration::from_millis(50);
const LARGEST_HEAD_BYTES: usize = 16 * 1024;

/// The life of that process.
pub fn serve_slow(addresses: &str) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut listeners = JoinSet::new();
        for (index, address) in addresses.split(',').enumerate() {
            let address: SocketAddr = address.parse().map_err(|_| format!("`{address}` is no address"))?;
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| format!("{address}: {error}"))?;
            let time = if index == 0 { SLOW_TIME } else { TIME };
            listeners.spawn(accept(listener, time));
        }
        listeners.join_next().await;
        Err("a listener ended".to_owned())
    })
}

async fn accept(listener: TcpListener, time: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, time));
    }
}

/// Until the client closes, or sends what is no request without a body.
async fn answer(mut stream: TcpStream, time: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let body = "x".repeat(SMALL_BODY_BYTES as usize);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {SMALL_BODY_BYTES}\r\n\r\n{body}");
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 || head.len() > LARGEST_HEAD_BYTES {
                return Ok(());
            }
        }
        head.clear();
        tokio::time::sleep(time).await;
        stream.write_all(response.as_bytes()).await?;
    }
}
