use rollcall::vault::Vault;

fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}

fn main() {
    display::<Vault>();
    serialize::<Vault>();
}
