//! A batch at work: entry after entry, page after page; what fails stops only those that need it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
    time::Duration,
};

use actix_web::http::Method;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use url::form_urlencoded;
use utoipa::ToSchema;

use super::{
    inner::{Call, Calls, Reply},
    place::{self, Place, Root},
    plan::{Node, Plan},
};
use crate::{
    error::{Code, Error, Result},
    http::{body::MAX_BODY, framing::MAX_TARGET, problem},
    service::{
        cursor::digest,
        directory::{IGNORED_LIMIT, MAX_LIMIT},
    },
};

/// Calls of one batch, pages included.
const MAX_CALLS: usize = 500;
/// Bytes of all records together.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Seconds after which a node that was lost holds no key any more.
const HELD_FOR: usize = 20;
/// A segment of a path, whatever it holds.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a batch answers.
#[derive(Serialize, ToSchema)]
pub struct BatchAnswer {
    /// Each entry's records, by its name. Of the vendor's own resources only with `persist`.
    #[schema(value_type = BTreeMap<String, Vec<Object>>)]
    pub result: BTreeMap<String, Vec<Box<RawValue>>>,
    /// The problems of the entries that failed, by name.
    #[schema(value_type = BTreeMap<String, Vec<crate::http::schema::Problem>>)]
    pub errors: BTreeMap<String, Vec<Box<RawValue>>>,
    /// How each entry went, in the order they were given.
    pub entries: Vec<EntryReport>,
}

/// How an entry went.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct EntryReport {
    /// The entry.
    pub name: String,
    /// The status of its last call, or of the first that failed; 424 when one it needs has failed.
    pub status: u16,
    /// The headers of that answer.
    pub headers: BTreeMap<String, String>,
    /// Calls made for it.
    pub calls: usize,
    /// Records it found.
    pub result_count: usize,
    /// Whether it has all there is: no call failed, no list was cut or incomplete.
    pub complete: bool,
    /// Where a list goes on that is longer than 10,000 records.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// An entry that has been called.
#[derive(Default)]
struct Done {
    records: Vec<Box<RawValue>>,
    /// The same, read when the first placeholder asks for one.
    values: OnceLock<Vec<Value>>,
    errors: Vec<Box<RawValue>>,
    report: EntryReport,
}

#[derive(Deserialize)]
struct Page {
    result: Box<RawValue>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    complete: Option<bool>,
}

struct Run {
    plan: Plan,
    calls: Calls,
    /// What the keys of its writes are made of.
    key: Option<String>,
    /// How often each write was made.
    written: HashMap<u64, usize>,
    done: Vec<Option<Done>>,
    called: usize,
    bytes: usize,
}

/// Calls every entry. Writes that are made once for each run of a `key` have keys made of it.
pub async fn run(plan: Plan, calls: Calls, key: Option<String>) -> Result<BatchAnswer> {
    let done = plan.nodes.iter().map(|_| None).collect();
    let mut run = Run { plan, calls, key, written: HashMap::new(), done, called: 0, bytes: 0 };
    for index in run.plan.order.clone() {
        let done = run.entry(index).await?;
        run.done[index] = Some(done);
    }
    let mut answer = BatchAnswer { result: BTreeMap::new(), errors: BTreeMap::new(), entries: Vec::new() };
    for (node, done) in run.plan.nodes.iter().zip(run.done) {
        let done = done.unwrap_or_default();
        if node.is_shown() {
            answer.result.insert(node.name.clone(), done.records);
        }
        if !done.errors.is_empty() {
            answer.errors.insert(node.name.clone(), done.errors);
        }
        answer.entries.push(done.report);
    }
    Ok(answer)
}

impl Run {
    async fn entry(&mut self, index: usize) -> Result<Done> {
        let node = &self.plan.nodes[index];
        let report = EntryReport { name: node.name.clone(), status: 200, complete: true, ..EntryReport::default() };
        let mut done = Done { report, ..Done::default() };
        let failed = |need: &&usize| self.done[**need].as_ref().is_none_or(|needed| !needed.errors.is_empty());
        if let Some(need) = node.needs.iter().find(failed) {
            let detail = format!("`{}` has failed, which this entry needs; it was not called.", self.plan.nodes[*need].name);
            done.fail(&Error::new(Code::DependencyFailed, detail).field(format!("resources[{index}]")), self.calls.id());
            return Ok(done);
        }
        let records = match node.each {
            Some(other) => {
                let records = self.done[other].iter().flat_map(|done| &done.records);
                records.map(|record| value_of(record).map(Some)).collect::<Result<Vec<_>>>()?
            }
            None => vec![None],
        };
        for record in &records {
            // Others have their turn between two calls that are drawn up.
            tokio::task::yield_now().await;
            match self.draft(index, record.as_ref()) {
                Ok(call) => self.call(index, call, &mut done).await?,
                Err(why) => {
                    let field = format!("resources[{index}]");
                    let detail = format!("A placeholder of `{field}`: {why}.");
                    done.fail(&Error::new(Code::InvalidBody, detail).status(422).field(field), self.calls.id())
                }
            }
        }
        done.report.result_count = done.records.len();
        Ok(done)
    }

