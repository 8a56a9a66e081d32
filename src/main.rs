//! The `lanrage` command.

use lanrage::daemon::config::Config;
use lanrage::daemon::{Daemon, stop_signal};

fn main() {
    env_logger::builder().filter_level(log::LevelFilter::Info).init();
    let mut config = Config::default();
    config.read_environment(std::env::vars()).unwrap();
    let stop = stop_signal().unwrap();
    let daemon = Daemon::open(config).unwrap();
    println!("{}", daemon.addresses());
    daemon.run(stop).unwrap();
}
