//! How an access token is got, as it is written below `token:`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A token endpoint: what the customer filled in, or agreed to at the vendor, is exchanged for an access token, which is kept
/// sealed, renewed before it ends, and once more when the vendor refuses it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// What the endpoint gives a token for; default `client_credentials`.
    #[serde(default)]
    pub grant: Grant,
    /// The token endpoint's address; `hosts` covers it.
    pub url: String,
    /// The client's id; default `{client_id}`, or, without such a field, that of the OAuth app the operator registered.
    pub client_id: Option<String>,
    /// The client's secret; default `{client_secret}`, or that of the OAuth app.
    pub client_secret: Option<String>,
    /// The scopes asked for, separated by blanks; none where a field in it is not given.
    pub scope: Option<String>,
    /// How the client shows who it is; default `basic`.
    #[serde(default)]
    pub client: ClientAuth,
    /// Where the customer agrees; for `authorization_code`.
    pub authorize: Option<AuthorizeFile>,
    /// What is signed; for `jwt_bearer` and for `client: assertion`.
    pub assertion: Option<AssertionFile>,
    /// What is sent; for `login`.
    pub login: Option<LoginFile>,
    /// Where the answer has what RFC 6749 §5.1 has at its top.
    #[serde(default)]
    pub answer: TokenAnswerFile,
    /// How long a token lives whose answer does not say so, or says what cannot be, for example `3600s`; used until it is
    /// refused when left out.
    pub life: Option<String>,
    /// Words of the endpoint's that end a grant as `invalid_grant` does.
    #[serde(default)]
    pub ends: Vec<String>,
    /// Where tokens are revoked (RFC 7009) when the account is deleted; `hosts` covers it.
    pub revoke: Option<String>,
}

/// What a token endpoint gives a token for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The client's own id and secret (RFC 6749 §4.4).
    #[default]
    ClientCredentials,
    /// A code that the customer's browser brings back (RFC 6749 §4.1, with PKCE), then refresh tokens.
    AuthorizationCode,
    /// A signed assertion (RFC 7523 §2.1).
    JwtBearer,
    /// A request of the vendor's own, for example user name and password for a session's token.
    Login,
}

/// How a client shows a token endpoint who it is (RFC 6749 §2.3.1, RFC 7523 §2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `Authorization: Basic …`, which every server must take.
    #[default]
    Basic,
    /// Members of the form body.
    Body,
    /// By its id alone: a public client.
    None,
    /// A signed assertion instead of a secret.
    Assertion,
}

/// Where the customer's browser is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeFile {
    /// The authorization endpoint's address; `hosts` covers it.
    pub url: String,
    /// Parameters beyond those of the protocol, for example `prompt: consent`.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The server's issuer identifier (RFC 9207). Every answer must bring it as `iss`, to the letter. Where none is named, an `iss` that comes must be of the endpoint's origin.
    pub issuer: Option<String>,
    /// What stands between two scopes; default a blank.
    pub separator: Option<String>,
}

/// A JWT that is signed for the token endpoint (RFC 7523 §3).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionFile {
    /// The private key: a field of kind `private_key`.
    pub key: String,
    /// How it signs; default `RS256`.
    #[serde(default)]
    pub algorithm: SignedBy,
    /// `kid` of the header.
    pub key_id: Option<String>,
    /// The fingerprint of the key's certificate in hexadecimal digits: SHA-1 becomes `x5t` of the header, SHA-256 `x5t#S256`.
    pub thumbprint: Option<String>,
    /// `iss`; default the client's id.
    pub issuer: Option<String>,
    /// `sub`; default `iss`.
    pub subject: Option<String>,
    /// `aud`; default the token endpoint's address.
    pub audience: Option<String>,
    /// Claims beyond these, for example `scope`; left out where a field in them is not given.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// How long it may be used, up to `3600s`; default `300s`.
    pub life: Option<String>,
}

/// An algorithm of RFC 7518 §3.1 that signs with a private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SignedBy {
    #[default]
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

/// A request of the vendor's own that answers with a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginFile {
    /// Members of the body.
    pub body: BTreeMap<String, String>,
    /// How they are written; default `json`.
    #[serde(default)]
    pub form: BodyForm,
    /// Headers beyond those of the form.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Paths into the endpoint's JSON answer, each where RFC 6749 has it when left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAnswerFile {
    /// The access token.
    pub access_token: Option<String>,
    /// The refresh token.
    pub refresh_token: Option<String>,
    /// Seconds the access token lives.
    pub expires_in: Option<String>,
    /// The word for a failure, for endpoints that say it beside status 200.
    pub error: Option<String>,
}
