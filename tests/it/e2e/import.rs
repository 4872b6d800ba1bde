//! Moving in: accounts under the caller's own ids, one by one and by the thousand.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    bar_leaks_oauth::SIGNING,
    bar_vendor, cli,
    vendor::{Mood, SECRET, Vendor, accounts, is_sound, names, overlay, problem},
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, command},
    long,
    redis::until,
};

/// A gateway before a vendor, and files for it.
struct Move {
    kept: Kept,
    vendor: Vendor,
    gateway: Gateway,
}

impl Move {
    fn begin(kept: Kept) -> Move {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        Move { kept, vendor, gateway }
    }

    /// A file of lines that nobody else may read.
    fn file(&self, lines: &[String]) -> PathBuf {
        let path = self.kept.folder().join("accounts.ndjson");
        fs::write(&path, lines.join("\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn results(&self) -> PathBuf {
        self.kept.folder().join("results.ndjson")
    }

    fn line(&self, id: Option<Uuid>) -> Value {
        let mut line = self.vendor.import();
        if let Some(id) = id {
            line["id"] = json!(id);
        }
        line
    }

    /// `rollcall account import` before this gateway.
    fn import(&self, file: &Path, more: &[&str]) -> Command {
        let file = file.to_str().unwrap();
        let mut command = command(&[&["account", "import", file], more].concat());
        command.env("ROLLCALL_URL", &self.gateway.base).env("ROLLCALL_TOKEN", ADMIN).current_dir(self.kept.folder());
        command
    }
}

fn outcomes(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn an_account_has_the_id_its_owner_chose() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        // Versions 1, 4 and 7, and one of no version.
        for id in [
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "c232ab00-9414-41ec-b3c8-9f6bdeced846",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "11111111-1111-0111-1111-111111111111",
        ] {
            let body = json!({"id": id, "tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
                "context": vendor.context()});
            let made = gateway.call("POST", "/integrated-account", Some(&body)).await;
            assert_eq!((made.status, made.json()["id"].as_str()), (201, Some(id)), "{}", made.text());
            let asked = vendor.asked();
            let again = gateway.call("POST", "/integrated-account", Some(&body)).await;
            names(&again, 422, "id_taken", "id");
            assert_eq!(vendor.asked(), asked, "the vendor was asked for an id that is taken");
            let account = format!("/integrated-account/{id}");
            assert_eq!(gateway.call("DELETE", &account, None).await.status, 200);
            assert_eq!(gateway.call("POST", "/integrated-account", Some(&body)).await.status, 201, "it is free again");
        }
        for odd in [json!("nonsense"), json!(""), json!(7), json!("018f2b6e-7c1a-7d5e-9a3b-5c0f4e2d1a0"), json!({})] {
            let mut body = vendor.import();
            body["id"] = odd;
            names(&gateway.call("POST", "/integrated-account", Some(&body)).await, 400, "invalid_body", "id");
        }
        assert_eq!(accounts(&gateway).await.len(), 4);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn under_a_key_the_repetition_of_an_import_is_the_same_account() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let id = Uuid::new_v4();
    let mut body = vendor.import();
    body["id"] = json!(id);
    let send = async |key: &str, body: &Value| {
        gateway.call_with(ADMIN, &[("idempotency-key", key)], "POST", "/integrated-account", Some(body)).await
    };
    vendor.set(Mood::CutBody);
    let cut = send("one", &body).await;
    assert!(cut.status >= 500, "{}", cut.text());
    vendor.set(Mood::Good);
    for _ in 0..3 {
        let made = send("one", &body).await;
        assert_eq!((made.status, made.json()["id"] == json!(id)), (201, true), "{}", made.text());
    }
    names(&send("two", &body).await, 422, "id_taken", "id");
    let again = send("two", &body).await;
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (422, Some("true")),
        "a refusal is a reply: {}",
        again.text()
    );
    assert_eq!(accounts(&gateway).await, [id.to_string()]);
}

#[tokio::test]
async fn an_import_killed_in_the_middle_goes_on_and_makes_each_account_once() {
    let count = if long() { 10_000 } else { 300 };
    for kept in Kept::each() {
        let moved = Move::begin(kept);
        let mut ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
        let lines: Vec<String> = ids.iter().map(|id| moved.line(Some(*id)).to_string()).collect();
        let (file, results) = (moved.file(&lines), moved.results());
        let args = ["--results", results.to_str().unwrap(), "--json"];
        for part in 1..=2 {
            let mut child = start(&mut moved.import(&file, &args));
            until("a part is imported", 600, || outcomes(&results).len() >= part * count / 4);
            child.kill().unwrap();
            child.wait().unwrap();
            // A run that is killed while it writes leaves half a line.
            File::options().append(true).open(&results).unwrap().write_all(br#"{"line": 1, "id""#).unwrap();
        }
        let output = moved.import(&file, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| counts[name].as_u64().unwrap() as usize;
        assert_eq!(number("imported") + number("exists") + number("skipped"), count, "{counts}");
        assert!(number("failed") == 0 && number("skipped") >= count / 2 && number("exists") <= 32, "{counts}");
        let mut there: Vec<Uuid> = moved.gateway.walk("/integrated-account?limit=500").await.iter().map(id_of).collect();
        ids.sort();
        there.sort();
        assert_eq!(there, ids, "each account once");
        let noted: std::collections::BTreeSet<Uuid> = outcomes(&results).iter().map(id_of).collect();
        assert_eq!(noted.len(), count);
        assert!(!fs::read_to_string(&results).unwrap().contains(SECRET) && !said.contains(SECRET));
        is_sound(&moved.gateway);
    }
}

fn id_of(value: &Value) -> Uuid {
    value["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn lines_that_cannot_be_imported_are_outcomes_and_not_the_end() {
    let moved = Move::begin(Kept::embedded());
    let (good, twice, refused) = (Uuid::new_v4(), Uuid::new_v4(), "another-token-that-is-wrong-77ab");
    let mut wrong = moved.line(Some(Uuid::new_v4()));
    wrong["context"]["token"] = json!(refused);
    let mut without = moved.line(Some(Uuid::new_v4()));
    without.as_object_mut().unwrap().remove("tenant_id");
    let mut odd = moved.line(None);
    odd["id"] = json!("nonsense");
    let mut strange = moved.line(Some(Uuid::new_v4()));
    strange["verify"] = json!(false);
    let long = moved.line(Some(Uuid::new_v4())).to_string().replace("acme", &"a".repeat(1 << 20));
    let lines = [
        format!("{}\r", moved.line(Some(good))),
        format!("{{\"tenant_id\": \"acme\", \"token\": \"{SECRET}"),
        String::new(),
        json!([SECRET]).to_string(),
        wrong.to_string(),
        without.to_string(),
        odd.to_string(),
        strange.to_string(),
        long,
        moved.line(Some(twice)).to_string(),
        moved.line(Some(twice)).to_string(),
    ];
    let file = moved.file(&lines);
    let (code, out, err) = cli::run(&mut moved.import(&file, &[]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("2 imported, 0 existed, 8 failed") && !err.contains("Warning"), "{err}");
    for secret in [SECRET, refused] {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    }
    let mut found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    found.sort_by_key(|outcome| outcome["line"].as_u64());
    let said: Vec<(u64, &str, &str, &str)> = found
        .iter()
        .map(|outcome| {
            let text = |name: &str| outcome[name].as_str().unwrap_or_default();
            (outcome["line"].as_u64().unwrap(), text("status"), text("code"), text("field"))
        })
        .collect();
    assert_eq!(
        said,
        [
            (1, "imported", "", ""),
            (2, "failed", "invalid_line", ""),
            (4, "failed", "invalid_line", ""),
            (5, "failed", "credential_refused", ""),
            (6, "failed", "invalid_body", "tenant_id"),
            (7, "failed", "invalid_line", "id"),
            (8, "failed", "invalid_body", "verify"),
            (9, "failed", "invalid_line", ""),
            (10, "imported", "", ""),
            (11, "failed", "invalid_line", "id"),
        ]
    );
    assert!(found.iter().all(|outcome| outcome["status"] != "failed" || outcome["detail"].as_str().unwrap().len() > 10));
    let mut there = accounts(&moved.gateway).await;
    let mut expected = [good.to_string(), twice.to_string()];
    there.sort();
    expected.sort();
    assert_eq!(there, expected, "every import is verified");
}

#[tokio::test]
async fn a_line_without_an_id_gets_the_same_one_again_whatever_its_secret_is() {
    let moved = Move::begin(Kept::embedded());
    let named = |tenant: &str, token: &str| {
        let mut line = moved.line(None);
        line["tenant_id"] = json!(tenant);
        line["context"]["token"] = json!(token);
        line.to_string()
    };
    let run = |lines: &[String]| {
        let (code, out, err) = cli::run(&mut moved.import(&moved.file(lines), &[]));
        let found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (code, found, err)
    };
    let (code, first, err) = run(&[named("a", SECRET), named("b", "wrong-at-first")]);
    assert_eq!((code, first.len()), (Some(1), 2), "{err}");
    let (code, second, err) = run(&[named("new", SECRET), named("a", "changed-since"), named("b", SECRET)]);
    assert_eq!(code, Some(0), "{err}");
    let status = |found: &[Value], line: u64| {
        let outcome = found.iter().find(|outcome| outcome["line"] == line).unwrap();
        (outcome["status"].as_str().unwrap().to_owned(), id_of(outcome))
    };
    let (before, after) = (status(&first, 1), status(&second, 2));
    assert_eq!((before.0.as_str(), after.0.as_str(), before.1), ("imported", "exists", after.1));
    let (before, after) = (status(&first, 2), status(&second, 3));
    assert_eq!((before.0.as_str(), after.0.as_str(), before.1), ("failed", "imported", after.1));
    assert_eq!(accounts(&moved.gateway).await.len(), 3);
}

/// A private key is as secret as a token: another one makes no other id, and one on the command line is warned of.
#[tokio::test]
async fn a_private_key_goes_into_no_id_and_is_warned_of_on_the_command_line() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let folder = kept.folder().join("connectors");
    overlay(&folder, |name, text| if name == "connector.yaml" { text + SIGNING } else { text });
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &[("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())]);
    let moved = Move { kept, vendor, gateway };
    let token_url = format!("{}/token", moved.vendor.base());
    let import = |client: &str, key: &str| {
        let mut line = moved.line(None);
        line["authentication_method"] = json!("signing");
        line["context"] =
            json!({"base_url": moved.vendor.base(), "token_url": token_url, "client_id": client, "private_key": key});
        let (code, out, err) = cli::run(&mut moved.import(&moved.file(&[line.to_string()]), &[]));
        assert!(code == Some(1) && !out.contains(key) && !err.contains(key), "{code:?} {out} {err}");
        id_of(&serde_json::from_str(&out).unwrap())
    };
    let first = import("one", "no-key-of-anybody-1");
    assert_eq!(import("one", "no-key-of-anybody-2"), first, "the key is in the id");
    assert_ne!(import("two", "no-key-of-anybody-1"), first);

    let base = format!("base_url={}", moved.vendor.base());
    let token_url = format!("token_url={token_url}");
    let args = ["account", "add", "--integration", "scim", "--method", "signing", "--tenant", "acme", "--field", &base];
    let more = ["--field", &token_url, "--field", "client_id=one", "--field", "private_key=no-key-of-anybody-1"];
    let mut add = command(&[&args[..], &more].concat());
    let (_, _, said) = cli::run(add.env("ROLLCALL_URL", &moved.gateway.base).env("ROLLCALL_TOKEN", ADMIN));
    assert!(said.contains("--field-file private_key=FILE") && !said.contains("no-key-of-anybody"), "{said}");
}

#[tokio::test]
async fn what_fails_in_passing_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let vendor = bar_vendor::Vendor::start(move |asked| match count.fetch_add(1, Ordering::SeqCst) {
        0 => bar_vendor::Act::Send(
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
                .to_vec(),
        ),
        _ => bar_vendor::scim(asked, 3),
    });
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let file = kept.folder().join("one.ndjson");
    let line = json!({"id": Uuid::new_v4(), "tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
        "context": {"base_url": vendor.at("/scim"), "token": SECRET}});
    fs::write(&file, line.to_string()).unwrap();
    let run = |file: &str, input: Stdio| {
        let mut run = command(&["account", "import", file]);
        cli::run(run.env("ROLLCALL_URL", &gateway.base).env("ROLLCALL_TOKEN", ADMIN).stdin(input))
    };
    let (code, out, err) = run("-", File::open(&file).unwrap().into());
    assert!(code == Some(0) && out.contains("imported"), "{code:?} {out} {err}");
    assert!(asked.load(Ordering::SeqCst) > 1);
    // The same from the file, which others can read.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, out, err) = run(file.to_str().unwrap(), Stdio::null());
    assert!(code == Some(0) && out.contains("exists") && err.contains("can be read by others"), "{code:?} {out} {err}");
}

#[tokio::test]
async fn an_interrupt_ends_it_cleanly_and_the_next_run_goes_on() {
    let moved = Move::begin(Kept::embedded());
    moved.vendor.set(Mood::Slow);
    let lines: Vec<String> = (0..40).map(|_| moved.line(Some(Uuid::new_v4())).to_string()).collect();
    let (file, results) = (moved.file(&lines), moved.results());
    let args = ["--concurrency", "2", "--results", results.to_str().unwrap()];
    let mut child = moved.import(&file, &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it has begun", 30, || outcomes(&results).len() > 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
        text
    };
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("run it again to go on") && !said.contains("panicked"), "{said}");
    let noted = outcomes(&results);
    assert!(noted.len() < 40 && noted.iter().all(|outcome| outcome["status"] == "imported"), "{noted:?}");
    assert_eq!(accounts(&moved.gateway).await.len(), noted.len(), "what was under way was finished and noted");
    moved.vendor.set(Mood::Good);
    let (code, _, err) = cli::run(&mut moved.import(&file, &args));
    assert!(code == Some(0) && err.contains(&format!("{} were done before", noted.len())), "{code:?} {err}");
    assert_eq!(accounts(&moved.gateway).await.len(), 40);
}

#[tokio::test]
async fn without_a_gateway_the_store_is_opened_for_it() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let file = kept.folder().join("one.ndjson");
    let mut line = vendor.import();
    line["id"] = json!(Uuid::new_v4());
    fs::write(&file, line.to_string()).unwrap();
    let mut alone = command(&["account", "import", file.to_str().unwrap()]);
    alone.envs(kept.settings()).env("ROLLCALL_EGRESS_ALLOW", vendor.authority());
    let (code, out, err) = cli::run(&mut alone);
    assert!(code == Some(0) && out.contains("imported"), "{code:?} {out} {err}");
    let gateway = Gateway::start(&kept, &vendor.authority());
    assert_eq!(accounts(&gateway).await, [line["id"].as_str().unwrap()]);
    let missing = gateway.call("POST", "/integrated-account", Some(&json!({"id": line["id"]}))).await;
    problem(&missing, 400, "invalid_body", "gateway");
}
