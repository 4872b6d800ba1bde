use rollcall::vault::SystemKeys;

fn debug<T: std::fmt::Debug>() {}
fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn clone<T: Clone>() {}

fn main() {
    debug::<SystemKeys>();
    display::<SystemKeys>();
    serialize::<SystemKeys>();
    clone::<SystemKeys>();
}
