"""What schemathesis must be told about a gateway: which objects exist, which of them the run still needs, and which of its
findings are none. FUZZ_WORLD is JSON: `{"accounts": {id: {"proxy": [name], "records": {resource: [id]}}}, "tokens": [id],
"link": {…}}`. FUZZ_PHASES are those of the run. FUZZ_COUNTS names the file that takes how often each operation was answered with each status."""
import atexit
import hashlib
import json
import os
import uuid

import schemathesis

WORLD = json.loads(os.environ["FUZZ_WORLD"])
# What one call made goes into the next there, and must not be put aside for what exists.
STATEFUL = os.environ["FUZZ_PHASES"] == "stateful"
COUNTS = {}

VALID_REFUSED = "RejectedPositiveData"
NOT_THE_SCHEMA = "JsonSchemaError"
NOT_405 = "UnsupportedMethodResponse"


def query(case, name):
    return str((case.query or {}).get(name, ""))


def is_another_form(case):
    """The record or list was asked for in a form that the document describes in words."""
    return (
        query(case, "truto_response_format") not in ("", "unified")
        or query(case, "truto_key_by") != ""
        or query(case, "envelope").lower() == "true"
    )


def sends_a_control_character(case):
    text = json.dumps([case.query, case.body if isinstance(case.body, (dict, list, str)) else None], default=str)
    return any(f"\\u00{n:02x}" in text or f"\\u00{n + 128:02x}" in text for n in range(32)) or any(
        c in text for c in ("\\n", "\\r", "\\t", "\\b", "\\f", "\\u007f")
    )


def sends_a_long_number(case):
    def is_long(value):
        if isinstance(value, (dict, list)):
            return any(map(is_long, value.values() if isinstance(value, dict) else value))
        return isinstance(value, int) and not -(2**63) <= value < 2**64

    return is_long(case.body)


def sends_nul(case):
    return "\\u0000" in json.dumps(case.body if isinstance(case.body, (dict, list, str)) else None, default=str)


def lays_over_a_connector(case):
    return case.operation.path.startswith("/environment-integration") and isinstance(case.body, dict) and "override" in case.body


def is_link_token(case):
    return case.operation.path == "/link-token"


def is_account_token(case):
    return case.operation.path == "/integrated-account/token"


def is_batch(case):
    return case.operation.path == "/batch-request"


def is_the_vendors_body(case):
    return case.operation.path.startswith("/proxy/")


def sends_the_vendor_a_parameter(case):
    return any(str(name).startswith("remote_query") for name in case.query or {})


def is_a_change_of_credentials(case):
    return case.operation.path == "/integrated-account/{id}/credentials"


def is_a_record(case):
    return case.operation.path.startswith("/unified/user-directory/") and case.method.upper() in ("POST", "PATCH")


def is_a_method(case):
    return case.method.upper() == "POST" and case.operation.path.endswith("/{id}")


