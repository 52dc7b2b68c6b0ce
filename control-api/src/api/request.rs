//! Reading a request: its query, its media types, its body within limits. What is not understood is refused by name,
//! never ignored. Called by the handlers of this room.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::{BODY_LIMIT_BYTES, failure::Failure};
use crate::body::{self, BodyError};
use crate::ingest::Mode;

/// For the whole body to arrive.
const BODY_TIME_LIMIT: Duration = Duration::from_secs(30);

/// The parameters of a query, each of them known.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Failure> {
        let mut parameters = BTreeMap::new();
        for pair in uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if !known.contains(&name.as_str()) {
                let possible = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(Failure::bad_request(format!(
                    "the query parameter {name:?} is not supported here; possible: {possible}"
                )));
            }
            if parameters.insert(name.clone(), value).is_some() {
                return Err(Failure::bad_request(format!(
                    "the query parameter {name:?} is given twice"
                )));
            }
        }
        Ok(Self(parameters))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `dryRun=true`, or `dryRun=All` as Kubernetes writes it.
    pub(super) fn dry_run(&self) -> Result<bool, Failure> {
        match self.text("dryRun") {
            None | Some("false" | "") => Ok(false),
            Some("true" | "All") => Ok(true),
            Some(other) => Err(Failure::bad_request(format!(
                "dryRun must be true or false, not {other:?}"
            ))),
        }
    }

    /// `dryRun` and `strict`.
    pub(super) fn mode(&self) -> Result<Mode, Failure> {
        let strict = match self.text("strict") {
            None | Some("false" | "") => false,
            Some("true") => true,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "strict must be true or false, not {other:?}"
                )));
            }
        };
        let dry_run = self.dry_run()?;
        Ok(Mode { dry_run, strict })
    }

    /// `wait=10s`.
    pub(super) fn wait(&self) -> Result<Option<Duration>, Failure> {
        self.text("wait")
            .map(wait_limit)
            .transpose()
            .map_err(Failure::bad_request)
    }
}

/// Of a wait for proxies: a connection is held for it.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(3_600);

fn wait_limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text)
        .map_err(|error| format!("wait must be a duration such as 10s or 500ms, not {text:?}: {error}"))?;
    if limit.is_zero() || limit > WAIT_LIMIT {
        return Err(format!("wait must be more than 0 and at most 1h, not {text}"));
    }
    Ok(limit)
}

fn decoded(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Failure::bad_request("the query is not UTF-8"))
}

/// The content type without parameters, in lower case; empty when there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// The whole body as text.
pub(super) async fn body(request: Request) -> Result<String, Failure> {
    let bytes = tokio::time::timeout(BODY_TIME_LIMIT, limited(request.into_body()))
        .await
        .map_err(|_| Failure::too_slow(format!("the body did not arrive within {}s", BODY_TIME_LIMIT.as_secs())))??;
    String::from_utf8(bytes.into()).map_err(|error| Failure::bad_request(format!("the body is not UTF-8: {error}")))
}

async fn limited(body: Body) -> Result<Bytes, Failure> {
    body::read(body, BODY_LIMIT_BYTES).await.map_err(|error| match error {
        BodyError::TooLarge { limit_bytes } => Failure::too_large(limit_bytes),
        BodyError::Unreadable(_) => Failure::bad_request(error.to_string()),
    })
}

/// How the client wants to read.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// YAML when `Accept` asks for it, else JSON.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("yaml")) {
            Self::Yaml
        } else {
            Self::Json
        }
    }

    pub(super) fn reply(self, status: StatusCode, value: &impl Serialize) -> Response {
        let (media_type, written) = match self {
            Self::Json => (
                "application/json",
                serde_json::to_string(value).map_err(|error| error.to_string()),
            ),
            Self::Yaml => (
                "application/yaml",
                serde_saphyr::to_string(value).map_err(|error| error.to_string()),
            ),
        };
        match written {
            Ok(body) => (
                status,
                [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
                body,
            )
                .into_response(),
            Err(error) => Failure::internal(format!("the answer cannot be written: {error}")).into_response(),
        }
    }
}
