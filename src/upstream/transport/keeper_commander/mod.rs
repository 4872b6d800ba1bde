//! Keeper Commander Service Mode.

use crate::upstream::{Access, Context, Failure, Pick, Tested, Visit};

/// Asks the service whether the key works.
pub async fn test(_context: &Context, _access: &Access) -> Result<Tested, Failure> {
    todo!()
}

/// Everything of one company, under the service lock.
pub async fn visit(_context: &Context, _access: &Access, _pick: &Pick) -> Result<Visit, Failure> {
    todo!()
}

/// The company an id belongs to.
pub fn company_of(_access: &Access, _id: &str) -> Option<String> {
    todo!()
}
