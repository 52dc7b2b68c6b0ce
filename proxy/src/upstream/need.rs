//! What a request needs of a connection besides its endpoint: what is spoken on it, and whose it is. Asked by the pool and
//! the queue.

use super::{ClientAddresses, Endpoint};
use crate::tls::Offer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub offer: Offer,
    /// Only this client's requests are on it. `None`: anybody's.
    pub client: Option<ClientAddresses>,
}

impl Need {
    /// Anybody's.
    pub fn of(offer: Offer) -> Self {
        Self { offer, client: None }
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

    /// Does a connection do on which this is spoken, and which is this client's?
    pub fn accepts(&self, http2: bool, client: Option<ClientAddresses>) -> bool {
        let spoken = match self.offer {
            Offer::Http2 => http2,
            Offer::Either => true,
            Offer::Http1 | Offer::Bytes => !http2,
        };
        spoken && self.client == client
    }
}
