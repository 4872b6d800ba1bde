//! What a backup knows of the stored slots.

use std::{collections::BTreeSet, path::Path};

use regex::Regex;
use rollcall::{
    model::AccountId,
    store::repo::backup::{account_listed, account_of, is_account_record, is_key},
};

/// Every kind of slot, and what becomes of it. Whoever adds a kind decides it here and in `store::repo::backup`: what lives for
/// ever is taken; what has a list of its own is left out when the list does not show it; what only ends by itself is not read.
const KINDS: &[(&str, &str)] = &[
    ("account_id", "taken where its list shows it; its data key apart"),
    ("audit:", "taken"),
    ("authorization:", "ends by itself"),
    ("env:", "taken before everything that it lists"),
    ("events:", "taken last: events are moved there from their accounts"),
    ("idempotency:", "ends by itself"),
    ("link:", "ends by itself"),
    ("log:", "ends by itself"),
    ("rollcall", "taken; the system keys apart"),
    ("token:", "taken where its list shows it"),
];

#[test]
fn a_backup_knows_every_kind_of_slot() {
    let made = Regex::new(r#"Slot::new\((?:format!\("([^{"]+)|([A-Za-z_.()]+))"#).unwrap();
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/repo")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "backup.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for found in made.captures_iter(&text) {
            let kind = found.get(1).or(found.get(2)).unwrap().as_str();
            kinds.insert(match kind {
                "SLOT" | "SLOT)" => "rollcall".to_owned(),
                kind if kind.starts_with("account") => "account_id".to_owned(),
                kind => kind.to_owned(),
            });
        }
    }
    let known: BTreeSet<String> = KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(kinds, known, "a kind of slot that backups know nothing of, or one that is gone");
}

#[test]
fn keys_and_records_are_told_by_their_place() {
    let account = AccountId::generate();
    let slot = account.to_string();
    assert_eq!((account_of(&slot), account_of("token:x"), account_of(&slot.to_uppercase())), (Some(account), None, None));
    assert!(
        is_account_record(&slot, "account") && !is_account_record(&slot, "token") && !is_account_record("rollcall", "account")
    );
    assert!(is_key(&slot, "data-key") && is_key("rollcall", "system-keys"));
    assert!(!is_key(&slot, "account") && !is_key(&slot, "system-keys") && !is_key("rollcall", "format"));
    assert_eq!(account_listed("env:x", &format!("account/{account}")), Some(account));
    assert_eq!(account_listed("rollcall", &format!("account/{account}")), None);
    assert_eq!(account_listed("env:x", &format!("token/{account}")), None);
}
