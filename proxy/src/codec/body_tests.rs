//! Framing of bodies: at every split position, at every limit, and back.

use super::*;

/// Feeds `pieces` one after the other; the body, its trailers, and what was left of the last piece. Takes at most
/// `bite` bytes of data at a time.
fn decode(
    length: BodyLength,
    pieces: &[&[u8]],
    bite: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>, usize), &'static str> {
    let mut decoder = Decoder::new(length);
    let (mut input, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&input)? {
                Decoded::Data { skip, data } => {
                    assert!(data > 0);
                    input.drain(..skip);
                    // Asked again before anything is taken, it says the same.
                    assert_eq!(decoder.decode(&input), Ok(Decoded::Data { skip: 0, data }));
                    let taken = data.min(bite);
                    body.extend(input.drain(..taken));
                    decoder.consume(taken);
                }
                Decoded::More { skip } => {
                    input.drain(..skip);
                    break;
                }
                Decoded::End { skip } => {
                    input.drain(..skip);
                    assert!(decoder.is_over());
                    assert_eq!(decoder.decode(&input), Ok(Decoded::End { skip: 0 }));
                    break;
                }
            }
        }
    }
    if !decoder.is_over() && !decoder.ends_at_close() {
        return Err("incomplete");
    }
    let trailers = decoder.take_trailers();
    Ok((body, trailers, input.len()))
}

fn chunks(text: &str) -> Result<(Vec<u8>, Option<HeaderMap>, usize), &'static str> {
    decode(BodyLength::Chunked, &[text.as_bytes()], usize::MAX)
}

#[test]
fn no_body_leaves_everything_to_the_next_message() {
    for length in [BodyLength::None, BodyLength::Exact(0)] {
        assert_eq!(decode(length, &[b"GET /"], 9), Ok((Vec::new(), None, 5)));
        assert!(Decoder::new(length).is_over());
    }
    assert!(Decoder::default().is_over());
}

#[test]
fn an_exact_body_ends_where_its_length_says() {
    assert_eq!(
        decode(BodyLength::Exact(5), &[b"he", b"", b"lloGET"], 2),
        Ok((b"hello".to_vec(), None, 3))
    );
    assert_eq!(decode(BodyLength::Exact(5), &[b"hell"], 9), Err("incomplete"));
    assert!(decode(BodyLength::Exact(u64::MAX), &[b"hell"], 9).is_err());
}

#[test]
fn a_body_until_close_takes_everything() {
    let body = decode(BodyLength::UntilClose, &[b"he", b"llo"], 3);
    assert_eq!(body, Ok((b"hello".to_vec(), None, 0)));
    assert!(Decoder::new(BodyLength::UntilClose).ends_at_close());
    assert!(!Decoder::new(BodyLength::Exact(1)).ends_at_close());
}

#[test]
fn chunks_and_trailers_are_the_same_wherever_they_are_split() {
    let text = b"5\r\nhello\r\n00A ;ext=\"1\"\r\n, wonderful\r\n1;x\r\n!\r\n0\r\nX-Sum: 1\r\nx-sum:2\r\n\r\nGET /";
    let text = [
        &text[..10],
        b"00A\t;ext=\"1\"\r\n, wonderfu\r\n1;x\r\n!\r\n0 ;y\r\nX-Sum: 1\r\nx-sum:2\r\n\r\nGET /",
    ]
    .concat();
    let (whole, trailers, rest) = decode(BodyLength::Chunked, &[&text], usize::MAX).unwrap();
    assert_eq!(whole, b"hello, wonderfu!");
    assert_eq!(rest, 5);
    let sums = trailers.unwrap();
    assert_eq!(sums.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            let (body, trailers, rest) = decode(BodyLength::Chunked, &pieces, 3).unwrap();
            assert_eq!(
                (&body, trailers.as_ref(), rest),
                (&whole, Some(&sums), 5),
                "{first} {second}"
            );
        }
    }
    for end in 0..text.len() - 5 {
        assert_eq!(
            decode(BodyLength::Chunked, &[&text[..end]], 9),
            Err("incomplete"),
            "{end}"
        );
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(decode(BodyLength::Chunked, &bytes, 1).unwrap().0, whole);
}

