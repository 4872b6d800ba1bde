//! `rollcall account import`: many accounts from a file, each once, however often it is begun again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use futures_util::{StreamExt, stream};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Failure,
    door::{Door, encoded},
    print_data, print_json, secret_names,
    signals::Signals,
};
use crate::{mapping::inexact_number, upstream::own::Said};

/// The longest line; it is a body of the API.
const LONGEST: u64 = 1024 * 1024;
/// How often a line is sent that fails in passing; when it is its vendor that fails, others need not wait for it as long.
const TRIES: u64 = 6;
const TRIES_AT_VENDOR: u64 = 3;
/// The longest pause between two of them.
const PAUSE: u64 = 60;
/// Of the ids that are made of lines without one; never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_2f61_93b4_5e1a_8c77_41d2_0b9e_6fa3);

/// What is imported, and how.
#[derive(Args)]
pub struct ImportArgs {
    /// Lines of JSON, each the body of one import; `-` is the standard input. Give each an `id` (a UUID): a line without one gets
    /// one that is made of its labels and fields but for the secrets
    file: PathBuf,
    /// Accounts that are verified at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Where each line's outcome is added as it is known, and which lines need not be looked at again; the standard output when
    /// left out
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// The account was linked.
    Imported,
    /// An account has this id.
    Exists,
    /// It was not linked.
    Failed,
}

/// A line's outcome, without anything of its context.
#[derive(Serialize, Deserialize)]
struct Outcome {
    line: u64,
    #[serde(default)]
    id: Option<Uuid>,
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An account to be linked.
struct Wanted {
    line: u64,
    id: Uuid,
    body: Value,
}

/// What is counted.
#[derive(Default, Serialize)]
struct Counts {
    imported: u64,
    exists: u64,
    failed: u64,
    skipped: u64,
}

/// Imports a file; `json` says that the counts are data.
pub async fn import(door: &Door, args: ImportArgs, json: bool) -> Result<(), Failure> {
    let input = open(&args.file)?;
    let mut results = args.results.as_deref().map(Results::open).transpose()?;
    let done = results.as_mut().map_or_else(|| Ok(HashSet::new()), Results::done)?;
    let secrets = all_secret_names(door).await?;
    let mut signals = Signals::watch()?;
    let (stopped, counts) = (Cell::new(false), RefCell::new(Counts::default()));
    let mut lines = Lines { input, number: 0, secrets: &secrets, seen: HashMap::new() };
    let next = || {
        while !stopped.get() {
            match lines.next()? {
                Ok(wanted) if done.contains(&wanted.id) => counts.borrow_mut().skipped += 1,
                line => return Some(line),
            }
        }
        None
    };
    let outcomes = stream::iter(std::iter::from_fn(next)).map(|line| settle(door, &secrets, line, &stopped));
    let mut outcomes = outcomes.buffer_unordered(usize::from(args.concurrency));
    loop {
        tokio::select! {
            () = signals.one() => {
                if stopped.replace(true) {
                    break;
                }
                eprintln!("Ending; what is under way is finished.");
            }
            outcome = outcomes.next() => match outcome {
                None => break,
                Some(None) => {}
                Some(Some(outcome)) => {
                    counts.borrow_mut().note(outcome.status);
                    write(&outcome, results.as_mut())?;
                }
            }
        }
    }
    let counts = counts.borrow();
    counts.tell(json && args.results.is_some(), stopped.get())
}

impl Counts {
    fn note(&mut self, status: Status) {
        *match status {
            Status::Imported => &mut self.imported,
            Status::Exists => &mut self.exists,
            Status::Failed => &mut self.failed,
        } += 1;
    }

