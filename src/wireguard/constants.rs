//! The numbers of the protocol: first the paper's, by its names, then our own choices.

use std::time::Duration;

/// The Noise protocol that the handshake is an instance of (5.4).
pub const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// What is hashed first, Noise's prologue (5.4).
pub const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Sets the key of mac1 apart (5.4).
pub const LABEL_MAC1: &[u8] = b"mac1----";
/// Sets the key of cookie replies apart (5.4).
pub const LABEL_COOKIE: &[u8] = b"cookie--";

/// From this many messages on, a key is renewed (6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// The number of messages that a key may seal or open (6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// At this age the initiator renews a key when it sends (6.1).
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// At this age a key is of no use any more (6.1).
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// For so long a handshake is retried (6.1).
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// The time between two initiations (6.1).
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without an answer of our own, a keepalive tells the peer that its data arrived (6.1).
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The age of a key at which the initiator renews it when it receives (6.2): early enough for a keepalive
/// and a retry before the key is of no use.
pub const REKEY_ON_RECEIVE_TIME: Duration = Duration::from_secs(165);
/// After so long without a new session all key material is zeroed (6.3).
pub const ZERO_KEYS_TIME: Duration = Duration::from_secs(3 * 180);
/// How long a cookie, and the secret it is made from, lives (5.4.7).
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);
/// Sealed packets are padded to a multiple of this many bytes (5.4.6).
pub const PADDING: usize = 16;

/// At most this is added to [`REKEY_TIMEOUT`], so that two peers do not keep initiating at the same time.
pub const MAX_JITTER: Duration = Duration::from_millis(333);
/// A peer's initiations are accepted at most this often, as Linux does: `INITIATIONS_PER_SECOND` in
/// <https://github.com/torvalds/linux/blob/v6.12/drivers/net/wireguard/messages.h>.
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// A peer that has shown up somewhere else is asked there whether it is it at most this often: sooner than the protocol
/// itself would try again, as it hears nothing meanwhile.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// X25519 computations that an initiation may cost: one for its static key, one for the DH of both static keys the
/// first time, our ephemeral key, and two with that.
pub const INITIATION_COST: u32 = 5;
/// Those of them that are left when its sender is known.
pub const RESPONDING_COST: u32 = 3;
/// X25519 computations that a response costs.
pub const RESPONSE_COST: u32 = 2;
/// The part of one core, in percent, that goes into handshake messages whose source may be spoofed.
pub const UNPROVEN_SHARE: u128 = 5;
/// The part that goes into those with a cookie. Strangers can cost no more than both together.
pub const PROVEN_SHARE: u128 = 20;
/// The part that is kept for peers from where they are known to be, and for answers that we asked for.
pub const EXPECTED_SHARE: u128 = 25;
/// Whole handshakes that each of these parts can do at once, however slow the machine: a party that comes back after a
/// restart.
pub const SHARE_BURST: u32 = 60;
/// An X25519 computation is never taken to be faster or slower than these two, whatever was measured: no machine is.
pub const X25519_FASTEST: Duration = Duration::from_micros(10);
/// See [`X25519_FASTEST`].
pub const X25519_SLOWEST: Duration = Duration::from_millis(20);
/// What an X25519 computation takes on a small router, for who has not measured it.
pub const X25519_TYPICAL: Duration = Duration::from_micros(300);
/// Packets kept per peer while its session comes up; further ones push out the oldest.
pub const MAX_STAGED: usize = 16;
/// Bytes kept for all peers together while their sessions come up.
pub const MAX_STAGED_BYTES: usize = 512 * 1024;
/// Messages waiting to be polled, at 200 bytes each; a handshake past this is retried by its initiator.
pub const MAX_OUTBOX: usize = 256;