#[test]
fn a_body_of_chunks_can_be_empty() {
    assert_eq!(chunks("0\r\n\r\nrest"), Ok((Vec::new(), None, 4)));
    assert_eq!(chunks("000\r\n\r\n"), Ok((Vec::new(), None, 0)));
}

#[test]
fn malformed_chunks_are_refused_for_good() {
    for text in [
        "\r\n",
        ";x\r\n",
        " 5\r\n",
        "g\r\n",
        "5g\r\n",
        "-5\r\n",
        "0x5\r\n",
        "+5\r\n",
        "5\n",
        "5\r5",
        "5 5\r\n",
        "5;x\n",
        "5 x\r\n",
        "5;x\ry",
        "5\r\nhelloX",
        "5\r\nhello\rX",
        "5\r\nhello\n",
        "10000000000000000\r\n",
        "ffffffffffffffff0\r\n",
        "5\r\nhello0\r\n",
        "0\r\na b\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na: b\n\r\n",
        "0\r\na: b\r\n\n",
        "0\r\n\n",
        "0\r\na: \0\r\n\r\n",
        "0\r\n\rx",
        "0\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let mut decoder = Decoder::new(BodyLength::Chunked);
        let mut input = text.as_bytes();
        let error = loop {
            match decoder.decode(input) {
                Ok(Decoded::Data { skip, data }) => {
                    decoder.consume(data);
                    input = &input[skip + data..];
                }
                Ok(other) => panic!("{text:?}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_ne!(error, "", "{text:?}");
        assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(error), "{text:?}");
        assert!(!decoder.is_over());
    }
}

#[test]
fn the_largest_chunk_size_is_understood() {
    let mut decoder = Decoder::new(BodyLength::Chunked);
    let seen = decoder.decode(b"ffffffffffffffff\r\nabc");
    assert_eq!(seen, Ok(Decoded::Data { skip: 18, data: 3 }));
}

#[test]
fn extensions_and_other_padding_of_a_body_are_bounded() {
    let body = |chunk: &str, times: usize| chunks(&(chunk.repeat(times) + "0\r\n\r\n"));
    let extension = "x".repeat(1000);
    for chunk in [
        format!("1;{extension}\r\na\r\n"),
        format!("1{}\r\na\r\n", " ".repeat(1000)),
        format!("{}1\r\na\r\n", "0".repeat(1016)),
    ] {
        assert!(body(&chunk, 15).is_ok());
        assert_eq!(body(&chunk, 20), Err("the chunk extensions are too long"));
    }
}

#[test]
fn trailers_are_bounded_in_number_and_size() {
    let trailers = |count: usize| chunks(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(count)));
    assert_eq!(trailers(100).unwrap().1.unwrap().len(), 100);
    assert!(trailers(101).is_err());
    let sized = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "x".repeat(bytes));
    assert!(chunks(&sized(16_000)).is_ok());
    let long = sized(17_000);
    assert_eq!(chunks(&long), Err("the trailers are too long"));
    let bytes: Vec<&[u8]> = long.as_bytes().chunks(100).collect();
    assert_eq!(decode(BodyLength::Chunked, &bytes, 9), Err("the trailers are too long"));
    let endless: Vec<&[u8]> = long.as_bytes()[..16_900].chunks(100).collect();
    assert_eq!(
        decode(BodyLength::Chunked, &endless, 9),
        Err("the trailers are too long")
    );
}

#[test]
fn trailers_cannot_frame_or_route_or_reach_the_next_hop() {
    let text = "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nConnection: x\r\nTE: trailers\r\n\
                Trailer: y\r\nUpgrade: h2c\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nHTTP2-Settings: 1\r\nExpect: 100-continue\r\n\
                Grpc-Status: 0\r\n\r\n";
    let (_, trailers, _) = chunks(text).unwrap();
    let trailers = trailers.unwrap();
    assert_eq!(
        trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["grpc-status"]
    );
    assert_eq!(chunks("0\r\nHost: evil\r\n\r\n"), Ok((Vec::new(), None, 0)));
}

