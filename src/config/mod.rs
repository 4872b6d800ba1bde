//! Settings: defaults, then a TOML file, then the environment, then flags. Every mistake is reported at once, each with
//! where it stands and what to do.

mod bounds;
mod layers;
mod mistake;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tracing_subscriber::EnvFilter;
use url::Url;

use self::layers::{Given, Layers};
pub use self::{
    layers::{Environment, variables},
    mistake::{ConfigError, Mistake, Source},
};
use crate::{
    model::{Rate, Secret},
    store::redis::RedisUrl,
    upstream::{Allow, EgressProxy},
};

/// The web server's own lines about its workers tell an operator nothing.
const DEFAULT_LOG: &str = "info,actix_server=warn";

/// Options every command takes; they stand above the file and the environment.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Settings")]
pub struct GlobalArgs {
    /// TOML file with settings [env: ROLLCALL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept: `embedded:DIR` or an address such as `redis://…` [env: ROLLCALL_STORE]
    #[arg(long, global = true, value_name = "STORE", value_parser = secret)]
    pub store: Option<Secret>,
    /// Address and port to listen on [env: ROLLCALL_LISTEN]
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address callers use, for example `https://rollcall.example.com` [env: ROLLCALL_PUBLIC_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// PEM file of the certificate shown to callers, with those that vouch for it; https instead of http then
    /// [env: ROLLCALL_TLS_CERT_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert_file: Option<String>,
    /// PEM file of its private key [env: ROLLCALL_TLS_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key_file: Option<String>,
    /// Folder whose connectors replace the built-in ones of the same name [env: ROLLCALL_CONNECTORS_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub connectors_dir: Option<String>,
    /// Key ring file, mode 0600 [env: ROLLCALL_KEYS_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub keys_file: Option<String>,
    /// PEM file of the authority that signed Redis' certificate [env: ROLLCALL_REDIS_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub redis_ca_file: Option<String>,
    /// Private addresses vendors may have: comma list of `host:port` and CIDR; an array in the file [env: ROLLCALL_EGRESS_ALLOW]
    #[arg(long, global = true, value_name = "LIST")]
    pub egress_allow: Option<String>,
    /// What is logged, for example `info` or `rollcall=debug` [env: ROLLCALL_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: `json` or `text` [env: ROLLCALL_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Data as JSON on the standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// What a command is about to do; it decides which settings it cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Answering callers.
    Serve,
    /// Any command that only needs the store.
    Tool,
}

/// Where everything is kept.
#[derive(Clone)]
pub enum StoreSetting {
    /// In a folder of this machine.
    Embedded(PathBuf),
    /// In Redis; the address may hold a password.
    Redis(Secret),
}

/// What makes our own door https.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Everything an operator can set, checked.
pub struct Settings {
    /// Where everything is kept.
    pub store: StoreSetting,
    /// The authority of Redis' certificate.
    pub redis_ca_file: Option<PathBuf>,
    /// Replicas of Redis that must have a durable write before it is acknowledged.
    pub redis_replicas: u8,
    /// The key ring.
    pub keys_file: PathBuf,
    /// Whether the operator named the key ring; one that was not named is made when the store is new.
    pub keys_file_given: bool,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The address callers use: scheme, host and port.
    pub public_url: Option<Url>,
    /// Certificate and private key of our own door; plain http without.
    pub tls: Option<TlsFiles>,
    /// The first administrator's token.
    pub admin_token: Option<Secret>,
    /// The private addresses vendors may have.
    pub egress_allow: Allow,
    /// The proxy that every call to a vendor goes through.
    pub egress_proxy: Option<EgressProxy>,
    /// The folder laid over the built-in connectors.
    pub connectors_dir: Option<PathBuf>,
    /// The operator's OAuth apps, one for each connector that needs one.
    pub oauth_apps_file: Option<PathBuf>,
    /// Requests under way at once, in this process.
    pub max_in_flight: usize,
    /// What each token may ask.
    pub token_limit: Option<Rate>,
    /// What may be asked of each account.
    pub account_limit: Option<Rate>,
    /// How long entries of the audit log are kept; for ever without.
    pub audit_life: Option<Duration>,
    /// Whether writing calls of the passthrough stand in the audit log.
    pub audit_passthrough: bool,
    /// How often each account is looked at without a caller; not at all when there is none.
    pub probe_every: Option<Duration>,
    /// The log filter.
    pub log: String,
    /// The log form.
    pub log_format: LogFormat,
    /// What is odd but does not stop the start; to be logged.
    pub warnings: Vec<String>,
    sources: layers::Sources,
}

/// A running gateway the command line talks to.
pub struct Remote {
    /// Its address.
    pub url: Url,
    /// A token of it.
    pub token: Secret,
}

impl Settings {
    /// Reads and checks everything.
    pub fn load(args: &GlobalArgs, environment: &Environment<'_>, purpose: Purpose) -> Result<Settings, ConfigError> {
        let mut layers = Layers::read(args, environment);
        let store = layers.checked("store", store).unwrap_or(StoreSetting::Embedded(PathBuf::from("./rollcall-data")));
        let keys_file = layers.checked("keys_file", path);
        let redis_ca_file = layers.checked("redis_ca_file", existing_file);
        let tls = tls_files(&mut layers);
        let listen = layers.checked("listen", listen).or_else(|| port(&mut layers, environment));
        let settings = Settings {
            keys_file_given: keys_file.is_some(),
            keys_file: keys_file.or_else(|| default_keys_file(&store, &mut layers)).unwrap_or_default(),
            redis_ca_file,
            redis_replicas: layers.checked("redis_replicas", bounds::replicas).unwrap_or(0),
            listen: listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
            public_url: layers.checked("public_url", public_url),
            tls,
            admin_token: layers.checked("admin_token", admin_token),
            egress_allow: layers.checked("egress_allow", |given| Allow::parse(given.text())).unwrap_or_default(),
            egress_proxy: layers.checked("egress_proxy", |given| EgressProxy::parse(given.text())),
            connectors_dir: layers.checked("connectors_dir", existing_folder),
            oauth_apps_file: layers.checked("oauth_apps_file", existing_file),
            max_in_flight: layers.checked("max_in_flight", bounds::in_flight).unwrap_or(bounds::IN_FLIGHT),
            token_limit: layers.checked("token_limit", bounds::rate),
            account_limit: layers.checked("account_limit", bounds::rate),
            audit_life: layers.checked("audit_days", bounds::days),
            audit_passthrough: layers.checked("audit_passthrough", passing).unwrap_or(false),
            probe_every: layers.checked("probe_every", bounds::probe_every).unwrap_or(Some(bounds::PROBE_EVERY)),
            log: layers.checked("log", log_filter).unwrap_or_else(|| DEFAULT_LOG.to_owned()),
            log_format: layers.checked("log_format", log_format).unwrap_or(LogFormat::Json),
            warnings: Vec::new(),
            sources: Vec::new(),
            store,
        };
        settings.agree(&mut layers, purpose);
        let (sources, warnings) = layers.finish()?;
        Ok(Settings { warnings, sources, ..settings })
    }

