//! What an operator meets at the command line: settings that touch each other, stores in use, signals, and plain words.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use rollcall::{
    http::openapi,
    model::{Scope, SystemClock},
    store::embedded::Embedded,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cli::run;
use crate::support::{
    gateway::{Gateway, Kept, binary, command},
    redis::{free_port, until},
};

const PUBLIC: &str = "https://rollcall.example.com";

/// A command on this store.
fn on(kept: &Kept, args: &[&str]) -> Command {
    let mut command = command(args);
    command.envs(kept.settings()).current_dir(kept.folder());
    command
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[tokio::test]
async fn a_public_address_does_not_shut_the_command_line_out() {
    let kept = Kept::embedded();
    let with_public = |args: &[&str]| run(on(&kept, args).env("ROLLCALL_PUBLIC_URL", PUBLIC));
    let (code, out, err) = with_public(&["token", "create", "--name", "alone", "--scope", "directory:read"]);
    assert!(code == Some(0) && out.starts_with("rck_"), "without a gateway: {code:?} {err}");
    let gateway = Gateway::start_with(&kept, "", &[("ROLLCALL_PUBLIC_URL", PUBLIC)]);
    until("serve.json is there", 10, || kept.folder().join("store/serve.json").exists());
    assert_eq!(gateway.get("/api-token").await.code(), "unknown_host", "the gateway does refuse its own address");
    let (code, out, err) = with_public(&["token", "list"]);
    assert!(code == Some(0) && out.contains("alone"), "beside a gateway: {code:?} {err}");
    let (code, _, err) = run(&mut on(&kept, &["account", "list"]));
    assert_eq!(code, Some(0), "the command needs to know nothing of the address: {err}");
    assert!(gateway.stop());
}

#[tokio::test]
async fn a_store_in_use_is_waited_for() {
    let kept = Kept::embedded();
    let (code, _, err) = run(&mut on(&kept, &["token", "create", "--name", "first", "--scope", "admin"]));
    assert_eq!(code, Some(0), "{err}");
    let hold = || Embedded::open(&kept.folder().join("store"), Arc::new(SystemClock)).unwrap();
    let held = hold();
    let gateway = Gateway::start(&kept, "");
    thread::sleep(Duration::from_millis(1500));
    drop(held);
    assert_eq!(gateway.get("/api-token").await.status, 200);
    assert_eq!(gateway.said().matches("waiting for it").count(), 1, "{}", gateway.said());
    assert!(gateway.stop());
    let held = hold();
    let list = thread::scope(|scope| {
        let list = scope.spawn(|| run(&mut on(&kept, &["token", "list"])));
        thread::sleep(Duration::from_millis(1500));
        drop(held);
        list.join().unwrap()
    });
    assert!(list.0 == Some(0) && list.1.contains("first"), "{list:?}");
    let (_held, started) = (hold(), Instant::now());
    let (code, _, err) = run(on(&kept, &["serve"]).env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", free_port())));
    assert!(code == Some(1) && err.contains("already open in another process"), "{code:?} {err}");
    assert!(started.elapsed() > Duration::from_secs(5), "it gave up at once");
}

#[test]
fn looking_makes_no_store_and_making_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| run(command(args).current_dir(folder.path()));
    for looking in [
        &["account", "list"][..],
        &["account", "show", "x"],
        &["account", "delete", "x"],
        &["token", "list"],
        &["token", "revoke", "x"],
        &["backup", "x"],
    ] {
        let (code, out, err) = here(looking);
        assert!(code == Some(1) && out.is_empty() && err.contains("no store in ./rollcall-data"), "{looking:?}: {code:?} {err}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{looking:?} made something");
    }
    let create = ["token", "create", "--name", "x", "--scope", "directory:read"];
    let (code, _, err) = here(&create);
    assert!(code == Some(0) && err.contains("A new key ring was made: ./rollcall-data.keys"), "{err}");
    let (code, _, err) = here(&create);
    assert!(code == Some(0) && !err.contains("key ring"), "said once: {err}");
    assert_eq!(here(&["token", "list"]).1.lines().count(), 2);
}

#[test]
fn accounts_are_added_with_each_field_once_and_every_mistake_at_once() {
    let kept = Kept::embedded();
    let add = |fields: &[&str]| {
        let args = ["account", "add", "--integration", "scim", "--method", "basic", "--tenant", "acme"];
        run(&mut on(&kept, &[&args[..], fields].concat()))
    };
    let (code, _, err) = add(&["--field", "base_url=http://192.0.2.1:9"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("; username: is missing; password: is missing"), "{err}");
    assert!(err.contains("http is only for addresses the operator lists in `ROLLCALL_EGRESS_ALLOW`"), "{err}");
    for twice in
        [&["--field", "username=a", "--field", "username=b"][..], &["--field", "username=a", "--field-file", "username=-"]]
    {
        let (code, _, err) = add(twice);
        assert!(code == Some(2) && err.contains("`username` is given twice"), "{code:?} {err}");
    }
}

#[test]
fn tokens_are_asked_for_in_known_words() {
    let kept = Kept::embedded();
    let create = |more: &[&str]| run(&mut on(&kept, &[&["token", "create", "--name", "x", "--json"], more].concat()));
    let (code, _, err) = create(&["--scope", "foo"]);
    assert!(code == Some(2) && err.contains("accounts:write") && err.contains("directory:read"), "{code:?} {err}");
    let (code, _, err) = create(&["--scope", "usage:read"]);
    assert!(code == Some(2) && err.contains("usage:read"), "a scope without a feature: {code:?} {err}");
    let (code, out, err) = create(&["--scope", "directory:read,accounts:read", "--expires-at", "2199-01-31T00:00:00+01:00"]);
    assert_eq!(code, Some(0), "{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(made["scopes"], serde_json::json!(["directory:read", "accounts:read"]));
    assert_eq!(made["expires_at"], "2199-01-30T23:00:00Z");
    for wrong in ["tomorrow", "2199-01-31"] {
        let (code, _, err) = create(&["--scope", "admin", "--expires-at", wrong]);
        assert!(code == Some(2) && err.contains("--expires-at") && err.contains("T00:00:00Z"), "{code:?} {err}");
    }
}

/// The scopes `token create` offers are those that some route asks for.
#[test]
fn every_scope_that_opens_something_is_offered() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let operations = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let named = operations.filter_map(|operation| operation["x-rollcall-scope"].as_str());
    // `any` is no scope: each entry of a batch asks for one of its own.
    let mut asked: BTreeSet<String> = named.filter(|scope| *scope != "any").map(str::to_owned).collect();
    let named = Regex::new(r"\bScope::(\w+)").unwrap();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/routes")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let scopes = named.captures_iter(&text).map(|found| found[1].to_owned());
        asked.extend(scopes.map(|name| Scope::ALL.iter().find(|scope| format!("{scope:?}") == name).unwrap().to_string()));
    }
    let (_, help, _) = run(&mut command(&["token", "create", "--help"]));
    let offered = Regex::new(r"possible values: ([^\]]+)\]").unwrap().captures(&help).expect(&help)[1].to_owned();
    let offered: BTreeSet<String> = offered.split(',').map(|scope| scope.trim().to_owned()).collect();
    assert_eq!(offered, asked);
}

#[tokio::test]
async fn healthcheck_and_doctor_say_what_they_found() {
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, "");
    until("serve.json is there", 10, || kept.folder().join("store/serve.json").exists());
    let listen = gateway.base.trim_start_matches("http://").to_owned();
    let health = || run(on(&kept, &["healthcheck", "--json"]).env("ROLLCALL_LISTEN", &listen));
    let (code, out, err) = health();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), serde_json::json!({"status": "ok", "address": listen}));
    let doctor = |args: &[&str]| run(on(&kept, args).env("ROLLCALL_STOER", "x"));
    let (code, out, err) = doctor(&["doctor"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("a gateway runs at") && out.contains("its store: ") && out.contains("its keys: "), "{out}");
    assert!(!out.contains('{') && out.contains("ROLLCALL_STOER"), "{out}");
    let findings: Value = serde_json::from_str(&doctor(&["doctor", "--json"]).1).unwrap();
    let list = findings["findings"].as_array().unwrap();
    assert!(list.iter().all(|finding| !finding["detail"].as_str().unwrap().contains('{')), "{findings}");
    assert!(list.iter().any(|f| f["about"] == "settings" && f["verdict"] == "warning"), "{findings}");
    assert!(gateway.stop());
    let (code, out, err) = health();
    assert!(code == Some(1) && out.is_empty() && err.contains("Connection refused"), "{code:?} {out} {err}");
}

