//! The one integration binary: linking once is what keeps the suite fast.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod architecture;
mod connector;
mod e2e;
mod http;
mod keeper;
mod mapping;
mod service;
mod store;
mod support;
mod upstream;
mod vault;
