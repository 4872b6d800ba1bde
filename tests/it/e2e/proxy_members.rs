//! `/proxy/group_members`: members stand below a group, and a named resource has no place for one in its path.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{demo::Demo, gateway::client};

async fn get(demo: &Demo, path: &str) -> (u16, Value) {
    let answer = client().get(format!("{}{path}", demo.base())).bearer_auth(demo.token()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

async fn records(demo: &Demo, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(demo, &format!("{path}&next_cursor={cursor}")).await;
        assert_eq!(status, 200, "{page}");
        all.extend(page["result"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return all,
        }
    }
}

fn texts<'a>(records: &'a [Value], field: &str) -> BTreeSet<String> {
    let text = |record: &'a Value| match &record[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    records.iter().map(text).collect()
}

#[tokio::test]
async fn members_are_those_of_the_group_that_is_named() {
    let demo = Demo::start();
    for (integration, own_id) in [("scim", "value"), ("keeper", "user_id")] {
        let account = format!("integrated_account_id={}", demo.account(integration));
        let groups = records(&demo, &format!("/unified/user-directory/groups?{account}")).await;
        let (mut walked, mut paged) = (0, None);
        for group in groups.iter().take(4) {
            let group = group["id"].as_str().unwrap();
            let members = records(&demo, &format!("/unified/user-directory/groups/{group}/members?{account}")).await;
            let list = format!("/proxy/group_members?{account}&group_id={group}&limit=2");
            assert_eq!(texts(&records(&demo, &list).await, own_id).len(), texts(&members, "id").len(), "{integration}, {group}");
            walked += members.len();
            let (_, page) = get(&demo, &list).await;
            paged = paged.or(page["next_cursor"].as_str().map(|cursor| (group.to_owned(), cursor.to_owned())));
        }
        assert!(walked > 0, "{integration} has groups with members");
        if let Some((of, cursor)) = paged {
            let other = groups.iter().find(|group| group["id"] != *of).expect("a second group");
            let path = |group: &str| format!("/proxy/group_members?{account}&group_id={group}&limit=2&next_cursor={cursor}");
            assert_eq!(get(&demo, &path(&of)).await.0, 200, "{integration}");
            let (status, problem) = get(&demo, &path(other["id"].as_str().unwrap())).await;
            assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_cursor")), "another group's cursor");
        }
        for query in ["", "&group_id="] {
            let (status, problem) = get(&demo, &format!("/proxy/group_members?{account}{query}")).await;
            let said = (status, problem["code"].as_str(), problem["field"].as_str(), problem["origin"].as_str());
            assert_eq!(said, (400, Some("invalid_parameter"), Some("group_id"), Some("gateway")), "{integration}: {problem}");
        }
    }
}
