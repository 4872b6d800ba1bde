//! Tests of the vault side.

mod account_token;
mod binding;
mod closed_types;
mod debug;
mod exposure;
mod hygiene;
mod ring;
mod rotation;
mod settings;
mod system_keys;
mod token_text;
mod upgrade;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rollcall::vault::{KeyRing, Vault};
use tempfile::TempDir;

/// A new ring in a folder of its own.
fn ring() -> (KeyRing, TempDir) {
    let folder = TempDir::new().unwrap();
    let ring = KeyRing::create(&folder.path().join("ring.keys"), jiff::Timestamp::UNIX_EPOCH).unwrap();
    (ring, folder)
}

/// A vault over a new ring.
fn vault() -> Vault {
    Vault::new(Arc::new(ArcSwap::from_pointee(ring().0)))
}
