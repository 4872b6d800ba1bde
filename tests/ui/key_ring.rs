use rollcall::vault::KeyRing;

fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn clone<T: Clone>() {}

fn main() {
    display::<KeyRing>();
    serialize::<KeyRing>();
    clone::<KeyRing>();
}
