//! The agent's process: it moves what the session asks for to the server, datagrams and packets through the agent, and
//! keeps what must outlast it. What to do is decided below.

mod answers;
mod calls;
mod error;
mod extras;
mod forwarding;
mod membership;
mod moving;
mod nat_check;
mod surroundings;

use super::bell::{Alarm, Bell};
use super::local_interface::LocalInterface;
use super::{DaemonError, Supervisor, measure_x25519, now, run_tasks};
use crate::agent::network::LocalAddress;
use crate::agent::session::{
    PartyGoal, PartySession, SessionEnd, SessionEvent, SessionSettings, SessionWish,
};
use crate::agent::{Agent, AgentSettings};
use crate::crypto::random;
use crate::crypto::x25519::PrivateKey;
use crate::ids::PeerId;
use crate::net::client::{ControlClient, EventSocket};
use crate::net::listen::Listener;
use crate::net::owner_socket;
use crate::net::udp::{self, Inbox, RelaySocket, SendQueue};
use crate::store::agent_state::{AgentFiles, AgentState, Membership};
use crate::subnet::Subnet;
use crate::sys::netlink::NetworkWatch;
use crate::time::{Clock, Instant};
use crate::tun::{Tun, TunSettings};
use crate::wire::control::PartyAnswer;
use crate::wire::server_url::ServerUrl;
pub use error::AgentError;
use extras::Extras;
use forwarding::Forwarding;
pub use nat_check::check_nat;
use smol::future::FutureExt;
use smol::{LocalExecutor, Task};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The longest inner packet, in bytes: what WireGuard's own tools choose.
const MTU: usize = 1420;
/// Room for what comes while we are at work, in bytes: bursts of 64 KiB of a few members. Only what waits is used.
const BURSTS: usize = 1024 * 1024;
/// The ports of a machine's own choice (RFC 6335): one of them is drawn at the first start.
const OWN_PORTS: std::ops::Range<u16> = 49_152..65_535;

/// What the owner asks an agent for.
pub struct AgentWish {
    /// Which server and party; `None` for those of before.
    pub party: Option<(ServerUrl, PartyGoal)>,
    /// The password of a party that is joined, or one that the party is to have that is made.
    pub password: Option<String>,
    /// What people call us; `None` for the name of before.
    pub name: Option<String>,
    /// Where the agent keeps its state.
    pub state_dir: PathBuf,
    /// The interface's name.
    pub interface: String,
    /// Whether many packets may come and go as one, where the system can do that.
    pub offload: bool,
}

/// Where the agent of a state directory can be talked to by its owner.
pub fn agent_socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}

/// What is running.
struct AgentLoop {
    agent: RefCell<Agent>,
    session: RefCell<PartySession>,
    client: ControlClient,
    files: AgentFiles,
    state: RefCell<AgentState>,
    interface: String,
    offload: bool,
    /// The one socket, which may be replaced by one on another port.
    socket: RefCell<Rc<AgentSocket>>,
    inbox: RefCell<Inbox>,
    local: RefCell<Option<Rc<LocalInterface>>>,
    executor: Rc<LocalExecutor<'static>>,
    clock: Clock,
    /// For the agent's timers and the session's.
    agent_alarm: Alarm,
    session_alarm: Alarm,
    /// The party as it was last told, to be taken over.
    told: RefCell<Option<PartyAnswer>>,
    told_bell: Bell,
    /// The party as the agent has it.
    party: RefCell<Option<PartyAnswer>>,
    /// Rung when there is one for the first time, when the socket is to be replaced, and when it is over.
    arrived: Bell,
    rebind: Bell,
    extras: Extras,
    extras_bell: Bell,
    over: Bell,
    ended: Cell<Option<SessionEnd>>,
    events: RefCell<Option<Listening>>,
    links: RefCell<Vec<LocalAddress>>,
    forwarding: Forwarding,
    mapping: Cell<Option<SocketAddr>>,
    /// Rung when the router may be another one.
    moved: Bell,
    started: Instant,
    /// By how much the clock that goes on in sleep is ahead of the other one, in microseconds.
    slept: Cell<i64>,
    /// Nobody tells where members are.
    is_alone: Cell<bool>,
}

