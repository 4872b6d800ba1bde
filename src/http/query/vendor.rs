//! The query of a call whose parameters are the vendor's.

use super::{Pairs, Query, grammar::unknown};
use crate::error::Result;

/// Everything but the account is the vendor's; nothing of Truto's reaches it.
#[derive(Debug)]
pub struct VendorQuery;

impl VendorQuery {
    /// Says that the body goes as it is, which it always does here.
    pub const AS_IT_IS: &str = "truto_body_passthrough";
}

impl Query for VendorQuery {
    const NAMES: &'static [&'static str] = &[Self::AS_IT_IS];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        pairs.take_bool(Self::AS_IT_IS)?;
        match pairs.take_rest().iter().find(|pair| pair.name.starts_with("truto_")) {
            Some(pair) => Err(unknown(&pair.key, Self::NAMES.iter().copied())),
            None => Ok(Self),
        }
    }
}
