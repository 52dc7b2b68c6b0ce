//! An upstream that shows bytes as they came and answers with bytes as written: header case, broken answers, resets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::raw::RawConnection;

/// Reads the head of each request, answers with the same bytes each time; an empty answer closes the connection.
pub struct RawUpstream {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl RawUpstream {
    pub async fn start(answer: &'static [u8]) -> RawUpstream {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = heads.clone();
        RawUpstream::bind(heads, move |stream| serve(stream, answer, seen.clone())).await
    }

    /// `serve` has each connection until it returns, then that is closed. No heads are kept.
    pub async fn serving<A>(serve: impl Fn(RawConnection) -> A + Send + 'static) -> RawUpstream
    where
        A: Future<Output = ()> + Send + 'static,
    {
        RawUpstream::bind(Arc::default(), move |stream| serve(RawConnection::over(stream))).await
    }

    async fn bind<A>(heads: Arc<Mutex<Vec<String>>>, serve: impl Fn(TcpStream) -> A + Send + 'static) -> RawUpstream
    where
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
        let address = listener.local_addr().expect("a bound socket");
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        RawUpstream {
            address,
            heads,
            _server: server,
        }
    }

    /// Each request's head, as sent.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, answer: &'static [u8], heads: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    let mut part = [0; 4096];
    loop {
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..end + 4).collect();
            heads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(String::from_utf8_lossy(&head).into_owned());
            if answer.is_empty() || stream.write_all(answer).await.is_err() {
                return;
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(length) => read.extend_from_slice(&part[..length]),
        }
    }
}
