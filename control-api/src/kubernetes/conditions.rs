//! The status of an object, from what this replica knows and what the others have written: pure. Called by `writer`.
//!
//! Every replica writes an entry of its own below `replicas`, and all write the same conditions, made from all entries:
//! as soon as each has seen the others' entries, all agree and nobody writes any more. A time is never a reason to write.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::records::{Count, Record, Verdict};
use crate::clock;

/// Without a Pod to look for, a replica that has not written for this long is taken for gone. If it is not, it finds
/// its entry missing and writes it again.
const LONGEST_SILENCE: Duration = Duration::from_secs(3_600);
/// An entry may be seen before the Pod that wrote it.
const GRACE: Duration = Duration::from_secs(10);

/// Who writes.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub name: String,
    /// `namespace/name`, once it is known to be one.
    pub pod: Option<String>,
}

/// What is to be written.
#[derive(Debug, PartialEq)]
pub(super) struct Writing {
    /// Everything that this replica says.
    pub status: Value,
    /// Entries of replicas that are gone.
    pub dropped: Vec<String>,
}

/// `None`: everything stands there already. While not `settled`, proxies of an earlier run are on their way back: what
/// stands there of them is not worse than what can be counted.
pub(super) fn writing(
    record: &Record,
    count: &Count,
    replica: &Replica,
    is_there: impl Fn(&str) -> bool,
    (now, settled): (SystemTime, bool),
) -> Option<Writing> {
    let accepted = match &record.verdict {
        Verdict::Pending => return None,
        Verdict::Accepted => ("True", "Accepted", "it is in force".to_owned()),
        Verdict::Refused(reason) => ("False", "Refused", refusal(record, reason)),
    };
    let accepted = condition("Accepted", accepted, record, now);
    let (others, dropped) = others(record, replica, is_there, now);
    let own = entry(record, count, replica, now);
    let acknowledged = condition("Acknowledged", acknowledged(record, count, &others), record, now);
    if !settled && standing(record, "Accepted") == Some(&accepted) {
        return None;
    }
    let mut status = json!({
        "observedGeneration": record.generation,
        "conditions": [accepted, acknowledged],
    });
    if let Some(own) = &own {
        status["replicas"] = json!({ &replica.name: own });
    }
    let stands = &record.status;
    let same = stands["conditions"] == status["conditions"]
        && stands["observedGeneration"] == status["observedGeneration"]
        && stands["replicas"].get(&replica.name) == own.as_ref();
    (!same || !dropped.is_empty()).then_some(Writing { status, dropped })
}

fn refusal(record: &Record, reason: &str) -> String {
    match &record.in_force {
        Some(version) => format!("{reason} (generation {} stays in force)", version.generation),
        None => reason.to_owned(),
    }
}

/// Of all replicas.
fn acknowledged(record: &Record, count: &Count, others: &[&Value]) -> (&'static str, &'static str, String) {
    let Some(version) = &record.in_force else {
        return ("False", "NotInForce", "no version of it is in force".to_owned());
    };
    let number = |entry: &Value, name: &str| entry[name].as_u64().unwrap_or_default();
    let (mut proxies, mut acknowledged) = (count.proxies, count.acknowledged);
    for entry in others {
        proxies = proxies.saturating_add(number(entry, "proxies"));
        if entry["generation"].as_i64() == Some(version.generation) {
            acknowledged = acknowledged.saturating_add(number(entry, "acknowledged"));
        }
    }
    let refusals = count.refusal.iter().map(String::as_str);
    let refusals = refusals.chain(others.iter().filter_map(|entry| entry["refusal"].as_str()));
    // The same for every replica, whoever of them knows of it.
    let refusal = refusals.min();
    let mut message = format!(
        "{acknowledged} of {proxies} proxies acknowledged generation {}",
        version.generation
    );
    if let Some(refusal) = refusal {
        message.push_str("; ");
        message.push_str(refusal);
        return ("False", "RefusedByProxy", message);
    }
    match proxies {
        0 => ("True", "NoProxyUsesIt", message),
        _ if acknowledged >= proxies => ("True", "Acknowledged", message),
        _ => ("False", "Waiting", message),
    }
}

/// The condition as it stands in the cluster.
fn standing<'a>(record: &'a Record, kind: &str) -> Option<&'a Value> {
    let all = record.status["conditions"].as_array()?;
    all.iter().find(|condition| condition["type"] == kind)
}

