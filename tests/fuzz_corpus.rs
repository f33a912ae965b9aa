//! The fuzzers' properties without a fuzzer: the corpus, and changed copies of it, a bounded number of them. `fuzz/` has
//! the same properties for `cargo fuzz`, which looks further.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail loudly"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use properties::{Property, TARGETS};

/// Changed copies for each target. The whole takes seconds.
const COPIES: u64 = 4000;

/// What a hostile or broken answer is made of.
const WORDS: [&str; 26] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "10.00",
    "10.001",
    "\"10.00\"",
    "1e1",
    "1e400000",
    "99999999999999999999",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"USD\"",
    "\"AUD\"",
    "\"CAPTURED\"",
    "\"SUCCESSFUL\"",
    "[]",
    "{}",
    ",",
    "\"",
    "\n====\n",
    "200 ",
    "503 ",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "100101782114",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn hold(target: &str, property: Property, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| property(input))).is_err() {
        let shown = String::from_utf8_lossy(&input[..input.len().min(4096)]).into_owned();
        panic!("{target} does not hold for {} bytes:\n{shown}", input.len());
    }
}

/// A copy with a few places changed: cut, doubled, overwritten, or joined with a piece of another.
fn changed(draw: &mut SmallRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut copy = corpus.choose(draw).unwrap().clone();
    for _ in 0..draw.random_range(1..6) {
        let at = draw.random_range(0..=copy.len());
        let end = draw.random_range(at..=copy.len().min(at + 40));
        match draw.random_range(0..6) {
            0 => drop(copy.drain(at..end)),
            1 => {
                let piece = copy[at..end].to_vec();
                copy.splice(at..at, piece);
            }
            2 if at < copy.len() => copy[at] = draw.random(),
            3 => {
                let word = WORDS.choose(draw).unwrap();
                copy.splice(at..end, word.bytes());
            }
            // A whole value of the document is replaced: from a colon to the next comma.
            4 => {
                let colon = copy[at..]
                    .iter()
                    .position(|byte| *byte == b':')
                    .map(|found| at + found + 1);
                if let Some(from) = colon {
                    let to = copy[from..].iter().position(|byte| matches!(byte, b',' | b'}' | b'\n'));
                    let to = to.map_or(copy.len(), |found| from + found);
                    let word = WORDS.choose(draw).unwrap();
                    copy.splice(from..to, word.bytes());
                }
            }
            _ => {
                let other = corpus.choose(draw).unwrap();
                let from = draw.random_range(0..=other.len());
                let to = draw.random_range(from..=other.len());
                copy.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    copy
}

#[test]
fn every_target_holds_for_its_corpus() {
    for (target, property) in TARGETS {
        for input in corpus(target) {
            hold(target, property, &input);
        }
    }
}

#[test]
fn every_target_holds_for_changed_copies_of_its_corpus() {
    for (number, (target, property)) in TARGETS.into_iter().enumerate() {
        let corpus = corpus(target);
        for copy in 0..COPIES {
            let mut draw = SmallRng::seed_from_u64(copy * 100 + u64::try_from(number).unwrap());
            hold(target, property, &changed(&mut draw, &corpus));
        }
    }
}

#[test]
fn every_target_holds_for_every_beginning_of_its_corpus() {
    for (target, property) in TARGETS {
        for input in corpus(target) {
            for cut in 0..input.len() {
                hold(target, property, &input[..cut]);
            }
        }
    }
}

#[test]
fn every_target_takes_little_time_for_as_much_as_an_answer_may_have() {
    let most = 256 * 1024;
    for (target, property) in TARGETS {
        for unit in [
            "[",
            "{\"events\":",
            "{\"a\":[",
            "1",
            "\"\\u0000\",",
            " ",
            "\n",
            "a.b=",
            "[[account]]\n",
            "a.",
            "\u{1f4b8}",
            "<",
            "state=dead,",
        ] {
            for head in ["", "200 200\n", "200 200\n{\"amount\":", "200 200\n{\"events\":["] {
                let input = format!("{head}{}", unit.repeat(most / unit.len()));
                hold(target, property, input.as_bytes());
            }
        }
    }
}

#[test]
fn every_directory_of_the_corpus_belongs_to_a_target_and_every_target_has_a_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut there: Vec<String> = fs::read_dir(root.join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut targets: Vec<String> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    targets.sort();
    assert_eq!(there, targets);
    for target in targets {
        assert!(root.join(format!("fuzz_targets/{target}.rs")).exists(), "{target}");
    }
}
