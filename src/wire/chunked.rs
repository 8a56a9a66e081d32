//! The `chunked` transfer coding (RFC 9112 section 7.1), decoded strictly and within bounds: what two programs
//! could understand differently is refused.

use crate::wire::http::{MAX_BODY, RejectedRequest};

/// Most hexadecimal digits of a chunk's size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;
/// Most bytes of chunk extensions and trailer lines of one body, together. None of them means anything here.
const MAX_IGNORED: usize = 8 * 1024;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChunkedState {
    /// In the size of a chunk, after so many digits.
    Size(u8),
    /// In the extensions of a chunk.
    Extension,
    /// Before the line feed that ends a chunk's first line.
    SizeEnd,
    /// In the data of a chunk.
    Data,
    /// After the data of a chunk: CR, then LF.
    DataEnd,
    DataEndLine,
    /// At the start of a trailer line, or of the empty line that ends everything.
    Trailer,
    /// In the name of a trailer field.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// Before the line feed that ends a trailer line.
    TrailerEnd,
    /// Before the last line feed.
    LastEnd,
    Done,
}

/// A body that comes in chunks, decoded as it comes.
#[derive(Debug)]
pub struct Chunked {
    state: ChunkedState,
    /// Bytes of data left in the chunk.
    left: usize,
    ignored: usize,
    body: Vec<u8>,
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked { state: ChunkedState::Size(0), left: 0, ignored: 0, body: Vec::new() }
    }
}

const fn malformed(detail: &'static str) -> RejectedRequest {
    RejectedRequest::new(400, detail)
}

