//! Passwords: typed where nobody sees them, or from a file. As an argument everybody on the machine could read one.

use super::CommandFailure;
use super::command::Invocation;
use lanrage::crypto::random;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// Longest password, in bytes: more than the server takes.
const MAX_LENGTH: usize = 400;
/// The letters of a passphrase: none looks like another one.
const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// A passphrase to be read out.
pub fn passphrase() -> String {
    (0..4).map(|_| random::letters(LETTERS, 4)).collect::<Vec<_>>().join("-")
}

/// The password that an invocation means by `--password` (typed, or from standard input) or `--password-file`.
pub fn given(invocation: &Invocation) -> Result<Option<String>, CommandFailure> {
    let text = match invocation.option("password-file") {
        Some(path) => of_file(path)?,
        None if invocation.has("password") => {
            let _ = io::stderr().write_all(b"The party's password: ");
            let shown = Unseen::begin();
            let read = first_line(&mut io::stdin().lock());
            if shown.is_some() {
                let _ = io::stderr().write_all(b"\n");
            }
            read.map_err(CommandFailure::failed)?
        }
        None => return Ok(None),
    };
    match text.is_empty() {
        true => Err(CommandFailure::failed("no password was given")),
        false => Ok(Some(text.to_string())),
    }
}

/// The first line of a file.
pub fn of_file(path: &str) -> Result<Zeroizing<String>, CommandFailure> {
    let read = File::open(path).and_then(|mut file| first_line(&mut file));
    read.map_err(|error| CommandFailure::failed(format_args!("{path}: {error}")))
}

/// The first line, as far as it goes; a terminal's own keys mean what they always do.
fn first_line(input: &mut dyn Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LENGTH));
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        match byte[0] {
            b'\r' | b'\n' => break,
            // Ctrl-C, Ctrl-D.
            3 => return Err(io::ErrorKind::Interrupted.into()),
            4 => break,
            8 | 127 => {
                // The whole letter.
                while line.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            _ if line.len() == MAX_LENGTH => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
            }
            other => line.push(other),
        }
    }
    let text = String::from_utf8(line.to_vec());
    text.map(Zeroizing::new).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// While it lives, the terminal shows nothing of what is typed.
struct Unseen(Termios);

impl Unseen {
    /// `None` if there is no terminal.
    fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut quiet = before.clone();
        // Its keys come as they are: one that ends us would leave the terminal as it is now.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON;
        tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
        Some(Unseen(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_typed() {
        let read = |bytes: &[u8]| first_line(&mut &bytes[..]).map(|line| line.to_string()).ok();
        assert_eq!(read(b"sesame\nmore").as_deref(), Some("sesame"));
        assert_eq!(read(b"sesame\r\n").as_deref(), Some("sesame"));
        assert_eq!(read("sesé\u{7f}ame\u{8}\u{8}\u{8}\u{4}".as_bytes()).as_deref(), Some("ses"));
        assert_eq!(read(b"\x7f\x7fa b").as_deref(), Some("a b"));
        assert_eq!(read(b"sesame\x03\n"), None);
        assert_eq!(read(b"\xff\n"), None);
        assert_eq!(read(&[b'x'; MAX_LENGTH + 1]), None);
        assert_eq!(passphrase().len(), 19);
    }
}
