//! A vendor whose refresh tokens rotate, as strictly as the test wants, and which counts what it is asked. Every grant has a
//! number: its refresh tokens are `refresh-<grant>-<n>`, its access tokens `access-<grant>-<n>`.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim};

/// How long a replaced refresh token is still taken by a vendor with patience.
const GRACE: Duration = Duration::from_secs(30);

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It stays, and the answer holds none.
    Never,
    /// It stays, and the answer holds it.
    Same,
    /// It is replaced, and good for half a minute more.
    Grace,
    /// It is replaced; whoever uses it again ends the whole grant.
    Strict,
}

/// What the token endpoint does instead of giving tokens.
#[derive(Clone)]
pub enum Mood {
    /// These bytes, with the end of the connection.
    Answer(Vec<u8>),
    /// The same to whoever shows the refresh token of this number; any other is taken.
    AnswerTo(u64, Vec<u8>),
    /// The client is refused, unless it shows this secret.
    Client(&'static str),
    /// Nothing, and the end of the connection; the tokens are rotated all the same.
    Silence,
    /// Nothing for so long, then the end of the connection; the tokens stay.
    Late(Duration),
}

/// One customer's agreement.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The refresh token that is good.
    pub current: u64,
    /// Access tokens up to this one have ended.
    pub ended: u64,
    /// Access tokens given.
    pub given: u64,
    /// When they end, where the vendor goes by its clock.
    ends: BTreeMap<u64, Instant>,
    /// The refresh tokens that were shown, in order.
    pub shown: Vec<u64>,
    /// It was ended because of a used refresh token.
    pub revoked: bool,
    rotated: Option<Instant>,
}

struct World {
    rotation: Rotation,
    latency: Range<u64>,
    /// `expires_in` of the tokens it gives.
    life: Value,
    mood: Option<Mood>,
    grants: BTreeMap<u64, Grant>,
    revocations: Vec<String>,
    /// Every call is refused, whatever its token.
    refuses: bool,
    /// How often it is too busy to take a token back.
    too_busy: u32,
    /// Access tokens end by its own clock.
    by_the_clock: bool,
    /// Access tokens that were shown after their end, and how often.
    late: BTreeMap<String, usize>,
}

/// The vendor.
pub struct Rotating {
    pub vendor: Vendor,
    world: Arc<Mutex<World>>,
}

impl Rotating {
    /// Its token endpoint takes a random time of `latency` milliseconds.
    pub fn start(rotation: Rotation, latency: Range<u64>) -> Rotating {
        let world = World {
            rotation,
            latency,
            life: json!(3600),
            mood: None,
            grants: BTreeMap::new(),
            revocations: Vec::new(),
            refuses: false,
            too_busy: 0,
            by_the_clock: false,
            late: BTreeMap::new(),
        };
        let world = Arc::new(Mutex::new(world));
        let state = world.clone();
        let vendor = Vendor::start(move |asked| match asked.path() {
            "/token" => token(&state, asked),
            "/revoke" => {
                let mut world = state.lock().unwrap();
                if world.too_busy > 0 {
                    world.too_busy -= 1;
                    return Act::Send(answer(503, &[], b""));
                }
                world.revocations.push(asked.form().remove("token").unwrap_or_default());
                Act::Send(answer(200, &[], b""))
            }
            _ if takes(&mut state.lock().unwrap(), asked) => match asked.method.as_str() {
                "GET" => scim(asked, 3),
                _ => json_answer(201, &json!({"taken": asked.length})),
            },
            _ => Act::Send(answer(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], b"{}")),
        });
        Rotating { vendor, world }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A new grant and what an account with it is linked by; its access token ends after so many seconds.
    pub fn grant(&self, number: u64, life: i64) -> Value {
        self.world().grants.insert(number, Grant { current: 1, given: 1, ..Grant::default() });
        json!({"base_url": self.vendor.at("/scim"), "authorize_url": self.vendor.at("/auth"), "token_url": self.vendor.at("/token"),
            "client_id": "rotating", "client_secret": "synthetic-rotating-secret", "oauth": {"token": {
                "access_token": format!("access-{number}-1"), "refresh_token": format!("refresh-{number}-1"), "expires_in": life}}})
    }

