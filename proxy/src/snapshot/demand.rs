//! Asking for hosts when they are first called. Names come from clients, so what may be asked at once is bounded.

use tokio::sync::mpsc;

/// Sends wanted FQDNs to the control thread.
#[derive(Debug, Clone)]
pub struct Demand {
    wanted: mpsc::Sender<String>,
}

impl Demand {
    /// Names that may be on their way to the control thread at once.
    pub const CAPACITY: usize = 256;

    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (wanted, receiver) = mpsc::channel(Self::CAPACITY);
        (Self { wanted }, receiver)
    }

    /// False when too much is being asked for; the caller answers as if there were no such host.
    pub fn want(&self, names: Vec<String>) -> bool {
        names.into_iter().all(|name| self.wanted.try_send(name).is_ok())
    }
}