fn condition(kind: &str, (status, reason, message): (&str, &str, String), record: &Record, now: SystemTime) -> Value {
    let before = standing(record, kind).filter(|before| before["status"] == status);
    let since = before.and_then(|before| before["lastTransitionTime"].as_str());
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.map_or_else(|| clock::timestamp(now), str::to_owned),
        "observedGeneration": record.generation,
    })
}

/// What this replica counts; `None`: none of its proxies uses the object.
fn entry(record: &Record, count: &Count, replica: &Replica, now: SystemTime) -> Option<Value> {
    let version = record.in_force.as_ref().filter(|_| count.proxies > 0)?;
    let mut entry = Map::new();
    entry.insert("generation".to_owned(), version.generation.into());
    entry.insert("proxies".to_owned(), count.proxies.into());
    entry.insert("acknowledged".to_owned(), count.acknowledged.into());
    if let Some(refusal) = &count.refusal {
        entry.insert("refusal".to_owned(), refusal.as_str().into());
    }
    if let Some(pod) = &replica.pod {
        entry.insert("pod".to_owned(), pod.as_str().into());
    }
    let before = record.status["replicas"].get(&replica.name).and_then(Value::as_object);
    let same = before.is_some_and(|before| {
        let mut before = before.clone();
        before.remove("updated");
        before == entry
    });
    let since = before
        .filter(|_| same)
        .and_then(|before| before.get("updated")?.as_str());
    let updated = since.map_or_else(|| clock::timestamp(now), str::to_owned);
    entry.insert("updated".to_owned(), updated.into());
    Some(Value::Object(entry))
}

