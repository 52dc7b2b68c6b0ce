//! The log: what the proxy tells its operator, on stderr, with a level that can be changed while it runs.
//!
//! Started once by `app`; `/logging?level=` of the admin room changes it. The access log is another file.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex};

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::lock;

/// Changes the levels of the running log. Clones change the same one.
#[derive(Debug, Clone)]
pub struct LogLevels {
    handle: reload::Handle<Targets, Registry>,
    /// What is in force. The handle could be asked only through a closure that must not fail.
    current: Arc<Mutex<Targets>>,
}

/// Starts the log of this process, with colours only where a person reads it.
///
/// A process has one log: a second start (tests) keeps the first, and the levels returned then change nothing.
pub fn start(levels: Targets) -> LogLevels {
    let (filter, levels) = reloadable(levels);
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter(filter);
    let _ = tracing_subscriber::registry().with(lines).try_init();
    levels
}

fn reloadable(levels: Targets) -> (reload::Layer<Targets, Registry>, LogLevels) {
    let current = Arc::new(Mutex::new(levels.clone()));
    let (filter, handle) = reload::Layer::new(levels);
    (filter, LogLevels { handle, current })
}

impl LogLevels {
    /// Puts other levels in force.
    pub fn set(&self, levels: Targets) {
        *lock(&self.current) = levels.clone();
        // Fails only when the log is gone, which nobody could read about.
        let _ = self.handle.reload(levels);
    }

    /// The levels in force, in the form of `--log-level`.
    pub fn current(&self) -> String {
        lock(&self.current).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_level_set_at_run_time_decides_what_is_written() {
        let lines = Lines::default();
        let (filter, levels) = reloadable("info".parse().expect("a level"));
        let writer = lines.clone();
        let layer = fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_filter(filter);
        let log = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(log, || {
            tracing::debug!("before");
            levels.set("debug".parse().expect("a level"));
            tracing::debug!("after");
        });
        let text = String::from_utf8(lock(&lines.0).clone()).expect("text");
        assert!(!text.contains("before") && text.contains("after"), "{text}");
        assert_eq!(levels.current(), "debug");
    }
}
