//! G-11: schemathesis with every check, stateful, in three roles. What it may find and why is listed in
//! `tests/peers/schemathesis/hooks.py`, and nowhere else.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rollcall::sandbox::scim;
use serde_json::{Value, json};

use crate::support::{demo::Demo, gateway::client, long, peers};

/// A role, and what it must have got through to.
struct Role {
    name: &'static str,
    scopes: &'static [&'static str],
    /// Operations that must have been allowed to it.
    reached: &'static [&'static str],
}

/// Operations on what an earlier call made or listed: one of them must have been allowed where calls follow one another.
const FOLLOWED: &[&str] = &[
    "get_environment_integration",
    "get_api_token",
    "revoke_api_token",
    "get_integrated_account",
    "change_integrated_account",
    "delete_integrated_account",
    "get_account_capabilities",
    "list_account_tools",
];

const ROLES: &[Role] = &[
    Role {
        name: "admin",
        scopes: &["admin"],
        reached: &["list_users", "list_groups", "create_api_token", "import_integrated_account", "metrics"],
    },
    Role {
        name: "reader",
        scopes: &["directory:read", "proxy:read", "accounts:read"],
        reached: &["list_users", "list_groups", "list_integrated_accounts"],
    },
    Role {
        name: "operator",
        scopes: &["accounts:read", "accounts:write", "directory:write", "proxy:write"],
        reached: &["import_integrated_account", "change_integrated_account", "list_integrated_accounts"],
    },
];

/// Phases of a run, how long they take, seconds, and how many calls they make at least.
struct Phases {
    names: &'static str,
    short: u64,
    full: u64,
    least: u64,
}

const STATEFUL: &str = "stateful";
const PHASES: &[Phases] = &[
    Phases { names: "examples,coverage,fuzzing", short: 27, full: 130, least: 300 },
    Phases { names: STATEFUL, short: 13, full: 70, least: 50 },
];

