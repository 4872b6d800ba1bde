//! The gateway's way in over HTTP: framing, rights, query strings, routes, envelopes and problems. Handlers extract, call
//! one service method and wrap the answer; nothing else is decided here.

mod act;
pub mod batch;
pub mod body;
pub mod capability;
pub mod envelope;
pub mod extract;
pub mod flow;
pub mod framing;
pub mod gate;
mod limits;
pub mod lines;
pub mod openapi;
mod own_head;
pub mod pieces;
mod plain;
pub mod problem;
pub mod query;
pub mod relay;
pub mod routes;
pub mod schema;
pub mod schema_account;
pub mod schema_install;
pub mod schema_link;
pub mod schema_state;
pub mod schema_token;
pub mod schema_write;
pub mod server;
pub mod state;
pub mod tls;
pub mod token;
pub mod tools;
pub mod turn;
pub mod ui;
pub mod watch;
pub mod write;

pub use problem::{Answer, Problem};
pub use server::serve;
pub use state::{Readiness, State};
