//! Has the router forward our port, for as long as we take part.

use super::{AgentLoop, Duration, IpAddr, Ipv4Addr};
use crate::agent::portmap::{Gateway, PortMapper, RouterWish};
use crate::crypto::random;
use crate::net::client::fetch;
use crate::net::router_socket::{RouterSocket, SearchSocket};
use crate::sys::netlink::Netlink;
use crate::time::Clock;
use smol::Timer;
use smol::future::{FutureExt, pending};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// After trouble with our own socket.
const LATER: Duration = Duration::from_secs(60);
/// For the router's answer to a request, all of it.
const FETCH: Duration = Duration::from_secs(3);

/// The dialogue with the router, and the way there.
pub(super) struct Forwarding {
    mapper: RefCell<PortMapper>,
    clock: Clock,
}

impl Forwarding {
    /// Nobody has been asked yet.
    pub fn new(clock: Clock) -> Self {
        Forwarding { mapper: RefCell::new(PortMapper::new(random::bytes())), clock }
    }

    /// The router to ask, if there is one, for this port of ours.
    pub fn set_gateway(&self, gateway: Option<Gateway>, port: u16) {
        self.mapper.borrow_mut().set_gateway(gateway, port, (self.clock)().instant);
    }

    /// What is forwarded to us.
    pub fn mapping(&self) -> Option<SocketAddr> {
        self.mapper.borrow().mapping()
    }

    /// The router's address outside, as it says.
    pub fn outside(&self) -> Option<Ipv4Addr> {
        self.mapper.borrow().outside()
    }

    /// Whether it is known whether it forwards.
    pub fn is_settled(&self) -> bool {
        self.mapper.borrow().is_settled()
    }

    /// Asks the router whenever that is due, for ever; `told` is called after each of its answers.
    pub async fn ask(&self, gateway: Gateway, told: &dyn Fn()) -> io::Result<()> {
        let socket = RouterSocket::open(gateway.own, gateway.router)?;
        let search = SearchSocket::open(gateway.own, gateway.router)?;
        loop {
            let now = (self.clock)().instant;
            let wish = self.mapper.borrow_mut().poll(now);
            match wish {
                // One that is lost is repeated.
                Some(RouterWish::Say(message)) => drop(socket.send(&message)),
                Some(RouterWish::Search(message)) => search.send(message),
                Some(RouterWish::Fetch { to, request }) => {
                    let reply = fetch(to, &request, FETCH).await;
                    let reply = reply.as_ref().ok().map(|reply| (reply.status, &*reply.body));
                    self.mapper.borrow_mut().fetched(reply, (self.clock)().instant);
                    told();
                    continue;
                }
                None => (),
            }
            let due = self.mapper.borrow().next();
            let (mut buffer, mut found) = ([0; 128], [0; 1500]);
            let wait = async {
                match due {
                    Some(due) => Timer::after(due.since(now)).await,
                    None => pending().await,
                };
                Came::Nothing
            };
            let said = async { Came::Said(socket.receive(&mut buffer).await) };
            let answer = async { search.receive(&mut found).await.map_or(Came::Nothing, Came::Found) };
            let came = said.or(answer).or(wait).await;
            let (mut mapper, now) = (self.mapper.borrow_mut(), (self.clock)().instant);
            match came {
                Came::Said(Ok(length)) => mapper.receive(gateway.router, &buffer[..length], now),
                Came::Said(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    mapper.nobody_listens(now);
                }
                Came::Found(length) => mapper.found(gateway.router, &found[..length], now),
                // What can't be sent is repeated, too.
                Came::Said(Err(_)) | Came::Nothing => (),
            }
            drop(mapper);
            told();
        }
    }

    /// Gives up what the router forwards.
    pub async fn release(&self) {
        let (wish, gateway) = {
            let mut mapper = self.mapper.borrow_mut();
            (mapper.release(), mapper.gateway())
        };
        match (wish, gateway) {
            (Some(RouterWish::Say(message)), Some(gateway)) => {
                if let Ok(socket) = RouterSocket::open(gateway.own, gateway.router) {
                    // It ends by itself in time.
                    let _ = socket.send(&message);
                }
            }
            (Some(RouterWish::Fetch { to, request }), _) => {
                if let Err(error) = fetch(to, &request, FETCH).await {
                    log::debug!("the router may go on forwarding: {error}");
                }
            }
            _ => (),
        }
    }
}

/// What came while the router was waited for.
enum Came {
    Said(io::Result<usize>),
    Found(usize),
    Nothing,
}

/// The router of the default route, if it is one that may have a NAT.
pub(super) fn find_gateway() -> Option<Gateway> {
    let mut netlink = Netlink::new().ok()?;
    let routes = netlink.routes().ok()?;
    let default = routes.iter().find(|route| route.prefix == 0 && route.gateway.is_some())?;
    let addresses = netlink.addresses().ok()?;
    let own = addresses.iter().find_map(|found| match found.address {
        IpAddr::V4(ip) if found.interface == default.interface => Some(ip),
        _ => None,
    });
    Some(Gateway { router: default.gateway?, own: own? })
}

impl AgentLoop {
    /// Keeps asking the router, whichever that is, for ever.
    pub(super) async fn keep_mapping(self: Rc<Self>) {
        loop {
            let port = self.socket.borrow().socket.address().port();
            let gateway = find_gateway();
            self.forwarding.set_gateway(gateway, port);
            self.tell_mapping();
            let ask = async {
                match gateway {
                    Some(gateway) => {
                        if let Err(error) = self.forwarding.ask(gateway, &|| self.tell_mapping()).await {
                            log::debug!("the router can't be asked to forward a port: {error}");
                        }
                        Timer::after(LATER).await;
                    }
                    None => pending().await,
                }
            };
            ask.or(self.moved.rung()).await;
        }
    }

    fn tell_mapping(&self) {
        let mapping = self.forwarding.mapping();
        if self.mapping.replace(mapping) != mapping {
            match mapping {
                Some(address) => log::info!("the router forwards {address} to this machine"),
                None => log::info!("the router forwards nothing to this machine any more"),
            }
            self.agent.borrow_mut().set_mapping(mapping, (self.clock)());
            self.poll_agent();
        }
    }
}
