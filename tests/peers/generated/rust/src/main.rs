//! The Rust client of openapi-generator against a gateway: BASE TOKEN ACCOUNT. Prints one JSON line.

use std::collections::HashMap;

use openapi::apis::{Error, accounts_api, configuration::Configuration, directory_api};
use serde_json::{Value, json};

async fn walk(client: &Configuration, account: &str, limit: i32, filters: Option<HashMap<String, Value>>) -> Vec<String> {
    let (mut users, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let (limit, next, filters) = (Some(limit), cursor.as_deref(), filters.clone());
        let page =
            directory_api::list_users(client, account, None, None, None, None, limit, next, None, None, None, None, filters);
        let page = page.await.expect("a page");
        users.extend(page.result.into_iter().map(|user| user.id));
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return users,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [base_path, token, account] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else { panic!("BASE TOKEN ACCOUNT") };
    let client = Configuration {
        base_path: base_path.clone(),
        bearer_access_token: Some(token.clone()),
        ..Configuration::default()
    };
    let nobody = uuid::Uuid::new_v4().to_string();
    let refused = directory_api::list_users(&client, &nobody, None, None, None, None, None, None, None, None, None, None, None);
    let problem = match refused.await {
        Err(Error::ResponseError(response)) => match response.entity.expect("a problem") {
            directory_api::ListUsersError::Status400(problem) => problem,
            other => panic!("{other:?}"),
        },
        other => panic!("no such account, yet {other:?}"),
    };
    let found = accounts_api::get_integrated_account(&client, account).await.expect("the account");
    let said = json!({
        "users": walk(&client, account, 7, None).await,
        "inactive": walk(&client, account, 2, Some([("status".to_owned(), json!("inactive"))].into())).await,
        "problem": [problem.status, problem.code, problem.retryable],
        "account": found.id,
    });
    println!("{said}");
}
