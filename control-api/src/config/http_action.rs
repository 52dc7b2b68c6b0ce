//! What a rule of a VirtualService does besides choosing a destination, or instead of it: `redirect`, `directResponse`,
//! `delegate`, `rewrite`. Checked as Istio does (validation.go), and by what a proxy takes (`tsunagi_proto::model`).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tsunagi_proto::model::{is_authority, is_path, is_redirect_path, is_substitution};

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{Delegate, DirectResponse, HttpMatch, Redirect, RedirectPort, Rewrite, StringMatch, names, regex_syntax};

pub(super) const REDIRECT: Fields = Fields {
    supported: &[
        "uri",
        "authority",
        "port",
        "derivePort",
        "scheme",
        "redirectCode",
        "prefixRewrite",
    ],
    later: &[],
};
const DIRECT_RESPONSE: Fields = Fields {
    supported: &["status", "body"],
    later: &[],
};
const BODY: Fields = Fields {
    supported: &["string", "bytes"],
    later: &[],
};
const DELEGATE: Fields = Fields {
    supported: &["name", "namespace"],
    later: &[],
};
const REWRITE: Fields = Fields {
    supported: &["uri", "authority", "uriRegexRewrite"],
    later: &[],
};
const REGEX_REWRITE: Fields = Fields {
    supported: &["match", "rewrite"],
    later: &[],
};

const REDIRECT_CODES: [i64; 5] = [301, 302, 303, 307, 308];
/// Istio's limit, and the proxy's.
const MOST_BODY_BYTES: usize = 1 << 20;

pub(super) fn read_redirect(field: &Field<'_>, matches: &[HttpMatch]) -> Option<Redirect> {
    if !field.is_message(&REDIRECT) {
        return None;
    }
    let redirect = Redirect {
        uri: field.get("uri").and_then(|field| path(&field, is_redirect_path)),
        prefix_rewrite: field
            .get("prefixRewrite")
            .and_then(|field| path(&field, is_redirect_path)),
        authority: read_authority(field),
        scheme: scheme(field),
        port: redirect_port(field),
        code: field.get("redirectCode").and_then(|field| redirect_code(&field)),
    };
    if redirect.uri.is_some() && redirect.prefix_rewrite.is_some() {
        field.refuse_at("prefixRewrite", "only one of `uri` and `prefixRewrite` may be set");
    }
    let by_prefix = |item: &HttpMatch| matches!(item.uri, None | Some(StringMatch::Prefix(_)));
    if redirect.prefix_rewrite.is_some() && !matches.iter().all(by_prefix) {
        field.refuse_at("prefixRewrite", "needs matches whose `uri` is a `prefix`");
    }
    let parts = ["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"];
    let is_empty = |name| field.get(name).is_none_or(|field| field.is(""));
    if parts.into_iter().all(is_empty) {
        field.refuse("needs one of `uri`, `prefixRewrite`, `authority`, `scheme`, `port` and `derivePort`");
    }
    Some(redirect)
}

