//! What the parts of an agent need to send something.

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::ends::Ends;
use crate::crypto::random::Seeded;
use crate::time::Now;
use crate::wire::probe::Probe;
use crate::wireguard::device::Device;
use crate::wireguard::message::TRANSPORT_HEADER_LENGTH;
use crate::wireguard::peer::PeerIndex;

/// One turn.
pub(super) struct AgentTurn<'a> {
    pub device: &'a mut Device,
    pub locality: &'a mut Locality,
    pub random: &'a mut Seeded,
    pub scratch: &'a mut [u8],
    pub now: Now,
    pub out: &'a mut dyn AgentOutput,
}

impl AgentTurn<'_> {
    /// Sends a probe, padded to `length` at least; whether there was a session.
    pub fn send_probe(&mut self, peer: PeerIndex, to: Ends, probe: &Probe, length: usize) -> bool {
        let text = &mut self.scratch[TRANSPORT_HEADER_LENGTH..];
        let written = probe.write(text);
        let length = written.max(length);
        text[written..length].fill(0);
        let Some(sealed) = self.device.seal_probe(peer, self.scratch, length, self.now) else { return false };
        to.send(&self.scratch[..sealed], self.out);
        true
    }
}
