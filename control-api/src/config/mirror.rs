//! Where copies of a rule's requests go: `mirror` with its `mirrorPercentage` (or the old `mirrorPercent`), or `mirrors`.

use super::read::{Field, Fields};
use super::{Mirror, http_route, share};

const MIRROR: Fields = Fields {
    supported: &["destination", "percentage"],
    later: &[],
};

/// Of a rule. What Istio takes is taken: a percentage without a `mirror` says nothing.
pub(super) fn read(rule: &Field<'_>, namespace: &str) -> Vec<Mirror> {
    let old = rule.get("mirrorPercent").and_then(|field| share::whole(&field));
    let share = rule.get("mirrorPercentage").map(|field| share::any(&field));
    let share = share.unwrap_or(old).unwrap_or(share::ALL);
    let several = rule.get("mirrors").map(|list| list.items().len()).unwrap_or_default();
    if let Some(mirror) = rule.get("mirror") {
        if several > 0 {
            rule.refuse_at("mirrors", "only one of `mirror` and `mirrors` may be set");
        }
        return destination(&mirror, namespace, share).into_iter().collect();
    }
    let Some(list) = rule.get("mirrors") else {
        return Vec::new();
    };
    list.items().iter().filter_map(|item| one(item, namespace)).collect()
}

fn one(item: &Field<'_>, namespace: &str) -> Option<Mirror> {
    if !item.is_message_around(&MIRROR, &[("destination", &http_route::DESTINATION)]) {
        return None;
    }
    let share = match item.get("percentage") {
        Some(field) => share::any(&field)?,
        None => share::ALL,
    };
    destination(&item.required("destination")?, namespace, share)
}

fn destination(field: &Field<'_>, namespace: &str, per_million: u32) -> Option<Mirror> {
    let (host, port, subset) = http_route::read_destination(field, namespace)?;
    Some(Mirror {
        host,
        port,
        subset,
        per_million,
    })
}
