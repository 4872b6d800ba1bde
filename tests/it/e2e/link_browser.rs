//! The link page in a real browser: by form, by keyboard, without script, in windows and frames, opened by Truto's SDK, by
//! ours, and by strangers; and from there through a vendor's consent pages and back. The scripts are `tests/peers/node/link.mjs`
//! and `consent.mjs`. Pictures of every page are left in the target folder's `tmp/link-pages`.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use regex::Regex;
use rollcall::sandbox::keeper_commander::API_KEY;
use serde_json::Value;

use super::{
    generated::{compile, node_folder},
    link::with_a_test_of_what_is_visible,
};
use crate::{
    connector::replay::{Replay, Reply},
    support::{
        demo::Demo,
        gateway::{ADMIN, Gateway, Kept, client},
        peers,
    },
};

/// What `link.mjs` does.
const CHECKS: &[&str] = &[
    "form at 375 light",
    "form at 375 dark",
    "form at 1280 light",
    "form at 1280 dark",
    "mistakes stand beside their fields",
    "without script",
    "keyboard alone",
    "first paint and weight",
    "truto popup",
    "truto same window",
    "truto frame",
    "truto closed",
    "truto used token",
    "rollcall popup",
    "rollcall frame",
    "closed",
    "used token",
    "hostile opener",
    "hostile frame",
];

/// What `consent.mjs` does; each way into it with a vendor that leaves the windows tied, and with one that cuts the tie.
const CONSENT: &[&str] = &[
    "every page at 375 light",
    "every page at 375 dark",
    "every page at 1280 light",
    "every page at 1280 dark",
    "same window, by keyboard, to the app's address",
    "without script",
    "forms of another site",
    "truto popup, tie cut: no",
    "truto popup, tie cut: yes",
    "truto frame, tie cut: no",
    "truto frame, tie cut: yes",
    "rollcall popup, tie cut: no",
    "rollcall popup, tie cut: yes",
    "rollcall frame, tie cut: no",
    "rollcall frame, tie cut: yes",
];

/// Looks at thirteen pages, at two widths, light and dark.
const PICTURES: usize = 4 * 13;

fn pictures() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("link-pages");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a script to its end; what it did, and the link tokens it made.
fn run(script: &mut Command) -> (BTreeSet<String>, Vec<String>) {
    let ended = script.env("LINK_SHOTS", pictures()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}{err}");
    eprint!("{err}");
    let said: Value = serde_json::from_str(out.trim()).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    let texts = |name: &str| said[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
    (texts("passed").collect(), texts("tokens").collect())
}

fn all(checks: &[&str]) -> BTreeSet<String> {
    checks.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn r_14_g_12_the_page_holds_in_a_browser() {
    let demo = Demo::start();
    let account = format!("{}/integrated-account/{}", demo.base(), demo.account("keeper"));
    let shown = client().get(account).bearer_auth(demo.token()).send().await.unwrap().bytes().await.unwrap();
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let service = shown["context"]["service_url"].as_str().unwrap();
    let (passed, tokens) = run(peers::node("link").args([demo.base(), demo.token(), service, API_KEY]));
    assert_eq!(passed, all(CHECKS));
    assert!(tokens.len() >= CHECKS.len() - 2, "{tokens:?}");
    let log = demo.said();
    assert!(tokens.iter().all(|token| !log.contains(token)), "a link token is in the log");
    assert!(!log.contains("panicked") && !log.contains(API_KEY), "{log}");
}

#[test]
fn g_12_a_customer_agrees_at_the_vendor_in_a_browser() {
    let vendor = peers::oidc(600);
    let authority = vendor.authority();
    let blind = Replay::start(|_| Reply::json(200, r#"{"id": 1, "data": []}"#));
    let kept = Kept::embedded();
    let connectors = with_a_test_of_what_is_visible(&kept, "0 customers visible: grant Customer Access, then make a new key.");
    let settings = [("ROLLCALL_PUBLIC_URL", "http://localhost:5173"), ("ROLLCALL_CONNECTORS_DIR", connectors.to_str().unwrap())];
    let gateway = Gateway::start_with(&kept, &format!("{authority},127.0.0.1:{}", blind.port), &settings);
    let port = gateway.base.rsplit(':').next().unwrap();
    let blind = format!("http://127.0.0.1:{}", blind.port);
    let mut script = peers::node_with("consent", "link");
    let (passed, tokens) = run(script.args([port, ADMIN, &vendor.ready.to_string(), &blind]));
    assert_eq!(passed, all(CONSENT));
    let names = fs::read_dir(pictures()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("every-page-at-")).count(), PICTURES);
    let log = gateway.said();
    let secret = vendor.ready["browser"]["secret"].as_str().unwrap();
    for hidden in tokens.iter().map(String::as_str).chain([secret, "code="]) {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// What a pattern with one group finds.
fn named(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[tokio::test]
async fn the_types_of_our_sdk_hold_in_a_strict_program() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/node/link-types.ts");
    let folder = node_folder(&program);
    let [script, types] = ["rollcall-link.js", "rollcall-link.d.ts"].map(|name| (name, format!("{}/{name}", gateway.base)));
    let mut texts = Vec::new();
    for (name, address) in [script, types] {
        let text = client().get(address).send().await.unwrap().text().await.unwrap();
        fs::write(folder.path().join(name), &text).unwrap();
        texts.push(text);
    }
    let exported = named(r"(?m)^export (?:interface|type|function|const|class) (\w+)", &texts[1]);
    let used = fs::read_to_string(&program).unwrap();
    let imported = named(r"(?m)^import \{ (.*) \} from", &used).pop_first().unwrap();
    assert_eq!(named(r"(\w+)(?:,|$)", &imported), exported, "the program uses all there is");
    let values = |text: &str| named(r"(?m)^export (?:async )?(?:function|const|class) (\w+)", text);
    assert_eq!(values(&texts[0]), values(&texts[1]), "what the types promise is what the module has");
    compile(folder.path(), "link-types.ts", &["--module", "nodenext", "--lib", "es2022,dom", "--noEmit"]);
}
