//! Commander Service Mode: both routes, the queue, the limiter, encrypted answers, one session for everybody.

mod audit;
mod shell;
mod world;
mod writes;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    http::{Method, StatusCode, header},
    web::{self, Bytes},
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::writes::WriteLie;
use self::{
    shell::{Answer, Shell, plain, split},
    world::World,
};
use super::Sandbox;

/// What the stand-in takes as its API key.
pub const API_KEY: &str = "sandbox-api-key-0123456789abcdefghijklmnopqr";

/// How it deviates from a service at its best.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Plain users of Northwind Dental beyond the six.
    pub users: usize,
    /// Whether the queue and its routes exist.
    pub queue: bool,
    /// Results are encrypted with these 32 characters.
    pub encryption_key: Option<String>,
    /// Commands the key may run.
    pub commands: Vec<String>,
    /// A command takes this long.
    pub delay: Duration,
    /// Calls per endpoint and seconds of a window.
    pub rate_limit: Option<(u32, u64)>,
    /// Every n-th command is slowed down by Keeper's cloud, in these words.
    pub throttle: Option<(u32, String)>,
    /// This many commands find the Keeper session expired.
    pub expired_sessions: u32,
    /// Commands fail because a person must sign in.
    pub needs_login: bool,
    /// Companies that refuse to be entered.
    pub refused: Vec<u64>,
    /// Texts where newer releases give objects.
    pub old_shapes: bool,
    /// Whether the own enterprise manages others.
    pub is_msp: bool,
    /// After this many commands somebody else switches to this company, once.
    pub intruder: Option<(u32, Option<u64>)>,
    /// Events of each company beyond the seven every one has.
    pub events: usize,
    /// Companies without the reporting add-on.
    pub without_reporting: Vec<u64>,
    /// How writes are lied about, beyond what every Commander does.
    pub write_lie: Option<WriteLie>,
}

impl Default for Faults {
    fn default() -> Self {
        let commands = "whoami,enterprise-down,enterprise-info,enterprise-user,enterprise-team,msp-down,msp-info,msp-billing-report,switch-to-mc,switch-to-msp,audit-report,user-report";
        Self {
            users: 130,
            queue: true,
            encryption_key: None,
            commands: commands.split(',').map(str::to_owned).collect(),
            delay: Duration::ZERO,
            rate_limit: None,
            throttle: None,
            expired_sessions: 0,
            needs_login: false,
            refused: Vec::new(),
            old_shapes: false,
            is_msp: true,
            intruder: None,
            events: 60,
            without_reporting: Vec::new(),
            write_lie: None,
        }
    }
}

/// What the service's state is behind: everybody's session.
pub struct Control(Mutex<State>);

struct State {
    faults: Faults,
    shell: Shell,
    runs: u32,
    /// Of those, such as change something.
    writes: u32,
    queued: HashMap<String, Queued>,
    windows: HashMap<&'static str, (Instant, u32)>,
}

struct Queued {
    command: String,
    ready: Instant,
    answer: Answer,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another client's switch does to everybody; `None` is the own enterprise.
    pub fn switch(&self, company: Option<u64>) {
        self.state().shell.switch(company);
    }

    /// How writes are lied about from now on.
    pub fn lie(&self, lie: Option<WriteLie>) {
        self.state().shell.write_lie = lie;
    }

    /// Which companies have no reporting add-on from now on.
    pub fn without_reporting(&self, companies: Vec<u64>) {
        self.state().shell.without_reporting = companies;
    }

    /// Commands run so far.
    pub fn runs(&self) -> u32 {
        self.state().runs
    }

    /// Commands run so far that change something.
    pub fn writes(&self) -> u32 {
        self.state().writes
    }
}

