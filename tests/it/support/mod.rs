//! What several test modules share.

pub mod clock;
pub mod connect_proxy;
pub mod demo;
pub mod fault_proxy;
pub mod gateway;
pub mod house;
pub mod meddled;
pub mod metrics;
pub mod peers;
pub mod redis;
pub mod stores;
pub mod tls_front;

/// Whether the long forms of the bars are asked for.
pub fn long() -> bool {
    std::env::var_os("ROLLCALL_TEST_LONG").is_some()
}
