//! The STUN responder.
//!
//! A request can be as short as 20 bytes and its answer is at least 32. So that nobody uses us to amplify: an
//! address has a small bucket; an answer has the mapped address and nothing else; and answers that still are
//! longer than their requests share one bucket for the whole world, which bounds what all victims together get
//! in excess to some kilobytes a second. Our own agents pad their requests.

use crate::figures::{DropReason, Traffic};
use crate::relay::Arrival;
use crate::relay::sources::can_be_answered;
use crate::relay::state::Turn;
use crate::wire::stun::{BindingRequest, MAX_ANSWER_LENGTH};

/// Answers `datagram`.
pub(super) fn answer(turn: &mut Turn<'_>, datagram: &[u8], arrival: Arrival) -> Result<(), DropReason> {
    let source = arrival.source();
    let request = BindingRequest::parse(datagram)
        .filter(|_| can_be_answered(source))
        .ok_or(DropReason::StunMalformed)?;
    let mut buffer = [0; MAX_ANSWER_LENGTH];
    let length = request.answer(source, &mut buffer);
    let surplus = length.saturating_sub(datagram.len());
    let state = &mut *turn.state;
    if !state.admission.stun(source, surplus, &state.limits, turn.now.instant) {
        return Err(DropReason::StunLimit);
    }
    state.stats.add(Traffic::Stun, length);
    state.stats.add(Traffic::Sent, length);
    let port = if request.changes_port() { arrival.port.other() } else { arrival.port };
    turn.out.send(arrival.path, port, &buffer[..length]);
    Ok(())
}