#[test]
fn variables_without_a_flag_are_in_the_help() {
    let of_callers = &["ROLLCALL_URL", "ROLLCALL_TOKEN", "ROLLCALL_ADMIN_TOKEN", "ROLLCALL_TOKEN_FILE"][..];
    for (args, names) in [
        (&["--help"][..], of_callers),
        (&["token", "list", "--help"], of_callers),
        (&["account", "add", "--help"], of_callers),
        (&["serve", "--help"], &["ROLLCALL_ADMIN_TOKEN", "ROLLCALL_ADMIN_TOKEN_FILE", "ROLLCALL_EGRESS_PROXY"]),
    ] {
        let (code, out, _) = run(&mut command(args));
        assert_eq!(code, Some(0));
        for name in names {
            assert!(out.contains(name), "{args:?} does not name {name}:\n{out}");
        }
    }
}

#[tokio::test]
async fn logs_hold_what_an_operator_reads() {
    for (form, sign) in [("json", "\"message\":\"ready\""), ("text", "ready")] {
        let kept = Kept::embedded();
        let gateway = Gateway::start_with(&kept, "", &[("ROLLCALL_LOG_FORMAT", form)]);
        until("it is ready", 10, || gateway.said().contains(sign));
        let said = gateway.said();
        assert!(!said.contains("actix"), "{said}");
        assert!(!said.contains('\u{1b}'), "colours in a file: {said}");
        assert!(gateway.stop());
    }
}

/// `serve` behind a shell command that ends with `exec`.
fn serve_behind(kept: &Kept, before: &str) -> Child {
    let mut shell = Command::new("env");
    shell.args(["--default-signal=HUP", "sh", "-c", &format!("{before} exec \"$0\" serve"), binary().to_str().unwrap()]);
    shell.envs(kept.settings()).env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", free_port()));
    let child = shell.current_dir(kept.folder()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("serve.json is there", 30, || kept.folder().join("store/serve.json").exists());
    child
}

#[test]
fn a_closed_terminal_ends_it_well_unless_it_was_to_be_ignored() {
    let kept = Kept::embedded();
    let mut child = serve_behind(&kept, "");
    send(&child, Signal::HUP);
    assert!(child.wait().unwrap().success());
    assert!(!kept.folder().join("store/serve.json").exists());
    let mut child = serve_behind(&kept, "trap '' HUP;");
    send(&child, Signal::HUP);
    thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "`nohup` was undone");
    send(&child, Signal::TERM);
    assert!(child.wait().unwrap().success());
}
