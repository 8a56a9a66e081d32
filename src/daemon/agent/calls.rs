//! Members on the same LAN, who find each other when the server is away.

use super::{AgentLoop, Duration};
use crate::agent::lan::LAN_PORT;
use crate::net::lan_socket::LanSocket;
use smol::Timer;
use std::rc::Rc;

/// Room for a datagram, in bytes; what is longer is no call.
const DATAGRAM: usize = 256;
/// After trouble with the socket.
const LATER: Duration = Duration::from_secs(60);

impl AgentLoop {
    /// Listens to calls on the LAN, for ever.
    pub(super) async fn keep_listening(self: Rc<Self>) {
        loop {
            let error = match LanSocket::open(LAN_PORT) {
                Ok(socket) => self.hear_calls(&socket).await,
                Err(error) => error,
            };
            log::debug!("calls on the LAN are not heard: {error}");
            Timer::after(LATER).await;
        }
    }

    async fn hear_calls(&self, socket: &LanSocket) -> std::io::Error {
        let mut buffer = [0; DATAGRAM];
        loop {
            match socket.receive(&mut buffer).await {
                Ok((length, from)) => self.take_call(&mut buffer[..length], from),
                Err(error) => return error,
            }
        }
    }

    /// Whether the server is there decides whether others are called.
    pub(super) fn tell_alone(&self) {
        let is_alone = {
            let session = self.session.borrow();
            session.is_local() || !session.is_member()
        };
        if self.is_alone.replace(is_alone) != is_alone {
            self.agent.borrow_mut().set_alone(is_alone, (self.clock)());
            self.arm();
        }
    }
}
