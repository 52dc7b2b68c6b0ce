//! Values of header operations: text with Envoy's formatters (`%REQ(x-a)%`), parsed when a rule is checked.
//!
//! The control plane admits with `HeaderTemplate::parse`, the very code that a proxy would refuse with; the proxy says what
//! each formatter stands for. Source: Envoy's custom request and response headers, without what a sidecar's request has
//! not (TLS of the client, filter state, the environment).

use http::{HeaderName, HeaderValue};

use super::TimeFormat;

/// What is made of a request grows no longer.
const MAX_VALUE_BYTES: usize = 32 * 1024;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    pub parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Literal(String),
    Formatter(Formatter),
}

/// What is known only when a request is there. What a request does not have is the empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formatter {
    Request(FieldText<RequestField>),
    Response(FieldText<HeaderName>),
    Address(Peer, AddressPart),
    Protocol,
    StartTime(TimeFormat),
    Hostname,
    RouteName,
    UpstreamCluster,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
}

/// `(X?Y):Z`: the field X, without it Y, of which at most Z bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText<N> {
    pub name: N,
    pub otherwise: Option<N>,
    pub longest_bytes: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestField {
    Method,
    /// With the query.
    Path,
    Authority,
    Scheme,
    Header(HeaderName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The client.
    DownstreamRemote,
    /// Where the client connected to.
    DownstreamLocal,
    /// The endpoint.
    Upstream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    Whole,
    Ip,
    Port,
}

/// Those without arguments.
const PLAIN: [(&str, Formatter); 20] = {
    use AddressPart::{Ip, Port, Whole};
    use Formatter::Address;
    use Peer::{DownstreamLocal, DownstreamRemote, Upstream};
    [
        ("DOWNSTREAM_REMOTE_ADDRESS", Address(DownstreamRemote, Whole)),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Address(DownstreamRemote, Ip)),
        ("DOWNSTREAM_REMOTE_PORT", Address(DownstreamRemote, Port)),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Address(DownstreamRemote, Whole)),
        (
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
            Address(DownstreamRemote, Ip),
        ),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", Address(DownstreamRemote, Port)),
        ("DOWNSTREAM_LOCAL_ADDRESS", Address(DownstreamLocal, Whole)),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Address(DownstreamLocal, Ip)),
        ("DOWNSTREAM_LOCAL_PORT", Address(DownstreamLocal, Port)),
        ("UPSTREAM_HOST", Address(Upstream, Whole)),
        ("UPSTREAM_REMOTE_ADDRESS", Address(Upstream, Whole)),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Address(Upstream, Ip)),
        ("UPSTREAM_REMOTE_PORT", Address(Upstream, Port)),
        ("UPSTREAM_CLUSTER", Formatter::UpstreamCluster),
        ("PROTOCOL", Formatter::Protocol),
        ("HOSTNAME", Formatter::Hostname),
        ("ROUTE_NAME", Formatter::RouteName),
        ("RESPONSE_CODE", Formatter::ResponseCode),
        ("RESPONSE_FLAGS", Formatter::ResponseFlags),
        ("RESPONSE_CODE_DETAILS", Formatter::ResponseCodeDetails),
    ]
};

impl HeaderTemplate {
    /// `%%` is a percent sign. The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (formatter, after) = formatter(after)?;
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(std::mem::take(&mut literal)));
            }
            parts.push(TemplatePart::Formatter(formatter));
            rest = after;
        }
        literal.push_str(rest);
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err("a header cannot have this character".to_owned());
        }
        if !literal.is_empty() {
            parts.push(TemplatePart::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The value, where nothing has to be asked for; empty: the header is not touched.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// For one message. `None`: nothing is left to say, so the header is not touched.
    pub fn value(&self, write: impl Fn(&Formatter, &mut Vec<u8>)) -> Option<HeaderValue> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                TemplatePart::Literal(text) => out.extend_from_slice(text.as_bytes()),
                TemplatePart::Formatter(formatter) => write(formatter, &mut out),
            }
        }
        out.truncate(MAX_VALUE_BYTES);
        // What other headers have is fit for a header.
        HeaderValue::from_bytes(&out).ok().filter(|value| !value.is_empty())
    }
}

