//! Floor 6: the one loop, and the one place that reads the clocks. It waits, calls and moves results; what
//! to do about parties or packets is decided below.

pub mod advice;
pub mod agent;
mod bell;
mod clock;
pub mod far_relay;
#[cfg(feature = "cluster")]
mod joining;
mod keeping;
mod local_interface;
pub mod log_output;
mod machine;
mod relay_figures;
mod relay_loop;
mod reload;
mod roster;
mod service;
pub mod settings;
mod supervisor;

use crate::api::{self, Api, OwnRelay};
use crate::control::Control;
use crate::crypto::random;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::durability::WriteError;
use crate::net::http::Door;
use crate::net::listen::{ListenError, Listener};
use crate::net::udp::RelaySocket;
use crate::relay::limits::RelayLimits;
use crate::relay::{self, Relay};
use crate::store::handover::HandOver;
use crate::store::records::{self, Loaded};
use crate::store::restore::{RestoredState, StagedState};
use crate::store::{self, OpenError, Row, Store};
use crate::time::Clock;
use crate::tun::{self, Tun, TunError};
use crate::wire::http::Source;
use crate::wire::roster::relay_id;
use crate::wireguard::constants::X25519_TYPICAL;
use async_signal::{Signal, Signals};
use machine::Totals;
use relay_loop::RelayLoop;
use reload::{Reloader, SettingsSource};
#[cfg(feature = "cluster")]
use service::Instances;
use service::Service;
use settings::Settings;
use smol::future::{BoxedLocal as LocalBoxed, FutureExt};
use smol::stream::StreamExt;
use smol::{LocalExecutor, Task, Timer};
use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

pub use bell::Bell;
pub use clock::now;
pub use supervisor::Supervisor;

/// The longest inner packet on the hub's path, in bytes: what WireGuard's own tools choose.
const HUB_MTU: usize = 1420;
/// How long requests under way get to be answered when the daemon stops.
const DRAIN: Duration = Duration::from_millis(300);
/// How much longer they get if what they wait for is the disk, and how often that is looked at.
const DRAIN_DISK: Duration = Duration::from_millis(700);
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long all of a stop takes at most. It is promised within two seconds.
const STOP: Duration = Duration::from_millis(1800);
/// Threads at rest: the loop, async-io's, and the store's.
const THREADS: usize = 3;
/// X25519 computations that are measured at the start: the fastest is what the machine can do.
const X25519_SAMPLES: usize = 5;
/// How long tasks may take before packets have their turn: as long as one of theirs.
const TASKS: Duration = Duration::from_micros(500);
/// How long a start may still take when it is to stop.
const LOAD: Duration = Duration::from_millis(300);

/// Why a daemon does not start, or did not stop in good order.
#[derive(Debug)]
pub enum DaemonError {
    /// The store.
    Store(OpenError),
    /// The store, at the first write or the last.
    Write(WriteError),
    /// A socket.
    Listen(ListenError),
    /// The interface of this machine itself.
    Tun(TunError),
    /// A setting that only shows to be wrong now.
    Setting(String),
    /// Signals.
    Signals(std::io::Error),
    /// Threads.
    Threads(std::io::Error),
    /// The relay's socket.
    Relay(std::io::Error),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonError::Store(error) => f.write_str(&advice::on_store(error)),
            DaemonError::Write(error) => {
                write!(f, "the state could not be written: {error}")?;
                match error {
                    WriteError::Full => f.write_str("; free some space, or choose another --state-dir"),
                    WriteError::Failing | WriteError::TooSlow | WriteError::Fenced => Ok(()),
                }
            }
            DaemonError::Listen(error) => f.write_str(&advice::on_listening(error)),
            DaemonError::Tun(error) => f.write_str(&advice::on_tun(error)),
            DaemonError::Setting(text) => f.write_str(text),
            DaemonError::Relay(error) => write!(f, "the relay's socket failed: {error}"),
            DaemonError::Signals(error) => write!(f, "signals can't be received: {error}"),
            DaemonError::Threads(error) => write!(
                f,
                "threads can't be started: {error}; it needs {} beside its own, so raise the limit of processes: \
                 `ulimit -u`, TasksMax= of a systemd unit, or the pids limit of a container",
                THREADS - 1
            ),
        }
    }
}

