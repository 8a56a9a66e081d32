//! `/openapi.json`.

use super::admin;

/// The document, but for what `/status` answers, which the tables of figures say.
const DOCUMENT: &str = include_str!("openapi.json");
/// Where in it that belongs.
const STATUS: &str = "\"@status\"";

/// The whole document.
pub(super) fn document() -> String {
    DOCUMENT.replacen(STATUS, &admin::status_schema(), 1)
}