fn encode(length: BodyLength, pieces: &[&[u8]], trailers: Option<&HeaderMap>) -> Result<Vec<u8>, &'static str> {
    let mut encoder = Encoder::new(length);
    let mut out = Vec::new();
    for piece in pieces {
        encoder.before(piece.len(), &mut out)?;
        out.extend_from_slice(piece);
        encoder.after(&mut out);
    }
    encoder.finish(trailers, &mut out)?;
    Ok(out)
}

#[test]
fn chunks_are_written_with_their_sizes_and_trailers() {
    let mut trailers = HeaderMap::new();
    for (name, value) in [("grpc-status", "0"), ("content-length", "5"), ("x", "1"), ("x", "2")] {
        trailers.append(name, HeaderValue::from_static(value));
    }
    let long = vec![b'x'; 0x1234];
    let out = encode(BodyLength::Chunked, &[b"hello", b"", &long], Some(&trailers)).unwrap();
    let text = String::from_utf8(out).unwrap();
    let rest = text.strip_prefix("5\r\nhello\r\n1234\r\nx").unwrap();
    assert!(rest.ends_with("x\r\n0\r\ngrpc-status: 0\r\nx: 1\r\nx: 2\r\n\r\n"));
    assert_eq!(encode(BodyLength::Chunked, &[], None), Ok(b"0\r\n\r\n".to_vec()));
}

#[test]
fn what_is_not_chunked_is_written_as_it_is() {
    assert_eq!(
        encode(BodyLength::Exact(5), &[b"he", b"llo"], None),
        Ok(b"hello".to_vec())
    );
    assert_eq!(
        encode(BodyLength::UntilClose, &[b"he", b"llo"], None),
        Ok(b"hello".to_vec())
    );
    assert_eq!(
        encode(BodyLength::None, &[b""], Some(&HeaderMap::new())),
        Ok(Vec::new())
    );
}

#[test]
fn a_body_of_another_length_than_promised_is_refused() {
    for (length, pieces) in [
        (BodyLength::Exact(5), &[&b"hell"[..]][..]),
        (BodyLength::Exact(5), &[b"hello", b"!"]),
        (BodyLength::Exact(0), &[b"!"]),
        (BodyLength::None, &[b"!"]),
        (BodyLength::Exact(1), &[]),
    ] {
        assert!(encode(length, pieces, None).is_err(), "{length:?}");
    }
}

/// Seeded, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn what_is_encoded_decodes_to_the_same_in_pieces_of_any_size() {
    let mut dice = Dice(7);
    for _ in 0..2_000 {
        let body: Vec<u8> = (0..dice.below(300)).map(|_| dice.below(256) as u8).collect();
        let pieces: Vec<&[u8]> = body.chunks(1 + dice.below(40)).collect();
        for length in [BodyLength::Chunked, BodyLength::Exact(body.len() as u64)] {
            let out = encode(length, &pieces, None).unwrap();
            let split: Vec<&[u8]> = out.chunks(1 + dice.below(20)).collect();
            let decoded = decode(length, &split, 1 + dice.below(50));
            if !out.is_empty() {
                assert_eq!(decoded, Ok((body.clone(), None, 0)));
            }
        }
    }
}

#[test]
fn random_chunks_end_the_same_whole_and_in_pieces_and_never_panic() {
    let mut dice = Dice(99);
    let words: [&[u8]; 14] = [
        b"5\r\nhello\r\n",
        b"0\r\n",
        b"\r\n",
        b"a: b\r\n",
        b"1",
        b"f",
        b";x=y",
        b"\r",
        b"\n",
        b" ",
        b"x",
        b"0\r\n\r\n",
        b"host: a\r\n",
        b"\0",
    ];
    for _ in 0..20_000 {
        let mut input = Vec::new();
        for _ in 0..dice.below(12) {
            input.extend_from_slice(words[dice.below(words.len())]);
        }
        let whole = decode(BodyLength::Chunked, &[&input], usize::MAX);
        let split: Vec<&[u8]> = input.chunks(1 + dice.below(5)).collect();
        let pieces = decode(BodyLength::Chunked, &split, 1 + dice.below(9));
        // What is wrong with a trailer is said at the end of its line.
        assert_eq!(pieces.ok(), whole.ok(), "{:?}", String::from_utf8_lossy(&input));
    }
}
