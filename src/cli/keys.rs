//! `rollcall keys …`: the ring's file is changed here, what it wraps by the gateway.
//!
//! Keys change in steps, so that every node can read what any other writes: a new key is first in every ring, then it writes,
//! then what is under the old one is brought under it, then the old one goes.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing},
    print_data, print_json, settings,
};
use crate::{
    config::{GlobalArgs, Purpose},
    model::{Clock, SystemClock},
    vault::KeyRing,
};

/// Nodes have read a changed file after this long: they look twice a second.
const SETTLED: Duration = Duration::from_millis(1500);
/// How long a gateway is waited for that has not read the file yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// What began before a key was promoted and still wraps by the one before has ended after this long.
const ENDED: Duration = Duration::from_secs(2);
/// Passes over all accounts; a second one finds what others changed during the first.
const PASSES: usize = 3;
/// Tries while the gateway or its store is busy.
const TRIES: usize = 10;
/// Between two tries.
const BREATH: Duration = Duration::from_millis(500);

/// What can be done with keys.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Add a random key to the key ring file; it only reads until it is promoted
    Add {
        /// Its id; the next `k<number>` when left out
        #[arg(long)]
        id: Option<String>,
    },
    /// Make a key the one that writes. Only once every node has it: the nodes read this file, or get a copy of it
    Promote {
        /// Its id
        id: String,
    },
    /// Bring everything under the primary key, or give accounts new data keys, while the gateway serves. Can be repeated
    Rewrap {
        /// Make new data keys, and seal everything anew under them
        #[arg(long)]
        data_keys: bool,
        /// With --data-keys: this account alone
        #[arg(long, value_name = "ID", requires = "data_keys", conflicts_with = "older_than_days")]
        account: Option<String>,
        /// With --data-keys: only data keys older than so many days
        #[arg(long, value_name = "DAYS", requires = "data_keys")]
        older_than_days: Option<u32>,
    },
    /// Take a key out of the key ring file, when nothing is under it any more
    Retire {
        /// Its id
        id: String,
    },
    /// Show the keys and what is under each
    Status {
        /// Count data keys older than so many days
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        older_than_days: u32,
    },
}

/// Runs one of them.
pub async fn run(command: KeysCommand, global: GlobalArgs) -> Result<(), Failure> {
    let (settings, json) = (settings(&global, Purpose::Tool)?, global.json);
    let file = settings.keys_file.as_path();
    match command {
        KeysCommand::Add { id } => add(file, id.as_deref(), json),
        KeysCommand::Promote { id } => ask(&global, async |door| promote(door, file, &id, json).await).await,
        KeysCommand::Rewrap { data_keys, account, older_than_days } => {
            let mut wanted = json!({"data_keys": data_keys});
            wanted["account"] = account.map_or(Value::Null, Value::String);
            wanted["older_than_days"] = older_than_days.map_or(Value::Null, Value::from);
            ask(&global, async |door| rewrap(door, file, wanted, json).await).await
        }
        KeysCommand::Retire { id } => ask(&global, async |door| retire(door, file, &id, json).await).await,
        KeysCommand::Status { older_than_days } => ask(&global, async |door| status(door, older_than_days, json).await).await,
    }
}

/// Does what the gateway has a part in.
async fn ask(global: &GlobalArgs, work: impl AsyncFnOnce(&Door) -> Result<(), Failure>) -> Result<(), Failure> {
    let door = Door::open(global, Missing::Fails).await?;
    let done = work(&door).await;
    door.close().await.and(done)
}

fn add(file: &Path, id: Option<&str>, json: bool) -> Result<(), Failure> {
    if !file.exists() {
        return Err(Failure::Usage(format!(
            "there is no key ring {}; `rollcall serve` makes one for a new embedded store, `ROLLCALL_KEYS_FILE` or `--keys-file` names \
             another",
            file.display()
        )));
    }
    let id = KeyRing::add_key(file, id, SystemClock.now())?;
    eprintln!(
        "The key {id} is in {}. It only reads as yet. Give every node the file, then: rollcall keys promote {id}",
        file.display()
    );
    if json { print_json(&json!({"id": id})) } else { print_data(&id) }
}

async fn promote(door: &Door, file: &Path, id: &str, json: bool) -> Result<(), Failure> {
    let ring = KeyRing::load(file)?;
    // The other nodes that read this file have read it by now, too.
    settle(file).await;
    if ring.ids().any(|known| known == id)
        && !seen(door, |status| key(status, id).is_some_and(|key| key["is_in_ring"] == true)).await?
    {
        return Err(Failure::Failed(format!(
            "the gateway does not have the key {id} yet: what is written by it could not be read there. Give every node the key \
             ring file of `rollcall keys add` first"
        )));
    }
    KeyRing::promote_key(file, id)?;
    settle(file).await;
    if !door.is_own() && !seen(door, |status| status["primary"] == id).await? {
        eprintln!("The gateway has not taken the file up; it may read another copy. Give every node the file before `rewrap`.");
    }
    eprintln!("The key {id} writes now. The others still read; to bring everything under it: rollcall keys rewrap");
    if json { print_json(&json!({"primary": id})) } else { Ok(()) }
}