async fn ask(demo: &Demo, method: &str, path: &str, body: Option<Value>) -> Value {
    let request = client().request(method.parse().unwrap(), format!("{}{path}", demo.base())).bearer_auth(demo.token());
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    let response = request.send().await.unwrap();
    let (status, body) = (response.status(), response.bytes().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn ids(page: &Value) -> Vec<Value> {
    page["result"].as_array().unwrap().iter().map(|object| object["id"].clone()).collect()
}

/// What the hooks must know: which objects exist, which of them stay, and how an account can be linked.
async fn world(demo: &Demo) -> Value {
    let mut accounts = json!({});
    for account in [demo.account("scim"), demo.account("keeper")] {
        let capabilities = ask(demo, "GET", &format!("/integrated-account/{account}/capabilities?type=proxy"), None).await;
        let proxy: Vec<_> = capabilities["proxy"].as_array().unwrap().iter().map(|named| named["resource"].clone()).collect();
        accounts[account] = json!({"proxy": proxy, "records": {}});
        for resource in ["users", "groups"] {
            let path = format!("/unified/user-directory/{resource}?limit=5&integrated_account_id={account}");
            accounts[account]["records"][resource] = json!(ids(&ask(demo, "GET", &path, None).await));
        }
    }
    let scim = ask(demo, "GET", &format!("/integrated-account/{}", demo.account("scim")), None).await;
    json!({
        "accounts": accounts,
        "tokens": ids(&ask(demo, "GET", "/api-token", None).await),
        "link": {
            "integration": "scim",
            "authentication_method": "bearer",
            "context": {"base_url": scim["context"]["base_url"], "token": scim::TOKEN},
        },
    })
}

/// One run of some phases: whether it found nothing, what it said, and how often which operation was answered how.
async fn fuzz(demo: &Demo, token: &str, world: &Value, phases: &str, time: Duration) -> (bool, String, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/schemathesis");
    let made = tempfile::tempdir().unwrap();
    let (out, counts) = (made.path().join("out"), made.path().join("counts"));
    let file = std::fs::File::create(&out).unwrap();
    let mut command = Command::new(peers::python());
    command.current_dir(made.path()).args(["-m", "schemathesis.cli", "--config-file"]).arg(folder.join("schemathesis.toml"));
    command.args(["run", &format!("{}/openapi.json", demo.base()), "--checks", "all", "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {token}"), "--max-time", &time.as_secs().to_string()]);
    command.args(["--phases", phases]).env("FUZZ_PHASES", phases);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("FUZZ_WORLD", world.to_string()).env("FUZZ_COUNTS", &counts).env("SCHEMATHESIS_HOOKS", folder.join("hooks.py"));
    command.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file);
    let mut child = command.spawn().unwrap();
    let end = tokio::time::Instant::now() + time + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if tokio::time::Instant::now() > end {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let said = String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned();
    let counts = std::fs::read(&counts).ok().and_then(|text| serde_json::from_slice(&text).ok());
    (status.success(), said, counts.unwrap_or_default())
}

/// How often each operation was answered by each status.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

fn add(counts: &mut Counts, called: &Value) {
    for (operation, statuses) in called.as_object().unwrap() {
        for (status, count) in statuses.as_object().unwrap() {
            *counts.entry(operation.clone()).or_default().entry(status.clone()).or_default() += count.as_u64().unwrap();
        }
    }
}

fn is_allowed(counts: &Counts, operation: &str) -> bool {
    counts.get(operation).is_some_and(|statuses| statuses.keys().any(|status| status.starts_with('2')))
}

/// One role in some phases. A machine that is busy calls little: what is said of all calls is said of all rounds.
async fn play(demo: &Demo, token: &str, world: &Value, role: &Role, phases: &Phases) {
    let Phases { names, short, full, least } = phases;
    let time = Duration::from_secs(if long() { *full } else { *short });
    let is_reached = |counts: &Counts| match *names {
        STATEFUL => FOLLOWED.iter().any(|operation| is_allowed(counts, operation)),
        _ => role.reached.iter().all(|operation| is_allowed(counts, operation)),
    };
    let mut counts = Counts::new();
    let sum = |counts: &Counts| counts.values().flat_map(|statuses| statuses.values()).sum::<u64>();
    for _ in 0..4 {
        let (found_nothing, said, called) = fuzz(demo, token, world, names, time).await;
        assert!(found_nothing, "{}, {names}:\n{said}", role.name);
        add(&mut counts, &called);
        if sum(&counts) > *least && is_reached(&counts) {
            break;
        }
    }
    let needed = if *names == STATEFUL { FOLLOWED } else { role.reached };
    assert!(
        is_reached(&counts),
        "{}, {names}: of {needed:?} something was never called, or never allowed: {counts:?}",
        role.name
    );
    assert!(sum(&counts) > *least, "{}, {names}: {counts:?}", role.name);
    let statuses = counts.values().flat_map(|statuses| statuses.keys());
    assert!(statuses.clone().all(|status| *status != "500"), "{}, {names}: {counts:?}", role.name);
}

#[tokio::test]
async fn g_11_schemathesis_finds_nothing_in_three_roles() {
    let demo = Demo::start();
    let mut tokens = Vec::new();
    for Role { name, scopes, .. } in ROLES {
        let made = ask(&demo, "POST", "/api-token", Some(json!({"name": name, "scopes": scopes}))).await;
        tokens.push(made["token"].as_str().unwrap().to_owned());
    }
    let world = world(&demo).await;
    for (role, token) in ROLES.iter().zip(&tokens) {
        for phases in PHASES {
            play(&demo, token, &world, role, phases).await;
        }
    }
    let said = demo.said();
    assert!(!said.contains("panicked"), "{said}");
    for token in &tokens {
        assert!(!said.contains(&token[30..]), "a token is in the log");
    }
}
