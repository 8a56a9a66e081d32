//! Floor 4: all unsafe code. What the kernel can do and no safe crate offers: many datagrams in one system
//! call with ancillary data of every kind, socket options by number, network interfaces, a signal that is to be
//! ignored, one that a bug ends the process by, a copy of the process to try in what may end it, and its beginning anew.
//!
//! The calls go to the kernel itself and not through the C library: musl's `sendmmsg` is a loop over
//! `sendmsg`, and its headers differ from the kernel's.

#![allow(unsafe_code)]

pub mod interface;
pub mod netlink;

use rustix::io::Errno;
use std::ffi::{CString, c_int, c_long, c_uint, c_void};
use std::io::{self, IoSlice};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
#[cfg(feature = "cluster")]
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
#[cfg(feature = "cluster")]
use std::process::Command;
use std::ptr;

/// Most messages that one call takes.
pub const MAX_MESSAGES: usize = 32;
/// Messages that are few: most often there are, and clearing the headers of many costs as much as a datagram.
const FEW: usize = 2;
/// Length of the longest Internet socket address (`sockaddr_in6`), in bytes.
pub const NAME_LENGTH: usize = 28;
/// `SIOCOUTQNSD`.
const UNSENT: c_uint = 0x894b;
/// How a copy of the process ends that panicked.
const PANICKED: c_int = 101;
/// Room for the ancillary data of a message that is received, in bytes: all that we ask for, twice.
const CONTROL_LENGTH: usize = 256;

// Where rustix goes by way of the C library, it takes libc's time for musl's. On 32-bit musl that is another structure:
// every clock and time-out would be wrong, and most things would still seem to work.
const _: () = assert!(
    size_of::<rustix::time::Nsecs>() == 8
        || offset_of!(libc::timespec, tv_nsec) == offset_of!(rustix::time::Timespec, tv_nsec),
    "rustix reads clocks wrong here: RUSTFLAGS='--cfg rustix_use_experimental_asm' helps where bytes are little-endian, \
     '--cfg fix_y2038' elsewhere"
);

/// The file system that holds a path.
pub struct FileSystem {
    /// Its kind, as statfs(2) names it.
    pub kind: u32,
    /// How many bytes are free for us.
    pub free: u64,
}

/// Asks the kernel, and no disk. rustix 1.1 takes another structure for that of MIPS, which the kernel refuses.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the structure is plain numbers, for which zeros are good.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and one such structure is written, which is borrowed for as long.
    if unsafe { libc::statfs(path.as_ptr(), &mut info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // They have 32 bits in some C libraries.
    #[allow(clippy::useless_conversion)]
    let blocks = u64::from(info.f_bavail);
    Ok(FileSystem { kind: info.f_type as u32, free: blocks.saturating_mul(info.f_frsize as u64) })
}

/// How much memory this machine has, in bytes, if the kernel says so.
pub fn memory() -> Option<usize> {
    // SAFETY: the structure is plain numbers, for which zeros are good.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such structure, which is borrowed for as long.
    let result = unsafe { libc::sysinfo(&mut info) };
    let unit = usize::try_from(info.mem_unit).unwrap_or(1).max(1);
    let bytes = usize::try_from(info.totalram).unwrap_or(usize::MAX).saturating_mul(unit);
    (result == 0 && bytes > 0).then_some(bytes)
}

/// `struct user_msghdr` of Linux.
#[repr(C)]
struct Header {
    name: *mut c_void,
    name_length: c_int,
    slices: *mut libc::iovec,
    slice_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_uint,
}

/// `struct mmsghdr` of Linux.
#[repr(C)]
struct MultiHeader {
    header: Header,
    length: c_uint,
}

const NO_MESSAGE: MultiHeader = MultiHeader {
    header: Header {
        name: ptr::null_mut(),
        name_length: 0,
        slices: ptr::null_mut(),
        slice_count: 0,
        control: ptr::null_mut(),
        control_length: 0,
        flags: 0,
    },
    length: 0,
};

/// What came with a received message. The control data is aligned as its headers have to be.
#[repr(C, align(8))]
#[derive(Clone)]
pub struct ReceivedHead {
    control: [u8; CONTROL_LENGTH],
    name: [u8; NAME_LENGTH],
    name_length: usize,
    control_length: usize,
    length: usize,
    flags: c_int,
}

impl ReceivedHead {
    /// Of no message.
    pub const EMPTY: ReceivedHead = ReceivedHead {
        control: [0; CONTROL_LENGTH],
        name: [0; NAME_LENGTH],
        name_length: 0,
        control_length: 0,
        length: 0,
        flags: 0,
    };

    /// The sender's socket address, as the kernel writes it.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.name_length.min(NAME_LENGTH)]
    }

    /// The ancillary data.
    pub fn control(&self) -> &[u8] {
        &self.control[..self.control_length.min(CONTROL_LENGTH)]
    }

    /// How many bytes of the buffer the message takes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether something did not fit, of the message or of its ancillary data.
    pub fn is_truncated(&self) -> bool {
        self.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
    }
}

