//! Carries out what the session asks for, and takes over what it says.

use super::{
    AgentLoop, Alarm, EventSocket, Listening, LocalAddress, PartyAnswer, PartyGoal, SessionEnd, SessionEvent,
};
use crate::agent::network::{ListedRelay, Network};
use crate::agent::session::{ApiRequest, SessionWish};
use crate::net::client::resolve;
use crate::wire::control::RelayBody;
use smol::future::FutureExt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Texts that may wait to be said over the WebSocket.
const MAX_SAYS: usize = 64;
/// Before the relay's name is looked up again.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);

impl AgentLoop {
    /// Does what the session wants and when, for ever.
    pub(super) async fn keep_session(self: Rc<Self>) {
        loop {
            let now = (self.clock)();
            while let Some(wish) = self.wish() {
                self.carry_out(wish);
            }
            self.take_events();
            self.tell_alone();
            let due = self.session.borrow().next();
            self.session_alarm.wait(due, now).await;
        }
    }

    fn wish(&self) -> Option<SessionWish> {
        let mut session = self.session.borrow_mut();
        session.reaches_straight(self.agent.borrow().reached_straight());
        session.poll((self.clock)())
    }

    fn carry_out(self: &Rc<Self>, wish: SessionWish) {
        match wish {
            SessionWish::Ask(request) => self.executor.spawn(self.clone().ask(request)).detach(),
            SessionWish::Open => {
                let (says, heard) = smol::channel::bounded(MAX_SAYS);
                let task = self.executor.spawn(self.clone().listen(heard));
                *self.events.borrow_mut() = Some(Listening { says, _task: task });
            }
            SessionWish::Say(text) => {
                if let Some(listening) = &*self.events.borrow() {
                    // One that reads nothing is closed soon.
                    let _ = listening.says.try_send(text);
                }
            }
            SessionWish::Close => *self.events.borrow_mut() = None,
        }
    }

    async fn ask(self: Rc<Self>, request: ApiRequest) {
        let reply = self.client.ask(&request).await;
        log::trace!("{} {}: {:?}", request.method, request.path, reply.as_ref().map(|reply| reply.status));
        self.session.borrow_mut().answered(reply, (self.clock)());
        self.session_alarm.ring();
    }

    /// Opens a WebSocket and listens until its end.
    async fn listen(self: Rc<Self>, says: smol::channel::Receiver<String>) {
        let error = match self.client.open().await {
            Ok(socket) => {
                self.session.borrow_mut().opened((self.clock)());
                self.session_alarm.ring();
                self.converse(&socket, &says).await
            }
            Err(error) => error,
        };
        log::debug!("no WebSocket: {error}");
        self.session.borrow_mut().closed((self.clock)());
        self.session_alarm.ring();
    }

