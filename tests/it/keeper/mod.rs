//! Tests of the keeper side.
