//! The fields that say what is left of a limit: of the operator's own those of the IETF's draft and their forerunners, of a
//! vendor's the forerunners alone.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{Allowance, VendorLimit};

/// Name and value of each.
pub fn fields(allowance: &Allowance) -> [(&'static str, String); 5] {
    let Allowance { policy, limit, window, remaining, reset } = allowance;
    [
        ("ratelimit-policy", format!("\"{policy}\";q={limit};w={window}")),
        ("ratelimit", format!("\"{policy}\";r={remaining};t={reset}")),
        ("ratelimit-limit", limit.to_string()),
        ("ratelimit-remaining", remaining.to_string()),
        ("ratelimit-reset", reset.to_string()),
    ]
}

/// Tells what is left, unless the answer speaks of a limit already: the vendor's, or the one that refused the request. Where
/// both are known, the forerunners are about the one that ends first.
pub fn tell(vendors: Option<VendorLimit>, own: Option<&Allowance>, headers: &mut HeaderMap) {
    let left = own.map(|own| u64::from(own.remaining));
    let own = own.map(fields);
    if own.iter().flatten().any(|(name, _)| headers.contains_key(*name)) {
        return;
    }
    let is_nearer = |said: &VendorLimit| left.is_none_or(|left| said.remaining.is_some_and(|remaining| remaining < left));
    if let Some(VendorLimit { limit, remaining, reset }) = vendors.filter(is_nearer) {
        for (name, value) in [("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("ratelimit-reset", reset)] {
            if let Some(value) = value.filter(|_| !headers.contains_key(name)) {
                headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
            }
        }
    }
    for (name, value) in own.into_iter().flatten() {
        if let (false, Ok(value)) = (headers.contains_key(name), HeaderValue::try_from(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
