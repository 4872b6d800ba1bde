//! What several test modules share.

/// Whether the long form of a bar is asked for.
pub fn long() -> bool { std::env::var_os("ROLLCALL_TEST_LONG").is_some() }
