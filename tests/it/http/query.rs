use proptest::prelude::*;
use rollcall::{
    error::{Code, Error},
    http::query::{
        AccountList, CapabilityQuery, DataList, DataOne, EventList, IntegrationList, MAX_DEPTH, MAX_PAIRS, NoQuery, Pairs,
        PlatformList, ProxyList, ProxyOne, Query,
    },
    service::{Filter, FilterOp, ListQuery, Order, ResponseFormat},
};

fn read<Q: Query>(raw: &str) -> Result<Q, Error> {
    let mut pairs = Pairs::parse(raw)?;
    let query = Q::take(&mut pairs)?;
    pairs.finish(&[Q::NAMES])?;
    Ok(query)
}

fn list(raw: &str) -> ListQuery {
    read::<DataList>(raw).unwrap_or_else(|e| panic!("{raw}: {e}")).0
}

fn refusal<Q: Query>(raw: &str) -> Error {
    match read::<Q>(raw) {
        Ok(_) => panic!("{raw} was taken"),
        Err(error) => error,
    }
}

fn filter(field: &str, op: FilterOp, values: &[&str]) -> Filter {
    Filter { field: field.into(), op, values: values.iter().map(|v| (*v).to_owned()).collect() }
}

#[test]
fn every_form_of_a_list_is_the_same_list() {
    for raw in [
        "truto_exclude_fields=a,b",
        "truto_exclude_fields[]=a&truto_exclude_fields[]=b",
        "truto_exclude_fields[0]=a&truto_exclude_fields[1]=b",
        "truto_exclude_fields=a&truto_exclude_fields=b",
        "truto_exclude_fields%5B%5D=a&truto_exclude_fields%5b%5d=b",
        "truto_exclude_fields%5B0%5D=a&&truto_exclude_fields%5B1%5D=b&",
        "truto_exclude_fields[]=a,b",
    ] {
        assert_eq!(list(raw).exclude, ["a", "b"], "{raw}");
    }
}

#[test]
fn every_form_of_an_order_is_the_same_order() {
    for (raw, descending) in [
        ("sort_by=name", false),
        ("filters[sort_by]=name", false),
        ("sort_by=name&sort_direction=asc", false),
        ("sort_direction=desc&sort_by=name", true),
        ("sort_by[name]=desc", true),
        ("sort_by%5Bname%5D=asc", false),
    ] {
        assert_eq!(list(raw).order, Some(Order { field: "name".into(), descending }), "{raw}");
        assert_eq!(list(raw).filters, [], "{raw}");
    }
    let proxied = read::<ProxyList>("sort_by=name").unwrap().0;
    assert_eq!((proxied.order, proxied.remote_query), (None, vec![("sort_by".to_owned(), "name".to_owned())]));
}

#[test]
fn every_form_of_a_filter_is_the_same_filter() {
    for raw in [
        "status=active",
        "filters[status]=active",
        "filters%5Bstatus%5D=active",
        "status[eq]=active",
        "filters[status][eq]=active",
    ] {
        assert_eq!(list(raw).filters, [filter("status", FilterOp::Eq, &["active"])], "{raw}");
    }
    for raw in [
        "status[in]=a,b",
        "status[]=a&status[]=b",
        "status[0]=a&status[1]=b",
        "status=a&status=b",
        "filters[status][]=a&filters[status][]=b",
    ] {
        assert_eq!(list(raw).filters, [filter("status", FilterOp::In, &["a", "b"])], "{raw}");
    }
    assert_eq!(list("emails[email]=a%40b.c").filters, [filter("emails[email]", FilterOp::Eq, &["a@b.c"])]);
    assert_eq!(list("filters[emails][email]=x").filters, [filter("emails[email]", FilterOp::Eq, &["x"])]);
    assert_eq!(
        list("created_at[gte]=2024-01-01T00:00:00Z&created_at[lt]=2025-01-01").filters,
        [filter("created_at", FilterOp::Gte, &["2024-01-01T00:00:00Z"]), filter("created_at", FilterOp::Lt, &["2025-01-01"])]
    );
    assert_eq!(list("name=a+b%2Bc").filters, [filter("name", FilterOp::Eq, &["a b+c"])]);
}

