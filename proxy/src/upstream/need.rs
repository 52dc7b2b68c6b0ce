//! What a request needs of a connection besides its endpoint: what is spoken on it, and whose requests are on it. Asked by
//! the pool and the queue.

use std::sync::Arc;

use super::{ClientAddresses, Endpoint};
use crate::tls::Offer;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub offer: Offer,
    pub binding: Binding,
}

/// Which requests may be on a connection. Nothing: all may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Only this client's: the PROXY protocol says whose they are.
    pub client: Option<ClientAddresses>,
    /// Only those to this host: it is what TLS asked for.
    pub server_name: Option<Arc<str>>,
}

impl Binding {
    pub fn of_client(client: Option<ClientAddresses>) -> Self {
        Self {
            client,
            server_name: None,
        }
    }
}

impl Need {
    /// Anybody's.
    pub fn of(offer: Offer) -> Self {
        Self {
            offer,
            binding: Binding::default(),
        }
    }

    /// Is it HTTP/2 that the endpoint speaks? Where it may choose, what it chose last; one that was not asked yet is thought
    /// to speak it, because whoever asks at the same time then shares one connection.
    pub fn is_http2(&self, endpoint: &Endpoint) -> bool {
        match self.offer {
            Offer::Http2 => true,
            Offer::Either => !endpoint.has_chosen_http1(),
            Offer::Http1 | Offer::Bytes => false,
        }
    }

    /// Does a connection do on which this is spoken, and which is bound so?
    pub fn accepts(&self, http2: bool, binding: &Binding) -> bool {
        let spoken = match self.offer {
            Offer::Http2 => http2,
            Offer::Either => true,
            Offer::Http1 | Offer::Bytes => !http2,
        };
        spoken && self.binding == *binding
    }
}
