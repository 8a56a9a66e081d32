//! `lanrage relay`: the relay without a control plane. What it knows of parties it is told by a control server somewhere else.

use super::bell::{Alarm, Bell};
use super::relay_loop::RelayLoop;
use super::settings::Settings;
use super::supervisor::Supervisor;
use super::{DRAIN, DaemonError, Ending, STOP, Serving, bind_relay, hub_key, now, relay_settings, run};
use crate::api::metrics::RelayView;
use crate::crypto::x25519::PublicKey;
use crate::net::client::{ControlClient, EventSocket, resolve};
use crate::net::udp::RelaySocket;
use crate::relay::Relay;
use crate::relay::limits::RelayLimits;
use crate::relay::link::{Approval, ControlLink, LinkSettings};
use crate::store::handover::HandOver;
use crate::store::records::{self, Loaded};
use crate::store::{self, Store};
use crate::time::{Clock, Instant};
use crate::wire::server_url::ServerUrl;
use smol::LocalExecutor;
use smol::future::FutureExt;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// How often the roster is kept for the next process at most, where that wears nothing out.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Room that the server does not know of: for a moment there may be more members, those who come before those whom they replace.
const CHANGING: usize = 512;

/// A relay that has its state and its sockets, and has not served anybody yet.
pub struct FarRelay {
    settings: Settings,
    store: Store,
    loaded: Loaded,
    url: ServerUrl,
    relay: RelaySocket,
    alternate: Option<RelaySocket>,
    bell: Bell,
    supervisor: Rc<Supervisor>,
}

/// The relay at work.
struct FarLoop {
    store: RefCell<Option<Store>>,
    relay: Rc<RelayLoop>,
    link: RefCell<ControlLink>,
    client: ControlClient,
    /// Where others reach the relay, if the owner said so.
    endpoint: Option<(String, u16)>,
    /// The control server's key that is stored.
    stored: Cell<Option<PublicKey>>,
    rosters: HandOver,
    kept: Cell<Instant>,
    alarm: Alarm,
    clock: Clock,
}