/// A message to send.
#[derive(Clone, Copy)]
pub struct OutgoingMessage<'a> {
    /// The destination's socket address, as the kernel reads it.
    pub name: &'a [u8],
    /// The ancillary data.
    pub control: &'a [u8],
    /// The payload, in pieces.
    pub data: &'a [IoSlice<'a>],
}

/// Receives what is there, without waiting: at most as many messages as there are heads, slots of
/// `slot` bytes in `buffer`, and [`MAX_MESSAGES`]. Returns how many there were, at least one; the first
/// lies in the first slot.
pub fn receive_many(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slot: usize,
    heads: &mut [ReceivedHead],
) -> Result<usize, Errno> {
    if heads.len() <= FEW {
        receive::<FEW>(socket, buffer, slot, heads)
    } else {
        receive::<MAX_MESSAGES>(socket, buffer, slot, heads)
    }
}

fn receive<const M: usize>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slot: usize,
    heads: &mut [ReceivedHead],
) -> Result<usize, Errno> {
    let mut slices = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; M];
    let mut messages = [NO_MESSAGE; M];
    let mut count = 0;
    for (((message, slice), head), room) in
        messages.iter_mut().zip(&mut slices).zip(heads.iter_mut()).zip(buffer.chunks_exact_mut(slot))
    {
        *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        message.header = Header {
            name: head.name.as_mut_ptr().cast(),
            name_length: NAME_LENGTH as c_int,
            slices: ptr::from_mut(slice),
            slice_count: 1,
            control: head.control.as_mut_ptr().cast(),
            control_length: CONTROL_LENGTH,
            flags: 0,
        };
        count += 1;
    }
    // SAFETY: the first `count` messages hold pointers that were made above from exclusive borrows, with the
    // lengths of what they point to: a name, control data and a slot for each, all of plain bytes, and one
    // `iovec`. The borrows last until the end of this function, and nothing else touches what they cover
    // while the kernel writes there. No time-out is given. The kernel keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_recvmmsg,
            socket.as_raw_fd() as c_long,
            messages.as_mut_ptr(),
            count as c_long,
            libc::MSG_DONTWAIT as c_long,
            ptr::null_mut::<c_void>(),
        )
    };
    let received = usize::try_from(result).map_err(|_| last_error())?;
    for (message, head) in messages[..count].iter().zip(heads).take(received) {
        head.name_length = message.header.name_length.max(0) as usize;
        head.control_length = message.header.control_length;
        head.length = (message.length as usize).min(slot);
        head.flags = message.header.flags as c_int;
    }
    Ok(received)
}

/// Sends messages without waiting, at most [`MAX_MESSAGES`] of them. Returns how many were sent: at least
/// one, for an error is only told of the first.
pub fn send_many(socket: BorrowedFd<'_>, messages: &[OutgoingMessage<'_>]) -> Result<usize, Errno> {
    if messages.len() <= FEW { send::<FEW>(socket, messages) } else { send::<MAX_MESSAGES>(socket, messages) }
}

fn send<const M: usize>(socket: BorrowedFd<'_>, messages: &[OutgoingMessage<'_>]) -> Result<usize, Errno> {
    let mut headers = [NO_MESSAGE; M];
    let mut count = 0;
    for (header, message) in headers.iter_mut().zip(messages) {
        header.header = Header {
            name: message.name.as_ptr().cast_mut().cast(),
            name_length: message.name.len() as c_int,
            slices: message.data.as_ptr().cast_mut().cast(),
            slice_count: message.data.len(),
            control: message.control.as_ptr().cast_mut().cast(),
            control_length: message.control.len(),
            flags: 0,
        };
        count += 1;
    }
    // SAFETY: the first `count` headers hold pointers and lengths of slices that are borrowed until the end
    // of this function; an `IoSlice` has the layout of an `iovec`, as its documentation promises. The kernel
    // only reads through them, though they are `*mut`, writes nothing but the `length` of a header, which is
    // ours, and keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            socket.as_raw_fd() as c_long,
            headers.as_mut_ptr(),
            count as c_long,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as c_long,
        )
    };
    usize::try_from(result).map_err(|_| last_error())
}

/// Sets a socket option whose value is an `int`.
pub fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a `c_int` that lives until the call returns, and the length is its length.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Reads a socket option whose value is an `int`.
pub fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals that live until the call returns, and `length` says how many bytes
    // the kernel may write at `value`. Every bit pattern is a `c_int`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut value).cast(),
            ptr::from_mut(&mut length),
        )
    };
    if result == 0 { Ok(value) } else { Err(last_error()) }
}

