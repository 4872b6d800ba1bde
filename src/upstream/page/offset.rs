//! Offsets. The next one follows from what came, not from what was asked: vendors have limits of their own.

use super::{Failure, ListAsk, Plan, Read, Step, advance, broken, check_count, number, read_token, size, write_token};
use crate::mapping::Path;

const KIND: char = 'o';

pub(super) fn plan(param: &str, limit: &str, max: usize, ask: &ListAsk) -> Result<Plan, Failure> {
    let at = match &ask.next {
        Some(token) => read_token(KIND, token)?,
        None => Step { size: size(ask, max), ..Step::default() },
    };
    let params = vec![(param.to_owned(), at.seen.to_string()), (limit.to_owned(), at.size.to_string())];
    Ok(Plan { params, address: None, at })
}

pub(super) fn after(total: Option<&Path>, read: &Read<'_>) -> Result<Option<String>, Failure> {
    let total = number(total, &read.answer.body);
    check_count(read, total)?;
    let seen = read.step().seen + read.count();
    let done = match total {
        Some(total) => seen >= total,
        None => read.records.is_empty(),
    };
    match done {
        true => Ok(None),
        false if read.records.is_empty() => Err(broken(format!("the page at {seen} is empty, although more is promised"))),
        false => Ok(Some(write_token(KIND, &advance(read, total, 0, None)))),
    }
}
