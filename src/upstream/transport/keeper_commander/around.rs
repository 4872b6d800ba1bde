//! A caller's own command within the lock and, for an account limited to one company, within the verified switch. The
//! bytes stay the caller's; only the time of their sending is ours.

use std::{future::Future, pin::Pin, sync::Arc};

use serde::Deserialize;

use super::{
    Wire,
    company::{NODES, go_home, good, leave, prove_is},
    lock::Lock,
    queue::Session,
    visit::{enter, is_managed, number},
};
use crate::upstream::{Access, Failure};

/// What is left to do when the caller already has its answer: waiting for the queued command to end and giving the lock
/// back. To be driven by whoever starts tasks.
pub type Tail = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that was made within the lock.
pub struct Around<T> {
    /// What the call gave.
    pub value: T,
    /// What is left to do.
    pub tail: Option<Tail>,
}

/// Holds the service's lock around a call, and with a company also the switch to it, verified before and after. The call
/// gives its value and the request id of a queued command, if it queued one: the lock is then kept until that has ended,
/// because the answer 202 comes before the execution. Within a company the answer itself waits for that: the proof queues
/// behind the command, and without it the caller must not learn the id of a result.
pub async fn around<T, F>(
    wire: &Arc<dyn Wire>,
    access: &Arc<Access>,
    company: Option<&str>,
    call: F,
) -> Result<Around<T>, Failure>
where
    F: Future<Output = Result<(T, Option<String>), Failure>>,
{
    let lock = Lock::take(wire.store(), access, wire.times()).await?;
    let company = company.filter(|id| !id.is_empty());
    let made = lock.during(make(wire, access, company, call)).await;
    match made {
        Ok((value, Some(id))) if company.is_none() => {
            let tail = finish(Arc::clone(wire), Arc::clone(access), lock, id);
            Ok(Around { value, tail: Some(Box::pin(tail)) })
        }
        Ok((value, _)) => {
            lock.release().await;
            Ok(Around { value, tail: None })
        }
        Err(failure) => {
            lock.release().await;
            Err(failure)
        }
    }
}

async fn make<T, F>(wire: &Arc<dyn Wire>, access: &Access, company: Option<&str>, call: F) -> Result<(T, Option<String>), Failure>
where
    F: Future<Output = Result<(T, Option<String>), Failure>>,
{
    let Some(company) = company else { return call.await };
    let session = Session::new(wire.as_ref(), access);
    let id = number(company)?;
    let home = go_home(&session).await?;
    let is_managed = is_managed(&session, &home, id).await?;
    let made = async {
        if is_managed {
            enter(&session, company).await?;
            good(session.run("enterprise-down").await?, "enterprise-down")?;
        }
        prove_is(&session, NODES, id).await?;
        let made = call.await?;
        prove_is(&session, NODES, id).await?;
        Ok(made)
    }
    .await;
    if is_managed {
        leave(&session).await?;
    }
    made
}

/// Waits for the queued command, not longer than a command may take.
async fn finish(wire: Arc<dyn Wire>, access: Arc<Access>, lock: Lock, id: String) {
    let session = Session::new(wire.as_ref(), &access);
    if let Err(failure) = lock.during(session.until_ended(&id)).await {
        tracing::warn!(%failure, account = %access.account, "a caller's queued command was not seen to end");
    }
    lock.release().await;
}

/// The request id in the answer to `executecommand-async`, for [`around`].
pub fn submitted_request_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Submitted {
        request_id: String,
    }
    let submitted: Submitted = serde_json::from_slice(body).ok()?;
    let id = submitted.request_id;
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_request_id_is_followed() {
        assert_eq!(submitted_request_id(br#"{"success":true,"request_id":"cbfdabe2-2c54"}"#).as_deref(), Some("cbfdabe2-2c54"));
        assert_eq!(submitted_request_id(br#"{"request_id":"../x"}"#), None);
        assert_eq!(submitted_request_id(b"{}"), None);
        assert_eq!(submitted_request_id(b"<html>"), None);
    }
}
