//! `tsunagi sample-service`: one endpoint of the demo's service. It says who it is, counts, and on a second port takes the
//! order to fail or to be slow. Started by the demo as a process of its own.
//!
//! `POST /behaviour?status=503&delay=400ms` on the control port changes how it answers and counts from 0 again; what is not
//! named goes back to normal. `GET /counts` tells what it has seen.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::super::{CliError, output};

/// In every answer: who answered.
pub(super) const ENDPOINT_HEADER: &str = "x-sample-endpoint";
pub(super) const VERSION_HEADER: &str = "x-sample-version";
/// A listener that cannot accept (no file descriptors left) tries again after this.
const ACCEPT_REST: Duration = Duration::from_millis(50);

#[derive(Args, Debug)]
pub(in super::super) struct Options {
    /// What the endpoint calls itself
    #[arg(long)]
    name: String,

    /// The version of the service that it is
    #[arg(long)]
    version: String,

    /// Where the service is; port 0: any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    http_addr: SocketAddr,

    /// Where orders are taken; port 0: any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    control_addr: SocketAddr,
}

/// What the endpoint has seen since its behaviour was last changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) answered: u64,
    /// Requests that had come when the first one was answered, itself included.
    pub(super) received_by_first_answer: u64,
    /// Received and not answered, at the busiest moment.
    pub(super) most_at_once: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behaviour {
    status: StatusCode,
    delay: Duration,
}

struct Sample {
    name: String,
    version: String,
    state: Mutex<State>,
}

struct State {
    behaviour: Behaviour,
    /// Received and not answered.
    active: u64,
    counts: Counts,
}

pub(super) async fn run(options: &Options) -> Result<(), CliError> {
    let http = bind(options.http_addr).await?;
    let control = bind(options.control_addr).await?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(CliError::Output);
    let (http_addr, control_addr) = (address(&http)?, address(&control)?);
    output::complain(&format!("listening http={http_addr} control={control_addr}"));
    let sample = Arc::new(Sample::new(&options.name, &options.version));
    tokio::join!(serve(http, Arc::clone(&sample)), take_orders(control, sample));
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, CliError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| CliError::Failed(format!("cannot listen on {address}: {error}")))
}

async fn serve(listener: TcpListener, sample: Arc<Sample>) {
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        let sample = Arc::clone(&sample);
        tokio::spawn(async move {
            let answer = |_: Request<Incoming>| answer(Arc::clone(&sample));
            serve_connection(stream, answer).await;
        });
    }
}

async fn take_orders(listener: TcpListener, sample: Arc<Sample>) {
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        let sample = Arc::clone(&sample);
        tokio::spawn(async move {
            let order = |request: Request<Incoming>| std::future::ready(order(&sample, &request));
            serve_connection(stream, order).await;
        });
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let accepted: io::Result<_> = listener.accept().await;
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(_) => {
            sleep(ACCEPT_REST).await;
            None
        }
    }
}

async fn serve_connection<F>(stream: TcpStream, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<Full<Bytes>>>,
{
    // Without it an answer in two segments waits for an acknowledgement.
    drop(stream.set_nodelay(true));
    let service = service_fn(|request| {
        let answered = answer(request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    // A client that goes away is not news.
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

/// Dropping the future (the client went away) leaves the request counted as received.
async fn answer(sample: Arc<Sample>) -> Response<Full<Bytes>> {
    let visit = sample.arrive();
    let behaviour = visit.behaviour;
    if !behaviour.delay.is_zero() {
        sleep(behaviour.delay).await;
    }
    visit.answered();
    let Sample { name, version, .. } = &*sample;
    let text = match behaviour.status {
        StatusCode::OK => format!("user-service {version}, answered by {name}\n"),
        status => format!("{name} was told to answer {status}\n"),
    };
    let mut response = reply(behaviour.status, text);
    for (header, value) in [(ENDPOINT_HEADER, name), (VERSION_HEADER, version)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}

fn order(sample: &Sample, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/behaviour") => match Behaviour::parse(request.uri().query().unwrap_or_default()) {
            Ok(behaviour) => {
                sample.behave(behaviour);
                reply(
                    StatusCode::OK,
                    format!("{} answers {behaviour} from now on\n", sample.name),
                )
            }
            Err(reason) => reply(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        },
        (&Method::GET, "/counts") => match serde_json::to_string(&sample.state().counts) {
            Ok(counts) => reply(StatusCode::OK, counts),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        _ => reply(
            StatusCode::NOT_FOUND,
            "POST /behaviour?status=503&delay=400ms or GET /counts\n".to_owned(),
        ),
    }
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

impl Behaviour {
    const NORMAL: Self = Self {
        status: StatusCode::OK,
        delay: Duration::ZERO,
    };

    fn parse(query: &str) -> Result<Self, String> {
        let mut behaviour = Self::NORMAL;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("status", status)) => {
                    let status = status
                        .parse::<StatusCode>()
                        .ok()
                        .filter(|status| status.as_u16() >= 200);
                    behaviour.status = status.ok_or("status is a number from 200")?;
                }
                Some(("delay", delay)) => {
                    behaviour.delay =
                        humantime::parse_duration(delay).map_err(|_| "delay is a duration such as 400ms")?;
                }
                _ => return Err(format!("{pair}: only status and delay can be changed")),
            }
        }
        Ok(behaviour)
    }
}

impl std::fmt::Display for Behaviour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        match self.delay.is_zero() {
            true => Ok(()),
            false => write!(f, " after {}", humantime::format_duration(self.delay)),
        }
    }
}

impl Sample {
    fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            state: Mutex::new(State {
                behaviour: Behaviour::NORMAL,
                active: 0,
                counts: Counts::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrive(&self) -> Visit<'_> {
        let mut state = self.state();
        state.active += 1;
        let (active, counts) = (state.active, &mut state.counts);
        counts.received += 1;
        counts.most_at_once = counts.most_at_once.max(active);
        Visit {
            sample: self,
            behaviour: state.behaviour,
        }
    }

    fn behave(&self, behaviour: Behaviour) {
        let mut state = self.state();
        state.behaviour = behaviour;
        state.counts = Counts {
            most_at_once: state.active,
            ..Counts::default()
        };
    }
}

/// A request under way, until it is dropped.
struct Visit<'a> {
    sample: &'a Sample,
    behaviour: Behaviour,
}

impl Visit<'_> {
    fn answered(self) {
        let counts = &mut self.sample.state().counts;
        if counts.answered == 0 {
            counts.received_by_first_answer = counts.received;
        }
        counts.answered += 1;
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.sample.state().active -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_status_and_delay_and_nothing_else() {
        let parsed = Behaviour::parse("status=503&delay=400ms").expect("an order");
        assert_eq!(parsed.to_string(), "503 after 400ms");
        assert_eq!(Behaviour::parse(""), Ok(Behaviour::NORMAL));
        for query in ["status=99", "status=x", "delay=soon", "colour=red", "status"] {
            assert!(Behaviour::parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn counts_start_anew_with_a_behaviour_and_requests_under_way_stay() {
        let sample = Sample::new("a", "v1");
        let (first, second) = (sample.arrive(), sample.arrive());
        first.answered();
        let third = sample.arrive();
        let counts = sample.state().counts;
        assert_eq!((counts.received, counts.answered, counts.most_at_once), (3, 1, 2));
        assert_eq!(counts.received_by_first_answer, 2);
        sample.behave(Behaviour::NORMAL);
        let counts = sample.state().counts;
        assert_eq!((counts.received, counts.answered, counts.most_at_once), (0, 0, 2));
        drop((second, third));
        assert_eq!(sample.state().active, 0);
    }
}
