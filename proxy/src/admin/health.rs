//! The health door: whether to send this workload traffic (`/healthz/ready`), whether to restart it (`/healthz/live`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use http::request::Parts;

use super::answer::{Answer, Methods, not_found, text, wrong_method};
use crate::drain::Drain;

/// Whether the first configuration is in force. Clones are handles to the same fact, which never becomes untrue.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    configured: Arc<AtomicBool>,
}

impl Readiness {
    /// To be called once the first configuration is in force, from the control plane or from disk; more calls are free.
    pub fn config_applied(&self) {
        self.configured.store(true, Ordering::Release);
    }

    pub fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Acquire)
    }
}

pub(super) fn answer(request: &Parts, readiness: &Readiness, drain: &Drain) -> Answer {
    let path = request.uri.path();
    if !matches!(path, "/healthz/ready" | "/healthz/live") {
        return not_found("/healthz/ready and /healthz/live");
    }
    if !Methods::Get.allow(&request.method) {
        return wrong_method(Methods::Get);
    }
    if path == "/healthz/live" {
        text(StatusCode::OK, "live")
    } else if drain.is_leaving() {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "leaving: requests in flight and late ones are served, new clients should go elsewhere",
        )
    } else if !readiness.is_configured() {
        text(StatusCode::SERVICE_UNAVAILABLE, "waiting for the first configuration")
    } else {
        text(StatusCode::OK, "ready")
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn ready_from_the_first_configuration_until_the_drain() {
        let (readiness, drain) = (Readiness::default(), Drain::new());
        let status = |path: &str| {
            let request = Request::get(path).body(()).expect("a request");
            answer(&request.into_parts().0, &readiness, &drain).status().as_u16()
        };
        assert_eq!((status("/healthz/ready"), status("/healthz/live")), (503, 200));
        readiness.config_applied();
        assert_eq!((status("/healthz/ready"), status("/healthz/live")), (200, 200));
        drain.leave();
        assert_eq!((status("/healthz/ready"), status("/healthz/live")), (503, 200));
        assert_eq!(status("/"), 404);
    }
}
