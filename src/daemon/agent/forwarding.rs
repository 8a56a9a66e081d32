//! Has the router forward our port, for as long as we take part.

use super::{AgentLoop, Duration, IpAddr, Ipv4Addr};
use crate::agent::portmap::Gateway;
use crate::net::router_socket::RouterSocket;
use crate::sys::netlink::Netlink;
use smol::Timer;
use smol::future::{FutureExt, pending};
use std::io;
use std::rc::Rc;

/// After trouble with our own socket.
const LATER: Duration = Duration::from_secs(60);

impl AgentLoop {
    /// Keeps asking the router, whichever that is, for ever.
    pub(super) async fn keep_mapping(self: Rc<Self>) {
        loop {
            let port = self.socket.borrow().socket.address().port();
            let gateway = self.gateway();
            self.mapper.borrow_mut().set_gateway(gateway, port, (self.clock)().instant);
            self.tell_mapping();
            let ask = async {
                match gateway {
                    Some(gateway) => {
                        if let Err(error) = self.ask_router(gateway).await {
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

    /// The router of the default route, if it is one that may have a NAT.
    fn gateway(&self) -> Option<Gateway> {
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

    async fn ask_router(&self, gateway: Gateway) -> io::Result<()> {
        let socket = RouterSocket::open(gateway.own, gateway.router)?;
        loop {
            let now = (self.clock)().instant;
            let message = self.mapper.borrow_mut().poll(now);
            if let Some(message) = message {
                // One that is lost is repeated.
                let _ = socket.send(&message);
            }
            let due = self.mapper.borrow().next();
            let mut buffer = [0; 128];
            let wait = async {
                match due {
                    Some(due) => Timer::after(due.since(now)).await,
                    None => pending().await,
                };
                Ok(0)
            };
            // An error means that nobody listens there, which silence would say as well.
            let length = socket.receive(&mut buffer).or(wait).await.unwrap_or(0);
            let router: Ipv4Addr = gateway.router;
            self.mapper.borrow_mut().receive(router, &buffer[..length], (self.clock)().instant);
            self.tell_mapping();
        }
    }

    fn tell_mapping(&self) {
        let mapping = self.mapper.borrow().mapping();
        if self.mapping.replace(mapping) != mapping {
            match mapping {
                Some(address) => log::info!("the router forwards {address} to this machine"),
                None => log::info!("the router forwards nothing to this machine any more"),
            }
            self.agent.borrow_mut().set_mapping(mapping, (self.clock)());
            self.poll_agent();
        }
    }

    /// Gives up what the router forwards.
    pub(super) fn release_mapping(&self) {
        let mut mapper = self.mapper.borrow_mut();
        let Some(gateway) = mapper.gateway() else { return };
        if let (Some(message), Ok(socket)) =
            (mapper.release(), RouterSocket::open(gateway.own, gateway.router))
        {
            // It ends by itself in time.
            let _ = socket.send(&message);
        }
    }
}
