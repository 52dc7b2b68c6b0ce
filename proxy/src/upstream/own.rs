//! Connections that carry one client's requests only, because the PROXY protocol says whose they are: when that client's
//! connection ends they are of use to nobody and are closed, rather than kept for as long as others are.
//!
//! Told by `listener` of the end of each connection of a client, which costs a look at a number where no connection is
//! anybody's own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{ClientAddresses, Endpoint};

#[derive(Debug, Default)]
pub struct OwnConnections {
    /// Clients that have some.
    count: AtomicUsize,
    clients: Mutex<HashMap<ClientAddresses, Client>>,
}

#[derive(Debug, Default)]
struct Client {
    open: usize,
    /// Its connection has ended: what is open still ends with its request.
    gone: bool,
    endpoints: Vec<Weak<Endpoint>>,
}

/// Held with the connection, from the moment on that it is being opened.
#[derive(Debug)]
pub(super) struct OwnGuard {
    all: Arc<OwnConnections>,
    client: ClientAddresses,
}

impl OwnConnections {
    fn clients(&self) -> MutexGuard<'_, HashMap<ClientAddresses, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, client: ClientAddresses, endpoint: &Arc<Endpoint>) -> OwnGuard {
        let mut clients = self.clients();
        let known = clients.entry(client).or_default();
        known.open += 1;
        // Whoever has these addresses now is who is told of.
        known.gone = false;
        if !known
            .endpoints
            .iter()
            .any(|there| there.as_ptr() == Arc::as_ptr(endpoint))
        {
            known.endpoints.push(Arc::downgrade(endpoint));
        }
        self.count.store(clients.len(), Ordering::Relaxed);
        drop(clients);
        OwnGuard {
            all: Arc::clone(self),
            client,
        }
    }

    /// The connection of the client between these addresses has ended.
    pub fn end(&self, client: Option<ClientAddresses>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(client) = client else { return };
        let mut clients = self.clients();
        let Some(known) = clients.get_mut(&client) else { return };
        known.gone = true;
        let endpoints = std::mem::take(&mut known.endpoints);
        drop(clients);
        for endpoint in endpoints.iter().filter_map(Weak::upgrade) {
            endpoint.close_own(client);
        }
    }

    pub(super) fn is_gone(&self, client: ClientAddresses) -> bool {
        self.clients().get(&client).is_some_and(|known| known.gone)
    }
}

impl Drop for OwnGuard {
    fn drop(&mut self) {
        let mut clients = self.all.clients();
        if let Some(known) = clients.get_mut(&self.client) {
            known.open -= 1;
            if known.open == 0 {
                clients.remove(&self.client);
            }
        }
        self.all.count.store(clients.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
