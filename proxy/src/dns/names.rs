//! When which name is asked for, and what is in force of the answers. Pure: time and randomness are passed in.
//!
//! As Envoy's clusters of names (`strict_dns_cluster.cc`, `logical_dns_cluster.cc`): asked again when the time to live has
//! passed; a lookup that failed changes nothing, so that the last good addresses serve on, and is repeated with a growing,
//! jittered backoff; that there is certainly no address is an answer.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names that are asked for at once; beyond that they fail. Each costs a lookup whenever its time to live passes.
const MOST_NAMES: usize = 4096;
/// Of one name: an answer of the largest size has thousands.
const MOST_ADDRESSES: usize = 256;
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(3600);
/// Where it is certain that there is none, and the answer does not say for how long.
const ABSENT_TTL: Duration = Duration::from_secs(30);
const LONGEST_ABSENT_TTL: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What a lookup brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// There certainly are none.
    Absent {
        /// For how long.
        ttl: Option<Duration>,
        reason: String,
    },
    Failed(String),
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The last ones that there were, sorted.
    pub addresses: Arc<[IpAddr]>,
    /// It is certain that there are none now.
    pub absent: bool,
    /// Why the last lookup brought none.
    pub failure: Option<Arc<str>>,
    /// When the last addresses were said; `None`: never.
    pub said_at: Option<Instant>,
    answered: bool,
}

impl Answer {
    /// Of a name that is one too many.
    pub(super) fn never() -> Self {
        Self {
            failure: Some("too many names are to be resolved".into()),
            answered: true,
            ..Self::default()
        }
    }

    /// No lookup has ended yet.
    pub fn is_pending(&self) -> bool {
        !self.answered
    }
}

#[derive(Debug, Default)]
struct Name {
    answer: Answer,
    /// In a row.
    failures: u32,
    /// `None`: it is being asked for.
    due: Option<Instant>,
}

/// Every name that somebody wants.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<Arc<str>, Name>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

impl Names {
    /// It is asked for at once.
    pub fn want(&mut self, name: &str, now: Instant) {
        if self.names.contains_key(name) {
            return;
        }
        if self.names.len() >= MOST_NAMES {
            tracing::warn!(name, "more than {MOST_NAMES} names are to be resolved: this one is not");
            return;
        }
        let name: Arc<str> = name.into();
        self.due.insert((now, Arc::clone(&name)));
        let due = Some(now);
        self.names.insert(name, Name { due, ..Name::default() });
    }

    /// Nobody wants it any more: forgotten, whatever a lookup on its way brings.
    pub fn unwant(&mut self, name: &str) {
        let Some((name, known)) = self.names.remove_entry(name) else {
            return;
        };
        if let Some(due) = known.due {
            self.due.remove(&(due, name));
        }
    }

    /// When the next one is due that is not being asked for.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One that is due: from now on it is being asked for.
    pub fn take_due(&mut self, now: Instant) -> Option<Arc<str>> {
        if self.next_due()? > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        if let Some(known) = self.names.get_mut(&name) {
            known.due = None;
        }
        Some(name)
    }

    /// A lookup has ended; true when what is known of the name is something else now. `random` is uniform in `0.0..1.0`.
    pub fn take(&mut self, name: &Arc<str>, outcome: Outcome, now: Instant, random: f64) -> bool {
        // Forgotten, and perhaps wanted anew, in between.
        let Some(known) = self.names.get_mut(name).filter(|known| known.due.is_none()) else {
            return false;
        };
        let before = known.answer.clone();
        known.answer.answered = true;
        let wait = match outcome {
            Outcome::Addresses { addresses, ttl } => {
                known.failures = 0;
                known.answer = Answer {
                    addresses: bounded(addresses).into(),
                    absent: false,
                    failure: None,
                    said_at: Some(now),
                    answered: true,
                };
                // A little early, so that names that expire together do not stay together.
                ttl.clamp(SHORTEST_TTL, LONGEST_TTL).mul_f64(0.9 + 0.1 * random)
            }
            Outcome::Absent { ttl, reason } => {
                known.failures = 0;
                known.answer.absent = true;
                known.answer.failure = Some(reason.into());
                let ttl = ttl.unwrap_or(ABSENT_TTL);
                ttl.clamp(SHORTEST_TTL, LONGEST_ABSENT_TTL).mul_f64(0.9 + 0.1 * random)
            }
            Outcome::Failed(reason) => {
                let times = 1_u32.checked_shl(known.failures).unwrap_or(u32::MAX);
                known.failures = known.failures.saturating_add(1).min(31);
                known.answer.failure = Some(reason.into());
                let backoff = FIRST_BACKOFF.saturating_mul(times).min(LONGEST_BACKOFF);
                backoff.mul_f64(0.5 + 0.5 * random)
            }
        };
        let wait = wait.max(FIRST_BACKOFF / 2);
        let due = now + wait;
        known.due = Some(due);
        self.due.insert((due, Arc::clone(name)));
        means_otherwise(&before, &known.answer)
    }

    /// `None`: nobody wants it, or there are too many.
    pub fn answer(&self, name: &str) -> Option<&Answer> {
        self.names.get(name).map(|known| &known.answer)
    }

    /// All that are known, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Answer)> {
        self.names.iter().map(|(name, known)| (name, &known.answer))
    }
}

/// For those who have endpoints of the name. Who serves on by the last good addresses need not know why a lookup failed.
fn means_otherwise(before: &Answer, after: &Answer) -> bool {
    let same = before.addresses == after.addresses
        && before.absent == after.absent
        && before.answered == after.answered
        && (before.failure == after.failure || !after.addresses.is_empty());
    !same
}

