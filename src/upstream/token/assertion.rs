//! Signed assertions (RFC 7523): who the client is, or whom a token is wanted for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::{unsendable, unusable};
use crate::{
    connector::{Assertion, FieldProblem, SignedBy, Template, TokenRequest},
    model::Secret,
    upstream::{Access, Failure},
};

/// A vendor's clock may be behind ours by as much.
const BEFORE: i64 = 30;

/// The assertion of a link method, signed.
pub(super) fn sign(access: &Access, request: &TokenRequest, now: Timestamp) -> Result<Secret, Failure> {
    let assertion = request.assertion.as_ref().ok_or_else(unsendable)?;
    let header = header(access, assertion)?;
    let claims = claims(access, request, assertion, now)?;
    let signed = encode(&header, &claims, &key(access, assertion)?).map_err(|_| unfit(assertion))?;
    Ok(Secret::new(signed))
}

fn header(access: &Access, assertion: &Assertion) -> Result<Header, Failure> {
    let mut header = Header::new(algorithm(assertion.algorithm));
    // What a customer left out stands nowhere.
    header.kid = assertion.key_id.as_ref().and_then(|name| access.text(name).ok()).map(|name| name.expose().to_owned());
    let thumbprint = text(access, assertion.thumbprint.as_ref())?;
    if let (Some(digits), Some(template)) = (thumbprint, &assertion.thumbprint) {
        let bytes = hexadecimal(&digits).ok_or_else(|| {
            let message = "takes the 40 or 64 hexadecimal digits of the certificate's fingerprint";
            problem(template, message)
        })?;
        let encoded = Some(URL_SAFE_NO_PAD.encode(&bytes));
        match bytes.len() {
            20 => header.x5t = encoded,
            _ => header.x5t_s256 = encoded,
        }
    }
    Ok(header)
}

fn claims(access: &Access, request: &TokenRequest, assertion: &Assertion, now: Timestamp) -> Result<Map<String, Value>, Failure> {
    let issuer = match text(access, assertion.issuer.as_ref())? {
        Some(issuer) => issuer,
        None => access.client(request).map_err(unusable)?.0.expose().to_owned(),
    };
    let subject = text(access, assertion.subject.as_ref())?.unwrap_or_else(|| issuer.clone());
    let endpoint = || access.token_urls.as_ref().map(|urls| urls.token.to_string()).unwrap_or_default();
    let audience = text(access, assertion.audience.as_ref())?.unwrap_or_else(endpoint);
    let second = now.as_second();
    let life = i64::try_from(assertion.life.as_secs()).unwrap_or_default();
    // What a customer left out is no claim.
    let further = assertion.claims.iter().filter_map(|(name, template)| Some((name, access.text(template).ok()?)));
    let mut claims: Map<String, Value> = further.map(|(name, text)| (name.clone(), text.expose().into())).collect();
    for (name, value) in [
        ("iss", issuer.into()),
        ("sub", subject.into()),
        ("aud", audience.into()),
        ("iat", second.into()),
        ("nbf", (second - BEFORE).into()),
        ("exp", (second + life).into()),
        ("jti", uuid::Uuid::new_v4().to_string().into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

fn text(access: &Access, template: Option<&Template>) -> Result<Option<String>, Failure> {
    let text = template.map(|template| access.text(template)).transpose().map_err(unusable)?;
    Ok(text.map(|text| text.expose().to_owned()))
}

fn key(access: &Access, assertion: &Assertion) -> Result<EncodingKey, Failure> {
    let kept = access.text(&assertion.key).map_err(unusable)?;
    let pem = Secret::new(kept.expose().replace("\\n", "\n"));
    let bytes = pem.expose().as_bytes();
    let key = match assertion.algorithm {
        SignedBy::RS256 | SignedBy::RS384 | SignedBy::RS512 | SignedBy::PS256 => EncodingKey::from_rsa_pem(bytes),
        SignedBy::ES256 | SignedBy::ES384 => EncodingKey::from_ec_pem(bytes),
        SignedBy::EdDSA => EncodingKey::from_ed_pem(bytes),
    };
    key.map_err(|_| unfit(assertion))
}

const fn algorithm(by: SignedBy) -> Algorithm {
    match by {
        SignedBy::RS256 => Algorithm::RS256,
        SignedBy::RS384 => Algorithm::RS384,
        SignedBy::RS512 => Algorithm::RS512,
        SignedBy::PS256 => Algorithm::PS256,
        SignedBy::ES256 => Algorithm::ES256,
        SignedBy::ES384 => Algorithm::ES384,
        SignedBy::EdDSA => Algorithm::EdDSA,
    }
}

fn unfit(assertion: &Assertion) -> Failure {
    problem(&assertion.key, &format!("is no private key that signs by {:?}", assertion.algorithm))
}

fn problem(template: &Template, message: &str) -> Failure {
    unusable(FieldProblem { field: template.names().next().unwrap_or("key").to_owned(), message: message.to_owned() })
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let plain: Vec<u8> = digits.bytes().filter(|byte| !matches!(byte, b':' | b' ')).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    matches!(plain.len(), 40 | 64).then(|| plain.chunks(2).map(pair).collect())?
}
