//! Collecting what was given, layer by layer: the file, the environment, the flags. The last one wins.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{ConfigError, GlobalArgs, Mistake, Source};
use crate::model::{Secret, distance};

/// A setting's names; `secret` ones may also be given as a file that holds the value, a `list` as an array of texts.
pub(super) struct Key {
    name: &'static str,
    variable: &'static str,
    secret: bool,
    list: bool,
}

const fn key(name: &'static str, variable: &'static str) -> Key {
    Key { name, variable, secret: false, list: false }
}

const fn secret(name: &'static str, variable: &'static str) -> Key {
    Key { secret: true, ..key(name, variable) }
}

const fn list(name: &'static str, variable: &'static str) -> Key {
    Key { list: true, ..key(name, variable) }
}

/// Every setting of the gateway.
const SETTINGS: [Key; 21] = [
    secret("store", "ROLLCALL_STORE"),
    secret("admin_token", "ROLLCALL_ADMIN_TOKEN"),
    key("keys_file", "ROLLCALL_KEYS_FILE"),
    key("redis_ca_file", "ROLLCALL_REDIS_CA_FILE"),
    key("redis_replicas", "ROLLCALL_REDIS_REPLICAS"),
    key("listen", "ROLLCALL_LISTEN"),
    key("public_url", "ROLLCALL_PUBLIC_URL"),
    key("tls_cert_file", "ROLLCALL_TLS_CERT_FILE"),
    key("tls_key_file", "ROLLCALL_TLS_KEY_FILE"),
    list("egress_allow", "ROLLCALL_EGRESS_ALLOW"),
    secret("egress_proxy", "ROLLCALL_EGRESS_PROXY"),
    key("connectors_dir", "ROLLCALL_CONNECTORS_DIR"),
    key("oauth_apps_file", "ROLLCALL_OAUTH_APPS_FILE"),
    key("max_in_flight", "ROLLCALL_MAX_IN_FLIGHT"),
    key("token_limit", "ROLLCALL_TOKEN_LIMIT"),
    key("account_limit", "ROLLCALL_ACCOUNT_LIMIT"),
    key("audit_days", "ROLLCALL_AUDIT_DAYS"),
    key("audit_passthrough", "ROLLCALL_AUDIT_PASSTHROUGH"),
    key("probe_every", "ROLLCALL_PROBE_EVERY"),
    key("log", "ROLLCALL_LOG"),
    key("log_format", "ROLLCALL_LOG_FORMAT"),
];

/// What the command line needs to reach a running gateway.
pub(super) const REMOTE: [Key; 2] = [key("url", "ROLLCALL_URL"), secret("token", "ROLLCALL_TOKEN")];

/// The variables of every setting.
pub fn variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|key| key.variable)
}

/// Variables that are ours without being settings.
const OTHERS: [&str; 2] = ["ROLLCALL_CONFIG", "ROLLCALL_TEST_LONG"];
/// What Kubernetes sets in every container when a service is called `rollcall`.
const OF_KUBERNETES: [&str; 2] = ["ROLLCALL_SERVICE_", "ROLLCALL_PORT"];

/// The environment, injected so that tests need no process of their own.
pub struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    names: Vec<String>,
}

impl<'a> Environment<'a> {
    /// An environment by its look-up and the names it has.
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>, names: Vec<String>) -> Self {
        Self { get, names }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.get)(name)
    }
}

impl Environment<'static> {
    /// The process's own.
    pub fn of_process() -> Self {
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        Environment::new(&variable, names)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value),
        Err(std::env::VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
        Err(std::env::VarError::NotPresent) => None,
    }
}

