//! Keeper Commander Service Mode.
