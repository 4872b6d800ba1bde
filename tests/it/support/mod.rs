//! What several test modules share.

/// Whether the long forms run.
pub fn long() -> bool {
    std::env::var_os("ROLLCALL_TEST_LONG").is_some()
}
