//! The `lanrage` command.

fn main() {}
