//! A message to send: what it carries beside its payload.

use super::ancillary::{CONTROL_LENGTH, ControlBuffer, write_name};
use super::backlog::Addressing;
use crate::sys::{NAME_LENGTH, OutgoingMessage};
use std::io::IoSlice;
use std::ops::Range;

/// A destination and ancillary data, as the kernel reads them.
pub struct Transmit {
    name: [u8; NAME_LENGTH],
    name_length: usize,
    control: ControlBuffer,
    /// Which slices are its payload.
    pub slices: Range<usize>,
}

impl Transmit {
    /// Not yet addressed.
    pub const EMPTY: Transmit =
        Transmit { name: [0; NAME_LENGTH], name_length: 0, control: ControlBuffer::EMPTY, slices: 0..0 };

    /// Addresses it, for datagrams of `segment` bytes each but the last if it carries several, as a socket of the
    /// family IPv6 (if `is_ipv6`) or IPv4 takes it.
    pub fn address(&mut self, addressing: Addressing, segment: Option<u16>, is_ipv6: bool) {
        let Addressing { path, class } = addressing;
        // The kernel refuses what has no name.
        self.name_length = write_name(path.remote, is_ipv6, &mut self.name).unwrap_or(0);
        self.control.write(path.remote.ip(), path.local, class, segment);
    }

    /// With its payload.
    pub fn message<'a>(&'a self, data: &'a [IoSlice<'a>]) -> OutgoingMessage<'a> {
        OutgoingMessage { name: &self.name[..self.name_length], control: self.control.bytes(), data }
    }
}

const _: () = assert!(CONTROL_LENGTH >= 88);
