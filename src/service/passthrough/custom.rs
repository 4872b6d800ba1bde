//! A caller's own request by `/custom`: the checks of the transparent proxy, and an answer that is judged.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Look, Passthrough, company_within, method_config};
use crate::{
    error::{Code, Error, Result},
    mapping::Path,
    service::{Linked, cut_short},
    upstream::{
        CustomAnswer, CustomCall, Failure, HttpAnswer, Said, headers::request_headers, judge, passthrough_target::build_target,
        transport::keeper_commander::submitted_request_id,
    },
};

/// A request that a caller wants made as it is.
pub struct CustomAsk {
    /// The method.
    pub method: Method,
    /// Below the account's base, as it was written.
    pub raw_path: String,
    /// As it was written, without parameters of ours.
    pub raw_query: Option<String>,
    /// The caller's headers, in any order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// The company the caller names.
    pub company: Option<String>,
    /// What of a JSON answer is wanted; all of it when left out.
    pub result: Option<Path>,
}

impl CustomAsk {
    /// Whether its body is JSON, as far as its headers say.
    pub(super) fn is_json(&self) -> bool {
        let kind = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        kind.is_none_or(|(_, kind)| kind.to_ascii_lowercase().windows(4).any(|word| word == b"json"))
    }
}

/// A good answer to it.
pub enum CustomReply {
    /// JSON, in the envelope.
    Json {
        /// The vendor's status.
        status: u16,
        /// The vendor's headers.
        headers: HeaderMap,
        /// The envelope.
        body: Vec<u8>,
    },
    /// Anything else, as it is.
    Other(CustomAnswer),
    /// The same, read whole.
    Whole(HttpAnswer),
}

impl Passthrough {
    /// A request that changes nothing; what is no JSON is handed on piece by piece.
    pub async fn read_custom(&self, linked: &Arc<Linked>, ask: CustomAsk) -> Result<CustomReply> {
        let (call, exclusive, result) = self.prepare(linked, ask)?;
        if exclusive.is_some() || self.upstream.is_sealed(&linked.access) {
            return self.send_whole(linked, call, exclusive, result, usize::MAX).await;
        }
        let answer = self.upstream.custom(&linked.access, call).await.map_err(|failure| self.failed(linked, failure))?;
        let is_good = StatusCode::from_u16(answer.status).is_ok_and(|status| status.is_success());
        if (is_good && !answer.is_json()) || answer.status == StatusCode::NOT_MODIFIED {
            return Ok(CustomReply::Other(answer));
        }
        let whole = answer.whole(usize::MAX).await.map_err(|failure| self.failed(linked, failure))?;
        judged(linked, whole, result.as_ref()).map_err(|failure| self.failed(linked, failure))
    }

    /// A request that may change something: made to its end even if the caller leaves, its answer read whole, at most `most`
    /// bytes of it. What may have taken effect although no good answer came is said to be unconfirmed.
    pub async fn write_custom(&self, linked: &Arc<Linked>, ask: CustomAsk, most: usize) -> Result<CustomReply> {
        let (call, exclusive, result) = self.prepare(linked, ask)?;
        self.send_whole(linked, call, exclusive, result, most).await
    }

    /// The request as the vendor shall see it, and the company of a call that nobody else's may come between.
    fn prepare(&self, linked: &Linked, ask: CustomAsk) -> Result<(CustomCall, Option<Option<String>>, Option<Path>)> {
        let CustomAsk { method, raw_path, raw_query, headers, body, company, result } = method_config::applied(ask)?;
        let access = &linked.access;
        let slashes = access.method.proxy.encoded_slashes;
        let target = build_target(&access.base, &raw_path, raw_query.as_deref(), &access.query, slashes)?;
        let kept = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let mut headers = request_headers(kept, access);
        if let Look::Body(limit) = self.admit(linked, &method, &raw_path)? {
            if body.len() > limit {
                return Err(Error::new(Code::BodyTooLarge, format!("The body is larger than {limit} bytes.")));
            }
            self.admit_body(linked, &raw_path, &headers, &body)?;
        }
        // What is wrapped must be readable, and what is not shall come as it is.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::CONTENT_LENGTH);
        let exclusive = match self.is_exclusive(linked, &body) {
            true => Some(company_within(linked, company.as_deref())?.map(str::to_owned)),
            false => None,
        };
        Ok((CustomCall { method, target, headers, body }, exclusive, result))
    }

