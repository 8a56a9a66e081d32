//! The STUN responder.
//!
//! A request can be as short as 20 bytes and its answer is at least 32. So that nobody uses us to amplify: an
//! address has a small bucket; an answer has the mapped address and nothing else; and answers that still are
//! longer than their requests share one bucket for the whole world, which bounds what all victims together get
//! in excess to some kilobytes a second. Our own agents pad their requests.

use crate::relay::books::Books;
use crate::relay::sources::can_be_answered;
use crate::relay::stats::DropReason;
use crate::relay::{Arrival, Output};
use crate::wire::stun::{MAX_ANSWER_LENGTH, Request};

/// Answers `datagram`, which came to `port`.
pub(super) fn answer(
    books: &mut Books,
    datagram: &[u8],
    arrival: Arrival,
    out: &mut dyn Output,
) -> Result<(), DropReason> {
    let (source, now) = (arrival.source(), arrival.now);
    let request =
        Request::parse(datagram).filter(|_| can_be_answered(source)).ok_or(DropReason::StunMalformed)?;
    let mut buffer = [0; MAX_ANSWER_LENGTH];
    let length = request.answer(source, &mut buffer);
    let surplus = length.saturating_sub(datagram.len());
    if !books.admission.stun(source, surplus, &books.limits, now.instant) {
        return Err(DropReason::StunLimit);
    }
    books.stats.stun.add(length);
    books.stats.sent.add(length);
    let from = if request.changes_port() { arrival.port.other() } else { arrival.port };
    out.send(arrival.path, from, &buffer[..length]);
    Ok(())
}
