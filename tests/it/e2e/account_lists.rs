//! The list of linked accounts: every filter Truto's list has, page by page, and the body of an import as Truto's clients send it.

use serde_json::{Value, json};

use super::vendor::{Vendor, is_sound, names};
use crate::support::gateway::{Gateway, Kept};

fn ids(accounts: &[Value]) -> Vec<&str> {
    accounts.iter().map(|account| account["id"].as_str().unwrap()).collect()
}

/// The same list at once and one by one.
async fn found(gateway: &Gateway, query: &str) -> Vec<Value> {
    let whole = gateway.get(&format!("/integrated-account?{query}")).await;
    assert_eq!(whole.status, 200, "{query}: {}", whole.text());
    let result = whole.json()["result"].as_array().unwrap().clone();
    assert_eq!(gateway.walk(&format!("/integrated-account?{query}&limit=1")).await, result, "{query}");
    let exact = gateway.get(&format!("/integrated-account?{query}&limit={}", result.len().max(1))).await.json();
    assert_eq!((exact["result"].as_array().unwrap(), &exact["next_cursor"]), (&result, &Value::Null), "{query}");
    result
}

#[tokio::test]
async fn accounts_are_filtered_by_every_field_that_trutos_list_has() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        for _ in 0..5 {
            gateway.link("scim", "bearer", vendor.context()).await;
        }
        let all = found(&gateway, "").await;
        let time = |at: usize| all[at]["created_at"].as_str().unwrap();
        for (query, part) in [
            (format!("created_at[gte]={}", time(2)), 2..5),
            (format!("created_at[gt]={}", time(2)), 3..5),
            (format!("created_at[lt]={}", time(2)), 0..2),
            (format!("created_at[lte]={}", time(2)), 0..3),
            (format!("created_at%5Blte%5D={}", time(2)), 0..3),
            (format!("filters[created_at][lte]={}", time(2)), 0..3),
            (format!("created_at={}", time(1)), 1..2),
            (format!("created_at[eq]={}", time(1)), 1..2),
            (format!("created_at[gt]={}&created_at[lt]={}", time(0), time(4)), 1..4),
            (format!("created_at[gt]={}&tenant_id={}", time(3), all[0]["tenant_id"].as_str().unwrap()), 4..5),
            ("created_at[gt]=2020-01-31".to_owned(), 0..5),
            ("created_at[lt]=2020-01-31T00:00:00%2B02:00".to_owned(), 0..0),
            (format!("created_at[gt]={}", time(4)), 0..0),
        ] {
            assert_eq!(ids(&found(&gateway, &query).await), ids(&all)[part], "{query}");
        }

        let place = format!("/integrated-account/{}", ids(&all)[1]);
        let changed = gateway.call("PATCH", &place, Some(&json!({"tenant_id": "moved"}))).await.json();
        let before = all.iter().map(|account| account["updated_at"].as_str().unwrap()).max().unwrap();
        assert_eq!(ids(&found(&gateway, &format!("updated_at[gt]={before}")).await), [ids(&all)[1]]);
        let now = changed["updated_at"].as_str().unwrap();
        let others = [0, 2, 3, 4].map(|at| ids(&all)[at]);
        assert_eq!(ids(&found(&gateway, &format!("updated_at[lt]={now}")).await), others);

        let own = changed["environment_id"].as_str().unwrap();
        let other = gateway.call("POST", "/environment", Some(&json!({"name": "other"}))).await.json();
        for id in [own, &own.to_uppercase()] {
            assert_eq!(ids(&found(&gateway, &format!("environment_id={id}")).await), ids(&all), "{id}");
        }
        for id in [other["id"].as_str().unwrap(), "nonsense", ""] {
            assert!(found(&gateway, &format!("environment_id={id}")).await.is_empty(), "{id}");
        }
        for query in ["features.super_query=apac", "features[super_query]=wnam"] {
            assert!(found(&gateway, query).await.is_empty(), "no account's data is copied");
        }
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_filter_that_says_nothing_sound_is_named() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    for (query, field) in [
        ("created_at[gte]=yesterday", "created_at"),
        ("created_at=", "created_at"),
        ("created_at[gte]=", "created_at"),
        ("created_at[since]=2026-01-31", "created_at"),
        ("created_at[in]=2026-01-31", "created_at"),
        ("created_at[]=2026-01-31", "created_at"),
        ("created_at[gte][x]=2026-01-31", "created_at"),
        ("updated_at[gt]=2026-01-31&updated_at[gt]=2026-02-01", "updated_at"),
        ("updated_at=2026-01-31&updated_at[eq]=2026-02-01", "updated_at"),
        ("updated_at[lte]=2026-02-30", "updated_at"),
        ("features.super_query=moon", "features.super_query"),
        ("features.super_query=true", "features.super_query"),
        ("features.super_query=", "features.super_query"),
        ("features.super_query=apac&features[super_query]=apac", "features.super_query"),
        ("features[other]=apac", "features"),
        ("features=apac", "features"),
        ("environment_id=a&environment_id=b", "environment_id"),
        ("environment_id[]=a", "environment_id"),
        ("created=2026-01-31", "created"),
    ] {
        let answer = gateway.get(&format!("/integrated-account?{query}")).await;
        names(&answer, 400, "invalid_parameter", field);
    }
    is_sound(&gateway);
}

#[tokio::test]
async fn an_import_may_name_trutos_regions() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let mut body = vendor.import();
    for region in [json!("wnam"), json!("enam"), json!("apac"), json!("eu"), Value::Null] {
        body["region"] = region;
        let made = gateway.call("POST", "/integrated-account", Some(&body)).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    for region in [json!("moon"), json!(""), json!(1)] {
        body["region"] = region;
        names(&gateway.call("POST", "/integrated-account", Some(&body)).await, 400, "invalid_body", "region");
    }
    assert_eq!(found(&gateway, "").await.len(), 5);
    is_sound(&gateway);
}
