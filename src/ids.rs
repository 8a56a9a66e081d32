//! The names that parties, peers and relays go by on the wire.

use std::borrow::Borrow;
use std::fmt;
use std::rc::Rc;

/// Longest id, in bytes (and characters: ids are ASCII).
pub const MAX_ID_LENGTH: usize = 64;

/// Whether `text` may be an id: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or a digit. (`..` is a path
/// segment to every HTTP client, and `-x` an option to every command line.)
pub fn is_valid_id(text: &str) -> bool {
    is_storable_id(text) && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// Whether `text` was an id at any time: earlier versions took any first character.
fn is_storable_id(text: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Rc<str>);

        impl $name {
            /// The id spelled `text`, or `None` if that is no valid id.
            pub fn new(text: &str) -> Option<Self> {
                is_valid_id(text).then(|| Self(text.into()))
            }

            /// The id spelled `text` in a state file, which an earlier version may have written.
            pub fn stored(text: &str) -> Option<Self> {
                is_storable_id(text).then(|| Self(text.into()))
            }

            /// The id as it is spelled on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Names a player's machine.
    PeerId
}
id! {
    /// Names a virtual LAN, and is the secret that friends share.
    PartyId
}
id! {
    /// Names a relay.
    RelayId
}

/// Names one WebSocket session while it lasts; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        assert!(is_valid_id("A-z_0.9"));
        assert!(is_valid_id(&"x".repeat(64)));
        for bad in ["", "a b", "a/b", "é", "a\0", "a%20", &"x".repeat(65)] {
            assert!(PeerId::new(bad).is_none() && PeerId::stored(bad).is_none(), "{bad:?}");
        }
        for old in [".", "..", "-x", "_x", ".x"] {
            assert!(PeerId::new(old).is_none() && PeerId::stored(old).is_some(), "{old:?}");
        }
    }
}
