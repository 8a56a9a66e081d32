//! What has passed the relay: the last of it is printed when a scenario fails, and all of it can be written for
//! Wireshark: `LANRAGE_PCAP=DIRECTORY cargo test --test sim NAME` makes `NAME.pcap` there.

use lanrage::relay::kind;
use lanrage::time::{Instant, UnixTime};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// So many datagrams are kept for when a scenario fails.
const LAST: usize = 40;
/// LINKTYPE_RAW: a packet begins with its IP header.
const RAW_IP: u32 = 101;
const UDP: u8 = 17;

/// A datagram that has come to the relay or gone from it.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: Instant,
    /// Who it says it is from, or where it went.
    pub remote: SocketAddr,
    /// The relay's address.
    pub relay: SocketAddr,
    pub to_relay: bool,
    pub bytes: Vec<u8>,
}

impl Record {
    fn describe(&self, began: Instant) -> String {
        let (arrow, kind, length) =
            (if self.to_relay { "->" } else { "<-" }, kind(&self.bytes), self.bytes.len());
        let at = self.at.since(began).as_secs_f64();
        format!("{at:>10.4} s  {:<24} {arrow} relay  {kind}, {length} bytes", self.remote.to_string())
    }

    /// As an IP packet. Checksums are 0: not there (UDP over IPv4), or not looked at.
    fn packet(&self) -> Vec<u8> {
        let (from, to) = if self.to_relay { (self.remote, self.relay) } else { (self.relay, self.remote) };
        let length = 8 + self.bytes.len() as u16;
        let mut packet = match (from.ip().to_canonical(), to.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45, 0];
                header.extend((20 + length).to_be_bytes());
                header.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
                header.extend(from.octets().into_iter().chain(to.octets()));
                header
            }
            (from, to) => {
                let wide = |address| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                header.extend([UDP, 64]);
                header.extend(wide(from).octets().into_iter().chain(wide(to).octets()));
                header
            }
        };
        for part in [from.port(), to.port(), length, 0] {
            packet.extend(part.to_be_bytes());
        }
        packet.extend(&self.bytes);
        packet
    }
}

/// What has passed, in order.
pub struct Capture {
    began: Instant,
    last: VecDeque<Record>,
    /// All since a scenario wanted to know.
    wanted: Option<Vec<Record>>,
    /// All of it, and where to write it.
    all: Vec<Record>,
    directory: Option<PathBuf>,
}

impl Capture {
    pub fn new(began: Instant) -> Self {
        let directory = std::env::var_os("LANRAGE_PCAP").map(PathBuf::from);
        Capture { began, last: VecDeque::with_capacity(LAST), wanted: None, all: Vec::new(), directory }
    }

    /// Keeps all from now on, and gives what was kept.
    pub fn start(&mut self) -> Vec<Record> {
        self.wanted.replace(Vec::new()).unwrap_or_default()
    }

    /// Keeps no more, and gives what was kept.
    pub fn stop(&mut self) -> Vec<Record> {
        self.wanted.take().unwrap_or_default()
    }

    pub fn push(&mut self, record: Record) {
        if let Some(wanted) = &mut self.wanted {
            wanted.push(record.clone());
        }
        if self.directory.is_some() {
            self.all.push(record.clone());
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(record);
    }

    pub fn records(&self) -> &[Record] {
        self.wanted.as_deref().unwrap_or_default()
    }
}

/// All of `records`, as a file for Wireshark (draft-ietf-opsawg-pcap).
pub fn pcap(records: &[Record], date: impl Fn(Instant) -> UnixTime) -> Vec<u8> {
    let mut file = Vec::new();
    let (magic, version, zone, accuracy, longest) = (0xa1b2_c3d4_u32, [2_u16, 4], 0_u32, 0_u32, 65_535_u32);
    file.extend(magic.to_le_bytes());
    version.iter().for_each(|part| file.extend(part.to_le_bytes()));
    [zone, accuracy, longest, RAW_IP].iter().for_each(|part| file.extend(part.to_le_bytes()));
    for record in records {
        let (micros, packet) = (date(record.at).as_micros(), record.packet());
        let length = packet.len() as u32;
        let head = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, length, length];
        head.iter().for_each(|part| file.extend(part.to_le_bytes()));
        file.extend(packet);
    }
    file
}

impl Drop for Capture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the last that passed the relay:");
            self.last.iter().for_each(|record| println!("{}", record.describe(self.began)));
        }
        if let Some(directory) = &self.directory {
            let name = std::thread::current().name().unwrap_or("scenario").replace("::", "-");
            write(&directory.join(name + ".pcap"), &self.all);
        }
    }
}

fn write(path: &Path, records: &[Record]) {
    let file = pcap(records, crate::world::date);
    if let Err(error) = std::fs::write(path, file) {
        println!("{}: {error}", path.display());
    }
}

#[test]
fn what_passed_can_be_read_elsewhere() {
    let mut world = crate::world::World::new(1);
    world.capture.start();
    let members = world.blind_party("LAN", 2);
    assert!(world.talk(members[0], members[1]));
    let records = world.records();
    let file = pcap(records, crate::world::date);
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    let (mut rest, mut count) = (&file[24..], 0);
    while !rest.is_empty() {
        let field = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (length, original) = (field(8), field(12));
        let packet = &rest[16..16 + length];
        let record = &records[count];
        assert_eq!((length, original), (28 + record.bytes.len(), length));
        assert_eq!((packet[0], packet[9], &packet[28..]), (0x45, UDP, &record.bytes[..]));
        let destination = if record.to_relay { record.relay } else { record.remote };
        assert_eq!(IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap()), destination.ip());
        rest = &rest[16 + length..];
        count += 1;
    }
    assert_eq!(count, records.len());
    assert!(count > 4, "two handshake messages each way and data");
    assert!(records[0].describe(records[0].at).ends_with("initiation, 148 bytes"));
}
