//! The queue of frames that are to be sent to one WebSocket session.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Waker};
use tungstenite::Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

/// Text that many outboxes can hold without a copy each.
pub use tungstenite::Utf8Bytes as SharedText;

/// Frames given to the kernel in one write.
const FRAMES_PER_WRITE: usize = 16;

/// RFC 6455 section 11.8, with the FIN bit: a server's frames are whole messages.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A server's frame (RFC 6455 section 5.2): its header, then a payload that others may share.
struct Frame {
    header: [u8; 10],
    header_length: u8,
    payload: Bytes,
}

impl Frame {
    fn new(opcode: u8, payload: Bytes) -> Self {
        let mut header = [0; 10];
        header[0] = opcode;
        let length = payload.len();
        let header_length = match (u16::try_from(length), length as u64) {
            (Ok(short @ 0..=125), _) => {
                header[1] = short as u8;
                2
            }
            (Ok(medium), _) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            (Err(_), long) => {
                header[1] = 127;
                header[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        Frame { header, header_length, payload }
    }

    fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_length)]
    }

    fn len(&self) -> usize {
        usize::from(self.header_length) + self.payload.len()
    }
}

#[derive(Default)]
struct MessageQueue {
    frames: VecDeque<Frame>,
    /// Bytes of all frames, sent or not.
    bytes: usize,
    /// Bytes of the first frame that are sent already.
    sent: usize,
}

/// How an outbox stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OutboxState {
    Open,
    /// A close frame is the last in the queue.
    Closing,
    /// Somebody does not read what he is sent; the queue is dropped and the session is to be cut.
    Overflowed,
}

/// What waits to be sent to one WebSocket session: bounded, and never waited for.
pub struct SessionOutbox {
    queue: RefCell<MessageQueue>,
    state: Cell<OutboxState>,
    waker: RefCell<Option<Waker>>,
    meter: OnceCell<ByteMeter>,
    max_messages: usize,
    max_bytes: usize,
}

/// Is told how many bytes more wait, of which nobody else has a copy.
type ByteMeter = Box<dyn Fn(usize)>;