impl std::error::Error for DaemonError {}

impl From<OpenError> for DaemonError {
    fn from(error: OpenError) -> Self {
        DaemonError::Store(error)
    }
}

impl From<ListenError> for DaemonError {
    fn from(error: ListenError) -> Self {
        DaemonError::Listen(error)
    }
}

impl From<TunError> for DaemonError {
    fn from(error: TunError) -> Self {
        DaemonError::Tun(error)
    }
}

/// Where the daemon of a state directory can be talked to by its owner.
pub fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Where a daemon listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenAddresses {
    /// The control API.
    pub http: SocketAddr,
    /// The relay.
    pub relay: SocketAddr,
}

impl fmt::Display for ListenAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listening http={} relay={}", self.http, self.relay)
    }
}

/// What comes after a stop in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Nothing.
    Stopped,
    /// Another start, with what the state directory has now.
    Restart,
    /// Another start, because another instance writes.
    #[cfg(feature = "cluster")]
    Fenced,
}

/// Why a daemon stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StopCause {
    /// By a signal.
    Told,
    /// Another state has come.
    Succeeded,
    /// Another instance has taken over.
    #[cfg(feature = "cluster")]
    Fenced,
}

/// A daemon that has its store and its sockets, and has not served anybody yet.
pub struct Daemon {
    settings: Settings,
    store: Store,
    rows: Vec<Row>,
    http: Listener,
    unix: Listener,
    relay: RelaySocket,
    /// The relay's second port, for STUN.
    alternate: Option<RelaySocket>,
    /// The interface of this machine itself.
    tun: Option<Tun>,
    /// What asks for new settings, and where they are.
    reload: Option<(Bell, SettingsSource)>,
    clock: Clock,
    supervisor: Rc<Supervisor>,
    /// Its place in a realm.
    #[cfg(feature = "cluster")]
    seat: Option<joining::InstanceSeat>,
}

/// The sockets of a daemon, and its interface.
type Sockets = (Listener, Listener, RelaySocket, Option<RelaySocket>, Option<Tun>);

impl Daemon {
    /// Opens the store of the state directory, every socket, and the interface if there is to be one.
    pub fn open(settings: Settings) -> Result<Self, DaemonError> {
        let (store, rows) = Store::open(&store::path_in(&settings.state_dir), now)?;
        Self::with_store(settings, store, rows)
    }

    /// Over a store that is open already, and the rows that it held.
    pub fn with_store(settings: Settings, store: Store, rows: Vec<Row>) -> Result<Self, DaemonError> {
        match Self::bind(&settings) {
            Ok((http, unix, relay, alternate, tun)) => {
                let (reload, supervisor, clock) = (None, Rc::default(), now);
                Ok(Daemon {
                    settings,
                    store,
                    rows,
                    http,
                    unix,
                    relay,
                    alternate,
                    tun,
                    reload,
                    clock,
                    supervisor,
                    #[cfg(feature = "cluster")]
                    seat: None,
                })
            }
            Err(error) => {
                // What happened is in `error`; the store has nothing to write.
                let _ = store.close();
                Err(error)
            }
        }
    }

    fn bind(settings: &Settings) -> Result<Sockets, DaemonError> {
        let http = Listener::tcp(settings.http)?;
        let unix = Listener::unix(&socket_in(&settings.state_dir))?;
        let (relay, alternate) = bind_relay(settings)?;
        let tun = settings.tun.then(|| Tun::open(tun_settings(settings))).transpose()?;
        Ok((http, unix, relay, alternate, tun))
    }

