//! What a link is made with and for: refused where no customer could mend it, said in words for people where one meets it.

use serde_json::{Value, json};

use super::{
    link::{Browser, PAGE, Stand, hidden, make, message, token},
    vendor::{Mood, SECRET, accounts, names},
};
use crate::support::gateway::Gateway;

async fn asked(gateway: &Gateway, body: &Value) -> crate::support::gateway::Answer {
    gateway.call("POST", "/link-token", Some(body)).await
}

#[tokio::test]
async fn what_no_customer_could_mend_is_refused_where_the_link_is_made() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    for (context, field, said) in [
        (json!({"base_url": 5}), "context.base_url", "base_url: takes"),
        (json!({"base_url": {"a": 1}}), "context.base_url", "takes a text"),
        (json!({"base_url": "http://scim.example.com/v2"}), "context.base_url", "base_url: "),
        (json!({"tokn": "abc"}), "context.tokn", "did you mean `token`?"),
        (json!({"session": {"api_key": "abc"}}), "context.session.api_key", "looks like a secret"),
    ] {
        for link in [json!({"tenant_id": "a", "integrations": ["scim"]}), json!({"integrated_account_id": account})] {
            let mut body = link;
            body["context"] = context.clone();
            let answer = asked(gateway, &body).await;
            let problem = names(&answer, 400, "invalid_body", field);
            assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
            // An account that is linked without a page hears the same.
            let mut import = vendor.import();
            import["context"].as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
            let refused = gateway.call("POST", "/integrated-account", Some(&import)).await.json();
            assert_eq!((&refused["detail"], &refused["field"]), (&problem["detail"], &json!(field)), "{refused}");
        }
    }
    let fine = json!({"base_url": vendor.base(), "plan": "gold", "crm_id": 7, "token": null, "header_name": "X-Api-Key"});
    make(gateway, json!({"tenant_id": "a", "integrations": ["scim"], "context": fine})).await;
    // A value for one of the products is a label of the other.
    make(gateway, json!({"tenant_id": "a", "integrations": ["scim", "keeper"], "context": {"node_id": "12"}})).await;
}

#[tokio::test]
async fn a_wrong_value_of_the_link_is_not_the_customers_to_mend() {
    let Stand { gateway, .. } = &Stand::start();
    for context in [json!({"base_url": 5}), json!({"tokn": "abc", "base_url": "https://scim.example.com/v2"})] {
        let made = make(gateway, json!({"tenant_id": "acme", "context": context})).await;
        let mut browser = Browser::new(gateway);
        let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
        let failed = browser.fill(&page, "", SECRET).await;
        let title = if context["tokn"].is_null() { "SCIM address" } else { "tokn" };
        let said = format!("This link was made with a wrong value for “{title}”. Ask for a new link where you got this one.");
        assert_eq!(failed.status, 422, "{}", failed.text());
        assert!(failed.text().contains(&said) && !failed.text().contains("fill it in again"), "{}", failed.text());
    }
}

#[tokio::test]
async fn a_link_by_which_nothing_can_be_linked_is_not_made() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let installs = gateway.get("/environment-integration").await.json();
    let switch = async |name: &str, on: bool| {
        let all = installs["result"].as_array().unwrap();
        let id = &all.iter().find(|install| install["integration"]["name"] == name).unwrap()["id"];
        let place = format!("/environment-integration/{}", id.as_str().unwrap());
        assert_eq!(gateway.call("PATCH", &place, Some(&json!({"is_enabled": on}))).await.status, 200);
    };
    switch("scim", false).await;
    for body in [json!({"tenant_id": "a", "integrations": ["scim"]}), json!({"integrated_account_id": account})] {
        let problem = names(&asked(gateway, &body).await, 403, "integration_disabled", "integrations");
        assert!(problem["detail"].as_str().unwrap().contains("SCIM 2.0 is switched off"), "{problem}");
    }
    make(gateway, json!({"tenant_id": "a", "integrations": ["scim", "keeper"]})).await;
    make(gateway, json!({"tenant_id": "a"})).await;
    switch("keeper", false).await;
    for body in [json!({"tenant_id": "a", "integrations": ["scim", "keeper"]}), json!({"tenant_id": "a"})] {
        names(&asked(gateway, &body).await, 403, "integration_disabled", "integrations");
    }
    switch("scim", true).await;
    make(gateway, json!({"integrated_account_id": account})).await;
}

#[tokio::test]
async fn a_link_ends_with_the_api_token_it_was_asked_for_with() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let new = json!({"name": "maker", "scopes": ["links:write"]});
    let maker = gateway.call("POST", "/api-token", Some(&new)).await.json();
    let body = json!({"tenant_id": "acme"});
    let made = gateway.call_as(maker["token"].as_str(), "POST", "/link-token", Some(&body)).await.json();
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let place = format!("/api-token/{}", maker["id"].as_str().unwrap());
    assert_eq!(gateway.call("DELETE", &place, None).await.status, 200);
    let refused = browser.fill(&page, &vendor.base(), SECRET).await;
    assert_eq!((refused.status, message(&refused)["error_type"].as_str()), (410, Some("invalid_token")), "{}", refused.text());
    assert_eq!(Browser::new(gateway).open(token(&made), "").await.status, 410);
    assert_eq!((accounts(gateway).await.len(), vendor.asked()), (0, 0));
}

/// A customer who connects again is asked for what is needed again, and told why.
#[tokio::test]
async fn a_page_to_connect_again_begins_where_the_account_is() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let first = make(gateway, json!({"integrated_account_id": account})).await;
    let page = Browser::new(gateway).open(token(&first), "").await.text();
    assert!(page.contains("Connect again: SCIM 2.0") && page.contains("name=\"f.token\""), "{page}");
    assert!(!page.contains("stopped working"), "{page}");
    vendor.set(Mood::Unauthorized);
    assert_eq!(gateway.users(&account).await.status, 401);
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&first), "").await;
    let text = page.text();
    let reason = gateway.get(&format!("/integrated-account/{account}")).await.json()["last_error"].as_str().unwrap().to_owned();
    assert_eq!(reason, "the vendor answered 401");
    assert!(text.contains("This connection has stopped working. The vendor answered 401."), "{text}");
    // The other ways are one step away.
    let place = format!("{PAGE}?link={}&integration=scim&method=", first["id"].as_str().unwrap());
    let ways = browser.get(&place).await.text();
    assert!(ways.contains("Connect again: SCIM 2.0") && ways.contains("User name and password"), "{ways}");
    vendor.set(Mood::Good);
    assert!(!hidden(&page, "session").is_empty());
    let done = browser.fill(&page, &vendor.base(), SECRET).await;
    assert_eq!(message(&done)["integrated_account_id"], json!(account), "{}", done.text());
}

#[tokio::test]
async fn a_guide_is_about_the_way_that_was_chosen_and_names_nobody_the_customer_does_not_know() {
    let Stand { gateway, .. } = &Stand::start();
    for (integration, method, there, absent) in [
        ("scim", "bearer", "Which rights", "Register an application"),
        ("scim", "oauth2", "Register an application", "no-such-word"),
        ("keeper", "service_mode", "persistent-login on", "Create Provisioning Token"),
        ("keeper", "scim", "Create Provisioning Token", "persistent-login on"),
    ] {
        let made = make(gateway, json!({"tenant_id": "acme"})).await;
        let more = format!("&integration={integration}&auth_format={method}");
        let page = Browser::new(gateway).open(token(&made), &more).await.text();
        assert!(page.contains(there) && !page.contains(absent) && !page.contains("Rollcall"), "{integration} {method}: {page}");
    }
}
