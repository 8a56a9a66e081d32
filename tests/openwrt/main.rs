//! The OpenWrt packages: the init script with what OpenWrt calls it with, the settings, the Makefiles, the packages
//! made by hand, and the pages for LuCI with a real daemon behind them.

mod agent;
mod firewall;
#[path = "../harness/mod.rs"]
mod harness;
mod init;
mod live;
mod luci;
mod packages;
mod pitfalls;
mod router;
mod service;
mod settings;
mod uci;
mod upgrade;
mod words;

use std::path::PathBuf;

/// A file of the packages.
fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("openwrt").join(name)
}