/// Of the text behind its first percent sign; and what follows the last.
fn formatter(text: &str) -> Result<(Formatter, &str), String> {
    let end = text.find(['%', '(']).ok_or_else(|| {
        "`%` begins a formatter, as in `%HOSTNAME%`, and this one has no end; write `%%` for a percent sign".to_owned()
    })?;
    let name = &text[..end];
    if text[end..].starts_with('%') {
        let mut plain = PLAIN.into_iter();
        let found = plain.find(|(known, _)| *known == name).map(|(_, formatter)| formatter);
        let found = found.or_else(|| (name == "START_TIME").then(|| Formatter::StartTime(TimeFormat::default())));
        let formatter = found.ok_or_else(|| unknown(name))?;
        return Ok((formatter, &text[end + 1..]));
    }
    let unclosed = || format!("`%{name}(` has no `)` with a `%` behind it");
    let arguments = &text[end + 1..];
    let close = arguments.find(')').ok_or_else(unclosed)?;
    let (arguments, after) = (&arguments[..close], &arguments[close + 1..]);
    let (length, after) = after.split_once('%').ok_or_else(unclosed)?;
    let longest_bytes = match length.strip_prefix(':') {
        None if length.is_empty() => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| format!("{digits} is too large a length"))?)
        }
        _ => return Err(format!("behind `%{name}(…)` comes `%`, or `:LENGTH%`")),
    };
    let formatter = match name {
        "REQ" => Formatter::Request(fields(arguments, longest_bytes, request_field)?),
        "RESP" => Formatter::Response(fields(arguments, longest_bytes, header_name)?),
        "START_TIME" if longest_bytes.is_none() => Formatter::StartTime(TimeFormat::parse(arguments)?),
        _ => return Err(unknown(name)),
    };
    Ok((formatter, after))
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = PLAIN.iter().map(|(name, _)| *name).collect();
    format!(
        "no formatter is called {name:?} here; known are REQ(X?Y):Z, RESP(X?Y):Z, START_TIME(FORMAT), {}; write `%%` for a \
         percent sign",
        known.join(", ")
    )
}

fn fields<N>(
    text: &str,
    longest_bytes: Option<usize>,
    name: impl Fn(&str) -> Result<N, String>,
) -> Result<FieldText<N>, String> {
    let (first, otherwise) = match text.split_once('?') {
        Some((first, otherwise)) => (first, Some(name(otherwise)?)),
        None => (text, None),
    };
    Ok(FieldText {
        name: name(first)?,
        otherwise,
        longest_bytes,
    })
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a header name"))
}

fn request_field(text: &str) -> Result<RequestField, String> {
    match text.to_ascii_lowercase().as_str() {
        ":method" => Ok(RequestField::Method),
        ":path" => Ok(RequestField::Path),
        ":authority" | "host" => Ok(RequestField::Authority),
        ":scheme" => Ok(RequestField::Scheme),
        _ => header_name(text).map(RequestField::Header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        let template = HeaderTemplate::parse(text).unwrap();
        let value = template.value(|formatter, out| match formatter {
            Formatter::Hostname => out.extend_from_slice(b"pod-1"),
            Formatter::Request(field) => out.extend_from_slice(format!("{:?}", field.longest_bytes).as_bytes()),
            _ => {}
        });
        value.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_text_without_formatters_is_a_literal_with_its_percent_signs() {
        assert_eq!(HeaderTemplate::parse("100%% of%%").unwrap().literal(), Some("100% of%"));
        assert_eq!(HeaderTemplate::parse("").unwrap().literal(), Some(""));
        assert_eq!(HeaderTemplate::parse("a%HOSTNAME%").unwrap().literal(), None);
    }

    #[test]
    fn formatters_stand_between_literals() {
        assert_eq!(written("on %HOSTNAME%%%!").as_deref(), Some("on pod-1%!"));
        assert_eq!(written("%REQ(x-a?:PATH):7%").as_deref(), Some("Some(7)"));
    }

    #[test]
    fn nothing_to_say_is_no_header() {
        assert_eq!(written("%UPSTREAM_HOST%"), None);
        assert_eq!(written(""), None);
        assert_eq!(written("at %UPSTREAM_HOST%").as_deref(), Some("at "));
    }

    #[test]
    fn fields_are_named_in_any_case_with_another_to_fall_back_on() {
        let parsed = HeaderTemplate::parse("%REQ(X-A?:Authority)%").unwrap();
        let wanted = FieldText {
            name: RequestField::Header(HeaderName::from_static("x-a")),
            otherwise: Some(RequestField::Authority),
            longest_bytes: None,
        };
        assert_eq!(parsed.parts, [TemplatePart::Formatter(Formatter::Request(wanted))]);
    }

    #[test]
    fn what_is_no_formatter_is_refused_with_a_reason() {
        for (text, reason) in [
            ("50%", "has no end"),
            ("abc%123", "has no end"),
            ("%ENVIRONMENT(HOME)%", "no formatter is called \"ENVIRONMENT\""),
            ("%hostname%", "known are REQ"),
            ("%REQ(x-a%", "has no `)`"),
            ("%REQ(x-a):%", "LENGTH"),
            ("%REQ(x-a):99999999999999999999999%", "too large"),
            ("%REQ(x a)%", "not a header name"),
            ("%RESP(:status)%", "not a header name"),
            ("%START_TIME(%Q)%", "%Q"),
            ("%START_TIME%%", "has no end"),
            ("a\nb", "cannot have"),
            ("a%HOSTNAME%\u{7f}", "cannot have"),
        ] {
            let error = HeaderTemplate::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
