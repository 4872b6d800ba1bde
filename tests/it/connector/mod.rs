//! Tests of the connector side.
