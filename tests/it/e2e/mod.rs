//! The whole binary, as users run it: once per store.

mod bad_input;
mod cli;
mod clients;
mod demo;
mod redis;
mod scim;
pub mod vendor;
