//! `[[account]]`: the merchant accounts at the providers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::intent::Lane;
use crate::shipment::{Fulfilment, ReleaseOn, ShipmentAmount};

use super::faults::{Fault, Place};
use super::file::Raw;
use super::reader::{self, Reader, TableScope};
use super::values::{self, Refusal};

/// One merchant account at one provider: where it is called, with what credentials, and how hard.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// Provider and account, as in `intents.provider` and `intents.account`. Name: default `default`; several accounts of
    /// one provider differ by it. Letters, digits, `-`, `_` and `.`, at most 64.
    pub lane: Lane,
    /// Where the provider's API is. No default: production and sandbox must never be mixed up by leaving something out.
    pub base_url: Url,
    /// The merchant's id at the provider (Optty: `client_id`). Not a secret.
    pub merchant_id: String,
    /// Calls in flight, per worker process. Default 32: at half a second a call that is 64 captures a second, and no
    /// documented limit is touched. 1 to 1024.
    pub concurrency: u32,
    /// Calls a minute of all workers together; `None`: no limit. In the file 0 means no limit, and absent what the
    /// provider documents (Resolve 100, the others none).
    pub rate_per_minute: Option<u32>,
    /// What a shipment does to its held captures: when (`release_on`, default `shipped`) and how much of them
    /// (`shipment_amount`, default `explicit`: as the order system asked). And whether the provider is told of the parcel
    /// once its capture is on record (`tell_shipments`; not at Optty, where the capture carries it). Default false: the
    /// calls are documented, but nobody has tried them against a live account, and where a shop's plugin tells as well, two
    /// would tell.
    pub fulfilment: Fulfilment,
    /// How long an authorisation lives, counted from the first intent of its payment, where neither the order system nor the
    /// provider says when it ends. 1 h to 400 d; default none: then such a capture is warned of by nobody. The authorisation
    /// is older than its first intent, so write less than the contract says. It warns and makes urgent, and stops nothing.
    pub authorization_lifetime: Option<Duration>,
    /// What only this provider has.
    pub provider: ProviderConfig,
    secret: Result<SecretString, Fault>,
}

impl AccountConfig {
    /// The secret, or the fault that says where it was looked for. After a load with [`super::Need::Everything`] it is there.
    pub fn secret(&self) -> Result<&SecretString, &Fault> {
        self.secret.as_ref()
    }
}

/// The settings that only one provider, or one way of capturing at it, has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderConfig {
    /// Afterpay.
    Afterpay {
        /// The merchant's shop, for the User-Agent that Afterpay asks for. Default none.
        platform_url: Option<Url>,
    },
    /// Optty.
    Optty {
        /// Where tokens are minted, the whole address.
        auth_url: Url,
        /// Do the payment methods behind this account refuse a capture without shipping data? Default false. If true, an
        /// intent without it waits for a release that brings it.
        require_shipping: bool,
    },
    /// Resolve, `model = "charge"`: no key; reads before every send.
    ResolveCharge {
        /// How calls are made.
        access: ResolveAccess,
        /// Is a capture of the same amount that was there before our first send taken for ours? Default false: it is
        /// somebody else's, and a person decides.
        adopt_equal_captures: bool,
        /// Does anybody else (the dashboard, a shop plugin) capture on this account? Default true, because that is
        /// common: then a capture counts as ours only by our marker or reference, never by amount and time alone.
        other_writers: bool,
    },
    /// Resolve, `model = "order"`: keyed. To be preferred; the merchant must have opted in.
    ResolveOrder {
        /// How calls are made.
        access: ResolveAccess,
    },
}

/// How calls to Resolve are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveAccess {
    /// With a bearer token instead of basic authentication? Default false.
    pub bearer: bool,
    /// Where tokens are minted, the whole address. Default none: `/access-keys/token` below `base_url`.
    pub auth_url: Option<Url>,
    /// The API version to pin, sent as a header. Default none: the one set in the merchant's dashboard.
    pub api_version: Option<String>,
}

/// How long an authorisation may live: from an hour to somewhat over a year.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(400 * 24 * 3600);