    /// One call, and of a list all its pages.
    async fn call(&mut self, index: usize, call: Draft, done: &mut Done) -> Result<()> {
        let is_list = self.plan.nodes[index].entry.method == "list";
        let key = self.key_of(index, &call);
        let mut cursor = None::<String>;
        loop {
            if let Some(why) = self.exhausted(index) {
                done.fail(&why, self.calls.id());
                return Ok(());
            }
            self.called += 1;
            done.report.calls += 1;
            let reply = self.ask(&call, cursor.as_deref(), key.as_deref()).await?;
            self.bytes += reply.body.len();
            if !(200..300).contains(&reply.status) {
                done.refused(reply);
                return Ok(());
            }
            let page = is_list.then(|| serde_json::from_slice::<Page>(&reply.body).ok()).flatten();
            let Some(page) = page else {
                done.records.extend(RawValue::from_string(String::from_utf8_lossy(&reply.body).into_owned()));
                done.answered(&reply);
                return Ok(());
            };
            let records: Vec<Box<RawValue>> = serde_json::from_str(page.result.get()).map_err(Error::internal)?;
            done.records.extend(records);
            done.answered(&reply);
            done.report.complete &= page.complete.unwrap_or(true);
            cursor = page.next_cursor;
            if cursor.is_none() || done.records.len() >= IGNORED_LIMIT {
                done.report.complete &= cursor.is_none();
                done.report.next_cursor = cursor;
                return Ok(());
            }
        }
    }

    /// The key of a write: the same in every run of the batch, and another one for each time it makes the same write.
    fn key_of(&mut self, index: usize, call: &Draft) -> Option<String> {
        let key = self.key.as_ref().filter(|_| call.method != Method::GET)?;
        let Call { target, body, .. } = call.with(None, None);
        let body = String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned();
        let write = digest([&self.plan.nodes[index].name, call.method.as_str(), &target, &body]);
        let times = self.written.entry(write).or_default();
        *times += 1;
        Some(format!("batch/{key}/{write:016x}/{times}"))
    }

