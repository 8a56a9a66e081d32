//! The dialogue with a router that speaks UPnP: look for it, read what it is, ask for its address outside, and only then
//! have it forward the port. Whatever it says, nobody but the router itself is asked.

use super::{Gateway, LIFETIME, RouterWish};
use crate::wire::upnp::{self, DeviceUrl, ForwardingService};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Searches without an answer, after which there is no such router, and the time between them.
const SEARCHES: u32 = 3;
const SEARCH_WAIT: Duration = Duration::from_secs(1);
/// For the answer to a request, all of it.
const FETCH_WAIT: Duration = Duration::from_secs(10);
/// Other ports that are tried where somebody else has the one that we would like.
const OTHER_PORTS: u32 = 4;
/// "ConflictInMappingEntry" and "OnlyPermanentLeasesSupported".
const CONFLICT: u16 = 718;
const PERMANENT_ONLY: u16 = 725;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Search,
    Describe,
    Address,
    Map,
    /// Takes back what may have been made.
    Undo,
}

/// What comes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IgdVerdict {
    /// The next thing is to be asked.
    GoOn,
    /// The port is forwarded.
    Mapped { address: Ipv4Addr, outside: u16 },
    /// It is not.
    Failed,
}

/// The dialogue.
#[derive(Debug)]
pub(super) struct IgdDialogue {
    step: Step,
    tries: u32,
    is_asked: bool,
    description: Option<DeviceUrl>,
    service: Option<ForwardingService>,
    address: Option<Ipv4Addr>,
    wanted: u16,
    lease: u32,
}

impl IgdDialogue {
    /// For this port outside.
    pub fn new(wanted: u16) -> Self {
        IgdDialogue {
            step: Step::Search,
            tries: 0,
            is_asked: false,
            description: None,
            service: None,
            address: None,
            wanted,
            lease: LIFETIME,
        }
    }

    fn begin(&mut self, step: Step) -> IgdVerdict {
        (self.step, self.tries, self.is_asked) = (step, 0, false);
        IgdVerdict::GoOn
    }

    /// Begins anew with what is known.
    pub fn renew(&mut self) {
        self.begin(if self.service.is_some() { Step::Address } else { Step::Search });
    }

    /// The next thing to be asked, and for how long to wait for an answer; `None` if there is none to be had.
    pub fn poll(&mut self, gateway: Gateway, port: u16) -> Option<(RouterWish, Duration)> {
        if self.step == Step::Search {
            self.tries += 1;
            return (self.tries <= SEARCHES).then_some((RouterWish::Search(upnp::SEARCH), SEARCH_WAIT));
        }
        if std::mem::replace(&mut self.is_asked, true) {
            return None;
        }
        let (to, request) = match (self.step, &self.description, &self.service) {
            (Step::Describe, Some(target), _) => (target.address.into(), target.get()),
            (Step::Address, _, Some(service)) => (service.address(), service.ask_address()),
            (Step::Map, _, Some(service)) => {
                (service.address(), service.map(self.wanted, gateway.own, port, self.lease))
            }
            (Step::Undo, _, Some(service)) => (service.address(), service.unmap(self.wanted)),
            _ => return None,
        };
        Some((RouterWish::Fetch { to, request }, FETCH_WAIT))
    }

    /// Takes an answer of the router's to the search; whether it was one.
    pub fn found(&mut self, gateway: Gateway, datagram: &[u8]) -> bool {
        let target = upnp::location(datagram).filter(|target| *target.address.ip() == gateway.router);
        let is_new = self.step == Step::Search && target.is_some();
        if is_new {
            self.description = target;
            self.begin(Step::Describe);
        }
        is_new
    }

    /// Takes the status and the body of an answer to a request, if there was one.
    pub fn fetched(&mut self, reply: Option<(u16, &[u8])>) -> IgdVerdict {
        match (self.step, reply) {
            (Step::Describe, Some((200, body))) => {
                self.service = self.description.as_ref().and_then(|target| upnp::service(body, target));
                if self.service.is_some() { self.begin(Step::Address) } else { IgdVerdict::Failed }
            }
            (Step::Address, Some((200, body))) => {
                self.address = upnp::outside_address(body);
                if self.address.is_some() { self.begin(Step::Map) } else { IgdVerdict::Failed }
            }
            (Step::Map, Some((200, _))) => match self.address {
                Some(address) => IgdVerdict::Mapped { address, outside: self.wanted },
                None => IgdVerdict::Failed,
            },
            (Step::Map, Some((_, body))) => match upnp::fault(body) {
                Some(PERMANENT_ONLY) if self.lease != 0 => {
                    self.lease = 0;
                    self.begin(Step::Map)
                }
                Some(CONFLICT) if self.tries < OTHER_PORTS => {
                    let tries = self.tries + 1;
                    // Ports of a machine's own choice (RFC 6335), far from each other.
                    self.wanted = 49_152 + self.wanted.wrapping_mul(31).wrapping_add(7919) % 16_000;
                    self.begin(Step::Map);
                    self.tries = tries;
                    IgdVerdict::GoOn
                }
                _ => IgdVerdict::Failed,
            },
            // It may have done it.
            (Step::Map, None) => self.begin(Step::Undo),
            _ => IgdVerdict::Failed,
        }
    }

    /// The router's address outside.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.address
    }

    /// What gives up whatever was made, or may have been.
    pub fn release(&self, is_mapped: bool) -> Option<RouterWish> {
        let is_open = is_mapped || (self.step == Step::Map && self.is_asked);
        let service = self.service.as_ref().filter(|_| is_open)?;
        Some(RouterWish::Fetch { to: service.address(), request: service.unmap(self.wanted) })
    }
}
