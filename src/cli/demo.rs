//! `rollcall demo`: the gateway with sandbox vendors, linked and ready to be called.

use std::{net::TcpListener, path::PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Failure, print_data, print_json,
    serve::{Running, random_text, start_logs},
    settings,
};
use crate::{
    config::{GlobalArgs, Purpose},
    error::Error,
    model::{Account, AccountId, EnvironmentId, Resource, Secret},
    sandbox::{self, Kind, Sandbox},
    service::{ListAccounts, ListQuery, NewAccount, Services},
    vault::harden_process,
};

/// Where the demo listens and what it keeps.
#[derive(Args)]
pub struct DemoArgs {
    /// Port on 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
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
pub async fn demo(args: DemoArgs, mut global: GlobalArgs) -> Result<(), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", args.port)).map_err(|why| {
        Failure::Failed(format!(
            "cannot listen on 127.0.0.1:{}: {why}; choose another with --port, or --port 0 for a free one",
            args.port
        ))
    })?;
    let temporary = TemporaryFolder::unless(args.data.as_deref())?;
    let folder = args.data.as_deref().unwrap_or(&temporary.0);
    global.store = Some(Secret::new(format!("embedded:{}", folder.join("store").display())));
    global.keys_file = None;
    global.log.get_or_insert_with(|| "warn".to_owned());
    let json = global.json;
    let settings = settings(&global, Purpose::Tool)?;
    start_logs(&settings)?;
    let _ = harden_process();
    let token = random_text();
    let base_url = format!("http://{}", listener.local_addr()?);
    let mut sandboxes = Vec::new();
    for kind in Kind::ALL {
        let (sandbox, server) = sandbox::start(*kind)?;
        actix_web::rt::spawn(server);
        sandboxes.push((*kind, sandbox));
    }
    let egress: Vec<String> = sandboxes.iter().map(|(_, sandbox)| sandbox.addr.to_string()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut running = Running::start(&settings, listener, None, Some(&token), &egress, workers).await?;
    let services = running.core.services.clone();
    let environment = running.core.environment;
    let mut accounts = Vec::new();
    for (kind, sandbox) in &sandboxes {
        accounts.push(link(&services, environment, *kind, sandbox).await?);
    }
    if json {
        let list: Vec<Value> =
            accounts.iter().map(|a| json!({"id": a.id, "integration": a.integration, "tenant_id": a.tenant_id})).collect();
        print_json(&json!({"base_url": base_url, "token": token.expose(), "accounts": list}))?;
    } else {
        let lines = curl_lines(&services, environment, &base_url, &token, &accounts).await?;
        print_data(&lines)?;
    }
    let ended = running.serve_until_signal().await;
    let stopped = running.stop().await;
    ended.and(stopped)
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
    };
    let (account, _) = services.accounts.import(environment, new).await?;
    Ok(Linked { id: account.id, integration: account.connector.to_string(), tenant_id: account.tenant_id })
}

async fn curl_lines(
    services: &Services,
    environment: EnvironmentId,
    base_url: &str,
    token: &Secret,
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
        "\n# users\n{curl} '{users}'\n\n# next page\n{curl} '{users}&next_cursor={cursor}'\n\n# groups\n{curl} '{base_url}/unified/user-directory/groups?integrated_account_id={}'\n\n# the vendor's own API, credential injected\n{curl} '{passthrough}'\n\nCtrl-C ends it.",
        first.id
    ));
    Ok(lines)
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
