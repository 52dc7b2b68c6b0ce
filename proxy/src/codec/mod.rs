//! Messages as they travel: heads that keep the sender's spelling, bodies that are never collected, HTTP/1 as bytes.
//!
//! HTTP/1 is our own, because a sidecar forwards most heads untouched: no map is built, no head is copied for a retry,
//! and one task reads, decides and writes. HTTP/2 is the `h2` crate's; its streams take part through the same two traits.

mod body;
mod buffer;
mod client_hello;
mod detection;
#[cfg(test)]
mod differential_tests;
mod first_request;
mod gathered;
mod h2c;
mod head;
mod head_budget;
mod headers;
mod http1;
mod http2;
mod message;
mod passing;
mod prefixed;
mod spoken;
mod transfer;
mod transport;
mod upgrade;

pub use body::{BodyLength, Decoded, Decoder, Encoder};
#[cfg(test)]
pub use client_hello::client_hello_for;
pub use client_hello::{ClientHello, MaybeHello, may_be_client_hello, parse_client_hello};
pub use detection::{Detected, Speaker, detect, read_client_hello};
pub use first_request::{Wanted, read_first_request};
pub use gathered::Gathered;
pub use h2c::{FRAME_HEAD_BYTES, H2cUpgrade};
pub use head::{HeadError, parse_request, parse_response};
pub use headers::{Headers, Known, RawHeaders};
pub use http1::{Http1Stream, NoHead};
#[cfg(test)]
pub use http2::testing as http2_testing;
pub use http2::{Http2Stream, Http2Tunnel};
pub use message::{RequestHead, ResponseHead, Target};
pub use passing::{Ending, Lifetime, Passed, pass, pass_upgraded};
pub use prefixed::Prefixed;
pub use spoken::{HTTP2_PREFACE, Spoken, recognise};
pub use transfer::{BodyError, Broken, Sink, Source, Step, Transfer, Whole};
pub use transport::{Transport, Unfinished};
pub use upgrade::{WEBSOCKET, first_of};
