//! Tests of the architecture side.
