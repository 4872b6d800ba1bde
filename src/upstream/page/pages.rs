//! Page numbers.

use super::{Failure, ListAsk, Plan, Read, Step, advance, broken, check_count, check_end, number, read_token, size, write_token};
use crate::mapping::Path;

const KIND: char = 'p';

pub(super) fn plan(param: &str, first: u64, limit: &str, max: usize, ask: &ListAsk) -> Result<Plan, Failure> {
    let at = match &ask.next {
        Some(token) => read_token(KIND, token)?,
        None => Step { size: size(ask, max), number: first, ..Step::default() },
    };
    let params = vec![(param.to_owned(), at.number.to_string()), (limit.to_owned(), at.size.to_string())];
    Ok(Plan { params, address: None, at })
}

/// Where the vendor counts neither pages nor records, only an empty page is the end: a short one may be the vendor's own
/// smaller limit.
pub(super) fn after(first: u64, pages: Option<&Path>, total: Option<&Path>, read: &Read<'_>) -> Result<Option<String>, Failure> {
    let body = &read.answer.body;
    let total = number(total, body);
    check_count(read, total)?;
    let step = read.step();
    let done = match (number(pages, body), total) {
        (Some(pages), _) => step.number.saturating_sub(first) + 1 >= pages,
        (None, Some(total)) => step.seen + read.count() >= total,
        (None, None) => read.records.is_empty(),
    };
    if done {
        check_end(read, total)?;
        return Ok(None);
    }
    if read.records.is_empty() {
        return Err(broken("a page is empty before the last one"));
    }
    let step = advance(read, total, step.number + 1, None);
    Ok(Some(write_token(KIND, &step)))
}
