//! How the HTTP API says no: a Kubernetes `Status` object, so that tools made for Kubernetes show it well. Each cause
//! carries, beyond Kubernetes' fields, the file and line of what is wrong. Called by every handler; `cli` reads it.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Key, Origin, Problem},
    error,
    ingest::Refused,
};

/// The `Status` object.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusObject {
    pub kind: String,
    pub api_version: String,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `Success` or `Failure`.
    pub status: String,
    pub message: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    pub code: u16,
    /// What the request brought about that its author may not have meant; beyond Kubernetes' fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
}

/// `field`, `message` and `reason` are Kubernetes'; the others say where in the request it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
    pub file: String,
    pub line: u32,
    pub kind: String,
    pub name: String,
}

impl From<Problem> for Cause {
    fn from(problem: Problem) -> Self {
        Self {
            reason: "FieldValueInvalid".to_owned(),
            message: problem.reason,
            field: problem.field,
            file: problem.file,
            line: problem.line,
            kind: problem.kind,
            name: problem.name,
        }
    }
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Self {
        Self {
            file: cause.file,
            line: cause.line,
            kind: cause.kind,
            name: cause.name,
            field: cause.field,
            reason: cause.message,
        }
    }
}

/// An answer other than success.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    object: Box<StatusObject>,
    allowed: Option<&'static str>,
}

impl Failure {
    fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        let object = StatusObject {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code: status.as_u16(),
            ..StatusObject::default()
        };
        Self {
            status,
            object: Box::new(object),
            allowed: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// `virtualservices.networking.istio.io "x" not found`, as Kubernetes words it.
    pub(super) fn no_such(key: &Key) -> Self {
        let message = format!("{} {:?} not found", resource(key), key.name);
        Self::not_found(message).about(key)
    }

    pub(super) fn method_not_allowed(method: &Method, allowed: &'static str) -> Self {
        let message = format!("{method} is not possible here; possible: {allowed}");
        let failure = Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        Self {
            allowed: Some(allowed),
            ..failure
        }
    }

    pub(super) fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    pub(super) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than {limit_bytes} bytes; send it in several transactions");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(super) fn unsupported_media_type(found: &str) -> Self {
        let message = format!("the body's content type is {found:?}; send application/yaml or application/json");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    fn conflict(key: &Key, reason: &str, origin: Origin) -> Self {
        let message = format!(
            "{origin}Operation cannot be fulfilled on {} {:?}: {reason}",
            resource(key),
            key.name
        );
        let mut failure = Self::new(StatusCode::CONFLICT, "Conflict", message).about(key);
        if let Some(details) = failure.object.details.as_mut().filter(|_| origin.line > 0) {
            details.causes.push(Cause {
                reason: "Conflict".to_owned(),
                message: reason.to_owned(),
                field: "metadata".to_owned(),
                file: origin.file,
                line: origin.line,
                kind: key.kind.as_str().to_owned(),
                name: key.name.clone(),
            });
        }
        failure
    }

    /// Of a strict transaction.
    fn warned(warnings: Vec<String>) -> Self {
        let message = format!("strict: nothing was changed because of {}", warnings.join("; "));
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let cause = |warning| Cause {
            reason: "Warning".to_owned(),
            message: format!("warning: {warning}"),
            ..Cause::default()
        };
        let causes = warnings.into_iter().map(cause).collect();
        failure.object.details = Some(Details {
            causes,
            ..Details::default()
        });
        failure
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Documents that say what cannot be: 422; text that is no document at all: 400.
    pub(super) fn problems(problems: Vec<Problem>) -> Self {
        let unreadable = problems
            .iter()
            .all(|problem| problem.kind.is_empty() && problem.field.is_empty());
        let message = Refused::Invalid(problems.clone()).to_string();
        let mut failure = if unreadable {
            Self::bad_request(message)
        } else {
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        };
        let mut details = Details::default();
        if let [problem] = problems.as_slice() {
            details.kind.clone_from(&problem.kind);
            details.name.clone_from(&problem.name);
        }
        details.causes = problems.into_iter().map(Cause::from).collect();
        failure.object.details = Some(details);
        failure
    }

    fn about(mut self, key: &Key) -> Self {
        self.object.details = Some(Details {
            name: key.name.clone(),
            group: key.kind.group().to_owned(),
            kind: key.kind.plural().to_owned(),
            causes: Vec::new(),
        });
        self
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(problems) => Self::problems(problems),
            Refused::Warned(warnings) => Self::warned(warnings),
            Refused::Conflict { key, reason, origin } => Self::conflict(&key, &reason, origin),
            Refused::Store(error) => {
                let message = error::sentence(&error);
                tracing::error!("{message}");
                Self::internal(message)
            }
            Refused::Elsewhere => Self::new(StatusCode::CONFLICT, "Conflict", refused.to_string()),
            Refused::Stopped => Self::unavailable(refused.to_string()),
            Refused::Failed => Self::internal(refused.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // A struct of strings and numbers always has a JSON form.
        let body = serde_json::to_string(&self.object).unwrap_or_default();
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(header::CONTENT_TYPE, json)], body).into_response();
        if let Some(allowed) = self.allowed {
            let value = HeaderValue::from_static(allowed);
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }
}

/// The answer to a DELETE that deleted.
pub(super) fn deleted(key: &Key, uid: &str, warnings: Vec<String>) -> StatusObject {
    let mut metadata = serde_json::Map::new();
    metadata.insert("uid".to_owned(), uid.into());
    StatusObject {
        kind: "Status".to_owned(),
        api_version: "v1".to_owned(),
        metadata,
        status: "Success".to_owned(),
        details: Failure::bad_request("").about(key).object.details,
        code: 200,
        warnings,
        ..StatusObject::default()
    }
}

fn resource(key: &Key) -> String {
    match key.kind.group() {
        "" => key.kind.plural().to_owned(),
        group => format!("{}.{group}", key.kind.plural()),
    }
}
