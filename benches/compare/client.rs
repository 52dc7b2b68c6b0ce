//! A blocking HTTP/1.1 client whose every microsecond is its peer's: one write, then reads. It checks answers, measures one
//! connection, keeps connections idle, and paces requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::Outcome;

/// No answer takes longer.
const REPLY_LIMIT: Duration = Duration::from_secs(20);
/// A request that is sent later than this after it was due has waited for the answer before it, or the machine was busy.
const LATE: Duration = Duration::from_millis(5);

pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// What a request must be answered with, apart from status 200.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub address: SocketAddr,
    pub host: &'a str,
    pub path: &'a str,
    pub body_bytes: u64,
}

impl Client {
    pub fn open(target: &Target<'_>) -> Outcome<Client> {
        let describe = |error: std::io::Error| format!("connecting to {}: {error}", target.address);
        let stream = TcpStream::connect(target.address).map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        stream.set_read_timeout(Some(REPLY_LIMIT)).map_err(describe)?;
        let (host, path) = (target.host, target.path);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        Ok(Client {
            stream,
            request,
            buffer: vec![0; 64 << 10],
        })
    }

    /// One request; whether its answer is the expected one.
    pub fn get(&mut self, target: &Target<'_>) -> Outcome<()> {
        self.stream
            .write_all(&self.request)
            .map_err(|error| error.to_string())?;
        let (mut filled, head_bytes) = self.read_head()?;
        let head = String::from_utf8_lossy(&self.buffer[..head_bytes]).into_owned();
        let length = head.lines().find_map(content_length);
        if !head.starts_with("HTTP/1.1 200 ") || length != Some(target.body_bytes) {
            let body = String::from_utf8_lossy(&self.buffer[head_bytes..filled.min(head_bytes + 200)]);
            return Err(format!(
                "expected 200 and {} bytes, got: {head}{body}",
                target.body_bytes
            ));
        }
        let mut left = (head_bytes as u64 + target.body_bytes).saturating_sub(filled as u64);
        while left > 0 {
            filled = self.read(0)?;
            left = left.saturating_sub(filled as u64);
        }
        Ok(())
    }

    /// Bytes read, and those of them that are the head.
    fn read_head(&mut self) -> Outcome<(usize, usize)> {
        let mut filled = 0;
        loop {
            filled += self.read(filled)?;
            let end = self.buffer[..filled]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok((filled, end + 4));
            }
        }
    }

    fn read(&mut self, from: usize) -> Outcome<usize> {
        match self.stream.read(&mut self.buffer[from..]) {
            Ok(0) => Err("the connection was closed before the answer's end".to_owned()),
            Ok(count) => Ok(count),
            Err(error) => Err(format!("reading an answer: {error}")),
        }
    }
}

fn content_length(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length")
        .then(|| value.trim().parse().ok())?
}

/// One connection, one request after the other.
pub fn closed_loop(target: &Target<'_>, length: Duration) -> Outcome<Vec<Duration>> {
    let mut client = Client::open(target)?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < length {
        let sent = Instant::now();
        client.get(target)?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// `rate` requests a second, evenly, over `connections` connections. A time is from when the request was sent; for one that
/// was sent late, from when it was due, so that a slow answer does not hide those behind it.
pub fn paced(target: &Target<'_>, rate: u32, connections: u32, length: Duration) -> Outcome<Vec<Duration>> {
    let every = Duration::from_secs(1) * connections / rate;
    let first = Instant::now() + Duration::from_millis(50);
    let outcomes: Vec<Outcome<(Vec<Duration>, usize)>> = scope(|threads| {
        let start = |number| first + every * number / connections;
        let started: Vec<_> = (0..connections)
            .map(|number| threads.spawn(move || paced_connection(target, start(number), every, first + length)))
            .collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .map(|outcome| outcome.unwrap_or(Err("a client panicked".to_owned())))
            .collect()
    });
    let (mut times, mut late) = (Vec::new(), 0);
    for outcome in outcomes {
        let (more, more_late) = outcome?;
        times.extend(more);
        late += more_late;
    }
    if late * 10 > times.len() {
        return Err(format!(
            "{late} of {} requests were sent more than {LATE:?} late",
            times.len()
        ));
    }
    Ok(times)
}

fn paced_connection(
    target: &Target<'_>,
    mut due: Instant,
    every: Duration,
    end: Instant,
) -> Outcome<(Vec<Duration>, usize)> {
    let mut client = Client::open(target)?;
    let (mut times, mut late) = (Vec::new(), 0);
    while due < end {
        sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        let is_late = sent > due + LATE;
        client.get(target)?;
        times.push(if is_late { due.elapsed() } else { sent.elapsed() });
        late += usize::from(is_late);
        due += every;
    }
    Ok((times, late))
}
