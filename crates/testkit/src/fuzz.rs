//! Fuzzing on stable Rust, as a test among others: recorded inputs are damaged in ways that damage parsers, for as long
//! as the environment says.
//!
//! - `L2GW_FUZZ_SECONDS`: how long each target runs, 3 seconds where it is not set.
//! - `L2GW_FUZZ_SEED`: where the random numbers begin; a failure prints the seed that repeats it.
//!
//! There is no measuring of coverage: the recordings are what reaches deep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

const DEFAULT_SECONDS: f64 = 3.0;

/// Most damages to one input. Most parsers stop at the first one, but not those that recover.
const MOST_DAMAGES: usize = 4;

/// The longest piece that is copied, moved or dropped, in bytes.
const LONGEST_PIECE: usize = 200;

/// Damages inputs from `recordings` and hands them to `check`, which panics if something is wrong, until time is over.
/// The first inputs are the recordings themselves. `dictionary` has texts that mean something in the format.
///
/// Returns how many inputs were tried.
///
/// # Panics
/// When `check` does; what to set to repeat it is printed before.
pub fn run(recordings: &[Vec<u8>], dictionary: &[&str], mut check: impl FnMut(&[u8])) -> u64 {
    assert!(!recordings.is_empty(), "fuzzing begins with recordings");
    let seconds = variable("L2GW_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let first = variable("L2GW_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    for recording in recordings {
        check(recording);
    }
    let mut tried = 0;
    while Instant::now() < end {
        // A seed for each input, so that one alone can be repeated.
        let seed = first.wrapping_add(tried);
        let input = damaged(&mut Rng::with_seed(seed), recordings, dictionary);
        tried += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            println!(
                "L2GW_FUZZ_SEED={seed} repeats this input:\n{}",
                input.escape_ascii()
            );
            resume_unwind(panic);
        }
    }
    println!("{tried} inputs from seed {first}");
    tried
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn damaged(rng: &mut Rng, recordings: &[Vec<u8>], dictionary: &[&str]) -> Vec<u8> {
    let mut input = rng.choice(recordings).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=MOST_DAMAGES) {
        damage(rng, &mut input, recordings, dictionary);
    }
    input
}

fn damage(rng: &mut Rng, input: &mut Vec<u8>, recordings: &[Vec<u8>], dictionary: &[&str]) {
    let at = rng.usize(..=input.len());
    match rng.u8(..8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        1 => input.insert(at, rng.u8(..)),
        2 => drop(input.drain(piece(rng, input))),
        3 => input.truncate(at),
        4 => {
            let copy = input.get(piece(rng, input)).unwrap_or_default().to_vec();
            insert(input, at, &copy);
        }
        5 => {
            let other = rng.choice(recordings).cloned().unwrap_or_default();
            let copy = other.get(piece(rng, &other)).unwrap_or_default();
            insert(input, at, copy);
        }
        6 => {
            let word = rng.choice(dictionary).copied().unwrap_or_default();
            insert(input, at, word.as_bytes());
        }
        _ => {
            // In place of something: most formats survive that more often than an insertion.
            let range = piece(rng, input);
            let word = rng.choice(dictionary).copied().unwrap_or_default();
            input.splice(range, word.bytes());
        }
    }
}

fn piece(rng: &mut Rng, of: &[u8]) -> std::ops::Range<usize> {
    let begin = rng.usize(..=of.len());
    begin..(begin + rng.usize(..=LONGEST_PIECE)).min(of.len())
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_input_and_damages_it() {
        let recordings = [b"{\"a\":[1,2,3]}".to_vec(), b"{}".to_vec()];
        let of = |seed| damaged(&mut Rng::with_seed(seed), &recordings, &["null"]);
        let all: std::collections::BTreeSet<_> = (0..1000).map(of).collect();
        assert!(all.len() > 500, "{}", all.len());
        assert!((0..1000).all(|seed| of(seed) == of(seed)));
    }
}
