//! What a message carries beside its payload.

use super::ancillary::{CONTROL_LENGTH, Control, write_name};
use super::backlog::Address;
use crate::sys::{Message, NAME_LENGTH};
use std::io::IoSlice;
use std::ops::Range;

/// A destination and ancillary data, as the kernel reads them.
pub struct Envelope {
    name: [u8; NAME_LENGTH],
    name_length: usize,
    control: Control,
    /// Which slices are its payload.
    pub slices: Range<usize>,
}

impl Envelope {
    /// Not yet addressed.
    pub const EMPTY: Envelope =
        Envelope { name: [0; NAME_LENGTH], name_length: 0, control: Control::EMPTY, slices: 0..0 };

    /// Addresses it, for datagrams of `segment` bytes each but the last if it carries several. Returns false if
    /// the socket, of the family IPv6 or else IPv4, can't send there.
    pub fn address(&mut self, address: Address, segment: Option<u16>, is_ipv6: bool) -> bool {
        let Address { to, from, class } = address;
        let Some(length) = write_name(to, is_ipv6, &mut self.name) else { return false };
        self.name_length = length;
        self.control.write(to.ip(), from, class, segment);
        true
    }

    /// With its payload.
    pub fn message<'a>(&'a self, data: &'a [IoSlice<'a>]) -> Message<'a> {
        Message { name: &self.name[..self.name_length], control: self.control.bytes(), data }
    }
}

const _: () = assert!(CONTROL_LENGTH >= 88);
