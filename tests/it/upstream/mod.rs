//! Tests of the upstream side.

mod addresses;
mod answers;
mod bounds;
mod dialling;
mod egress;
mod egress_proxy;
mod guard;
mod headers;
mod json_links;
mod listing;
mod paging;
mod pool;
mod rates;
mod redirects;
mod support;
mod target;
mod timeouts;
mod trust;
