//! Parsing of single option values: what cannot work is refused here, with what would.

use std::net::SocketAddr;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use http::Uri;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tsunagi_proto::model::Locality;

/// Labels of a workload in the order given, keys unique.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(String, String)>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Labels, String> {
        let mut labels: Vec<(String, String)> = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not of the form key=value"))?;
            if !is_label_key(key) {
                return Err(format!(
                    "`{key}` is not a label key (letters, digits, - _ . and a prefix/)"
                ));
            }
            if !value.is_empty() && !is_name(value, 63) {
                return Err(format!(
                    "`{value}` is not a label value (at most 63 letters, digits, - _ .)"
                ));
            }
            if labels.iter().any(|(known, _)| known == key) {
                return Err(format!("label `{key}` is given twice"));
            }
            labels.push((key.to_owned(), value.to_owned()));
        }
        Ok(Labels(labels))
    }
}

/// `name` or `dns.prefix/name`.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_name(prefix, 253) && is_name(name, 63),
        None => is_name(key, 63),
    }
}

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_name(text: &str, longest: usize) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A number with its unit, or several: `500ms`, `30s`, `1m30s`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write 500ms, 30s, 5m, 1h or 1m30s");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        total = unit
            .checked_mul(number)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

pub(super) fn control_plane(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    match uri.scheme_str() {
        Some("http") if uri.authority().is_some() => Ok(uri),
        Some("https") => Err("https is not supported yet: use http://HOST:PORT".to_owned()),
        _ => Err("write it as http://HOST:PORT".to_owned()),
    }
}

/// An address to connect to: port 0 listens anywhere, but leads nowhere.
pub(super) fn destination(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write it as IP:PORT".to_owned())?;
    if address.port() == 0 {
        Err("the port must not be 0".to_owned())
    } else {
        Ok(address)
    }
}

/// One place, of which the end may not be known.
pub(super) fn locality(text: &str) -> Result<String, String> {
    let parts = text.split('/').count();
    if parts > 3 || text.contains('*') || text.starts_with('/') {
        return Err("write it as REGION/ZONE/SUBZONE, of which the end may be missing".to_owned());
    }
    Ok(Locality::of(text).to_string())
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=256) => Ok(count),
        _ => Err("must be a whole number from 1 to 256".to_owned()),
    }
}

/// A name that can stand in `workload/<namespace>/<node id>`, in a header and in a log line.
pub(super) fn node_id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 {
        return Err("must have 1 to 253 characters".to_owned());
    }
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'/') {
        return Err("must not contain spaces, slashes or non-ASCII characters".to_owned());
    }
    Ok(text.to_owned())
}

/// RFC 1123 label, as Kubernetes namespaces are.
pub(super) fn dns_label(text: &str) -> Result<String, String> {
    if is_name(text, 63)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS label: at most 63 of a-z, 0-9 and -".to_owned())
    }
}

/// RFC 1123 subdomain, as Kubernetes service accounts are.
pub(super) fn service_account(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(|label| dns_label(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS name: at most 253 of a-z, 0-9, - and .".to_owned())
    }
}

/// What a text for `--log-level` or `/logging?level=` means: a level, or several with a module before each but the first.
pub fn log_level(text: &str) -> Result<Targets, String> {
    // A bare word that is no level would be taken for a module with everything on.
    let plausible = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    match text.parse::<Targets>() {
        Ok(levels) if text.split(',').all(plausible) => Ok(levels),
        _ => Err("must be off, error, warn, info, debug or trace, also by module: info,tsunagi_proxy=debug".to_owned()),
    }
}

pub(super) fn default_workers() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(2))
}

/// The kernel's name for this host, which in a pod is the pod's.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}
