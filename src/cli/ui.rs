//! `lanrage ui`: the way to the owner's pages.

use super::CommandFailure;
use super::ask::{DaemonClient, text};
use super::command::Invocation;
use super::output::Style;
use super::qr;
use super::table::escape;

/// `lanrage ui`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("POST", "/ui/setups", b"{}")?;
    let style = Style::of_stdout();
    reply.show(invocation, |value| {
        let url = text(value, "url");
        let picture = qr::draw(url, style).filter(|_| style.is_terminal()).unwrap_or_default();
        format!(
            "Open this in a browser at home, within 10 minutes. It works once: whoever opens it owns this lanrage.\n\n    \
             {}\n\n{picture}",
            style.bold(&escape(url))
        )
    })
}
