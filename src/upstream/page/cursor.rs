//! A cursor in the answer goes into a parameter.

use super::{Failure, ListAsk, Plan, Read, Step, advance, broken, check_count, read_token, size, write_token};
use crate::mapping::Path;

const KIND: char = 'c';

pub(super) fn plan(param: &str, limit: Option<&str>, max: usize, ask: &ListAsk) -> Result<Plan, Failure> {
    let at = match &ask.next {
        Some(token) => read_token(KIND, token)?,
        None => Step { size: size(ask, max), ..Step::default() },
    };
    let mut params = Vec::new();
    if let Some(limit) = limit {
        params.push((limit.to_owned(), at.size.to_string()));
    }
    if let Some(cursor) = &at.cursor {
        params.push((param.to_owned(), cursor.clone()));
    }
    Ok(Plan { params, address: None, at })
}

pub(super) fn after(next: &Path, more: Option<&Path>, read: &Read<'_>) -> Result<Option<String>, Failure> {
    let body = &read.answer.body;
    let cursor = next.text(body).filter(|cursor| !cursor.is_empty());
    let more = more.and_then(|path| path.text(body));
    let cursor = match (more.as_deref(), cursor) {
        (Some("false" | "0"), _) => None,
        (Some("true" | "1"), None) => return Err(broken("it says that there is more but gives no cursor")),
        (_, cursor) => cursor,
    };
    // Without a size parameter the vendor decides how many records a page has.
    if cursor.is_some() && !read.plan.params.is_empty() && read.step().size > 1 && sized(read) {
        check_count(read, None)?;
    }
    let Some(cursor) = cursor else { return Ok(None) };
    if read.step().cursor.as_deref() == Some(&cursor) {
        return Err(broken("the same cursor came back"));
    }
    Ok(Some(write_token(KIND, &advance(read, None, 0, Some(cursor)))))
}

/// Whether this page was asked for with a size.
fn sized(read: &Read<'_>) -> bool {
    read.plan.params.iter().any(|(_, value)| *value == read.step().size.to_string())
}