    /// To read its settings again from `source` when `bell` is rung.
    pub fn reloaded_by(self, bell: Bell, source: impl Fn() -> Result<Settings, String> + 'static) -> Self {
        Daemon { reload: Some((bell, Box::new(source))), ..self }
    }

    /// By another clock than the machine's.
    pub fn by_clock(self, clock: Clock) -> Self {
        Daemon { clock, ..self }
    }

    /// To tell `supervisor` how it is doing.
    pub fn supervised(self, supervisor: Rc<Supervisor>) -> Self {
        Daemon { supervisor, ..self }
    }

    /// Where it listens.
    pub fn addresses(&self) -> ListenAddresses {
        let http = self.http.address().unwrap_or(self.settings.http);
        ListenAddresses { http, relay: self.relay.address() }
    }

    /// Serves until `stop` is ready, or another state has come to take the place of its own, then stops in good order.
    pub fn run(self, stop: impl Future<Output = ()> + 'static) -> Result<Ending, DaemonError> {
        let (executor, clock) = (Rc::new(LocalExecutor::new()), self.clock);
        let load = self.load(executor.clone()).boxed_local();
        run(executor, clock, stop.boxed_local(), load)
    }

    /// Takes over what the store holds and what the daemon before left, and opens the doors.
    async fn load(self, executor: Rc<LocalExecutor<'static>>) -> Result<Serving, DaemonError> {
        let addresses = self.addresses();
        let Loaded { records, hub, stamp_mark, unreadable, .. } = records::load(self.rows);
        for row in unreadable {
            log::error!("the stored row {row} can't be read and is ignored");
        }
        let hub = hub_key(&self.store, hub).await?;
        #[cfg(feature = "cluster")]
        let follows = self.seat.as_ref().is_some_and(|seat| seat.replica.is_some());
        #[cfg(not(feature = "cluster"))]
        let follows = false;
        // From here on the dates of tokens are not what the store says they are: see `TokenRecord`.
        if records.stopped_at.is_some() && !follows {
            let ticket = self.store.submit(vec![records::stopped(None)]);
            if let Err(error) = self.store.durable(ticket).await {
                log::warn!("{error}: the state can be read, and changed as soon as it can be written");
            }
        }
        let (clock, start) = (self.clock, (self.clock)());
        let settings = api_settings(&self.settings, &hub.public_key(), addresses);
        let relay = Relay::new(relay_settings(&self.settings, &hub, stamp_mark), start.instant);
        let relay = RelayLoop::new(relay, self.relay, self.alternate, self.settings.gso, clock);
        if let Some(tun) = &self.tun {
            let (name, address) = (tun.name(), self.settings.control.subnet.hub());
            log::info!("this machine is in every party, at {address} ({name}): see to its firewall");
        }
        if let Some(advice) = advice::on_endpoint(self.settings.public_endpoint.as_ref()) {
            log::warn!("{advice}");
        }
        let relay = Rc::new(relay.with_local(self.tun));
        let totals = Totals::by(&self.settings);
        #[cfg_attr(not(feature = "cluster"), expect(unused_mut, reason = "nobody else decides"))]
        let mut control = Control::new(totals.control(&self.settings), hub, records, start);
        #[cfg(feature = "cluster")]
        if follows {
            control.follow(start);
        }
        #[cfg(feature = "cluster")]
        let key = control.instance_key();
        let handover = HandOver::new(&self.settings.runtime_dir, &control.hub());
        let api = Api::new(control, settings, start);
        let service = Service::new(api, self.store, relay.clone(), clock);
        #[cfg(feature = "cluster")]
        let service = match self.seat {
            Some(seat) => {
                service.among(Instances::new(key, seat.target, seat.replica, executor.clone(), clock))
            }
            None => service,
        };
        let service = Rc::new(service);
        service.settle();
        relay.take_over(&handover);
        let door = Door::new(executor.clone(), service.clone(), totals.door(&self.settings), clock);
        service.watch(door.reporter());
        let (supervisor, told) = (self.supervisor.clone(), service.clone());
        // In boxes, so that the executor's code is there once and not for each of them.
        let mut chores = vec![
            door.serve(self.http).boxed_local(),
            door.serve(self.unix).boxed_local(),
            service.clone().keep_time().boxed_local(),
            service.clone().answer_messages().boxed_local(),
            service.clone().keep_marks().boxed_local(),
            service.clone().keep_handshakes().boxed_local(),
            service.clone().keep_way_out().boxed_local(),
            relay.clone().keep_time().boxed_local(),
            relay.clone().keep_local().boxed_local(),
            async move { supervisor.keep_company(|| told.summary()).await }.boxed_local(),
        ];
        #[cfg(feature = "cluster")]
        chores.extend([
            service.clone().tell_in_turn().boxed_local(),
            service.clone().follow().boxed_local(),
            service.clone().keep_digests().boxed_local(),
            service.clone().hear_signals().boxed_local(),
            service.clone().keep_signals().boxed_local(),
        ]);
        let supervisor = self.supervisor;
        if let Some((bell, source)) = self.reload {
            let reloader = Reloader {
                bell,
                source,
                settings: self.settings,
                addresses,
                service: service.clone(),
                door: door.clone(),
                relay: relay.clone(),
                supervisor: supervisor.clone(),
                said: String::new(),
            };
            chores.push(reloader.keep_listening().boxed_local());
        }
        let tasks = chores.into_iter().map(|chore| executor.spawn(chore)).collect();
        let running = Running { service, door, relay: relay.clone(), supervisor, tasks, handover };
        Ok(Serving { relay, serve: Box::new(|stop| running.serve(stop).boxed_local()) })
    }
}