    fn tell(&self, as_data: bool, was_stopped: bool) -> Result<(), Failure> {
        let Counts { imported, exists, failed, skipped } = self;
        eprintln!("{imported} imported, {exists} existed, {failed} failed, {skipped} were done before.");
        if as_data {
            print_json(&json!(self))?;
        }
        match (was_stopped, failed) {
            (true, _) => Err(Failure::Failed("the import was ended early; run it again to go on".to_owned())),
            (false, 0) => Ok(()),
            (false, 1) => Err(Failure::Failed("1 line was not imported; its outcome says why".to_owned())),
            (false, failed) => Err(Failure::Failed(format!("{failed} lines were not imported; their outcomes say why"))),
        }
    }
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let unusable = |why: std::io::Error| Failure::Usage(format!("{}: {why}", file.display()));
    let opened = File::open(file).map_err(unusable)?;
    if opened.metadata().map_err(unusable)?.mode() & 0o044 != 0 {
        eprintln!("Warning: {0} holds secrets and can be read by others; run `chmod 600 {0}`", file.display());
    }
    Ok(Box::new(BufReader::new(opened)))
}

/// The names of secret fields of every link method. What stands under them goes neither into ids nor into outcomes.
async fn all_secret_names(door: &Door) -> Result<BTreeSet<String>, Failure> {
    // Tokens that another gateway got.
    let mut names = BTreeSet::from(["oauth".to_owned()]);
    for entry in door.read_all("/environment-integration").await? {
        let slug = entry["integration"]["name"].as_str().unwrap_or_default();
        let offer = door.call(Method::GET, &format!("/integration/{}/capabilities", encoded(slug)), None).await?;
        let methods = offer["link_methods"].as_array().into_iter().flatten();
        names.extend(methods.flat_map(|method| secret_names(&method["fields"])).map(str::to_owned));
    }
    Ok(names)
}

/// The input, line by line.
struct Lines<'a> {
    input: Box<dyn BufRead>,
    number: u64,
    secrets: &'a BTreeSet<String>,
    seen: HashMap<Uuid, u64>,
}

