//! Floor 5: the only TUN. An interface of the machine itself, by which its own programs are in the virtual LAN.

use crate::sys::interface::{Interface, TunOffload, make_tun, set_tun_offload};
use crate::wire::offload::{Coalescer, TAILROOM, VNET_LENGTH, buffer, split};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DEVICE: &str = "/dev/net/tun";
/// Packets taken before anybody else gets a turn; the last few may come as one.
const TURN_PACKETS: usize = 64;
/// Room for a packet that came alone and for what is before and behind it, in bytes. What is longer is cut, and dropped.
const ROOM: usize = 2048;

/// What an interface is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunSettings {
    /// Its name, of 1 to 15 bytes.
    pub name: String,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// How many bits of that are the network's.
    pub prefix: u8,
    /// The longest packet, in bytes.
    pub mtu: usize,
    /// Whether many packets may come and go as one, where the kernel can do that.
    pub offload: bool,
}

/// Which step towards an interface failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunStep {
    /// Opening the device that makes interfaces.
    Open,
    /// Making the interface, or taking over one.
    Make,
    /// Giving it its address.
    SetUp,
}

/// Why there is no interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunError {
    /// What failed.
    pub step: TunStep,
    /// What the interface was to be like.
    pub settings: TunSettings,
    /// What the system said.
    pub errno: Errno,
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TunError { step, settings: TunSettings { name, address, prefix, .. }, errno } = self;
        match (step, *errno) {
            (TunStep::Open, Errno::NOENT | Errno::NXIO | Errno::NODEV) => {
                write!(f, "tun: there is no {DEVICE}")
            }
            (TunStep::Open, Errno::ACCESS | Errno::PERM) => {
                write!(f, "tun: this user may not open {DEVICE}")
            }
            (TunStep::Make, Errno::BUSY) => write!(f, "tun: another program has the interface {name}"),
            (TunStep::Make, Errno::INVAL) => write!(f, "tun: {name} is an interface of another kind"),
            (TunStep::Make | TunStep::SetUp, Errno::PERM) => {
                write!(f, "tun: this user may not set up the interface {name}")
            }
            (TunStep::Open, errno) => write!(f, "tun: {DEVICE} can't be opened: {errno}"),
            (TunStep::Make, errno) => write!(f, "tun: the interface {name} can't be made: {errno}"),
            (TunStep::SetUp, errno) => {
                write!(f, "tun: the interface {name} can't be given {address}/{prefix}: {errno}")
            }
        }
    }
}

impl std::error::Error for TunError {}

/// The interface. Should somebody remove it, it can be [made anew](Tun::reopen).
pub struct Tun {
    settings: TunSettings,
    /// Readable when the device is; the same for as long as this lives.
    watch: OwnedFd,
    device: RefCell<Option<OwnedFd>>,
    /// Makes one of packets for the machine, if the kernel takes that.
    coalescer: Option<RefCell<Coalescer>>,
    /// It was said that nothing can be handed to it.
    is_stuck: Cell<bool>,
}

impl Tun {
    /// Makes the interface, or takes over one of that name that somebody has made for us, and sets it up as far as
    /// it is not.
    pub fn open(settings: TunSettings) -> Result<Self, TunError> {
        let (device, offload) = make(&settings)?;
        let open = |errno| TunError { step: TunStep::Open, settings: settings.clone(), errno };
        Tun::over(device, settings.clone(), offload).map_err(open)
    }

    fn over(device: OwnedFd, settings: TunSettings, offload: TunOffload) -> Result<Self, Errno> {
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let coalescer =
            (offload != TunOffload::None).then(|| RefCell::new(Coalescer::new(offload == TunOffload::Udp)));
        let tun = Tun { settings, watch, device: RefCell::new(None), coalescer, is_stuck: Cell::new(false) };
        tun.watch(device)?;
        Ok(tun)
    }

