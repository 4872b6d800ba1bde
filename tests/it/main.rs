//! The one integration binary: linking once is what keeps the suite fast.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::err_expect,
    clippy::disallowed_methods,
    clippy::cloned_ref_to_slice_refs,
    missing_docs,
    reason = "a test that ends early or owns its runtime harms nobody"
)]

mod architecture;
mod connector;
mod e2e;
mod fuzz;
mod http;
mod keeper;
mod mapping;
mod service;
mod store;
mod support;
mod upstream;
mod vault;
