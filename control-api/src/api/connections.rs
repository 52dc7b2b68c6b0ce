//! Which HTTP connections there are and which of them have nothing to do: when there is no room for a new one, the one
//! that has been idle longest makes room, so that connections which ask for nothing lock nobody out. Called by `server`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All connections of one listener.
pub(super) struct Connections {
    room: Arc<Semaphore>,
    idle: Mutex<Idle>,
    became_idle: Notify,
}

/// Those on which no request is under way, in the order in which the last one ended.
#[derive(Default)]
struct Idle {
    next: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// One connection; gives its place back when it is dropped.
pub(super) struct Connection {
    all: Arc<Connections>,
    /// `None` while a request is under way.
    place: Mutex<Option<u64>>,
    close: Arc<Notify>,
    _room: OwnedSemaphorePermit,
}

/// While a request is under way.
pub(super) struct Busy(Arc<Connection>);

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(limit)),
            idle: Mutex::default(),
            became_idle: Notify::new(),
        })
    }

    /// Waits for room; `None` when there will be none any more. Dropping the future takes none.
    pub(super) async fn admit(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => self.make_room().await?,
        };
        let connection = Connection {
            all: Arc::clone(self),
            place: Mutex::new(None),
            close: Arc::new(Notify::new()),
            _room: room,
        };
        connection.rest();
        Some(Arc::new(connection))
    }

    /// Closes one idle connection, now or when there is one, and waits for its room or any other's.
    async fn make_room(&self) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room).acquire_owned();
        tokio::pin!(room);
        while !self.close_idlest() {
            tokio::select! {
                room = &mut room => return room.ok(),
                () = self.became_idle.notified() => {}
            }
        }
        room.await.ok()
    }

    fn close_idlest(&self) -> bool {
        let idlest = lock(&self.idle).connections.pop_first();
        if let Some((_, close)) = &idlest {
            close.notify_one();
        }
        idlest.is_some()
    }
}

impl Connection {
    /// Completes when the connection must make room for another.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    pub(super) fn work(self: &Arc<Self>) -> Busy {
        self.leave();
        Busy(Arc::clone(self))
    }

    fn rest(&self) {
        let mut idle = lock(&self.all.idle);
        let place = idle.next;
        idle.next += 1;
        idle.connections.insert(place, Arc::clone(&self.close));
        *lock(&self.place) = Some(place);
        self.all.became_idle.notify_one();
    }

    fn leave(&self) {
        let mut idle = lock(&self.all.idle);
        if let Some(place) = lock(&self.place).take() {
            idle.connections.remove(&place);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_longest_makes_room() {
        let all = Connections::new(2);
        let first = all.admit().await.expect("room");
        let second = all.admit().await.expect("room");
        // It did something since.
        drop(first.work());
        let third = tokio::spawn({
            let all = Arc::clone(&all);
            async move { all.admit().await }
        });
        timeout(SOON, second.closed()).await.expect("closed");
        drop(second);
        assert!(timeout(SOON, third).await.expect("room").is_ok());
        assert!(timeout(SOON, first.closed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_not_closed_before_its_request_has_ended() {
        let all = Connections::new(1);
        let only = all.admit().await.expect("room");
        let busy = only.work();
        let next = tokio::spawn({
            let all = Arc::clone(&all);
            async move { all.admit().await }
        });
        assert!(timeout(SOON, only.closed()).await.is_err());
        drop(busy);
        timeout(SOON, only.closed()).await.expect("closed");
        drop(only);
        assert!(timeout(SOON, next).await.expect("room").is_ok());
        assert!(lock(&all.idle).connections.is_empty());
    }
}
