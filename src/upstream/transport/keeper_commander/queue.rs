//! Commands one after another: through the service's queue where it has one, at once where it has not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    Call, Reply, Times, Wire,
    wire::{Done, Verdict, is_missing_route},
};
use crate::{
    connector::Meaning,
    upstream::{Access, Failure, redact::Redaction},
};

const V1: &str = "/api/v1/executecommand";
const V2: &str = "/api/v2/executecommand-async";

/// One HTTP exchange of the queue is short, whatever the command takes.
const EXCHANGE: Duration = Duration::from_secs(30);

/// A limiter with a longer window than this is not waited for.
const LONGEST_WINDOW: u64 = 300;

/// Times a command is sent again because the service has no enterprise in memory.
const RELOADS: u64 = 3;

/// Looks at a result that may fail for want of a connection before the command is given up.
const LOST_LOOKS: u32 = 2;

/// A run of commands with one deadline.
pub(super) struct Session<'a> {
    wire: &'a dyn Wire,
    access: &'a Access,
    redaction: Arc<Redaction>,
    times: Times,
    deadline: Instant,
    has_queue: AtomicBool,
    is_encrypted: AtomicBool,
}

impl<'a> Session<'a> {
    /// A run that may take as long as the link method's time-out.
    pub fn new(wire: &'a dyn Wire, access: &'a Access) -> Self {
        let queue = access.facts.get("queue").and_then(serde_json::Value::as_bool).unwrap_or(true);
        Self {
            wire,
            access,
            redaction: Arc::new(Redaction::of(access)),
            times: wire.times(),
            deadline: Instant::now() + access.method.limits.timeout,
            has_queue: AtomicBool::new(queue),
            is_encrypted: AtomicBool::new(false),
        }
    }

    /// Whether the service has its queue on, as far as seen.
    pub fn has_queue(&self) -> bool {
        self.has_queue.load(Ordering::Relaxed)
    }

