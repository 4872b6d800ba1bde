//! A gateway and one account of it, linked to a server of the vendor's.

use serde_json::{Value, json};

use super::gateway::{ADMIN, Answer, Gateway, Kept};

/// `host:port` of an address, for `ROLLCALL_EGRESS_ALLOW`.
pub fn authority(address: &str) -> String {
    url::Url::parse(address).unwrap().socket_addrs(|| None).unwrap()[0].to_string()
}

pub struct House {
    pub gateway: Gateway,
    pub account: String,
    _kept: Kept,
}

impl House {
    async fn linked(integration: &str, method: &str, base: &str, context: Value, kept: Kept) -> House {
        let gateway = Gateway::start(&kept, &authority(base));
        let account = gateway.link(integration, method, context).await;
        House { gateway, account, _kept: kept }
    }

    /// Linked to a SCIM server.
    pub async fn scim(base: &str, token: &str, kept: Kept) -> House {
        House::linked("scim", "bearer", base, json!({"base_url": base, "token": token}), kept).await
    }

    /// Linked to a Commander service; `more` goes into the context.
    pub async fn keeper(base: &str, api_key: &str, more: Value) -> House {
        let mut context = json!({"service_url": base, "api_key": api_key});
        context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        House::linked("keeper", "service_mode", base, context, Kept::embedded()).await
    }

    /// The path with the account.
    pub fn path(&self, path: &str) -> String {
        let join = if path.contains('?') { '&' } else { '?' };
        format!("{path}{join}integrated_account_id={}", self.account)
    }

    /// A call about the account, in a company.
    pub async fn call_in(&self, company: Option<&str>, method: &str, path: &str, body: Option<Value>) -> Answer {
        let headers: Vec<(&str, &str)> = company.iter().map(|company| ("rollcall-company", *company)).collect();
        self.gateway.call_with(ADMIN, &headers, method, &self.path(path), body.as_ref()).await
    }

    /// A call about the account.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.gateway.call(method, &self.path(path), body.as_ref()).await
    }

    /// A call with this status.
    pub async fn right(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Answer {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer
    }

    /// A call with this status and an answer of JSON.
    pub async fn good(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
        self.right(method, path, body, status).await.json()
    }

    /// Every record of a list of the account.
    pub async fn walk(&self, path: &str) -> Vec<Value> {
        self.gateway.walk(&self.path(path)).await
    }
}
