//! Tests of the service side.
