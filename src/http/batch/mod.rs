//! `POST /batch-request`: several calls of one account in one request, in the order of their dependencies, with what earlier ones
//! found put into later ones. Each is a call of its own to the routes there are, with the caller's rights and no others.

mod inner;
mod place;
mod plan;
mod run;

pub use self::{
    inner::{Calls, Inner, open},
    plan::{BatchEntry, BatchRequest, Plan},
    run::{BatchAnswer, EntryReport, run},
};