/// Becomes ready when it is to stop.
type Stop = LocalBoxed<()>;

/// What serves until it is to stop or has another reason to end, once everything is loaded.
struct Serving {
    relay: Rc<RelayLoop>,
    serve: Box<dyn FnOnce(Stop) -> LocalBoxed<Result<Ending, DaemonError>>>,
}

/// Loads, then serves.
fn run(
    executor: Rc<LocalExecutor<'static>>,
    clock: Clock,
    stop: Stop,
    load: LocalBoxed<Result<Serving, DaemonError>>,
) -> Result<Ending, DaemonError> {
    let (sender, stopped) = smol::channel::bounded::<Infallible>(1);
    // As a task it is looked at when it was woken, not whenever anything was.
    let waiting = async move {
        stop.await;
        sender.close();
    };
    let _waiting = executor.spawn(waiting.boxed_local());
    let load = async { Some(load.await) };
    // A disk that hangs holds up the start for ever. Nobody has been answered, so nothing is lost.
    let given_up = async {
        let _ = stopped.recv().await;
        Timer::after(LOAD).await;
        None
    };
    let Some(Serving { relay, serve }) = smol::block_on(executor.run(load.or(given_up))).transpose()? else {
        log::warn!("stopped before it was ready: the disk takes too long");
        return Ok(Ending::Stopped);
    };
    let stop = async move {
        // Nothing is ever sent: the channel only closes.
        let _ = stopped.recv().await;
    };
    relay.drive(serve(stop.boxed_local()).or(run_tasks(&executor, clock)))?
}

/// The relay's sockets.
fn bind_relay(settings: &Settings) -> Result<(RelaySocket, Option<RelaySocket>), DaemonError> {
    let relay = RelaySocket::bind(settings.relay)?.with_room(Totals::by(settings).datagrams).with_senders();
    let port = match settings.relay.port() {
        0 => Some(0),
        port => port.checked_add(1),
    };
    let alternate = port.map(|port| RelaySocket::bind(SocketAddr::new(settings.relay.ip(), port)));
    let alternate = alternate.and_then(|bound| {
        let say = |error: &_| log::warn!("NAT types can't be told apart: {}", advice::on_listening(error));
        bound.inspect_err(say).ok()
    });
    Ok((relay, alternate))
}

