//! The same bytes to `hyper` and to this codec: what is a message, what it says and where it ends must be the same, but
//! for a list of differences, each with its reason. A corpus of good, odd and hostile messages, and seeded mutations.
//!
//! `cargo test -p tsunagi-proxy differential` runs it; `ROUNDS` is the number of mutations of each sort. A message that
//! caused trouble anywhere goes into `corpus`, where it stays.

mod corpus;
mod hyper_side;
mod mutation;
mod own_side;

use http::{HeaderMap, Method};

use mutation::Dice;

const ROUNDS: usize = 20_000;

/// One message as one side understood it.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    /// Method and target, or status and reason.
    line: String,
    version: http::Version,
    headers: HeaderMap,
    /// `None`: it did not end well.
    body: Option<(Vec<u8>, HeaderMap)>,
    /// The target has a scheme, or needs none.
    proper_target: bool,
}

/// What one side made of a connection's bytes.
#[derive(Debug, Clone, PartialEq)]
struct Understood {
    messages: Vec<Message>,
    /// Why there is not another one, where it was refused.
    refused: Option<&'static str>,
}

/// Where this codec is stricter than `hyper`, on purpose.
struct Difference {
    /// What this codec says.
    refusal: &'static str,
    reason: &'static str,
    /// What the other's next message looks like then.
    looks: fn(&Message) -> bool,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        refusal: "the request has both Transfer-Encoding and Content-Length",
        reason: "RFC 9112, 6.3: that is how requests are smuggled; hyper lets the encoding win",
        looks: |message| message.headers.contains_key("transfer-encoding"),
    },
    Difference {
        refusal: "the only Transfer-Encoding understood is chunked",
        reason: "RFC 9112, 6.1: a coding that is not understood is refused; hyper looks at the last one only, and reads \
                 a response until close",
        looks: |message| message.headers.contains_key("transfer-encoding"),
    },
    Difference {
        refusal: "the Content-Length is too large",
        reason: "beyond 63 bits others read something else; hyper takes 64",
        looks: |message| message.headers.contains_key("content-length"),
    },
    Difference {
        refusal: "the target is neither a path nor an absolute URI",
        reason: "RFC 9112, 3.2.3: a bare authority is for CONNECT only",
        looks: |message| !message.proper_target,
    },
    Difference {
        refusal: "only OPTIONS may ask for *",
        reason: "RFC 9112, 3.2.4",
        looks: |message| message.line.ends_with(" * -"),
    },
    Difference {
        refusal: "CONNECT wants a host and a port",
        reason: "RFC 9112, 3.2.3: CONNECT has the authority form only",
        looks: |message| message.line.starts_with("CONNECT "),
    },
];

/// Bodies: those that this codec alone refuses.
const BODY_DIFFERENCES: &[Difference] = &[
    Difference {
        refusal: "the trailers are malformed",
        reason: "RFC 9112, 2.2: a bare LF need not end a line; hyper takes one within the trailers",
        looks: |_| true,
    },
    Difference {
        refusal: "the chunk extensions are too long",
        reason: "leading zeros and white space of sizes count as padding too; hyper bounds extensions only",
        looks: |_| true,
    },
    Difference {
        refusal: "the trailers are too long",
        reason: "16 KiB, as hyper has it when it is not told to take larger heads",
        looks: |_| true,
    },
];

const TOO_LARGE: &str = "too large";

/// `hyper` ignores such a list; to close is what cannot go wrong.
const NOT_ASCII: &str = "a Connection that is not ASCII asks to close";

/// As Envoy does; `hyper` takes what `http::Uri` does.
const UNESCAPED: &str = "a target may have characters that clients should have escaped";

