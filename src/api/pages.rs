//! Pages for people: the owner's under `/ui/`, and `/join` for who is invited. Their files are in `pages/`, as they are
//! read and edited; the build packs them (`build.rs`).

use super::errors;
use super::{Api, Call, Handling, Outcome, RequestFailure};
use crate::wire::static_body::StaticBody;

/// What the pages may do, and how they are kept. Nothing from elsewhere, nothing in a frame, no script in the markup.
pub(super) const HEADERS: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    // Kept, and asked for anew each time: an upgrade shows at once.
    ("Cache-Control", "no-cache"),
    ("Content-Encoding", "gzip"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! piece {
    ($name:expr) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")).as_slice()
    };
}

macro_rules! packed {
    ($path:literal, $content_type:expr, $file:literal, $kind:literal) => {
        ($path, $content_type, [piece!($kind), piece!(concat!($file, ".", $kind))])
    };
}

/// What is served, by path: in two pieces, as what the pages share is kept once.
const FILES: &[(&str, &str, [&[u8]; 2])] = &[
    packed!("/ui", HTML, "owner", "html"),
    packed!("/ui/", HTML, "owner", "html"),
    packed!("/ui/owner.js", SCRIPT, "owner", "js"),
    packed!("/ui/owner.css", STYLE, "owner", "css"),
    packed!("/join", HTML, "guest", "html"),
    packed!("/join/guest.js", SCRIPT, "guest", "js"),
    packed!("/join/guest.css", STYLE, "guest", "css"),
];

impl Api {
    /// A file of a page.
    pub(super) fn page(&mut self, call: &Call<'_>) -> Handling {
        match FILES.iter().find(|(path, ..)| *path == call.request.path) {
            Some((_, content_type, pieces)) => {
                let mut answer = StaticBody::new(content_type, pieces.concat()).answer(call.request);
                // Browsers heed it by https, which only a proxy adds, and complain of it by http.
                if call.request.is_forwarded {
                    answer.headers.push(("Cross-Origin-Opener-Policy", "same-origin".into()));
                }
                Ok(Outcome::Answer(answer))
            }
            None => Err(RequestFailure::Answered(errors::detail(404, "Not Found"))),
        }
    }
}