/// Empty is not set.
fn path(field: &Field<'_>, may_be: fn(&str) -> bool) -> Option<String> {
    let text = field.text().filter(|text| !text.is_empty())?;
    if !may_be(text) {
        field.refuse(format!("{} has a character that a path cannot have", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

/// Of a message that may have one. Empty is not set.
fn read_authority(message: &Field<'_>) -> String {
    let field = message.get("authority");
    field
        .and_then(|field| authority(field.text()?, &field))
        .unwrap_or_default()
}

/// A host, perhaps with a port.
pub(super) fn authority(text: &str, field: &Field<'_>) -> Option<String> {
    if !is_authority(text) {
        field.refuse(format!("{} is not a host with an optional port", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

fn scheme(message: &Field<'_>) -> String {
    let field = message.get("scheme").filter(|field| !field.is(""));
    let scheme = field.and_then(|field| field.one_of(&["http", "https"]));
    scheme.unwrap_or_default().to_owned()
}

fn redirect_port(message: &Field<'_>) -> Option<RedirectPort> {
    let (port, derived) = (message.get("port"), message.get("derivePort"));
    if port.is_some()
        && let Some(derived) = &derived
    {
        derived.refuse("only one of `port` and `derivePort` may be set");
        return None;
    }
    if let Some(port) = port {
        return port.port().map(RedirectPort::Number);
    }
    match derived?.one_of(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])? {
        "FROM_REQUEST_PORT" => Some(RedirectPort::FromRequestPort),
        _ => Some(RedirectPort::FromProtocolDefault),
    }
}

/// 0 is not set.
fn redirect_code(field: &Field<'_>) -> Option<u16> {
    let code = field.number(0, i64::from(u16::MAX)).filter(|code| *code != 0)?;
    if !REDIRECT_CODES.contains(&code) {
        field.refuse(format!("{code} is none of 301, 302, 303, 307 and 308"));
    }
    u16::try_from(code).ok()
}

pub(super) fn status(field: &Field<'_>) -> Option<u16> {
    field.number(200, 599).and_then(|status| u16::try_from(status).ok())
}

pub(super) fn read_direct_response(field: &Field<'_>) -> Option<DirectResponse> {
    if !field.is_message(&DIRECT_RESPONSE) {
        return None;
    }
    let body = field.get("body").map(|field| body(&field)).unwrap_or_default();
    Some(DirectResponse {
        status: status(&field.required("status")?)?,
        body,
    })
}

fn body(field: &Field<'_>) -> Vec<u8> {
    if !field.is_message(&BODY) {
        return Vec::new();
    }
    let body = match (field.get("string"), field.get("bytes")) {
        (Some(_), Some(_)) => {
            field.refuse("only one of `string` and `bytes` may be set");
            return Vec::new();
        }
        (Some(string), None) => string.text().unwrap_or_default().as_bytes().to_vec(),
        (None, Some(bytes)) => bytes.text().map(|text| from_base64(text, &bytes)).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    if body.len() > MOST_BODY_BYTES {
        field.refuse(format!("{} bytes are more than {MOST_BODY_BYTES}", body.len()));
    }
    body
}

/// Of either alphabet, padded or not, as protobuf's JSON has it.
fn from_base64(text: &str, field: &Field<'_>) -> Vec<u8> {
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    match GeneralPurpose::new(alphabet, lenient).decode(text) {
        Ok(bytes) => bytes,
        Err(_) => {
            field.refuse(format!("{} is not base64", shown(text)));
            Vec::new()
        }
    }
}

pub(super) fn read_delegate(field: &Field<'_>, namespace: &str) -> Option<Delegate> {
    if !field.is_message(&DELEGATE) {
        return None;
    }
    let name = field.required("name")?;
    let text = name.word()?;
    if !names::is_dns_subdomain(text) {
        name.refuse(format!("{} is not the name of a VirtualService", shown(text)));
    }
    let other = field.get("namespace").filter(|field| !field.is(""));
    let other = match &other {
        Some(field) => {
            let text = field.text()?;
            if !names::is_dns_label(text) {
                field.refuse(format!("{} is not a namespace name", shown(text)));
            }
            text
        }
        None => namespace,
    };
    Some(Delegate {
        name: text.to_owned(),
        namespace: other.to_owned(),
    })
}

pub(super) fn read_rewrite(field: &Field<'_>) -> Option<Rewrite> {
    if !field.is_message(&REWRITE) {
        return None;
    }
    let (uri, regex) = (field.get("uri").filter(|uri| !uri.is("")), field.get("uriRegexRewrite"));
    if uri.is_some() && regex.is_some() {
        field.refuse_at("uriRegexRewrite", "only one of `uri` and `uriRegexRewrite` may be set");
    }
    let authority = field.get("authority").filter(|authority| !authority.is(""));
    if uri.is_none() && regex.is_none() && authority.is_none() {
        field.refuse("needs one of `uri`, `uriRegexRewrite` and `authority`");
    }
    Some(Rewrite {
        uri: uri.and_then(|field| path(&field, is_path)),
        uri_regex: regex.and_then(|field| regex_rewrite(&field)),
        authority: read_authority(field),
    })
}

fn regex_rewrite(field: &Field<'_>) -> Option<(String, String)> {
    if !field.is_message(&REGEX_REWRITE) {
        return None;
    }
    let (pattern, rewrite) = (field.required("match"), field.required("rewrite"));
    let (pattern, rewrite) = (pattern?, rewrite?);
    let (regex, text) = (pattern.text()?, rewrite.word()?);
    if let Err(reason) = regex_syntax::check(regex) {
        pattern.refuse(format!("{}: {reason}", shown(regex)));
        return None;
    }
    if !is_substitution(regex, text) {
        rewrite.refuse(format!(
            "{}: `\\1` to `\\9` are the groups that the regex has, `\\0` is all of the match, `\\\\` a backslash; anything else must be what a path can have",
            shown(text)
        ));
        return None;
    }
    Some((regex.to_owned(), text.to_owned()))
}