    async fn converse(&self, socket: &EventSocket, says: &smol::channel::Receiver<String>) -> String {
        enum Turn {
            Heard(String),
            Say(String),
        }
        loop {
            let hear = async { socket.next().await.map(Turn::Heard) };
            let say = async { says.recv().await.map(Turn::Say).map_err(|error| error.to_string()) };
            let done = match hear.or(say).await {
                Ok(Turn::Heard(text)) => {
                    self.session.borrow_mut().heard(&text);
                    self.session_alarm.ring();
                    Ok(())
                }
                Ok(Turn::Say(text)) => socket.say(text).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    fn take_events(self: &Rc<Self>) {
        loop {
            let Some(event) = self.session.borrow_mut().take_event() else { return };
            match event {
                SessionEvent::Party(answer) => {
                    *self.told.borrow_mut() = Some(*answer);
                    self.told_bell.ring();
                }
                SessionEvent::Relays(relays) => {
                    let agent = self.clone();
                    let look_up = async move {
                        let has_ipv4 = has_ipv4(&agent.links.borrow());
                        let listed = find_relays(&relays, has_ipv4).await;
                        agent.agent.borrow_mut().set_relays(&listed, (agent.clock)());
                        agent.arm();
                    };
                    self.executor.spawn(look_up).detach();
                }
                SessionEvent::Signal(signal) => {
                    self.agent.borrow_mut().signal(&signal.from, &signal.data, (self.clock)());
                    self.arm();
                }
                SessionEvent::Keep => self.keep_membership(None),
                SessionEvent::Local => {
                    log::warn!("the server is away: games go on without it, and it is asked again and again");
                    self.write_local();
                }
                SessionEvent::Back => {
                    log::info!("the server is back");
                    self.files.remove_local();
                }
                SessionEvent::Trouble(text) => log::warn!("{text}"),
                SessionEvent::Ended(end) => self.end(end),
            }
        }
    }

    fn write_local(&self) {
        let party = self.party.borrow();
        let Some(answer) = &*party else { return };
        if let Err(error) = self.files.write_local(&self.state.borrow().peer_id, &answer.party) {
            log::warn!("what is kept without a server can't be written: {error}");
        }
    }

    fn keep_membership(&self, last: Option<&PartyAnswer>) {
        {
            let (session, mut state) = (self.session.borrow(), self.state.borrow_mut());
            let (token, goal) = session.kept();
            let Some(membership) = &mut state.membership else { return };
            membership.token = token.map(str::to_owned);
            membership.goal = goal.clone();
            membership.protects = session.protects();
            if last.is_some() {
                membership.last = last.cloned();
            }
        }
        self.keep();
    }

    fn end(&self, end: SessionEnd) {
        // Whoever is refused may want to try again with the same id: only a membership that there was is over.
        let was_member = self.party.borrow().is_some();
        if was_member || matches!(end, SessionEnd::Left) {
            self.state.borrow_mut().membership = None;
            self.keep();
        }
        self.files.remove_local();
        self.ended.set(Some(end));
        self.over.ring();
    }

    /// Takes over the party whenever it is told, for ever.
    pub(super) async fn keep_network(self: Rc<Self>) {
        loop {
            self.told_bell.rung().await;
            let Some(answer) = self.told.take() else { continue };
            let Some(network) = &answer.network else { continue };
            let relay = match self.relay_address(&network.relay).await {
                Some(relay) => Some(relay),
                None => {
                    // Something newer may have been told meanwhile.
                    let mut told = self.told.borrow_mut();
                    if told.is_none() {
                        *told = Some(answer.clone());
                        let bell = self.told_bell.clone();
                        let again = async move {
                            smol::Timer::after(LOOK_UP_AGAIN).await;
                            bell.ring();
                        };
                        self.executor.spawn(again).detach();
                    }
                    None
                }
            };
            self.take_over(answer, relay);
        }
    }

    async fn relay_address(&self, (host, port): &(String, u16)) -> Option<SocketAddr> {
        match resolve(host, *port).await {
            Ok(addresses) => addresses.first().copied(),
            Err(error) => {
                log::warn!("the relay {host} is not found, trying again: {error}");
                None
            }
        }
    }

    fn take_over(&self, answer: PartyAnswer, relay: Option<SocketAddr>) {
        let Some(known) = Network::told(&answer, &self.state.borrow().peer_id, relay) else { return };
        self.agent.borrow_mut().set_network(known, (self.clock)());
        let is_news = self.party.borrow().as_ref() != Some(&answer);
        *self.party.borrow_mut() = Some(answer.clone());
        if is_news {
            self.readdress(&answer);
            self.keep_membership(Some(&answer));
        }
        self.poll_agent();
        self.arrived.ring();
    }

    /// Leaves the party; whether there is one to leave.
    pub(super) fn leave(&self) {
        self.session.borrow_mut().leave((self.clock)());
        self.session_alarm.ring();
    }

    /// The party's id, if there is one yet.
    pub(super) fn party_id(&self) -> Option<String> {
        match self.session.borrow().kept().1 {
            PartyGoal::Join(party) => Some(party.to_string()),
            PartyGoal::Host(_) => None,
        }
    }

    /// Whatever waits for the server is tried at once.
    pub(super) fn hurry(&self) {
        self.session.borrow_mut().hurry((self.clock)());
        Alarm::ring(&self.session_alarm);
    }
}

/// Whether a machine with these addresses has any of IPv4; without any, that is not known yet.
pub(super) fn has_ipv4(links: &[LocalAddress]) -> bool {
    links.is_empty() || links.iter().any(|link| link.address.is_ipv4())
}

/// The relays of a list, where their names lead: a server lists its own one by the name that its owner gave it.
pub(super) async fn find_relays(listed: &[RelayBody<'_>], has_ipv4: bool) -> Vec<ListedRelay> {
    let mut found = Vec::new();
    for body in listed {
        let addresses = resolve(&body.public_ip, body.port).await.unwrap_or_default();
        // NATs are where IPv4 is.
        let wanted = addresses.iter().find(|address| address.is_ipv4() == has_ipv4);
        let address = wanted.or(addresses.first());
        found.extend(address.and_then(|&address| ListedRelay::told(body, address)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_listed_by_address_or_by_name() {
        let body = |public_ip: &'static str| RelayBody {
            relay_id: "own".into(),
            public_ip: public_ip.into(),
            port: 51820,
            region: "here".into(),
            capacity: 100,
            registered_at: "".into(),
            public_key: None,
            load: 0,
            serves: None,
        };
        let listed = [body("203.0.113.7"), body("localhost"), body("not a name")];
        let found = smol::block_on(find_relays(&listed, true));
        let endpoints: Vec<_> = found.iter().map(|relay| relay.endpoint.to_string()).collect();
        assert_eq!(endpoints, ["203.0.113.7:51820", "127.0.0.1:51820"]);
        let link = |address: &str| LocalAddress { address: address.parse().unwrap(), prefix: 64 };
        let [old, new] = [link("192.0.2.7:1"), link("[2001:db8::7]:1")];
        assert!(has_ipv4(&[]) && has_ipv4(&[new, old]) && !has_ipv4(&[new]));
    }
}
