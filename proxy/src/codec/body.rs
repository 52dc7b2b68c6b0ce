//! HTTP/1's framing of bodies, both ways, without I/O: a length, chunks, or until the connection closes (RFC 9112, 6 and 7).
//!
//! A connection's buffers hand their bytes to the decoder, which says how many of them are framing and how many are
//! body; the encoder says what goes around the bytes that are sent. Nothing is copied here but trailers.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{Known, KnownSet};

/// How a body's end is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    #[default]
    None,
    Exact(u64),
    Chunked,
    UntilClose,
}

/// Of one body: chunk extensions, and whatever else pads the lines with the sizes.
const MAX_PADDING_BYTES: u32 = 16 * 1024;
const MAX_TRAILER_BYTES: usize = 16 * 1024;
const MAX_TRAILERS: usize = 100;
/// Of a chunk's size; more digits can only be leading zeros.
const MAX_SIZE_DIGITS: u8 = 16;

/// What `decode` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// After `skip` bytes of framing, `data` bytes of body are at hand.
    Data { skip: usize, data: usize },
    /// Nothing but framing so far: drop `skip` bytes and read more.
    More { skip: usize },
    /// Over: drop `skip` bytes; what follows belongs to the next message.
    End { skip: usize },
}

/// Reads one body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Of the body or of the chunk; while a size is read, what of it is known.
    remaining: u64,
    padding_bytes: u32,
    trailers: Trailers,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    Exact,
    UntilClose,
    /// Before the first digit.
    SizeStart,
    Size {
        digits: u8,
    },
    /// White space after the digits.
    SizeEnd,
    Extension,
    /// The line's CR was seen.
    SizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    Trailers,
    #[default]
    Over,
    Broken(&'static str),
}

#[derive(Debug, Default)]
struct Trailers {
    /// What came before all of them were there.
    begun: Vec<u8>,
    map: Option<Box<HeaderMap>>,
}

impl Decoder {
    pub fn new(length: BodyLength) -> Self {
        let (state, remaining) = match length {
            BodyLength::None | BodyLength::Exact(0) => (State::Over, 0),
            BodyLength::Exact(length) => (State::Exact, length),
            BodyLength::Chunked => (State::SizeStart, 0),
            BodyLength::UntilClose => (State::UntilClose, 0),
        };
        Self {
            state,
            remaining,
            ..Self::default()
        }
    }

    /// Looks at what is there and was not consumed. The caller drops `skip` bytes at once, consumes of the data what it
    /// likes, and calls again with what is left.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, &'static str> {
        match self.state {
            State::Over => Ok(Decoded::End { skip: 0 }),
            State::Exact | State::UntilClose => Ok(self.data(0, input)),
            State::Broken(error) => Err(error),
            _ => {
                let decoded = self.decode_chunked(input);
                if let Err(error) = decoded {
                    self.state = State::Broken(error);
                }
                decoded
            }
        }
    }

    /// `count` bytes of the data that `decode` showed were taken.
    pub fn consume(&mut self, count: usize) {
        if self.state == State::UntilClose {
            return;
        }
        debug_assert!(matches!(self.state, State::Exact | State::Chunk) || count == 0);
        self.remaining = self.remaining.saturating_sub(count as u64);
        if self.remaining == 0 {
            match self.state {
                State::Exact => self.state = State::Over,
                State::Chunk => self.state = State::ChunkCr,
                _ => {}
            }
        }
    }

    /// Nothing of the body is missing.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The end of the connection is the end of the body.
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.map.take().map(|map| *map)
    }

    fn data(&self, skip: usize, input: &[u8]) -> Decoded {
        let at_hand = input.len() - skip;
        let data = match self.state {
            State::UntilClose => at_hand,
            _ => usize::try_from(self.remaining).map_or(at_hand, |remaining| remaining.min(at_hand)),
        };
        if data == 0 {
            Decoded::More { skip }
        } else {
            Decoded::Data { skip, data }
        }
    }

    fn decode_chunked(&mut self, input: &[u8]) -> Result<Decoded, &'static str> {
        let mut at = 0;
        loop {
            match self.state {
                State::Chunk => return Ok(self.data(at, input)),
                State::Trailers => return self.decode_trailers(at, input),
                _ => {}
            }
            let Some(byte) = input.get(at) else {
                return Ok(Decoded::More { skip: at });
            };
            at += 1;
            self.state = self.step(*byte)?;
        }
    }

    /// One byte of the framing around a chunk.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::SizeStart, _) => {
                let digit = hex(byte).ok_or("a chunk's size is not a number")?;
                self.remaining = u64::from(digit);
                Ok(State::Size { digits: 1 })
            }
            (State::Size { digits }, _) if let Some(digit) = hex(byte) => {
                if self.remaining >> 60 != 0 {
                    return Err("a chunk's size is too large");
                }
                self.remaining = self.remaining << 4 | u64::from(digit);
                if digits == MAX_SIZE_DIGITS {
                    self.pad()?;
                    return Ok(State::Size { digits });
                }
                Ok(State::Size { digits: digits + 1 })
            }
            (State::Size { .. } | State::SizeEnd | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size { .. } | State::SizeEnd, b';') => Ok(State::Extension),
            (State::Size { .. } | State::SizeEnd, b' ' | b'\t') => {
                self.pad()?;
                Ok(State::SizeEnd)
            }
            (State::Size { .. } | State::SizeEnd, _) => Err("a chunk's size is not a number"),
            (State::Extension, b'\n') => Err("a chunk's size does not end in CRLF"),
            (State::Extension, _) => {
                self.pad()?;
                Ok(State::Extension)
            }
            (State::SizeLf, b'\n') if self.remaining == 0 => Ok(State::Trailers),
            (State::SizeLf, b'\n') => Ok(State::Chunk),
            (State::SizeLf, _) => Err("a chunk's size does not end in CRLF"),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::SizeStart),
            _ => Err("a chunk does not end where its size says"),
        }
    }

    fn pad(&mut self) -> Result<(), &'static str> {
        self.padding_bytes += 1;
        if self.padding_bytes >= MAX_PADDING_BYTES {
            return Err("the chunk extensions are too long");
        }
        Ok(())
    }

    /// `at`: where they begin, or go on, in the input.
    fn decode_trailers(&mut self, at: usize, input: &[u8]) -> Result<Decoded, &'static str> {
        let rest = &input[at..];
        if self.trailers.begun.is_empty() && rest.starts_with(b"\r\n") {
            self.state = State::Over;
            return Ok(Decoded::End { skip: at + 2 });
        }
        match self.trailers.read(rest)? {
            Some(taken) => {
                self.state = State::Over;
                Ok(Decoded::End { skip: at + taken })
            }
            None => Ok(Decoded::More { skip: input.len() }),
        }
    }
}

