//! One request, as it is noted when it has ended and as it is shown.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    model::{AccountId, Slug},
    service::{Caller, Linked},
};

/// A request that has ended: never a body, a header or a query.
pub struct Line {
    /// When.
    pub ended: Instant,
    /// Its id, ours or the caller's.
    pub request_id: RequestId,
    /// Who asked; nobody when there was no valid token.
    pub caller: Option<Arc<Caller>>,
    /// The account it was about.
    pub about: Option<About>,
    /// The route's template.
    pub route: Cow<'static, str>,
    /// The HTTP method.
    pub method: Cow<'static, str>,
    /// The status of the answer.
    pub status: u16,
    /// The code of our own error.
    pub code: Option<&'static str>,
    /// The status of the vendor's last answer.
    pub vendor_status: Option<u16>,
    /// From the first look until the last byte.
    pub took: Duration,
    /// What of that the vendor took.
    pub vendor_took: Option<Duration>,
    /// Pages of a vendor's list.
    pub pages: u32,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// The answer did not leave as a whole.
    pub cut: bool,
}

/// A request's id: ours take the room of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// 32 lower-case hexadecimal digits.
    Digits([u8; 16]),
    /// Any other text a caller chose.
    Text(Box<str>),
}

impl RequestId {
    /// Reads an id.
    pub fn of(text: &str) -> Self {
        let is_plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match uuid::Uuid::try_parse(text) {
            Ok(id) if is_plain => Self::Digits(id.into_bytes()),
            _ => Self::Text(text.into()),
        }
    }

    /// The time an id in the form of ours was made at, in milliseconds.
    pub fn made_at(&self) -> Option<i64> {
        let Self::Digits(bytes) = self else { return None };
        let id = uuid::Uuid::from_bytes(*bytes);
        let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
        i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits(bytes) => write!(f, "{:032x}", u128::from_be_bytes(*bytes)),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The account a request was about, as far as it is known.
pub enum About {
    /// It was opened.
    Linked(Arc<Linked>),
    /// It exists but could not be opened.
    Known {
        /// The account.
        account: AccountId,
        /// Whose it is.
        tenant_id: Box<str>,
        /// Its connector.
        integration: Slug,
    },
    /// The caller named it; it may not exist.
    Asked(AccountId),
}

impl About {
    /// The account.
    pub fn account(&self) -> AccountId {
        match self {
            Self::Linked(linked) => linked.account.id,
            Self::Known { account, .. } | Self::Asked(account) => *account,
        }
    }

    /// Whose it is, and of which connector.
    pub fn names(&self) -> Option<(&str, &Slug)> {
        match self {
            Self::Linked(linked) => Some((&linked.account.tenant_id, &linked.account.connector)),
            Self::Known { tenant_id, integration, .. } => Some((tenant_id, integration)),
            Self::Asked(_) => None,
        }
    }
}

/// One request, as `GET /log` shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogLine {
    /// The line's own id.
    pub id: String,
    /// When the request had ended.
    pub created_at: Timestamp,
    /// The request's id: `x-request-id` or `rollcall-request-id` of its answer, `request_id` of its problem.
    pub request_id: String,
    /// The name of the token; null when there was no valid one.
    #[schema(required = true)]
    pub actor: Option<String>,
    /// The account's customer.
    #[schema(required = true)]
    pub tenant_id: Option<String>,
    /// The account it was about.
    #[schema(required = true)]
    pub integrated_account_id: Option<String>,
    /// The account's connector.
    #[schema(required = true)]
    pub integration: Option<String>,
    /// The route's template, for example `/proxy/{resource}`; `other` where there is none.
    pub route: String,
    /// The HTTP method.
    pub method: String,
    /// The status of the answer.
    pub status: u16,
    /// The code of this gateway's error; null where there was none.
    #[schema(required = true)]
    pub code: Option<String>,
    /// The status of the vendor's last answer; null when it was not asked or gave none.
    #[schema(required = true)]
    pub vendor_status: Option<u16>,
    /// From the first look at the request until the last byte of the answer.
    pub duration_ms: f64,
    /// What of that the vendor took, over all calls; null when it was not asked.
    #[schema(required = true)]
    pub vendor_duration_ms: Option<f64>,
    /// Pages read from the vendor.
    pub pages: u32,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// The answer did not leave as a whole: the client left, or the vendor broke off.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_ours_are_numbers_and_tell_their_time() {
        let ours = "0198f0c2a1b07c1e9a51d2b53c1f0e77";
        assert!(matches!(RequestId::of(ours), RequestId::Digits(_)));
        assert_eq!(RequestId::of(ours).to_string(), ours);
        assert_eq!(RequestId::of(ours).made_at(), Some(0x0198_f0c2_a1b0));
        for text in ["", "same", "0198F0C2A1B07C1E9A51D2B53C1F0E77", "+198f0c2a1b07c1e9a51d2b53c1f0e77", "0198f0c2-a1b0"] {
            assert_eq!(RequestId::of(text), RequestId::Text(text.into()));
            assert_eq!(RequestId::of(text).made_at(), None);
        }
        assert_eq!(RequestId::of("0198f0c2a1b04c1e9a51d2b53c1f0e77").made_at(), None, "version 4");
    }
}
