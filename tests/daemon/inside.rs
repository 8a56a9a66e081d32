//! The daemon in this process, on a disk that the test holds.

use crate::client::Client;
use crate::house::Directory;
use crate::sim_disk::SimDisk;
use lanrage::daemon::config::Config;
use lanrage::daemon::{Daemon, now};
use lanrage::store::Store;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub struct Inside {
    pub http: SocketAddr,
    stop: smol::channel::Sender<()>,
    thread: JoinHandle<Result<(), String>>,
    _directory: Arc<Directory>,
}

impl Inside {
    /// Starts it on what `disk` holds.
    pub fn start(disk: &SimDisk) -> Self {
        Self::start_with(disk, |_| ())
    }

    /// Does something to the disk when the store is open and the rest is not.
    pub fn start_with(disk: &SimDisk, meanwhile: fn(&SimDisk)) -> Self {
        let held = disk.clone();
        let directory = Directory::new();
        std::fs::create_dir_all(directory.state()).unwrap();
        let (state, factory) = (directory.state(), disk.factory());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut config = Config { state_dir: state, ..Config::default() };
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
            let daemon = Daemon::with_store(config, store, rows).unwrap();
            tell.send(daemon.addresses().http).unwrap();
            let stop = async move {
                let _ = stopped.recv().await;
            };
            daemon.run(stop).map_err(|error| error.to_string())
        });
        Inside { http: told.recv().unwrap(), stop, thread, _directory: directory }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// Stops it in good order.
    pub fn stop(self) -> Result<(), String> {
        self.stop.send_blocking(()).unwrap();
        self.thread.join().unwrap()
    }
}