    /// What it knows of a grant.
    pub fn of(&self, number: u64) -> Grant {
        self.world().grants[&number].clone()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Grant> {
        self.world().grants.values().cloned().collect()
    }

    /// Every access token given so far is refused from now on.
    pub fn end_access(&self) {
        self.world().grants.values_mut().for_each(|grant| grant.ended = grant.given);
    }

    /// Every grant ends, as when the customer takes it back.
    pub fn end_grants(&self) {
        self.world().grants.values_mut().for_each(|grant| {
            grant.revoked = true;
            grant.ended = u64::MAX;
        });
    }

    /// The newest tokens of every grant are as if they had never been given: their vendor takes the refresh token before.
    pub fn forget_newest(&self) {
        self.world().grants.values_mut().for_each(|grant| {
            grant.current -= 1;
            grant.ended = grant.given;
        });
    }

    /// Whether every call is refused, whatever its token; the token endpoint goes on.
    pub fn refuse_calls(&self, refuses: bool) {
        self.world().refuses = refuses;
    }

    pub fn set_mood(&self, mood: Option<Mood>) {
        self.world().mood = mood;
    }

    pub fn set_latency(&self, latency: Range<u64>) {
        self.world().latency = latency;
    }

    pub fn set_life(&self, life: Value) {
        self.world().life = life;
    }

    /// Access tokens end after the life they are given with, by the vendor's clock.
    pub fn end_by_the_clock(&self) {
        self.world().by_the_clock = true;
    }

    /// Access tokens that were shown after their end, and how often each.
    pub fn shown_late(&self) -> BTreeMap<String, usize> {
        self.world().late.clone()
    }

    /// The next so many tokens that are given back are not taken.
    pub fn refuse_revocations(&self, count: u32) {
        self.world().too_busy = count;
    }

    /// What it was asked last, a line each, for messages.
    pub fn last_asked(&self, count: usize) -> String {
        let asked = self.vendor.asked();
        let line = |asked: &Asked| {
            let shown = asked.form().get("refresh_token").cloned().unwrap_or_default();
            format!("{} {} {} {shown}", asked.method, asked.target, asked.header("authorization"))
        };
        asked[asked.len().saturating_sub(count)..].iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Tokens that were taken back by us.
    pub fn revocations(&self) -> Vec<String> {
        self.world().revocations.clone()
    }
}

/// Grant and number of a token's text.
fn numbers(text: &str, kind: &str) -> Option<(u64, u64)> {
    let (grant, number) = text.strip_prefix(kind)?.strip_prefix('-')?.split_once('-')?;
    Some((grant.parse().ok()?, number.parse().ok()?))
}

fn takes(world: &mut World, asked: &Asked) -> bool {
    if world.refuses {
        return false;
    }
    let text = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    let token = numbers(text, "access").and_then(|(grant, number)| Some((world.grants.get(&grant)?, number)));
    let Some((grant, number)) = token.filter(|(grant, number)| *number <= grant.given) else { return false };
    let is_over = grant.ends.get(&number).is_some_and(|end| Instant::now() >= *end);
    let is_good = !grant.revoked && number > grant.ended && !(world.by_the_clock && is_over);
    if !is_good {
        *world.late.entry(text.to_owned()).or_default() += 1;
    }
    is_good
}

/// Half of the time before the tokens change, half of it after.
fn token(world: &Mutex<World>, asked: &Asked) -> Act {
    let half = {
        let world = world.lock().unwrap();
        let Range { start, end } = world.latency.clone();
        let length = if end > start { start + u64::from(rand_u32()) % (end - start) } else { start };
        Duration::from_micros(length * 500)
    };
    thread::sleep(half);
    let act = given(&mut world.lock().unwrap(), asked);
    thread::sleep(half);
    let mood = world.lock().unwrap().mood.clone();
    if let Some(Mood::Late(length)) = mood {
        thread::sleep(length);
    }
    act
}

fn rand_u32() -> u32 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn given(world: &mut World, asked: &Asked) -> Act {
    let (rotation, mood, life) = (world.rotation, world.mood.clone(), world.life.clone());
    let shown = asked.form().get("refresh_token").and_then(|text| numbers(text, "refresh"));
    let Some((grant, number)) = shown.and_then(|(grant, number)| Some((world.grants.get_mut(&grant)?, number))) else {
        return refusal();
    };
    grant.shown.push(number);
    match &mood {
        Some(Mood::Answer(bytes)) => return Act::End(bytes.clone()),
        Some(Mood::AnswerTo(to, bytes)) if *to == number => return Act::End(bytes.clone()),
        Some(Mood::Client(secret)) if !shows(asked, secret) => return json_answer(401, &json!({"error": "invalid_client"})),
        Some(Mood::Late(_)) => return Act::End(Vec::new()),
        Some(Mood::Silence | Mood::AnswerTo(..) | Mood::Client(_)) | None => {}
    }
    if number > grant.current && !grant.revoked {
        return refusal();
    }
    let patient = rotation == Rotation::Grace && grant.rotated.is_some_and(|rotated| rotated.elapsed() < GRACE);
    if grant.revoked || (number != grant.current && !patient) {
        grant.revoked = true;
        return refusal();
    }
    grant.given += 1;
    if let Some(seconds) = life.as_u64() {
        grant.ends.insert(grant.given, Instant::now() + Duration::from_secs(seconds));
    }
    if matches!(rotation, Rotation::Grace | Rotation::Strict) {
        grant.current += 1;
        grant.rotated = Some(Instant::now());
    }
    if let Some(Mood::Silence) = mood {
        return Act::End(Vec::new());
    }
    let of = asked_grant(asked);
    let mut reply = json!({"access_token": format!("access-{of}-{}", grant.given), "token_type": "bearer"});
    if !life.is_null() {
        reply["expires_in"] = life;
    }
    if rotation != Rotation::Never {
        reply["refresh_token"] = json!(format!("refresh-{of}-{}", grant.current));
    }
    json_answer(200, &reply)
}

fn asked_grant(asked: &Asked) -> u64 {
    asked.form().get("refresh_token").and_then(|text| numbers(text, "refresh")).map_or(0, |(grant, _)| grant)
}

fn refusal() -> Act {
    json_answer(400, &json!({"error": "invalid_grant", "error_description": "the refresh token is over"}))
}

/// Whether the client shows this secret (RFC 6749 §2.3.1).
fn shows(asked: &Asked, secret: &str) -> bool {
    let pair = asked.header("authorization").strip_prefix("Basic ").and_then(|pair| BASE64_STANDARD.decode(pair).ok());
    pair.is_some_and(|pair| pair.ends_with(format!(":{secret}").as_bytes()))
}
