//! SCIM vendors: real servers behind the real binary.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    gateway::{Gateway, Kept},
    peers,
};

/// `host:port` of an address, for `ROLLCALL_EGRESS_ALLOW`.
pub fn authority(address: &str) -> String {
    url::Url::parse(address).unwrap().socket_addrs(|| None).unwrap()[0].to_string()
}

#[tokio::test]
async fn every_user_is_listed_across_pages_on_both_stores() {
    for kept in Kept::each() {
        for cursor in [&["--users", "25"][..], &["--users", "25", "--cursor"]] {
            let peer = peers::scim2_server(cursor);
            let gateway = Gateway::start(&kept, &authority(peer.base()));
            let account = gateway.link("scim", "bearer", json!({"base_url": peer.base(), "token": peer.told("token")})).await;
            let users = gateway.walk(&format!("/unified/user-directory/users?integrated_account_id={account}&limit=7")).await;
            let ids: BTreeSet<&str> = users.iter().map(|user| user["id"].as_str().unwrap()).collect();
            assert_eq!((users.len(), ids.len()), (25, 25), "{cursor:?}");
        }
    }
}
