//! A door with a toy service behind it, in a child process.

use crate::PATIENCE;
use crate::client::{Answer as Received, Client};
use crate::harness::process::Process;
use lanrage::figures::{Readings, Resource};
use lanrage::ids::SessionId;
use lanrage::net::http::{Door, HttpLimits, HttpService, ServiceReply, SessionOutbox};
use lanrage::net::listen::Listener;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::http::{Answer, RejectedRequest, Request};
use rustix::net::{AddressFamily, SocketType};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

/// What a test wants of its door. Passed to the child through its environment.
#[derive(Clone, Default)]
pub struct DoorSetup {
    /// Milliseconds for each of head, body, idle, write and linger; the default limits if `None`.
    pub timeout: Option<u64>,
    /// Milliseconds between pings, and until a silent session is cut.
    pub silence: Option<(u64, u64)>,
    /// Connections in all.
    pub connections: Option<usize>,
    /// Sessions in all.
    pub sessions: Option<usize>,
    /// Messages of 1000 bytes that may wait for a session.
    pub outbox: Option<usize>,
    /// Lowers the limit of open files.
    pub descriptors: Option<u64>,
    /// Where to listen besides.
    pub socket: Option<PathBuf>,
}

/// A running door.
pub struct TestDoor {
    child: Process,
    output: Lines<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl TestDoor {
    pub fn start() -> Self {
        Self::planned(DoorSetup::default())
    }

    pub fn planned(setup: DoorSetup) -> Self {
        let numbers = [
            setup.timeout,
            setup.silence.map(|silence| silence.0),
            setup.silence.map(|silence| silence.1),
            setup.connections.map(|count| count as u64),
            setup.sessions.map(|count| count as u64),
            setup.outbox.map(|count| count as u64),
            setup.descriptors,
        ];
        let numbers = numbers.map(|number| number.map_or("-".into(), |number| number.to_string())).join(" ");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "test_door::in_the_child", "--nocapture"])
            .env("DOOR_PLAN", numbers)
            .env("DOOR_SOCKET", setup.socket.as_deref().unwrap_or(Path::new("")))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = output
            .by_ref()
            .find_map(|line| {
                line.unwrap().split_once("listening ").map(|(_, address)| address.parse().unwrap())
            })
            .expect("the child listens");
        TestDoor { child: Process(child), output, address }
    }

    /// Waits until the child has said goodbye to everybody after `/stop`.
    pub fn drained(&mut self) -> bool {
        self.output.any(|line| line.unwrap().contains("drained"))
    }
}

impl Deref for TestDoor {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.child
    }
}

