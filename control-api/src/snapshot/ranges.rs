//! Virtual addresses by the range: which services have a range that an address is in, found by the prefix lengths that there
//! are, without a look at all of them. Called by `catalog`; `addresses` says which of them has the address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::documents::{Documents, by_age, put, take};
use crate::config::{Document, Spec};

/// The ranges of all documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    /// Range, without host bits -> documents that have it.
    documents: Documents,
    /// Prefix length -> how many ranges have it, each once for every document.
    lengths: Arc<BTreeMap<u8, usize>>,
}

/// Of a ServiceEntry.
pub(super) fn of(document: &Document) -> &[IpNet] {
    match &document.spec {
        Spec::ServiceEntry(entry) => &entry.ranges,
        _ => &[],
    }
}

impl Ranges {
    pub(super) fn add(&mut self, document: &Arc<Document>) {
        for range in of(document) {
            put(&mut self.documents, &range.to_string(), document);
            *Arc::make_mut(&mut self.lengths).entry(range.prefix_len()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, document: &Arc<Document>) {
        for range in of(document) {
            take(&mut self.documents, &range.to_string(), document);
            let lengths = Arc::make_mut(&mut self.lengths);
            if let Some(count) = lengths.get_mut(&range.prefix_len()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&range.prefix_len());
                }
            }
        }
    }

    /// Documents with a range that the address is in: those of the narrowest range first, of one range the oldest.
    pub(super) fn around(&self, address: IpAddr) -> impl Iterator<Item = Arc<Document>> {
        let lengths = self.lengths.keys().rev();
        let ranges = lengths.filter_map(move |length| IpNet::new(address, *length).ok());
        ranges.flat_map(|range| by_age(&self.documents, &range.trunc().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn entry(name: &str, addresses: &str) -> Arc<Document> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}.com]\n  addresses: [{addresses}]\n  ports: [{{number: 22, name: tcp}}]\n"
        );
        Arc::new(parse("", &text, "default").unwrap().remove(0))
    }

    fn around(ranges: &Ranges, address: &str) -> Vec<String> {
        let found = ranges.around(address.parse().unwrap());
        found.map(|document| document.key.name.clone()).collect()
    }

    #[test]
    fn the_narrowest_range_around_an_address_comes_first_and_what_is_removed_is_gone() {
        let (wide, narrow) = (entry("wide", "10.0.0.0/8, fd00::/16"), entry("narrow", "10.1.2.77/16"));
        let mut ranges = Ranges::default();
        ranges.add(&wide);
        ranges.add(&narrow);
        assert_eq!(around(&ranges, "10.1.9.9"), ["narrow", "wide"]);
        assert_eq!(around(&ranges, "10.2.0.1"), ["wide"]);
        assert_eq!(around(&ranges, "fd00::1"), ["wide"]);
        assert!(around(&ranges, "11.0.0.1").is_empty() && around(&ranges, "fe00::1").is_empty());
        ranges.remove(&narrow);
        assert_eq!(around(&ranges, "10.1.9.9"), ["wide"]);
        ranges.remove(&wide);
        assert!(around(&ranges, "10.1.9.9").is_empty() && ranges.lengths.is_empty());
    }
}
