use rollcall::vault::TokenText;

fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn clone<T: Clone>() {}

fn main() {
    display::<TokenText>();
    serialize::<TokenText>();
    clone::<TokenText>();
}
