//! A link of the tests' own: it carries connections to somewhere, can be cut and mended, and can lead elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// Between two looks whether a cut link is whole again.
const LOOK: Duration = Duration::from_millis(2);

/// It lasts as long as the process.
pub struct Cable {
    pub address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    is_cut: Arc<AtomicBool>,
}

impl Cable {
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (to, is_cut) = (Arc::new(Mutex::new(to)), Arc::<AtomicBool>::default());
        let (target, cut) = (to.clone(), is_cut.clone());
        spawn(move || {
            for client in listener.incoming() {
                let to = *target.lock().unwrap();
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                carry(client.try_clone().unwrap(), server.try_clone().unwrap(), cut.clone());
                carry(server, client, cut.clone());
            }
        });
        Cable { address, to, is_cut }
    }

    /// Where new connections lead from now on.
    pub fn lead_to(&self, to: SocketAddr) {
        *self.to.lock().unwrap() = to;
    }

    /// Nothing passes any more, and nobody is told: as when a cable is pulled.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// What was under way comes late, as TCP sends it again and again.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// Carries what comes from one to the other until either ends.
fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: Arc<AtomicBool>) {
    spawn(move || {
        let wait = || {
            while is_cut.load(Ordering::SeqCst) {
                sleep(LOOK);
            }
        };
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            wait();
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        wait();
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
