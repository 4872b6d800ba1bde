//! The Keeper connector against the real Commander Service Mode code and our own stand-in.

mod bench;
mod connector;
mod parity;
mod real;
mod sandboxed;
