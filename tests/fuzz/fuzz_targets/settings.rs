//! The settings file.

#![no_main]

use lanrage::daemon::settings::{SETTINGS, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut config = Settings::default();
    match config.read_file(text, "lanrage.toml") {
        Ok(()) => SETTINGS.iter().for_each(|setting| {
            let _ = setting.show(&config);
        }),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
