//! The command line, as scripts use it: data on the standard output, talk on the standard error, exit 0, 1 or 2.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::vendor::{SECRET, Vendor, overlay};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, command},
    redis::free_port,
};

/// Runs a command to its end: exit code, standard output, standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = thread::spawn(move || read(&mut out));
    let err = thread::spawn(move || read(&mut err));
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    (status, out.join().unwrap(), err.join().unwrap())
}

fn read(from: &mut impl Read) -> String {
    let mut text = Vec::new();
    from.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// A command on a store and in front of a vendor.
struct Shell<'a> {
    kept: &'a Kept,
    vendor: &'a Vendor,
}

impl Shell<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.envs(self.kept.settings()).env("ROLLCALL_EGRESS_ALLOW", self.vendor.authority());
        command.current_dir(self.kept.folder());
        command
    }

    /// Runs it and expects success; the standard output.
    fn good(&self, args: &[&str]) -> String {
        let (code, out, err) = run(&mut self.command(args));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "{args:?} shows the secret: {out}{err}");
        out
    }

    fn json(&self, args: &[&str]) -> Value {
        let out = self.good(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{args:?}: {why}: {out}"))
    }

    /// Links the vendor; the account's id.
    fn add(&self) -> String {
        let file = self.kept.folder().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let base = format!("base_url={}", self.vendor.base());
        let token = format!("token={}", file.display());
        let args = ["account", "add", "--integration", "scim", "--method", "bearer", "--tenant", "acme", "--field", &base];
        let account = self.json(&[&args[..], &["--field-file", &token]].concat());
        assert_eq!(account["status"], "active", "{account}");
        let (code, out, err) =
            run(self.command(&[&args[..], &["--field-file", "token=-"]].concat()).stdin(File::open(&file).unwrap()));
        assert_eq!(code, Some(0), "{err}");
        let second = out.split_whitespace().next().unwrap().to_owned();
        assert!(self.good(&["account", "delete", &second]).is_empty());
        let open = format!("token={SECRET}");
        let (code, out, said) = run(&mut self.command(&[&args[..], &["--field", &open]].concat()));
        assert!(code == Some(0) && said.contains("--field-file token=FILE") && !said.contains(SECRET), "{said}");
        assert!(!err.contains("--field-file"), "{err}");
        let third = out.split_whitespace().next().unwrap().to_owned();
        assert!(self.good(&["account", "delete", &third]).is_empty());
        account["id"].as_str().unwrap().to_owned()
    }

    /// A field the link method does not have is refused, however far from the ones it has.
    fn refuses_strange_fields(&self) {
        let base = format!("base_url={}", self.vendor.base());
        let file = self.kept.folder().join("secret");
        for (connector, method, status, named) in [
            ("scim", "bearer", 2, "base_url, token"),
            ("nonsense", "bearer", 1, "No connector"),
            ("scim", "nonsense", 1, "bearer"),
        ] {
            let (label, secret) = ("colour=blue", format!("apikey={}", file.display()));
            let fields = ["--field", &base, "--field", label, "--field-file", &secret];
            let args = ["account", "add", "--integration", connector, "--method", method, "--tenant", "acme"];
            let (code, out, err) = run(&mut self.command(&[&args[..], &fields].concat()));
            assert!(code == Some(status) && err.contains(named) && out.is_empty(), "{code:?} {err}");
            assert!(status == 1 || (err.contains("`colour`") && err.contains("`apikey`")), "{err}");
            assert!(!err.contains(SECRET), "{err}");
        }
        assert_eq!(self.json(&["account", "list"]).as_array().unwrap().len(), 1);
    }

    /// Everything that can be done with accounts and tokens; a token that was left, and an account.
    fn walk(&self) -> (String, String) {
        let account = self.add();
        let list = self.good(&["account", "list"]);
        assert!(list.contains(&account) && list.contains("scim") && list.contains("acme") && list.contains("active"), "{list}");
        assert_eq!(self.json(&["account", "list"]).as_array().unwrap().len(), 1);
        let shown = self.json(&["account", "show", &account]);
        assert_eq!(shown["id"], *account);
        let (code, _, err) = run(&mut self.command(&["account", "show", "nonsense"]));
        assert!(code == Some(1) && err.contains("not_found"), "{code:?} {err}");
        let (code, _, err) =
            run(&mut self.command(&["account", "add", "--integration", "scim", "--method", "bearer", "--tenant", "acme"]));
        assert!(code == Some(1) && err.contains("invalid_field"), "{code:?} {err}");
        self.refuses_strange_fields();

        let made = self.json(&["token", "create", "--name", "script", "--scope", "directory:read", "--scope", "accounts:read"]);
        let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
        let listed = self.json(&["token", "list"]);
        let mine = listed.as_array().unwrap().iter().find(|t| t["id"] == id).unwrap();
        assert_eq!((mine["name"].as_str(), listed.to_string().contains(token)), (Some("script"), false));
        assert!(self.good(&["token", "list"]).lines().any(|line| line.contains(id) && line.contains("directory:read")));
        let second = self.good(&["token", "create", "--name", "other", "--scope", "directory:read"]);
        assert!(second.starts_with("rck_") && second.lines().count() == 1, "only the token is on the standard output");
        let listed = self.json(&["token", "list"]);
        let other = listed.as_array().unwrap().iter().find(|t| t["name"] == "other").unwrap()["id"].as_str().unwrap().to_owned();
        self.good(&["token", "revoke", &other]);
        let (code, _, err) = run(&mut self.command(&["token", "revoke", &other]));
        assert!(code == Some(1) && err.contains("not_found"), "{code:?} {err}");
        let (code, _, err) = run(&mut self.command(&["token", "create", "--name", "x", "--scope", "everything"]));
        assert!(code == Some(2) && err.contains("everything"), "{code:?} {err}");
        (token.to_owned(), account)
    }
}

