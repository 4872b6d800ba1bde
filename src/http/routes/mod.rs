//! The routes, one file per noun. One table gives both the app and the OpenAPI document.

pub mod account_token;
pub mod account_work;
pub mod api_token;
pub mod audit;
pub mod backup;
pub mod batch;
pub mod connect;
pub mod custom;
pub mod documents;
pub mod environment;
pub mod environment_integration;
pub mod event;
pub mod export;
pub mod health;
pub mod integrated_account;
pub mod integrated_account_test;
pub mod integration;
pub mod key;
pub mod link_token;
pub mod log;
pub mod passthrough;
pub mod proxy;
pub mod proxy_write;
pub mod tools;
pub mod unified;
pub mod unified_access;
pub mod unified_other;
pub mod unified_write;
pub mod unmatched;

use actix_web::web;
use utoipa_actix_web::service_config::ServiceConfig;

/// Adds every route.
pub fn configure(config: &mut ServiceConfig) {
    // Routes are tried in turn; the hot one comes first.
    config.map(|config| {
        passthrough::configure(config);
        config
    });
    documented(config);
    config.map(|config| {
        documents::configure(config);
        unified_other::configure(config);
        proxy::configure(config);
        custom::configure(config);
        connect::configure(config);
        config.default_service(web::to(unmatched::answer))
    });
}

/// The routes that stand in the OpenAPI document.
pub fn documented(config: &mut ServiceConfig) {
    config.service(health::ping).service(health::healthz).service(health::readyz).service(health::metrics);
    config.service(api_token::create_api_token).service(api_token::list_api_tokens);
    config.service(api_token::get_api_token).service(api_token::revoke_api_token);
    config.service(integration::list_integrations).service(integration::get_integration);
    config.service(integration::get_integration_capabilities);
    config.service(environment_integration::list_environment_integrations);
    config.service(environment_integration::install_integration);
    config.service(environment_integration::get_environment_integration);
    // Their names must not be taken for an account's id.
    config.service(account_token::make_account_token);
    config.service(account_token::get_own_account).service(account_token::change_own_account);
    config.service(account_work::delete_accounts).service(account_work::refresh_credentials);
    config.service(account_work::run_post_install_actions).service(account_work::change_credentials);
    config.service(environment_integration::change_environment_integration);
    config.service(environment_integration::uninstall_integration);
    config.service(environment::create_environment).service(environment::list_environments);
    config.service(environment::get_environment).service(environment::rename_environment);
    config.service(environment::delete_environment);
    config.service(integrated_account::import_integrated_account).service(integrated_account::list_integrated_accounts);
    config.service(integrated_account::get_integrated_account).service(integrated_account::change_integrated_account);
    config.service(integrated_account::delete_integrated_account).service(integrated_account::get_account_capabilities);
    config.service(link_token::create_link_token).service(link_token::cancel_link_token);
    config.service(integrated_account_test::test_credential).service(integrated_account_test::test_integrated_account);
    config.service(integrated_account_test::refresh_integrated_account_status);
    config.service(event::list_events).service(event::get_event);
    config.service(unified::list_users).service(unified::get_user);
    config.service(unified::list_groups).service(unified::get_group).service(unified::list_group_members);
    config.service(unified::list_roles).service(unified::get_role);
    config.service(unified::list_organizations).service(unified::get_organization);
    config.service(unified::list_workspaces).service(unified::get_workspace);
    config.service(unified::list_me).service(unified_other::get_meta);
    config.service(unified_write::create_user).service(unified_write::update_user).service(unified_write::delete_user);
    config.service(unified_write::add_user_to_group).service(unified_write::remove_user_from_group);
    config.service(unified_write::create_group).service(unified_write::update_group).service(unified_write::delete_group);
    config.service(unified_write::add_group_member).service(unified_write::remove_group_member);
    config.service(unified_access::list_role_assignments).service(unified_access::get_role_assignment);
    config.service(unified_access::create_role_assignment).service(unified_access::delete_role_assignment);
    config.service(unified_access::list_licenses).service(unified_access::get_license);
    config.service(unified_access::list_activities).service(unified_access::get_activity);
    config.service(proxy::list_proxy_resource).service(proxy::get_proxy_resource);
    config.service(proxy_write::create_proxy_resource).service(proxy_write::update_proxy_resource);
    config.service(proxy_write::delete_proxy_resource).service(proxy_write::run_proxy_method);
    config.service(tools::list_integration_tools).service(tools::list_account_tools);
    config.service(batch::run_batch).service(log::list_log).service(backup::read_backup);
    config.service(key::get_keys).service(key::rewrap_keys);
    config.service(audit::list_audit_entries).service(audit::verify_audit_log).service(export::export_tenant);
    config.service(documents::get_openapi).service(documents::list_error_pages).service(documents::get_error_page);
}