#[test]
fn parameters_within_filters_are_the_parameters() {
    assert_eq!(list("filters[limit]=5&filters[next_cursor]=c").limit, Some(5));
    assert_eq!(list("filters[next_cursor]=c").cursor.as_deref(), Some("c"));
}

#[test]
fn empty_queries_and_cursors_mean_the_first_page() {
    for raw in ["", "&", "next_cursor=", "next_cursor", "&&next_cursor=&"] {
        assert_eq!(list(raw).cursor, None, "{raw:?}");
    }
    assert_eq!(read::<PlatformList>("next_cursor=").unwrap().cursor, None);
}

#[test]
fn limits_are_whole_numbers_within_bounds() {
    assert_eq!(list("limit=1").limit, Some(1));
    assert_eq!(list("limit=1000").limit, Some(1000));
    assert_eq!(read::<PlatformList>("limit=5000").unwrap().limit, 5000);
    assert_eq!(read::<PlatformList>("").unwrap().limit, 100);
    for bad in ["0", "-1", "-0", "+1", "abc", "1.5", "1e2", "", "%31%20", "99999999999999999999999"] {
        for error in [refusal::<DataList>(&format!("limit={bad}")), refusal::<PlatformList>(&format!("limit={bad}"))] {
            assert_eq!((error.code(), error.field_name()), (Code::InvalidParameter, Some("limit")), "{bad}");
        }
    }
    refusal::<DataList>("limit=1001");
    refusal::<PlatformList>("limit=5001");
    refusal::<DataList>("limit=1&limit=1");
    refusal::<DataList>("limit[]=1");
}

#[test]
fn truto_parameters_are_exactly_those_of_the_contract() {
    let all = list(
        "truto_response_format=debug&truto_key_by=id&truto_ignore_limit=true&truto_ignore_remote_data=true&remote_query[a]=1&remote_query[b][c]=2",
    );
    assert_eq!(all.format, ResponseFormat::Debug);
    assert_eq!(list("truto_response_format=stream").format, ResponseFormat::Stream);
    assert_eq!(all.key_by.as_deref(), Some("id"));
    assert!(all.ignore_limit && all.ignore_remote_data);
    assert_eq!(all.remote_query, [("a".to_owned(), "1".to_owned()), ("b[c]".to_owned(), "2".to_owned())]);
    for raw in [
        "truto_super_query=apac",
        "truto_response_format=xml",
        "truto_ignore_limit=maybe",
        "truto_exclude_fields[a]=1",
        "remote_query=1",
    ] {
        let error = refusal::<DataList>(raw);
        assert_eq!(error.code(), Code::InvalidParameter, "{raw}");
        assert_eq!(
            error.field_name(),
            raw.split(['=', '[']).next().filter(|n| raw.starts_with(&format!("{n}="))).or(error.field_name()),
            "{raw}"
        );
    }
    for (raw, meant) in [("truto_ignore_limits=true", "truto_ignore_limit"), ("limt=3", "limit"), ("nextcursor=x", "next_cursor")]
    {
        let error = refusal::<DataList>(raw);
        assert!(error.detail().contains(&format!("did you mean `{meant}`?")), "{raw}: {}", error.detail());
    }
    let error = refusal::<ProxyList>("truto_body_passthroug=true");
    assert_eq!(error.code(), Code::InvalidParameter);
}

#[test]
fn proxies_hand_on_what_is_not_ours_and_nothing_that_is() {
    let query = read::<ProxyList>("limit=5&status=on&filter[a]=b&ids[]=1&remote_query[x]=y&next_cursor=c").unwrap().0;
    let pairs: Vec<_> = query.remote_query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("x", "y"), ("status", "on"), ("filter[a]", "b"), ("ids[]", "1")]);
    assert_eq!((query.limit, query.cursor.as_deref(), query.filters.len()), (Some(5), Some("c"), 0));
    assert_eq!(read::<ProxyOne>("fields=a").unwrap().query.remote_query, [("fields".to_owned(), "a".to_owned())]);
}

