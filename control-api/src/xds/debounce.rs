//! When a changed world is pushed: the first change at once, those that follow closely together as soon as there is a
//! pause, and at the latest after a while. No clock: `server` passes the time in.

use std::time::Duration;

use tokio::time::Instant;

const QUIET: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Debounce {
    last_push: Option<Instant>,
    held_since: Option<Instant>,
    due: Option<Instant>,
}

impl Debounce {
    /// When to push what has changed; `None`: nothing has.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn changed(&mut self, now: Instant) {
        let rested = self.last_push.is_none_or(|last| now.duration_since(last) >= QUIET);
        self.due = Some(match self.held_since {
            None if rested => now,
            None => {
                self.held_since = Some(now);
                now + QUIET
            }
            Some(since) => (now + QUIET).min(since + LONGEST),
        });
    }

    pub(super) fn pushed(&mut self, now: Instant) {
        *self = Self {
            last_push: Some(now),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_change_is_pushed_at_once_and_a_close_one_after_a_pause() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        debounce.changed(start);
        assert_eq!(debounce.due(), Some(start));
        debounce.pushed(start);
        assert_eq!(debounce.due(), None);
        debounce.changed(start + 2 * MS);
        assert_eq!(debounce.due(), Some(start + 12 * MS));
        debounce.pushed(start + 12 * MS);
        debounce.changed(start + 30 * MS);
        assert_eq!(debounce.due(), Some(start + 30 * MS));
    }

    #[test]
    fn a_stream_of_changes_is_not_held_back_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.pushed(start);
        for after in 1..=20 {
            debounce.changed(start + 5 * MS * after);
        }
        assert_eq!(debounce.due(), Some(start + 5 * MS + LONGEST));
    }
}