    async fn send_whole(
        &self,
        linked: &Arc<Linked>,
        call: CustomCall,
        exclusive: Option<Option<String>>,
        result: Option<Path>,
        most: usize,
    ) -> Result<CustomReply> {
        let (upstream, access, tasks) = (Arc::clone(&self.upstream), Arc::clone(&linked.access), self.tasks.clone());
        let is_write = !call.method.is_safe();
        let work = async move {
            let sending = async {
                let answer = upstream.custom(&access, call).await?.whole(most).await?;
                upstream.opened(&access, answer)
            };
            let Some(company) = exclusive else { return sending.await };
            let queued = async {
                let answer = sending.await?;
                let id = submitted_request_id(&answer.body);
                Ok((answer, id))
            };
            let around = upstream.exclusively(&access, company.as_deref(), queued).await?;
            if let Some(tail) = around.tail {
                tasks.spawn(tail);
            }
            Ok(around.value)
        };
        let answer = self.tasks.finish(Box::pin(work)).await.ok_or_else(cut_short)?;
        let reply = answer.and_then(|answer| judged(linked, answer, result.as_ref()));
        reply.map_err(|failure| match is_write {
            true => self.unconfirmed(linked, failure),
            false => self.failed(linked, failure),
        })
    }

    /// A refused credential casts doubt on the account, as by the transparent proxy: the vendor's own test decides.
    fn failed(&self, linked: &Arc<Linked>, failure: Failure) -> Error {
        if failure.code() == Code::ReauthRequired {
            self.accounts.doubt(linked);
        }
        failure.into()
    }

    fn unconfirmed(&self, linked: &Arc<Linked>, failure: Failure) -> Error {
        match judge(failure) {
            Ok(Said::Failed(failure) | Said::Unknown(failure)) => not_confirmed(failure),
            Ok(Said::Done(_) | Said::Unasked) => Error::internal("a failure that is none"),
            Err(failure) => self.failed(linked, failure),
        }
    }
}

/// The error for a request that may have taken effect although no good answer came; the vendor's words are kept.
pub(in crate::service) fn not_confirmed(failure: Failure) -> Error {
    let detail = format!("Whether it took effect is not known: {failure}.");
    let Failure::Answered { answer, .. } = failure else { return Error::new(Code::WriteUnconfirmed, detail) };
    let status = answer.status.filter(|status| (400..600).contains(status));
    let error = Error::new(Code::WriteUnconfirmed, detail).vendor(answer);
    status.into_iter().fold(error, Error::status)
}

/// The answer in the envelope if it is JSON, or the failure it is.
fn judged(linked: &Linked, answer: HttpAnswer, result: Option<&Path>) -> Result<CustomReply, Failure> {
    let is_json = answer.is_json();
    if is_json || !(200..300).contains(&answer.status) {
        answer.judged(&linked.access)?;
    }
    if !is_json || answer.body.trim_ascii().is_empty() {
        return Ok(CustomReply::Whole(answer));
    }
    let body = envelope(&answer.body, result)?;
    Ok(CustomReply::Json { status: answer.status, headers: answer.headers, body })
}

fn envelope(body: &Bytes, result: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let not_json = |_| Failure::BadAnswer("the vendor's answer says that it is JSON, and is not, or is cut off".into());
    serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(not_json)?;
    let whole = std::str::from_utf8(body).map_err(|_| Failure::BadAnswer("the vendor's JSON is not UTF-8".into()))?;
    let found = match result {
        None => whole.trim().to_owned(),
        Some(path) => taken(body, path)?,
    };
    Ok(["{\"result\":", &found, ",\"next_cursor\":null,\"prev_cursor\":null}"].concat().into_bytes())
}

/// What stands at the path: one value, or the list of those that a path with `[*]` finds.
pub(in crate::service) fn taken(body: &Bytes, path: &Path) -> Result<String, Failure> {
    let found = path.values(body).ok_or_else(|| Failure::BadAnswer(format!("`{path}` cannot be read in the vendor's answer")))?;
    match (path.as_str().contains("[*]"), found.as_slice()) {
        (false, [one, ..]) => Ok((*one).to_owned()),
        (false, []) => Ok("null".to_owned()),
        (true, all) => Ok(format!("[{}]", all.join(","))),
    }
}
