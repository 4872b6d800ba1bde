//! What several test modules share.

pub mod clock;
pub mod fault_proxy;
pub mod peers;
pub mod redis;

/// Whether the bars run in their full volume.
pub fn long() -> bool {
    std::env::var_os("ROLLCALL_TEST_LONG").is_some()
}
