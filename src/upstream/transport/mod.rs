//! Protocols that a declaration cannot say, one module each.

pub mod keeper_commander;
pub(super) mod rest;
pub(super) mod rest_write;
pub(super) mod scim;
mod scim_write;
pub(super) mod verbatim;
