//! How an access token is got: the token endpoint a connector file declares, checked and compiled.

use std::collections::BTreeMap;

use super::{
    Auth, Template,
    access::AccessCompiler,
    file::{ClientAuth, TokenFile},
};

/// The name by which `auth` sends the token.
pub const ACCESS_TOKEN: &str = "access_token";

/// OAuth 2 client credentials, compiled.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The token endpoint's address.
    pub url: Template,
    /// The client's id.
    pub client_id: Template,
    /// The client's secret.
    pub client_secret: Template,
    /// The scopes asked for.
    pub scope: Option<Template>,
    /// Where id and secret stand.
    pub client: ClientAuth,
}

impl AccessCompiler<'_, '_, '_> {
    /// The endpoint, if the method has one.
    pub(super) fn token(&mut self, token: Option<&TokenFile>, hosts: &BTreeMap<String, Template>) -> Option<TokenRequest> {
        let file = token?;
        let place = self.place("token");
        let url = self.covered(place.key("url"), &file.url, hosts, true)?;
        let mut text = |key: &'static str, text: &str| self.scope.template(place.name(key), text, &[], true);
        let (client_id, client_secret) = (text("client_id", &file.client_id)?, text("client_secret", &file.client_secret)?);
        let scope = file.scope.as_deref().and_then(|scope| self.scope.template(place.key("scope"), scope, &[], false));
        Some(TokenRequest { url, client_id, client_secret, scope, client: file.client })
    }

    /// A token that is got and not sent, or sent in an address, is a mistake; so is one that nobody gives.
    pub(super) fn check_token(&mut self, auth: &Auth, has_token: bool) {
        let holds = |template: &Template| template.names().any(|name| name == ACCESS_TOKEN);
        let (sent, in_query) = match auth {
            Auth::None => (false, false),
            Auth::Bearer(token) => (holds(token), false),
            Auth::Basic { username, password } => (holds(username) || holds(password), false),
            Auth::Headers(pairs) => (pairs.iter().any(|(_, value)| holds(value)), false),
            Auth::Query(pairs) => (pairs.iter().any(|(_, value)| holds(value)), true),
        };
        let (message, hint) = match (has_token, sent, in_query) {
            (true, false, _) => ("the access token is never sent", "for example `bearer: { token: \"{access_token}\" }`"),
            (false, true, _) => ("nobody gives the access token", "say in `token` where it is got"),
            (_, true, true) => ("an access token may not stand in an address", "send it as `bearer` or in `headers`"),
            _ => return,
        };
        let place = self.place("auth");
        self.scope.problems.push(place.problem(message, hint.to_owned()));
    }
}
