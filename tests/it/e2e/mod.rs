//! The whole binary, as users run it: once per store.

mod scim;
