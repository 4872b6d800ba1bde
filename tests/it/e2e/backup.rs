//! C-03 and A-04: what is saved while the gateway serves comes back whole, elsewhere, with the right keys alone; and who was
//! deleted does not come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rollcall::{
    model::SystemClock,
    store::{Batch, Expect, Slot, Store, Write, embedded::Embedded, redis::Redis, repo::backup::account_of},
    vault::Digest,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    bar_canaries::{Canaries, Canary, files},
    cli::run,
    vendor::{Vendor, accounts, is_sound},
};
use crate::support::{
    gateway::{Gateway, Kept, binary, client, command, write_ring},
    redis::{Server, until},
};

const USERS: &str = "/unified/user-directory/users";

/// A command on this store.
pub fn on(kept: &Kept, args: &[&str]) -> Command {
    let mut command = command(args);
    command.envs(kept.settings()).current_dir(kept.folder());
    command
}

/// The ring of a store under test.
pub fn ring(kept: &Kept) -> PathBuf {
    kept.folder().join(if matches!(kept, Kept::Embedded(_)) { "store.keys" } else { "keys.json" })
}

/// Saves the store into a new folder.
fn save(kept: &Kept, name: &str) -> PathBuf {
    let to = kept.folder().join(name);
    let (code, _, err) = run(&mut on(kept, &["backup", to.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{err}");
    to
}

/// A store to restore into, with this ring.
fn target(redis: bool, ring: &Path) -> Kept {
    let kept = if redis { Kept::redis() } else { Kept::embedded() };
    fs::copy(ring, self::ring(&kept)).unwrap();
    kept
}

fn restore(from: &Path, kept: &Kept, more: &[&str]) -> (Option<i32>, String, String) {
    let settings = kept.settings();
    let into = settings.iter().find(|(name, _)| *name == "ROLLCALL_STORE").unwrap().1.clone();
    let args = [&["restore", from.to_str().unwrap(), "--into", &into, "--json"], more].concat();
    let ring = ring(kept);
    run(command(&args).current_dir(kept.folder()).env("ROLLCALL_KEYS_FILE", ring))
}

fn restored(from: &Path, kept: &Kept, more: &[&str]) -> Value {
    let (code, out, err) = restore(from, kept, more);
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap()
}

/// Its store itself; of an embedded one while nothing runs on it.
pub async fn opened(kept: &Kept) -> Arc<dyn Store> {
    match kept {
        Kept::Embedded(folder) => Arc::new(Embedded::open(&folder.path().join("store"), Arc::new(SystemClock)).unwrap()),
        Kept::Redis(server, _) => Arc::new(Redis::connect(&server.url(), None).await.unwrap()),
    }
}

/// Every account is in the list and has its key, and nothing of another is there.
async fn is_consistent(kept: &Kept, accounts: &[String]) {
    let store = opened(kept).await;
    let mut there = BTreeMap::new();
    for slot in store.slots().await.unwrap().into_iter().filter(|slot| account_of(slot.as_str()).is_some()) {
        let lasting = store.lasting(&slot, None).await.unwrap().entries;
        if !lasting.is_empty() {
            there.insert(slot.to_string(), lasting.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        }
    }
    let ids: BTreeSet<&String> = there.keys().collect();
    assert_eq!(ids, accounts.iter().collect(), "accounts that no list shows, or none behind an entry");
    for (account, names) in &there {
        // What there is to tell may be told by now.
        let kept: Vec<_> = names.iter().filter(|name| !name.starts_with("outbox/")).collect();
        assert_eq!(kept, ["account", "data-key", "data-key/use"], "{account}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_a_backup_under_load_comes_back_consistent_in_either_store() {
    let vendor = Vendor::start();
    for kept in Kept::each() {
        let gateway = Arc::new(Gateway::start(&kept, &vendor.authority()));
        let mut before = Vec::new();
        for _ in 0..12 {
            before.push(gateway.link("scim", "bearer", vendor.context()).await);
        }
        let token = gateway.token(&["directory:read"]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (gateway, stop, context) = (gateway.clone(), stop.clone(), vendor.context());
            writers.spawn(async move {
                let mut rounds = 0;
                while !stop.load(Ordering::SeqCst) {
                    let (kept, gone) = (Uuid::new_v4(), Uuid::new_v4());
                    for id in [kept, gone] {
                        let body = json!({"id": id, "tenant_id": "acme", "integration": "scim",
                            "authentication_method": "bearer", "context": context});
                        let made = gateway.call("POST", "/integrated-account", Some(&body)).await;
                        assert_eq!(made.status, 201, "{}", made.text());
                    }
                    assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{gone}"), None).await.status, 200);
                    let relabel =
                        gateway.call("PATCH", &format!("/integrated-account/{kept}"), Some(&json!({"tenant_id": "b"}))).await;
                    assert_eq!(relabel.status, 200, "{}", relabel.text());
                    gateway.token(&["directory:read"]).await;
                    rounds += 1;
                }
                rounds
            });
        }
        let saved: Vec<PathBuf> = tokio::task::block_in_place(|| (0..3).map(|n| save(&kept, &format!("saved-{n}"))).collect());
        stop.store(true, Ordering::SeqCst);
        assert!(writers.join_all().await.iter().all(|rounds: &u32| *rounds > 0), "the load was a load");
        is_sound(&gateway);
        for (number, from) in saved.iter().enumerate() {
            let again = target(number == 1, &ring(&kept));
            let told = restored(from, &again, &[]);
            assert_eq!((&told["left_out"], &told["unreadable"]), (&json!([]), &json!([])), "{told}");
            let served = Gateway::start(&again, &vendor.authority());
            let listed = accounts(&served).await;
            assert_eq!(told["accounts"], listed.len(), "{told}");
            assert!(before.iter().all(|account| listed.contains(account)), "one that was there all the time is missing");
            for account in before.iter().take(2).chain(listed.last()) {
                let users = served.walk(&format!("{USERS}?integrated_account_id={account}")).await;
                assert_eq!(users.len(), 5, "its credential is what it was");
            }
            let path = format!("{USERS}?integrated_account_id={}", before[0]);
            assert_eq!(served.call_as(Some(&token), "GET", &path, None).await.status, 200, "tokens come along");
            assert!(served.stop());
            is_consistent(&again, &listed).await;
        }
    }
}

#[tokio::test]
async fn c_03_a_backup_goes_from_store_to_store_and_back() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    assert!(gateway.stop());
    let mut from = kept;
    for redis in [true, false] {
        let saved = save(&from, "saved");
        let to = target(redis, &ring(&from));
        restored(&saved, &to, &[]);
        is_consistent(&to, std::slice::from_ref(&account)).await;
        from = to;
    }
    let gateway = Gateway::start(&from, &vendor.authority());
    assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}")).await.len(), 5);
}

/// A store with an account and its backup.
async fn saved_once() -> (Kept, PathBuf, String) {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let saved = tokio::task::block_in_place(|| save(&kept, "saved"));
    assert!(gateway.stop());
    (kept, saved, account)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_a_wrong_ring_changes_nothing() {
    let (kept, saved, _) = saved_once().await;
    for redis in [false, true] {
        let to = target(redis, &ring(&kept));
        // Another key under the same id, another id, and no ring at all.
        write_ring(&ring(&to));
        let (code, _, err) = restore(&saved, &to, &[]);
        assert!(code == Some(1) && err.contains("give the ring the store was made with"), "{code:?} {err}");
        let text = fs::read_to_string(ring(&to)).unwrap().replace("\"k1\"", "\"k9\"");
        fs::write(ring(&to), text).unwrap();
        let (code, _, err) = restore(&saved, &to, &[]);
        assert!(code == Some(1) && err.contains("lacks k1") && err.contains("Nothing was changed"), "{code:?} {err}");
        fs::remove_file(ring(&to)).unwrap();
        let (code, _, err) = restore(&saved, &to, &[]);
        assert!(code == Some(1) && err.contains("does not exist"), "{code:?} {err}");
        match &to {
            Kept::Embedded(folder) => assert!(!folder.path().join("store").exists(), "a store was made"),
            Kept::Redis(server, _) => assert_eq!(keys(server), Vec::<String>::new()),
        }
    }
}

fn keys(server: &Server) -> Vec<String> {
    redis::cmd("KEYS").arg("*").query(&mut server.connection()).unwrap()
}

/// A file with another last line, as if it had been written so.
fn signed(lines: &[String]) -> String {
    let mut digest = Digest::default();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    digest.add(text.as_bytes());
    format!("{text}{}\n", json!({"end": {"entries": lines.len() - 1, "sha256": digest.hex()}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_a_cut_changed_or_newer_file_is_refused() {
    let (kept, saved, _) = saved_once().await;
    for file in ["data.ndjson", "data-keys.ndjson"] {
        let whole = fs::read_to_string(saved.join(file)).unwrap();
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        let body = &lines[..lines.len() - 1];
        let newer = |member: &str| {
            let mut first: Value = serde_json::from_str(&lines[0]).unwrap();
            first[member] = json!(2);
            first["release"] = json!("9.1.0");
            signed(&[&[first.to_string()], &body[1..]].concat())
        };
        let swapped = whole.replacen("\"slot\":\"", "\"slot\":\"0", 1);
        let other = if file == "data.ndjson" { "data-keys.ndjson" } else { "data.ndjson" };
        for (what, text, said) in [
            ("cut between lines", format!("{}\n", body.join("\n")), "is cut off"),
            ("cut within a line", whole[..whole.len() - 9].to_owned(), "is cut off"),
            ("empty", String::new(), "is empty"),
            ("changed", swapped, "was changed after it was written"),
            ("a line less", whole.replacen(&format!("{}\n", lines[1]), "", 1), "was changed after it was written"),
            ("more behind", format!("{whole}{whole}"), "goes on after its last line"),
            ("something else", "{\"a\": 1}\n".to_owned(), "is not a file of a backup"),
            ("the other file", fs::read_to_string(saved.join(other)).unwrap(), other),
            ("a newer backup", newer("format"), "format 2, made by release 9.1.0; this release (0.1.0) reads backup format 1"),
            ("a newer store", newer("store_format"), "store format 2"),
        ] {
            let copy = tempfile::tempdir().unwrap();
            fs::copy(saved.join(other), copy.path().join(other)).unwrap();
            fs::write(copy.path().join(file), text).unwrap();
            let to = target(false, &ring(&kept));
            let (code, _, err) = restore(copy.path(), &to, &[]);
            assert!(code == Some(1) && err.contains(said) && err.contains(file), "{file}, {what}: {code:?} {err}");
            assert!(!to.folder().join("store").exists(), "{file}, {what}: a store was made");
        }
        // What is known of a later release within the same format does no harm.
        let mut first: Value = serde_json::from_str(&lines[0]).unwrap();
        first["later"] = json!({"a": 1});
        let copy = tempfile::tempdir().unwrap();
        fs::copy(saved.join(other), copy.path().join(other)).unwrap();
        fs::write(copy.path().join(file), signed(&[&[first.to_string()], &body[1..]].concat())).unwrap();
        restored(copy.path(), &target(false, &ring(&kept)), &[]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_only_an_empty_store_takes_a_backup_and_only_a_new_folder_gets_one() {
    let (kept, saved, account) = saved_once().await;
    let (code, _, err) = restore(&saved, &kept, &[]);
    assert!(code == Some(1) && err.contains("is not empty"), "{code:?} {err}");
    is_consistent(&kept, std::slice::from_ref(&account)).await;
    let again = save_into(&kept, &saved);
    assert!(again.0 == Some(1) && again.2.contains("a backup goes into a new folder"), "{again:?}");
    // What a backup left that was cut short is no backup, and no hindrance.
    let half = kept.folder().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("data.ndjson.part"), "{").unwrap();
    assert_eq!(save_into(&kept, &half).0, Some(0));
    let modes = |path: &Path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap()) & 0o777;
    assert_eq!([modes(&saved), modes(&saved.join("data.ndjson")), modes(&saved.join("data-keys.ndjson"))], [0o700, 0o600, 0o600]);
    assert_eq!(fs::read_dir(&half).unwrap().count(), 2);
}

fn save_into(kept: &Kept, to: &Path) -> (Option<i32>, String, String) {
    run(&mut on(kept, &["backup", to.to_str().unwrap()]))
}

/// A deleted account is in an old backup of the data, but its key is in no copy of the keys any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_04_old_data_and_todays_keys_bring_no_deleted_account_back() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let stays = gateway.link("scim", "bearer", vendor.context()).await;
    let gone = gateway.link("scim", "bearer", vendor.context()).await;
    let relinked = gateway.link("scim", "bearer", vendor.context()).await;
    let old = tokio::task::block_in_place(|| save(&kept, "old"));
    assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{gone}"), None).await.status, 200);
    let change = json!({"context": vendor.context()});
    assert_eq!(gateway.call("PATCH", &format!("/integrated-account/{relinked}"), Some(&change)).await.status, 200);
    let later = gateway.link("scim", "bearer", vendor.context()).await;
    let new = tokio::task::block_in_place(|| save(&kept, "new"));
    let todays = new.join("data-keys.ndjson");
    for id in [&gone, &later] {
        let has = |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).unwrap().contains(id.as_str());
        assert_eq!((has(&old, "data.ndjson"), has(&new, "data-keys.ndjson")), (*id == gone, *id == later));
    }
    let to = target(false, &ring(&kept));
    let told = restored(&old, &to, &["--data-keys", todays.to_str().unwrap()]);
    assert_eq!((&told["accounts"], &told["left_out"]), (&json!(2), &json!([gone])), "{told}");
    assert_eq!(told["unreadable"], json!([relinked]), "{told}");
    let mut listed = vec![stays.clone(), relinked.clone()];
    listed.sort();
    is_consistent(&to, &listed).await;
    let again = Gateway::start(&to, &vendor.authority());
    assert_eq!(again.walk(&format!("{USERS}?integrated_account_id={stays}")).await.len(), 5);
    assert_eq!(again.get(&format!("/integrated-account/{gone}")).await.status, 404);
    let users = format!("{USERS}?integrated_account_id={relinked}");
    assert_eq!(again.get(&users).await.code(), "credential_unreadable");
    assert_eq!(again.call("PATCH", &format!("/integrated-account/{relinked}"), Some(&change)).await.status, 200);
    assert_eq!(again.walk(&users).await.len(), 5, "linked again, under its id");
    // Keys of another installation are no keys of this one.
    let (other, foreign, _) = saved_once().await;
    let foreign = foreign.join("data-keys.ndjson");
    let to = target(false, &ring(&other));
    let (code, _, err) = restore(&old, &to, &["--data-keys", foreign.to_str().unwrap()]);
    assert!(code == Some(1) && err.contains("different installations"), "{code:?} {err}");
}

/// After a deletion neither a backup, nor what is restored from it, nor a rewritten append-only file knows the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_04_a_deleted_account_leaves_no_trace() {
    let label = "label-of-a-customer-who-left-8c21";
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let stays = gateway.link("scim", "bearer", vendor.context()).await;
        let mut body = vendor.import();
        body["tenant_id"] = json!(label);
        body["context"]["note"] = json!("context-of-a-customer-who-left-d04f");
        let made = gateway.call("POST", "/integrated-account", Some(&body)).await.json();
        let gone = made["id"].as_str().unwrap().to_owned();
        assert!(!gateway.walk(&format!("{USERS}?integrated_account_id={gone}&limit=2")).await.is_empty());
        let full = tokio::task::block_in_place(|| save(&kept, "full"));
        let canaries = Canaries::new(vec![
            Canary::new("the label", label),
            Canary::new("the context", "context-of-a-customer-who-left-d04f"),
            Canary::new("the secret", super::vendor::SECRET),
        ]);
        let hits = |folder: &Path| -> Vec<String> {
            files(folder).iter().flat_map(|(name, bytes)| canaries.hits(name, &decoded(bytes))).collect()
        };
        // What happened is told for thirty days, under the label of then, and that is all that is.
        let but_events = |folder: &Path| -> Vec<String> {
            files(folder).iter().flat_map(|(name, bytes)| canaries.hits(name, &decoded(&without_events(bytes)))).collect()
        };
        assert!(hits(&full).iter().any(|hit| hit.contains("the label")), "the search finds what is there");
        if let Kept::Redis(server, _) = &kept {
            let mut plain = redis::cmd("CONFIG");
            let _: () = plain.arg("SET").arg("rdbcompression").arg("no").query(&mut server.connection()).unwrap();
            until("it is in the append-only file", 10, || !hits(&server.folder().join("appendonlydir")).is_empty());
        }
        assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{gone}"), None).await.status, 200);
        let after = tokio::task::block_in_place(|| save(&kept, "after"));
        assert_eq!(but_events(&after), Vec::<String>::new());
        let sealed =
            canaries_of(vec![("the context", "context-of-a-customer-who-left-d04f"), ("the secret", super::vendor::SECRET)]);
        assert_eq!(sealed(&after), Vec::<String>::new(), "no line at all holds more than the label");
        let to = target(false, &ring(&kept));
        restored(&after, &to, &[]);
        is_consistent(&to, std::slice::from_ref(&stays)).await;
        assert_eq!(sealed(&to.folder().join("store")), Vec::<String>::new(), "the store that was made of it");
        assert!(!gateway.said().contains(label) && !gateway.said().contains(super::vendor::SECRET), "the logs");
        assert!(gateway.stop());
        nothing_is_left(opened(&kept).await, &gone, label).await;
        if let Kept::Redis(server, _) = &kept {
            let _: () = redis::cmd("BGREWRITEAOF").query(&mut server.connection()).unwrap();
            until("the append-only file is rewritten and the old one gone", 30, || {
                let info: String = redis::cmd("INFO").arg("persistence").query(&mut server.connection()).unwrap();
                let is_done = info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0");
                is_done && sealed(&server.folder().join("appendonlydir")).is_empty()
            });
            let _: () = redis::cmd("SAVE").query(&mut server.connection()).unwrap();
            assert_eq!(sealed(server.folder()), Vec::<String>::new(), "the dump and the append-only file");
        }
        if let Kept::Embedded(folder) = &kept {
            // Written anew, as a store is that has to lose what its free pages hold.
            let store = Embedded::open(&folder.path().join("store"), Arc::new(SystemClock)).unwrap();
            let copy = folder.path().join("compact");
            store.backup(&copy).await.unwrap();
            assert_eq!(sealed(&copy), Vec::<String>::new(), "the compacted file");
        }
        // In the file of an embedded store the label may stay in a page that is free; a secret never stood there.
        let live = files(kept.folder());
        let secret = Canaries::new(vec![Canary::new("the secret", super::vendor::SECRET)]);
        let found: Vec<String> = live.iter().flat_map(|(name, bytes)| secret.hits(name, bytes)).collect();
        assert_eq!(found, Vec::<String>::new());
    }
}

/// Looks for these in every file of a folder, in whatever form.
fn canaries_of(list: Vec<(&'static str, &'static str)>) -> impl Fn(&Path) -> Vec<String> {
    let canaries = Canaries::new(list.into_iter().map(|(name, text)| Canary::new(name, text)).collect());
    move |folder| files(folder).iter().flat_map(|(name, bytes)| canaries.hits(name, &decoded(bytes))).collect()
}

/// A backup without the lines of events.
fn without_events(bytes: &[u8]) -> Vec<u8> {
    let is_event = |line: &&[u8]| {
        let entry: Value = serde_json::from_slice(line).unwrap_or_default();
        let (slot, name) = (entry["slot"].as_str().unwrap_or_default(), entry["name"].as_str().unwrap_or_default());
        slot.starts_with("events:") || name.starts_with("outbox/")
    };
    bytes.split(|byte| *byte == b'\n').filter(|line| !is_event(line)).collect::<Vec<_>>().join(&b'\n')
}

/// In the store as it is, what names the account or its customer is what is told of it, and entries of the audit log.
async fn nothing_is_left(store: Arc<dyn Store>, account: &str, label: &str) {
    let mut told = 0;
    for slot in store.slots().await.unwrap() {
        for (name, entry) in store.scan(&slot, "", None, 100_000).await.unwrap() {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let is_told = slot.as_str().starts_with("events:") || name.starts_with("outbox/");
            told += usize::from(is_told && text.contains(label));
            assert!(is_told || !text.contains(label), "{slot} {name}: {text}");
            let is_log = is_told || slot.as_str().starts_with("audit:");
            let names_it = text.contains(account) || slot.as_str().contains(account) || name.contains(account);
            assert!(is_log || name == "swept" || !names_it, "{slot} {name}: {text}");
        }
    }
    assert!(told > 0, "the search finds what is there");
}

/// The lines of a backup with their values readable, besides the file as it is.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut all = bytes.to_vec();
    for line in bytes.split(|byte| *byte == b'\n') {
        let entry: Value = serde_json::from_slice(line).unwrap_or_default();
        all.extend(entry["value"].as_str().and_then(|value| BASE64_STANDARD.decode(value).ok()).unwrap_or_default());
    }
    all
}

#[test]
fn c_03_the_drill_of_the_readme_works_as_it_stands() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("### Backup drill\n").nth(1).expect("README.md has the drill");
    let script = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(folder.path()).env("PATH", path);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROLLCALL_")) {
        bash.env_remove(name);
    }
    let (code, out, err) = run(&mut bash);
    assert!(code == Some(0) && out.contains("every account is back"), "{code:?}\n{out}\n{err}");
    assert_eq!(fs::read_to_string(folder.path().join("after")).unwrap().lines().count(), 2);
}

/// One value in the installation's own slot, as another release would write it.
pub async fn plant(kept: &Kept, name: &str, value: &str) {
    let write = Write::Put { name: name.into(), value: value.to_owned().into(), ttl: None, expect: Expect::Any };
    let batch = Batch { slot: Slot::new("rollcall"), fence: None, writes: vec![write] };
    opened(kept).await.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_release_or_half_restored_is_refused_with_a_sentence() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    assert!(gateway.stop());
    let serve = || run(on(&kept, &["serve"]).env("ROLLCALL_LISTEN", "127.0.0.1:0"));
    for (name, value, said) in [
        ("format", "2", "The store has format 2; this release (0.1.0) reads format 1 and older ones"),
        ("restoring", "\"another\"", "A restore into this store was begun and has not ended"),
    ] {
        plant(&kept, name, value).await;
        let (code, _, err) = serve();
        assert!(code == Some(1) && err.contains(said), "{code:?} {err}");
        let (code, out, _) = run(&mut on(&kept, &["doctor"]));
        assert!(code == Some(1) && out.contains(said) && out.contains("BAD"), "{code:?} {out}");
        let (code, _, err) = run(&mut on(&kept, &["account", "list"]));
        assert!(code == Some(1) && err.contains(said), "{code:?} {err}");
        let delete = Write::Delete { name: name.into(), expect: Expect::Any };
        let batch = Batch { slot: Slot::new("rollcall"), fence: None, writes: vec![delete] };
        opened(&kept).await.commit(batch).await.unwrap();
    }
    // Before there was a number, it was 1.
    let gateway = Gateway::start(&kept, &vendor.authority());
    assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}")).await.len(), 5);
}

/// Whoever loses the right in the midst of a backup gets no more of it, and that there was one stands in the audit log.
#[tokio::test]
async fn a_backup_ends_with_its_token_and_stands_in_the_audit_log() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let mut body = vendor.import();
    body["context"]["note"] = json!("n".repeat(60_000));
    for _ in 0..250 {
        assert_eq!(gateway.call("POST", "/integrated-account", Some(&body)).await.status, 201);
    }
    let new = json!({"name": "backups", "scopes": ["admin"]});
    let made = gateway.call("POST", "/api-token", Some(&new)).await.json();
    let url = format!("{}/backup", gateway.base);
    let mut response = client().get(&url).bearer_auth(made["token"].as_str().unwrap()).send().await.unwrap();
    let mut text = response.chunk().await.unwrap().unwrap().to_vec();
    let token = format!("/api-token/{}", made["id"].as_str().unwrap());
    assert_eq!(gateway.call("DELETE", &token, None).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["failed"]["code"], "invalid_token", "{last}");
    assert!(!text.contains("\"end\"") && text.lines().count() < 500, "{}", text.lines().count());
    let entries = gateway.get("/audit?action=backup.read").await.json();
    let told: Vec<_> = entries["result"].as_array().unwrap().iter().map(|e| (&e["actor"], &e["outcome"])).collect();
    assert_eq!(told, [(&json!("backups"), &json!("done"))], "{entries}");
    is_sound(&gateway);
}
