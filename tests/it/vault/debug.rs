//! V-08: what the `Debug` of a type with secrets says.

use rollcall::{
    model::Secret,
    vault::{FileStamp, KeyRing, LinkText, TokenText, Vault},
};

#[test]
fn v_08_debug_shows_no_content() {
    assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    let (text, _) = TokenText::generate();
    assert_eq!(format!("{text:?}"), "TokenText(…)");
    assert_eq!(format!("{:?}", LinkText::generate().0), "LinkText(…)");

    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("k");
    let ring = KeyRing::create(&path, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(format!("{ring:?}"), "KeyRing { ids: [\"k1\"], .. }");
    let mut stamp = FileStamp::default();
    KeyRing::reload_if_changed(&path, &mut stamp).unwrap();
    assert_eq!(format!("{stamp:?}"), "FileStamp(…)");
    let vault = Vault::new(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(ring)));
    assert_eq!(format!("{vault:?}"), "Vault { ring: KeyRing { ids: [\"k1\"], .. } }");
}
