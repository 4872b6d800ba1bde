#![doc = include_str!("README.md")]

pub mod app;
pub mod cli;
pub mod config;
pub mod connector;
pub mod error;
pub mod http;
pub mod jobs;
pub mod mapping;
pub mod model;
pub mod sandbox;
pub mod service;
pub mod store;
pub mod upstream;
pub mod vault;
