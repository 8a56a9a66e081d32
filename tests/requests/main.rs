//! Seeded noise for the control API: whole requests and messages that are nearly right. A panic would end the
//! process in the builds that are shipped, so there must be none. `tests/fuzz` has the same as a target.

mod input;
mod life;

use lanrage::crypto::random::Seeded;

/// Bytes that decide one life.
const LENGTH: usize = 24_000;
const LIVES: u64 = 60;

/// The same bytes for the same seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Seeded::new(seed).fill(&mut bytes);
    bytes
}

#[test]
fn requests_that_are_nearly_right_end_in_an_answer() {
    let mut seen = life::Seen::new();
    for seed in 0..LIVES {
        for (what, count) in life::live(&noise(seed)) {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{seen:#?}");
    // Otherwise this shows nothing: everything there is to ask for was given to somebody, and refused to others.
    let count = |what: &str| seen.get(what).copied().unwrap_or(0);
    for route in lanrage::api::routes::ROUTES {
        let what = format!("{} {} 200", route.method, route.path);
        assert!(count(&what) > 0, "{what}");
    }
    for what in ["refused head", "message", "delivery", "restart", "401", "403", "404", "409", "422"] {
        assert!(count(what) > 0, "{what}");
    }
}
