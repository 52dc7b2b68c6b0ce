//! What a DELETE may carry in its body: Kubernetes' `DeleteOptions`, of which the preconditions and `dryRun` mean something
//! here. Nothing depends on a document, so how dependents go and how long they get changes nothing. Called by `resources`.

use axum::extract::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{failure::Failure, request};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteOptions {
    kind: Option<String>,
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default)]
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
    #[serde(rename = "gracePeriodSeconds")]
    _grace_period_seconds: Option<u64>,
    propagation_policy: Option<String>,
    #[serde(rename = "orphanDependents")]
    _orphan_dependents: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Preconditions {
    resource_version: Option<String>,
    uid: Option<String>,
}

/// What the client says of its DELETE.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wish {
    pub dry_run: bool,
    /// As `ingest::Removal` takes it.
    pub expected: Value,
}

/// An empty body wishes nothing.
pub(super) async fn read(request: Request) -> Result<Wish, Failure> {
    let media_type = request::media_type(request.headers());
    let text = request::body(request).await?;
    if text.trim().is_empty() {
        return Ok(Wish::default());
    }
    match media_type.as_str() {
        "" | "application/json" => parse(serde_json::from_str(&text).map_err(|error| error.to_string())),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => {
            parse(serde_saphyr::from_str(&text).map_err(|error| error.to_string()))
        }
        other => Err(Failure::unsupported_media_type(other)),
    }
}

fn parse(read: Result<Value, String>) -> Result<Wish, Failure> {
    let wrong = |reason: String| Failure::bad_request(format!("the body is no DeleteOptions: {reason}"));
    let options = read.and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
    let options: DeleteOptions = options.map_err(wrong)?;
    if let Some(kind) = options.kind.filter(|kind| kind != "DeleteOptions") {
        return Err(wrong(format!("kind: {kind:?} must be \"DeleteOptions\"")));
    }
    if let Some(policy) = options.propagation_policy
        && !["Orphan", "Background", "Foreground"].contains(&policy.as_str())
    {
        return Err(wrong(format!(
            "propagationPolicy: {policy:?} is none of Orphan, Background, Foreground"
        )));
    }
    let dry_run = options.dry_run.unwrap_or_default();
    if let Some(other) = dry_run.iter().find(|stage| *stage != "All") {
        return Err(wrong(format!("dryRun: {other:?} must be \"All\"")));
    }
    let expected = options
        .preconditions
        .map(|wanted| json!({"metadata": {"resourceVersion": wanted.resource_version, "uid": wanted.uid}}));
    Ok(Wish {
        dry_run: !dry_run.is_empty(),
        expected: expected.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_sends_is_taken() {
        let sent = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
                          "gracePeriodSeconds": 0, "dryRun": ["All"]});
        let wish = parse(Ok(sent)).expect("taken");
        assert!(wish.dry_run && wish.expected.is_null());
        assert_eq!(parse(Ok(json!({}))).expect("taken"), Wish::default());
        let versioned = parse(Ok(json!({"preconditions": {"resourceVersion": "7"}}))).expect("taken");
        assert_eq!(versioned.expected["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for sent in [
            json!({"precondition": {}}),
            json!({"preconditions": {"resourceVersion": 7}}),
            json!({"preconditions": {"generation": 7}}),
            json!({"kind": "Service"}),
            json!({"dryRun": ["Some"]}),
            json!({"propagationPolicy": "Later"}),
            json!([]),
            json!("x"),
        ] {
            assert!(parse(Ok(sent.clone())).is_err(), "{sent}");
        }
        assert!(parse(Err("broken".to_owned())).is_err());
    }
}