async fn rewrap(door: &Door, file: &Path, ask: Value, json: bool) -> Result<(), Failure> {
    let primary = if file.exists() { Some(KeyRing::load(file)?.primary_id().to_owned()) } else { None };
    if primary.is_some() {
        settle(file).await;
    }
    let before = match &primary {
        Some(primary) if ask["data_keys"] != true => under(door, primary).await?,
        _ => None,
    };
    let (mut rewrapped, mut left) = (0, 0);
    // New data keys are all made in one pass; of the others a pass may have missed some that were wrapped meanwhile.
    for pass in 1..=if ask["data_keys"] == true { 1 } else { PASSES } {
        let (done, failed) = over_all(door, &ask, primary.as_deref()).await?;
        (rewrapped, left) = (rewrapped + done, failed);
        if (done, failed) == (0, 0) || (failed > 0 && pass == PASSES) {
            break;
        }
    }
    let already = before.map(|before| format!(", {before} were under the primary key already")).unwrap_or_default();
    eprintln!("{rewrapped} accounts have another key now, {left} do not{already}.");
    if json {
        print_json(&json!({"rewrapped": rewrapped, "left": left}))?;
    }
    match left {
        0 => Ok(()),
        left => Err(Failure::Failed(format!(
            "{left} accounts still have the old key; the gateway's log names them. Repeat the command"
        ))),
    }
}

/// How many accounts are under this key, if the gateway has it.
async fn under(door: &Door, id: &str) -> Result<Option<u64>, Failure> {
    let status = door.call(Method::GET, "/key", None).await?;
    Ok(key(&status, id).and_then(|key| key["data_keys"].as_u64()))
}

/// One pass, piece by piece: how many have another key, and how many have not.
async fn over_all(door: &Door, ask: &Value, primary: Option<&str>) -> Result<(u64, u64), Failure> {
    let (mut done, mut left, mut ask) = (0, 0, ask.clone());
    let begun = Instant::now();
    loop {
        let answer = patiently(door, &ask).await?;
        if primary.is_some_and(|primary| answer["primary"] != primary) {
            if begun.elapsed() > PATIENCE {
                let has = answer["primary"].as_str().unwrap_or_default();
                return Err(Failure::Failed(format!(
                    "the gateway's primary key is {has}: it has not read the key ring file of this machine"
                )));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        }
        done += answer["rewrapped"].as_u64().unwrap_or_default();
        left += answer["left"].as_u64().unwrap_or_default();
        if answer["done"] == true {
            return Ok((done, left));
        }
        eprintln!("{done} accounts so far");
        ask["next_cursor"] = answer["next_cursor"].clone();
    }
}

/// Asks again while the answer is that it may be better in a moment.
async fn patiently(door: &Door, ask: &Value) -> Result<Value, Failure> {
    for _ in 1..TRIES {
        if let Some(answer) = door.try_call(Method::POST, "/key/rewrap", Some(ask)).await? {
            return Ok(answer);
        }
        tokio::time::sleep(BREATH).await;
    }
    door.call(Method::POST, "/key/rewrap", Some(ask)).await
}

async fn retire(door: &Door, file: &Path, id: &str, json: bool) -> Result<(), Failure> {
    let ring = KeyRing::load(file)?;
    if id == ring.primary_id() || !ring.ids().any(|known| known == id) {
        // It says why not.
        return Ok(KeyRing::retire_key(file, id)?);
    }
    settle(file).await;
    // What began before the key was promoted may still come to its end; it shows the second time.
    for look in 0..2 {
        if look > 0 {
            tokio::time::sleep(ENDED).await;
        }
        let status = door.call(Method::GET, "/key", None).await?;
        if status["primary"] != ring.primary_id() {
            let has = status["primary"].as_str().unwrap_or_default();
            return Err(Failure::Failed(format!(
                "the gateway's primary key is {has}: it has not read the key ring file of this machine"
            )));
        }
        let Some(key) = key(&status, id) else { continue };
        let count = key["data_keys"].as_u64().unwrap_or(u64::MAX);
        if count > 0 || key["has_system_keys"] != false {
            let own = if key["has_system_keys"] == true { " and the gateway's own keys" } else { "" };
            return Err(Failure::Failed(format!(
                "{count} accounts{own} are still under the key {id}; run `rollcall keys rewrap` first"
            )));
        }
    }
    KeyRing::retire_key(file, id)?;
    eprintln!("The key {id} is out of {}. A backup of the store from before needs it: keep it with that backup.", file.display());
    if json { print_json(&json!({"id": id})) } else { Ok(()) }
}

async fn status(door: &Door, days: u32, json: bool) -> Result<(), Failure> {
    let status = door.call(Method::GET, &format!("/key?older_than_days={days}"), None).await?;
    if json {
        return print_json(&status);
    }
    for key in status["keys"].as_array().into_iter().flatten() {
        let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
        let role = if key["is_primary"] == true { "primary" } else { "reads" };
        let role = if key["is_in_ring"] == true { role } else { "NOT IN THE RING" };
        let own = if key["has_system_keys"] == true { "  and the gateway's own keys" } else { "" };
        print_data(&format!("{}  {role}  {}  {} data keys{own}", text("id"), text("created_at"), key["data_keys"]))?;
    }
    print_data(&format!("{} of {} data keys are older than {days} days", status["older_data_keys"], status["data_keys"]))
}

/// Whether the gateway's keys come to be so.
async fn seen(door: &Door, is_so: impl Fn(&Value) -> bool) -> Result<bool, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        if is_so(&door.call(Method::GET, "/key?count=false", None).await?) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn key<'s>(status: &'s Value, id: &str) -> Option<&'s Value> {
    status["keys"].as_array()?.iter().find(|key| key["id"] == id)
}

/// Waits until every node that reads this file has read it as it is.
async fn settle(file: &Path) {
    let changed = fs::metadata(file).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let age = SystemTime::now().duration_since(changed).unwrap_or_default();
    tokio::time::sleep(SETTLED.saturating_sub(age)).await;
}
