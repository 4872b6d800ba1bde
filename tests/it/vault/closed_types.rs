//! V-08: types that hold secrets do not have the traits by which secrets leave.

use std::{
    fmt::{Debug, Display},
    marker::PhantomData,
};

use rollcall::{
    config::{GlobalArgs, Settings, StoreSetting},
    model::Secret,
    vault::{DataKey, KeyRing, SystemKeys, TokenText, Vault},
};

/// Asks whether a type has a trait: the inherent constant exists only when it has, and wins over the trait's.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        struct Ask<T>(PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise { const ANSWER: bool = false; }
        impl<T> Otherwise for Ask<T> {}
        #[allow(dead_code)]
        impl<T: $($bound)+> Ask<T> { const ANSWER: bool = true; }
        <Ask<$type>>::ANSWER
    }};
}

/// Display, Serialize, Debug, Clone.
macro_rules! traits {
    ($type:ty) => {
        [has!($type: Display), has!($type: serde::Serialize), has!($type: Debug), has!($type: Clone)]
    };
}

#[test]
fn v_08_secret_types_cannot_be_printed_or_serialised() {
    assert_eq!(traits!(String), [true; 4], "the question itself finds what is there");
    assert_eq!(traits!(DataKey), [false; 4]);
    assert_eq!(traits!(SystemKeys), [false; 4]);
    assert_eq!(traits!(Settings), [false; 4]);
    // These have a Debug that says nothing of the content; see below.
    assert_eq!(traits!(KeyRing), [false, false, true, false]);
    assert_eq!(traits!(Vault), [false, false, true, false]);
    assert_eq!(traits!(TokenText), [false, false, true, false]);
    assert_eq!(traits!(Secret), [false, false, true, true]);
    assert_eq!(traits!(GlobalArgs), [false, false, false, true]);
    // Its Display leaves out user and password.
    assert_eq!(traits!(StoreSetting), [true, false, true, true]);
}

#[test]
fn v_08_debug_shows_no_content() {
    assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    let (text, _) = TokenText::generate();
    assert_eq!(format!("{text:?}"), "TokenText(…)");

    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("k");
    let ring = KeyRing::create(&path, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(format!("{ring:?}"), "KeyRing { ids: [\"k1\"], .. }");
    let vault = Vault::new(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(ring)));
    assert_eq!(format!("{vault:?}"), "Vault { ring: KeyRing { ids: [\"k1\"], .. } }");
}

/// The compiler's own words, type by type. Long, because it builds the crate once more in a folder of its own.
#[test]
fn v_08_compile_fail() {
    if crate::support::long() {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    }
}