/// An open WebSocket.
struct Listening {
    says: smol::channel::Sender<String>,
    _task: Task<()>,
}

struct AgentSocket {
    socket: RelaySocket,
    outbox: RefCell<SendQueue>,
}

impl AgentSocket {
    /// On this port; on any if that is taken. `gso` allows it to hand the kernel runs of datagrams as one.
    fn bind(port: u16, gso: bool) -> Result<Self, DaemonError> {
        let at = |port| RelaySocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let socket = at(port).or_else(|error| {
            log::debug!("{error}; another port does as well");
            at(0)
        })?;
        if let Err(errno) = socket.allow_broadcast() {
            log::debug!("nobody is called on the LAN: {errno}");
        }
        let socket = socket.with_room(BURSTS);
        let mut outbox = socket.outbox();
        if !gso {
            outbox.disable_gso();
        }
        Ok(AgentSocket { outbox: RefCell::new(outbox), socket })
    }
}

/// An agent that has its state and its socket, and has asked nobody yet.
pub struct AgentDaemon {
    running: Rc<AgentLoop>,
    owner: Listener,
    is_new: bool,
    supervisor: Rc<Supervisor>,
}

/// What became of an agent's party, for people.
pub struct AgentArrival {
    /// The party.
    pub party: PartyAnswer,
    /// The server.
    pub server: ServerUrl,
    /// Our address.
    pub ip: Ipv4Addr,
    /// Whether we made the party.
    pub is_host: bool,
    /// The password that we gave it.
    pub password: Option<String>,
}

impl AgentDaemon {
    /// Opens the state directory, and says who we are.
    pub fn open(wish: AgentWish) -> Result<Self, AgentError> {
        let at = wish.state_dir.display();
        let trouble = |error: std::io::Error| {
            AgentError::Owner(format!("{at}: {error}; run this with sudo, or choose another --state-dir"))
        };
        let files = AgentFiles::new(&wish.state_dir).map_err(trouble)?;
        let owner = Listener::unix(&agent_socket_in(&wish.state_dir))?;
        let mut state = match files.read().map_err(trouble)? {
            Some(state) => state,
            None => first_state(wish.name.as_deref())?,
        };
        if let Some(name) = wish.name {
            state.name = name;
        }
        let is_new = state.choose(wish.party, wish.password)?;
        let membership = state.membership.clone().ok_or_else(|| {
            AgentError::Owner(
                "there is no party yet: `lanrage join URL PARTY`, or `lanrage host URL NAME`".into(),
            )
        })?;
        let socket = AgentSocket::bind(state.port, wish.offload)?;
        state.port = socket.socket.address().port();
        files.write(&state).map_err(trouble)?;
        let (start, seed) = (now(), u64::from_le_bytes(random::bytes()));
        let agent = AgentSettings {
            key: state.key.clone(),
            stamp_mark: state.stamp_mark,
            mtu: MTU,
            seed,
            x25519: measure_x25519(),
        };
        let session = state.session(&membership, seed);
        let url = ServerUrl::parse(&membership.server).map_err(AgentError::Owner)?;
        let running = AgentLoop {
            agent: RefCell::new(Agent::new(agent, start.instant)),
            session: RefCell::new(PartySession::new(session, start)),
            client: ControlClient::new(url),
            files,
            state: RefCell::new(state),
            interface: wish.interface,
            offload: wish.offload,
            socket: RefCell::new(Rc::new(socket)),
            inbox: RefCell::default(),
            local: RefCell::default(),
            executor: Rc::new(LocalExecutor::new()),
            clock: now,
            agent_alarm: Alarm::default(),
            session_alarm: Alarm::default(),
            told: RefCell::default(),
            told_bell: Bell::default(),
            party: RefCell::default(),
            arrived: Bell::default(),
            rebind: Bell::default(),
            extras: Extras::default(),
            extras_bell: Bell::default(),
            over: Bell::default(),
            ended: Cell::new(None),
            events: RefCell::default(),
            links: RefCell::default(),
            forwarding: Forwarding::new(now),
            mapping: Cell::new(None),
            moved: Bell::default(),
            started: start.instant,
            slept: Cell::new(surroundings::sleep_so_far()),
            is_alone: Cell::new(false),
        };
        Ok(AgentDaemon { running: Rc::new(running), owner, is_new, supervisor: Rc::default() })
    }

