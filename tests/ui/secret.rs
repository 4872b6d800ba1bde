use rollcall::model::Secret;

fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn eq<T: PartialEq>() {}

fn main() {
    display::<Secret>();
    serialize::<Secret>();
    eq::<Secret>();
}
