//! A format that is newer than this release reads: every door refuses it with a sentence, and nothing is changed.

use std::{collections::BTreeMap, fs};

use super::{
    backup::{on, opened, plant, ring},
    cli::run,
    vendor::Vendor,
};
use crate::support::gateway::{ADMIN, Gateway, Kept};

const SAID: &str = "The store has format 2; this release (0.1.0) reads format 1 and older ones";

/// Everything that lives for ever in a store that nothing runs on.
async fn everything(kept: &Kept) -> BTreeMap<String, Vec<u8>> {
    match kept {
        Kept::Embedded(_) => {
            let store = opened(kept).await;
            let mut all = BTreeMap::new();
            for slot in store.slots().await.unwrap() {
                for (name, entry) in store.scan(&slot, "", None, 10_000).await.unwrap() {
                    all.insert(format!("{slot} {name} {}", entry.version), entry.value.to_vec());
                }
            }
            all
        }
        Kept::Redis(server, _) => {
            let mut connection = server.connection();
            let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            let mut all = BTreeMap::new();
            for key in keys {
                let ends: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
                let value: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
                if ends == -1 {
                    all.insert(String::from_utf8_lossy(&key).into_owned(), value.unwrap());
                }
            }
            all
        }
    }
}

/// What a command said, which had to fail.
fn refused(kept: &Kept, args: &[&str]) -> String {
    let (code, out, err) = run(on(kept, args).env("ROLLCALL_LISTEN", "127.0.0.1:0").env("ROLLCALL_ADMIN_TOKEN", ADMIN));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {err}");
    err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_refuses_a_newer_format_and_changes_nothing() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        let saved = kept.folder().join("saved");
        let (code, _, err) = tokio::task::block_in_place(|| run(&mut on(&kept, &["backup", saved.to_str().unwrap()])));
        assert_eq!(code, Some(0), "{err}");
        assert!(gateway.stop());
        assert_eq!(run(&mut on(&kept, &["keys", "add", "--id", "k2"])).0, Some(0));
        let lines = kept.folder().join("accounts.ndjson");
        fs::write(&lines, format!("{}\n", vendor.import())).unwrap();
        plant(&kept, "format", "2").await;
        let (before, ring_before) = (everything(&kept).await, fs::read(ring(&kept)).unwrap());
        assert!(before.keys().any(|name| name.contains("format")), "{:?}", before.keys());
        let into = kept.folder().join("another");
        let (lines, into) = (lines.to_str().unwrap(), into.to_str().unwrap());
        let add = ["account", "add", "--integration", "scim", "--method", "bearer", "--tenant", "acme"];
        let doors: [&[&str]; 18] = [
            &["serve"],
            &["backup", into],
            &["account", "import", lines],
            &add,
            &["account", "list"],
            &["account", "show", &account],
            &["account", "delete", &account],
            &["audit", "verify"],
            &["audit", "list"],
            &["keys", "promote", "k2"],
            &["keys", "rewrap"],
            &["keys", "rewrap", "--data-keys"],
            &["keys", "retire", "k2"],
            &["keys", "status"],
            &["token", "create", "--name", "one", "--scope", "admin"],
            &["token", "list"],
            &["environment", "add", "second"],
            &["link", "--tenant", "acme"],
        ];
        let asked = vendor.asked();
        for door in doors {
            let said = tokio::task::block_in_place(|| refused(&kept, door));
            assert!(said.contains(SAID), "{door:?}: {said}");
        }
        // A restore refuses it as it refuses every store that holds something.
        let said = tokio::task::block_in_place(|| refused(&kept, &["restore", saved.to_str().unwrap()]));
        assert!(said.contains("The store is not empty"), "{said}");
        assert_eq!(vendor.asked(), asked, "no vendor was asked");
        assert_eq!(fs::read(ring(&kept)).unwrap(), ring_before, "the ring is what it was");
        assert!(!fs::exists(into).unwrap() && !fs::exists(format!("{into}.part")).unwrap(), "a folder was made");
        let now = everything(&kept).await;
        assert_eq!(now.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert!(now == before, "a value was changed");
        plant(&kept, "format", "1").await;
        let (code, out, err) = tokio::task::block_in_place(|| run(&mut on(&kept, &["account", "list"])));
        assert!(code == Some(0) && out.contains(&account), "{code:?} {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_backup_changes_no_store() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    gateway.link("scim", "bearer", vendor.context()).await;
    let saved = kept.folder().join("saved");
    let (code, _, err) = tokio::task::block_in_place(|| run(&mut on(&kept, &["backup", saved.to_str().unwrap()])));
    assert_eq!(code, Some(0), "{err}");
    for to in Kept::each() {
        fs::copy(ring(&kept), ring(&to)).unwrap();
        for (member, said) in [("format", "backup format 2"), ("store_format", "store format 2")] {
            for file in ["data.ndjson", "data-keys.ndjson"] {
                let whole = fs::read_to_string(saved.join(file)).unwrap();
                let newer = whole.replacen(&format!("\"{member}\":1"), &format!("\"{member}\":2"), 1);
                assert_ne!(newer, whole);
                fs::write(saved.join(file), newer).unwrap();
                let err = tokio::task::block_in_place(|| refused(&to, &["restore", saved.to_str().unwrap()]));
                assert!(err.contains(file) && err.contains(said) && err.contains("Restore it with the release"), "{err}");
                fs::write(saved.join(file), whole).unwrap();
            }
        }
        match &to {
            Kept::Embedded(folder) => assert!(!folder.path().join("store").exists(), "a store was made"),
            Kept::Redis(..) => assert_eq!(everything(&to).await, BTreeMap::new()),
        }
        // As it was made, it is taken.
        let (code, _, err) = tokio::task::block_in_place(|| run(&mut on(&to, &["restore", saved.to_str().unwrap()])));
        assert_eq!(code, Some(0), "{err}");
    }
}