/// Starts the stand-in on a free port.
pub fn start(faults: Faults) -> std::io::Result<(Sandbox, Arc<Control>, Server)> {
    let mut shell = Shell::new(World::new(faults.users));
    shell.refused = faults.refused.clone();
    shell.old_shapes = faults.old_shapes;
    shell.is_msp = faults.is_msp;
    (shell.events, shell.without_reporting) = (faults.events, faults.without_reporting.clone());
    shell.write_lie = faults.write_lie;
    let queue = faults.queue;
    let state = State { faults, shell, runs: 0, writes: 0, queued: HashMap::new(), windows: HashMap::new() };
    let control = Arc::new(Control(Mutex::new(state)));
    let shared = web::Data::from(control.clone());
    let server = HttpServer::new(move || {
        let app = App::new()
            .app_data(shared.clone())
            .app_data(web::PayloadConfig::new(1024 * 1024))
            .route("/health", web::get().to(async || json_reply(200, &json!({ "status": "ok" }))))
            .service(
                web::resource("/api/v1/executecommand").route(web::post().to(execute)).default_service(web::to(wrong_method)),
            );
        let app = match queue {
            true => app
                .service(
                    web::resource("/api/v2/executecommand-async")
                        .route(web::post().to(submit))
                        .default_service(web::to(wrong_method)),
                )
                .route("/api/v2/status/{id}", web::get().to(status))
                .route("/api/v2/result/{id}", web::get().to(result))
                .route("/api/v2/queue/status", web::get().to(queue_status)),
            false => app,
        };
        app.default_service(web::to(async || html(404, "Not Found")))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))?;
    let addr = server.addrs().first().copied().ok_or_else(|| std::io::Error::other("no address"))?;
    let server = server.run();
    let sandbox = Sandbox { addr, base: format!("http://{addr}"), token: API_KEY.into(), handle: server.handle() };
    Ok((sandbox, control, server))
}

fn html(status: u16, title: &str) -> HttpResponse {
    let body = format!("<!doctype html>\n<html lang=en>\n<title>{status} {title}</title>\n<h1>{title}</h1>\n");
    HttpResponse::build(code(status)).content_type("text/html; charset=utf-8").body(body)
}

async fn wrong_method(request: HttpRequest) -> HttpResponse {
    match request.method() {
        &Method::OPTIONS => HttpResponse::Ok().content_type("text/html; charset=utf-8").finish(),
        _ => html(405, "Method Not Allowed"),
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn json_reply(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::build(code(status)).content_type("application/json").body(format!("{body}\n"))
}

fn refusal(status: u16, error: &str) -> HttpResponse {
    json_reply(status, &json!({ "error": error, "status": "error" }))
}

fn legacy(mut reply: HttpResponse) -> HttpResponse {
    reply.headers_mut().insert(header::HeaderName::from_static("x-api-legacy"), header::HeaderValue::from_static("true"));
    reply
}

/// The limiter, then the key.
fn admit(state: &mut State, endpoint: &'static str, request: &HttpRequest) -> Result<(), Answer> {
    if let Some((count, seconds)) = state.faults.rate_limit {
        let window = state.windows.entry(endpoint).or_insert((Instant::now(), 0));
        if window.0.elapsed() >= Duration::from_secs(seconds) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        if window.1 > count {
            let error = format!("Service rate limit exceeded: {count} per {seconds} second");
            let body = json!({ "error": error, "result_code": "rate_limited", "status": "error" });
            return Err(Answer { status: 429, body, is_result: false });
        }
    }
    let key = request.headers().get("api-key").and_then(|key| key.to_str().ok());
    if key.map(str::trim) == Some(API_KEY) { Ok(()) } else { Err(plain(401, "Please provide a valid api key")) }
}

/// The command of a body, or why there is none.
fn command(state: &State, request: &HttpRequest, body: &[u8]) -> Result<(String, Vec<String>), Answer> {
    let is_json =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(plain(400, "Content-Type must be application/json"));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| plain(400, "Invalid JSON format"))?;
    if body.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(plain(400, "Invalid or empty JSON"));
    }
    let text = match body.get("command") {
        None | Some(Value::Null) => return Err(plain(400, "Missing required field \"command\"")),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(plain(400, "Command must be a string")),
    };
    if text.chars().count() > 4096 {
        return Err(plain(400, "Command length exceeded"));
    }
    let words = split(&text).ok_or_else(|| plain(400, "Invalid command syntax"))?;
    let word = words.first().ok_or_else(|| plain(400, "Command must not be empty"))?;
    if !state.faults.commands.contains(word) {
        return Err(plain(403, "Not permitted to perform this function"));
    }
    Ok((text, words))
}

/// Runs a command, faults first.
fn run(state: &mut State, text: &str, words: &[String]) -> Answer {
    state.runs += 1;
    let changes = |word: &String| matches!(word.as_str(), "enterprise-user" | "enterprise-team" | "enterprise-role");
    state.writes += u32::from(words.first().is_some_and(changes));
    if let Some((after, company)) = state.faults.intruder
        && state.runs > after
    {
        state.faults.intruder = None;
        state.shell.switch(company);
    }
    let fault = |status, body| Answer { status, body, is_result: false };
    if state.faults.needs_login {
        let error = "Persistent login is not working in this non-interactive environment";
        return fault(500, json!({ "error": format!("Unexpected error: {error}"), "status": "error" }));
    }
    if state.faults.expired_sessions > 0 {
        state.faults.expired_sessions -= 1;
        return fault(
            500,
            json!({ "error": "Unexpected error: session_token_expired: Session token expired", "status": "error" }),
        );
    }
    if let Some((every, words)) = &state.faults.throttle
        && state.runs.is_multiple_of(*every)
    {
        return fault(429, json!({ "error": words, "result_code": "throttled", "status": "error" }));
    }
    state.shell.run(text, words)
}

