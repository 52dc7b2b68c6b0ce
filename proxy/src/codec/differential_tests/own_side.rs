//! This codec, as a connection uses it: heads and bodies, one after the other.

use http::{HeaderMap, Method, header};

use super::{Message, TOO_LARGE, Understood};
use crate::codec::{
    BodyLength, Decoded, Decoder, HeadError, Headers, RequestHead, ResponseHead, parse_request, parse_response,
};

type Body = Result<(Vec<u8>, HeaderMap, usize), Option<&'static str>>;

/// All of the connection's bytes are there: what is incomplete now stays so (`None`).
fn read_body(length: BodyLength, mut input: &[u8]) -> Body {
    let mut decoder = Decoder::new(length);
    let (whole, mut body) = (input.len(), Vec::new());
    loop {
        match decoder.decode(input).map_err(Some)? {
            Decoded::Data { skip, data } => {
                body.extend_from_slice(&input[skip..skip + data]);
                decoder.consume(data);
                input = &input[skip + data..];
            }
            Decoded::More { .. } if decoder.ends_at_close() => return Ok((body, HeaderMap::new(), whole)),
            Decoded::More { .. } => return Err(None),
            Decoded::End { skip } => {
                let trailers = decoder.take_trailers().unwrap_or_default();
                return Ok((body, trailers, whole - input.len() + skip));
            }
        }
    }
}

fn sentence(error: HeadError) -> &'static str {
    match error {
        HeadError::TooLarge => TOO_LARGE,
        HeadError::Bad(reason) => reason,
    }
}

/// Of repeated lengths `hyper`'s server shows one.
fn fields(headers: &Headers) -> HeaderMap {
    let mut map = headers.to_map();
    if let Some(length) = map.get(header::CONTENT_LENGTH).cloned() {
        map.insert(header::CONTENT_LENGTH, length);
    }
    map
}

/// What is there, and why the last body was refused.
pub(super) fn requests(mut input: &[u8]) -> (Understood, Option<&'static str>) {
    let mut head = RequestHead::default();
    let mut messages = Vec::new();
    let end = |messages, refused| Understood { messages, refused };
    loop {
        let length = match parse_request(input, &mut head) {
            Ok(Some(length)) => length,
            Ok(None) => return (end(messages, None), None),
            Err(error) => return (end(messages, Some(sentence(error))), None),
        };
        input = &input[length..];
        let body = match head.body_length() {
            Ok(length) => read_body(length, input),
            Err(error) => return (end(messages, Some(sentence(error))), None),
        };
        let authority = head.authority().unwrap_or("-");
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        let message = Message {
            line: format!("{} {}{query} {authority}", head.method, head.path()),
            version: head.version,
            headers: fields(&head.headers),
            body: body.clone().ok().map(|(body, trailers, _)| (body, trailers)),
            proper_target: true,
        };
        messages.push(message);
        match body {
            Err(refusal) => return (end(messages, None), refusal),
            Ok((_, _, length)) => input = &input[length..],
        }
        if !head.keeps_alive() {
            return (end(messages, None), None);
        }
    }
}

/// The first response that is not an interim one.
pub(super) fn response(mut input: &[u8], method: &Method) -> (Understood, Option<&'static str>) {
    let mut head = ResponseHead::default();
    let end = |messages, refused| Understood { messages, refused };
    loop {
        let length = match parse_response(input, &mut head) {
            Ok(Some(length)) => length,
            Ok(None) => return (end(Vec::new(), None), None),
            Err(error) => return (end(Vec::new(), Some(sentence(error))), None),
        };
        input = &input[length..];
        if !head.status.is_informational() || head.status.as_u16() == 101 {
            break;
        }
    }
    let body = match head.body_length(method) {
        Ok(length) => read_body(length, input),
        Err(error) => return (end(Vec::new(), Some(sentence(error))), None),
    };
    let reason = head
        .reason
        .as_deref()
        .or(head.status.canonical_reason())
        .unwrap_or_default();
    let message = Message {
        line: format!("{} {reason}", head.status.as_u16()),
        version: head.version,
        headers: head.headers.to_map(),
        body: body.clone().ok().map(|(body, trailers, _)| (body, trailers)),
        proper_target: true,
    };
    (end(vec![message], None), body.err().flatten())
}
