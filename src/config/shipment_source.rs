//! `[[shipment_source]]`: who may tell of shipments at `POST /v1/shipments/{name}`, how it signs, and in what words it speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::account::{PROVIDERS, check_name, name_of};
use super::faults::Fault;
use super::file::Raw;
use super::reader::{self, Key, Reader, TableScope};
use super::values::{self, Refusal};
use crate::shipment::{
    Encoding, HmacScheme, Mapping, Pointer, SecretBytes, ShipmentKind, Source, SourceKind, standard_secret,
};

/// How a source signs and speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Standard Webhooks, with our own document.
    Standard,
    /// Shopify's webhooks.
    Shopify,
    /// Any other HMAC-SHA256, with any JSON.
    Hmac,
    /// Not at all: only with `allow_unsigned = true`.
    Unsigned,
}

const KINDS: [(&str, Kind); 4] = [
    ("standard", Kind::Standard),
    ("shopify", Kind::Shopify),
    ("hmac", Kind::Hmac),
    ("unsigned", Kind::Unsigned),
];

/// How old a signature may be. Default 5 minutes, as Standard Webhooks has it; an hour at most, or it protects from nothing.
const TOLERANCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Reads every `[[shipment_source]]`, and which secrets are not there.
pub(super) fn read(reader: &mut Reader<'_>) -> (Vec<Source>, Vec<Fault>) {
    let file = reader.file;
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    let mut missing = Vec::new();
    for (index, line) in file.shipment_sources.iter().copied().enumerate() {
        let mut scope = TableScope {
            table: "shipment_source",
            index,
            label: format!("#{}", index + 1),
            variables: None,
        };
        let name_key = scope.key("name");
        let place = reader.line(line);
        let Some(name) = reader.optional(&name_key, name, String::clone) else {
            if reader.sound(&[&name_key.shown]) {
                reader.missing(
                    place,
                    &name_key.shown,
                    "is missing",
                    "write name, the last part of its address",
                );
            }
            ask_everything(reader, &scope);
            continue;
        };
        if !seen.insert(name.clone()) {
            let refusal = Refusal::new(format!("a second source {name}"), "give it another name");
            reader.fault(place, &name_key.shown, refusal);
            ask_everything(reader, &scope);
            continue;
        }
        scope.variables = Some(reader::variable_name(&format!("shipment_source.{name}")));
        scope.label = name.clone();
        sources.extend(read_source(reader, &scope, name, line, &mut missing));
    }
    (sources, missing)
}

/// A part of an address: what needs no escaping there.
fn name(raw: &Raw) -> Result<String, Refusal> {
    let name = values::text(raw)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    // What comes with a key, and by SQL, has sources of its own.
    match name.len() <= 64 && name.bytes().all(plain) && !name.starts_with("api") {
        true => Ok(name),
        false => Err(Refusal::new(
            "is no name of a source",
            "use at most 64 lower-case letters, digits, '-' and '_'; names that begin with api are taken",
        )),
    }
}

