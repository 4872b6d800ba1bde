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

/// Tells what is left, unless the answer speaks of a limit already: the vendor's, or the one that refused the request.
pub fn tell(allowance: &Allowance, headers: &mut HeaderMap) {
    let fields = fields(allowance);
    if fields.iter().any(|(name, _)| headers.contains_key(*name)) {
        return;
    }
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Tells what the vendor said of its limit, unless the answer does.
pub fn tell_vendors(said: VendorLimit, headers: &mut HeaderMap) {
    let VendorLimit { limit, remaining, reset } = said;
    for (name, value) in [("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("ratelimit-reset", reset)] {
        if let Some(value) = value.filter(|_| !headers.contains_key(name)) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}
