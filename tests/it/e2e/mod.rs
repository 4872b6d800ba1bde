//! The whole binary, as users run it.