async fn can_list(gateway: &Gateway, token: &str, account: &str) -> bool {
    let list = format!("/unified/user-directory/users?integrated_account_id={account}");
    let answer = gateway.call_as(Some(token), "GET", &list, None).await;
    answer.status == 200 && answer.json()["result_count"] == 5
}

#[tokio::test]
async fn accounts_and_tokens_beside_a_running_gateway() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        assert_eq!(gateway.get("/ping").await.status, 200);
        let shell = Shell { kept: &kept, vendor: &vendor };
        let (token, account) = shell.walk();
        assert!(can_list(&gateway, &token, &account).await);
        let id = shell.json(&["token", "list"]).as_array().unwrap().iter().find(|t| t["name"] == "script").unwrap()["id"].clone();
        shell.good(&["token", "revoke", id.as_str().unwrap()]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!can_list(&gateway, &token, &account).await, "revoked everywhere within a second");
        shell.good(&["account", "delete", &account]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await.status, 404);
        assert!(gateway.stop());
    }
}

#[tokio::test]
async fn accounts_and_tokens_without_a_gateway() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let (token, account) = Shell { kept: &kept, vendor: &vendor }.walk();
        let gateway = Gateway::start(&kept, &vendor.authority());
        assert!(can_list(&gateway, &token, &account).await, "what the commands stored is there");
    }
}