    /// The reply to a call. Under the key of a node that was lost it comes once that node's hold has ended.
    async fn ask(&self, call: &Draft, cursor: Option<&str>, key: Option<&str>) -> Result<Reply> {
        let mut looks = 0;
        loop {
            let reply = self.calls.ask(call.with(cursor, key)).await?;
            if reply.status != 409 || key.is_none() || looks == HELD_FOR || !reply.is(Code::IdempotencyInProgress) {
                return Ok(reply);
            }
            looks += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn exhausted(&self, index: usize) -> Option<Error> {
        let field = format!("resources[{index}]");
        if self.called >= MAX_CALLS {
            let detail = format!("A batch makes at most {MAX_CALLS} calls; the rest of `{field}` was not called.");
            return Some(Error::new(Code::InvalidBody, detail).status(422).field(field));
        }
        (self.bytes > MAX_BYTES).then(|| {
            let detail = format!("The answers of a batch hold at most {MAX_BYTES} bytes; the rest of `{field}` was not called.");
            Error::new(Code::InvalidBody, detail).status(422).field(field)
        })
    }

    fn draft(&self, index: usize, record: Option<&Value>) -> Result<Draft, String> {
        let node = &self.plan.nodes[index];
        let look = |inside: &str| self.look(node, inside, record);
        let filling = place::Filling::new(&look, MAX_BODY);
        let fill = |value: &Value| filling.fill(value);
        let mut target = if node.entry.is_unified() { "/unified".to_owned() } else { "/proxy".to_owned() };
        for segment in place::segments(&node.entry.resource) {
            push_segment(&mut target, &fill(&Value::String(segment.to_owned()))?)?;
        }
        if let Some(id) = &node.entry.id {
            push_segment(&mut target, &fill(id)?)?;
        }
        let method = match node.entry.method.as_str() {
            "list" | "get" => Method::GET,
            "create" => Method::POST,
            "update" => Method::PATCH,
            "delete" => Method::DELETE,
            own => {
                push_segment(&mut target, &Value::String(own.to_owned()))?;
                Method::POST
            }
        };
        let mut pairs = vec![("integrated_account_id".to_owned(), self.plan.account.clone())];
        for (name, value) in &node.entry.query {
            push_pairs(name.clone(), &fill(value)?, &mut pairs)?;
        }
        if let Some(format) = &node.entry.response_format {
            pairs.push(("truto_response_format".to_owned(), format.clone()));
        }
        if node.entry.method == "list" && !node.entry.query.contains_key("limit") {
            pairs.push(("limit".to_owned(), MAX_LIMIT.to_string()));
        }
        let length = target.len() + pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        if length > MAX_TARGET {
            return Err(format!("path and query are longer than {MAX_TARGET} bytes"));
        }
        let body = match &node.entry.body {
            Some(body) => Some(fill(&Value::Object(body.clone()))?.to_string().into()),
            None if method == Method::GET || method == Method::DELETE => None,
            None => Some(Bytes::from_static(b"{}")),
        };
        Ok(Draft { method, target, pairs, body })
    }

    fn look(&self, node: &Node, inside: &str, record: Option<&Value>) -> Result<Value, String> {
        let place = Place::parse(inside, &self.plan.names)?;
        let nothing = || format!("`{{{{{}}}}}` means nothing here", inside.trim());
        match place.root {
            Root::Args => place::follow(&self.plan.args, &place.path).cloned().ok_or_else(nothing),
            Root::Entry(other) if node.each == Some(other) && !place.picks() => {
                record.and_then(|record| place::follow(record, &place.path)).cloned().ok_or_else(nothing)
            }
            Root::Entry(other) => {
                let Some((place::Step::Element(at), rest)) = place.path.split_first() else { return Err(nothing()) };
                let done = self.done[other].as_ref().ok_or_else(nothing)?;
                place::follow(done.parsed(*at).ok_or_else(nothing)?, rest).cloned().ok_or_else(nothing)
            }
        }
    }
}

impl Done {
    fn parsed(&self, at: usize) -> Option<&Value> {
        let read = || self.records.iter().map(|record| value_of(record).unwrap_or_default()).collect();
        self.values.get_or_init(read).get(at)
    }

    fn answered(&mut self, reply: &Reply) {
        if self.errors.is_empty() {
            self.report.status = reply.status;
            self.report.headers = headers(reply);
        }
    }

    fn refused(&mut self, reply: Reply) {
        if self.errors.is_empty() {
            self.report.status = reply.status;
            self.report.headers = headers(&reply);
        }
        self.report.complete = false;
        self.errors.extend(RawValue::from_string(String::from_utf8_lossy(&reply.body).into_owned()));
    }

    fn fail(&mut self, error: &Error, id: Option<&str>) {
        let body = Bytes::from(problem::text(error, id));
        self.refused(Reply { status: error.http_status(), headers: Vec::new(), body });
    }
}

/// A call whose placeholders are filled.
struct Draft {
    method: Method,
    target: String,
    pairs: Vec<(String, String)>,
    body: Option<Bytes>,
}

impl Draft {
    fn with(&self, cursor: Option<&str>, key: Option<&str>) -> Call {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs).extend_pairs(cursor.map(|cursor| ("next_cursor", cursor)));
        let target = format!("{}?{}", self.target, query.finish());
        Call { method: self.method.clone(), target, body: self.body.clone(), key: key.map(str::to_owned) }
    }
}

fn headers(reply: &Reply) -> BTreeMap<String, String> {
    reply.headers.iter().cloned().collect()
}

fn value_of(record: &RawValue) -> Result<Value> {
    serde_json::from_str(record.get()).map_err(Error::internal)
}

fn push_segment(target: &mut String, value: &Value) -> Result<(), String> {
    let text = place::text_of(value)?;
    if text.is_empty() {
        return Err("a part of the path is empty".to_owned());
    }
    target.push('/');
    target.extend(utf8_percent_encode(&text, SEGMENT));
    Ok(())
}

/// `a[b]=`, `a[]=`, as Truto's clients write them.
fn push_pairs(name: String, value: &Value, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            members.iter().try_for_each(|(member, value)| push_pairs(format!("{name}[{member}]"), value, pairs))
        }
        Value::Array(items) => items.iter().try_for_each(|item| push_pairs(format!("{name}[]"), item, pairs)),
        value => {
            pairs.push((name, place::text_of(value)?.into_owned()));
            Ok(())
        }
    }
}
