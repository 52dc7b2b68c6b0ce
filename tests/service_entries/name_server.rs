//! A name server that says what a test wants said, over UDP and TCP, and can stop saying anything. It answers from its own
//! list: other names do not exist.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const TYPE_A: [u8; 2] = [0, 1];
/// `AA` and `TC` of the first byte of flags, with `QR`.
const ANSWER: u8 = 0b1000_0100;
const TRUNCATED: u8 = 0b0000_0010;

#[derive(Clone)]
struct Known {
    addresses: Vec<Ipv4Addr>,
    ttl: u32,
    /// Over UDP it says only that there is more.
    only_tcp: bool,
}

#[derive(Default)]
struct Said {
    names: Mutex<HashMap<String, Known>>,
    fails: Mutex<bool>,
    tcp_questions: AtomicUsize,
}

/// Ends with the value: then its port is closed.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    said: Arc<Said>,
    _serving: JoinSet<()>,
}

impl NameServer {
    pub(crate) async fn start() -> NameServer {
        NameServer::start_on([127, 0, 0, 1].into()).await
    }

    pub(crate) async fn start_on(address: IpAddr) -> NameServer {
        let tcp = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        let said = Arc::new(Said::default());
        let mut serving = JoinSet::new();
        let of_udp = Arc::clone(&said);
        serving.spawn(async move {
            let mut question = [0; 1024];
            while let Ok((length, from)) = udp.recv_from(&mut question).await {
                if let Some(answer) = of_udp.answer(&question[..length], false) {
                    udp.send_to(&answer, from).await.ok();
                }
            }
        });
        let of_tcp = Arc::clone(&said);
        serving.spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&of_tcp)));
            }
        });
        NameServer {
            address,
            said,
            _serving: serving,
        }
    }

    /// For so many seconds the name has these addresses.
    pub(crate) fn say(&self, name: &str, addresses: &[SocketAddr], ttl: u32) {
        self.learn(name, addresses, ttl, false);
    }

    /// The same, but only over TCP.
    pub(crate) fn say_at_length(&self, name: &str, addresses: &[SocketAddr], ttl: u32) {
        self.learn(name, addresses, ttl, true);
    }

    fn learn(&self, name: &str, addresses: &[SocketAddr], ttl: u32, only_tcp: bool) {
        let v4 = addresses.iter().filter_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let known = Known {
            addresses: v4.collect(),
            ttl,
            only_tcp,
        };
        self.said
            .names
            .lock()
            .expect("nobody panics with it")
            .insert(name.to_owned(), known);
    }

    /// It does not exist any more.
    pub(crate) fn forget(&self, name: &str) {
        self.said.names.lock().expect("nobody panics with it").remove(name);
    }

    /// From now on it has failed whatever it is asked.
    pub(crate) fn fail(&self) {
        *self.said.fails.lock().expect("nobody panics with it") = true;
    }

    pub(crate) fn tcp_questions(&self) -> usize {
        self.said.tcp_questions.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, said: Arc<Said>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        said.tcp_questions.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = said.answer(&question, true) else {
            return;
        };
        let length = u16::try_from(answer.len()).expect("short answers");
        if stream.write_u16(length).await.is_err() || stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Said {
    fn answer(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = name(question.get(12..)?)?;
        let asked = question.get(12..12 + end + 4)?;
        let kind = asked.get(end..end + 2)?;
        let known = self.names.lock().expect("nobody panics with it").get(&name).cloned();
        let fails = *self.fails.lock().expect("nobody panics with it");
        let truncated = !over_tcp && known.as_ref().is_some_and(|known| known.only_tcp);
        let records = match &known {
            Some(known) if kind == TYPE_A && !fails && !truncated => known.addresses.clone(),
            _ => Vec::new(),
        };
        let code = match (&known, fails) {
            (_, true) => SERVER_FAILURE,
            (None, _) => NO_SUCH_NAME,
            (Some(_), _) => NO_ERROR,
        };
        let mut answer = question.get(..2)?.to_vec();
        answer.push(ANSWER | if truncated { TRUNCATED } else { 0 });
        answer.push(code);
        answer.extend([0, 1]);
        answer.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
        answer.extend([0, 0, 0, 0]);
        answer.extend(asked);
        for address in records {
            // The name is the one at offset 12, the class is `IN`.
            answer.extend([0xc0, 12, 0, 1, 0, 1]);
            answer.extend(known.as_ref()?.ttl.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

/// In lower case, and how many bytes it takes.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        labels.push(String::from_utf8_lossy(bytes.get(at..at + length)?).into_owned());
        at += length;
    }
}
