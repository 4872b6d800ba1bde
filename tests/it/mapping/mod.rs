//! Tests of the mapping side.
