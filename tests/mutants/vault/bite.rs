//! The tests that must notice a mutant: those of the suite that need no more than the mutated files.

#![allow(clippy::unwrap_used, reason = "a test that ends early harms nobody")]

mod support {
    /// Always the short form: every mutant runs all of it.
    pub fn long() -> bool {
        false
    }
}
mod vault {
    mod account_token;
    mod binding;
    mod debug;
    mod hygiene;
    mod ring;
    mod rotation;
    mod system_keys;
    mod token_text;

    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use rollcall::vault::{KeyRing, Vault};
    use tempfile::TempDir;

    fn ring() -> (KeyRing, TempDir) {
        let folder = TempDir::new().unwrap();
        let ring = KeyRing::create(&folder.path().join("ring.keys"), jiff::Timestamp::UNIX_EPOCH).unwrap();
        (ring, folder)
    }

    fn vault() -> Vault {
        Vault::new(Arc::new(ArcSwap::from_pointee(ring().0)))
    }
}
