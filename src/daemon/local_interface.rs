//! This machine's own interface in the virtual LAN.

use super::advice;
use super::bell::Bell;
use crate::tun::Tun;
use smol::Timer;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long after the interface is gone it is made anew.
const RETRY: Duration = Duration::from_secs(5);

/// The interface, as long as somebody [keeps](LocalInterface::keep) it.
pub struct LocalInterface {
    tun: Tun,
    buffer: RefCell<Box<[u8]>>,
    /// Rung when it is gone.
    lost: Bell,
}

impl LocalInterface {
    pub fn new(tun: Tun) -> Self {
        LocalInterface { buffer: RefCell::new(tun.buffer()), tun, lost: Bell::default() }
    }

    /// Has `handle` handle what this machine sends, up to a budget. Each packet lies `headroom` bytes behind the
    /// beginning of the buffer, and has the length given.
    pub fn turn(&self, headroom: usize, handle: impl FnMut(&mut [u8], usize)) {
        if !self.tun.turn(&mut self.buffer.borrow_mut(), headroom, handle) {
            log::warn!("the interface {} is gone: it is going to be made anew", self.tun.name());
            self.lost.ring();
        }
    }

    /// Hands a packet to this machine; whether that has taken it. With offload it may be held until [`LocalInterface::flush`].
    pub fn deliver(&self, packet: &[u8]) -> bool {
        self.tun.write(packet)
    }

    /// Hands over what was held.
    pub fn flush(&self) {
        self.tun.flush();
    }

    /// Makes it anew whenever it is gone, for ever.
    pub async fn keep(&self) {
        let mut said = String::new();
        loop {
            self.lost.rung().await;
            while !self.tun.is_open() {
                Timer::after(RETRY).await;
                match self.tun.reopen() {
                    Ok(()) => log::info!("the interface {} is back", self.tun.name()),
                    Err(error) => {
                        let error = advice::on_tun(&error);
                        if said != error {
                            log::warn!("{error}");
                        }
                        said = error;
                    }
                }
            }
            said.clear();
        }
    }
}

/// Something to wait for until there are packets.
impl AsFd for LocalInterface {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}
