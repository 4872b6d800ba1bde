//! Tests of the store side.

mod backup;
mod clocks;
mod concurrency;
mod contract;
mod durability;
mod embedded;
mod failing;
mod fixture;
mod on_redis;
mod redis_faults;
mod repo;
