//! The files whose mutants are counted, with what they need and nothing more: a mutant costs seconds instead of a minute. `run` lays
//! this beside a copy of `src`, as its `lib.rs`.

pub mod error;
pub mod model;
pub mod vault;