impl Trailers {
    /// How much of `input` belongs to the trailers, once they are all there. Else all of it is kept here.
    fn read(&mut self, input: &[u8]) -> Result<Option<usize>, &'static str> {
        const TOO_LONG: &str = "the trailers are too long";
        let before = self.begun.len();
        // Only an empty line ends them, so only a new line is worth a look.
        let complete = if before == 0 {
            parse_trailers(input)?
        } else {
            let room = MAX_TRAILER_BYTES.saturating_sub(before).min(input.len());
            self.begun.extend_from_slice(&input[..room]);
            if input[..room].contains(&b'\n') {
                parse_trailers(&self.begun)?
            } else {
                None
            }
        };
        let length = match &complete {
            Some((length, _)) => *length,
            None if before == 0 => input.len(),
            None => before + input.len(),
        };
        if length >= MAX_TRAILER_BYTES {
            return Err(TOO_LONG);
        }
        let Some((length, map)) = complete else {
            if before == 0 {
                self.begun.extend_from_slice(input);
            }
            return Ok(None);
        };
        self.begun = Vec::new();
        self.map = (!map.is_empty()).then(|| Box::new(map));
        Ok(Some(length - before))
    }
}

/// Their length and what may pass of them; `None`: they are not all there.
fn parse_trailers(section: &[u8]) -> Result<Option<(usize, HeaderMap)>, &'static str> {
    const MALFORMED: &str = "the trailers are malformed";
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let (length, found) = match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete(complete)) => complete,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("there are too many trailers"),
        Err(_) => return Err(MALFORMED),
    };
    let bare = |(at, byte): (usize, &u8)| *byte == b'\n' && (at == 0 || section[at - 1] != b'\r');
    if section[..length].iter().enumerate().any(bare) {
        return Err(MALFORMED);
    }
    let mut map = HeaderMap::with_capacity(found.len());
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MALFORMED)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| MALFORMED)?;
        if may_trail(&name) {
            map.append(name, value);
        }
    }
    Ok(Some((length, map)))
}

fn may_trail(name: &HeaderName) -> bool {
    !KnownSet::NO_TRAILER.has(Known::of(name.as_str().as_bytes()))
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Writes what goes around one body.
#[derive(Debug, Default)]
pub struct Encoder {
    length: BodyLength,
    /// Of an exact length.
    remaining: u64,
    in_chunk: bool,
}

impl Encoder {
    pub fn new(length: BodyLength) -> Self {
        Self {
            length,
            remaining: if let BodyLength::Exact(length) = length {
                length
            } else {
                0
            },
            in_chunk: false,
        }
    }

    /// Writes what precedes the next `count` bytes of data.
    pub fn before(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self.length {
            BodyLength::None | BodyLength::Exact(_) => {
                let remaining = self.remaining.checked_sub(count as u64);
                self.remaining = remaining.ok_or("the body is longer than its head said")?;
            }
            BodyLength::Chunked if count > 0 => {
                write_hex(count, out);
                self.in_chunk = true;
            }
            BodyLength::Chunked | BodyLength::UntilClose => {}
        }
        Ok(())
    }

    /// Writes what follows them.
    pub fn after(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.in_chunk) {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes what ends the body. Only chunks can carry trailers; what cannot be one is left out.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.remaining > 0 {
            return Err("the body is shorter than its head said");
        }
        if self.length == BodyLength::Chunked {
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| may_trail(name)) {
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// The line with a chunk's size.
fn write_hex(count: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; 18];
    line[16] = b'\r';
    line[17] = b'\n';
    let mut start = 16;
    let mut rest = count;
    while rest > 0 {
        start -= 1;
        line[start] = DIGITS[rest & 15];
        rest >>= 4;
    }
    out.extend_from_slice(&line[start..]);
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
