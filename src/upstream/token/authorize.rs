//! Where a customer's browser is sent (RFC 6749 §4.1.1), with PKCE (RFC 7636), and whether it is the same server that sends it
//! back (RFC 9207).

use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier, ResponseType};
use url::Url;

use super::{Access, Failure, scopes, unusable};
use crate::model::Secret;

/// What is to be agreed to.
pub struct Way<'w> {
    /// Binds what comes back to what was asked.
    pub state: &'w Secret,
    /// The other half of the PKCE challenge, 43 to 128 unreserved characters.
    pub verifier: &'w Secret,
    /// Where the browser comes back to.
    pub redirect_url: &'w Url,
    /// Scopes instead of the connector's.
    pub scopes: Option<&'w [String]>,
}

/// The authorization endpoint of an account that is being linked.
pub struct Authorization<'a> {
    access: &'a Access,
}

impl<'a> Authorization<'a> {
    /// Of a link method that needs a browser.
    pub fn of(access: &'a Access) -> Result<Self, Failure> {
        match access.method.needs_browser() {
            true => Ok(Self { access }),
            false => Err(Failure::BadAnswer("this way to connect needs no browser".into())),
        }
    }

    /// The address the browser goes to.
    pub fn url(&self, way: &Way<'_>) -> Result<Url, Failure> {
        let missing = || Failure::BadAnswer("this way to connect has no authorization endpoint".into());
        let request = self.access.method.token.as_ref().ok_or_else(missing)?;
        let authorize = request.authorize.as_ref().ok_or_else(missing)?;
        let address = self.access.token_urls.as_ref().and_then(|urls| urls.authorize.clone()).ok_or_else(missing)?;
        let (id, _) = self.access.client(request).map_err(unusable)?;
        let verifier = PkceCodeVerifier::new(way.verifier.expose().to_owned());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let scopes = match way.scopes {
            Some(scopes) => scopes.join(&authorize.separator),
            None => scopes(self.access, request).split_whitespace().collect::<Vec<_>>().join(&authorize.separator),
        };
        let mut url = address;
        let response_type = ResponseType::new("code".to_owned());
        let state = CsrfToken::new(way.state.expose().to_owned());
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("response_type", response_type.as_str());
            query.append_pair("client_id", id.expose()).append_pair("redirect_uri", way.redirect_url.as_str());
            query.append_pair("state", state.secret());
            query.append_pair("code_challenge", challenge.as_str());
            query.append_pair("code_challenge_method", challenge.method().as_str());
            if !scopes.is_empty() {
                query.append_pair("scope", &scopes);
            }
            for (name, template) in &authorize.query {
                query.append_pair(name, self.access.text(template).map_err(unusable)?.expose());
            }
        }
        Ok(url)
    }

    /// Whether an answer with this `iss` is of the server the browser was sent to. One that declares its identifier sends it along
    /// with every answer, to the letter (RFC 9207 §2.4).
    pub fn is_answer_of(&self, issuer: Option<&str>) -> bool {
        let authorize = self.access.method.token.as_ref().and_then(|request| request.authorize.as_ref());
        let declared = authorize.and_then(|authorize| authorize.issuer.as_ref());
        match (declared, issuer) {
            (None, None) => true,
            (Some(_), None) => false,
            (Some(template), Some(issuer)) => self.access.text(template).is_ok_and(|known| known.expose() == issuer),
            (None, Some(issuer)) => {
                let sent_to = self.access.token_urls.as_ref().and_then(|urls| urls.authorize.as_ref());
                let named = Url::parse(issuer).ok();
                sent_to.zip(named).is_some_and(|(sent_to, named)| sent_to.origin() == named.origin())
            }
        }
    }
}
