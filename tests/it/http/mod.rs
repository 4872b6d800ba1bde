//! Tests of the http side.

mod framing;
mod openapi;
mod problem;
mod query;
mod rights;
mod stand;
pub mod wire;
