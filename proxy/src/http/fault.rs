//! Faults that a rule injects: a delay, then an abort, each for its share of requests.
//!
//! Source: Envoy's fault filter (source/extensions/filters/http/fault/fault_filter.cc), which runs before CORS and before
//! the rule's timeout begins. An exponential delay and an HTTP/2 error, which Istio's reference has and its proxies do not
//! carry out, are carried out here.

use std::time::Duration;

use tokio::time::sleep;
use tsunagi_proto::model::{AbortKind, DelayKind, Fault, draws};

use super::downstream::{Downstream, unless_gone};
use super::local_reply::Cause;
use crate::telemetry::Flags;

pub const ABORT_BODY: &[u8] = b"fault filter abort";
pub const ABORT_DETAILS: &str = "fault_filter_abort";

/// Delays the request if it is drawn; says how it is aborted if it is drawn for that. `random`: uniform over all of `u64`.
pub async fn inject<D: Downstream>(
    fault: &Fault,
    flags: &mut Flags,
    client: &mut D,
    mut random: impl FnMut() -> u64,
) -> Result<Option<AbortKind>, Cause> {
    if let Some(delay) = fault.delay.as_ref().filter(|delay| draws(delay.per_million, random())) {
        flags.insert(Flags::DI);
        let time = delay_time(&delay.kind, random());
        unless_gone(client, sleep(time)).await.ok_or(Cause::ClientGone)?;
    }
    let abort = fault.abort.as_ref().filter(|abort| draws(abort.per_million, random()));
    if abort.is_some() {
        flags.insert(Flags::FI);
    }
    Ok(abort.map(|abort| abort.kind))
}

fn delay_time(kind: &DelayKind, random: u64) -> Duration {
    match kind {
        DelayKind::Fixed(time) => *time,
        DelayKind::Exponential(mean) => {
            // Uniform over [0, 1), in steps of 2^-53: the longest is 37 times the mean.
            let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
            mean.mul_f64(-(1.0 - uniform).ln())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use tokio::time::Instant;
    use tsunagi_proto::model::{Abort, Delay};

    use super::*;
    use crate::http::mirror_body::copy_channel;

    const FIXED: DelayKind = DelayKind::Fixed(Duration::from_secs(5));

    fn fault(delay: Option<(u32, DelayKind)>, abort: Option<u32>) -> Fault {
        Fault {
            delay: delay.map(|(per_million, kind)| Delay { per_million, kind }),
            abort: abort.map(|per_million| Abort {
                per_million,
                kind: AbortKind::HttpStatus(StatusCode::IM_A_TEAPOT),
            }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_comes_before_the_abort_and_both_are_flagged() {
        let (_client, mut waiting) = copy_channel();
        let (mut flags, begun) = (Flags::NONE, Instant::now());
        let both = fault(Some((1_000_000, FIXED)), Some(1_000_000));
        let kind = inject(&both, &mut flags, &mut waiting, || u64::MAX).await.unwrap();
        assert_eq!(kind, Some(AbortKind::HttpStatus(StatusCode::IM_A_TEAPOT)));
        assert_eq!(
            (begun.elapsed(), flags),
            (Duration::from_secs(5), Flags::DI | Flags::FI)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_drawn_is_not_injected() {
        let (_client, mut waiting) = copy_channel();
        let (mut flags, begun) = (Flags::NONE, Instant::now());
        let both = fault(Some((999_999, FIXED)), Some(0));
        assert_eq!(
            inject(&both, &mut flags, &mut waiting, || u64::MAX).await.unwrap(),
            None
        );
        assert!(begun.elapsed().is_zero() && flags.is_empty());
        let rare = fault(None, Some(1));
        assert!(inject(&rare, &mut flags, &mut waiting, || 0).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_is_not_waited_for() {
        let (sink, mut waiting) = copy_channel();
        drop((sink, Bytes::new()));
        waiting.notice_end();
        let mut flags = Flags::NONE;
        let begun = Instant::now();
        let injected = inject(&fault(Some((1_000_000, FIXED)), None), &mut flags, &mut waiting, || 0).await;
        assert_eq!(injected, Err(Cause::ClientGone));
        assert!(begun.elapsed().is_zero());
    }

    #[test]
    fn exponential_delays_have_their_mean() {
        let mean = DelayKind::Exponential(Duration::from_millis(100));
        let steps = 10_000_u64;
        let total: Duration = (0..steps)
            .map(|step| delay_time(&mean, step * (u64::MAX / steps)))
            .sum();
        let average = total / steps as u32;
        assert!(
            (Duration::from_millis(98)..Duration::from_millis(102)).contains(&average),
            "{average:?}"
        );
        assert_eq!(delay_time(&mean, 0), Duration::ZERO);
        assert!(delay_time(&mean, u64::MAX) < Duration::from_secs(4));
    }
}
