//! Waiting for relay sockets and for everything else.

use super::RelaySocket;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The thread is at work and will look at the state before it sleeps.
const AWAKE: u8 = 0;
/// The thread sleeps, or is about to: the bell has to be rung.
const ASLEEP: u8 = 1;
/// The future is to be polled.
const RUNG: u8 = 2;

const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Wakes the thread, with a system call only if it sleeps.
struct ThreadWaker {
    state: AtomicU8,
    event: OwnedFd,
}

impl ThreadWaker {
    /// Changes the state if it is `from`, and says whether it was.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // It fails only if nobody has answered 2^64 - 2 rings.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// Where a [`Watch`] says that the bell was rung.
const BELL: u64 = u64::MAX;
/// Most events taken at once.
const EVENTS: usize = 16;

/// What the thread sleeps for. The kernel keeps the list, so that a wait costs little, however many there are.
struct Watch<'a> {
    epoll: OwnedFd,
    sockets: &'a [&'a RelaySocket],
    /// Whose room is waited for, of each socket: a bit for each sender.
    rooms: Vec<u16>,
    events: Vec<Event>,
}

impl<'a> Watch<'a> {
    fn new(
        sockets: &'a [&'a RelaySocket],
        others: &[BorrowedFd<'_>],
        bell: &ThreadWaker,
    ) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let own = sockets.iter().map(|socket| socket.io.as_fd());
        for (index, fd) in own.chain(others.iter().copied()).enumerate() {
            epoll::add(&epoll, fd, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        epoll::add(&epoll, &bell.event, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Watch { epoll, sockets, rooms: vec![0; sockets.len()], events: Vec::with_capacity(EVENTS) })
    }

    /// Waits for the room that is needed now, and for no other.
    fn update(&mut self) -> Result<(), Errno> {
        for (index, socket) in self.sockets.iter().enumerate() {
            let (before, now) = (self.rooms[index], socket.waits_for.get());
            if before == now {
                continue;
            }
            let data = EventData::new_u64(index as u64);
            if (before ^ now) & 1 == 1 {
                let room = if now & 1 == 1 { EventFlags::OUT } else { EventFlags::empty() };
                epoll::modify(&self.epoll, socket.io.as_fd(), data, EventFlags::IN | room)?;
            }
            for (number, sender) in (1..).zip(&socket.senders) {
                match (before >> number & 1, now >> number & 1) {
                    (0, 1) => epoll::add(&self.epoll, sender, data, EventFlags::OUT)?,
                    (1, 0) => epoll::delete(&self.epoll, sender)?,
                    _ => (),
                }
            }
            self.rooms[index] = now;
        }
        Ok(())
    }

    /// Sleeps until something happens, unless it is not to. Gives where: each once, the bell last.
    fn wait(&mut self, sleeps: bool) -> Result<impl Iterator<Item = u64>, Errno> {
        self.events.clear();
        let timeout = if sleeps { None } else { Some(&NOT_AT_ALL) };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        self.events.sort_unstable_by_key(|event| event.data.u64());
        self.events.dedup_by_key(|event| event.data.u64());
        Ok(self.events.iter().map(|event| event.data.u64()))
    }
}

/// Runs `future` on this thread, and calls `ready` with the index of a socket that there is something to
/// receive from, or room for what waits to be sent, for a [`RelaySocket::turn`]; after the sockets come the
/// `others`, when there is something to read. They take turns, so that neither starves the other. Returns what
/// the future does, or the first error of `ready`.
///
/// One `epoll_wait` is all that a datagram which comes alone pays; through the reactor it would be seven system
/// calls. Everything else waits in the reactor's thread meanwhile.
pub fn drive<T>(
    future: impl Future<Output = T>,
    sockets: &[&RelaySocket],
    others: &[BorrowedFd<'_>],
    mut ready: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<T> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(ThreadWaker { state: AtomicU8::new(RUNG), event });
    let waker = Waker::from(bell.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut watch = Watch::new(sockets, others, &bell)?;
    loop {
        if bell.turn(RUNG, AWAKE)
            && let Poll::Ready(result) = future.as_mut().poll(&mut context)
        {
            return Ok(result);
        }
        watch.update()?;
        let sleeps = bell.turn(AWAKE, ASLEEP);
        let events = watch.wait(sleeps);
        bell.turn(ASLEEP, AWAKE);
        for event in events? {
            if event == BELL {
                let _ = rustix::io::read(&bell.event, &mut [0u8; 8]);
            } else {
                ready(event as usize)?;
            }
        }
    }
}