/// The entries of the other replicas that are there, and the names of those that are gone.
fn others<'a>(
    record: &'a Record,
    replica: &Replica,
    is_there: impl Fn(&str) -> bool,
    now: SystemTime,
) -> (Vec<&'a Value>, Vec<String>) {
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for (name, entry) in record.status["replicas"].as_object().into_iter().flatten() {
        if *name == replica.name {
            continue;
        }
        let updated = entry["updated"]
            .as_str()
            .and_then(|text| humantime::parse_rfc3339(text).ok());
        let age = updated.map_or(Duration::MAX, |updated| now.duration_since(updated).unwrap_or_default());
        let lives = match entry["pod"].as_str() {
            Some(pod) => age < GRACE || is_there(pod),
            None => age < LONGEST_SILENCE,
        };
        if lives {
            there.push(entry);
        } else {
            gone.push(name.clone());
        }
    }
    (there, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::records::InForce;

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-01-02T03:04:05Z").unwrap()
    }

    fn replica(name: &str) -> Replica {
        Replica {
            name: name.to_owned(),
            pod: Some(format!("tsunagi-system/{name}")),
        }
    }

    fn record(generation: i64) -> Record {
        Record {
            generation,
            verdict: Verdict::Accepted,
            in_force: Some(InForce {
                generation,
                revision: 1,
                hosts: Vec::new(),
            }),
            status: Value::Null,
        }
    }

    fn count(proxies: u64, acknowledged: u64) -> Count {
        Count {
            proxies,
            acknowledged,
            refusal: None,
        }
    }

    fn write(record: &Record, count: &Count, name: &str, later: u64) -> Option<Writing> {
        let at = now() + Duration::from_secs(later);
        writing(
            record,
            count,
            &replica(name),
            |pod| pod != "tsunagi-system/dead",
            (at, true),
        )
    }

    /// As the cluster merges what is applied.
    fn merge(written: Writing, record: &mut Record) {
        let mut replicas = record.status["replicas"].take();
        if !replicas.is_object() {
            replicas = json!({});
        }
        for (name, entry) in written.status["replicas"].as_object().into_iter().flatten() {
            replicas[name] = entry.clone();
        }
        for name in written.dropped {
            replicas.as_object_mut().unwrap().remove(&name);
        }
        record.status = written.status;
        record.status["replicas"] = replicas;
    }

    fn message(record: &Record, kind: &str) -> String {
        standing(record, kind)
            .map(|one| one["message"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn two_replicas_agree_after_each_has_seen_the_other_and_then_nobody_writes() {
        let mut record = record(3);
        let (a, b) = (count(5, 5), count(7, 6));
        merge(write(&record, &a, "a", 0).unwrap(), &mut record);
        merge(write(&record, &b, "b", 1).unwrap(), &mut record);
        assert_eq!(
            message(&record, "Acknowledged"),
            "11 of 12 proxies acknowledged generation 3"
        );
        assert_eq!(write(&record, &a, "a", 2), None);
        assert_eq!(write(&record, &b, "b", 50), None);
        let b = count(7, 7);
        merge(write(&record, &b, "b", 60).unwrap(), &mut record);
        assert_eq!(
            message(&record, "Acknowledged"),
            "12 of 12 proxies acknowledged generation 3"
        );
        assert_eq!(
            standing(&record, "Acknowledged").unwrap()["lastTransitionTime"],
            "2026-01-02T03:05:05Z"
        );
        assert_eq!(
            standing(&record, "Accepted").unwrap()["lastTransitionTime"],
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(write(&record, &a, "a", 61), None);
    }

    #[test]
    fn an_old_generation_elsewhere_has_not_acknowledged_the_new_one() {
        let mut old = record(3);
        merge(write(&old, &count(5, 5), "a", 0).unwrap(), &mut old);
        let mut new = Record {
            status: old.status,
            ..record(4)
        };
        merge(write(&new, &count(1, 1), "b", 0).unwrap(), &mut new);
        assert_eq!(
            message(&new, "Acknowledged"),
            "1 of 6 proxies acknowledged generation 4"
        );
        assert_eq!(new.status["observedGeneration"], 4);
    }

    #[test]
    fn the_entry_of_a_replica_whose_pod_is_gone_is_dropped_and_not_counted() {
        let mut record = record(3);
        merge(write(&record, &count(5, 5), "dead", 0).unwrap(), &mut record);
        let early = write(&record, &count(1, 1), "a", 1).unwrap();
        assert!(early.dropped.is_empty());
        let late = write(&record, &count(1, 1), "a", 40).unwrap();
        assert_eq!(late.dropped, ["dead"]);
        merge(late, &mut record);
        assert_eq!(
            message(&record, "Acknowledged"),
            "1 of 1 proxies acknowledged generation 3"
        );
        assert_eq!(write(&record, &count(1, 1), "a", 41), None);
    }

    #[test]
    fn a_refused_version_says_why_and_which_one_stays() {
        let mut refused = record(3);
        refused.generation = 4;
        refused.verdict = Verdict::Refused("spec.hosts: is required".to_owned());
        merge(write(&refused, &count(2, 2), "a", 0).unwrap(), &mut refused);
        let accepted = standing(&refused, "Accepted").unwrap();
        assert_eq!(
            (&accepted["status"], &accepted["observedGeneration"]),
            (&json!("False"), &json!(4))
        );
        assert_eq!(
            message(&refused, "Accepted"),
            "spec.hosts: is required (generation 3 stays in force)"
        );
        assert_eq!(
            message(&refused, "Acknowledged"),
            "2 of 2 proxies acknowledged generation 3"
        );
        refused.in_force = None;
        let written = write(&refused, &count(0, 0), "a", 1).unwrap();
        assert_eq!(written.status.get("replicas"), None);
        merge(written, &mut refused);
        assert_eq!(message(&refused, "Accepted"), "spec.hosts: is required");
    }

    #[test]
    fn a_refusal_by_a_proxy_is_told_by_every_replica_alike() {
        let mut record = record(3);
        let refusing = Count {
            refusal: Some("n/web refuses it: bad regex".to_owned()),
            ..count(2, 1)
        };
        merge(write(&record, &refusing, "a", 0).unwrap(), &mut record);
        let told = "1 of 2 proxies acknowledged generation 3; n/web refuses it: bad regex";
        assert_eq!(message(&record, "Acknowledged"), told);
        assert_eq!(write(&record, &count(0, 0), "b", 1), None);
    }

    #[test]
    fn until_the_proxies_have_returned_only_what_is_accepted_is_written() {
        let mut record = record(3);
        merge(write(&record, &count(5, 5), "a", 0).unwrap(), &mut record);
        let unsettled = |record: &Record| writing(record, &count(0, 0), &replica("a"), |_| true, (now(), false));
        assert_eq!(unsettled(&record), None);
        record.generation = 4;
        assert!(unsettled(&record).is_some());
        record.verdict = Verdict::Pending;
        assert_eq!(unsettled(&record), None);
    }
}
