//! The log goes to standard error, a line a record, and never holds up who writes it.
//!
//! Who collects the log may stop reading it. Then its pipe or socket is full, and a write that waits would stop
//! the whole daemon. So a line that can't be written at once is lost. Lost lines are counted, and the next line
//! that is written comes after one that says how many they were.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::stdio::{dup2_stderr, stderr, stdout};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A write of so many bytes to a pipe that poll(2) calls writable does not wait (pipe(7), PIPE_BUF).
const PIPE_BUF: usize = 4096;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Lines that were lost since the start. MIPS and the oldest ARM have no atomic numbers of 64 bits.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// How many lines of the log were lost since the start, because nobody read them.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed) as u64
}

/// How to write to a descriptor without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WriteMode {
    /// A write never waits for a reader: a file, or a description of our own with O_NONBLOCK.
    Plain,
    /// A socket, as systemd-journald gives us.
    Socket,
    /// A pipe or terminal. O_NONBLOCK would count for every process that shares it, such as the shell, so it is
    /// asked whether it can be written.
    Shared,
}

impl WriteMode {
    fn of(fd: BorrowedFd<'_>) -> Self {
        match fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Socket) => WriteMode::Socket,
            Ok(FileType::Fifo | FileType::CharacterDevice) => WriteMode::Shared,
            _ => WriteMode::Plain,
        }
    }

    /// Writes what can be written now: how many bytes.
    fn write(self, fd: BorrowedFd<'_>, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_once(fd, &bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        written
    }

    fn write_once(self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            WriteMode::Plain => rustix::io::write(fd, bytes),
            WriteMode::Socket => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            WriteMode::Shared => {
                let mut asked = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                poll(&mut asked, Some(&AT_ONCE))?;
                match asked[0].revents().contains(PollFlags::OUT) {
                    true => rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_BUF)]),
                    false => Ok(0),
                }
            }
        }
    }
}

/// Standard error, for the log.
#[derive(Debug)]
pub struct LogOutput {
    fd: BorrowedFd<'static>,
    kind: WriteMode,
    /// The end of a line whose start was written.
    rest: Vec<u8>,
    /// Lines that were lost and not spoken of.
    untold: u64,
}

impl LogOutput {
    /// Standard error. From now on nothing that this process writes there waits, a panic's message included.
    pub fn stderr() -> Self {
        let mut kind = WriteMode::of(stderr());
        if kind == WriteMode::Shared && reopen_stderr().is_ok() {
            kind = WriteMode::Plain;
        }
        if kind != WriteMode::Plain {
            std::panic::set_hook(Box::new(move |panic| {
                kind.write(stderr(), panic_message(panic).as_bytes());
            }));
        }
        Self::new(stderr(), kind)
    }

    fn new(fd: BorrowedFd<'static>, kind: WriteMode) -> Self {
        LogOutput { fd, kind, rest: Vec::new(), untold: 0 }
    }

    /// Whether `line` was written, or its start was and its end will be.
    fn offer(&mut self, line: &[u8]) -> bool {
        let written = self.kind.write(self.fd, line);
        if written > 0 {
            self.rest.extend_from_slice(&line[written..]);
        }
        written > 0
    }

    fn write_rest(&mut self) -> bool {
        let written = self.kind.write(self.fd, &self.rest);
        self.rest.drain(..written);
        self.rest.is_empty()
    }

    fn tell_of_lost(&mut self) -> bool {
        if self.untold > 0 {
            let lines = if self.untold == 1 { "line" } else { "lines" };
            let told = format!("WARN {} {lines} of the log were lost: nobody read them\n", self.untold);
            if self.offer(told.as_bytes()) {
                self.untold = 0;
            }
        }
        self.untold == 0 && self.rest.is_empty()
    }
}

impl Write for LogOutput {
    /// Takes a whole line. It always succeeds: see [`lines_lost`].
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !(self.write_rest() && self.tell_of_lost() && self.offer(line)) {
            self.untold += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a description of our own, with O_NONBLOCK, in place of standard error. Fails where there is no /proc, or
/// the pipe or terminal was made by another user.
fn reopen_stderr() -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    dup2_stderr(open("/proc/self/fd/2", flags, Mode::empty())?)
}

fn panic_message(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("panicked at {place}: {text}\n"),
        None => format!("panicked: {text}\n"),
    }
}

/// Prints a line on standard output without waiting: whether all of it was written.
pub fn print(line: &str) -> bool {
    WriteMode::of(stdout()).write(stdout(), line.as_bytes()) == line.len()
}

/// Prints a line on standard error without waiting, as the last words of a daemon whose log may be stuck.
pub fn print_error(line: &str) {
    // If nobody reads it, nobody is left to be told.
    WriteMode::of(stderr()).write(stderr(), line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    /// Writes lines until several are lost, reads all, writes one more, and returns what was read.
    fn overflow(fd: OwnedFd, kind: WriteMode, reader: &mut impl Read) -> String {
        let fd: &'static OwnedFd = Box::leak(Box::new(fd));
        assert_eq!(WriteMode::of(fd.as_fd()), kind);
        let mut output = LogOutput::new(fd.as_fd(), kind);
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..1_000_000 {
            output.write_all(line.as_bytes()).unwrap();
            if output.untold == 3 {
                break;
            }
        }
        assert_eq!(output.untold, 3, "it never filled up");
        let mut read = vec![0; 1 << 20];
        let count = reader.read(&mut read).unwrap();
        let mut text = String::from_utf8(read[..count].to_vec()).unwrap();
        output.write_all(b"after\n").unwrap();
        let count = reader.read(&mut read).unwrap();
        text += std::str::from_utf8(&read[..count]).unwrap();
        assert_eq!(output.untold, 0);
        for whole in text.lines().filter(|found| found.starts_with('x')) {
            assert_eq!(whole.len(), 999, "half a line");
        }
        text
    }

    const END: &str = "\nWARN 3 lines of the log were lost: nobody read them\nafter\n";

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
        let (mut reader, writer) = io::pipe().unwrap();
        let text = overflow(writer.into(), WriteMode::Shared, &mut reader);
        assert!(text.ends_with(END), "{}", &text[text.len() - 200..]);
    }

    #[test]
    fn a_socket_that_nobody_reads_holds_up_nobody() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let text = overflow(writer.into(), WriteMode::Socket, &mut reader);
        assert!(text.ends_with(END), "{}", &text[text.len() - 200..]);
    }

    #[test]
    fn who_is_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let fd: &'static OwnedFd = Box::leak(Box::new(writer.into()));
        let mut output = LogOutput::new(fd.as_fd(), WriteMode::Shared);
        output.write_all(b"line\n").unwrap();
        assert_eq!(output.untold, 1);
    }
}