fn read_source(
    reader: &mut Reader<'_>,
    scope: &TableScope,
    name: String,
    line: usize,
    missing: &mut Vec<Fault>,
) -> Option<Source> {
    let place = reader.line(line);
    let kind_key = scope.key("kind");
    let written = |kind: &Kind| {
        KINDS
            .iter()
            .find(|(_, one)| one == kind)
            .map_or("", |(name, _)| name)
            .to_owned()
    };
    let Some(kind) = reader.optional(&kind_key, |raw| values::choice(raw, &KINDS), written) else {
        if reader.sound(&[&kind_key.shown]) {
            reader.missing(
                place,
                &kind_key.shown,
                "is missing",
                "write kind = \"standard\", \"shopify\" or \"hmac\"",
            );
        }
        ask_everything(reader, scope);
        return None;
    };
    let provider_names = PROVIDERS.map(|(name, known)| (name, name_of(known)));
    let provider = reader.optional(
        &scope.key("provider"),
        |raw| values::choice(raw, &provider_names),
        |name| (*name).to_owned(),
    );
    let account = reader.optional(
        &scope.key("account"),
        |raw| values::text(raw).and_then(|name| check_name(&name).map(|()| name)),
        String::clone,
    );
    let allow_unsigned = reader.boolean(&scope.key("allow_unsigned"), false);
    if kind != Kind::Standard && provider.is_none() && reader.sound(&[&scope.key("provider").shown]) {
        let fix = "write whose payments these are: provider = \"afterpay\", \"optty\" or \"resolve\"";
        reader.missing(place.clone(), &scope.key("provider").shown, "is missing", fix);
    }
    if kind == Kind::Unsigned && !allow_unsigned {
        let refusal = Refusal::new(
            "whoever reaches this address may release captures",
            "let it sign (kind = \"hmac\"); or write allow_unsigned = true if only your own machines reach it",
        );
        reader.fault(place.clone(), &kind_key.shown, refusal);
    }
    let secrets = match kind {
        Kind::Unsigned => Vec::new(),
        Kind::Standard | Kind::Shopify | Kind::Hmac => read_secrets(reader, scope, kind, line, missing),
    };
    let source_kind = match kind {
        Kind::Standard => Some(SourceKind::Standard),
        Kind::Shopify => {
            let order = pointer(reader, scope, "order").or_else(|| Pointer::parse("/order_id"));
            order.map(SourceKind::Shopify)
        }
        Kind::Hmac => read_scheme(reader, scope, line).map(|scheme| SourceKind::Hmac {
            scheme,
            id: pointer(reader, scope, "id"),
            mapping: read_mapping(reader, scope),
        }),
        Kind::Unsigned => Some(SourceKind::Unsigned {
            id: pointer(reader, scope, "id"),
            mapping: read_mapping(reader, scope),
        }),
    };
    if let Some(SourceKind::Hmac { mapping, .. } | SourceKind::Unsigned { mapping, .. }) = &source_kind
        && mapping.order.is_none()
        && mapping.payment.is_none()
        && mapping.tracking.is_none()
    {
        let fix =
            "point order, payment or tracking at where it stands in the document, such as order = \"/data/order_id\"";
        reader.missing(place, &scope.key("order").shown, "nothing says what was shipped", fix);
    }
    Some(Source {
        name,
        provider: provider.map(str::to_owned),
        account,
        kind: source_kind?,
        secrets,
    })
}

fn read_secrets(
    reader: &mut Reader<'_>,
    scope: &TableScope,
    kind: Kind,
    line: usize,
    missing: &mut Vec<Fault>,
) -> Vec<SecretBytes> {
    let mut secrets = Vec::new();
    for name in ["secret", "previous_secret"] {
        let key = scope.key(name);
        match reader.secret(&key, Some(&scope.key(&format!("{name}_env")).in_the_file_only())) {
            Ok(Some(secret)) => match bytes(kind, &secret) {
                Some(bytes) => secrets.push(bytes),
                None => {
                    let refusal = Refusal::new(
                        "is no secret of Standard Webhooks",
                        "it is whsec_ and base64 of 24 to 64 bytes, as the sender shows it",
                    );
                    let place = reader.line(line);
                    reader.fault(place, &key.shown, refusal);
                }
            },
            Ok(None) if name == "secret" => missing.push(Fault {
                place: reader.line(line),
                key: key.shown,
                wrong: "is missing".to_owned(),
                fix: "write secret_env = \"NAME_OF_A_VARIABLE\" or secret_file = \"/path\"".to_owned(),
            }),
            Ok(None) => {}
            Err(fault) => missing.push(fault),
        }
    }
    secrets
}

fn bytes(kind: Kind, secret: &SecretString) -> Option<SecretBytes> {
    match kind {
        Kind::Standard => standard_secret(secret.expose_secret()).map(SecretBytes::new),
        Kind::Shopify | Kind::Hmac | Kind::Unsigned => {
            Some(SecretBytes::new(secret.expose_secret().as_bytes().to_vec()))
        }
    }
}

fn pointer(reader: &mut Reader<'_>, scope: &TableScope, name: &str) -> Option<Pointer> {
    let parse = |raw: &Raw| {
        let text = values::text(raw)?;
        Pointer::parse(&text).ok_or_else(|| {
            Refusal::new(
                format!("{} is no JSON pointer", raw.quoted()),
                "write the names on the way with slashes, such as \"/data/order_id\"",
            )
        })
    };
    reader.optional(&scope.key(name), parse, |pointer| pointer.as_str().to_owned())
}