/// A provider that accounts may name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Afterpay,
    Optty,
    Resolve,
}

pub(super) const PROVIDERS: [(&str, Known); 3] = [
    ("afterpay", Known::Afterpay),
    ("optty", Known::Optty),
    ("resolve", Known::Resolve),
];

/// Which of Resolve's two APIs captures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    Charge,
    Order,
}

const MODELS: [(&str, Model); 2] = [("charge", Model::Charge), ("order", Model::Order)];

/// Settings that only some have; given for another they are a fault, because whoever wrote them expects them to do
/// something. The second name is the provider, and the model where that matters.
const ONLY_FOR: [(&str, &[&str]); 9] = [
    ("platform_url", &["afterpay"]),
    ("auth_url", &["optty", "resolve charge", "resolve order"]),
    ("require_shipping", &["optty"]),
    ("tell_shipments", &["afterpay", "resolve charge", "resolve order"]),
    ("model", &["resolve charge", "resolve order"]),
    ("bearer", &["resolve charge", "resolve order"]),
    ("api_version", &["resolve charge", "resolve order"]),
    ("other_writers", &["resolve charge"]),
    ("adopt_equal_captures", &["resolve charge"]),
];

/// What the provider documents, in calls a minute.
fn documented_rate(provider: Known) -> Option<u32> {
    match provider {
        Known::Afterpay | Known::Optty => None,
        Known::Resolve => Some(100),
    }
}

/// Reads every `[[account]]`. A secret that is not there is no fault of `reader` yet, but listed beside: whether it
/// matters depends on what the caller is going to do.
pub(super) fn read(reader: &mut Reader<'_>) -> (Vec<AccountConfig>, Vec<Fault>) {
    let file = reader.file;
    let mut seen: BTreeMap<String, (Lane, usize)> = BTreeMap::new();
    let mut accounts = Vec::new();
    let mut without_secret = Vec::new();
    for (index, line) in file.accounts.iter().copied().enumerate() {
        let mut scope = TableScope {
            table: "account",
            index,
            label: format!("#{}", index + 1),
            variables: None,
        };
        let Some((provider, lane)) = read_lane(reader, &scope, line) else {
            ask_everything(reader, &scope);
            continue;
        };
        let variables = reader::variable_name(&format!("account.{}.{}", lane.provider, lane.account));
        let first = seen.insert(variables.clone(), (lane.clone(), line));
        if let Some((other, other_line)) = first {
            let key = scope.key("name").shown;
            let wrong = if other == lane {
                format!("a second account {lane}; the first is on line {other_line}")
            } else {
                format!("{lane} and {other} on line {other_line} have the same environment variables ({variables}_…)")
            };
            reader.fault(reader.line(line), &key, Refusal::new(wrong, "give it another name"));
            ask_everything(reader, &scope);
            continue;
        }
        scope.label = lane.to_string();
        scope.variables = Some(variables);
        let secret = read_secret(reader, &scope, line);
        without_secret.extend(secret.as_ref().err().cloned());
        accounts.extend(read_account(reader, &scope, provider, lane, line, secret));
    }
    (accounts, without_secret)
}

fn read_lane(reader: &mut Reader<'_>, scope: &TableScope, line: usize) -> Option<(Known, Lane)> {
    let (provider_key, name_key) = (scope.key("provider"), scope.key("name"));
    let provider = reader.find(&provider_key);
    let name = reader.find(&name_key);
    let account = match &name {
        None => Some("default".to_owned()),
        Some(found) => match values::text(&found.value).and_then(|name| check_name(&name).map(|()| name)) {
            Ok(name) => Some(name),
            Err(refusal) => {
                reader.fault(found.place.clone(), &name_key.shown, refusal);
                None
            }
        },
    };
    let Some(provider) = provider else {
        let place = reader.line(line);
        reader.missing(
            place,
            &provider_key.shown,
            "is missing",
            "write provider = \"afterpay\", \"optty\" or \"resolve\"",
        );
        return None;
    };
    match values::choice(&provider.value, &PROVIDERS) {
        Err(refusal) => {
            reader.fault(provider.place, &provider_key.shown, refusal);
            None
        }
        Ok(known) => {
            let provider = name_of(known).to_owned();
            Some((
                known,
                Lane {
                    provider,
                    account: account?,
                },
            ))
        }
    }
}

