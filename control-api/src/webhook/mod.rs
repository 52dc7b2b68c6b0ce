//! The admission webhook, `--webhook-addr`: the API server asks it for each new pod whether it gets a sidecar, and for each
//! object of the mesh whether `apply` would take it. Started by `app`. HTTPS with a certificate of its own making
//! (`certificate`); in Kubernetes mode the API server is told whom to trust (`registration`).
//!
//! It decides nothing itself: `inject` and `ingest` do. A review that cannot be judged is an HTTP error, so that the
//! webhook's failure policy decides, which is the user's choice.

mod certificate;
mod injection;
mod registration;
mod review;
mod server;
mod validation;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::{
    body::{self, BodyError},
    ca::{CaError, Place, Serving},
    clock::Clock,
    ingest::Ingest,
    inject::Settings,
};
use certificate::Certificate;
use review::{Review, Verdict};

/// Names in the cluster of the Secret with the certificate and of the two webhook configurations.
const SECRET: &str = "tsunagi-webhook";
const REGISTRATIONS: &str = "tsunagi";
/// An object of Kubernetes has at most 1.5 MiB, and a review two of them.
const BODY_LIMIT_BYTES: usize = 4 << 20;
/// The API server waits at most 30 s, and usually 5.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What the webhook needs from the rest of the control plane.
pub struct Setup {
    pub listener: TcpListener,
    pub ingest: Ingest,
    pub settings: Settings,
    /// Of the certificate: as the API server calls the service.
    pub names: Vec<String>,
    /// For the certificate, where there is no cluster to keep it.
    pub data_dir: PathBuf,
    /// In Kubernetes mode.
    pub cluster: Option<kube::Client>,
    pub clock: Clock,
}

/// What a review needs.
#[derive(Clone)]
struct Doors(Arc<Parts>);

struct Parts {
    ingest: Ingest,
    settings: Settings,
    cluster: Option<kube::Client>,
    /// Whether the cluster has native sidecars, once it has told its version.
    native_sidecars: OnceLock<bool>,
}

/// Serves until `stop`. Without a cluster the certificate is there when this returns; with one it comes as soon as the API
/// server can be reached. Dropping the handle stops nothing.
pub async fn start(setup: Setup, stop: watch::Receiver<bool>) -> Result<JoinHandle<()>, CaError> {
    let serving = Serving::new();
    let config = serving.config()?;
    let doors = Doors(Arc::new(Parts {
        ingest: setup.ingest,
        settings: setup.settings,
        cluster: setup.cluster.clone(),
        native_sidecars: OnceLock::new(),
    }));
    let place = match &setup.cluster {
        Some(client) => Place::secret(client.clone(), SECRET),
        None => Place::Folder(setup.data_dir.join("webhook")),
    };
    let mut certificate = Certificate::new(place, setup.names, serving, setup.cluster);
    // An API server may come after its webhook; a folder is there or not.
    if doors.0.cluster.is_none() {
        certificate.step((setup.clock)()).await?;
    }
    tokio::spawn(certificate.keep(setup.clock, stop.clone()));
    tokio::spawn(ask_version(doors.clone(), stop.clone()));
    Ok(tokio::spawn(server::serve(setup.listener, config, router(doors), stop)))
}

fn router(doors: Doors) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/validate", post(validate))
        .fallback(async || (StatusCode::NOT_FOUND, "there are POST /inject and POST /validate\n"))
        .layer(middleware::from_fn(within_limit))
        .layer(middleware::from_fn(in_time))
        .with_state(doors)
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the review took too long\n").into_response(),
    }
}

async fn within_limit(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match body::read(body, BODY_LIMIT_BYTES).await {
        Ok(whole) => next.run(Request::from_parts(head, Body::from(whole))).await,
        Err(error @ BodyError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

async fn inject(State(Doors(parts)): State<Doors>, body: bytes::Bytes) -> Response {
    let review = match Review::parse(&body) {
        Ok(review) => review,
        Err(reason) => return review::malformed("inject", &reason),
    };
    let verdict = injection::judge(&parts, &review).await;
    review::answer("inject", &review, Ok(verdict))
}

async fn validate(State(Doors(parts)): State<Doors>, body: bytes::Bytes) -> Response {
    let review = match Review::parse(&body) {
        Ok(review) => review,
        Err(reason) => return review::malformed("validate", &reason),
    };
    let verdict: Result<Verdict, String> = validation::judge(&parts.ingest, &review).await;
    review::answer("validate", &review, verdict)
}

/// Between two questions for the API server's version, while there is no answer.
const VERSION_PAUSE: Duration = Duration::from_secs(5);

async fn ask_version(doors: Doors, mut stop: watch::Receiver<bool>) {
    let Some(client) = &doors.0.cluster else { return };
    loop {
        if let Ok(version) = client.apiserver_version().await {
            let native = has_native_sidecars(&version.major, &version.minor);
            tracing::info!(
                "the cluster is {}.{}: native sidecars={native}",
                version.major,
                version.minor
            );
            // Set here only.
            let _ = doors.0.native_sidecars.set(native);
            return;
        }
        if let Ok(Ok(_)) = timeout(VERSION_PAUSE, stop.wait_for(|stop| *stop)).await {
            return;
        }
    }
}

/// On by default since 1.29. Some vendors write a minor version like `29+`.
fn has_native_sidecars(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .unwrap_or(0)
    };
    (number(major), number(minor)) >= (1, 29)
}

#[cfg(test)]
mod tests;
