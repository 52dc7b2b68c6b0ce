//! `tsunagi-proxy drain`: asks the running sidecar to leave, by its admin listener, and waits until it may be ended. Called
//! by `main`; a preStop hook of a native sidecar runs it.
//!
//! A few lines of HTTP/1.1 over a blocking socket: one short question at a time, to a listener of our own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bootstrap::DrainOptions;

const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// For one answer of the admin listener.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const LARGEST_ANSWER_BYTES: u64 = 64 * 1024;

/// Why it is not certain that the sidecar may be ended.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("no sidecar at {address} (--admin-addr): {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("{address} is no sidecar's admin listener (--admin-addr): it answered {answer:?}")]
    Stranger { address: SocketAddr, answer: String },
    #[error("not drained within {limit:?} (--timeout): {status}")]
    TimedOut { limit: Duration, status: String },
    #[error("cannot say so: {0}")]
    Output(#[from] io::Error),
}

/// Returns when callers have been told and inbound requests have finished; says so on stdout. Blocks the caller.
pub fn drain(options: &DrainOptions) -> Result<(), DrainError> {
    let began = Instant::now();
    let address = options.admin_addr;
    ask(address, "POST", "/drain")?;
    loop {
        let status = match ask(address, "GET", "/drain_status") {
            Ok(answer) => read_status(address, &answer)?,
            // Asked to end meanwhile, it may be gone as soon as it has drained.
            Err(DrainError::Unreachable { .. }) => return say("the sidecar has ended"),
            Err(error) => return Err(error),
        };
        if status["phase"] == "drained" {
            return say(&format!("drained after {:.1?}: {}", began.elapsed(), callers(&status)));
        }
        if began.elapsed() >= options.timeout {
            return Err(DrainError::TimedOut {
                limit: options.timeout,
                status: where_it_is(&status),
            });
        }
        sleep(ASK_INTERVAL);
    }
}

fn say(line: &str) -> Result<(), DrainError> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

fn callers(status: &Value) -> String {
    let unanswered = status["callers_unanswered"].as_array().map_or(0, Vec::len);
    match (
        status["callers_told"].as_bool(),
        status["callers_not_told_because"].as_str(),
    ) {
        (Some(true), _) if unanswered == 0 => "callers were told".to_owned(),
        (Some(true), _) => format!("callers were told, {unanswered} of them have not answered"),
        (_, Some(reason)) => format!("callers were not told: {reason}"),
        (_, None) => "callers were not told in time".to_owned(),
    }
}

fn where_it_is(status: &Value) -> String {
    format!(
        "it is {}, {} inbound connections are open",
        status["phase"].as_str().unwrap_or("where it does not say"),
        status["inbound_connections"]
    )
}

fn read_status(address: SocketAddr, answer: &str) -> Result<Value, DrainError> {
    let status: Option<Value> = serde_json::from_str(answer).ok();
    let status = status.filter(|status| status["phase"].is_string());
    status.ok_or_else(|| stranger(address, answer))
}

fn stranger(address: SocketAddr, answer: &str) -> DrainError {
    DrainError::Stranger {
        address,
        answer: answer.chars().take(200).collect(),
    }
}

/// The body of a 200.
fn ask(address: SocketAddr, method: &str, path: &str) -> Result<String, DrainError> {
    let answer = exchange(address, method, path).map_err(|source| DrainError::Unreachable { address, source })?;
    let ok = answer.strip_prefix("HTTP/1.1 200 ");
    let body = ok.and_then(|rest| rest.split_once("\r\n\r\n"));
    body.map(|(_, body)| body.to_owned())
        .ok_or_else(|| stranger(address, &answer))
}

fn exchange(address: SocketAddr, method: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER_BYTES).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    /// An admin listener that gives these answers, one a connection.
    fn answers(answers: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a question");
                let mut asked = [0; 512];
                let _ = stream.read(&mut asked).expect("readable");
                stream.write_all(answer.as_bytes()).expect("written");
            }
        });
        address
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn status(phase: &str) -> String {
        ok(&json!({ "phase": phase, "inbound_connections": 2 }).to_string())
    }

    fn drained(answers_: Vec<String>, timeout: Duration) -> Result<(), DrainError> {
        let admin_addr = answers(answers_);
        drain(&DrainOptions { admin_addr, timeout })
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn it_asks_until_the_sidecar_has_drained() {
        let said = vec![
            ok("draining\n"),
            status("leaving"),
            status("draining"),
            status("drained"),
        ];
        drained(said, LONG).expect("drained");
    }

    #[test]
    fn a_sidecar_that_is_gone_meanwhile_has_drained() {
        drained(vec![ok("draining\n"), status("leaving")], LONG).expect("gone");
    }

    #[test]
    fn it_says_where_the_sidecar_is_when_the_time_is_over() {
        let error = drained(vec![ok("draining\n"), status("leaving")], Duration::ZERO).expect_err("too late");
        let text = error.to_string();
        assert!(text.contains("leaving") && text.contains("2 inbound"), "{text}");
    }

    #[test]
    fn who_is_no_sidecar_or_not_there_is_named_with_the_flag() {
        let stranger = drained(vec!["HTTP/1.1 404 Not Found\r\n\r\n".to_owned()], LONG).expect_err("a stranger");
        assert!(stranger.to_string().contains("404"), "{stranger}");
        let nobody = drained(Vec::new(), LONG).expect_err("nobody");
        assert!(nobody.to_string().contains("--admin-addr"), "{nobody}");
    }

    #[test]
    fn what_became_of_callers_is_one_sentence() {
        let told = json!({ "callers_told": true, "callers_unanswered": ["a/b"] });
        assert_eq!(callers(&told), "callers were told, 1 of them have not answered");
        let not = json!({ "callers_told": false, "callers_not_told_because": "no control plane" });
        assert_eq!(callers(&not), "callers were not told: no control plane");
        assert_eq!(callers(&json!({})), "callers were not told in time");
    }
}