    /// To tell `supervisor` how it is doing.
    pub fn supervised(self, supervisor: Rc<Supervisor>) -> Self {
        AgentDaemon { supervisor, ..self }
    }

    /// Takes part until `stop` is ready or the membership ends. `arrived` is told of the party once we are in it.
    pub fn run(
        self,
        stop: impl Future<Output = ()> + 'static,
        arrived: impl FnOnce(AgentArrival),
    ) -> Result<(), AgentError> {
        let AgentDaemon { running, owner, is_new, supervisor } = self;
        let executor = running.executor.clone();
        let (sender, stopped) = smol::channel::bounded::<std::convert::Infallible>(1);
        let waiting = async move {
            stop.await;
            sender.close();
        };
        let stopped = || {
            let stopped = stopped.clone();
            async move {
                // Nothing is ever sent: the channel only closes.
                let _ = stopped.recv().await;
            }
        };
        let answering = running.clone();
        let tasks = vec![
            waiting.boxed_local(),
            owner_socket::serve(owner, move |method, path| answering.answer(method, path)).boxed_local(),
            running.clone().keep_session().boxed_local(),
            running.clone().keep_network().boxed_local(),
        ];
        let mut tasks: Vec<Task<()>> = tasks.into_iter().map(|task| executor.spawn(task)).collect();
        // First who we are there: the interface takes an address.
        let waits = running.arrived.rung().or(running.over.rung()).or(stopped());
        smol::block_on(executor.run(waits));
        let Some(party) = running.party.borrow().clone() else {
            stop_all(&executor, tasks);
            return running.result();
        };
        let ip = match running.open_interface(&party) {
            Ok(ip) => ip,
            Err(error) => {
                stop_all(&executor, tasks);
                return Err(error);
            }
        };
        supervisor.ready(running.summary());
        let own = running.state.borrow().membership.clone();
        let own = own.filter(|own| own.hosts.is_some());
        let (is_host, password) = (own.is_some(), own.and_then(|own| own.password));
        log::debug!("{} the party", if is_new { "new in" } else { "back in" });
        arrived(AgentArrival { party, server: running.client.url().clone(), ip, is_host, password });
        let told = running.clone();
        let (company, local) = (supervisor.clone(), running.clone());
        let chores = vec![
            running.clone().keep_time().boxed_local(),
            running.clone().keep_links().boxed_local(),
            running.clone().keep_mapping().boxed_local(),
            running.clone().keep_listening().boxed_local(),
            running.clone().keep_extras().boxed_local(),
            async move { local.keep_local().await }.boxed_local(),
            async move { company.keep_company(|| told.summary()).await }.boxed_local(),
        ];
        tasks.extend(chores.into_iter().map(|chore| executor.spawn(chore)));
        running.drive(&stopped)?;
        supervisor.stopping();
        smol::block_on(running.forwarding.release());
        stop_all(&executor, tasks);
        running.result()
    }
}

/// Ends tasks, and so what they hold: a socket's file goes with the socket.
fn stop_all(executor: &LocalExecutor<'static>, tasks: Vec<Task<()>>) {
    smol::block_on(executor.run(async {
        for task in tasks {
            task.cancel().await;
        }
    }));
}

/// Leaves the party of an agent that does not run; whether there was one.
pub fn leave_at_rest(state_dir: &Path) -> Result<bool, AgentError> {
    let trouble = |error: std::io::Error| AgentError::Owner(format!("{}: {error}", state_dir.display()));
    let files = AgentFiles::new(state_dir).map_err(trouble)?;
    // Nobody may start one meanwhile.
    let _owner = Listener::unix(&agent_socket_in(state_dir))?;
    let Some(mut state) = files.read().map_err(trouble)? else { return Ok(false) };
    let Some(membership) = state.membership.take() else { return Ok(false) };
    let client = ControlClient::new(ServerUrl::parse(&membership.server).map_err(AgentError::Owner)?);
    let settings = state.session(&membership, u64::from_le_bytes(random::bytes()));
    let mut session = PartySession::new(settings, now());
    session.leave(now());
    smol::block_on(async {
        while let Some(due) = session.next() {
            smol::Timer::after(due.since(now().instant)).await;
            while let Some(wish) = session.poll(now()) {
                if let SessionWish::Ask(request) = wish {
                    let reply = client.ask(&request).await;
                    session.answered(reply, now());
                }
            }
        }
    });
    files.write(&state).map_err(trouble)?;
    files.remove_local();
    Ok(true)
}