    /// Where a setting's value came from, for messages about it; `None` when it is the default.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.sources.iter().find(|(name, _)| *name == key).map(|(_, source)| source)
    }

    /// The `Host` that callers send, when the public address is known.
    pub fn public_host(&self) -> Option<String> {
        let url = self.public_url.as_ref()?;
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// What only several settings together can get wrong.
    fn agree(&self, layers: &mut Layers, purpose: Purpose) {
        let redis = matches!(self.store, StoreSetting::Redis(_));
        if redis && purpose == Purpose::Serve && layers.absent("admin_token") {
            layers.mistake(
                Source::Missing("ROLLCALL_ADMIN_TOKEN"),
                "with Redis the first administrator's token must be given (32 characters or more; `openssl rand -hex 32` makes \
                 one), here or as a file in `ROLLCALL_ADMIN_TOKEN_FILE`",
            );
        }
        if self.redis_ca_file.is_some() && !self.store.is_tls() {
            layers.warn("`redis_ca_file` is given, but the store is not reached over TLS (`rediss…`); it is not used".to_owned());
        }
        if self.redis_replicas > 0 && !redis {
            layers.warn("`redis_replicas` is given, but the store is not Redis; it is not used".to_owned());
        }
    }
}

impl StoreSetting {
    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, StoreSetting::Redis(address) if address.expose().starts_with("rediss"))
    }
}

