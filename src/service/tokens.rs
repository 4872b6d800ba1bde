//! API tokens: made, shown once, stored as keyed hashes, revoked everywhere within a second.

use jiff::Timestamp;

use super::Caller;
use crate::{
    error::Result,
    model::{ApiToken, EnvironmentId, Scopes, Secret},
};

/// What a new token shall be.
#[derive(Debug)]
pub struct NewToken {
    /// The person's or service's name.
    pub name: String,
    /// Its rights.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// API tokens.
pub struct Tokens {}

impl Tokens {
    /// Who this token belongs to; `invalid_token` for everything that is not a live token.
    pub async fn authenticate(&self, _token: &str) -> Result<Caller> {
        todo!()
    }

    /// Makes a token; its text is never shown again.
    pub async fn create(&self, _environment: EnvironmentId, _new: NewToken) -> Result<(ApiToken, Secret)> {
        todo!()
    }

    /// Tokens of the environment in id order; the second value continues the list.
    pub async fn list(&self, _environment: EnvironmentId, _limit: usize, _after: Option<&str>) -> Result<(Vec<ApiToken>, Option<String>)> {
        todo!()
    }

    /// One token.
    pub async fn get(&self, _environment: EnvironmentId, _id: &str) -> Result<ApiToken> {
        todo!()
    }

    /// Ends a token.
    pub async fn revoke(&self, _environment: EnvironmentId, _id: &str) -> Result<()> {
        todo!()
    }
}
