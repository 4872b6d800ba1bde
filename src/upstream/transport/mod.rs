//! Protocols that a declaration cannot say, one module each.

pub mod keeper_commander;