# Findings that are none: what was found, the code of the problem that was answered, its field, another condition, and why it is
# right. Nothing else is excused.
EXCUSED = [
    (VALID_REFUSED, "invalid_cursor", "next_cursor", None, "Only a cursor that this list gave out is one; no schema can say that."),
    (VALID_REFUSED, "invalid_filter", None, None, "Which filters there are depends on the account's connector; /capabilities tells."),
    (VALID_REFUSED, "idempotency_key_reused", "Idempotency-Key", None, "A key belongs to the first request it came with."),
    (VALID_REFUSED, "invalid_parameter", "truto_exclude_fields", None, "The fields are those of the resource, comma-separated."),
    (VALID_REFUSED, "invalid_parameter", "truto_key_by", None, "The fields are those of the resource."),
    (VALID_REFUSED, "invalid_parameter", "sort_by", None, "The fields are those that the account's connector fills."),
    (VALID_REFUSED, "invalid_parameter", "sort_direction", None, "It needs `sort_by` beside it; OpenAPI has no words for that."),
    (VALID_REFUSED, "invalid_parameter", "created_at", None, "Times by `eq`, `gt`, `gte`, `lt` and `lte`; the description names them."),
    (VALID_REFUSED, "invalid_parameter", "updated_at", None, "Times by `eq`, `gt`, `gte`, `lt` and `lte`; the description names them."),
    (VALID_REFUSED, "invalid_parameter", "group_id", None, "Members of groups want it, other resources do not."),
    (VALID_REFUSED, "invalid_parameter", "methods", None, "A comma-separated list of words; the description names them."),
    (VALID_REFUSED, "invalid_parameter", "remote_query", None, "A name in brackets cannot be empty."),
    (VALID_REFUSED, "invalid_parameter", None, sends_the_vendor_a_parameter, "Vendors that take commands have no query, and connectors set names themselves."),
    (VALID_REFUSED, "invalid_parameter", None, sends_a_control_character, "NUL, CR and LF stand in no parameter."),
    (VALID_REFUSED, "invalid_body", "expires_at", None, "A token cannot end in the past; OpenAPI has no words for now."),
    (VALID_REFUSED, "invalid_body", "name", None, "A name is not blank and has no control characters."),
    (VALID_REFUSED, "invalid_body", "tenant_id", None, "A label is counted in bytes, and has no control characters."),
    (VALID_REFUSED, "invalid_body", "integration", None, "One of `integration` and `environment_integration_id` names the connector."),
    (VALID_REFUSED, "invalid_body", "ids", None, "One of `ids` and `tenant_id` says which accounts."),
    (VALID_REFUSED, "invalid_body", None, lays_over_a_connector, "What can be laid over a connector is in the connector's file."),
    (VALID_REFUSED, "invalid_body", None, is_link_token, "Which addresses, products and scopes a link may have is said in words."),
    (VALID_REFUSED, "invalid_body", "scopes", is_account_token, "An account token carries only the rights over its account."),
    (VALID_REFUSED, "invalid_field", None, None, "The fields of `context` are those of the connector's link method."),
    (VALID_REFUSED, "invalid_body", None, is_a_change_of_credentials, "It names a credential, or `context` alone, which holds one."),
    (VALID_REFUSED, "egress_refused", None, None, "An address in `context` that the gateway may not call."),
    (VALID_REFUSED, "credential_refused", None, None, "The vendor does not know the credential in `context`."),
    (VALID_REFUSED, "secrets_required", None, None, "A change of an address needs every secret beside it."),
    (VALID_REFUSED, "method_not_supported", None, None, "What an account's connector can do, /capabilities tells."),
    (VALID_REFUSED, "invalid_body", "authentication_method", None, "The methods are those of the connector."),
    (VALID_REFUSED, "invalid_parameter", "remove_from_id", None, "`remove_from` and its id stand together; OpenAPI has no words for that."),
    (VALID_REFUSED, "invalid_parameter", "remove_from", None, "`remove_from` and its id stand together; OpenAPI has no words for that."),
    (VALID_REFUSED, "invalid_body", None, sends_nul, "No text that a vendor keeps has a NUL."),
    (VALID_REFUSED, "invalid_body", None, is_batch, "Entries of a batch name each other, and a method decides what else an entry takes."),
    (VALID_REFUSED, "field_missing", None, None, "Which fields a vendor needs, /capabilities tells."),
    (VALID_REFUSED, "field_not_writable", None, None, "Which fields a vendor takes, /capabilities tells."),
    (VALID_REFUSED, "invalid_parameter", "rollcall-company", None, "The company is the one that the id names."),
    (VALID_REFUSED, "still_in_use", None, None, "What depends on an object is no matter of form."),
    (VALID_REFUSED, "name_taken", None, None, "Which names there are is no matter of form."),
    (VALID_REFUSED, "id_taken", None, None, "Which ids there are is no matter of form."),
    (VALID_REFUSED, "invalid_body", "older_than_days", None, "It goes with `data_keys` alone; OpenAPI has no words for that."),
    (VALID_REFUSED, "invalid_body", "account", None, "It goes with `data_keys` alone; OpenAPI has no words for that."),
    (VALID_REFUSED, "invalid_body", "status", None, "A status is asked for alone."),
    (VALID_REFUSED, "already_exists", None, None, "The vendor has one of that name; it is no matter of form, and lasts."),
    (VALID_REFUSED, "vendor_error", None, is_the_vendors_body, "The body is the vendor's own, and it may refuse it."),
    (VALID_REFUSED, "invalid_body", None, is_a_record, "The schemas of parts of records are those of answers too, which may grow."),
    ("AllowHeaderMismatch", "method_not_supported", None, None, "What an account's connector can do, and an id of any name, decide."),
    (VALID_REFUSED, "invalid_body", None, sends_a_long_number, "What would go on as another number is refused; a schema cannot say how many digits."),
    (NOT_405, "resource_not_supported", None, None, "What the connector lacks is 404 for every method; what it has is 405."),
    (NOT_405, "invalid_parameter", None, is_a_method, "Behind a resource, POST calls a method of the vendor's own, which the document describes in words."),
    (NOT_405, "not_found", None, None, "So is an account that does not exist."),
    (NOT_THE_SCHEMA, None, None, is_another_form, "The document describes unified answers, and says so."),
]


