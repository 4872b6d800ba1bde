//! The audit log: who did what, and whether the log is the one that was written.

use actix_web::{HttpRequest, get, web::Data};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Error, Result},
    http::{
        Answer, State, envelope,
        extract::{Admin, Caller},
        lines,
        pieces::{self, Pieces},
        query::{AuditList, AuditPlace},
        schema::{PageParams, Problem},
    },
    model::{AccountId, EnvironmentId, Warning},
    service::{
        Services,
        audit::{AuditEntry, AuditHead, AuditProblem, VerifyPlace, WantedEntries},
    },
};

/// Names the walk of `verify` in its cursors.
const VERIFY: &str = "audit-verify";
/// Entries of one piece of lines.
const PIECE: usize = 500;

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
pub struct AuditEntryPage {
    /// The entries, the newest first.
    pub result: Vec<AuditEntry>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The most entries of a page.
    pub limit: usize,
    /// Whether no entry of what was looked at is missing or was changed.
    pub complete: bool,
    /// What is missing, where something is.
    pub warnings: Vec<Warning>,
}

/// What a look at a piece of the audit log found.
#[derive(Serialize, ToSchema)]
pub struct AuditVerified {
    /// The number of the last entry that was looked at.
    pub verified_to: u64,
    /// Entries of this piece.
    pub entries: u64,
    /// How many entries there are; null before the first, and where the record of it is not to be believed.
    #[schema(required = true)]
    pub head: Option<AuditHead>,
    /// What is wrong; empty where the log is as it was written.
    pub problems: Vec<AuditProblem>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Filters of the audit log.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct AuditParams {
    /// Only actions by tokens of this name.
    #[param(min_length = 1)]
    actor: Option<String>,
    /// Only this action, for example `integrated_account.delete`.
    #[param(min_length = 1)]
    action: Option<String>,
    /// Only actions done to the object of this id, ours or a vendor's, or to one whose hash this is.
    #[param(min_length = 1)]
    target_id: Option<String>,
    /// Only actions done to this account or through it.
    #[param(value_type = Option<uuid::Uuid>)]
    integrated_account_id: Option<AccountId>,
    /// Only actions that ended then or later.
    since: Option<jiff::Timestamp>,
    /// Only actions that ended then or earlier.
    until: Option<jiff::Timestamp>,
}

/// How far the audit log was looked at.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct AuditPlaceParams {
    /// `next_cursor` of the piece before. Empty means the first piece.
    next_cursor: Option<String>,
}

/// The audit log of this environment, the newest entries first: every write of this gateway's own objects and of vendors' records,
/// by whom, to what, when and with what outcome; never a body or a secret. With `Accept: application/x-ndjson` the whole list comes
/// as lines, one entry each, then one that says whether it is complete.
#[utoipa::path(tag = "audit", security(("bearer" = ["admin"])), params(PageParams, AuditParams), responses(
    (status = 200, description = "A page of entries.", body = AuditEntryPage),
    (status = 422, description = "No entry was found in the time one call may take; say when it was.", body = Problem,
        content_type = "application/problem+json")
))]
#[get("/audit")]
pub async fn list_audit_entries(caller: Caller<Admin, AuditList>, request: HttpRequest, state: Data<State>) -> Answer {
    let (services, environment) = (&state.services, caller.environment);
    let AuditList { page, wanted, digest } = &caller.query;
    let list = format!("audit|{digest:x}");
    let before = page.cursor.as_deref().map(|text| services.cursors.open::<u64>(environment, &list, text)).transpose()?;
    if lines::are_accepted(&request) {
        let entries = Entries { environment, wanted: wanted.clone(), before, has_ended: false, lost: 0 };
        return pieces::answer(entries, request).await;
    }
    let found = services.audit.list(environment, wanted.clone(), page.limit, before).await?;
    envelope::object(&AuditEntryPage {
        result: found.entries,
        next_cursor: found.next.map(|next| services.cursors.seal(environment, &list, next)),
        limit: page.limit,
        complete: found.lost == 0,
        warnings: lost(found.lost).into_iter().collect(),
    })
}

/// Looks whether a piece of the audit log is as it was written: every entry unchanged and in its place, and as many as there must
/// be. Call again with `next_cursor` until it is null; `rollcall audit verify` does.
#[utoipa::path(tag = "audit", security(("bearer" = ["admin"])), params(AuditPlaceParams), responses(
    (status = 200, description = "What was found.", body = AuditVerified)
))]
#[get("/audit/verify")]
pub async fn verify_audit_log(caller: Caller<Admin, AuditPlace>, state: Data<State>) -> Answer {
    let (services, environment) = (&state.services, caller.environment);
    let from = caller.query.0.as_deref();
    let from = from.map(|text| services.cursors.open::<VerifyPlace>(environment, VERIFY, text)).transpose()?;
    let found = services.audit.verify(environment, from).await?;
    envelope::object(&AuditVerified {
        verified_to: found.verified_to,
        entries: found.entries,
        head: found.head,
        problems: found.problems,
        next_cursor: found.next.map(|next| services.cursors.seal(environment, VERIFY, next)),
    })
}

fn lost(entries: u64) -> Option<Warning> {
    (entries > 0).then(|| Warning {
        code: "entries_lost".to_owned(),
        message: format!(
            "{entries} entries of what was looked at are missing or were changed; `rollcall audit verify` says which."
        ),
        field: None,
    })
}

/// The log as lines.
struct Entries {
    environment: EnvironmentId,
    wanted: WantedEntries,
    before: Option<u64>,
    has_ended: bool,
    lost: u64,
}

impl Pieces for Entries {
    type Right = Admin;

    async fn next(&mut self, services: &Services) -> Result<Option<Bytes>> {
        if self.has_ended {
            return Ok(None);
        }
        let found = services.audit.list(self.environment, self.wanted.clone(), PIECE, self.before).await?;
        self.lost += found.lost;
        self.before = found.next;
        self.has_ended = found.next.is_none();
        let mut lines = Vec::new();
        for entry in &found.entries {
            serde_json::to_writer(&mut lines, entry).map_err(Error::internal)?;
            lines.push(b'\n');
        }
        Ok(Some(lines.into()))
    }

    async fn end(&mut self, _: &Services, problem: Option<&RawValue>) -> Bytes {
        let complete = self.lost == 0 && problem.is_none();
        let warnings: Vec<_> = lost(self.lost).into_iter().collect();
        format!("{}\n", json!({"complete": complete, "warnings": warnings, "problem": problem})).into()
    }
}