    fn watch(&self, device: OwnedFd) -> Result<(), Errno> {
        epoll::add(&self.watch, &device, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        *self.device.borrow_mut() = Some(device);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it is there, as far as we know.
    pub fn is_open(&self) -> bool {
        self.device.borrow().is_some()
    }

    /// Makes the interface anew.
    pub fn reopen(&self) -> Result<(), TunError> {
        let (device, _) = make(&self.settings)?;
        let error = |errno| TunError { step: TunStep::Open, settings: self.settings.clone(), errno };
        self.watch(device).map_err(error)
    }

    /// A buffer for [`Tun::turn`].
    pub fn buffer(&self) -> Box<[u8]> {
        if self.coalescer.is_some() { buffer() } else { vec![0; ROOM].into() }
    }

    /// Has `handle` handle the packets that the machine sends, up to a budget. Each lies at `start` in what it is given and
    /// has the length given, with [`TAILROOM`] behind it; one that does not fit is cut. `false` if the interface is gone:
    /// nothing is readable any more then, until it is [made anew](Tun::reopen).
    pub fn turn(&self, buffer: &mut [u8], start: usize, mut handle: impl FnMut(&mut [u8], usize)) -> bool {
        let mut left = TURN_PACKETS;
        while left > 0 {
            match self.read(buffer, start, &mut handle) {
                Ok(count) => left = left.saturating_sub(count.max(1)),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => {
                    // A device without an interface is readable for ever.
                    self.device.take();
                    return false;
                }
            }
        }
        true
    }

    /// Reads once; how many packets that brought.
    fn read(
        &self,
        buffer: &mut [u8],
        start: usize,
        handle: &mut dyn FnMut(&mut [u8], usize),
    ) -> Result<usize, Errno> {
        let mut header = [0; VNET_LENGTH];
        let end = buffer.len() - TAILROOM;
        let length = {
            let device = self.device.borrow();
            let room = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(&mut buffer[start..end])];
            rustix::io::readv(device.as_ref().ok_or(Errno::BADFD)?, room)?
        };
        Ok(split(&header, buffer, start, length.saturating_sub(VNET_LENGTH), handle))
    }

    /// Hands a packet to the machine; whether that has taken it, or what was held before it. It may be held itself until
    /// [`Tun::flush`].
    pub fn write(&self, packet: &[u8]) -> bool {
        let mut write = |header: &[u8; VNET_LENGTH], packet: &[u8]| self.write_one(header, packet);
        match &self.coalescer {
            Some(coalescer) => coalescer.borrow_mut().push(packet, &mut write),
            None => write(&[0; VNET_LENGTH], packet),
        }
    }

    /// Hands over what was held.
    pub fn flush(&self) {
        if let Some(coalescer) = &self.coalescer {
            coalescer.borrow_mut().flush(&mut |header, packet| self.write_one(header, packet));
        }
    }

    fn write_one(&self, header: &[u8; VNET_LENGTH], packet: &[u8]) -> bool {
        let device = self.device.borrow();
        let Some(device) = &*device else { return false };
        let result = rustix::io::writev(device, &[IoSlice::new(header), IoSlice::new(packet)]);
        match result {
            Ok(_) => self.is_stuck.set(false),
            // It is there and switched off (`tun_get_user` in
            // <https://github.com/torvalds/linux/blob/v6.12/drivers/net/tun.c>).
            Err(Errno::IO) if !self.is_stuck.replace(true) => {
                let name = self.name();
                log::warn!(
                    "the interface {name} is down, members can't reach this machine: ip link set {name} up"
                );
            }
            Err(_) => (),
        }
        result.is_ok()
    }
}

/// Something to wait for until there are packets.
impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

fn make(settings: &TunSettings) -> Result<(OwnedFd, TunOffload), TunError> {
    let failed = |step| move |errno| TunError { step, settings: settings.clone(), errno };
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(failed(TunStep::Open))?;
    make_tun(device.as_fd(), &settings.name).map_err(failed(TunStep::Make))?;
    set_up(settings).map_err(failed(TunStep::SetUp))?;
    // One that was taken over may have had others.
    let wanted = [TunOffload::Udp, TunOffload::Tcp, TunOffload::None];
    let wanted = if settings.offload { &wanted[..] } else { &wanted[2..] };
    let offload = wanted.iter().find(|offload| set_tun_offload(device.as_fd(), **offload).is_ok());
    Ok((device, *offload.unwrap_or(&TunOffload::None)))
}

/// Changes what is not as it should be. What is, may have been made by somebody with more privileges.
fn set_up(settings: &TunSettings) -> Result<(), Errno> {
    let TunSettings { name, address, prefix, mtu, .. } = settings;
    let mask = Ipv4Addr::from_bits(u32::MAX.unbounded_shl(32 - u32::from(*prefix)));
    let interface = Interface::named(name)?;
    if interface.address() != Ok(*address) {
        interface.set_address(*address)?;
    }
    if interface.netmask()? != mask {
        interface.set_netmask(mask)?;
    }
    if interface.mtu()? != *mtu {
        interface.set_mtu(*mtu)?;
    }
    if interface.is_up()? { Ok(()) } else { interface.set_up() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip::{checksum, transport_checksum};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::unix::net::UnixDatagram;

    fn settings() -> TunSettings {
        let address = Ipv4Addr::new(10, 66, 0, 1);
        TunSettings { name: "lanrage7".to_owned(), address, prefix: 16, mtu: 1420, offload: false }
    }

    /// One over a socket instead of a device, and the other end.
    fn pair() -> (Tun, UnixDatagram) {
        let (device, machine) = UnixDatagram::pair().unwrap();
        device.set_nonblocking(true).unwrap();
        (Tun::over(device.into(), settings(), TunOffload::None).unwrap(), machine)
    }

    /// What the kernel says of a packet that is as it should be, and the packet.
    fn plain(packet: &[u8]) -> Vec<u8> {
        [&[0; VNET_LENGTH], packet].concat()
    }

    fn is_readable(tun: &Tun) -> bool {
        let mut fds = [PollFd::new(tun, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn packets_come_in_turns_and_lie_where_they_should() {
        let (tun, machine) = pair();
        machine.set_nonblocking(true).unwrap();
        let mut buffer = [0; 96];
        assert!(!is_readable(&tun));
        assert!(tun.turn(&mut buffer, 16, |_, _| panic!("nothing was sent")));
        // More than fit one turn; a socket holds as many as it can.
        let (mut sent, mut got, mut turns) = (0u8, Vec::new(), 0);
        while turns < 4 {
            while sent < 100 && machine.send(&plain(&[sent, 1, 2])).is_ok() {
                sent += 1;
            }
            assert_eq!(is_readable(&tun), got.len() < usize::from(sent));
            let before = got.len();
            let open = tun.turn(&mut buffer, 16, |buffer, length| {
                assert_eq!((length, &buffer[17..19]), (3, &[1, 2][..]));
                got.push(buffer[16]);
            });
            assert!(open && got.len() - before <= TURN_PACKETS);
            turns += 1;
        }
        machine.send(&plain(&[7; 60])).unwrap();
        assert!(tun.turn(&mut buffer, 16, |buffer, length| assert_eq!(length, buffer.len() - 16 - TAILROOM)));
        assert!(tun.write(b"packet"));
        assert_eq!((machine.recv(&mut buffer).unwrap(), &buffer[..16]), (16, &plain(b"packet")[..]));
        assert!(got.iter().copied().eq(0..sent) && sent > 0);
    }

    #[test]
    fn what_may_be_joined_is_held_until_all_is_there() {
        let (device, machine) = UnixDatagram::pair().unwrap();
        machine.set_nonblocking(true).unwrap();
        let tun = Tun::over(device.into(), settings(), TunOffload::Tcp).unwrap();
        assert!(tun.buffer().len() > 65_535 + 2 * TAILROOM);
        let mut packet = [0; 44];
        (packet[0], packet[3], packet[6], packet[9]) = (0x45, 44, 0x40, 6);
        (packet[32], packet[33]) = (5 << 4, 16);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let sum = transport_checksum([0; 4].into(), [0; 4].into(), 6, &packet[20..]);
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        let mut buffer = [0; 96];
        assert!(tun.write(&packet) && machine.recv(&mut buffer).is_err());
        tun.flush();
        assert_eq!((machine.recv(&mut buffer).unwrap(), &buffer[..54]), (54, &plain(&packet)[..]));
        assert!(tun.write(b"packet") && machine.recv(&mut buffer).is_ok());
    }

    /// A device without an interface is always readable, and every read of it fails.
    #[test]
    fn an_interface_that_is_gone_keeps_nobody_busy() {
        let (tun, machine) = pair();
        // Fails to be read like one.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(listener);
        stream.set_nonblocking(true).unwrap();
        drop(machine);
        let gone = Tun::over(stream.into(), settings(), TunOffload::None).unwrap();
        let mut buffer = [0; 64];
        while !is_readable(&gone) {
            std::thread::yield_now();
        }
        assert!(!gone.turn(&mut buffer, 16, |_, _| panic!("nothing was sent")));
        assert!(!gone.is_open() && !is_readable(&gone));
        assert!(!gone.write(b"packet") && !gone.turn(&mut buffer, 16, |_, _| ()));
        assert!(!tun.write(b"nobody reads this") && tun.is_open(), "only a read tells that it is gone");
        assert!(!is_readable(&tun));
    }
}