/// Without user, password and query, so that it can be logged.
impl fmt::Display for StoreSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreSetting::Embedded(folder) => write!(f, "embedded:{}", folder.display()),
            StoreSetting::Redis(address) => {
                let (scheme, rest) = address.expose().split_once("://").unwrap_or(("redis", ""));
                let rest = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
                write!(f, "{scheme}://{}", rest.split(['?', '#']).next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for StoreSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Remote {
    /// The gateway named by `ROLLCALL_URL` and `ROLLCALL_TOKEN` (or `ROLLCALL_TOKEN_FILE`); none when neither is set.
    pub fn load(environment: &Environment<'_>) -> Result<Option<Remote>, ConfigError> {
        let mut layers = Layers::of_environment(environment, &layers::REMOTE);
        let url = layers.checked("url", public_url);
        let token = layers.checked("token", |given| Ok(given.secret()));
        if layers.absent("url") != layers.absent("token") {
            let missing = if layers.absent("url") { "ROLLCALL_URL" } else { "ROLLCALL_TOKEN" };
            layers
                .mistake(Source::Missing(missing), "`ROLLCALL_URL` and `ROLLCALL_TOKEN` only work together; set both or neither");
        }
        layers.finish()?;
        Ok(url.zip(token).map(|(url, token)| Remote { url, token }))
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn store(given: &Given) -> Result<StoreSetting, String> {
    const SCHEMES: [&str; 6] = ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];
    let text = given.text();
    if let Some(folder) = text.strip_prefix("embedded:") {
        return match folder {
            "" => Err("`embedded:` needs a folder, for example `embedded:./rollcall-data`".to_owned()),
            _ => Ok(StoreSetting::Embedded(PathBuf::from(folder))),
        };
    }
    match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() => {
            RedisUrl::parse(text).map(|_| StoreSetting::Redis(given.secret()))
        }
        _ => Err(format!(
            "must be `embedded:DIR` or an address that starts with one of {}",
            SCHEMES.map(|s| format!("`{s}://`")).join(", ")
        )),
    }
}

fn default_keys_file(store: &StoreSetting, layers: &mut Layers) -> Option<PathBuf> {
    let StoreSetting::Embedded(folder) = store else {
        let text = "with Redis a key ring must be given: the same file on every node, mode 0600";
        if layers.absent("keys_file") {
            layers.mistake(Source::Missing("ROLLCALL_KEYS_FILE"), text);
        }
        return None;
    };
    let Some(name) = folder.file_name() else {
        layers.mistake(
            Source::Missing("ROLLCALL_KEYS_FILE"),
            "the store's folder has no name to call the key file after; give one",
        );
        return None;
    };
    let mut name = name.to_owned();
    name.push(".keys");
    Some(folder.with_file_name(name))
}

/// Both files or none.
fn tls_files(layers: &mut Layers) -> Option<TlsFiles> {
    let certificate = layers.checked("tls_cert_file", existing_file);
    let key = layers.checked("tls_key_file", existing_file);
    if layers.absent("tls_cert_file") != layers.absent("tls_key_file") {
        let missing = if layers.absent("tls_cert_file") { "ROLLCALL_TLS_CERT_FILE" } else { "ROLLCALL_TLS_KEY_FILE" };
        layers.mistake(Source::Missing(missing), "a certificate and its private key only work together; set both or neither");
    }
    certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key })
}

fn port(layers: &mut Layers, environment: &Environment<'_>) -> Option<SocketAddr> {
    let text = environment.get("PORT").filter(|text| layers.absent("listen") && !text.is_empty())?;
    let port = text.parse().ok().map(|port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    if port.is_none() {
        layers.mistake(
            Source::Variable("PORT".to_owned()),
            "must be a port number from 0 to 65535; or set `ROLLCALL_LISTEN`, which wins",
        );
    }
    port
}

fn listen(given: &Given) -> Result<SocketAddr, String> {
    given.text().parse().map_err(|_| {
        format!(
            "`{}` is not an IP address and a port; write for example `127.0.0.1:8080`, `0.0.0.0:8080` or `[::]:8080`",
            given.text()
        )
    })
}

fn public_url(given: &Given) -> Result<Url, String> {
    let advice = "write scheme and host only, for example `https://rollcall.example.com`";
    let url = Url::parse(given.text()).map_err(|error| format!("is not an address ({error}); {advice}"))?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        Err(format!("must start with `https://` or `http://`; {advice}"))
    } else if !bare || url.path() != "/" {
        Err(format!("has more than scheme, host and port; {advice}"))
    } else {
        Ok(url)
    }
}

fn admin_token(given: &Given) -> Result<Secret, String> {
    let text = given.text();
    if text.chars().count() < 32 {
        Err("is shorter than 32 characters; `openssl rand -hex 32` makes a good one".to_owned())
    } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
        Err("must be printable ASCII without spaces, because it is sent in a header".to_owned())
    } else {
        Ok(given.secret())
    }
}

fn log_filter(given: &Given) -> Result<String, String> {
    match EnvFilter::try_new(given.text()) {
        Ok(_) => Ok(given.text().to_owned()),
        Err(error) => Err(format!("is not a log filter ({error}); write for example `info` or `info,rollcall=debug`")),
    }
}

fn log_format(given: &Given) -> Result<LogFormat, String> {
    match given.text() {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        other => Err(format!("`{other}` is not a log format; write `json` or `text`")),
    }
}

fn passing(given: &Given) -> Result<bool, String> {
    match given.text() {
        "off" => Ok(false),
        "writes" => Ok(true),
        other => Err(format!("`{other}` says nothing of the passthrough's calls; write `off` or `writes`")),
    }
}

fn path(given: &Given) -> Result<PathBuf, String> {
    Ok(PathBuf::from(given.text()))
}

fn existing_file(given: &Given) -> Result<PathBuf, String> {
    let path = Path::new(given.text());
    if path.is_file() { Ok(path.to_owned()) } else { Err(format!("there is no file `{}`", path.display())) }
}

fn existing_folder(given: &Given) -> Result<PathBuf, String> {
    let path = Path::new(given.text());
    if path.is_dir() { Ok(path.to_owned()) } else { Err(format!("there is no folder `{}`", path.display())) }
}
