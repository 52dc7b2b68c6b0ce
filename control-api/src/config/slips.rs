//! Fields that people write where Istio has none, because they are under another name, in another place or of another kind
//! of document. Asked by `read` of a field that is unknown where it is, before it looks for one with a similar name.

use super::read::Fields;

/// What is a label of an endpoint and no field of it.
pub(super) const LABELS: Fields = Fields {
    supported: &["app", "version"],
    later: &[],
};

/// Where it is written, the field, and what to say of it.
const SLIPS: [(&str, &str, &str); 24] = [
    // DestinationRule
    ("subsets", "version", " here, it belongs under `labels`"),
    ("subsets", "app", " here, it belongs under `labels`"),
    ("subsets", "selector", ", it is `labels`"),
    ("subsets", "host", " here, it belongs beside `subsets`"),
    ("trafficPolicy", "host", " here, it belongs beside `trafficPolicy`"),
    ("trafficPolicy", "subsets", " here, it belongs beside `trafficPolicy`"),
    ("trafficPolicy", "exportTo", " here, it belongs beside `trafficPolicy`"),
    (
        "trafficPolicy",
        "workloadSelector",
        " here, it belongs beside `trafficPolicy`",
    ),
    ("trafficPolicy", "labels", " here, it belongs under `subsets[]`"),
    ("trafficPolicy", "timeout", OF_REQUEST),
    ("trafficPolicy", "retries", OF_REQUEST),
    ("http", "timeout", OF_REQUEST),
    ("tcp", "timeout", ", did you mean `connectTimeout`?"),
    // VirtualService
    ("destination", "weight", " here, it belongs beside `destination`"),
    ("destination", "headers", " here, it belongs beside `destination`"),
    ("http", "retry", ", did you mean `retries`?"),
    ("retries", "timeout", ", did you mean `perTryTimeout`?"),
    ("match", "path", ", did you mean `uri`?"),
    ("http", "trafficPolicy", OF_RULE),
    ("http", "subsets", OF_RULE),
    ("spec", "trafficPolicy", OF_RULE),
    ("spec", "subsets", OF_RULE),
    // ServiceEntry, Service
    ("ports", "port", ", did you mean `number`?"),
    ("ports", "number", ", did you mean `port`?"),
];
const OF_REQUEST: &str = " here, it belongs to a VirtualService, under `http[]`";
const OF_RULE: &str = " here, it belongs to a DestinationRule";

/// `place`: the field that has the message, or the list of messages.
pub(super) fn hint(place: &str, name: &str) -> Option<&'static str> {
    let slip = SLIPS.iter().find(|(at, slip, _)| *at == place && *slip == name);
    slip.map(|(_, _, hint)| *hint)
}
