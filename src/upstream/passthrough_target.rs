//! Where a transparent call goes.
