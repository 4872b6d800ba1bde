//! V-06: a start with a key ring that is wrong ends at once, says why, and leaves the store as it was.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rollcall::{
    model::SystemClock,
    store::{
        Store,
        embedded::Embedded,
        repo::{Installation, environment_slot},
    },
};

use crate::support::{
    gateway::{ADMIN, Gateway, Kept, command, write_ring},
    redis::free_port,
};

/// What the store holds, to the byte.
fn content(kept: &Kept) -> BTreeMap<String, Vec<u8>> {
    match kept {
        Kept::Embedded(folder) => {
            let path = folder.path().join("store");
            let store: Arc<dyn Store> = Arc::new(Embedded::open(&path, Arc::new(SystemClock)).unwrap());
            tokio::runtime::Runtime::new().unwrap().block_on(records(store))
        }
        Kept::Redis(server, _) => {
            let mut connection = server.connection();
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            let dump = |key: &String| redis::cmd("DUMP").arg(key).query(&mut server.connection()).unwrap();
            keys.iter().map(|key| (key.clone(), dump(key))).collect()
        }
    }
}

/// Every record of a store without accounts. The file itself is not compared: its engine marks it as open.
async fn records(store: Arc<dyn Store>) -> BTreeMap<String, Vec<u8>> {
    let installation = Installation::new(store.clone());
    let mut records = BTreeMap::new();
    records.insert("system keys".to_owned(), format!("{:?}", installation.system_keys().await.unwrap()).into_bytes());
    for environment in installation.environments().await.unwrap() {
        let slot = environment_slot(environment.id);
        records.insert(slot.to_string(), environment.name.into_bytes());
        for (name, entry) in store.scan(&slot, "", None, 1000).await.unwrap() {
            records.insert(format!("{slot} {name}"), format!("{entry:?}").into_bytes());
        }
    }
    records
}

fn start(kept: &Kept, ring: &Path) -> (Output, Duration) {
    let mut serve = command(&["serve"]);
    let store = match kept {
        Kept::Embedded(folder) => format!("embedded:{}", folder.path().join("store").display()),
        Kept::Redis(server, _) => format!("redis://127.0.0.1:{}", server.port),
    };
    serve.env("ROLLCALL_STORE", store).env("ROLLCALL_KEYS_FILE", ring).env("ROLLCALL_ADMIN_TOKEN", ADMIN);
    serve.env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", free_port()));
    let begun = Instant::now();
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed();
    (child.wait_with_output().unwrap(), took)
}

fn ring_of(key: &str) -> String {
    format!(
        r#"{{"version": 1, "primary": "k1", "keys": [{{"id": "k1", "created_at": "2026-01-01T00:00:00Z", "key": "{key}"}}]}}"#
    )
}

#[test]
fn v_06_wrong_key_ends_the_start() {
    for kept in Kept::each() {
        let good = match &kept {
            Kept::Embedded(folder) => folder.path().join("store.keys"),
            Kept::Redis(_, folder) => folder.path().join("keys.json"),
        };
        assert!(started(&kept).stop(), "the first run made the store");
        let before = content(&kept);
        assert!(!before.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let ring = folder.path().join("ring");
        let (right, damaged) = (std::fs::read_to_string(&good).unwrap(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let cases: [(&str, &str, Option<String>, u32); 9] = [
            ("wrong", "does not open this store", None, 0o600),
            ("missing", "does not exist", None, 0o600),
            ("short", "a key has 32", Some(ring_of("bm90IDMyIGJ5dGVz")), 0o600),
            ("counting", "counts up", Some(ring_of(damaged)), 0o600),
            ("sample", "text, not random", Some(ring_of("Y2hhbmdlbWVjaGFuZ2VtZWNoYW5nZW1lY2hhbmdlbWU=")), 0o600),
            ("zero", "same byte", Some(ring_of("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")), 0o600),
            ("world-readable", "chmod 600", Some(right.clone()), 0o644),
            ("empty", "is empty", Some(String::new()), 0o600),
            ("cut", "is not JSON", Some(right[..right.len() / 2].to_owned()), 0o600),
        ];
        for (name, sentence, content_of_ring, mode) in cases {
            let _ = std::fs::remove_file(&ring);
            match content_of_ring {
                Some(text) => {
                    std::fs::write(&ring, text).unwrap();
                    std::fs::set_permissions(&ring, std::fs::Permissions::from_mode(mode)).unwrap();
                }
                None if name == "wrong" => write_ring(&ring),
                None => {}
            }
            let (output, took) = start(&kept, &ring);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && output.status.code().is_some(), "{name}: {:?} {said}", output.status);
            assert!(said.contains(sentence), "{name}: {said}");
            assert!(took < Duration::from_secs(2), "{name}: {took:?}");
            assert_eq!(ring.exists(), name != "missing", "{name}: a ring was made");
            assert!(content(&kept) == before, "{name}: the store was written to");
        }
        assert!(started(&kept).stop(), "the right ring still opens it");
    }
}

/// A gateway that is past its start: it listens before it has opened its store.
fn started(kept: &Kept) -> Gateway {
    let gateway = Gateway::start(kept, "");
    crate::support::redis::until("the gateway is ready", 20, || gateway.said().contains("\"ready\""));
    gateway
}
