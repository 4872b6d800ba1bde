//! `rollcall demo`: the gateway with sandbox vendors, linked and ready to be called.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Failure, print_data, print_json,
    serve::{Running, reachable, start_logs, workers},
    settings,
    signals::Signals,
};
use crate::{
    config::{GlobalArgs, Purpose, Settings},
    error::Error,
    http::ui::link::PLACE,
    model::{Account, AccountId, EnvironmentId, Resource, Scope, Scopes, Secret},
    sandbox::{self, Kind, Sandbox},
    service::{IfThere, ListAccounts, ListQuery, ListTokens, NewAccount, NewToken, Services, link::NewLink},
    vault::{TokenText, harden_process},
};

/// The name of the demo's own token; one of an earlier start is ended by it.
const TOKEN_NAME: &str = "rollcall demo";
/// The customer of the accounts that whoever tries the demo links.
const OWN_TENANT: &str = "my-first-customer";
/// How long the link of the demo can be used, seconds: as long as any.
const LINK_LIFE: i64 = 24 * 60 * 60;

/// Where the demo listens and what it keeps.
#[derive(Args)]
pub struct DemoArgs {
    /// Port on 127.0.0.1, 8080 when nothing says where to listen; 0 chooses a free one
    #[arg(long)]
    port: Option<u16>,
    /// Keep the state in this folder; a temporary one when left out
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// One account of the demo.
struct Linked {
    id: AccountId,
    integration: String,
    tenant_id: String,
}

/// Runs the demo until a signal.
pub async fn demo(args: DemoArgs, global: GlobalArgs) -> Result<(), Failure> {
    refuse_what_has_no_effect(&args, &global)?;
    let mut signals = Signals::watch()?;
    let temporary = TemporaryFolder::unless(args.data.as_deref())?;
    let folder = args.data.clone().unwrap_or_else(|| temporary.0.clone());
    let settings = settings_of(&args, &global, &folder)?;
    start_logs(&settings)?;
    let _ = harden_process();
    let mut running = tokio::select! {
        started = start(&settings, global.json) => started?,
        () = signals.one() => return Ok(()),
    };
    let ended = running.serve_until_signal(&mut signals).await;
    let stopped = running.stop().await;
    ended.and(stopped)
}

/// What is the demo's own is not the operator's to set.
fn refuse_what_has_no_effect(args: &DemoArgs, global: &GlobalArgs) -> Result<(), Failure> {
    if args.port.is_some() && global.listen.is_some() {
        return Err(Failure::Usage("`--port` and `--listen` say the same; give one of them".to_owned()));
    }
    let given = [
        ("--store", global.store.is_some()),
        ("--keys-file", global.keys_file.is_some()),
        ("--redis-ca-file", global.redis_ca_file.is_some()),
        ("--public-url", global.public_url.is_some()),
        ("--tls-cert-file", global.tls_cert_file.is_some()),
        ("--tls-key-file", global.tls_key_file.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(Failure::Usage(format!(
            "`demo` takes no `{flag}`: it keeps its store and key ring in a temporary folder, or in `--data DIR`, and is called \
             where it listens"
        ))),
        None => Ok(()),
    }
}

/// The operator's settings with a store, a key ring and an address of the demo's own.
fn settings_of(args: &DemoArgs, global: &GlobalArgs, folder: &std::path::Path) -> Result<Settings, Failure> {
    let mut own = global.clone();
    let store = folder.join("store");
    own.keys_file = Some(store.with_extension("keys").display().to_string());
    own.store = Some(Secret::new(format!("embedded:{}", store.display())));
    own.log.get_or_insert_with(|| "warn".to_owned());
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    own.listen = own.listen.or_else(|| args.port.map(|port| here(port).to_string()));
    let mut settings = settings(&own, Purpose::Tool)?;
    if settings.source("listen").is_none() {
        // `PORT` alone would open it to other machines.
        settings.listen = here(8080);
    }
    settings.public_url = None;
    settings.tls = None;
    Ok(settings)
}

/// Starts the gateway and its sandbox vendors, links them, and says how to call it.
async fn start(settings: &Settings, json: bool) -> Result<Running, Failure> {
    let listener = TcpListener::bind(settings.listen).map_err(|why| {
        Failure::Failed(format!(
            "cannot listen on {}: {why}; choose another with --port, or --port 0 for a free one",
            settings.listen
        ))
    })?;
    let base_url = format!("http://{}", reachable(listener.local_addr()?));
    eprintln!("Starting on {base_url} and linking the sandbox vendors …");
    let mut sandboxes = Vec::new();
    for kind in Kind::ALL {
        let (sandbox, server) = sandbox::start(*kind)?;
        actix_web::rt::spawn(server);
        sandboxes.push((*kind, sandbox));
    }
    let egress: Vec<String> = sandboxes.iter().map(|(_, sandbox)| sandbox.addr.to_string()).collect();
    let mut running = Running::start(settings, listener, None, None, &egress, workers()).await?;
    let (services, environment) = (&running.core.services, running.core.environment);
    let token = new_token(services, environment).await?;
    let mut accounts = Vec::new();
    for (kind, sandbox) in &sandboxes {
        accounts.push(link(services, environment, *kind, sandbox).await?);
    }
    if json {
        let list: Vec<Value> =
            accounts.iter().map(|a| json!({"id": a.id, "integration": a.integration, "tenant_id": a.tenant_id})).collect();
        print_json(&json!({"base_url": base_url, "token": token.expose(), "accounts": list}))?;
    } else {
        let lines = curl_lines(services, environment, &base_url, &token, &accounts).await?;
        let own = own_link_lines(services, environment, &base_url, &token, &sandboxes).await?;
        print_data(&format!("{lines}\n\n{own}\n\nCtrl-C ends it."))?;
    }
    running.start_jobs();
    Ok(running)
}

/// An API token as any other. Its text cannot be read again, so a kept store gets a new one at each start.
async fn new_token(services: &Services, environment: EnvironmentId) -> Result<TokenText, Error> {
    let old = ListTokens { name: Some(TOKEN_NAME.to_owned()), limit: 5_000, ..ListTokens::default() };
    for old in services.tokens.list(environment, old).await?.0 {
        services.tokens.revoke(environment, &old.token.id.to_string()).await?;
    }
    let new = NewToken { name: TOKEN_NAME.to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None };
    Ok(services.tokens.create(environment, new).await?.1)
}

/// Links a sandbox, keeping the account's id from an earlier start.
async fn link(services: &Services, environment: EnvironmentId, kind: Kind, sandbox: &Sandbox) -> Result<Linked, Error> {
    let (connector, method, tenant_id) = kind.link();
    let filter =
        ListAccounts { integration: Some(connector.to_owned()), is_sandbox: Some(true), limit: 1, ..ListAccounts::default() };
    let kept: Option<Account> = services.accounts.list(environment, filter).await?.0.into_iter().next();
    let fields = kind.fields(sandbox).into_iter();
    let context: Map<String, Value> = fields.map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    let new = NewAccount {
        tenant_id: tenant_id.to_owned(),
        integration: connector.to_owned(),
        authentication_method: method.to_owned(),
        context,
        is_sandbox: true,
        id: kept.map(|account| account.id),
        grant: None,
        if_there: IfThere::LinkedAnew,
    };
    let (account, _) = services.accounts.import(environment, new).await?;
    Ok(Linked { id: account.id, integration: account.connector.to_string(), tenant_id: account.tenant_id })
}

async fn curl_lines(
    services: &Services,
    environment: EnvironmentId,
    base_url: &str,
    token: &TokenText,
    accounts: &[Linked],
) -> Result<String, Failure> {
    let first = accounts.first().ok_or_else(|| Failure::Failed("no sandbox was linked".to_owned()))?;
    let linked = services.accounts.open(environment, &first.id.to_string()).await?;
    let query = ListQuery { limit: Some(5), ..ListQuery::default() };
    let page = services.directory.list(&linked, Resource::User, None, query).await?;
    let cursor = page.next_cursor.unwrap_or_default();
    let curl = format!("curl -s -H 'Authorization: Bearer {}'", token.expose());
    let users = format!("{base_url}/unified/user-directory/users?integrated_account_id={}&limit=5", first.id);
    let scim = accounts.iter().find(|account| account.integration == "scim").unwrap_or(first);
    let passthrough = format!("{base_url}/passthrough/{}/Users?count=2", scim.id);
    let mut lines =
        format!("Rollcall listens on {base_url} with sandbox vendors. Token: {}\n\nLinked accounts:\n", token.expose());
    for account in accounts {
        lines.push_str(&format!("  {}  {}  ({})\n", account.id, account.integration, account.tenant_id));
    }
    lines.push_str(&format!(
        "\n# users\n{curl} '{users}'\n\n# next page\n{curl} '{users}&next_cursor={cursor}'\n\n# groups\n{curl} '{base_url}/unified/user-directory/groups?integrated_account_id={}'\n\n# the vendor's own API, credential injected\n{curl} '{passthrough}'",
        first.id
    ));
    Ok(lines)
}

/// What links one more account by hand, and the page on which a customer does.
async fn own_link_lines(
    services: &Services,
    environment: EnvironmentId,
    base_url: &str,
    token: &TokenText,
    sandboxes: &[(Kind, Sandbox)],
) -> Result<String, Failure> {
    let last = sandboxes.last().ok_or_else(|| Failure::Failed("no sandbox was started".to_owned()))?;
    let (integration, method, _) = last.0.link();
    let context: Map<String, Value> =
        last.0.fields(&last.1).into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    let body = json!({"tenant_id": OWN_TENANT, "integration": integration, "authentication_method": method, "context": context});
    let new = NewLink { tenant_id: Some(OWN_TENANT.to_owned()), expires_in: Some(LINK_LIFE), ..NewLink::default() };
    let link = services.links.create(environment, new).await?.text;
    Ok(format!(
        "# link one more yourself\ncurl -s -X POST -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{body}' \
         '{base_url}/integrated-account'\n\n# the page your customers see (address and token as above)\n{base_url}{PLACE}?link_token={}",
        token.expose(),
        link.expose()
    ))
}

/// A folder that goes with the demo.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn unless(given: Option<&std::path::Path>) -> Result<TemporaryFolder, Failure> {
        let folder = std::env::temp_dir().join(format!("rollcall-demo-{}", uuid::Uuid::now_v7()));
        if given.is_none() {
            std::fs::create_dir(&folder)?;
        }
        Ok(TemporaryFolder(folder))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
