//! Waiting for relay sockets and for everything else.

use super::RelaySocket;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
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
struct Bell {
    state: AtomicU8,
    event: OwnedFd,
}

impl Bell {
    /// Changes the state if it is `from`, and says whether it was.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for Bell {
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

/// Runs `future` on this thread, and calls `ready` with the index of a socket that there is something to
/// receive from, or room for what waits to be sent, for a [`RelaySocket::turn`]; after the sockets come the
/// `others`, when there is something to read. They take turns, so that neither starves the other. Returns what
/// the future does, or the first error of `ready`.
///
/// One `poll` is all that a datagram which comes alone pays; through the reactor it would be seven system
/// calls. Everything else waits in the reactor's thread meanwhile.
pub fn drive<T>(
    future: impl Future<Output = T>,
    sockets: &[&RelaySocket],
    others: &[BorrowedFd<'_>],
    mut ready: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<T> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(Bell { state: AtomicU8::new(RUNG), event });
    let waker = Waker::from(bell.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let own = sockets.iter().map(|socket| socket.io.as_fd());
    let fds = own.chain(others.iter().copied()).chain([bell.event.as_fd()]);
    let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let always = fds.len();
    // Behind them: senders that something waits for, and whose they are.
    let mut owners = Vec::new();
    loop {
        if bell.turn(RUNG, AWAKE)
            && let Poll::Ready(result) = future.as_mut().poll(&mut context)
        {
            return Ok(result);
        }
        fds.truncate(always);
        owners.clear();
        for (index, socket) in sockets.iter().enumerate() {
            let room = if socket.waits_for.get() & 1 == 1 { PollFlags::OUT } else { PollFlags::empty() };
            fds[index] = PollFd::from_borrowed_fd(socket.io.as_fd(), PollFlags::IN | room);
            for sender in socket.full_senders() {
                fds.push(PollFd::from_borrowed_fd(sender, PollFlags::OUT));
                owners.push(index);
            }
        }
        let sleeps = bell.turn(AWAKE, ASLEEP);
        let result = poll(&mut fds, if sleeps { None } else { Some(&NOT_AT_ALL) });
        bell.turn(ASLEEP, AWAKE);
        match result {
            Err(Errno::INTR) | Ok(0) => continue,
            result => result?,
        };
        for (index, fd) in fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()) {
            if let Some(owner) = index.checked_sub(always) {
                ready(owners[owner])?;
            } else if index < sockets.len() + others.len() {
                ready(index)?;
            } else {
                let _ = rustix::io::read(fd, &mut [0u8; 8]);
            }
        }
    }
}
