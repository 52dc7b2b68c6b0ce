//! Seeded changes to messages: bytes, pieces and words that have confused parsers before.

/// The same numbers for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % limit.max(1) as u64) as usize
    }
}

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"#",
    b"?",
    b"*",
    b"/",
    b"//",
    b"0",
    b"1",
    b"5",
    b"a",
    b"F",
    b"+",
    b"-",
    b"\"",
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"chunked",
    b"http://h",
    b"OPTIONS ",
    b"HEAD ",
    b"ffffffffffffffff",
    b"Host: a\r\n",
    b"Expect: 100-continue\r\n",
    b" HTTP/1.1\r\n\r\n",
    b"18446744073709551615",
    b"\r\n ",
    b"\xc3\xa9",
];

/// One of `good` with one to three changes; pieces come from `corpus`.
pub(super) fn mutate(good: &[Vec<u8>], corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = good[dice.below(good.len())].clone();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(12)).min(bytes.len());
        match dice.below(8) {
            0 => drop(bytes.splice(at..at, [dice.below(256) as u8])),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            2 if at < bytes.len() => bytes[at] ^= 0x20,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
        }
    }
    bytes
}
