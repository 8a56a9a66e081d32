//! `lanrage genkey` and `lanrage pubkey`, as `wg` has them.

use super::command::Invocation;
use super::{CommandFailure, output};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::wire::json;
use rustix::fs::FileType;
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// The most that is read as a key, in bytes.
const MAX_INPUT: u64 = 1024;

/// `lanrage genkey`.
pub fn genkey(invocation: &Invocation) -> Result<(), CommandFailure> {
    if is_readable_by_all() {
        // Nobody is left to be told if this fails.
        let _ = writeln!(
            io::stderr(),
            "lanrage: warning: everybody can read the file that the key goes to: remove it, and use `umask 077`"
        );
    }
    let key = PrivateKey::generate();
    let text = key.encode();
    let shown = match invocation.has("json") {
        true => json::object(|json| {
            json.key("private_key").string(&text);
            json.key("public_key").string(&key.public_key().encode());
        }),
        false => text.to_string(),
    };
    output::write(&Zeroizing::new(shown + "\n"))
}

/// Whether standard output is a file that others may read.
fn is_readable_by_all() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o007 != 0
    })
}

/// `lanrage pubkey`.
pub fn pubkey(invocation: &Invocation) -> Result<(), CommandFailure> {
    let mut input = Zeroizing::new(String::with_capacity(MAX_INPUT as usize));
    let read = io::stdin().lock().take(MAX_INPUT).read_to_string(&mut input);
    let key = read.ok().and_then(|_| PrivateKey::decode(input.trim()));
    let Some(key) = key else {
        return Err(CommandFailure::failed(
            "standard input is no WireGuard private key (44 characters of Base64): `lanrage genkey` makes one",
        ));
    };
    let public = key.public_key().encode();
    output::write(&match invocation.has("json") {
        true => json::object(|json| json.key("public_key").string(&public)) + "\n",
        false => public + "\n",
    })
}