impl SessionOutbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        SessionOutbox {
            queue: RefCell::default(),
            state: Cell::new(OutboxState::Open),
            waker: RefCell::default(),
            meter: OnceCell::new(),
            max_messages,
            max_bytes,
        }
    }

    /// Has `meter` told of what waits as soon as it does, and not only when the session looks after itself.
    pub(super) fn metered_by(&self, meter: impl Fn(usize) + 'static) {
        // An outbox is of one connection.
        let _ = self.meter.set(Box::new(meter));
    }

    /// Forgets what waits, and takes no more.
    pub(super) fn discard(&self) {
        *self.queue.borrow_mut() = MessageQueue::default();
        self.state.set(OutboxState::Overflowed);
        self.wake();
    }

    /// Sends a text message as soon as the peer reads. False if it will not be sent: the session is closing,
    /// or so much is waiting already that it is cut now.
    pub fn push(&self, text: SharedText) -> bool {
        self.push_frame(Frame::new(TEXT, text.into()))
    }

    /// Closes the session once everything pushed before is sent. `code` is one of RFC 6455 section 7.4.1,
    /// `reason` is cut to 123 bytes.
    pub fn close(&self, code: u16, reason: &str) {
        if self.state.get() != OutboxState::Open {
            return;
        }
        let reason = &reason[..reason.floor_char_boundary(123)];
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.state.set(OutboxState::Closing);
        self.append(Frame::new(CLOSE, payload.into()));
    }

    /// Answers a close frame: with its own code if that may be sent, else as a protocol error.
    pub(super) fn close_in_turn(&self, code: Option<CloseCode>) {
        match code {
            Some(code) => self.close(code.into(), ""),
            None if self.state.get() == OutboxState::Open => {
                self.state.set(OutboxState::Closing);
                self.append(Frame::new(CLOSE, Bytes::new()));
            }
            None => (),
        }
    }

    pub(super) fn ping(&self) {
        self.push_frame(Frame::new(PING, Bytes::new()));
    }

    pub(super) fn pong(&self, payload: Bytes) {
        self.push_frame(Frame::new(PONG, payload));
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        let queue = self.queue.borrow();
        queue.bytes - queue.sent
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().frames.is_empty()
    }

    /// Whether nothing can be pushed any more because the session is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.state.get() == OutboxState::Closing
    }

    /// Whether the session is to be cut because it does not read.
    pub(super) fn has_overflowed(&self) -> bool {
        self.state.get() == OutboxState::Overflowed
    }

    /// Wakes this task when something is pushed.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Gives what waits to `write`, which says how many bytes it took; then forgets those.
    pub(super) fn write_with<E>(
        &self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut queue = self.queue.borrow_mut();
        let mut slices = [IoSlice::new(&[]); 2 * FRAMES_PER_WRITE];
        let mut count = 0;
        let mut skip = queue.sent;
        for frame in queue.frames.iter().take(FRAMES_PER_WRITE) {
            for part in [frame.header(), &frame.payload] {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() {
                    slices[count] = IoSlice::new(&part[skipped..]);
                    count += 1;
                }
            }
        }
        let written = write(&slices[..count])?;
        queue.sent += written;
        while let Some(length) = queue.frames.front().map(Frame::len).filter(|&length| length <= queue.sent) {
            queue.frames.pop_front();
            queue.sent -= length;
            queue.bytes -= length;
        }
        if queue.frames.is_empty() {
            // A burst must not keep its memory for as long as the session lasts.
            queue.frames.shrink_to(4);
        }
        Ok(written)
    }

    fn push_frame(&self, frame: Frame) -> bool {
        if self.state.get() != OutboxState::Open {
            return false;
        }
        let queue = self.queue.borrow();
        if queue.frames.len() >= self.max_messages || queue.bytes + frame.len() > self.max_bytes {
            drop(queue);
            self.discard();
            return false;
        }
        drop(queue);
        self.append(frame);
        true
    }

    fn append(&self, frame: Frame) {
        let own = if frame.payload.is_unique() { frame.len() } else { 0 };
        let mut queue = self.queue.borrow_mut();
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        drop(queue);
        if own > 0
            && let Some(meter) = self.meter.get()
        {
            meter(own);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Writes at most `most` bytes per turn until nothing waits.
    fn drain(outbox: &SessionOutbox, most: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while !outbox.is_empty() {
            let taken: Result<usize, Infallible> = outbox.write_with(|slices| {
                let before = sent.len();
                sent.extend(slices.iter().flat_map(|slice| slice.iter()).take(most));
                Ok(sent.len() - before)
            });
            assert!(taken.unwrap() > 0);
        }
        sent
    }

    #[test]
    fn frames_are_as_the_rfc_lays_them_out() {
        for (length, header) in [
            (5, vec![0x81, 5]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65535, vec![0x81, 126, 255, 255]),
            (65536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let outbox = SessionOutbox::new(4, 1 << 20);
            assert!(outbox.push("x".repeat(length).into()));
            let sent = drain(&outbox, usize::MAX);
            assert_eq!(sent[..header.len()], header);
            assert_eq!(sent.len(), header.len() + length);
        }
    }

    #[test]
    fn any_split_of_the_writes_gives_the_same_bytes() {
        let fill = || {
            let outbox = SessionOutbox::new(64, 1 << 20);
            for length in (0..40).chain([126, 300]) {
                assert!(outbox.push("y".repeat(length).into()));
            }
            outbox.close(1001, "going away");
            outbox
        };
        let whole = drain(&fill(), usize::MAX);
        for most in 1..50 {
            assert_eq!(drain(&fill(), most), whole, "{most} bytes at a time");
        }
        assert_eq!(whole[whole.len() - 14..][..4], [0x88, 12, 0x03, 0xe9]);
    }

    #[test]
    fn a_reader_that_does_not_read_is_cut() {
        let outbox = SessionOutbox::new(3, 1 << 20);
        for _ in 0..3 {
            assert!(outbox.push("a".into()));
        }
        assert!(!outbox.has_overflowed());
        assert!(!outbox.push("a".into()));
        assert!(outbox.has_overflowed() && outbox.is_empty());
        assert!(!outbox.push("a".into()));

        let outbox = SessionOutbox::new(100, 1000);
        assert!(outbox.push("a".repeat(900).into()));
        assert!(!outbox.push("a".repeat(200).into()));
        assert!(outbox.has_overflowed());
    }

    #[test]
    fn nothing_follows_a_close() {
        let outbox = SessionOutbox::new(3, 1000);
        outbox.close(1000, &"é".repeat(100));
        assert!(!outbox.push("late".into()));
        outbox.close(1001, "again");
        let sent = drain(&outbox, usize::MAX);
        assert_eq!(sent[..4], [0x88, 124, 0x03, 0xe8]);
        assert_eq!(sent.len(), 2 + 124);
        assert!(str::from_utf8(&sent[4..]).is_ok());
    }
}