/// The hub's key: the stored one, or a new one that is.
async fn hub_key(store: &Store, stored: Option<PrivateKey>) -> Result<PrivateKey, DaemonError> {
    if let Some(hub) = stored {
        return Ok(hub);
    }
    let hub = PrivateKey::generate();
    let ticket = store.submit(vec![records::hub_key(&hub)]);
    store.durable(ticket).await.map_err(DaemonError::Write)?;
    Ok(hub)
}

/// A daemon that serves.
struct Running {
    service: Rc<Service>,
    door: Door<Service>,
    relay: Rc<RelayLoop>,
    supervisor: Rc<Supervisor>,
    tasks: Vec<Task<()>>,
    handover: HandOver,
}

impl Running {
    /// Lets everything run until `stop` is ready or another state has come, then stops in good order.
    async fn serve(self, stop: impl Future<Output = ()>) -> Result<Ending, DaemonError> {
        // The loop runs, and its tasks come after this: nothing is said of a reload before.
        self.supervisor.ready(self.service.summary());
        let mut stop = pin!(stop);
        let told = async {
            stop.as_mut().await;
            StopCause::Told
        };
        let succeeded = async {
            self.service.is_succeeded().await;
            StopCause::Succeeded
        };
        let cause = told.or(succeeded);
        #[cfg(feature = "cluster")]
        let cause = cause.or(async {
            self.service.fenced().await;
            StopCause::Fenced
        });
        let cause = cause.await;
        let begun = now().instant;
        log::info!("stopping");
        match cause {
            StopCause::Told => self.supervisor.stopping(),
            StopCause::Succeeded => self.supervisor.restarting(),
            #[cfg(feature = "cluster")]
            StopCause::Fenced => {
                log::error!("another instance has taken over: this one drops everything and follows");
            }
        }
        self.door.stop();
        let patience = async {
            Timer::after(DRAIN).await;
            let mut waited = Duration::ZERO;
            while self.service.waits_for_disk() && waited < DRAIN_DISK {
                Timer::after(DRAIN_STEP).await;
                waited += DRAIN_STEP;
            }
            // What has become durable just now is still to be told.
            Timer::after(DRAIN_STEP).await;
        };
        self.door.drained().or(patience).await;
        for task in self.tasks {
            task.cancel().await;
        }
        #[cfg(feature = "cluster")]
        if cause == StopCause::Fenced {
            // Nothing of it is worth keeping, and nothing is to be written.
            let _ = self.service.close(Duration::ZERO);
            return Ok(Ending::Fenced);
        }
        self.relay.hand_over(&self.handover);
        let closed = self.service.close(STOP.saturating_sub(now().instant.since(begun)));
        match self.service.take_successor() {
            Some((staged, from)) if cause == StopCause::Succeeded => {
                if let Err(error) = closed {
                    log::warn!("what was there lacks its last changes: {error}");
                }
                replace_state(staged, from);
                // A signal that came meanwhile counts, too.
                let is_told = smol::future::poll_once(stop).await.is_some();
                Ok(if is_told { Ending::Stopped } else { Ending::Restart })
            }
            _ => closed.map(|()| Ending::Stopped).map_err(DaemonError::Write),
        }
    }
}

/// Puts a state that has come in place of the one that was there, or leaves that alone.
fn replace_state(staged: StagedState, from: Source) {
    match staged.put(now().unix) {
        Ok(RestoredState { previous, .. }) => {
            let kept = previous
                .map_or_else(String::new, |path| format!("; what was there is in {}", path.display()));
            log::warn!("the state is that of a backup from {from} now{kept}");
        }
        Err(error) => log::error!("the backup from {from} was not put in place: {error}"),
    }
}

