//! Whom a customer's own server is trusted by: two fields that every link method with an address has, without its file
//! saying so.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use url::Url;
use x509_parser::pem::Pem;

use super::{
    file::{FieldFile, FieldKind},
    resolve::FieldProblem,
};

/// The field of the authorities, or of the server's own certificate, that are trusted in place of the public ones.
pub const CA_CERTIFICATE: &str = "ca_certificate";
/// The field of the one certificate that is accepted.
pub const CERTIFICATE_SHA256: &str = "certificate_sha256";

/// Longest text of [`CA_CERTIFICATE`].
pub(super) const LONGEST: usize = 32 * 1024;
/// Most certificates in it.
const MOST: usize = 16;

/// The fields that go with these, if one of them is an address.
pub(super) fn fields(declared: &[FieldFile]) -> Vec<FieldFile> {
    if !declared.iter().any(|field| field.kind.is_address()) {
        return Vec::new();
    }
    let field = |name: &str, title: &str, kind, help: &str| FieldFile {
        name: name.to_owned(),
        title: title.to_owned(),
        kind,
        required: false,
        values: BTreeMap::new(),
        hosts: Vec::new(),
        default: None,
        help: Some(help.to_owned()),
        length: None,
    };
    vec![
        field(
            CA_CERTIFICATE,
            "Certificate authority",
            FieldKind::Certificates,
            "Only for a server of your own: its authority's certificate, or its own when self-signed, in PEM. Trusted in place of \
             the public authorities; the host name is checked all the same.",
        ),
        field(
            CERTIFICATE_SHA256,
            "Certificate fingerprint",
            FieldKind::Fingerprint,
            "Only for a server of your own: the one certificate it may show, as `openssl x509 -noout -fingerprint -sha256` \
             prints it. The host name is checked all the same.",
        ),
    ]
}

/// Whether it is one of the two.
pub(super) fn is_field(name: &str) -> bool {
    [CA_CERTIFICATE, CERTIFICATE_SHA256].contains(&name)
}

/// Two answers to one question.
pub(super) fn too_much(fields: &BTreeMap<String, String>) -> Option<FieldProblem> {
    let both = fields.contains_key(CA_CERTIFICATE) && fields.contains_key(CERTIFICATE_SHA256);
    both.then(|| FieldProblem {
        field: CERTIFICATE_SHA256.to_owned(),
        message: format!("is too much: give `{CA_CERTIFICATE}` or `{CERTIFICATE_SHA256}`, not both"),
    })
}

/// Trust that would never be asked for.
pub(super) fn without_tls(fields: &BTreeMap<String, String>, base: &Url) -> Option<FieldProblem> {
    let field = fields.keys().find(|name| is_field(name)).filter(|_| base.scheme() != "https")?;
    Some(FieldProblem {
        field: field.clone(),
        message: "does nothing: the address is http, where no certificate is shown".into(),
    })
}

/// The certificates alone, each in PEM as everybody writes it.
pub(super) fn certificates(given: &str) -> Result<String, String> {
    const FORM: &str = "takes certificates in PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----";
    if given.contains("PRIVATE KEY-----") {
        return Err("holds a private key; paste the certificate alone".into());
    }
    let given: String = given.lines().flat_map(|line| [line.trim(), "\n"]).collect();
    let mut text = String::new();
    let mut count = 0;
    for pem in Pem::iter_from_buffer(given.as_bytes()) {
        let pem = pem.map_err(|_| format!("{FORM}; this PEM is damaged"))?;
        count += 1;
        if pem.label != "CERTIFICATE" {
            return Err(format!("{FORM}; block {count} is something else"));
        }
        let whole = matches!(x509_parser::parse_x509_certificate(&pem.contents), Ok(([], _)));
        if !whole {
            return Err(format!("{FORM}; block {count} is not an X.509 certificate"));
        }
        write(&mut text, &pem.contents);
    }
    match count {
        0 => Err(FORM.to_owned()),
        1..=MOST => Ok(text),
        _ => Err(format!("takes at most {MOST} certificates, not {count}")),
    }
}

fn write(text: &mut String, der: &[u8]) {
    let coded = BASE64_STANDARD.encode(der);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = coded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

/// Pairs of upper-case digits with colons between them, whatever form was pasted.
pub(super) fn fingerprint(given: &str) -> Result<String, String> {
    const FORM: &str = "takes a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons";
    let value = given.trim();
    let value = value.split_once('=').map_or(value, |(_, digits)| digits);
    let digits: String = value.chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(FORM.to_owned());
    }
    match digits.len() {
        64 => {}
        40 => return Err(format!("{FORM}; this is one of SHA-1")),
        length => return Err(format!("{FORM}, not {length}")),
    }
    let digits = digits.to_ascii_uppercase();
    let pairs: Vec<&str> = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]).collect();
    Ok(pairs.join(":"))
}