pub(super) fn name_of(provider: Known) -> &'static str {
    match provider {
        Known::Afterpay => "afterpay",
        Known::Optty => "optty",
        Known::Resolve => "resolve",
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.len() <= 64 && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Refusal::new(
        "is no account name",
        "use at most 64 letters, digits, '-', '_' and '.'",
    ))
}

/// So that the other keys of an account that cannot be told are not called unknown as well.
fn ask_everything(reader: &mut Reader<'_>, scope: &TableScope) {
    let common = [
        "provider",
        "name",
        "base_url",
        "merchant_id",
        "secret_env",
        "secret_file",
        "concurrency",
        "rate_per_minute",
        "release_on",
        "shipment_amount",
        "authorization_lifetime",
    ];
    for name in common.into_iter().chain(ONLY_FOR.map(|(name, _)| name)) {
        let _ = reader.find(&scope.key(name));
    }
}

fn read_account(
    reader: &mut Reader<'_>,
    scope: &TableScope,
    known: Known,
    lane: Lane,
    line: usize,
    secret: Result<SecretString, Fault>,
) -> Option<AccountConfig> {
    let required_url = |reader: &mut Reader<'_>, name: &str, like: &str| {
        let key = scope.key(name);
        let before = reader.faults.len();
        let url = reader.optional(&key, values::provider_url, Url::to_string);
        if url.is_none() && reader.faults.len() == before {
            let place = reader.line(line);
            reader.missing(place, &key.shown, "is missing", format!("write {name} = \"{like}\""));
        }
        url
    };
    let base_url = required_url(
        reader,
        "base_url",
        match known {
            Known::Afterpay => "https://global-api-sandbox.afterpay.com",
            Known::Optty => "https://api.qa.optty.com",
            Known::Resolve => "https://app-sandbox.resolvepay.com/api",
        },
    );
    let merchant_key = scope.key("merchant_id");
    let before = reader.faults.len();
    let merchant_id = reader.optional(&merchant_key, merchant_id, String::clone);
    if merchant_id.is_none() && reader.faults.len() == before {
        let place = reader.line(line);
        reader.missing(
            place,
            &merchant_key.shown,
            "is missing",
            "write merchant_id, the merchant's id at the provider (at Optty: client_id)",
        );
    }
    let concurrency = reader.integer(&scope.key("concurrency"), 32, 1..=1024);
    let rate_per_minute = read_rate(reader, scope, known);
    let fulfilment = Fulfilment {
        release_on: reader.choice(
            &scope.key("release_on"),
            ReleaseOn::default(),
            &ReleaseOn::ALL.map(|on| (on.name(), on)),
        ),
        amount: reader.choice(
            &scope.key("shipment_amount"),
            ShipmentAmount::default(),
            &ShipmentAmount::ALL.map(|amount| (amount.name(), amount)),
        ),
        tell: match known {
            Known::Afterpay | Known::Resolve => reader.boolean(&scope.key("tell_shipments"), false),
            // Its captures carry the shipping data themselves.
            Known::Optty => false,
        },
    };
    let authorization_lifetime = reader.optional(
        &scope.key("authorization_lifetime"),
        |raw| values::duration(raw, &LIFETIMES),
        |lifetime| values::written_duration(*lifetime),
    );
    let provider = match known {
        Known::Afterpay => {
            refuse_what_others_have(reader, scope, "afterpay");
            let platform_url = reader.optional(&scope.key("platform_url"), values::provider_url, Url::to_string);
            Some(ProviderConfig::Afterpay { platform_url })
        }
        Known::Optty => {
            refuse_what_others_have(reader, scope, "optty");
            let auth_url = required_url(reader, "auth_url", "https://auth.qa.optty.com/token");
            let require_shipping = reader.boolean(&scope.key("require_shipping"), false);
            auth_url.map(|auth_url| ProviderConfig::Optty {
                auth_url,
                require_shipping,
            })
        }
        Known::Resolve => read_resolve(reader, scope, line),
    };
    Some(AccountConfig {
        lane,
        base_url: base_url?,
        merchant_id: merchant_id?,
        concurrency,
        rate_per_minute,
        fulfilment,
        authorization_lifetime,
        provider: provider?,
        secret,
    })
}