/// Where each given setting came from, the winner first.
pub(super) type Sources = Vec<(&'static str, Source)>;

/// A value and where it came from. Kept as a secret, since some are.
#[derive(Clone)]
pub(super) struct Given {
    source: Source,
    text: Secret,
}

impl Given {
    /// The value, for checks that never put a secret into their message.
    pub(super) fn text(&self) -> &str {
        self.text.expose()
    }

    /// The value, to be kept.
    pub(super) fn secret(&self) -> Secret {
        self.text.clone()
    }
}

/// What was given, the winner of each setting, and every mistake so far.
#[derive(Default)]
pub(super) struct Layers {
    given: Vec<(&'static str, Given)>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Layers {
    /// Reads all layers.
    pub(super) fn read(args: &GlobalArgs, environment: &Environment<'_>) -> Layers {
        let mut layers = Layers::default();
        if let Some(path) = &args.config {
            layers.add_file(path, Source::Flag("--config"));
        } else if let Some(path) = environment.get("ROLLCALL_CONFIG").filter(|path| !path.is_empty()) {
            layers.add_file(Path::new(&path), Source::Variable("ROLLCALL_CONFIG".to_owned()));
        }
        layers.add_environment(environment, &SETTINGS);
        layers.warn_of_unknown(environment);
        layers.add_flags(args);
        layers
    }

    /// Reads only the environment.
    pub(super) fn of_environment(environment: &Environment<'_>, keys: &'static [Key]) -> Layers {
        let mut layers = Layers::default();
        layers.add_environment(environment, keys);
        layers
    }

    /// The winning value of a setting, checked; a failed check is a mistake at the value's source.
    pub(super) fn checked<T>(&mut self, key: &str, check: impl Fn(&Given) -> Result<T, String>) -> Option<T> {
        let given = self.given.iter().rev().find(|(name, _)| *name == key).map(|(_, given)| given.clone())?;
        check(&given).map_err(|text| self.mistake(given.source, &text)).ok()
    }

    /// Whether nobody gave the setting.
    pub(super) fn absent(&self, key: &str) -> bool {
        !self.given.iter().any(|(name, _)| *name == key)
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, source: Source, text: &str) {
        self.mistakes.push(Mistake { source, text: text.to_owned() });
    }

    /// Notes an oddity.
    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// The source of each given setting and the warnings; or every mistake.
    pub(super) fn finish(self) -> Result<(Sources, Vec<String>), ConfigError> {
        if !self.mistakes.is_empty() {
            return Err(ConfigError { mistakes: self.mistakes, warnings: self.warnings });
        }
        Ok((self.given.into_iter().rev().map(|(key, given)| (key, given.source)).collect(), self.warnings))
    }

    fn give(&mut self, key: &'static str, source: Source, text: Secret) {
        self.given.push((key, Given { source, text }));
    }

    fn add_flags(&mut self, args: &GlobalArgs) {
        if let Some(store) = &args.store {
            self.give("store", Source::Flag("--store"), store.clone());
        }
        let texts = [
            ("listen", "--listen", &args.listen),
            ("public_url", "--public-url", &args.public_url),
            ("tls_cert_file", "--tls-cert-file", &args.tls_cert_file),
            ("tls_key_file", "--tls-key-file", &args.tls_key_file),
            ("connectors_dir", "--connectors-dir", &args.connectors_dir),
            ("keys_file", "--keys-file", &args.keys_file),
            ("redis_ca_file", "--redis-ca-file", &args.redis_ca_file),
            ("egress_allow", "--egress-allow", &args.egress_allow),
            ("log", "--log", &args.log),
            ("log_format", "--log-format", &args.log_format),
        ];
        for (key, flag, text) in texts {
            if let Some(text) = text {
                self.give(key, Source::Flag(flag), Secret::new(text.clone()));
            }
        }
    }

    /// An empty variable counts as not set: container files often pass on variables they do not have.
    fn add_environment(&mut self, environment: &Environment<'_>, keys: &'static [Key]) {
        for key in keys {
            let plain = environment.get(key.variable).filter(|text| !text.is_empty());
            let name = format!("{}_FILE", key.variable);
            let file = if key.secret { environment.get(&name).filter(|text| !text.is_empty()) } else { None };
            if plain.is_some() && file.is_some() {
                let text = format!("`{}` is set too; set only one of them", key.variable);
                self.mistake(Source::Variable(name.clone()), &text);
            }
            if let Some(text) = plain {
                self.give(key.name, Source::Variable(key.variable.to_owned()), Secret::new(text));
            } else if let Some(path) = file {
                self.add_secret_file(key.name, Source::Variable(name), Path::new(&path));
            }
        }
    }

    /// Takes the first line of a file as a setting's value.
    fn add_secret_file(&mut self, key: &'static str, source: Source, path: &Path) {
        match fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => self.mistake(source, &format!("the file `{}` is empty", path.display())),
            Ok(text) if text.trim().contains('\n') => {
                self.mistake(
                    source,
                    &format!("the file `{}` has more than one line; it must hold the value alone", path.display()),
                );
            }
            Ok(text) => self.give(key, source, Secret::new(text.trim().to_owned())),
            Err(error) => self.mistake(source, &format!("the file `{}` cannot be read: {error}", path.display())),
        }
    }

    fn warn_of_unknown(&mut self, environment: &Environment<'_>) {
        let known = || SETTINGS.iter().chain(&REMOTE);
        let mut names: Vec<String> = OTHERS.map(str::to_owned).into();
        names.extend(known().map(|key| key.variable.to_owned()));
        names.extend(known().filter(|key| key.secret).map(|key| format!("{}_FILE", key.variable)));
        for name in environment.names.iter().filter(|name| name.starts_with("ROLLCALL_")) {
            if names.contains(name) || OF_KUBERNETES.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            let nearest = nearest(name, names.iter().map(String::as_str)).unwrap_or_default();
            self.warn(format!("the variable {name} is not one of Rollcall's and has no effect; did you mean {nearest}?"));
        }
    }

    fn add_file(&mut self, path: &Path, named_by: Source) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.mistake(named_by, &format!("the file `{}` cannot be read: {error}", path.display())),
        };
        let at = |offset: usize, key: Option<&str>| Source::File {
            path: path.display().to_string(),
            line: Some(text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1),
            key: key.map(str::to_owned),
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            self.mistake(at(error.span().map_or(0, |span| span.start), None), &format!("is not TOML here: {}", error.message()));
        }
        if errors.is_empty() {
            for (key, value) in table.get_ref() {
                self.add_line(key.get_ref(), value, at(key.span().start, Some(key.get_ref())), table.get_ref());
            }
        }
        let inline = |given: &Given, name: &str| matches!(&given.source, Source::File { key: Some(key), .. } if key == name);
        let holds_secret = self.given.iter().any(|(name, given)| match *name {
            "admin_token" => inline(given, name),
            "store" | "egress_proxy" => inline(given, name) && given.text().contains('@'),
            _ => false,
        });
        if holds_secret && fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
            self.warn(format!("`{0}` holds a secret and can be read by others; run `chmod 600 {0}`", path.display()));
        }
    }

    fn add_line(&mut self, name: &str, value: &Spanned<DeValue<'_>>, source: Source, table: &DeTable<'_>) {
        let bare = name.strip_suffix("_file").unwrap_or(name);
        let exact = SETTINGS.iter().find(|key| key.name == name);
        let of_file = SETTINGS.iter().find(|key| key.secret && key.name == bare);
        match (exact.or(of_file), value.get_ref()) {
            (None, _) => {
                let names = SETTINGS.iter().map(|key| key.name);
                let nearest = nearest(name, names).unwrap_or_default();
                self.mistake(source, &format!("there is no such setting; did you mean `{nearest}`?"));
            }
            (Some(key), DeValue::String(text)) if exact.is_some() => {
                if key.secret && table.keys().any(|other| other.get_ref().strip_suffix("_file") == Some(name)) {
                    self.mistake(source, &format!("`{name}_file` is given too; give only one of them"));
                } else {
                    self.give(key.name, source, Secret::new(text.clone().into_owned()));
                }
            }
            (Some(key), DeValue::Array(entries)) if key.list => match texts(entries) {
                Some(texts) => self.give(key.name, source, Secret::new(texts.join(","))),
                None => self.mistake(source, "must hold texts in quotes only"),
            },
            (Some(key), value) if exact.is_some() && !key.secret && plain(value).is_some() => {
                self.give(key.name, source, Secret::new(plain(value).unwrap_or_default()));
            }
            (Some(key), DeValue::String(path)) => self.add_secret_file(key.name, source, Path::new(path.as_ref())),
            (Some(_), other) => {
                self.mistake(source, &format!("must be a text in quotes, not a value of type {}", other.type_str()))
            }
        }
    }
}

/// A number or a truth value as a text.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The elements, if all of them are texts.
fn texts<'v>(entries: &'v DeArray<'_>) -> Option<Vec<&'v str>> {
    let text = |entry: &'v Spanned<DeValue<'_>>| match entry.get_ref() {
        DeValue::String(text) => Some(text.as_ref()),
        _ => None,
    };
    entries.iter().map(text).collect()
}

/// The name with the fewest changed letters.
fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among.min_by_key(|candidate| distance(name, candidate))
}