def share(*values):
    """The same number from 0 to 99 for the same values, so that a case that is tried again does the same."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] * 100 // 256


def pick(values, *seed):
    return values[share("pick", *seed) % len(values)]


def is_uuid(value):
    try:
        return str(uuid.UUID(value)) == value.lower()
    except (ValueError, TypeError, AttributeError):
        return False


def plain(name, value):
    """A value that every list takes, in place of a text that most likely none does."""
    words = {"next_cursor": "", "sort_by": "name", "truto_exclude_fields": "name", "truto_key_by": "id", "methods": "list"}
    return words[name] if name in words and isinstance(value, str) and share(name, value) < 60 else value


def known(path, method, name, value, account):
    """An object that exists, in place of a well-formed id that most likely does not; a part of them stays as it is."""
    if not isinstance(value, str) or not value or share(path, name, value) >= 85:
        return value
    if path.startswith("/integrated-account/{id}") and name == "id" and method != "DELETE" and not STATEFUL:
        return pick(list(WORLD["accounts"]), value)
    if name == "slug_or_id":
        return pick(["keeper", "scim"], value)
    if path.startswith("/errors/") and name == "code":
        return pick(["not_found", "invalid_token", "vendor_error"], value)
    if "/meta/" in path:
        return {"model": "user-directory", "resource": "users", "method": pick(["list", "get"], value)}.get(name, value)
    if account is None:
        return value
    if path.startswith("/proxy/{resource}") and name == "resource":
        return pick(account["proxy"], value)
    if path.startswith(("/unified/", "/proxy/")) and name == "id":
        resource = path.split("/")[3] if path.startswith("/unified/") else "users"
        return pick(account["records"].get(resource) or ["nobody"], value)
    return value


def spare(body):
    """Accounts and labels that are most likely nobody's, in place of those that the run still needs."""
    other = lambda text: str(uuid.uuid5(uuid.NAMESPACE_OID, text.encode("utf-8", "surrogatepass").hex()))
    if isinstance(body.get("tenant_id"), str) and body["tenant_id"]:
        body["tenant_id"] = other(body["tenant_id"])
    if isinstance(body.get("ids"), list):
        body["ids"] = [other(id) if isinstance(id, str) and id.lower() in WORLD["accounts"] else id for id in body["ids"]]


@schemathesis.hook
def before_call(context, case, kwargs):
    path, method = case.operation.path, case.method.upper()
    query = case.query or {}
    for name in list(query):
        query[name] = plain(name, query[name])
    account = query.get("integrated_account_id")
    if is_uuid(account) and share(path, account) < 85:
        account = query["integrated_account_id"] = pick(list(WORLD["accounts"]), account)
    account = WORLD["accounts"].get(account) if isinstance(account, str) else None
    if account is not None and isinstance(query.get("group_id"), str):
        query["group_id"] = pick(account["records"]["groups"], query["group_id"])
    for name, value in list((case.path_parameters or {}).items()):
        case.path_parameters[name] = known(path, method, name, value, account)
    needed = {"/integrated-account/{id}": WORLD["accounts"], "/api-token/{id}": WORLD["tokens"]}.get(path, [])
    if method == "DELETE" and case.path_parameters.get("id") in needed:
        case.path_parameters["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, case.path_parameters["id"]))
    if path == "/environment-integration/{id}" and "delete_accounts" in query:
        query["delete_accounts"] = "false"
    if path == "/integrated-account/bulk-delete" and isinstance(case.body, dict):
        spare(case.body)
    if method == "POST" and path == "/integrated-account" and isinstance(case.body, dict) and share("link", case.body) < 50:
        if all(isinstance(case.body.get(name), str) for name in ("tenant_id", "authentication_method")):
            case.body.update(WORLD["link"])
            case.body.pop("environment_integration_id", None)
    if path == "/integrated-account/test" and isinstance(case.body, dict) and isinstance(case.body.get("authentication_method"), str):
        case.body.update({name: value for name, value in WORLD["link"].items() if name != "tenant_id"})
        case.body.pop("environment_integration_id", None)


@schemathesis.hook
def after_call(context, case, response):
    counts = COUNTS.setdefault(case.operation.definition.raw["operationId"], {})
    counts[response.status_code] = counts.get(response.status_code, 0) + 1


@atexit.register
def write_counts():
    with open(os.environ["FUZZ_COUNTS"], "w", encoding="utf-8") as file:
        json.dump(COUNTS, file)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """False where the finding is none."""
    try:
        problem = json.loads(response.content)
        code, field = problem.get("code"), problem.get("field")
    except (ValueError, AttributeError):
        code = field = None
    return not any(
        type(failure).__name__ == finding
        and excused_code in (None, code)
        and excused_field in (None, field)
        and (condition is None or condition(case))
        for finding, excused_code, excused_field, condition, _ in EXCUSED
    )
