//! Tests of the http side.
