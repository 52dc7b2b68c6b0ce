//! `tsunagi-proxy wait`: returns when the sidecar of this pod is ready. A postStart hook where there are no native
//! sidecars: the kubelet starts the next container once it has returned. Needs neither a shell nor curl in the image.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::bootstrap::WaitOptions;

const PAUSE: Duration = Duration::from_millis(100);
/// For one question.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("not ready within {limit:?}: {last}")]
pub struct WaitError {
    limit: Duration,
    /// What was found last.
    last: String,
}

/// Asks again until the sidecar is ready or the time is over. Blocks the caller.
pub fn wait(options: &WaitOptions) -> Result<(), WaitError> {
    let begun = Instant::now();
    let address = reachable(options.health_addr);
    loop {
        let left = options.timeout.saturating_sub(begun.elapsed());
        let last = match ask(address, left.clamp(PAUSE, PATIENCE)) {
            Ok(line) if line.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(line) => format!("{address} answers {line:?}"),
            Err(error) => format!("{address}: {error}"),
        };
        if left <= PAUSE {
            let limit = options.timeout;
            return Err(WaitError { limit, last });
        }
        std::thread::sleep(PAUSE);
    }
}

/// An address to listen on may mean all of them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The first line of the answer.
fn ask(address: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut line = Vec::new();
    let mut bytes = [0; 256];
    while !line.contains(&b'\r') && line.len() < 1024 {
        match stream.read(&mut bytes)? {
            0 => break,
            count => line.extend_from_slice(&bytes[..count]),
        }
    }
    let end = line.iter().position(|byte| *byte == b'\r').unwrap_or(line.len());
    Ok(String::from_utf8_lossy(&line[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A sidecar that gives these answers, one after the other.
    fn sidecar(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for (answer, stream) in answers.iter().zip(listener.incoming()) {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 256]);
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes());
            }
        });
        address
    }

    fn options(health_addr: SocketAddr, timeout: Duration) -> WaitOptions {
        WaitOptions { health_addr, timeout }
    }

    #[test]
    fn it_returns_once_the_sidecar_is_ready() {
        let address = sidecar(&["503 Service Unavailable", "503 Service Unavailable", "200 OK"]);
        wait(&options(address, Duration::from_secs(20))).expect("ready");
    }

    #[test]
    fn it_says_what_was_found_last_when_the_time_is_over() {
        let address = sidecar(&["503 Service Unavailable"; 100]);
        let error = wait(&options(address, Duration::from_millis(300))).expect_err("never ready");
        assert!(error.to_string().contains("503"), "{error}");
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(wait(&options(nobody, Duration::ZERO)).is_err());
    }
}
