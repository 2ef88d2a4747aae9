//! Random names and secrets.

use alertstorm_agent::names::RunId;
use rand::RngExt;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn letters(n: usize) -> String {
    let mut rng = rand::rng();
    (0..n).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// A random secret of 160 bits.
pub fn token() -> String {
    letters(32)
}

/// A random name of 40 bits, for a platform.
pub fn name() -> String {
    letters(8)
}

/// A random id of a run, of 39 bits.
pub fn run_id() -> RunId {
    loop {
        // A name may begin with a digit, which an id may not.
        if let Ok(id) = name().parse() {
            return id;
        }
    }
}