impl AgentState {
    /// What a session goes on with.
    fn session(&self, membership: &Membership, seed: u64) -> SessionSettings {
        let Membership { goal, token, password, protects, last, .. } = membership.clone();
        let AgentState { key, peer_id, name, .. } = self.clone();
        SessionSettings { goal, peer_id, name, key, token, password, protects, last, seed }
    }

    /// Takes the party that is asked for, if it is another one than that of before; whether it is.
    fn choose(
        &mut self,
        asked: Option<(ServerUrl, PartyGoal)>,
        password: Option<String>,
    ) -> Result<bool, AgentError> {
        let Some((server, goal)) = asked else {
            self.take_password(password);
            return Ok(false);
        };
        let server = server.to_string();
        let is_same = self.membership.as_ref().is_some_and(|before| {
            before.server == server
                && match &goal {
                    PartyGoal::Join(_) => before.goal == goal,
                    PartyGoal::Host(name) => before.hosts.as_ref() == Some(name),
                }
        });
        if !is_same {
            if let Some(before) = &self.membership {
                log::info!("leaving the party at {} for another one", before.server);
            }
            let hosts = match &goal {
                PartyGoal::Host(name) => Some(name.clone()),
                PartyGoal::Join(_) => None,
            };
            let protects = hosts.is_some() && password.is_some();
            self.membership =
                Some(Membership { server, goal, hosts, token: None, password, protects, last: None });
        } else {
            self.take_password(password);
        }
        Ok(!is_same)
    }

    /// Another password for the party of before. Whoever made it with one goes on with that.
    fn take_password(&mut self, password: Option<String>) {
        let (Some(membership), Some(password)) = (&mut self.membership, password) else { return };
        match (&membership.hosts, &membership.password) {
            (None, _) => membership.password = Some(password),
            (Some(_), None) => (membership.password, membership.protects) = (Some(password), true),
            (Some(_), Some(_)) => {}
        }
    }
}

/// Who we are at the first start.
fn first_state(name: Option<&str>) -> Result<AgentState, AgentError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.unwrap_or(if host.is_empty() { "player" } else { &host }).to_owned();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().map(plain).take(20).collect();
    let slug = slug.trim_matches('-');
    let number = crate::crypto::hex::encode(&random::bytes::<4>());
    let id = if slug.is_empty() { format!("player-{number}") } else { format!("{slug}-{number}") };
    let draw = u16::from_le_bytes(random::bytes());
    Ok(AgentState {
        key: PrivateKey::generate(),
        peer_id: PeerId::new(&id).ok_or_else(|| AgentError::Owner(format!("{id} is no id")))?,
        name,
        port: OWN_PORTS.start + draw % (OWN_PORTS.end - OWN_PORTS.start),
        stamp_mark: 0,
        membership: None,
    })
}

impl AgentLoop {
    /// How it ended.
    fn result(&self) -> Result<(), AgentError> {
        match self.ended.take() {
            None => Ok(()),
            Some(SessionEnd::Left) => Ok(()),
            Some(end) => Err(AgentError::Ended(end)),
        }
    }

    /// Keeps what must outlast us.
    fn keep(&self) {
        if let Err(error) = self.files.write(&self.state.borrow()) {
            log::warn!("the agent's state can't be written: {error}");
        }
    }

    /// How things are, in a line for who looks after the service.
    fn summary(&self) -> String {
        let party = self.party.borrow();
        let name = party.as_ref().map_or("", |party| &party.party.head.name);
        let agent = self.agent.borrow();
        let members = agent.members((self.clock)()).count();
        let local = if self.session.borrow().is_local() { "; the server is away" } else { "" };
        format!("in {name} with {members} others{local}; lanrage {}", env!("CARGO_PKG_VERSION"))
    }
}