/// How many bytes wait at a TCP socket because its peer takes no more (`SIOCOUTQNSD`, linux/sockios.h); none at others.
pub fn unsent(socket: BorrowedFd<'_>) -> usize {
    let mut count: c_int = 0;
    // SAFETY: the kernel writes one `c_int`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), UNSENT as _, ptr::from_mut(&mut count)) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Has SIGHUP ignored from now on, until somebody handles it. Its default would end the process.
pub fn ignore_hangups() {
    // SAFETY: no code of ours is to run for the signal. It fails only for numbers that are no signals.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Gives a socket, by this option of `SOL_SOCKET`, a classic BPF program that answers `value` to everything.
pub fn attach_constant(socket: BorrowedFd<'_>, name: c_int, value: u32) -> Result<(), Errno> {
    let mut code = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }];
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the pointer is to a `sock_fprog` of the given length, which points to as many instructions as it says;
    // both live until the call returns. The kernel copies the program.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, ptr::from_ref(&program).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Has the process say where in its program it was when the kernel ends it for an instruction that is none. In builds
/// for small routers that is how a panic ends, and all that is known of it: nothing of theirs has texts for panics.
pub fn report_traps() {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = report_trap;
    // SAFETY: the structure is plain numbers, for which zeros are good.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // The same instruction comes again when the handler is done, and then the process ends as it would have.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
    for signal in [libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: the handler calls nothing but poll and write, which POSIX allows there, and touches no memory but
        // its own.
        unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    }
}

extern "C" fn report_trap(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    /// Where the digits end.
    const END: usize = 59;
    let mut text =
        *b"ERROR this is a bug: lanrage panicked at 0x0000000000000000. Please report this line.\n";
    // SAFETY: the kernel hands over a structure that lives until the handler returns. What a process sent has another
    // kind of code, and no address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    for (digit, letter) in text[..END].iter_mut().rev().take(if code > 0 { 16 } else { 0 }).enumerate() {
        *letter = b"0123456789abcdef"[address.unbounded_shr(4 * digit as u32) & 15];
    }
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: both get memory of this function and its length. Nothing is written to who does not read, as that
    // could wait for ever.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 && stderr.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        }
    }
}

/// Makes this process what it was when it was started: the same program with the same arguments. Returns only why it
/// could not. Files and sockets close, as all of ours do when a program is executed.
pub fn execute_again() -> io::Error {
    let words: Vec<CString> =
        std::env::args_os().filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    let mut arguments: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());
    // SAFETY: the pointers are to strings that end with a zero and live until the call returns, the last one is null.
    unsafe { libc::execv(c"/proc/self/exe".as_ptr(), arguments.as_ptr()) };
    io::Error::last_os_error()
}

/// Tells [`execute_fenced`]'s next program how often it was executed so.
#[cfg(feature = "cluster")]
const FENCED: &str = "_LANRAGE_FENCED";

/// How often this process was [executed because it was fenced](execute_fenced).
#[cfg(feature = "cluster")]
pub fn times_fenced() -> u64 {
    std::env::var(FENCED).ok().and_then(|times| times.parse().ok()).unwrap_or(0)
}

/// As [`execute_again`], and counts.
#[cfg(feature = "cluster")]
pub fn execute_fenced() -> io::Error {
    let mut words = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(own) = words.next() {
        command.arg0(own);
    }
    command.args(words).env(FENCED, (times_fenced() + 1).to_string()).exec()
}

/// Does `work` in a copy of this process and gives what it returned, or `None` if it panicked, by a message or a trap. What else it changes in memory is lost with the copy. Only the calling thread is
/// in it, so `work` must wait for nothing that others do.
pub fn in_a_copy(work: impl FnOnce() -> bool) -> io::Result<Option<bool>> {
    // SAFETY: the child has this thread alone, and what other threads were amid is of no use to it: `work`
    // needs none of it, and the C library sees to it that malloc works. It never leaves this function: it
    // ends in `_exit`, which runs nothing that the parent would run again, or by a signal.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(result) => c_int::from(result),
                Err(_) => PANICKED,
            };
            // SAFETY: it takes any value and does not return.
            unsafe { libc::_exit(status) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the pointer is to a `c_int` that lives until the call returns.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            let exited = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            Ok(exited.filter(|status| *status != PANICKED).map(|status| status == 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_its_kind_and_its_room() {
        // As statfs(2) names it.
        assert_eq!(file_system(Path::new("/proc")).unwrap().kind, 0x9fa0);
        assert_eq!(file_system(Path::new("/proc")).unwrap().free, 0);
        let found = file_system(&std::env::temp_dir()).unwrap();
        assert!(found.kind != 0 && found.free > 0);
    }
}