    /// Whether results came encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted.load(Ordering::Relaxed)
    }

    /// The account this run is for.
    pub fn access(&self) -> &Access {
        self.access
    }

    /// One plain `GET`, for the routes without commands.
    pub async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.exchange(Method::GET, path, None, EXCHANGE).await
    }

    /// Runs a command and gives its own answer, good or bad. Waits where the service or Keeper asks for it, within the
    /// deadline; a refused key and a lost session are errors.
    pub async fn run(&self, command: &str) -> Result<Done, Failure> {
        self.repeat(command, true).await
    }

    /// The same for a command that changes something: it is sent again only where it was surely not executed.
    pub async fn change(&self, command: &str) -> Result<Done, Failure> {
        self.repeat(command, false).await
    }

    async fn repeat(&self, command: &str, only_reads: bool) -> Result<Done, Failure> {
        let (mut renewed, mut reloads) = (false, 0);
        loop {
            let done = self.once(command).await?;
            match done.verdict() {
                Verdict::RateLimited { window, wait } => self.wait_for_limiter(&done, window, wait).await?,
                Verdict::Throttled(_) | Verdict::Lost | Verdict::Expired | Verdict::SessionExpired if !only_reads => {
                    return Ok(done);
                }
                Verdict::Throttled(wait) => self.pause(&done, Meaning::RateLimited, wait).await?,
                Verdict::QueueFull => self.pause(&done, Meaning::NotReady, 5).await?,
                Verdict::Expired => self.pause(&done, Meaning::NotReady, 1).await?,
                // A throttled load leaves nothing behind; the next command loads again.
                Verdict::NoEnterprise if reloads < RELOADS => {
                    reloads += 1;
                    self.pause(&done, Meaning::NotReady, reloads).await?;
                }
                Verdict::NoEnterprise => return Err(done.failure(Meaning::Denied, None)),
                Verdict::SessionExpired if !renewed => renewed = true,
                Verdict::SessionExpired | Verdict::Reauth => return Err(needs_person(&done)),
                Verdict::Lost => {
                    return Err(done.failure_after(
                        Meaning::NotReady,
                        Some("The service lost the command, as it does when it restarts.".into()),
                        Some(1),
                    ));
                }
                _ => return Ok(done),
            }
        }
    }

    async fn once(&self, command: &str) -> Result<Done, Failure> {
        let body = Bytes::from(json!({ "command": command }).to_string());
        if self.has_queue() {
            let reply = self.exchange(Method::POST, V2, Some(body.clone()), EXCHANGE).await?;
            if !is_missing_route(&reply) {
                let done = self.read(reply)?;
                return match done.request_id() {
                    Some(id) if done.status == 202 => self.result(id).await,
                    _ => Ok(done),
                };
            }
            self.has_queue.store(false, Ordering::Relaxed);
        }
        let left = self.left();
        let reply = self.exchange(Method::POST, V1, Some(body), left).await?;
        self.read(reply)
    }

    /// Looks at a queued command until it is done.
    async fn result(&self, id: &str) -> Result<Done, Failure> {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Failure::BadAnswer("a queued command without a usable request id".into()));
        }
        let path = format!("/api/v2/result/{id}");
        let (mut wait, mut lost) = (self.times.first_look, 0);
        loop {
            if self.left() <= wait {
                return Err(self.timed_out());
            }
            sleep(wait).await;
            wait = wait.mul_f64(1.6).min(self.times.longest_pause);
            let reply = match self.exchange(Method::GET, &path, None, EXCHANGE).await {
                Err(Failure::Unreachable(_) | Failure::Broken(_) | Failure::TimedOut(_)) if lost < LOST_LOOKS => {
                    lost += 1;
                    continue;
                }
                other => other?,
            };
            if reply.status == 202 {
                continue;
            }
            let done = self.read(reply)?;
            match done.verdict() {
                Verdict::RateLimited { window, wait } => self.wait_for_limiter(&done, window, wait).await?,
                _ => return Ok(done),
            }
        }
    }

    /// Waits until a command that somebody else queued with this key has ended, however it ended.
    pub async fn until_ended(&self, id: &str) -> Result<(), Failure> {
        let path = format!("/api/v2/status/{id}");
        let mut wait = self.times.first_look;
        loop {
            if self.left() <= wait {
                return Err(self.timed_out());
            }
            sleep(wait).await;
            wait = wait.mul_f64(1.6).min(self.times.longest_pause);
            let reply = self.exchange(Method::GET, &path, None, EXCHANGE).await?;
            let state = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
            let state = state.as_ref().and_then(|state| state.get("status")).and_then(serde_json::Value::as_str);
            if reply.status == 404 || matches!(state, Some("completed" | "failed" | "expired")) {
                return Ok(());
            }
        }
    }

    fn read(&self, reply: Reply) -> Result<Done, Failure> {
        let done = Done::read(reply, self.access, &self.redaction)?;
        if done.encrypted {
            self.is_encrypted.store(true, Ordering::Relaxed);
        }
        Ok(done)
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Bytes>, timeout: Duration) -> Result<Reply, Failure> {
        let timeout = timeout.min(self.left());
        if timeout.is_zero() {
            return Err(self.timed_out());
        }
        self.wire.send(self.access, Call { method, path: path.to_owned(), body, timeout }).await
    }

    async fn wait_for_limiter(&self, done: &Done, window: u64, wait: u64) -> Result<(), Failure> {
        if window > LONGEST_WINDOW {
            return Err(done.failure_after(Meaning::RateLimited, None, Some(LONGEST_WINDOW)));
        }
        self.pause(done, Meaning::RateLimited, wait).await
    }

    async fn pause(&self, done: &Done, meaning: Meaning, seconds: u64) -> Result<(), Failure> {
        let wait = Duration::from_secs(seconds);
        if wait >= self.left() {
            return Err(done.failure_after(meaning, None, Some(seconds)));
        }
        sleep(wait).await;
        Ok(())
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn timed_out(&self) -> Failure {
        Failure::TimedOut(self.access.method.limits.timeout.as_secs())
    }
}

/// The failure of a service that needs a person or another key.
pub(super) fn needs_person(done: &Done) -> Failure {
    let words = done.text();
    let message = if done.status == 401 {
        format!("The service refuses the API key: {words}")
    } else {
        format!("The service's own Keeper session needs a person to sign in again: {words}")
    };
    done.failure(Meaning::Reauth, Some(message))
}
