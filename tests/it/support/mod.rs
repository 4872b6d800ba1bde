//! What several test modules share.

/// Whether the long forms of the bars are asked for.
pub fn long() -> bool {
    std::env::var_os("ROLLCALL_TEST_LONG").is_some()
}
