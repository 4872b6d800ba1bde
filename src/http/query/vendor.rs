//! The query of a call whose parameters are the vendor's.

use super::{
    Pairs, Query,
    data::take_remote,
    grammar::{key_of, unknown},
};
use crate::{error::Result, http::extract::ACCOUNT_PARAMETER};

/// Everything but the account is the vendor's; nothing of Truto's reaches it.
#[derive(Debug)]
pub struct VendorQuery;

impl VendorQuery {
    /// Says that the body goes as it is, which it always does here.
    pub const AS_IT_IS: &str = "truto_body_passthrough";
}

impl Query for VendorQuery {
    const NAMES: &'static [&'static str] = &[Self::AS_IT_IS];

    /// A vendor's parameters may be written in ways that ours are not.
    fn read(raw: &str) -> Result<Pairs> {
        let is_ours = |pair: &&str| {
            let key = key_of(pair);
            let name = key.split('[').next().unwrap_or_default();
            name == ACCOUNT_PARAMETER || name.starts_with("truto_")
        };
        Pairs::parse(&raw.split('&').filter(is_ours).collect::<Vec<_>>().join("&"))
    }

    fn take(pairs: &mut Pairs) -> Result<Self> {
        pairs.take_bool(Self::AS_IT_IS)?;
        match pairs.take_rest().first() {
            Some(pair) => Err(unknown(&pair.key, Self::NAMES.iter().copied())),
            None => Ok(Self),
        }
    }
}

/// A write in the vendor's own words: what is not a parameter goes to the vendor.
#[derive(Debug)]
pub struct ProxyWrite(pub Vec<(String, String)>);

impl Query for ProxyWrite {
    const NAMES: &'static [&'static str] = &["remote_query", VendorQuery::AS_IT_IS];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        pairs.take_bool(VendorQuery::AS_IT_IS)?;
        Ok(Self(take_remote(pairs, Self::NAMES)?))
    }
}