impl FarRelay {
    /// Opens the state directory and the sockets. `control` is the control server's key, if the owner says so.
    pub fn open(
        settings: Settings,
        url: ServerUrl,
        control: Option<PublicKey>,
        bell: Bell,
        supervisor: Rc<Supervisor>,
    ) -> Result<Self, DaemonError> {
        let (store, rows) = Store::open(&store::path_in(&settings.state_dir), now)?;
        let mut loaded = records::load(rows);
        loaded.control = control.or(loaded.control);
        let bound = match loaded.records.is_empty() {
            true => bind_relay(&settings),
            false => Err(DaemonError::Setting(format!(
                "{} has the state of a control server: give the relay a --state-dir of its own",
                settings.state_dir.display()
            ))),
        };
        match bound {
            Ok((relay, alternate)) => {
                Ok(FarRelay { settings, store, loaded, url, relay, alternate, bell, supervisor })
            }
            Err(error) => {
                // What happened is in `error`; the store has nothing to write.
                let _ = store.close();
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Serves until `stop` is ready, then stops in good order.
    pub fn run(self, stop: impl Future<Output = ()> + 'static) -> Result<(), DaemonError> {
        let executor = Rc::new(LocalExecutor::new());
        let load = self.load(executor.clone()).boxed_local();
        run(executor, now, stop.boxed_local(), load).map(|_| ())
    }

    async fn load(self, executor: Rc<LocalExecutor<'static>>) -> Result<Serving, DaemonError> {
        let FarRelay { settings, store, loaded, url, relay, alternate, bell, supervisor } = self;
        let port = relay.address().port();
        let hub = hub_key(&store, loaded.hub).await?;
        let (clock, start): (Clock, _) = (now, now());
        let state = Relay::new(relay_settings(&settings, &hub, loaded.stamp_mark), start.instant);
        let relay = Rc::new(RelayLoop::new(state, relay, alternate, settings.gso, clock));
        let (flows, rosters) = (
            HandOver::new(&settings.runtime_dir, &hub.public_key()),
            HandOver::of_roster(&settings.runtime_dir, &hub.public_key()),
        );
        let link = LinkSettings {
            key: hub,
            control: loaded.control,
            subnet: settings.control.subnet,
            port: settings.public_endpoint.as_ref().map_or(port, |(_, port)| *port),
            region: settings.region.clone(),
            capacity: settings.max_clients,
            room: (RelayLimits::default().members - CHANGING) as u32,
        };
        let mut link = ControlLink::new(link, start.instant);
        if let Some(kept) = rosters.take() {
            let parties = link.restore(&kept, &mut relay.relay.borrow_mut(), start.instant);
            log::info!("took over {parties} parties");
        }
        relay.take_over(&flows);
        let far = Rc::new(FarLoop {
            store: RefCell::new(Some(store)),
            relay: relay.clone(),
            link: RefCell::new(link),
            client: ControlClient::new(url),
            endpoint: settings.public_endpoint,
            stored: Cell::new(loaded.control),
            rosters,
            kept: Cell::new(Instant::ZERO),
            alarm: Alarm::default(),
            clock,
        });
        let (told, teller) = (far.clone(), supervisor.clone());
        let looker = relay.clone();
        let chores = vec![
            relay.clone().keep_time().boxed_local(),
            far.clone().keep_marks().boxed_local(),
            far.clone().keep_handshakes().boxed_local(),
            far.clone().keep_link().boxed_local(),
            async move { teller.keep_company(|| told.summary()).await }.boxed_local(),
            async move {
                loop {
                    bell.rung().await;
                    looker.look_again();
                }
            }
            .boxed_local(),
        ];
        let tasks: Vec<_> = chores.into_iter().map(|chore| executor.spawn(chore)).collect();
        let serve = move |stop: super::Stop| {
            async move {
                supervisor.ready(far.summary());
                stop.await;
                log::info!("stopping");
                let begun = now().instant;
                supervisor.stopping();
                for task in tasks {
                    task.cancel().await;
                }
                far.relay.hand_over(&flows);
                far.keep_roster(true);
                let Some(store) = far.store.borrow_mut().take() else { return Ok(Ending::Stopped) };
                let patience = STOP.saturating_sub(now().instant.since(begun)).saturating_sub(DRAIN);
                store.close_within(patience).map(|()| Ending::Stopped).map_err(DaemonError::Write)
            }
            .boxed_local()
        };
        Ok(Serving { relay, serve: Box::new(serve) })
    }
}

impl FarLoop {
    /// How things are, in a line for who looks after the service.
    fn summary(&self) -> String {
        let link = self.link.borrow();
        let approval = match link.approval() {
            Approval::Unknown => "the control server was not reached yet; ",
            Approval::Waits => "waits for its approval; ",
            Approval::Given if !link.is_open() => "the control server is away; ",
            Approval::Given => "",
        };
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "{approval}parties: {}, at the relay: {}; lanrage {version}",
            link.party_count(),
            self.relay.load()
        )
    }

    /// Stores the hub's marks for TAI64N.
    async fn keep_marks(self: Rc<Self>) {
        loop {
            let mark = self.relay.stamp_mark().await;
            self.store_row(records::stamp_mark(mark));
        }
    }

    fn store_row(&self, row: store::Row) {
        if let Some(store) = &*self.store.borrow() {
            store.submit(vec![row]);
        }
    }

    /// Has handshakes at the hub told to the control server.
    async fn keep_handshakes(self: Rc<Self>) {
        while let Some((key, from)) = self.relay.handshake().await {
            self.link.borrow_mut().handshake(key, from, (self.clock)().instant);
            self.alarm.ring();
        }
    }

    /// Keeps the connection to the control server, for ever.
    async fn keep_link(self: Rc<Self>) {
        loop {
            let now = (self.clock)();
            if self.link.borrow_mut().opens(now.instant) {
                let why = self.connect().await;
                self.link.borrow_mut().closed(&why, (self.clock)().instant);
            } else {
                let due = self.link.borrow().next();
                self.alarm.wait(due, now).await;
            }
        }
    }

    /// Opens a connection and follows what comes by it. Gives why it ended.
    async fn connect(&self) -> String {
        let ip = match &self.endpoint {
            Some((host, port)) => match resolve(host, *port).await {
                Ok(found) => found.first().map(SocketAddr::ip),
                Err(error) => return format!("{host}: {error}"),
            },
            None => None,
        };
        match self.client.open().await {
            Ok(socket) => self.converse(&socket, ip).await,
            Err(error) => error,
        }
    }

    async fn converse(&self, socket: &EventSocket, ip: Option<IpAddr>) -> String {
        self.link.borrow_mut().opened(ip, (self.clock)().instant);
        loop {
            self.link.borrow_mut().poll(self.relay.load(), (self.clock)().instant);
            loop {
                let said = self.link.borrow_mut().take_said();
                let Some(text) = said else { break };
                if let Err(error) = socket.say(text).await {
                    return error;
                }
            }
            if self.link.borrow_mut().closes((self.clock)().instant) {
                return "nothing comes of it".to_owned();
            }
            let (now, due) = ((self.clock)(), self.link.borrow().next());
            let hear = async { socket.next().await.map(Some) };
            let wait = async {
                self.alarm.wait(due, now).await;
                Ok(None)
            };
            match hear.or(wait).await {
                Ok(Some(text)) => self.hear(&text),
                Ok(None) => {}
                Err(error) => return error,
            }
        }
    }

    fn hear(&self, text: &str) {
        let now = (self.clock)().instant;
        self.link.borrow_mut().heard(text, &mut self.relay.relay.borrow_mut(), now);
        self.relay.arm();
        let control = self.link.borrow().control().copied();
        if let Some(control) = control.filter(|control| self.stored.get() != Some(*control)) {
            self.stored.set(Some(control));
            self.store_row(records::control_key(&control));
        }
        self.keep_roster(false);
    }

    /// Keeps the roster for the next process: at the end, and now and then in memory in case that it never comes to that.
    fn keep_roster(&self, is_end: bool) {
        let now = (self.clock)().instant;
        let is_due = now.since(self.kept.get()) >= KEEP_INTERVAL && self.rosters.is_in_memory();
        if !is_end && !is_due {
            return;
        }
        let Some(kept) = self.link.borrow_mut().take_kept(is_end) else { return };
        self.kept.set(now);
        if let Err(error) = self.rosters.write(kept.as_bytes()) {
            let path = self.rosters.path().display();
            log::info!("the roster is not handed over: {path}: {error}");
        }
    }
}
