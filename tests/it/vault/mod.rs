//! Tests of the vault side.
