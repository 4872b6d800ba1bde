//! `rollcall link`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing},
    print_data, print_json,
};
use crate::config::GlobalArgs;

/// A link for one customer.
#[derive(Args)]
pub struct LinkArgs {
    /// Your own label of the end customer, for a new account
    #[arg(long, required_unless_present = "relink", conflicts_with = "relink")]
    tenant: Option<String>,
    /// Link this account anew; its id stays
    #[arg(long, value_name = "ID")]
    relink: Option<String>,
    /// A connector that may be linked; repeat or separate by commas for several, all when left out
    #[arg(long = "integration", value_name = "NAME", value_delimiter = ',')]
    integrations: Vec<String>,
    /// Where the browser goes at the end
    #[arg(long, value_name = "URL")]
    redirect_uri: Option<String>,
    /// A site that may frame the page and is told how it ended, for example `https://app.example.com`; repeat for several
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Seconds the link can be used; 1800 when left out, 86400 at most
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u32>,
}

/// Makes the link and prints its address.
pub async fn run(args: LinkArgs, global: GlobalArgs) -> Result<(), Failure> {
    let door = Door::open(&global, Missing::Fails).await?;
    let done = make(&door, args, global.json).await;
    door.close().await.and(done)
}

async fn make(door: &Door, args: LinkArgs, json: bool) -> Result<(), Failure> {
    if door.is_own() {
        let why = "no gateway runs here that could show the page; start `rollcall serve`, or name one in `ROLLCALL_URL`";
        return Err(Failure::Failed(why.to_owned()));
    }
    let LinkArgs { tenant, relink, integrations, redirect_uri, origins, expires_in } = args;
    let mut body = json!({"origins": origins});
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    put("tenant_id", tenant.map(Value::from));
    put("integrated_account_id", relink.map(Value::from));
    put("integrations", (!integrations.is_empty()).then(|| integrations.into()));
    put("redirect_uri", redirect_uri.map(Value::from));
    put("expires_in", expires_in.map(Value::from));
    let made = door.call(Method::POST, "/link-token", Some(&body)).await?;
    if json {
        return print_json(&made);
    }
    eprintln!("Give this address to the customer; it works once, until {}:", made["expires_at"].as_str().unwrap_or_default());
    print_data(made["link_url"].as_str().unwrap_or_default())
}
