//! Tests of the http side.

mod documents;
mod framing;
mod house;
pub mod matrix;
mod openapi;
mod problem;
mod query;
mod rights;
mod stand;
pub mod wire;