/// Connects with room for little of what is sent to it.
pub fn connect_narrow(test_door: &TestDoor) -> Client {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    rustix::net::connect(&socket, &test_door.address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

/// Sends bytes on a new connection and reads one answer.
pub fn ask(test_door: &TestDoor, bytes: impl AsRef<[u8]>) -> Received {
    let mut client = Client::connect(test_door.address);
    client.send(bytes);
    client.answer()
}

/// One of the numbers that the toy service keeps.
pub fn stat(test_door: &TestDoor, name: &str) -> u64 {
    let answer = Client::connect(test_door.address).get("/stats");
    let value = answer.body.split(' ').find_map(|item| item.strip_prefix(name)?.strip_prefix('='));
    value.unwrap().parse().unwrap()
}

fn clock() -> Now {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let since = START.get_or_init(std::time::Instant::now).elapsed();
    Now { instant: Instant::ZERO + since, unix: UnixTime::from_micros(1_800_000_000_000_000) + since }
}

/// The child's side: does nothing unless it was started by [`TestDoor::planned`].
#[test]
fn in_the_child() {
    let Ok(setup) = std::env::var("DOOR_PLAN") else { return };
    let mut numbers = setup.split(' ').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap();
    // What is tested here is time and room; how much may wait is tested against the daemon.
    let mut limits = HttpLimits { buffers: 1 << 30, ..HttpLimits::default() };
    if let Some(timeout) = next().map(Duration::from_millis) {
        limits.head_timeout = timeout;
        limits.body_timeout = timeout;
        limits.idle_timeout = timeout;
        limits.write_timeout = timeout;
        limits.linger_timeout = timeout;
        limits.sweep_interval = timeout / 4;
    }
    let silence = (next(), next());
    if let (Some(ping), Some(cut)) = silence {
        limits.ping_interval = Duration::from_millis(ping);
        limits.silence_timeout = Duration::from_millis(cut);
        limits.sweep_interval = Duration::from_millis(50);
    }
    limits.connections = next().map_or(limits.connections, |count| count as usize);
    limits.sessions = next().map_or(limits.sessions, |count| count as usize);
    if let Some(count) = next() {
        limits.outbox_messages = count as usize;
        limits.outbox_bytes = count as usize * 1100;
    }
    if let Some(count) = next() {
        let limit = rustix::process::Rlimit { current: Some(count), maximum: Some(count) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    }
    let socket = std::env::var("DOOR_SOCKET").unwrap();

    let executor = Rc::new(smol::LocalExecutor::new());
    let toy = Rc::new(Toy::default());
    let door = Door::new(executor.clone(), toy.clone(), limits, clock);
    *toy.door.borrow_mut() = Some(door.clone());
    let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    println!("listening {}", listener.address().unwrap());
    executor.spawn(door.serve(listener)).detach();
    if !socket.is_empty() {
        executor.spawn(door.serve(Listener::unix(Path::new(&socket)).unwrap())).detach();
    }
    smol::block_on(executor.run(async {
        while !toy.is_stopped.get() {
            smol::Timer::after(Duration::from_secs(3600)).or_stop(&toy).await;
        }
        door.drained().await;
    }));
    println!("drained");
}

trait OrStop: Future + Sized {
    /// Waits for the toy to be stopped instead.
    async fn or_stop(self, toy: &Toy) {
        smol::future::or(
            async {
                self.await;
            },
            async {
                let _ = toy.stop.1.recv().await;
            },
        )
        .await;
    }
}

impl<F: Future> OrStop for F {}

struct Toy {
    door: RefCell<Option<Door<Toy>>>,
    stop: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
    is_stopped: Cell<bool>,
    requests: Cell<u64>,
    refused: Cell<u64>,
    opened: Cell<u64>,
    closed: Cell<u64>,
    sessions: RefCell<HashMap<SessionId, Rc<SessionOutbox>>>,
    hoard: RefCell<Vec<std::fs::File>>,
}

impl Default for Toy {
    fn default() -> Self {
        Toy {
            door: RefCell::default(),
            stop: smol::channel::bounded(1),
            is_stopped: Cell::default(),
            requests: Cell::default(),
            refused: Cell::default(),
            opened: Cell::default(),
            closed: Cell::default(),
            sessions: RefCell::default(),
            hoard: RefCell::default(),
        }
    }
}

impl HttpService for Toy {
    const WEBSOCKET: &'static str = "/ws";

    async fn call(self: Rc<Self>, request: Request) -> ServiceReply {
        self.requests.set(self.requests.get() + 1);
        let number = request.query.parse::<usize>().unwrap_or(0);
        match request.path.as_str() {
            "/large" => Answer::json(200, vec![b'x'; number]).into(),
            "/slow" => {
                smol::Timer::after(Duration::from_millis(number as u64)).await;
                Answer::json(200, "{}").into()
            }
            "/wrong" => Answer::json(500, r#"{"detail":"on purpose"}"#).into(),
            "/pieces" | "/broken" => {
                let (sender, receiver) = smol::channel::bounded(2);
                let is_broken = request.path == "/broken";
                std::thread::spawn(move || {
                    for piece in 0..number {
                        let piece = format!("piece {piece};").repeat(1000).into_bytes();
                        if sender.send_blocking(piece).is_err() {
                            return;
                        }
                    }
                    if !is_broken {
                        let _ = sender.send_blocking(Vec::new());
                    }
                });
                ServiceReply { stream: Some(receiver), ..Answer::json(200, "").into() }
            }
            "/hoard" => {
                let files = (0..number).map_while(|_| std::fs::File::open("/dev/null").ok());
                self.hoard.borrow_mut().extend(files);
                Answer::json(200, format!("{}", self.hoard.borrow().len())).into()
            }
            "/release" => {
                self.hoard.borrow_mut().clear();
                Answer::json(200, "{}").into()
            }
            "/stop" => {
                self.is_stopped.set(true);
                self.door.borrow().as_ref().unwrap().stop();
                let _ = self.stop.0.try_send(());
                Answer::json(200, "{}").into()
            }
            "/stats" => {
                let door = self.door.borrow();
                let door = door.as_ref().unwrap();
                let mut readings = Readings::default();
                door.reporter()(&mut readings);
                let buffers = readings.tables.iter().find(|table| table.resource == Resource::Buffers);
                let text = format!(
                    "requests={} refused={} opened={} closed={} connections={} sessions={} buffers={}",
                    self.requests.get(),
                    self.refused.get(),
                    self.opened.get(),
                    self.closed.get(),
                    door.connections(),
                    door.sessions(),
                    buffers.unwrap().held
                );
                Answer::json(200, text).into()
            }
            _ => {
                let text = format!(
                    "{} {} {} {} {:?} {:?}",
                    request.method,
                    request.path,
                    request.query,
                    request.body.len(),
                    request.source,
                    request.local.is_some()
                );
                Answer::json(200, text).into()
            }
        }
    }

    fn refused(&self, _status: u16) {
        self.refused.set(self.refused.get() + 1);
    }

    fn open_session(
        &self,
        request: &Request,
        outbox: Rc<SessionOutbox>,
    ) -> Result<SessionId, RejectedRequest> {
        if request.query == "refuse" {
            return Err(RejectedRequest::new(503, "as you wish"));
        }
        self.opened.set(self.opened.get() + 1);
        let id = SessionId(self.opened.get());
        if request.query == "greet" {
            outbox.push("welcome".into());
        }
        self.sessions.borrow_mut().insert(id, outbox);
        Ok(id)
    }

    fn message(self: Rc<Self>, session: SessionId, text: &str) {
        let sessions = self.sessions.borrow();
        let outbox = &sessions[&session];
        match text.split_once(' ') {
            Some(("flood", count)) => {
                let line = lanrage::net::http::SharedText::from("y".repeat(1000));
                for _ in 0..count.parse().unwrap() {
                    outbox.push(line.clone());
                }
            }
            Some(("close", code)) => {
                outbox.push("bye".into());
                outbox.close(code.parse().unwrap(), "as you wish");
                assert!(!outbox.push("too late".into()));
            }
            Some(("everybody", text)) => {
                let text = lanrage::net::http::SharedText::from(text);
                for outbox in sessions.values() {
                    outbox.push(text.clone());
                }
            }
            _ => {
                outbox.push(text.into());
            }
        }
    }

    fn is_member(&self, _session: SessionId) -> bool {
        true
    }

    fn closed(&self, session: SessionId) {
        self.closed.set(self.closed.get() + 1);
        self.sessions.borrow_mut().remove(&session).expect("closed once");
    }
}
