//! Tests of the upstream side.

mod answers;
mod bounds;
mod egress;
mod egress_proxy;
mod headers;
mod json_links;
mod listing;
mod paging;
mod pool;
mod rates;
mod redirects;
mod support;
mod target;
mod trust;