fn sealed(state: &State, answer: &Answer) -> HttpResponse {
    match state.faults.encryption_key.as_deref().filter(|_| answer.is_result).map(|key| encrypt(key, &answer.body)) {
        None => json_reply(answer.status, &answer.body),
        Some(Some(bytes)) => HttpResponse::build(code(answer.status)).content_type("text/html; charset=utf-8").body(bytes),
        Some(None) => refusal(500, "Error: Invalid key size"),
    }
}

/// Nonce, ciphertext, tag.
fn encrypt(key: &str, body: &Value) -> Option<Vec<u8>> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_bytes()).ok()?;
    let mut text = body.to_string().into_bytes();
    let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut text).ok()?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut text);
    Some(sealed)
}

async fn execute(control: web::Data<Control>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let (reply, delay) = {
        let mut state = control.state();
        let admitted = admit(&mut state, "v1", &request).and_then(|()| command(&state, &request, &body));
        match admitted {
            Err(refused) => (json_reply(refused.status, &refused.body), Duration::ZERO),
            Ok((text, words)) => {
                let answer = run(&mut state, &text, &words);
                (sealed(&state, &answer), state.faults.delay)
            }
        }
    };
    actix_web::rt::time::sleep(delay).await;
    legacy(reply)
}

async fn submit(control: web::Data<Control>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let mut state = control.state();
    let (text, words) = match admit(&mut state, "submit", &request).and_then(|()| command(&state, &request, &body)) {
        Ok(command) => command,
        Err(refused) => return json_reply(refused.status, &refused.body),
    };
    let answer = run(&mut state, &text, &words);
    // One worker: a command is ready after those before it.
    let free = state.queued.values().map(|queued| queued.ready).max().unwrap_or_else(Instant::now).max(Instant::now());
    let id = Uuid::now_v7().to_string();
    let ready = free + state.faults.delay;
    state.queued.insert(id.clone(), Queued { command: text, ready, answer });
    let message = "Request queued successfully. Use /api/v2/status/<request_id> to check progress, /api/v2/result/<request_id> to get results, or /api/v2/queue/status for queue info.";
    json_reply(202, &json!({ "message": message, "request_id": id, "status": "queued", "success": true }))
}

fn lost() -> HttpResponse {
    refusal(404, "Error: Request not found")
}

async fn result(control: web::Data<Control>, request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    let mut state = control.state();
    if let Err(refused) = admit(&mut state, "result", &request) {
        return json_reply(refused.status, &refused.body);
    }
    match state.queued.get(id.as_str()) {
        None => lost(),
        Some(queued) if queued.ready > Instant::now() => {
            json_reply(202, &json!({ "error": "Error: Request not completed yet", "status": "processing" }))
        }
        Some(queued) => sealed(&state, &queued.answer),
    }
}

async fn status(control: web::Data<Control>, request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    let mut state = control.state();
    if let Err(refused) = admit(&mut state, "status", &request) {
        return json_reply(refused.status, &refused.body);
    }
    let Some(queued) = state.queued.get(id.as_str()) else { return lost() };
    let done = Some(&queued.answer).filter(|_| queued.ready <= Instant::now());
    let shown = done.map(|answer| match answer.is_result && state.faults.encryption_key.is_some() {
        true => json!({ "encrypted": true, "type": "bytes" }),
        false => answer.body.clone(),
    });
    let at = "2026-01-01T00:00:00.000000";
    json_reply(
        200,
        &json!({
            "command": queued.command, "completed_at": done.map(|_| at), "created_at": at, "error_message": null,
            "request_id": id.as_str(), "result": shown, "started_at": at, "status": if done.is_some() { "completed" } else { "processing" },
            "status_code": done.map(|answer| answer.status), "success": true, "temp_files": [],
        }),
    )
}

async fn queue_status(control: web::Data<Control>, request: HttpRequest) -> HttpResponse {
    let mut state = control.state();
    if let Err(refused) = admit(&mut state, "queue", &request) {
        return json_reply(refused.status, &refused.body);
    }
    let now = Instant::now();
    let waiting = state.queued.values().filter(|queued| queued.ready > now).count();
    json_reply(
        200,
        &json!({
            "active_requests": waiting, "completed_requests": state.queued.len() - waiting, "currently_processing": null,
            "queue_size": waiting, "success": true, "worker_running": true,
        }),
    )
}
