use rollcall::vault::DataKey;

fn debug<T: std::fmt::Debug>() {}
fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn clone<T: Clone>() {}

fn main() {
    debug::<DataKey>();
    display::<DataKey>();
    serialize::<DataKey>();
    clone::<DataKey>();
}