#[tokio::test]
async fn accounts_and_tokens_of_a_gateway_elsewhere() {
    let (kept, vendor, elsewhere) = (Kept::embedded(), Vendor::start(), tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let there = |args: &[&str], token: Option<&str>| {
        let mut command = command(args);
        command.current_dir(elsewhere.path()).env("ROLLCALL_URL", &gateway.base);
        token.map(|token| command.env("ROLLCALL_TOKEN", token));
        run(&mut command)
    };
    let (code, out, err) = there(&["account", "list"], Some(ADMIN));
    assert!(code == Some(0) && out.contains(&account), "{code:?} {out}{err}");
    let (code, out, err) = there(&["token", "create", "--name", "far", "--scope", "directory:read"], Some(ADMIN));
    assert_eq!(code, Some(0), "{err}");
    assert!(can_list(&gateway, out.trim(), &account).await);
    let (code, out, err) = there(&["account", "list"], Some("not-a-token"));
    assert!(code == Some(1) && out.is_empty() && err.contains("invalid_token") && !err.contains("not-a-token"), "{code:?} {err}");
    let (code, _, err) = there(&["account", "list"], None);
    assert!(code == Some(2) && err.contains("ROLLCALL_TOKEN"), "{code:?} {err}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "no store was made here");
}

#[test]
fn check_names_file_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let (code, out, err) = run(&mut command(&["check", dir]));
    assert!(code == Some(1) && out.is_empty() && err.contains("holds no connector"), "{code:?} {out}{err}");
    overlay(folder.path(), |_, text| text);
    let (code, out, err) = run(&mut command(&["check", dir]));
    assert!(code == Some(1) && out.contains("no fixture of `bearer` hits"), "a level is a promise: {code:?} {out}{err}");
    overlay(folder.path(), |_, text| text.replace("level: beta", "level: draft"));
    let (code, out, err) = run(&mut command(&["check", dir]));
    assert!(code == Some(0) && out.is_empty() && err.contains("1 connector, no mistakes"), "{code:?} {out}{err}");
    let (code, out, err) = run(command(&["check"]).current_dir(folder.path()));
    assert!(code == Some(0) && out.is_empty() && err.contains("connectors, no"), "the built-in ones: {code:?} {out}{err}");
    let fixtures = folder.path().join("scim/fixtures");
    std::fs::create_dir(&fixtures).unwrap();
    std::fs::write(fixtures.join("users.list.json"), "{\n  \"source\": \"docs\",\n").unwrap();
    for check in [command(&["check", dir]), command(&["check"])] {
        let (code, out, _) = run({ check }.env("ROLLCALL_CONNECTORS_DIR", dir));
        assert!(code == Some(1) && out.contains("scim/fixtures/users.list.json:3:"), "{code:?} {out}");
    }
    std::fs::remove_dir_all(&fixtures).unwrap();
    overlay(folder.path(), |name, text| match name {
        "users.yaml" => text.replace("style: scim", "style: telepathy"),
        "groups.yaml" => text.replace("resource: group", "resource: gruop"),
        _ => text,
    });
    let (code, out, err) = run(&mut command(&["check", dir]));
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("scim/users.yaml:7:18: ") || out.contains("scim/users.yaml:7:"), "{out}");
    assert!(out.contains("scim/groups.yaml:2:11: "), "{out}");
    assert!(err.contains("mistakes"), "{err}");
    let (code, out, _) = run(&mut command(&["check", dir, "--json"]));
    let list: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert!(
        code == Some(1) && list.iter().any(|p| p["file"] == "scim/groups.yaml" && p["line"] == 2 && p["column"] == 11),
        "{out}"
    );
    let (code, _, err) = run(&mut command(&["check", "no-such-folder"]));
    assert!(code == Some(2) && err.contains("no-such-folder"), "{code:?} {err}");
}

#[test]
fn documents_and_usage_need_no_gateway() {
    let (code, out, _) = run(&mut command(&["openapi"]));
    let kept = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/rollcall.json")).unwrap();
    assert_eq!((code, out.trim_end()), (Some(0), kept.trim_end()));
    let (code, out, _) = run(&mut command(&["completions", "bash"]));
    assert!(code == Some(0) && out.contains("complete -F _rollcall"), "{out}");
    let (code, out, _) = run(&mut command(&["--version"]));
    assert_eq!((code, out.trim()), (Some(0), concat!("rollcall ", env!("CARGO_PKG_VERSION"))));
    for wrong in [
        &["nonsense"][..],
        &[],
        &["serve", "--nonsense"],
        &["token", "create", "--name", "x"],
        &["account", "add"],
        &["completions", "cobol"],
    ] {
        let (code, out, err) = run(&mut command(wrong));
        assert!(code == Some(2) && out.is_empty() && !err.is_empty(), "{wrong:?}: {code:?} {out}");
    }
    let folder = tempfile::tempdir().unwrap();
    let args = ["account", "add", "--integration", "scim", "--method", "bearer", "--tenant", "a", "--field", "no-equals-sign"];
    let (code, _, err) = run(command(&args).current_dir(folder.path()));
    assert!(code == Some(2) && err.contains("no-equals-sign"), "{code:?} {err}");
}

#[tokio::test]
async fn healthcheck_tells_up_from_down() {
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, "");
    let listen = gateway.base.trim_start_matches("http://").to_owned();
    let ask = || run(command(&["healthcheck"]).env("ROLLCALL_LISTEN", &listen).current_dir(kept.folder()));
    assert_eq!(ask().0, Some(0));
    let doctor = run(command(&["doctor"]).envs(kept.settings()));
    assert!(doctor.0 == Some(0) && doctor.1.contains("a gateway runs at"), "{doctor:?}");
    assert!(gateway.stop());
    let (code, _, err) = ask();
    assert!(code == Some(1) && !err.is_empty(), "{code:?} {err}");
    let doctor = run(command(&["doctor", "--json"]).envs(kept.settings()));
    let findings: Value = serde_json::from_str(&doctor.1).unwrap();
    assert!(doctor.0 == Some(0) && findings["findings"].as_array().unwrap().len() >= 5, "{doctor:?}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|why| panic!("{}: {why}", path.display())).permissions().mode() & 0o777
}

