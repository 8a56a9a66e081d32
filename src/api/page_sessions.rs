//! Who uses the owner's pages: a link that is good once, and then a token that the page keeps. Both live here only, and
//! end with the process.

use crate::control::tokens::TokenHash;
use crate::crypto::{blake2s, constant_time, random};
use crate::time::Instant;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

/// How long a link is good.
pub const SETUP_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long a page may go on.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long after it was opened a page may have what is worth more than the page itself.
pub const FRESH: Duration = Duration::from_secs(10 * 60);
/// How many there are of each; one more ends the oldest.
const MOST: usize = 16;

/// Secrets that are good until then.
#[derive(Default)]
struct Passes(Vec<(TokenHash, Instant)>);

impl Passes {
    fn issue(&mut self, life: Duration, now: Instant) -> String {
        self.0.retain(|(_, end)| now < *end);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let secret = URL_SAFE_NO_PAD.encode(random::bytes::<32>());
        self.0.push((blake2s::hash(&[secret.as_bytes()]), now + life));
        secret
    }

    fn find(&self, secret: &str, now: Instant) -> Option<usize> {
        let hash = blake2s::hash(&[secret.as_bytes()]);
        self.0.iter().position(|(known, end)| constant_time::eq(known, &hash) && now < *end)
    }

    fn end(&mut self, secret: &str, now: Instant) -> bool {
        let found = self.find(secret, now);
        found.map(|index| self.0.remove(index)).is_some()
    }
}

/// Links and pages.
#[derive(Default)]
pub struct PageSessions {
    setups: Passes,
    sessions: Passes,
}

impl PageSessions {
    /// A secret for a link.
    pub fn offer(&mut self, now: Instant) -> String {
        self.setups.issue(SETUP_LIFE, now)
    }

    /// Uses up a link's secret. Returns whether it was good.
    pub fn take(&mut self, setup: &str, now: Instant) -> bool {
        self.setups.end(setup, now)
    }

    /// A token for a page.
    pub fn open(&mut self, now: Instant) -> String {
        self.sessions.issue(SESSION_LIFE, now)
    }

    /// Whether a page has this token.
    pub fn knows(&self, token: &str, now: Instant) -> bool {
        !self.sessions.0.is_empty() && self.sessions.find(token, now).is_some()
    }

    /// Whether a page has this token that was opened just now.
    pub fn is_fresh(&self, token: &str, now: Instant) -> bool {
        self.sessions.find(token, now).is_some_and(|at| now + SESSION_LIFE < self.sessions.0[at].1 + FRESH)
    }

    /// Ends the page with this token. Returns whether there was one.
    pub fn close(&mut self, token: &str, now: Instant) -> bool {
        self.sessions.end(token, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_and_a_page_for_its_time() {
        let mut pages = PageSessions::default();
        let (start, later) = (Instant::ZERO, Instant::ZERO + SETUP_LIFE);
        let setup = pages.offer(start);
        assert!(!pages.take("x", start) && pages.take(&setup, start) && !pages.take(&setup, start));
        let setup = pages.offer(start);
        assert!(!pages.take(&setup, later), "it was good for ten minutes");
        let page = pages.open(start);
        assert!(page.len() == 43 && pages.knows(&page, later) && !pages.knows(&setup, later));
        assert!(pages.is_fresh(&page, start) && !pages.is_fresh(&page, start + FRESH));
        assert!(!pages.is_fresh(&setup, start) && !pages.is_fresh("", start));
        assert!(!pages.knows(&page, start + SESSION_LIFE));
        assert!(pages.close(&page, later) && !pages.close(&page, later) && !pages.knows(&page, later));
        let first = pages.open(start);
        (0..MOST).for_each(|_| drop(pages.open(start)));
        assert!(!pages.knows(&first, start), "one more ends the oldest");
    }
}
