//! The answer holds the next address. Only its path and query are kept, and only within the account's origins.

use url::Url;

use super::{Access, Failure, ListAsk, Plan, Read, Step, advance, broken, read_token, size, write_token};
use crate::upstream::passthrough_target::is_named;

const KIND: char = 'u';

pub(super) fn plan(limit: Option<&str>, max: usize, access: &Access, ask: &ListAsk) -> Result<Plan, Failure> {
    let Some(token) = &ask.next else {
        let at = Step { size: size(ask, max), ..Step::default() };
        let params = limit.map(|limit| (limit.to_owned(), at.size.to_string())).into_iter().collect();
        return Ok(Plan { params, address: None, at });
    };
    let at = read_token(KIND, token)?;
    let lost = || broken("the cursor belongs to another way of paging; start again without it");
    let origin = origins(access).nth(at.number as usize).ok_or_else(lost)?;
    let target = at.cursor.as_deref().filter(|target| target.starts_with('/')).ok_or_else(lost)?;
    let text = format!("{}{target}", origin.origin().ascii_serialization());
    let address = Url::parse(&text).map_err(|_| lost())?;
    place(access, &address)?;
    Ok(Plan { params: Vec::new(), address: Some(address), at })
}

pub(super) fn after(next: Option<&str>, read: &Read<'_>) -> Result<Option<String>, Failure> {
    let Some(next) = next.map(str::trim).filter(|next| !next.is_empty()) else { return Ok(None) };
    let mut url = absolute(next, read)?;
    url.set_fragment(None);
    strip(&mut url, read.access);
    let origin = place(read.access, &url)?;
    if url == *read.asked {
        return Err(broken("the next address is the one that was just asked"));
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let step = advance(read, None, origin as u64, Some(format!("{}{query}", url.path())));
    Ok(Some(write_token(KIND, &step)))
}

/// Vendors write whole addresses, absolute paths or only a query.
fn absolute(next: &str, read: &Read<'_>) -> Result<Url, Failure> {
    let unreadable = || broken("the next address cannot be read");
    if next.contains('\\') || next.bytes().any(|byte| byte < 0x20) {
        return Err(unreadable());
    }
    let asked = read.asked;
    let text = match next {
        _ if next.starts_with("//") => format!("{}:{next}", asked.scheme()),
        _ if next.starts_with('/') => format!("{}{next}", asked.origin().ascii_serialization()),
        _ if next.starts_with('?') => format!("{}{}{next}", asked.origin().ascii_serialization(), asked.path()),
        _ => next.to_owned(),
    };
    Url::parse(&text).map_err(|_| unreadable())
}

/// A vendor that takes its key as a parameter may write it into its links; the sender puts it in again.
fn strip(url: &mut Url, access: &Access) {
    let Some(query) = url.query() else { return };
    if access.query.is_empty() {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !access.query.iter().any(|(name, _)| is_named(pair, name))).collect();
    let kept = kept.join("&");
    url.set_query(Some(kept.as_str()).filter(|query| !query.is_empty()));
}

fn origins(access: &Access) -> impl Iterator<Item = &Url> {
    std::iter::once(&access.base).chain(&access.hosts)
}

/// Which of the account's origins an address is at; refused where it is at none, or beside the base path.
fn place(access: &Access, url: &Url) -> Result<usize, Failure> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Egress("The vendor's next page has a user name in its address.".into()));
    }
    let below = |origin: &Url| {
        let prefix = origin.path().trim_end_matches('/');
        url.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = origins(access).position(|origin| origin.origin() == url.origin() && below(origin));
    found.ok_or_else(|| Failure::Egress("The vendor's next page is at an address outside the account's base and hosts.".into()))
}
