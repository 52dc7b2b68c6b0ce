//! An endpoint for the property tests: it speaks HTTP/1 and HTTP/2 on a socket of the loopback, counts what a limit counts as
//! it sees it, and closes, refuses or holds back as it is told.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What all endpoints of a cluster see together.
#[derive(Default)]
pub struct Seen {
    connections: Mutex<HashMap<u32, std::net::TcpStream>>,
    next: AtomicU32,
    /// At most so many connections may be open when one more arrives, that one included.
    pub allowed: AtomicU32,
    pub broken: Mutex<Vec<String>>,
    /// On one connection.
    pub max_requests: AtomicU32,
    pub max_streams: AtomicU32,
    pub answered: AtomicU32,
}

impl Seen {
    /// A connection whose end has come in is not there any more, even if nobody has read that yet.
    pub fn live(&self) -> usize {
        let open = |stream: &&std::net::TcpStream| {
            let mut byte = [MaybeUninit::uninit()];
            match SockRef::from(*stream).peek(&mut byte) {
                Ok(length) => length > 0,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        };
        self.connections.lock().unwrap().values().filter(open).count()
    }

    fn enter(&self, stream: std::net::TcpStream) -> u32 {
        let number = self.next.fetch_add(1, SeqCst);
        self.connections.lock().unwrap().insert(number, stream);
        let (live, allowed) = (self.live(), self.allowed.load(SeqCst));
        if live > allowed as usize {
            self.broke(format!("{live} connections where {allowed} are allowed"));
        }
        number
    }

    fn broke(&self, what: String) {
        self.broken.lock().unwrap().push(what);
    }

    fn check(&self, what: &str, found: u32, allowed: &AtomicU32) {
        let allowed = allowed.load(SeqCst);
        if found > allowed {
            self.broke(format!("{found} {what} where {allowed} are allowed"));
        }
    }
}

pub struct Endpoint {
    pub address: SocketAddr,
    /// Closes whatever connects.
    pub refuses: Arc<AtomicBool>,
    /// Nothing is answered while it is true.
    holds: watch::Sender<bool>,
    /// Each change closes all connections.
    cut: watch::Sender<()>,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Serving {
    seen: Arc<Seen>,
    holds: watch::Receiver<bool>,
    streams: u32,
}

impl Endpoint {
    pub async fn start(seen: &Arc<Seen>, streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, held) = watch::channel(false);
        let (cut, cuts) = watch::channel(());
        let refuses = Arc::new(AtomicBool::new(false));
        let serving = Serving {
            seen: Arc::clone(seen),
            holds: held,
            streams,
        };
        let mut server = JoinSet::new();
        server.spawn(accept(listener, serving, Arc::clone(&refuses), cuts));
        Self {
            address,
            refuses,
            holds,
            cut,
            _server: server,
        }
    }

    pub fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }

    pub fn cut(&self) {
        self.cut.send_replace(());
    }
}

async fn accept(listener: TcpListener, serving: Serving, refuses: Arc<AtomicBool>, cuts: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if refuses.load(SeqCst) {
            continue;
        }
        let (serving, mut cuts) = (serving.clone(), cuts.clone());
        cuts.mark_unchanged();
        connections.spawn(async move {
            let stream = stream.into_std().unwrap();
            let number = serving.seen.enter(stream.try_clone().unwrap());
            let stream = TcpStream::from_std(stream).unwrap();
            let seen = Arc::clone(&serving.seen);
            tokio::select! {
                () = serve(stream, serving) => {}
                _ = cuts.changed() => {}
            }
            seen.connections.lock().unwrap().remove(&number);
        });
    }
}

async fn serve(mut stream: TcpStream, serving: Serving) {
    let mut first = [0; 3];
    while !matches!(stream.peek(&mut first).await, Ok(0 | 3) | Err(_)) {
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        serve_http2(stream, serving).await;
    } else {
        let _ = serve_http1(&mut stream, serving).await;
    }
}

async fn serve_http1(stream: &mut TcpStream, mut serving: Serving) -> std::io::Result<()> {
    let (mut read, mut part, mut requests) = (Vec::new(), [0; 4096], 0);
    loop {
        while let Some(end) = read.windows(4).position(|four: &[u8]| four == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..end + 4).collect();
            requests += 1;
            serving.seen.check("requests", requests, &serving.seen.max_requests);
            let _ = serving.holds.wait_for(|holds| !holds).await;
            serving.seen.answered.fetch_add(1, SeqCst);
            if String::from_utf8_lossy(&head).to_lowercase().contains("upgrade: raw") {
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n";
                stream.write_all(answer).await?;
            } else {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
        }
        match stream.read(&mut part).await? {
            0 => return Ok(()),
            length => read.extend_from_slice(&part[..length]),
        }
    }
}

async fn serve_http2(stream: TcpStream, serving: Serving) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(serving.streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let live = Arc::new(AtomicU32::new(0));
    let (mut requests, mut streams) = (0, JoinSet::new());
    while let Some(accepted) = connection.accept().await {
        let Ok((_, mut respond)) = accepted else { return };
        requests += 1;
        let (seen, live, mut holds) = (Arc::clone(&serving.seen), Arc::clone(&live), serving.holds.clone());
        seen.check("requests", requests, &seen.max_requests);
        seen.check("streams", live.fetch_add(1, SeqCst) + 1, &seen.max_streams);
        streams.spawn(async move {
            tokio::select! {
                biased;
                _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => {}
                _ = holds.wait_for(|holds| !holds) => {
                    seen.answered.fetch_add(1, SeqCst);
                    // From here on the client may count it as over.
                    live.fetch_sub(1, SeqCst);
                    let _ = respond.send_response(Response::new(()), true);
                    return;
                }
            }
            live.fetch_sub(1, SeqCst);
        });
        while streams.try_join_next().is_some() {}
    }
}
