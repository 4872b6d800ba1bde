//! SCIM: index paging (RFC 7644) or cursors (RFC 9865), as the link test found. `itemsPerPage` is never believed: servers
//! echo what was asked.

use std::{borrow::Cow, ops::Range};

use serde::{Deserialize, Deserializer};

use super::{Access, Failure, ListAsk, Plan, Read, Step, advance, broken, check_count, check_end, read_token, size, write_token};

const INDEX: char = 'i';
const CURSOR: char = 's';

/// The list's own members; everything else is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default, deserialize_with = "lenient")]
    total_results: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    start_index: Option<u64>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// A number, written as a number or as text; anything else is none.
fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

pub(super) fn plan(max: usize, access: &Access, ask: &ListAsk) -> Result<Plan, Failure> {
    let cursors = access.facts.get("page").and_then(|page| page.as_str()) == Some("cursor");
    let own_max = access.facts.get("max").and_then(serde_json::Value::as_u64).map_or(usize::MAX, |max| max as usize);
    let at = match ask.next.as_deref() {
        Some(token) if token.starts_with(INDEX) => read_token(INDEX, token)?,
        Some(token) => read_token(CURSOR, token)?,
        None if cursors => Step { size: size(ask, max.min(own_max)), ..Step::default() },
        None => Step { size: size(ask, max.min(own_max)), number: 1, ..Step::default() },
    };
    // One count for the whole walk: some servers refuse a cursor with another.
    let place = match at.number {
        0 => ("cursor".to_owned(), at.cursor.clone().unwrap_or_default()),
        index => ("startIndex".to_owned(), index.to_string()),
    };
    Ok(Plan { params: vec![place, ("count".to_owned(), at.size.to_string())], address: None, at })
}

pub(super) fn after(read: &Read<'_>) -> Result<Option<String>, Failure> {
    let envelope: Envelope = serde_json::from_slice(&without_records(&read.answer.body, read.records))
        .map_err(|error| Failure::BadAnswer(format!("the list is not JSON: {error}")))?;
    match read.step().number {
        0 => after_cursor(read, &envelope),
        asked => after_index(read, &envelope, asked),
    }
}

/// The list with `null` in the place of its records, which are most of it and were read already.
fn without_records<'a>(body: &'a [u8], records: &[Range<usize>]) -> Cow<'a, [u8]> {
    match (records.first(), records.last()) {
        (Some(first), Some(last)) => [&body[..first.start], b"null", &body[last.end..]].concat().into(),
        _ => body.into(),
    }
}

fn after_cursor(read: &Read<'_>, envelope: &Envelope) -> Result<Option<String>, Failure> {
    let total = envelope.total_results;
    let Some(cursor) = envelope.next_cursor.clone().filter(|cursor| !cursor.is_empty()) else {
        check_end(read, total)?;
        return Ok(None);
    };
    check_count(read, None)?;
    if read.step().cursor.as_deref() == Some(&cursor) {
        return Err(broken("the same cursor came back"));
    }
    Ok(Some(write_token(CURSOR, &advance(read, total, 0, Some(cursor)))))
}

fn after_index(read: &Read<'_>, envelope: &Envelope, asked: u64) -> Result<Option<String>, Failure> {
    let total = envelope.total_results;
    if let Some(answered) = envelope.start_index
        && answered != asked
        && !(read.records.is_empty() || (asked == 1 && answered == 0))
    {
        return Err(broken(format!("startIndex {asked} was asked for, {answered} was answered")));
    }
    check_count(read, total)?;
    let seen = read.step().seen + read.count();
    let done = match total {
        Some(total) => seen >= total,
        None => read.records.is_empty(),
    };
    match done {
        true => Ok(None),
        false if read.records.is_empty() => {
            Err(broken(format!("the page from {asked} is empty, although totalResults is {}", total.unwrap_or_default())))
        }
        false => Ok(Some(write_token(INDEX, &advance(read, total, asked + read.count(), None)))),
    }
}
