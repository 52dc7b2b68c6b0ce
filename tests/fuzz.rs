//! No input panics: every fuzz target takes its committed corpus and damaged copies of it, the same ones on every run.
//! `tests/fuzz/README.md` says how a fuzzer that is guided by coverage runs the same targets and feeds the corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

#[path = "fuzz/targets/mod.rs"]
mod targets;

/// So many times more damage than the gate does, for whoever has the time.
const MORE: &str = "TSUNAGI_FUZZ_TIMES";
/// Of one input on a busy machine: what is worse than linear takes minutes.
const SLOWEST: Duration = Duration::from_secs(20);
/// Damage does not make inputs longer than this.
const LONGEST_BYTES: usize = 16 << 10;

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    /// How often the corpus is damaged.
    rounds: usize,
    /// Pieces that meet the edges of what it reads.
    pieces: &'static [&'static str],
}

fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// In the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(corpus_folder(name)).expect("a corpus");
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "the corpus of {name} is gone");
    let read = |path: &PathBuf| fs::read(path).expect("a file of the corpus");
    paths.iter().map(read).collect()
}

/// Shows the input under way to whoever a panic concerns.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was: b\"{}\"", self.0.escape_ascii());
        }
    }
}

impl Target {
    fn takes(&self, input: &[u8]) -> bool {
        let shown = Shown(input);
        let start = Instant::now();
        let taken = (self.run)(shown.0);
        assert!(start.elapsed() < SLOWEST, "{} took {:?}", self.name, start.elapsed());
        taken
    }

    /// How many of the damaged inputs were worth anything.
    fn damage(&self, taken: &[Vec<u8>], corpus: &[Vec<u8>]) -> usize {
        let mut random = StdRng::seed_from_u64(7);
        let times: usize = std::env::var(MORE)
            .ok()
            .and_then(|times| times.parse().ok())
            .unwrap_or(1);
        let inputs = (0..self.rounds * times).map(|_| damaged(taken, corpus, self.pieces, &mut random));
        inputs.filter(|input| self.takes(input)).count()
    }

    fn replay(&self) {
        let corpus = corpus(self.name);
        let taken: Vec<Vec<u8>> = corpus.iter().filter(|input| self.takes(input)).cloned().collect();
        let worth = taken.len();
        assert!(worth >= 3, "of the corpus of {} only {worth} are taken", self.name);
        let worth = self.damage(&taken, &corpus);
        // Else it tests the first refusal and nothing behind it.
        assert!(
            worth * 60 > self.rounds,
            "of the damaged inputs of {} only {worth} are taken",
            self.name
        );
    }
}

fn piece_of(input: &[u8], longest: usize, random: &mut StdRng) -> Vec<u8> {
    let start = random.random_range(0..=input.len());
    let end = (start + random.random_range(0..longest)).min(input.len());
    input[start..end].to_vec()
}

fn one_of<'a>(corpus: &'a [Vec<u8>], random: &mut StdRng) -> &'a [u8] {
    &corpus[random.random_range(0..corpus.len())]
}

/// An input with one to three changes, more often one that was taken than any.
fn damaged(taken: &[Vec<u8>], corpus: &[Vec<u8>], pieces: &[&str], random: &mut StdRng) -> Vec<u8> {
    let from = if random.random_range(0..4) == 0 { corpus } else { taken };
    let mut input = one_of(from, random).to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=input.len());
        let to = (at + random.random_range(0..12)).min(input.len());
        let new = match random.random_range(0..7) {
            0 => Vec::new(),
            1 => piece_of(one_of(corpus, random), 80, random),
            2 => piece_of(&input, 200, random),
            3 => vec![random.next_u32() as u8],
            4 if to > at => vec![input[at] ^ (1 << random.random_range(0..8))],
            _ if pieces.is_empty() => vec![random.next_u32() as u8; random.random_range(1..9)],
            _ => pieces[random.random_range(0..pieces.len())].as_bytes().to_vec(),
        };
        let to = if random.random() { at } else { to };
        input.splice(at..to, new);
    }
    input.truncate(LONGEST_BYTES);
    input
}

#[test]
fn no_yaml_panics_its_admission_and_what_is_admitted_a_proxy_takes() {
    let pieces = &[
        "\n",
        "\t",
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "<<: *a",
        "!!str ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "? ",
        "|\n",
        "'",
        "\"",
        "\\",
        "#",
        "%YAML 1.2\n",
        "\u{feff}",
        "\0",
        "\u{85}",
        "é",
        "-1",
        "1e999",
        "null",
        "true",
        "''",
        "\r",
        "99999999999999999999",
        "kind: List\nitems:\n",
        "  ",
        "regex: '(a*)*b'",
        "exact: a",
        "prefix: /",
        "0.0001",
        "*",
        "match: [{uri: {prefix: /}}]",
        "route: [{destination: {host: a}}]",
        "10.0.0.0/8",
        "1h",
        "%REQ(a)%",
        "weight: 1",
    ];
    Target {
        name: "admission",
        run: targets::admission,
        rounds: 2_500,
        pieces,
    }
    .replay();
}

#[test]
fn no_resource_panics_its_check_and_what_is_checked_is_decided_alike_by_index_and_scan() {
    Target {
        name: "resource",
        run: targets::resource,
        rounds: 10_000,
        pieces: &[],
    }
    .replay();
}

#[test]
fn no_request_panics_the_decision_and_the_index_answers_what_the_scan_answers() {
    Target {
        name: "decision",
        run: targets::decision,
        rounds: 800,
        pieces: &[],
    }
    .replay();
}

#[test]
fn a_regex_that_is_admitted_compiles_in_a_proxy_and_one_that_is_not_says_why() {
    let pieces = &[
        "*",
        "+",
        "?",
        "{2}",
        "{0,3}",
        "{ 2}",
        "{,2}",
        "|",
        "(",
        ")",
        "(?i)",
        "(?:",
        "(?P<a>",
        "(?U)",
        "[",
        "]",
        "[^",
        "[[:alpha:]]",
        "[]a]",
        "a-z",
        "\\d",
        "\\W",
        "\\s",
        "\\b",
        "\\B",
        "\\pL",
        "\\p{Greek}",
        "\\x41",
        "\\x{1F600}",
        "\\z",
        "\\A",
        "^",
        "$",
        ".",
        ".*",
        "é",
        "\\",
        "\\Q",
        "\\-",
        "&&",
        "--",
        "\n",
        "/",
        "aaaaaaaaaaaaaaaa",
    ];
    Target {
        name: "regex",
        run: targets::regex,
        rounds: 1_500,
        pieces,
    }
    .replay();
}

/// Run by hand when the corpus of YAML or the wire has changed: `cargo test -p tsunagi-tests --test fuzz -- --ignored`.
#[test]
#[ignore = "writes into the corpus"]
fn the_corpus_of_resources_is_made_of_the_corpus_of_yaml() {
    for (number, yaml) in corpus("admission").iter().enumerate() {
        let resources = targets::encoded(&String::from_utf8_lossy(yaml));
        for (part, bytes) in resources.into_iter().enumerate() {
            let path = corpus_folder("resource").join(format!("of-yaml-{number:03}-{part}"));
            fs::write(path, bytes).expect("a file of the corpus");
        }
    }
}
