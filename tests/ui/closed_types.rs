//! What the compiler must refuse: each line that ends in `//~` and an error, and no other one.

use rollcall::{
    config::{GlobalArgs, Settings, StoreSetting},
    model::{Account, Secret, Slug},
    service::{ChangeAccount, NewAccount},
    vault::{DataKey, KeyRing, SystemKeys, TokenText, Vault},
};

fn debug<T: std::fmt::Debug>() {}
fn display<T: std::fmt::Display>() {}
fn serialize<T: serde::Serialize>() {}
fn clone<T: Clone>() {}
fn eq<T: PartialEq>() {}

fn main() {
    debug::<Account>();
    display::<Slug>();
    serialize::<Account>();
    clone::<Account>();
    eq::<Account>();

    debug::<DataKey>(); //~ E0277
    display::<DataKey>(); //~ E0277
    serialize::<DataKey>(); //~ E0277
    clone::<DataKey>(); //~ E0277

    debug::<SystemKeys>(); //~ E0277
    display::<SystemKeys>(); //~ E0277
    serialize::<SystemKeys>(); //~ E0277
    clone::<SystemKeys>(); //~ E0277

    debug::<Settings>(); //~ E0277
    display::<Settings>(); //~ E0277
    serialize::<Settings>(); //~ E0277
    clone::<Settings>(); //~ E0277

    debug::<NewAccount>(); //~ E0277
    serialize::<NewAccount>(); //~ E0277
    debug::<ChangeAccount>(); //~ E0277
    serialize::<ChangeAccount>(); //~ E0277

    debug::<GlobalArgs>(); //~ E0277
    display::<GlobalArgs>(); //~ E0277
    serialize::<GlobalArgs>(); //~ E0277
    serialize::<StoreSetting>(); //~ E0277

    display::<KeyRing>(); //~ E0277
    serialize::<KeyRing>(); //~ E0277
    clone::<KeyRing>(); //~ E0277

    display::<Vault>(); //~ E0277
    serialize::<Vault>(); //~ E0277

    display::<TokenText>(); //~ E0277
    serialize::<TokenText>(); //~ E0277
    clone::<TokenText>(); //~ E0277

    display::<Secret>(); //~ E0277
    serialize::<Secret>(); //~ E0277
    eq::<Secret>(); //~ E0277
}