fn read_scheme(reader: &mut Reader<'_>, scope: &TableScope, line: usize) -> Option<HmacScheme> {
    let header_key = scope.key("header");
    let header = reader.optional(&header_key, values::header_name, String::clone);
    if header.is_none() && reader.sound(&[&header_key.shown]) {
        let place = reader.line(line);
        reader.missing(
            place,
            &header_key.shown,
            "is missing",
            "write header, the one that has the signature",
        );
    }
    let text = |reader: &mut Reader<'_>, name: &str| reader.optional(&scope.key(name), values::text, String::clone);
    let header_named =
        |reader: &mut Reader<'_>, name: &str| reader.optional(&scope.key(name), values::header_name, String::clone);
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = reader.choice(&scope.key("encoding"), Encoding::Hex, &encodings);
    let default = Duration::from_secs(300);
    let tolerance = reader.defaulted(
        &scope.key("tolerance"),
        default,
        |raw| values::duration(raw, &TOLERANCE),
        |value| values::written_duration(*value),
    );
    let scheme = HmacScheme {
        signature_field: text(reader, "signature_field"),
        timestamp_field: text(reader, "timestamp_field"),
        prefix: text(reader, "prefix").unwrap_or_default(),
        timestamp_header: header_named(reader, "timestamp_header"),
        id_header: header_named(reader, "id_header"),
        signed: text(reader, "signed").unwrap_or_else(|| "{body}".to_owned()),
        tolerance_s: i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX),
        ..HmacScheme::of_body(&header?, encoding)
    };
    let tells_time = scheme.timestamp_field.is_some() || scheme.timestamp_header.is_some();
    let wrong = if !scheme.signed.contains("{body}") {
        Some((
            "what is signed has no {body} in it",
            "write it like signed = \"{timestamp}.{body}\"",
        ))
    } else if scheme.signed.contains("{timestamp}") != tells_time {
        // A time that is not signed is worth nothing, and one that is signed and not known cannot be checked.
        Some((
            "{timestamp} is signed, or a header has a time, and not both",
            "set timestamp_header or timestamp_field, and signed = \"{timestamp}.{body}\"; or neither",
        ))
    } else if scheme.signed.contains("{id}") && scheme.id_header.is_none() {
        Some(("{id} is signed, and no header has it", "set id_header"))
    } else {
        None
    };
    if let Some((wrong, fix)) = wrong {
        let place = reader.line(line);
        reader.fault(place, &scope.key("signed").shown, Refusal::new(wrong, fix));
    }
    Some(scheme)
}

fn read_mapping(reader: &mut Reader<'_>, scope: &TableScope) -> Mapping {
    let mut at = |name: &str| pointer(reader, scope, name);
    let mut mapping = Mapping {
        order: at("order"),
        payment: at("payment"),
        tracking: at("tracking"),
        company: at("company"),
        method: at("method"),
        shipment_ref: at("shipment_ref"),
        amount_minor: at("amount_minor"),
        currency: at("currency"),
        is_final: at("final"),
        status: at("status"),
        statuses: BTreeMap::new(),
    };
    let kinds = ShipmentKind::ALL.map(|kind| (kind.name(), kind));
    for word in status_words(reader, scope) {
        let key: Key = scope.key(&format!("statuses.{word}")).in_the_file_only();
        let kind = reader.optional(&key, |raw| values::choice(raw, &kinds), |kind| kind.name().to_owned());
        mapping.statuses.extend(kind.map(|kind| (word.to_lowercase(), kind)));
    }
    mapping
}

/// The words under `statuses`.
fn status_words(reader: &Reader<'_>, scope: &TableScope) -> Vec<String> {
    let prefix = format!("{}.{}.statuses.", scope.table, scope.index);
    let words = reader.file.entries.keys().filter_map(|path| path.strip_prefix(&prefix));
    words.map(str::to_owned).collect()
}

/// So that the other keys of a source that cannot be told are not called unknown as well.
fn ask_everything(reader: &mut Reader<'_>, scope: &TableScope) {
    const KEYS: [&str; 29] = [
        "name",
        "kind",
        "provider",
        "account",
        "allow_unsigned",
        "secret",
        "secret_env",
        "secret_file",
        "previous_secret",
        "previous_secret_env",
        "previous_secret_file",
        "header",
        "encoding",
        "prefix",
        "signature_field",
        "timestamp_field",
        "timestamp_header",
        "id_header",
        "id",
        "signed",
        "tolerance",
        "order",
        "payment",
        "tracking",
        "company",
        "method",
        "shipment_ref",
        "amount_minor",
        "currency",
    ];
    for name in KEYS.into_iter().chain(["final", "status"]) {
        let _ = reader.find(&scope.key(name));
    }
    for word in status_words(reader, scope) {
        let _ = reader.find(&scope.key(&format!("statuses.{word}")));
    }
}

#[cfg(test)]
#[path = "shipment_source_tests.rs"]
mod tests;
