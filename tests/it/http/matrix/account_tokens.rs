//! G-13 and G-06 for account tokens: every route × a token for one account.

use serde_json::Value;
use uuid::Uuid;

use super::{Fixture, SAME_ID, all_the_same, comparable, operations, request};

/// Account tokens: admitted where that is said, for their account alone, whether it is named or not.
pub fn check_account_tokens(fixture: &Fixture) {
    let token = Some(fixture.account_token.as_str());
    for operation in operations().iter().filter(|o| o.is_for_all || o.scope.is_some()) {
        let name = &operation.name;
        if !operation.is_open_to_account_tokens() {
            for reply in all_the_same(operation, fixture, token) {
                assert_eq!((reply.status, reply.code().as_str()), (403, "token_kind"), "{name}: {}", reply.text());
            }
            continue;
        }
        if operation.path == "/integrated-account/me" {
            let own = operation.call(fixture, token, "", "");
            assert_eq!((own.status, &own.json()["id"]), (200, &Value::from(fixture.account.clone())), "{name}: {}", own.text());
            let without = operation.call(fixture, Some(&fixture.admin), "", "");
            assert_eq!((without.status, without.code().as_str()), (403, "token_kind"), "{name}: {}", without.text());
            continue;
        }
        let call = |account: &str| operation.call(fixture, token, &fixture.user, account);
        let expected = comparable(&call(&Uuid::now_v7().to_string()));
        assert!(expected.0 == 404 && expected.2.contains("\"not_found\""), "{name}: {}", expected.2);
        for account in [fixture.other_account.as_str(), &fixture.foreign_account, "nonsense", "0"] {
            assert_eq!(comparable(&call(account)), expected, "{name} with {account}");
        }
        // What belongs to the fixture stays as it is.
        let own = [fixture.account.as_str(), ""];
        for account in own.into_iter().filter(|_| !operation.changes()) {
            let (reply, by_admin) = (call(account), operation.ask(fixture, Some(&fixture.admin), &fixture.account));
            assert_eq!((reply.status, reply.text()), (by_admin.status, by_admin.text()), "{name}");
        }
    }
}

/// The same on the routes that are not in the document.
pub fn check_account_tokens_elsewhere(fixture: &Fixture) {
    let Fixture { account, other_account, foreign_account, account_token, .. } = fixture;
    let missing = Uuid::now_v7().to_string();
    let bearer = format!("Bearer {account_token}");
    let call = |method: &str, path: &str, more: &[(&str, &str)]| {
        let headers = [&[SAME_ID, ("authorization", bearer.as_str())][..], more].concat();
        request(fixture.addr, method, path, &headers, None)
    };
    for path in ["/passthrough/-/Users?count=1", "/custom/Users?count=1", &format!("/passthrough/{account}/Users?count=1")] {
        let reply = call("GET", path, &[]);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    for named in [
        format!("/passthrough/-/Users?integrated_account_id={account}"),
        format!("/custom/Users?integrated_account_id={account}"),
    ] {
        assert_eq!(call("GET", &named, &[]).status, 200, "{named}");
    }
    for other in [missing.as_str(), other_account, foreign_account, "nonsense"] {
        for method in ["GET", "POST"] {
            for path in [
                format!("/passthrough/{other}/Users"),
                format!("/passthrough/-/Users?integrated_account_id={other}"),
                format!("/custom/Users?integrated_account_id={other}"),
            ] {
                let reply = call(method, &path, &[]);
                assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{method} {path}: {}", reply.text());
            }
            let reply = call(method, "/passthrough/-/Users", &[("rollcall-account", other)]);
            assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{method} with the header: {}", reply.text());
        }
    }
    for closed in ["/unified/meta/user-directory/scim", "/unified/user-directory/users/scim/meta/list"] {
        let reply = call("GET", closed, &[]);
        assert_eq!((reply.status, reply.code().as_str()), (403, "token_kind"), "{closed}: {}", reply.text());
    }
    for closed in ["/integrated-account/token", "/integrated-account/bulk-delete"] {
        let reply = call("GET", closed, &[]);
        assert_eq!((reply.status, reply.code().as_str()), (403, "token_kind"), "{closed}: {}", reply.text());
    }
    // What is not offered is told of the own account, and of no other.
    for path in ["/unified/user-directory/users", "/proxy/Users"] {
        let own = call("PUT", path, &[]);
        assert_eq!((own.status, own.code().as_str()), (405, "method_not_supported"), "{path}: {}", own.text());
        let other = call("PUT", &format!("{path}?integrated_account_id={other_account}"), &[]);
        assert_eq!((other.status, other.code().as_str()), (404, "not_found"), "{path}: {}", other.text());
    }
}