/// Says what is wrong; else which difference showed, if one did.
fn compare(
    own: &Understood,
    hyper: &Understood,
    body_refusal: Option<&'static str>,
) -> Result<Option<&'static str>, String> {
    for (at, ours) in own.messages.iter().enumerate() {
        let Some(theirs) = hyper.messages.get(at) else {
            if hyper.refused.is_some() && ours.line.contains(['"', '<', '>', '`']) {
                return Ok(Some(UNESCAPED));
            }
            return Err(format!("message {at} is one for this codec only"));
        };
        let heads = |m: &Message| (m.line.clone(), m.version, m.headers.clone());
        if heads(ours) != heads(theirs) {
            return Err(format!("message {at} has another head"));
        }
        if ours.body == theirs.body {
            continue;
        }
        if let (None, Some(refusal)) = (&ours.body, body_refusal)
            && let Some(known) = BODY_DIFFERENCES.iter().find(|known| known.refusal == refusal)
        {
            return Ok(Some(known.refusal));
        }
        return Err(format!("message {at} has another body ({body_refusal:?})"));
    }
    let next = hyper.messages.get(own.messages.len());
    match (own.refused, next) {
        (None, _) if own.messages.last().is_some_and(has_odd_connection) => Ok(Some(NOT_ASCII)),
        (None, None) if hyper.refused.is_some() => Err("only hyper refuses".to_owned()),
        (None, None) => Ok(None),
        (Some(_), None) if hyper.refused.is_some() => Ok(None),
        (Some(refusal), next) => {
            let known = DIFFERENCES.iter().find(|known| known.refusal == refusal);
            let shows = |known: &&Difference| next.is_none_or(known.looks);
            match known.filter(shows) {
                Some(known) => Ok(Some(known.refusal)),
                None => Err(format!("this codec refuses alone: {refusal}")),
            }
        }
        (None, Some(_)) => Err("one more message for hyper".to_owned()),
    }
}

fn has_odd_connection(message: &Message) -> bool {
    let values = message.headers.get_all("connection");
    values.iter().any(|value| !value.as_bytes().is_ascii())
}

/// Compares all of them and returns the differences that showed. Many must hold a message, or nothing is compared.
fn compare_all(
    inputs: &[Vec<u8>],
    own: impl Fn(&[u8]) -> (Understood, Option<&'static str>),
    hyper: impl AsyncFn(&[u8]) -> Understood,
) -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut shown = Vec::new();
    let mut with_message = 0;
    for input in inputs {
        let (ours, body_refusal) = own(input);
        let theirs = runtime.block_on(hyper(input));
        with_message += usize::from(!ours.messages.is_empty());
        match compare(&ours, &theirs, body_refusal) {
            Ok(difference) => shown.extend(difference),
            Err(wrong) => {
                let start = String::from_utf8_lossy(&input[..input.len().min(600)]);
                panic!("{wrong}\n{start:?}\nown: {ours:#?}\nhyper: {theirs:#?}");
            }
        }
    }
    assert!(with_message * 4 > inputs.len(), "{with_message} of {}", inputs.len());
    shown
}

/// Of messages that are good; pieces of all the others are put in.
fn mutations(corpus: Vec<Vec<u8>>, is_good: impl Fn(&[u8]) -> bool, seed: u64) -> Vec<Vec<u8>> {
    let corpus: Vec<_> = corpus.into_iter().filter(|input| input.len() < 2000).collect();
    let good: Vec<_> = corpus.iter().filter(|input| is_good(input)).cloned().collect();
    let mut dice = Dice::new(seed);
    (0..ROUNDS)
        .map(|_| mutation::mutate(&good, &corpus, &mut dice))
        .collect()
}

fn requests(inputs: &[Vec<u8>]) -> Vec<&'static str> {
    compare_all(inputs, own_side::requests, hyper_side::requests)
}

fn responses(inputs: &[Vec<u8>], method: &Method) -> Vec<&'static str> {
    compare_all(
        inputs,
        |input| own_side::response(input, method),
        async |input| hyper_side::response(input, method).await,
    )
}

#[test]
fn requests_mean_the_same_to_hyper_and_every_named_difference_exists() {
    let mut shown = requests(&corpus::requests());
    shown.extend(responses(&corpus::responses(), &Method::GET));
    for difference in DIFFERENCES.iter().chain(BODY_DIFFERENCES) {
        let Difference { refusal, reason, .. } = difference;
        assert!(
            shown.contains(refusal),
            "the corpus does not show: {refusal} ({reason})"
        );
    }
    assert!(shown.contains(&NOT_ASCII) && shown.contains(&UNESCAPED));
}

#[test]
fn responses_mean_the_same_to_hyper() {
    responses(&corpus::responses(), &Method::GET);
    responses(&corpus::responses(), &Method::HEAD);
}

#[test]
fn mutated_requests_mean_the_same_to_hyper() {
    let is_good = |input: &[u8]| !own_side::requests(input).0.messages.is_empty();
    requests(&mutations(corpus::requests(), is_good, 1));
}

#[test]
fn mutated_responses_mean_the_same_to_hyper() {
    let is_good = |input: &[u8]| !own_side::response(input, &Method::GET).0.messages.is_empty();
    responses(&mutations(corpus::responses(), is_good, 2), &Method::GET);
}
