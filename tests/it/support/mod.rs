//! What several test modules share.

<<<<<<< HEAD
/// Whether the long form of a bar is asked for.
=======
pub mod clock;
pub mod fault_proxy;
pub mod redis;

/// Whether the bars run in their full volume.
>>>>>>> store
pub fn long() -> bool {
    std::env::var_os("ROLLCALL_TEST_LONG").is_some()
}