#[test]
fn unknown_parameters_of_our_own_objects_are_named() {
    let error = refusal::<AccountList>("tenantid=a");
    assert_eq!((error.code(), error.field_name()), (Code::InvalidParameter, Some("tenantid")));
    assert!(error.detail().contains("`tenant_id`"));
    for error in [
        refusal::<NoQuery>("a=1"),
        refusal::<DataOne>("status=x"),
        refusal::<CapabilityQuery>("methods=destroy"),
        refusal::<IntegrationList>("connected=yes"),
    ] {
        assert_eq!(error.code(), Code::InvalidParameter);
    }
    let accounts =
        read::<AccountList>("integration.name=keeper&status=needs_reauth&is_sandbox=false&tenant_id=a").unwrap().wanted;
    assert_eq!((accounts.integration.as_deref(), accounts.is_sandbox), (Some("keeper"), Some(false)));
    assert_eq!(read::<AccountList>("integration[name]=keeper").unwrap().wanted.integration.as_deref(), Some("keeper"));
    refusal::<AccountList>("status=sleeping");
    let accounts = read::<AccountList>("created_at[gte]=2026-01-31&created_at[lt]=2026-02-01T00:00:00Z&features.super_query=eu");
    let accounts = accounts.unwrap().wanted;
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let within = [(FilterOp::Gte, time("2026-01-31T00:00:00Z")), (FilterOp::Lt, time("2026-02-01T00:00:00Z"))];
    assert_eq!((accounts.created_at.as_slice(), accounts.updated_at.len(), accounts.has_super_query), (&within[..], 0, true));
    assert!(read::<DataOne>("envelope=true").unwrap().envelope);
}

/// What an empty value would ask for is anybody's guess.
#[test]
fn filters_of_events_are_not_empty() {
    for name in ["event", "integrated_account_id", "since", "tenant_id"] {
        for raw in [format!("{name}="), name.to_owned(), format!("limit=5&{name}=&next_cursor=")] {
            let error = refusal::<EventList>(&raw);
            assert_eq!((error.code(), error.field_name()), (Code::InvalidParameter, Some(name)), "{raw}");
        }
    }
    assert_eq!(read::<EventList>("integrated_account_id=nonsense").unwrap_err().field_name(), Some("integrated_account_id"));
    let wanted = read::<EventList>("next_cursor=&tenant_id=acme&since=2026-01-31T12:00:00Z").unwrap().wanted;
    assert!(wanted.tenant_id.as_deref() == Some("acme") && wanted.since.is_some() && wanted.account.is_none());
}

#[test]
fn depth_count_and_odd_brackets_are_refused() {
    let deep = format!("a{}=1", "[x]".repeat(MAX_DEPTH + 1));
    assert_eq!(refusal::<DataList>(&deep).code(), Code::InvalidParameter);
    let many = vec!["status=a"; MAX_PAIRS + 1].join("&");
    assert_eq!(refusal::<DataList>(&many).code(), Code::InvalidParameter);
    let filters: Vec<_> = (0..40).map(|i| format!("f{i}=1")).collect();
    assert_eq!(refusal::<DataList>(&filters.join("&")).code(), Code::InvalidFilter);
    for odd in [
        "a[=1",
        "a]=1",
        "a[b=1",
        "a[b]c=1",
        "[a]=1",
        "=1",
        "a[[b]]=1",
        "a=%ff",
        "%ff=1",
        "a=%00",
        "a=%0d%0aX:1",
        "created_at[gt]=1&created_at[gt]=2",
        "a[][x]=1",
    ] {
        let error = refusal::<DataList>(odd);
        assert!(matches!(error.code(), Code::InvalidParameter | Code::InvalidFilter), "{odd}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::support::long() { 20_000 } else { 500 }, ..ProptestConfig::default() })]

    #[test]
    fn no_query_panics(raw in "[a-f\\[\\]=&%0-9.,_ \\PC]{0,200}") {
        let _ = read::<DataList>(&raw);
        let _ = read::<DataOne>(&raw);
        let _ = read::<ProxyList>(&raw);
        let _ = read::<AccountList>(&raw);
        let _ = read::<CapabilityQuery>(&raw);
    }

    #[test]
    fn a_filter_survives_any_writing(field in "[a-z]{3,8}_x", value in "\\PC{0,20}") {
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        for raw in [format!("{field}={encoded}"), format!("filters%5B{field}%5D={encoded}"), format!("filters[{field}][eq]={encoded}")] {
            prop_assert_eq!(&list(&raw).filters, &[filter(&field, FilterOp::Eq, &[value.as_str()])]);
        }
    }
}
