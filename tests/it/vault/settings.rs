//! Settings: the order of the layers, every mistake at once, and no secret in any message.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use clap::Parser;
use rollcall::config::{ConfigError, Environment, GlobalArgs, LogFormat, Purpose, Remote, Settings, Source, StoreSetting};
use rollcall::model::Secret;
use tempfile::TempDir;

const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    global: GlobalArgs,
}

/// An operator's machine: flags, variables and files.
#[derive(Default)]
struct Machine {
    flags: Vec<String>,
    variables: BTreeMap<String, String>,
    folder: Option<TempDir>,
}

impl Machine {
    fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(&mut self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.get_or_insert_with(|| TempDir::new().unwrap()).path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn config(mut self, content: &str) -> Self {
        let path = self.file("rollcall.toml", content);
        self.flag("--config", path.to_str().unwrap())
    }

    fn with<T>(&self, work: impl FnOnce(&GlobalArgs, &Environment<'_>) -> T) -> T {
        let program = Program::try_parse_from(std::iter::once("rollcall").chain(self.flags.iter().map(String::as_str)));
        let get = |name: &str| self.variables.get(name).cloned();
        work(&program.unwrap_or_else(|e| panic!("{e}")).global, &Environment::new(&get, self.variables.keys().cloned().collect()))
    }

    fn load(&self) -> Result<Settings, ConfigError> {
        self.with(|args, environment| Settings::load(args, environment, Purpose::Serve))
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn mistakes(&self) -> Vec<String> {
        self.load().err().expect("a mistake").mistakes.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn mistake(&self, parts: &[&str]) {
        let found = self.mistakes();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(parts.iter().all(|part| found[0].contains(part)), "{found:?} lacks one of {parts:?}");
    }
}

fn machine() -> Machine {
    Machine::default()
}

#[test]
fn without_anything_the_defaults_hold() {
    let settings = machine().settings();
    assert!(matches!(&settings.store, StoreSetting::Embedded(folder) if folder.to_str() == Some("./rollcall-data")));
    assert_eq!(settings.keys_file.to_str(), Some("./rollcall-data.keys"));
    assert!(!settings.keys_file_given);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((settings.log.as_str(), settings.log_format), ("info,actix_server=warn", LogFormat::Json));
    assert!(settings.public_url.is_none() && settings.admin_token.is_none() && settings.egress_allow.is_empty());
    assert!(settings.connectors_dir.is_none() && settings.redis_ca_file.is_none() && settings.warnings.is_empty());
    assert_eq!(settings.source("listen"), None);
}

#[test]
fn flags_stand_above_the_environment_and_that_above_the_file() {
    let file = "listen = \"127.0.0.1:1001\"\nlog = \"warn\"\nlog_format = \"text\"\nstore = \"embedded:from-file\"\n";
    let settings = machine()
        .config(file)
        .set("ROLLCALL_LISTEN", "127.0.0.1:1002")
        .set("ROLLCALL_LOG", "debug")
        .flag("--listen", "127.0.0.1:1003")
        .settings();
    assert_eq!(settings.listen.port(), 1003);
    assert_eq!(settings.log, "debug");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.store.to_string(), "embedded:from-file");
    assert_eq!(settings.keys_file.to_str(), Some("from-file.keys"));
    assert_eq!(settings.source("listen"), Some(&Source::Flag("--listen")));
    assert_eq!(settings.source("log"), Some(&Source::Variable("ROLLCALL_LOG".into())));
    assert!(matches!(settings.source("store"), Some(Source::File { line: Some(4), .. })));
}

#[test]
fn every_setting_can_be_given_in_every_layer() {
    let mut m = machine();
    let ca = m.file("ca.pem", "x").to_str().unwrap().to_owned();
    let key = m.file("key.pem", "x").to_str().unwrap().to_owned();
    let dir = m.folder.as_ref().unwrap().path().to_str().unwrap().to_owned();
    let values = [
        ("store", "ROLLCALL_STORE", "rediss://user:hunter2@cache:6379/0"),
        ("keys_file", "ROLLCALL_KEYS_FILE", "ring.json"),
        ("redis_ca_file", "ROLLCALL_REDIS_CA_FILE", ca.as_str()),
        ("listen", "ROLLCALL_LISTEN", "[::1]:9000"),
        ("public_url", "ROLLCALL_PUBLIC_URL", "https://rollcall.example.com"),
        ("tls_cert_file", "ROLLCALL_TLS_CERT_FILE", ca.as_str()),
        ("tls_key_file", "ROLLCALL_TLS_KEY_FILE", key.as_str()),
        ("egress_allow", "ROLLCALL_EGRESS_ALLOW", "vendor.local:8443,10.0.0.0/8"),
        ("connectors_dir", "ROLLCALL_CONNECTORS_DIR", dir.as_str()),
        ("log", "ROLLCALL_LOG", "warn,rollcall=debug"),
        ("log_format", "ROLLCALL_LOG_FORMAT", "text"),
    ];
    let by_flags = values.iter().fold(machine(), |m, (key, _, v)| m.flag(&format!("--{}", key.replace('_', "-")), v));
    let by_variables = values.iter().fold(machine(), |m, (_, name, v)| m.set(name, v));
    let by_file = machine().config(&values.iter().map(|(key, _, v)| format!("{key} = \"{v}\"\n")).collect::<String>());
    for m in [by_flags, by_variables, by_file] {
        let settings = m.set("ROLLCALL_ADMIN_TOKEN", TOKEN).settings();
        assert_eq!(settings.store.to_string(), "rediss://cache:6379/0");
        assert!(settings.store.is_tls() && settings.keys_file_given);
        assert_eq!(settings.keys_file.to_str(), Some("ring.json"));
        assert_eq!(settings.redis_ca_file.unwrap().to_str(), Some(ca.as_str()));
        assert_eq!(settings.listen.to_string(), "[::1]:9000");
        assert_eq!(settings.public_url.unwrap().as_str(), "https://rollcall.example.com/");
        let tls = settings.tls.unwrap();
        assert_eq!([tls.certificate.to_str(), tls.key.to_str()], [Some(ca.as_str()), Some(key.as_str())]);
        assert_eq!(settings.egress_allow.to_string(), "vendor.local:8443,10.0.0.0/8");
        assert_eq!(settings.connectors_dir.unwrap().to_str(), Some(dir.as_str()));
        assert_eq!((settings.log.as_str(), settings.log_format), ("warn,rollcall=debug", LogFormat::Text));
        assert_eq!(settings.admin_token.unwrap().expose(), TOKEN);
        assert_eq!(settings.warnings, Vec::<String>::new());
    }
}

#[test]
fn how_often_accounts_are_looked_at() {
    let every = |text: &str| machine().set("ROLLCALL_PROBE_EVERY", text).settings().probe_every.map(|every| every.as_secs());
    assert_eq!(machine().settings().probe_every.map(|every| every.as_secs()), Some(24 * 3600));
    assert_eq!(["24h", "90m", "30s", "h", "0"].map(every), [Some(86_400), Some(5_400), Some(30), Some(3_600), None]);
    for odd in ["25h", "0s", "0h", "1d", "24", "-1h", "often", "1.5h", " "] {
        machine().set("ROLLCALL_PROBE_EVERY", odd).mistake(&[
            "variable ROLLCALL_PROBE_EVERY: `",
            "is not a time",
            "`24h`",
            "`0` for never",
        ]);
    }
}

#[test]
fn a_misspelt_variable_is_named_beside_the_mistake_it_may_be_the_cause_of() {
    let text = machine().set("ROLLCALL_LISTN", "x").set("ROLLCALL_LOG", "a=b=c").load().err().unwrap().to_string();
    assert!(text.starts_with("the settings have a mistake:\n  - variable ROLLCALL_LOG: is not a log filter"), "{text}");
    assert!(text.contains("\n  besides: the variable ROLLCALL_LISTN is not one of Rollcall's"), "{text}");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let file = "listen = \"nowhere\"\nlisten_on = \"x\"\nlog_format = 3\n[table]\nx = 1\n";
    let m = machine()
        .config(file)
        .set("ROLLCALL_STORE", "mysql://root:hunter2@db/x")
        .set("ROLLCALL_ADMIN_TOKEN", "hunter2")
        .set("ROLLCALL_PUBLIC_URL", "rollcall.example.com")
        .flag("--log", "a=b=c")
        .flag("--connectors-dir", "not/there");
    let text = m.load().err().unwrap().to_string();
    assert!(text.starts_with("the settings have 9 mistakes:\n  - "), "{text}");
    for part in [
        "rollcall.toml:1 `listen`: `nowhere` is not an IP address and a port; write for example",
        "rollcall.toml:2 `listen_on`: there is no such setting; did you mean `listen`?",
        "rollcall.toml:3 `log_format`: `3` is not a log format",
        "rollcall.toml:4 `table`: there is no such setting",
        "variable ROLLCALL_STORE: must be `embedded:DIR` or an address that starts with one of `redis://`",
        "variable ROLLCALL_ADMIN_TOKEN: is shorter than 32 characters",
        "variable ROLLCALL_PUBLIC_URL: is not an address",
        "flag --log: is not a log filter",
        "flag --connectors-dir: there is no folder `not/there`",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_file_that_cannot_be_used() {
    machine().flag("--config", "not/there.toml").mistake(&["flag --config: the file `not/there.toml` cannot be read"]);
    machine().set("ROLLCALL_CONFIG", "not/there.toml").mistake(&["variable ROLLCALL_CONFIG: the file"]);
    let found = machine().config("log = \"info\"\nlisten = \n\nstore = embedded:x\n").mistakes();
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].contains("rollcall.toml:2: is not TOML here"), "{found:?}");
    assert!(found.iter().any(|m| m.contains("rollcall.toml:4: is not TOML here")), "{found:?}");
    let found = machine().config("log = \"info\"\nlog = \"warn\"\n").mistakes();
    assert!(found[0].contains("rollcall.toml:2"), "{found:?}");
    let settings = machine().set("ROLLCALL_CONFIG", "").settings();
    assert_eq!(settings.log, "info,actix_server=warn");
}

#[test]
fn secrets_come_from_files_too() {
    let mut m = machine();
    let token = m.file("token", &format!("{TOKEN}\n"));
    let store = m.file("store", "redis://:hunter2@cache");
    let m = m
        .set("ROLLCALL_ADMIN_TOKEN_FILE", token.to_str().unwrap())
        .set("ROLLCALL_STORE_FILE", store.to_str().unwrap())
        .set("ROLLCALL_KEYS_FILE", "ring");
    let settings = m.settings();
    assert_eq!(settings.admin_token.as_ref().unwrap().expose(), TOKEN);
    assert_eq!((settings.store.to_string(), format!("{:?}", settings.store)), ("redis://cache".into(), "redis://cache".into()));
    assert!(settings.warnings.is_empty());
    let m = m.set("ROLLCALL_ADMIN_TOKEN", TOKEN);
    m.mistake(&["variable ROLLCALL_ADMIN_TOKEN_FILE", "`ROLLCALL_ADMIN_TOKEN` is set too; set only one"]);

    let file = format!("admin_token_file = \"{}\"\n", token.display());
    assert_eq!(machine().config(&file).settings().admin_token.unwrap().expose(), TOKEN);
    machine().config(&format!("{file}admin_token = \"{TOKEN}\"\n")).mistake(&["rollcall.toml:2 `admin_token`", "give only one"]);
    machine().config("log_file = \"x\"\n").mistake(&["`log_file`: there is no such setting; did you mean"]);

    for (content, part) in [("", "is empty"), (" \n", "is empty"), ("one\ntwo\n", "more than one line")] {
        let mut m = machine();
        let path = m.file("token", content);
        m.set("ROLLCALL_ADMIN_TOKEN_FILE", path.to_str().unwrap()).mistake(&["variable ROLLCALL_ADMIN_TOKEN_FILE", part]);
    }
    machine().set("ROLLCALL_ADMIN_TOKEN_FILE", "not/there").mistake(&["cannot be read"]);
}

#[test]
fn redis_needs_a_ring_and_an_administrator() {
    let m = machine().set("ROLLCALL_STORE", "redis://cache");
    let found = m.mistakes();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("ROLLCALL_KEYS_FILE is not set: with Redis a key ring must be given"), "{found:?}");
    assert!(found[1].starts_with("ROLLCALL_ADMIN_TOKEN is not set: with Redis"), "{found:?}");
    let m = m.set("ROLLCALL_KEYS_FILE", "ring");
    m.mistake(&["ROLLCALL_ADMIN_TOKEN is not set"]);
    let tool = m.with(|args, environment| Settings::load(args, environment, Purpose::Tool));
    assert!(tool.is_ok(), "a command that only needs the store needs no administrator");
    // A token that is too short is one mistake, not two.
    m.set("ROLLCALL_ADMIN_TOKEN", "short").mistake(&["is shorter than 32"]);
}

#[test]
fn stores_of_every_form() {
    for (address, shown) in [
        ("embedded:/var/lib/rollcall", "embedded:/var/lib/rollcall"),
        ("redis://h:6379/1", "redis://h:6379/1"),
        ("redis+sentinel://u:p@h1:26379,h2:26379/main/0", "redis+sentinel://h1:26379,h2:26379/main/0"),
        ("rediss+cluster://:p@h1,h2", "rediss+cluster://h1,h2"),
    ] {
        let settings =
            machine().set("ROLLCALL_STORE", address).set("ROLLCALL_KEYS_FILE", "r").set("ROLLCALL_ADMIN_TOKEN", TOKEN).settings();
        assert_eq!((settings.store.to_string().as_str(), format!("{:?}", settings.store).as_str()), (shown, shown));
    }
    for address in ["embedded:", "redis:", "redis://", "valkey://h", "/var/lib/rollcall", "REDIS://h", "http://h"] {
        machine().set("ROLLCALL_STORE", address).mistake(&["variable ROLLCALL_STORE"]);
    }
    for address in ["redis://u:hunter2@ss/w@h/0", "redis://h/0?password=hunter2", "redis://h/x", "redis+sentinel://h"] {
        let m = machine().set("ROLLCALL_STORE", address).set("ROLLCALL_KEYS_FILE", "r").set("ROLLCALL_ADMIN_TOKEN", TOKEN);
        m.mistake(&["variable ROLLCALL_STORE: "]);
        assert!(!m.mistakes()[0].contains("hunter2"));
        let shown = StoreSetting::Redis(Secret::new(address.to_owned())).to_string();
        assert!(!shown.contains("hunter2") && shown.contains("://"), "{shown}");
    }
    assert_eq!(machine().set("ROLLCALL_STORE", "embedded:data/").settings().keys_file.to_str(), Some("data.keys"));
    machine().set("ROLLCALL_STORE", "embedded:/").mistake(&["ROLLCALL_KEYS_FILE is not set", "has no name"]);
}

#[test]
fn the_port_variable_counts_only_without_an_address() {
    assert_eq!(machine().set("PORT", "3000").settings().listen.to_string(), "0.0.0.0:3000");
    assert_eq!(machine().set("PORT", "3000").set("ROLLCALL_LISTEN", "127.0.0.1:1").settings().listen.to_string(), "127.0.0.1:1");
    assert_eq!(machine().set("PORT", "").settings().listen.to_string(), "127.0.0.1:8080");
    machine().set("PORT", "http").mistake(&["variable PORT", "port number"]);
    machine().set("PORT", "70000").mistake(&["variable PORT"]);
    machine().set("PORT", "3000").set("ROLLCALL_LISTEN", "x").mistake(&["variable ROLLCALL_LISTEN"]);
}

#[test]
fn public_addresses_are_bare() {
    assert!(machine().set("ROLLCALL_PUBLIC_URL", "http://localhost:8080/").settings().public_url.is_some());
    for text in ["ftp://x", "https://u@x", "https://x/base", "https://x?q", "https://x#f", "x", "https://"] {
        machine().set("ROLLCALL_PUBLIC_URL", text).mistake(&["variable ROLLCALL_PUBLIC_URL", "for example"]);
    }
}

#[test]
fn a_wrong_entry_of_the_egress_list_is_named_with_its_place() {
    let list = "good.example:8443, vendor.local, 10.0.0.0/99,10.0.0.0/8,https://x:1/";
    let entries = ["`vendor.local`", "`10.0.0.0/99`", "`https://x:1/`"];
    let text = machine().set("ROLLCALL_EGRESS_ALLOW", list).load().err().unwrap().to_string();
    assert!(text.contains("variable ROLLCALL_EGRESS_ALLOW: "), "{text}");
    assert!(entries.iter().all(|entry| text.contains(entry)), "{text}");
    assert!(!text.contains("good.example") && !text.contains("10.0.0.0/8`:"), "{text}");
    machine().flag("--egress-allow", "x:0").mistake(&["flag --egress-allow", "`x:0`", "1 to 65535"]);
    machine().config("log = \"warn\"\negress_allow = \"fd00::/200\"\n").mistake(&[":2 `egress_allow`", "`fd00::/200`"]);
}

#[test]
fn the_egress_list_may_be_an_array_in_the_file() {
    let settings = machine().config("egress_allow = [\"vendor.local:8443\", \"10.0.0.0/8\"]\n").settings();
    assert_eq!(settings.egress_allow.to_string(), "vendor.local:8443,10.0.0.0/8");
    machine().config("egress_allow = [\"vendor.local:8443\", \"x\"]\n").mistake(&[":1 `egress_allow`", "`x`"]);
    machine().config("egress_allow = [8443]\n").mistake(&[":1 `egress_allow`", "texts in quotes"]);
    machine().config("log = [\"info\"]\n").mistake(&[":1 `log`", "must be a text in quotes"]);
}

#[test]
fn numbers_need_no_quotes_in_the_file() {
    let settings = machine().config("max_in_flight = 1_00\nredis_replicas = 0\nprobe_every = 0\naudit_days = 0x1e\n").settings();
    assert_eq!((settings.max_in_flight, settings.redis_replicas, settings.probe_every), (100, 0, None));
    assert_eq!(settings.audit_life, Some(std::time::Duration::from_secs(30 * 24 * 3600)));
    machine().config("max_in_flight = 0\n").mistake(&[":1 `max_in_flight`", "`0` is not a number of requests"]);
    machine().config("audit_passthrough = true\n").mistake(&[":1 `audit_passthrough`", "write `off` or `writes`"]);
    machine().config("max_in_flight = 1.5\n").mistake(&[":1 `max_in_flight`", "must be a text in quotes"]);
    machine().config("admin_token = 12345678\n").mistake(&[":1 `admin_token`", "must be a text in quotes"]);
}

#[test]
fn administrators_tokens_fit_a_header() {
    machine().set("ROLLCALL_ADMIN_TOKEN", &"x".repeat(31)).mistake(&["shorter than 32"]);
    machine().set("ROLLCALL_ADMIN_TOKEN", &"é".repeat(32)).mistake(&["printable ASCII"]);
    machine().set("ROLLCALL_ADMIN_TOKEN", &"a b".repeat(20)).mistake(&["printable ASCII"]);
    assert!(machine().set("ROLLCALL_ADMIN_TOKEN", &"x".repeat(32)).settings().admin_token.is_some());
}

#[test]
fn unknown_variables_are_warned_about() {
    let settings = machine()
        .set("ROLLCALL_LISTN", "x")
        .set("ROLLCALL_ADMIN_TOKENFILE", "x")
        .set("ROLLCALL_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .set("ROLLCALL_SERVICE_HOST", "10.0.0.1")
        .set("ROLLCALL_URL", "http://x")
        .set("ROLLCALL_STORE", "")
        .set("OTHER", "x")
        .settings();
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    assert!(
        settings.warnings[0].contains("ROLLCALL_ADMIN_TOKENFILE")
            && settings.warnings[0].contains("did you mean ROLLCALL_ADMIN_TOKEN_FILE?")
    );
    assert!(settings.warnings[1].contains("ROLLCALL_LISTN") && settings.warnings[1].contains("did you mean ROLLCALL_LISTEN?"));
}

#[test]
fn replicas_are_a_small_number() {
    let redis = || machine().set("ROLLCALL_STORE", "redis://cache:6379").set("ROLLCALL_KEYS_FILE", "ring.json");
    let settings = redis().set("ROLLCALL_ADMIN_TOKEN", TOKEN).set("ROLLCALL_REDIS_REPLICAS", "2").settings();
    assert_eq!((settings.redis_replicas, settings.warnings.len()), (2, 0));
    for bad in ["-1", "9", "one", "1.5"] {
        redis().set("ROLLCALL_ADMIN_TOKEN", TOKEN).set("ROLLCALL_REDIS_REPLICAS", bad).mistake(&["ROLLCALL_REDIS_REPLICAS", bad]);
    }
}

#[test]
fn a_file_of_oauth_apps_is_named_in_every_layer_and_must_be_there() {
    let mut m = machine();
    let file = m.file("apps.json", "{}").to_str().unwrap().to_owned();
    for m in [machine().set("ROLLCALL_OAUTH_APPS_FILE", &file), machine().config(&format!("oauth_apps_file = \"{file}\"\n"))] {
        assert_eq!(m.settings().oauth_apps_file.unwrap().to_str(), Some(file.as_str()));
    }
    assert_eq!(machine().settings().oauth_apps_file, None);
    machine().set("ROLLCALL_OAUTH_APPS_FILE", "not/there").mistake(&["ROLLCALL_OAUTH_APPS_FILE", "there is no file `not/there`"]);
}

#[test]
fn odd_settings_are_warned_about() {
    let mut m = machine();
    let ca = m.file("ca.pem", "x");
    let settings = m.set("ROLLCALL_REDIS_CA_FILE", ca.to_str().unwrap()).settings();
    assert!(settings.warnings.len() == 1 && settings.warnings[0].contains("not reached over TLS"), "{:?}", settings.warnings);
    let settings = machine().set("ROLLCALL_REDIS_REPLICAS", "1").settings();
    assert!(settings.warnings.len() == 1 && settings.warnings[0].contains("not Redis"), "{:?}", settings.warnings);

    for (content, warned) in [(format!("admin_token = \"{TOKEN}\""), true), ("store = \"embedded:x\"".into(), false)] {
        let mut m = machine();
        let path = m.file("open.toml", &content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let settings = m.flag("--config", path.to_str().unwrap()).settings();
        assert_eq!(settings.warnings.iter().any(|w| w.contains("chmod 600")), warned, "{content}");
    }
}

#[test]
fn a_remote_gateway_needs_address_and_token() {
    let remote = |m: Machine| m.with(|_, environment| Remote::load(environment));
    assert!(remote(machine()).unwrap().is_none());
    let found = remote(machine().set("ROLLCALL_URL", "http://127.0.0.1:8080").set("ROLLCALL_TOKEN", "rck_x")).unwrap().unwrap();
    assert_eq!((found.url.as_str(), found.token.expose()), ("http://127.0.0.1:8080/", "rck_x"));
    for (m, part) in [
        (machine().set("ROLLCALL_URL", "http://x"), "ROLLCALL_TOKEN is not set"),
        (machine().set("ROLLCALL_TOKEN", "x"), "ROLLCALL_URL is not set"),
        (machine().set("ROLLCALL_TOKEN", "x").set("ROLLCALL_URL", "x"), "variable ROLLCALL_URL"),
    ] {
        let text = remote(m).err().unwrap().to_string();
        assert!(text.starts_with("the settings have a mistake:") && text.contains(part), "{text}");
    }
}

#[test]
fn the_process_environment_is_read() {
    let environment = Environment::of_process();
    assert!(environment.get("PATH").is_some_and(|path| !path.is_empty()));
    assert_eq!(environment.get("ROLLCALL_NOT_SET_ANYWHERE"), None);
}

#[test]
fn the_egress_proxy_is_a_secret_of_its_own() {
    const PROXY: &str = "http://operator:hidden-word@proxy.internal:3128";
    assert!(machine().settings().egress_proxy.is_none());
    assert!(machine().set("ROLLCALL_EGRESS_PROXY", PROXY).settings().egress_proxy.is_some());
    let mut of_file = machine();
    let path = of_file.file("proxy", &format!("{PROXY}\n"));
    assert!(of_file.set("ROLLCALL_EGRESS_PROXY_FILE", path.to_str().unwrap()).settings().egress_proxy.is_some());
    let inline = machine().config(&format!("egress_proxy = \"{PROXY}\""));
    assert!(inline.settings().egress_proxy.is_some() && inline.settings().warnings.is_empty());
    fs::set_permissions(&inline.flags[1], fs::Permissions::from_mode(0o644)).unwrap();
    assert!(inline.settings().warnings[0].contains("chmod 600"), "{:?}", inline.settings().warnings);
    for wrong in ["https://operator:hidden-word@proxy", "http://operator:hidden-word@proxy/x", "operator:hidden-word@proxy:1"] {
        let wrong = machine().set("ROLLCALL_EGRESS_PROXY", wrong);
        wrong.mistake(&["ROLLCALL_EGRESS_PROXY", "http://host:port"]);
        assert!(!wrong.mistakes()[0].contains("hidden-word"), "{:?}", wrong.mistakes());
    }
}

#[test]
fn what_the_audit_log_keeps_is_the_operators_to_say() {
    let settings = machine().settings();
    assert_eq!((settings.audit_life, settings.audit_passthrough), (None, false), "for ever, and nothing that passes through");
    let settings = machine().set("ROLLCALL_AUDIT_DAYS", "30").config("audit_passthrough = \"writes\"\n").settings();
    assert_eq!(settings.audit_life, Some(std::time::Duration::from_secs(30 * 24 * 3600)));
    assert!(settings.audit_passthrough);
    for (name, bad) in [
        ("ROLLCALL_AUDIT_DAYS", "0"),
        ("ROLLCALL_AUDIT_DAYS", "-1"),
        ("ROLLCALL_AUDIT_DAYS", "40000"),
        ("ROLLCALL_AUDIT_DAYS", "a month"),
        ("ROLLCALL_AUDIT_PASSTHROUGH", "all"),
    ] {
        machine().set(name, bad).mistake(&[name, bad]);
    }
}
