//! The access log: one JSON object per finished request, on stdout.
//!
//! Called by the request path, which must never wait for whoever reads stdout. A line is formatted on the calling thread,
//! copied into one shared buffer, and written by a thread of its own, which takes the whole buffer at a time. When the
//! buffer is full, lines are dropped and counted (`tsunagi_access_log_dropped_total`). The writer rests after each write,
//! so that under load a line costs its formatting and a copy, without an allocation or a wake-up.
//!
//! Paths and headers are hostile: every text is cut to `LONGEST_TEXT_BYTES` and escaped as JSON.

mod line;

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metrics::Counter;

use super::{Telemetry, lock};

pub use line::{Entry, LONGEST_TEXT_BYTES};

/// What may wait for the writer: about 2,000 lines.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Between two writes: long enough to batch, short enough for a person who watches.
const REST: Duration = Duration::from_millis(20);
/// What a buffer keeps for itself when it is empty again.
const KEPT_BYTES: usize = 16 * 1024;

/// A handle to the log. Clones write to the same one.
#[derive(Debug, Clone, Default)]
pub struct AccessLog {
    /// `None`: off.
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    line_count: u64,
    /// The writer has taken lines and is not done with them.
    writing: bool,
    /// The writer waits for `changed`; else it will look by itself.
    idle: bool,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AccessLog {
    pub fn off() -> AccessLog {
        AccessLog::default()
    }

    /// Starts the writer's thread, which lives as long as the process.
    pub fn to_stdout(telemetry: &Telemetry) -> io::Result<AccessLog> {
        AccessLog::to(io::stdout(), telemetry.access_log_dropped())
    }

    fn to(output: impl Write + Send + 'static, dropped: Counter) -> io::Result<AccessLog> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped,
        });
        let writer = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || writer.write_forever(output))?;
        Ok(AccessLog { queue: Some(queue) })
    }

    /// Whether it is worth making an [`Entry`].
    #[inline]
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues one line, or drops it when too much waits already. Never blocks on the reader of the log.
    pub fn log(&self, entry: &Entry<'_>) {
        let Some(queue) = &self.queue else { return };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            entry.write_to(scratch);
            queue.push(scratch);
            scratch.shrink_to(KEPT_BYTES);
        });
    }

    /// Waits until all that was logged is written, at most for `limit`. Blocks: for the end of the process.
    pub fn flush(&self, limit: Duration) {
        let Some(queue) = &self.queue else { return };
        let deadline = Instant::now() + limit;
        let mut state = lock(&queue.state);
        while !state.lines.is_empty() || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = match queue.changed.wait_timeout(state, left.min(REST)) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut state = lock(&self.state);
        if state.lines.len() + line.len() > BUFFER_BYTES {
            drop(state);
            self.dropped.increment(1);
            return;
        }
        state.lines.extend_from_slice(line);
        state.line_count += 1;
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    fn write_forever(&self, mut output: impl Write) {
        let mut taken = Vec::new();
        loop {
            let count = self.take(&mut taken);
            if output.write_all(&taken).and_then(|()| output.flush()).is_err() {
                self.dropped.increment(count);
            }
            // Under a flood there is no rest: the next lines wait already.
            let rest = taken.len() < BUFFER_BYTES / 4;
            taken.clear();
            taken.shrink_to(KEPT_BYTES);
            lock(&self.state).writing = false;
            if rest {
                thread::sleep(REST);
            }
        }
    }

    /// Waits for lines and swaps them into `taken`, which is empty; says how many.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = lock(&self.state);
        while state.lines.is_empty() {
            state.idle = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.idle = false;
        state.writing = true;
        std::mem::swap(&mut state.lines, taken);
        std::mem::take(&mut state.line_count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// An output that hands on what it is given, and can be held up by its reader.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counted() -> (Counter, Arc<AtomicU64>) {
        let cell = Arc::new(AtomicU64::new(0));
        (Counter::from_arc(Arc::clone(&cell)), cell)
    }

    #[test]
    fn what_is_logged_is_written_in_order_and_flushed() {
        let (sender, receiver) = mpsc::sync_channel(1024);
        let log = AccessLog::to(Pipe(sender), counted().0).expect("a thread");
        for path in ["/1", "/2", "/3"] {
            log.log(&Entry {
                path,
                ..Entry::example()
            });
        }
        log.flush(Duration::from_secs(10));
        let text = String::from_utf8(receiver.try_iter().flatten().collect()).expect("text");
        let paths: Vec<_> = text
            .lines()
            .filter_map(|line| line.split("\"path\":\"").nth(1)?.get(..2))
            .collect();
        assert_eq!(paths, ["/1", "/2", "/3"]);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_not_requests() {
        let (sender, _receiver) = mpsc::sync_channel(0);
        let (dropped, count) = counted();
        let log = AccessLog::to(Pipe(sender), dropped).expect("a thread");
        let path = "x".repeat(LONGEST_TEXT_BYTES);
        let lines = 3 * BUFFER_BYTES / path.len();
        for _ in 0..lines {
            log.log(&Entry {
                path: &path,
                ..Entry::example()
            });
        }
        let dropped = count.load(Ordering::Relaxed);
        assert!(dropped > 0 && (dropped as usize) < lines, "{dropped} of {lines}");
        let waiting = lock(&log.queue.as_ref().expect("on").state).lines.len();
        assert!(waiting <= BUFFER_BYTES);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (sender, receiver) = mpsc::sync_channel(0);
        drop(receiver);
        let (dropped, count) = counted();
        let log = AccessLog::to(Pipe(sender), dropped).expect("a thread");
        log.log(&Entry::example());
        log.flush(Duration::from_secs(10));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn off_is_off() {
        let log = AccessLog::off();
        assert!(!log.enabled());
        log.log(&Entry::example());
        log.flush(Duration::from_secs(10));
    }
}
