//! Everything comes at once.

use super::{Failure, ListAsk, Plan, broken};

pub(super) fn plan(ask: &ListAsk) -> Result<Plan, Failure> {
    match ask.next {
        None => Ok(Plan::default()),
        Some(_) => Err(broken("this list has no second page")),
    }
}
