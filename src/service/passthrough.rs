//! The transparent proxy: what may pass, where it goes, what is held meanwhile.

use bytes::Bytes;

use super::Linked;
use crate::error::Result;

/// A request to hand on, in `http` 1 types; the ways in convert.
pub struct Forward<B> {
    /// The method.
    pub method: http::Method,
    /// The path behind the account, exactly as it came, with its leading slash.
    pub raw_path: String,
    /// The query exactly as it came, our own parameters already cut out.
    pub raw_query: Option<String>,
    /// The client's headers.
    pub headers: http::HeaderMap,
    /// The managed company a command shall run in, from `rollcall-company`.
    pub company: Option<String>,
    /// The body.
    pub body: B,
}

/// What the proxy rules need to see before a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: stream it.
    Nothing,
    /// The whole body, at most so many bytes.
    Body(usize),
}

/// The transparent proxy.
pub struct Passthrough {}

impl Passthrough {
    /// First look, by method and path: refuses what never passes and says whether the body must be read.
    pub fn admit(&self, _linked: &Linked, _method: &http::Method, _raw_path: &str) -> Result<Look> {
        todo!()
    }

    /// Second look, at a body that was read.
    pub fn admit_body(&self, _linked: &Linked, _raw_path: &str, _body: &Bytes) -> Result<()> {
        todo!()
    }
}
