//! What a connected proxy says of itself: the labels by which rules select it. Told by `xds`, asked for by the API.

use std::collections::BTreeMap;

use super::Reporter;

impl Reporter {
    /// What the proxy says of itself.
    pub fn describe(&self, labels: BTreeMap<String, String>) {
        let mut connected = self.status.lock();
        if let Some(connection) = connected.proxies.get_mut(&(self.identity.clone(), self.id)) {
            connection.labels = labels;
        }
    }
}
