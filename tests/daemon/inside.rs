//! The daemon in this process, on a disk that the test holds.

use crate::client::Client;
use crate::harness::directory::Directory;
use crate::sim_disk::SimDisk;
use lanrage::daemon::settings::Settings;
use lanrage::daemon::{Daemon, Supervisor, now};
use lanrage::store::Store;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Inside {
    pub http: SocketAddr,
    /// How long to hang; `None` stops it.
    orders: smol::channel::Sender<Option<Duration>>,
    thread: JoinHandle<Result<(), String>>,
    _directory: Directory,
}

impl Inside {
    /// Starts it on what `disk` holds.
    pub fn start(disk: &SimDisk) -> Self {
        Self::start_with(disk, |_| ())
    }

    /// Does something to the disk when the store is open and the rest is not.
    pub fn start_with(disk: &SimDisk, meanwhile: fn(&SimDisk)) -> Self {
        Self::supervised(disk, meanwhile, Supervisor::default())
    }

    /// The same, and it tells `supervisor` how it is doing.
    pub fn supervised(disk: &SimDisk, meanwhile: fn(&SimDisk), supervisor: Supervisor) -> Self {
        let held = disk.clone();
        let directory = Directory::new();
        std::fs::create_dir_all(directory.state()).unwrap();
        let (state, factory) = (directory.state(), disk.factory());
        let (orders, given) = smol::channel::bounded(1);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut config = Settings { state_dir: state, ..Settings::default() };
            for (key, value) in [
                ("http", "127.0.0.1:0"),
                ("relay", "127.0.0.1:0"),
                ("limits.connections_per_source", "200"),
                ("limits.sessions_per_source", "200"),
            ] {
                config.set(key, value, "test").unwrap();
            }
            let (store, rows) = Store::open_backend(Path::new("sim"), factory, now).unwrap();
            meanwhile(&held);
            let daemon = Daemon::with_store(config, store, rows).unwrap().supervised(Rc::new(supervisor));
            tell.send(daemon.addresses().http).unwrap();
            let stop = async move {
                while let Ok(Some(pause)) = given.recv().await {
                    std::thread::sleep(pause);
                }
            };
            daemon.run(stop).map(drop).map_err(|error| error.to_string())
        });
        Inside { http: told.recv().unwrap(), orders, thread, _directory: directory }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// Has its one loop do nothing for so long.
    pub fn hang(&self, pause: Duration) {
        self.orders.send_blocking(Some(pause)).unwrap();
    }

    /// Stops it in good order.
    pub fn stop(self) -> Result<(), String> {
        self.orders.send_blocking(None).unwrap();
        self.thread.join().unwrap()
    }
}
