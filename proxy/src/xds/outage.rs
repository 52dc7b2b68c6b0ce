//! When it is said that there is no control plane: at once, then once a minute, and when the reason is another. Attempts come
//! more often: a log that says each of them says nothing else. Called by `client`.

use std::time::Duration;

use tokio::time::Instant;

const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Outage {
    /// When it was said last, and why.
    said: Option<(Instant, String)>,
}

impl Outage {
    /// An attempt failed, or a connection ended: is that to be said?
    pub(super) fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        let is_known = |(at, why): &(Instant, String)| why == reason && now.duration_since(*at) < SAID_AGAIN_AFTER;
        if self.said.as_ref().is_some_and(is_known) {
            return false;
        }
        self.said = Some((now, reason.to_owned()));
        true
    }

    /// The control plane was there.
    pub(super) fn over(&mut self) {
        self.said = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_then_once_a_minute_and_when_the_reason_is_another() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..130 {
            let reason = if second < 125 { "refused" } else { "no answer" };
            if outage.is_news(reason, start + Duration::from_secs(second)) {
                said.push(second);
            }
        }
        assert_eq!(said, [0, 60, 120, 125]);
        outage.over();
        assert!(outage.is_news("no answer", start + Duration::from_secs(131)));
    }
}