impl Chunked {
    /// Takes the next bytes, and returns how many of them belong to the body: all of them unless it is over.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, RejectedRequest> {
        let mut at = 0;
        while at < bytes.len() && self.state != ChunkedState::Done {
            if self.state == ChunkedState::Data {
                let length = self.left.min(bytes.len() - at);
                self.body.extend_from_slice(&bytes[at..at + length]);
                self.left -= length;
                at += length;
                if self.left == 0 {
                    self.state = ChunkedState::DataEnd;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Whether the last line of the body has come.
    pub fn is_done(&self) -> bool {
        self.state == ChunkedState::Done
    }

    /// How long the decoded body is so far, in bytes.
    pub fn decoded_length(&self) -> usize {
        self.body.len()
    }

    /// The decoded body so far, at most [`MAX_BODY`] bytes.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<ChunkedState, RejectedRequest> {
        match (self.state, byte) {
            (ChunkedState::Size(digits), _) if byte.is_ascii_hexdigit() => self.digit(digits, byte),
            (ChunkedState::Size(1..), b'\r') => Ok(ChunkedState::SizeEnd),
            (ChunkedState::Size(1..), b';') => Ok(ChunkedState::Extension),
            (ChunkedState::Extension, b'\r') => Ok(ChunkedState::SizeEnd),
            (ChunkedState::Extension, _) => {
                self.ignore(byte, ChunkedState::Extension, "a chunk extension is malformed")
            }
            (ChunkedState::SizeEnd, b'\n') if self.left > 0 => Ok(ChunkedState::Data),
            (ChunkedState::SizeEnd, b'\n') => Ok(ChunkedState::Trailer),
            (ChunkedState::DataEnd, b'\r') => Ok(ChunkedState::DataEndLine),
            (ChunkedState::DataEndLine, b'\n') => Ok(ChunkedState::Size(0)),
            (ChunkedState::Trailer, b'\r') => Ok(ChunkedState::LastEnd),
            (ChunkedState::Trailer | ChunkedState::TrailerName, _) if is_token(byte) => {
                self.ignore(byte, ChunkedState::TrailerName, "a trailer is malformed")
            }
            (ChunkedState::TrailerName, b':') => Ok(ChunkedState::TrailerValue),
            (ChunkedState::TrailerValue, b'\r') => Ok(ChunkedState::TrailerEnd),
            (ChunkedState::TrailerValue, _) => {
                self.ignore(byte, ChunkedState::TrailerValue, "a trailer is malformed")
            }
            (ChunkedState::TrailerEnd, b'\n') => Ok(ChunkedState::Trailer),
            (ChunkedState::LastEnd, b'\n') => Ok(ChunkedState::Done),
            (
                ChunkedState::Trailer
                | ChunkedState::TrailerName
                | ChunkedState::TrailerEnd
                | ChunkedState::LastEnd,
                _,
            ) => Err(malformed("a trailer is malformed")),
            _ => Err(malformed("a chunk is malformed")),
        }
    }

    fn digit(&mut self, digits: u8, byte: u8) -> Result<ChunkedState, RejectedRequest> {
        if digits >= MAX_SIZE_DIGITS {
            return Err(malformed("the size of a chunk has too many digits"));
        }
        let value = char::from(byte).to_digit(16).unwrap_or_default() as usize;
        // What was refused before this digit would have overflowed is never multiplied on.
        self.left = self.left * 16 + value;
        if self.left > MAX_BODY - self.body.len() {
            return Err(RejectedRequest::new(413, "the body is longer than 64 KiB"));
        }
        Ok(ChunkedState::Size(digits + 1))
    }

    /// A byte that means nothing to us, but still must be one that is allowed where it stands.
    fn ignore(
        &mut self,
        byte: u8,
        next: ChunkedState,
        detail: &'static str,
    ) -> Result<ChunkedState, RejectedRequest> {
        if byte != b'\t' && byte.is_ascii_control() {
            return Err(malformed(detail));
        }
        self.ignored += 1;
        match self.ignored {
            0..=MAX_IGNORED => Ok(next),
            _ => Err(RejectedRequest::new(413, "the chunk extensions or trailers are longer than 8 KiB")),
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and how many bytes it took, from pieces of `step` bytes; `None` if it is not over.
    fn decode(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, RejectedRequest> {
        let mut chunked = Chunked::default();
        let mut taken = 0;
        for piece in bytes.chunks(step) {
            let used = chunked.take(piece)?;
            taken += used;
            if chunked.is_done() {
                return Ok(Some((chunked.into_body(), taken)));
            }
            assert_eq!(used, piece.len());
        }
        Ok(None)
    }

    fn status(text: &str) -> u16 {
        let outcomes: Vec<u16> = [1, 2, 3, 7, text.len().max(1)]
            .into_iter()
            .map(|step| match decode(text.as_bytes(), step) {
                Ok(Some(_)) => 200,
                Ok(None) => 0,
                Err(refusal) => refusal.status,
            })
            .collect();
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{text:?}: {outcomes:?}");
        outcomes[0]
    }

    #[test]
    fn a_body_is_put_together_and_what_follows_it_is_left() {
        for (text, body) in [
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("0\r\n\r\n", ""),
            ("1\r\nh\r\n4\r\nello\r\n000\r\n\r\n", "hello"),
            ("A;x=\"1;2\";y\r\n0123456789\r\n0;last\r\nX-Sum: 1, 2\r\nY:\r\n\r\n", "0123456789"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ] {
            for step in 1..=text.len() {
                let more = format!("{text}GET / HTTP/1.1\r\n");
                assert_eq!(decode(more.as_bytes(), step), Ok(Some((body.into(), text.len()))), "{text:?}");
            }
            for length in 0..text.len() {
                assert_eq!(status(&text[..length]), 0, "{:?}", &text[..length]);
            }
        }
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        for text in [
            "\r\n",
            ";\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\t\r\n",
            "1\n",
            "1\r1",
            "1\r\nhh",
            "1\r\nh\n",
            "1\r\nh\r\r",
            "1\r\nh0\r\n",
            "0\n",
            "0\r\n\n",
            "0\r\n\r0",
            "0;\0\r\n",
            "0;a\n\r\n",
            "0\r\n folded: 1\r\n",
            "0\r\na: 1\r\n folded\r\n",
            "0\r\nno colon\r\n",
            "0\r\n: empty\r\n",
            "0\r\na : 1\r\n",
            "0\r\na: 1\n",
            "0\r\na: \0\r\n",
            "0\r\na: 1\r1",
            "00000000000000000\r\n",
        ] {
            assert_eq!(status(text), 400, "{text:?}");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let body = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(size));
        assert_eq!(status(&body(MAX_BODY)), 200);
        assert_eq!(status(&body(MAX_BODY + 1)), 413);
        assert_eq!(status("10001\r\n"), 413);
        assert_eq!(status("ffffffffffffffff\r\n"), 413);
        assert_eq!(
            status(&"8000\r\n".replace("\r\n", &format!("\r\n{}\r\n", "b".repeat(0x8000))).repeat(3)),
            413
        );
        // The smallest chunks possible.
        let tiny = "1\r\nb\r\n".repeat(MAX_BODY);
        assert_eq!(status(&format!("{tiny}0\r\n\r\n")), 200);
        assert_eq!(status(&format!("{tiny}1\r\nb\r\n0\r\n\r\n")), 413);
        let extension = |length: usize| format!("0;{}\r\n\r\n", "x".repeat(length));
        assert_eq!(status(&extension(MAX_IGNORED)), 200);
        assert_eq!(status(&extension(MAX_IGNORED + 1)), 413);
        assert_eq!(status(&"1;xxxx\r\nb\r\n".repeat(MAX_IGNORED)), 413);
        assert_eq!(status(&format!("0\r\n{}", "X: y\r\n".repeat(MAX_IGNORED))), 413);
    }

    #[test]
    fn every_mutation_of_one_byte_is_survived() {
        let text = b"A;x=1\r\n0123456789\r\n0\r\nX: 1\r\n\r\n";
        for place in 0..text.len() {
            for value in 0..=255 {
                let mut bytes = text.to_vec();
                bytes[place] = value;
                match decode(&bytes, 5) {
                    Ok(Some((body, _))) => assert!(body.len() <= MAX_BODY),
                    Ok(None) => (),
                    Err(refusal) => assert!([400, 413].contains(&refusal.status)),
                }
            }
        }
    }
}
