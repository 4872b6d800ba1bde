//! The whole binary, as users run it: once per store.

mod bad_input;
mod bar_binding;
mod bar_canaries;
mod bar_desync;
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
mod differential;
mod head;
mod hostile;
mod links;
mod metrics;
mod overlay;
mod redis;
mod scim;
mod sdks;
mod tls_door;
pub mod vendor;
mod vendor_tls;