/// Each once, and only those that an endpoint can have.
fn bounded(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|address| !address.is_unspecified() && !address.is_multicast());
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(last: &[u8], ttl: u64) -> Outcome {
        Outcome::Addresses {
            addresses: last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect(),
            ttl: Duration::from_secs(ttl),
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed("no answer".to_owned())
    }

    /// Names with one that is being asked for.
    fn asked(name: &str) -> (Names, Arc<str>, Instant) {
        let (mut names, now) = (Names::default(), Instant::now());
        names.want(name, now);
        let taken = names.take_due(now).unwrap();
        assert_eq!((&*taken, names.take_due(now)), (name, None));
        (names, taken, now)
    }

    /// The time until it is asked for again.
    fn wait(names: &Names, now: Instant) -> Duration {
        names.next_due().unwrap() - now
    }

    #[test]
    fn a_name_is_asked_for_again_when_its_time_to_live_has_passed_and_only_a_change_is_told() {
        let (mut names, name, now) = asked("a");
        assert!(names.answer("a").unwrap().is_pending());
        assert!(names.take(&name, addresses(&[2, 1, 1], 10), now, 1.0));
        let answer = names.answer("a").unwrap();
        assert_eq!(
            *answer.addresses,
            [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]
        );
        assert_eq!(wait(&names, now), 10 * SECOND);
        assert_eq!(names.take_due(now + 9 * SECOND), None);
        let later = now + 10 * SECOND;
        assert_eq!(names.take_due(later).as_deref(), Some("a"));
        assert!(
            !names.take(&name, addresses(&[1, 2], 10), later, 0.0),
            "the same in another order"
        );
        assert_eq!(wait(&names, later), 9 * SECOND);
        assert_eq!(names.answer("a").unwrap().said_at, Some(later));
    }

    #[test]
    fn times_to_live_are_bounded() {
        for (ttl, expected) in [(0, SHORTEST_TTL), (1, SECOND), (u64::MAX, LONGEST_TTL)] {
            let (mut names, name, now) = asked("a");
            names.take(&name, addresses(&[1], ttl), now, 1.0);
            assert_eq!(wait(&names, now), expected);
        }
    }

    #[test]
    fn a_lookup_that_fails_leaves_the_last_good_addresses_and_backs_off() {
        let (mut names, name, mut now) = asked("a");
        names.take(&name, addresses(&[1], 1), now, 1.0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            now = names.next_due().unwrap();
            names.take_due(now).unwrap();
            assert!(!names.take(&name, failed(), now, 1.0), "it serves on");
            waits.push(wait(&names, now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let answer = names.answer("a").unwrap();
        assert_eq!((answer.addresses.len(), answer.absent), (1, false));
        assert_eq!(answer.failure.as_deref(), Some("no answer"));
        // Once it answers, all is as before.
        now = names.next_due().unwrap();
        names.take_due(now).unwrap();
        names.take(&name, addresses(&[1], 5), now, 1.0);
        assert_eq!(
            (wait(&names, now), &names.answer("a").unwrap().failure),
            (5 * SECOND, &None)
        );
    }

    #[test]
    fn that_there_is_certainly_no_address_is_an_answer_of_bounded_life() {
        let (mut names, name, mut now) = asked("a");
        names.take(&name, addresses(&[1], 1), now, 1.0);
        for (ttl, expected) in [(None, 30), (Some(SECOND * 5), 5), (Some(SECOND * 9000), 60)] {
            now = names.next_due().unwrap();
            names.take_due(now).unwrap();
            let reason = "NXDOMAIN".to_owned();
            names.take(&name, Outcome::Absent { ttl, reason }, now, 1.0);
            assert_eq!(wait(&names, now).as_secs(), expected);
            let answer = names.answer("a").unwrap();
            // Who goes on with the last ones still can.
            assert!(answer.absent && answer.addresses.len() == 1);
        }
    }

    #[test]
    fn a_first_lookup_that_fails_is_told() {
        let (mut names, name, now) = asked("a");
        assert!(names.take(&name, failed(), now, 1.0));
        assert!(!names.answer("a").unwrap().is_pending());
    }

    #[test]
    fn hostile_answers_are_bounded_and_addresses_that_nobody_has_are_left_out() {
        let (mut names, name, now) = asked("a");
        let many = (0..4000_u32).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
        let nowhere = [IpAddr::from([0, 0, 0, 0]), IpAddr::from([224, 0, 0, 1])];
        let addresses = many.chain(nowhere).collect();
        names.take(&name, Outcome::Addresses { addresses, ttl: SECOND }, now, 1.0);
        let known = &names.answer("a").unwrap().addresses;
        assert_eq!(known.len(), MOST_ADDRESSES);
        assert!(
            known
                .iter()
                .all(|address| !address.is_unspecified() && !address.is_multicast())
        );
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten_while_it_is_asked_for_and_before() {
        let (mut names, name, now) = asked("a");
        names.unwant("a");
        assert!(!names.take(&name, addresses(&[1], 1), now, 1.0));
        assert_eq!((names.answer("a"), names.next_due()), (None, None));
        names.want("a", now);
        assert!(!names.take(&name, addresses(&[1], 1), now, 1.0), "of the first lookup");
        names.unwant("a");
        assert_eq!(names.next_due(), None);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let (mut names, now) = (Names::default(), Instant::now());
        (0..MOST_NAMES + 10).for_each(|number| names.want(&number.to_string(), now));
        assert_eq!((names.names.len(), names.due.len()), (MOST_NAMES, MOST_NAMES));
        assert_eq!(names.answer(&MOST_NAMES.to_string()), None);
    }
}