fn api_settings(settings: &Settings, hub: &PublicKey, addresses: ListenAddresses) -> api::ApiSettings {
    api::ApiSettings {
        relay: OwnRelay {
            relay_id: relay_id(hub),
            endpoint: settings.public_endpoint.clone(),
            port: addresses.relay.port(),
            region: settings.region.clone(),
            capacity: settings.max_clients,
        },
        rates: settings.rates.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        browsers: settings.browsers.clone().with(settings.public_url.as_deref()),
        admin_token: settings.admin_token.clone(),
        locations: api::Locations {
            url: settings.public_url.clone(),
            http: addresses.http.to_string(),
            relay: addresses.relay.to_string(),
            state_dir: absolute(&settings.state_dir).display().to_string(),
        },
    }
}

fn relay_settings(settings: &Settings, hub: &PrivateKey, stamp_mark: u64) -> relay::RelaySettings {
    relay::RelaySettings {
        hub_key: hub.clone(),
        subnet: settings.control.subnet,
        mtu: HUB_MTU,
        stamp_mark,
        seed: u64::from_le_bytes(random::bytes()),
        limits: RelayLimits {
            members_per_party: members_per_party(settings),
            x25519: measure_x25519(),
            ..Totals::by(settings).relay()
        },
    }
}

/// How long an X25519 computation takes on this machine.
fn measure_x25519() -> Duration {
    let (ours, theirs) = (PrivateKey::generate(), PrivateKey::generate().public_key());
    let measure = |_| {
        let begun = now().instant;
        black_box(ours.diffie_hellman(&theirs));
        now().instant.since(begun)
    };
    let fastest = (0..X25519_SAMPLES).map(measure).min().unwrap_or(X25519_TYPICAL);
    log::debug!("an X25519 computation takes {} us", fastest.as_micros());
    fastest
}

fn tun_settings(settings: &Settings) -> tun::TunSettings {
    let subnet = settings.control.subnet;
    tun::TunSettings {
        name: settings.interface.clone(),
        address: subnet.hub(),
        prefix: subnet.prefix(),
        mtu: HUB_MTU,
        offload: false,
    }
}

fn members_per_party(settings: &Settings) -> usize {
    settings.control.limits.peers_per_party.max(RelayLimits::default().members_per_party)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether as many threads as the daemon needs can run at once. What starts them later can't report an error.
pub fn check_threads() -> Result<(), DaemonError> {
    let (sender, receiver) = smol::channel::bounded::<Infallible>(1);
    let wait = || {
        let receiver = receiver.clone();
        // Until the channel closes.
        std::thread::Builder::new().spawn(move || {
            let _ = receiver.recv_blocking();
        })
    };
    let threads: Result<Vec<_>, _> = (1..THREADS).map(|_| wait()).collect();
    sender.close();
    for thread in threads.map_err(DaemonError::Threads)? {
        let _ = thread.join();
    }
    Ok(())
}

/// The signals that mean something here. SIGHUP is kept from the beginning; SIGTERM and SIGINT end the process,
/// as they do by default, until the settings are known.
pub struct SignalWatch(Signals);

impl SignalWatch {
    /// Keeps every SIGHUP from now on.
    pub fn new() -> Result<Self, DaemonError> {
        Signals::new([Signal::Hup]).map(SignalWatch).map_err(DaemonError::Signals)
    }

    /// Waits for SIGTERM or SIGINT, and rings `bell` for SIGHUP.
    pub fn stop(self, bell: Bell) -> Result<impl Future<Output = ()>, DaemonError> {
        let SignalWatch(mut signals) = self;
        signals.add_signals([Signal::Term, Signal::Int]).map_err(DaemonError::Signals)?;
        Ok(async move {
            while let Some(signal) = signals.next().await {
                match signal {
                    Ok(Signal::Term | Signal::Int) => return,
                    Ok(_) => bell.ring(),
                    Err(error) => log::warn!("a signal was lost: {error}"),
                }
            }
        })
    }
}

/// Runs the executor's tasks for ever, and lets others have their turn whenever that has taken its time.
async fn run_tasks<T>(executor: &LocalExecutor<'_>, clock: Clock) -> T {
    loop {
        let begun = clock().instant;
        while clock().instant.since(begun) < TASKS {
            executor.tick().await;
        }
        smol::future::yield_now().await;
    }
}