fn read_resolve(reader: &mut Reader<'_>, scope: &TableScope, line: usize) -> Option<ProviderConfig> {
    let key = scope.key("model");
    let before = reader.faults.len();
    let written = |model: &Model| match model {
        Model::Charge => "charge".to_owned(),
        Model::Order => "order".to_owned(),
    };
    let model = reader.optional(&key, |raw| values::choice(raw, &MODELS), written);
    let access = ResolveAccess {
        bearer: reader.boolean(&scope.key("bearer"), false),
        auth_url: reader.optional(&scope.key("auth_url"), values::provider_url, Url::to_string),
        api_version: reader.optional(&scope.key("api_version"), word, String::clone),
    };
    match model {
        None => {
            if reader.faults.len() == before {
                let place = reader.line(line);
                let fix = "write model = \"order\" if the merchant has opted in to Resolve's orders, else \"charge\"";
                reader.missing(place, &key.shown, "is missing", fix);
            }
            ask_everything(reader, scope);
            None
        }
        Some(Model::Charge) => {
            refuse_what_others_have(reader, scope, "resolve charge");
            Some(ProviderConfig::ResolveCharge {
                access,
                adopt_equal_captures: reader.boolean(&scope.key("adopt_equal_captures"), false),
                other_writers: reader.boolean(&scope.key("other_writers"), true),
            })
        }
        Some(Model::Order) => {
            refuse_what_others_have(reader, scope, "resolve order");
            Some(ProviderConfig::ResolveOrder { access })
        }
    }
}

/// Goes into headers: printable ASCII without spaces.
fn word(raw: &Raw) -> Result<String, Refusal> {
    let text = values::text(raw)?;
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(Refusal::new(
        format!("{} has other characters than printable ASCII", raw.quoted()),
        "write it as the provider gave it, without spaces",
    ))
}

/// The user of basic authentication, which a colon would end.
fn merchant_id(raw: &Raw) -> Result<String, Refusal> {
    let word = word(raw)?;
    if word.contains(':') {
        return Err(Refusal::new(
            "holds a colon",
            "write the merchant's id alone; the secret goes where secret_env or secret_file says",
        ));
    }
    Ok(word)
}

fn read_secret(reader: &mut Reader<'_>, scope: &TableScope, line: usize) -> Result<SecretString, Fault> {
    let key = scope.key("secret");
    let secret = reader.secret(&key, Some(&scope.key("secret_env").in_the_file_only()))?;
    secret.ok_or_else(|| {
        let variable = scope.variables.clone().unwrap_or_default() + "_SECRET";
        Fault {
            place: Place::File {
                file: reader.file.name.clone(),
                line,
            },
            key: key.shown,
            wrong: "is missing".to_owned(),
            fix: format!("write secret_env = \"NAME_OF_A_VARIABLE\" or secret_file = \"/path\", or set {variable}"),
        }
    })
}

fn read_rate(reader: &mut Reader<'_>, scope: &TableScope, known: Known) -> Option<u32> {
    let documented = documented_rate(known).unwrap_or(0);
    let rate = reader.integer(&scope.key("rate_per_minute"), documented, 0..=1_000_000);
    (rate > 0).then_some(rate)
}

fn refuse_what_others_have(reader: &mut Reader<'_>, scope: &TableScope, who: &str) {
    let foreign = ONLY_FOR.into_iter().filter(|(_, having)| !having.contains(&who));
    for (name, _) in foreign {
        let key = scope.key(name);
        if let Some(found) = reader.find(&key) {
            let wrong = format!("means nothing for {who}");
            reader.fault(found.place, &key.shown, Refusal::new(wrong, "remove it"));
        }
    }
}
