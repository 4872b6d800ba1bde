//! The tests that must notice a mutant: those of the suite that need no more than the mutated files.

#![allow(clippy::unwrap_used, reason = "a test that ends early harms nobody")]

mod arguments;
mod names;
mod support {
    /// Always the short form: every mutant runs all of it.
    pub fn long() -> bool {
        false
    }
}
mod upstream {
    mod addresses;
    pub mod dialling;
    mod guard;
    mod target;
}
