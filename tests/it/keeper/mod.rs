//! The Keeper connector against the real Commander Service Mode code and our own stand-in.

mod access;
mod around;
pub mod bench;
mod connector;
mod custom;
mod parity;
mod raw;
mod real;
mod sandboxed;
mod scim_stand_in;
mod writes;
