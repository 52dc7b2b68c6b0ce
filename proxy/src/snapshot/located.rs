//! A cluster as it is for one request or connection, where its endpoints are not simply those of the snapshot: they are
//! where the client connected to, or names that are about to be resolved. Called by `http` and `tcp`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tsunagi_proto::model::Discovery;

use super::compile::Cluster;

/// Why there is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlocated {
    /// A connection that was not redirected headed nowhere.
    NoDestination,
}

impl Cluster {
    /// Are its endpoints those of the snapshot? All that a request pays. Names without an address may have some by now: the
    /// snapshot in which they have is published a little later than the first request goes on.
    pub fn is_located(&self) -> bool {
        match self.told.discovery {
            Discovery::Static => true,
            Discovery::Dns | Discovery::DnsRoundRobin => !self.members.is_empty(),
            Discovery::OriginalDestination => false,
        }
    }

    /// With the endpoints that it has for a client that connected to `headed`; names that were never resolved are waited for,
    /// at most for `limit`. Dropping the future changes nothing.
    pub async fn locate(&self, headed: Option<SocketAddr>, limit: Duration) -> Result<Cluster, Unlocated> {
        let members = match self.told.discovery {
            Discovery::Static => Arc::clone(&self.members),
            Discovery::OriginalDestination => {
                let mut headed = headed.ok_or(Unlocated::NoDestination)?;
                if let Some(port) = self.told.destination_port {
                    headed.set_port(port);
                }
                self.learned.toward(&self.told, headed)
            }
            Discovery::Dns | Discovery::DnsRoundRobin => {
                self.learned.resolution.settled(limit).await;
                self.learned.told().1
            }
        };
        Ok(Cluster {
            told: Arc::clone(&self.told),
            members,
            learned: Arc::clone(&self.learned),
        })
    }

    /// As it is by now, for a request that has waited since: endpoints that have left meanwhile are not asked. Where none is
    /// left, those that were there when the request came are the best that is known.
    pub fn renewed(&self) -> Cluster {
        let (told, members) = match self.told.discovery {
            Discovery::Static | Discovery::Dns | Discovery::DnsRoundRobin => self.learned.told(),
            Discovery::OriginalDestination => return self.clone(),
        };
        if members.is_empty() {
            return self.clone();
        }
        Cluster {
            told,
            members,
            learned: Arc::clone(&self.learned),
        }
    }

    /// Why it has no endpoint, for people; `None`: for other reasons than that a name is not resolved.
    pub fn unresolved(&self) -> Option<Arc<str>> {
        match self.told.discovery {
            Discovery::Dns | Discovery::DnsRoundRobin => self.learned.resolution.failure(),
            Discovery::Static | Discovery::OriginalDestination => None,
        }
    }

    /// What is to say of a connection that headed nowhere.
    pub fn headed_nowhere(&self) -> String {
        format!(
            "connections to {} go where their client connects to, and this one was not redirected: call it by one of its `addresses`, or give it resolution DNS",
            self.told.key.host
        )
    }
}
