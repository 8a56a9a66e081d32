//! JSON: what is read can be written and read again.

#![no_main]

use lanrage::wire::json::{JsonWriter, check, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(check(bytes).is_ok(), parse(bytes).is_ok());
    if let Ok(value) = parse(bytes) {
        let mut writer = JsonWriter::default();
        writer.value(&value);
        let text = writer.finish();
        assert_eq!(parse(text.as_bytes()).expect("our own JSON"), value, "{text}");
    }
});