impl Lines<'_> {
    /// The next line that is not empty; one that says nothing of use is an outcome already.
    fn next(&mut self) -> Option<Result<Wanted, Outcome>> {
        loop {
            self.number += 1;
            match self.read() {
                Ok(None) => return None,
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some(self.wanted(&line)),
                Err(why) => return Some(Err(self.refused(None, &why))),
            }
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let mut input = (&mut self.input).take(LONGEST + 1);
        let unreadable = |why: std::io::Error| format!("cannot be read: {why}");
        if input.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        if line.len() as u64 > LONGEST && line.last() != Some(&b'\n') {
            self.pass_rest().map_err(unreadable)?;
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        Ok(Some(line))
    }

    fn pass_rest(&mut self) -> std::io::Result<()> {
        loop {
            let ready = self.input.fill_buf()?;
            let end = ready.iter().position(|byte| *byte == b'\n');
            let (length, last) = (end.map_or(ready.len(), |at| at + 1), end.is_some() || ready.is_empty());
            self.input.consume(length);
            if last {
                return Ok(());
            }
        }
    }

    /// Words of the parser would quote what may be a secret.
    fn wanted(&mut self, line: &[u8]) -> Result<Wanted, Outcome> {
        let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(line);
        let mut body = parsed.map_err(|why| {
            let what =
                if why.is_data() { "is not a JSON object".to_owned() } else { format!("is not JSON (column {})", why.column()) };
            self.refused(None, &what)
        })?;
        if let Some(field) = inexact_number(line) {
            return Err(self.refused(Some(field), "has a number of more digits than 64 bits hold"));
        }
        let id = match body.get("id") {
            None | Some(Value::Null) => derived_id(&body, self.secrets),
            Some(id) => match id.as_str().map(Uuid::try_parse) {
                Some(Ok(id)) => id,
                _ => return Err(self.refused(Some("id".to_owned()), "has an `id` that is not a UUID")),
            },
        };
        if let Some(before) = self.seen.insert(id, self.number) {
            let what = format!("has the `id`, or without one the labels and fields, of line {before}");
            return Err(Outcome { id: Some(id), ..self.refused(Some("id".to_owned()), &what) });
        }
        body.insert("id".to_owned(), json!(id));
        Ok(Wanted { line: self.number, id, body: Value::Object(body) })
    }

    fn refused(&self, field: Option<String>, what: &str) -> Outcome {
        let detail = Some(format!("Line {} {what}.", self.number));
        Outcome { line: self.number, id: None, status: Status::Failed, code: Some("invalid_line".to_owned()), field, detail }
    }
}

/// The same for the same customer at the same place, whatever the secret is by now. Nothing secret goes in: an id is shown.
fn derived_id(body: &Map<String, Value>, secrets: &BTreeSet<String>) -> Uuid {
    let context = body.get("context").and_then(Value::as_object);
    let plain = context.into_iter().flatten().filter(|(name, _)| !secrets.contains(*name));
    let plain: BTreeMap<&String, &Value> = plain.collect();
    let labels = ["tenant_id", "integration", "environment_integration_id", "authentication_method"].map(|name| body.get(name));
    Uuid::new_v5(&NAMESPACE, json!([labels, plain]).to_string().as_bytes())
}

/// Sends a line until it is settled; none when the import was ended before.
async fn settle(door: &Door, secrets: &BTreeSet<String>, line: Result<Wanted, Outcome>, stopped: &Cell<bool>) -> Option<Outcome> {
    let wanted = match line {
        Ok(wanted) => wanted,
        Err(outcome) => return Some(outcome),
    };
    for tried in 1.. {
        let pause = match door.ask(Method::POST, "/integrated-account", &wanted.body).await {
            Ok(said) if !may_pass(&said, tried) => return Some(wanted.outcome(&said.body, said.status, secrets)),
            Ok(said) => said.retry_after,
            Err(why) if tried == TRIES => return Some(wanted.unreachable(why)),
            Err(_) => None,
        };
        if stopped.get() {
            return None;
        }
        tokio::time::sleep(Duration::from_secs(pause.unwrap_or(1 << (tried - 1)).min(PAUSE))).await;
    }
    None
}

/// Whether the same line may be taken after a while.
fn may_pass(said: &Said, tried: u64) -> bool {
    let tries = if said.body["origin"] == "vendor" { TRIES_AT_VENDOR } else { TRIES };
    said.status >= 400 && said.body["retryable"] == true && tried < tries
}

impl Wanted {
    fn outcome(&self, answer: &Value, status: u16, secrets: &BTreeSet<String>) -> Outcome {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let code = text("code");
        let status = match status {
            201 => Status::Imported,
            _ if code.as_deref() == Some("id_taken") => Status::Exists,
            _ => Status::Failed,
        };
        let outcome = Outcome { line: self.line, id: Some(self.id), status, code: None, field: None, detail: None };
        match status {
            Status::Failed => {
                let detail = text("detail").map(|detail| self.without_secrets(detail, secrets));
                Outcome { code: code.or(Some("no_answer".to_owned())), field: text("field"), detail, ..outcome }
            }
            _ => outcome,
        }
    }

    fn unreachable(&self, why: Failure) -> Outcome {
        let (Failure::Failed(why) | Failure::Usage(why)) = why;
        let code = Some("unreachable".to_owned());
        Outcome { line: self.line, id: Some(self.id), status: Status::Failed, code, field: None, detail: Some(why) }
    }

    /// A vendor may repeat in its refusal what it was shown.
    fn without_secrets(&self, mut detail: String, secrets: &BTreeSet<String>) -> String {
        let context = self.body["context"].as_object().into_iter().flatten();
        for (_, value) in context.filter(|(name, _)| secrets.contains(*name)) {
            for text in texts(value).into_iter().filter(|text| !text.is_empty()) {
                detail = detail.replace(text, "***");
            }
        }
        detail
    }
}

/// Every text in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn write(outcome: &Outcome, results: Option<&mut Results>) -> Result<(), Failure> {
    let line = serde_json::to_string(outcome)?;
    match results {
        Some(results) => Ok(results.0.write_all(format!("{line}\n").as_bytes())?),
        None => print_data(&line),
    }
}

/// The file of outcomes.
struct Results(File);

impl Results {
    fn open(path: &Path) -> Result<Results, Failure> {
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        opened.map(Results).map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))
    }

    /// The accounts that are there by what earlier runs noted. A run that was killed may have left half a line.
    fn done(&mut self) -> Result<HashSet<Uuid>, Failure> {
        let mut text = Vec::new();
        self.0.seek(SeekFrom::Start(0))?;
        self.0.read_to_end(&mut text)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            self.0.write_all(b"\n")?;
        }
        let outcomes = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Outcome>(line).ok());
        Ok(outcomes.filter(|outcome| outcome.status != Status::Failed).filter_map(|outcome| outcome.id).collect())
    }
}
