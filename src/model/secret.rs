//! Text that must not leave the process except to its vendor.

use secrecy::{ExposeSecret, SecretString};

/// A secret text: no `Debug` of its content, no `Serialize`, wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a text in; the argument's own buffer becomes the secret's.
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call stands in the reviewed list of `tests/it/vault/exposure.rs`.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}
