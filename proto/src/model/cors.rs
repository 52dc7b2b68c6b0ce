//! Cross-origin resource sharing: which pages of other origins may call. Values of headers are made when a policy is checked.

use http::HeaderValue;

use super::{Invalid, StringMatch, duration};
use crate::wire::mesh;

#[derive(Clone, Debug)]
pub struct CorsPolicy {
    /// Any one suffices.
    pub allow_origins: Vec<StringMatch>,
    /// Values of the response's headers; `None`: the header is not sent.
    pub allow_methods: Option<HeaderValue>,
    pub allow_headers: Option<HeaderValue>,
    pub expose_headers: Option<HeaderValue>,
    /// Whole seconds.
    pub max_age: Option<HeaderValue>,
    pub allow_credentials: bool,
    /// A preflight request from an origin that is not allowed goes to the endpoint; else it is answered without the headers.
    pub forward_unmatched_preflights: bool,
}

fn list(field: &str, items: &[String]) -> Result<Option<HeaderValue>, Invalid> {
    let token = |item: &String| !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if let Some(item) = items.iter().find(|item| !token(item)) {
        return Err(Invalid::new(field, format!("{item:?} cannot be an item of a list")));
    }
    let value = || HeaderValue::from_str(&items.join(",")).map_err(|_| Invalid::new(field, "not a header value"));
    (!items.is_empty()).then(value).transpose()
}

impl TryFrom<mesh::CorsPolicy> for CorsPolicy {
    type Error = Invalid;

    fn try_from(wire: mesh::CorsPolicy) -> Result<Self, Invalid> {
        let forward = wire.unmatched_preflights() == mesh::UnmatchedPreflights::Forward;
        let origins = wire.allow_origins.into_iter();
        // Zero is said: it means that nothing is remembered.
        let max_age = match wire.max_age {
            None => None,
            Some(age) => Some(HeaderValue::from(
                duration("max_age", Some(age))?.unwrap_or_default().as_secs(),
            )),
        };
        Ok(Self {
            allow_origins: origins
                .map(|origin| StringMatch::checked("allow_origins", origin, false))
                .collect::<Result<_, _>>()?,
            allow_methods: list("allow_methods", &wire.allow_methods)?,
            allow_headers: list("allow_headers", &wire.allow_headers)?,
            expose_headers: list("expose_headers", &wire.expose_headers)?,
            max_age,
            allow_credentials: wire.allow_credentials,
            forward_unmatched_preflights: forward,
        })
    }
}
