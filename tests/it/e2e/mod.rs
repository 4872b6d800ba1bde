//! The whole binary, as users run it: once per store.

mod bad_input;
mod bar_binding;
mod bar_canaries;
mod bar_dump;
mod bar_framing;
mod bar_keys;
mod bar_leaks;
mod bar_limits;
mod bar_redirects;
mod bar_start;
mod bar_vendor;
mod cli;
mod clients;
mod demo;
mod egress_proxy;
mod head;
mod hostile;
mod idempotency;
mod lists;
mod metrics;
mod operator;
mod overlay;
mod own_server;
mod redis;
mod scim;
pub mod vendor;
pub mod vendor_tls;