#[tokio::test]
async fn the_first_start_makes_a_key_ring_and_a_token_and_says_so_once() {
    let kept = Kept::embedded();
    let (keys, token, serve) =
        (kept.folder().join("store.keys"), kept.folder().join("store/admin-token"), kept.folder().join("store/serve.json"));
    let nothing = [("ROLLCALL_ADMIN_TOKEN", "")];
    let gateway = Gateway::start_with(&kept, "", &nothing);
    crate::support::redis::until("serve.json is there", 10, || serve.exists());
    assert_eq!((mode(&keys), mode(&token), mode(&serve)), (0o600, 0o600, 0o600));
    let text = std::fs::read_to_string(&token).unwrap();
    let said = gateway.said();
    assert_eq!(said.matches(keys.to_str().unwrap()).count(), 1, "{said}");
    assert_eq!(said.matches(token.to_str().unwrap()).count(), 1, "{said}");
    assert!(!said.contains(text.trim()), "not a terminal: the token is in the file only");
    assert_eq!(gateway.call_as(Some(text.trim()), "GET", "/api-token", None).await.status, 200);
    assert!(gateway.stop(), "SIGTERM ends it with exit 0");
    assert!(!serve.exists() && token.exists());

    let gateway = Gateway::start_with(&kept, "", &nothing);
    crate::support::redis::until("serve.json is there", 10, || serve.exists());
    assert_eq!(gateway.call_as(Some(text.trim()), "GET", "/api-token", None).await.status, 200);
    let said = gateway.said();
    assert!(!said.contains("key ring was made") && !said.contains("dministrator token"), "{said}");
    drop(gateway);

    std::fs::rename(&keys, kept.folder().join("elsewhere")).unwrap();
    let started = Instant::now();
    let (code, _, err) =
        run(command(&["serve"]).envs(kept.settings()).env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", free_port())));
    assert!(code == Some(1) && err.contains(keys.to_str().unwrap()), "a store without its ring: {code:?} {err}");
    assert!(started.elapsed() < Duration::from_secs(5) && !keys.exists(), "no new ring is made over an old store");
}

#[test]
fn every_mistake_of_the_settings_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:8080\"\nlissten = \"x\"\n").unwrap();
    let mut serve = command(&["serve", "--config", file.to_str().unwrap(), "--public-url", "ftp://x", "--egress-allow", "foo"]);
    serve
        .env("ROLLCALL_STORE", "redis://user:a-password-of-redis@127.0.0.1:1/not-a-database")
        .env("ROLLCALL_ADMIN_TOKEN", "too-short");
    serve.env("ROLLCALL_LISTEN", "nowhere").env("ROLLCALL_LOG_FORMAT", "xml").env("ROLLCALL_CONNECTORS_DIR", "/no/such/folder");
    let (code, out, err) = run(serve.current_dir(folder.path()));
    assert!(code == Some(2) && out.is_empty(), "{code:?} {out}");
    for named in [
        "rollcall.toml:2",
        "lissten",
        "--public-url",
        "--egress-allow",
        "variable ROLLCALL_STORE: ",
        "ROLLCALL_ADMIN_TOKEN",
        "ROLLCALL_LISTEN",
        "ROLLCALL_LOG_FORMAT",
        "ROLLCALL_CONNECTORS_DIR",
    ] {
        assert!(err.contains(named), "{named} is not in:\n{err}");
    }
    assert!(!err.contains("too-short") && !err.contains("a-password"), "{err}");
}

#[test]
fn an_address_in_use_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(command(&["serve", "--listen", &address]).current_dir(folder.path()));
    assert!(code == Some(1) && err.contains(&address) && err.contains("`--listen`"), "{code:?} {err}");
}

#[test]
fn what_is_wrong_is_named_as_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    for (args, named) in
        [(&["restore", "saved", "--into", "mysql://x"][..], "flag --into: must be"), (&["keys", "add"], "`--keys-file`")]
    {
        let (code, out, err) = run(command(args).current_dir(folder.path()));
        assert!(code == Some(2) && out.is_empty() && err.contains(named), "{args:?}: {code:?} {err}");
    }
}
