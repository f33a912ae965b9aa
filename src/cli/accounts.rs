//! From the accounts of the settings to the adapters: the one place that knows both.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use url::Url;

use crate::config::{AccountConfig, Config, Fault, Place, ProviderConfig, WorkerConfig};
use crate::intent::Lane;
use crate::operations::ProvidersByLane;
use crate::provider::{self, Abilities, AccountSettings, Model, Provider};

use super::output::Error;

/// An account and its adapter.
pub type Adapter = (Lane, Arc<dyn Provider>);

/// Settings without an account are in order for who only looks, and not for a worker.
pub fn none_configured() -> Fault {
    Fault {
        place: Place::Default,
        key: "account".to_owned(),
        wrong: "no account is configured, so there is nothing to work for".to_owned(),
        fix: "add an [[account]] to capture.toml; capture config show tells what is read".to_owned(),
    }
}

/// `1 account`, `2 accounts`.
pub fn in_words(accounts: usize) -> String {
    match accounts {
        1 => "1 account".to_owned(),
        several => format!("{several} accounts"),
    }
}

/// The adapter of every account, in the order of the file. What is wrong is told of all accounts at once.
pub fn adapters(config: &Config) -> Result<Vec<Adapter>, Error> {
    let mut adapters = Vec::new();
    let mut wrong = Vec::new();
    for account in &config.accounts {
        let secret = match account.secret() {
            Ok(secret) => secret.clone(),
            Err(fault) => {
                wrong.push(fault.to_string());
                continue;
            }
        };
        match provider::build(settings(account, &config.worker, secret)) {
            Ok(adapter) => adapters.push((account.lane.clone(), adapter)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    match wrong.is_empty() {
        true => Ok(adapters),
        false => Err(Error::usage(wrong.join("\n"))),
    }
}

/// The adapters of those accounts whose credentials are here, for looks at the provider; and the others.
pub fn with_credentials(config: &Config) -> Result<(ProvidersByLane, Vec<Lane>), Error> {
    let (mut adapters, mut without) = (ProvidersByLane::new(), Vec::new());
    for account in &config.accounts {
        let Ok(secret) = account.secret() else {
            without.push(account.lane.clone());
            continue;
        };
        let adapter = provider::build(settings(account, &config.worker, secret.clone()))
            .map_err(|error| Error::usage(error.to_string()))?;
        adapters.insert(account.lane.clone(), adapter);
    }
    Ok((adapters, without))
}

/// What the provider of every account can do. Needs no secrets, so that a dead letter can be judged from anywhere.
pub fn abilities(config: &Config) -> Result<BTreeMap<Lane, Abilities>, Error> {
    let mut abilities = BTreeMap::new();
    for account in &config.accounts {
        let adapter = provider::build(settings(account, &config.worker, SecretString::from("none")))
            .map_err(|error| Error::usage(error.to_string()))?;
        abilities.insert(account.lane.clone(), adapter.abilities());
    }
    Ok(abilities)
}

/// The adapter of one account, for a look at the provider.
pub fn adapter(config: &Config, provider: &str, name: &str) -> Result<Arc<dyn Provider>, Error> {
    let meant = |account: &&AccountConfig| account.lane.provider == provider && account.lane.account == name;
    let account = config.accounts.iter().find(meant).ok_or_else(|| {
        Error::usage(format!("{provider}/{name} is not among the accounts of these settings"))
            .hint("use the workers' capture.toml")
    })?;
    let secret = account.secret().map_err(|fault| Error::usage(fault.to_string()))?;
    provider::build(settings(account, &config.worker, secret.clone())).map_err(|error| Error::usage(error.to_string()))
}

fn settings(account: &AccountConfig, worker: &WorkerConfig, secret: SecretString) -> AccountSettings {
    let plain = AccountSettings {
        lane: account.lane.clone(),
        model: Model::Afterpay,
        base_url: account.base_url.to_string(),
        auth_url: None,
        merchant_id: account.merchant_id.clone(),
        secret,
        bearer: false,
        api_version: None,
        require_shipping: false,
        adopt_equal_captures: false,
        other_writers: true,
        platform_url: None,
        connect_timeout: worker.connect_timeout,
        read_timeout: worker.read_timeout,
    };
    match &account.provider {
        ProviderConfig::Afterpay { platform_url } => AccountSettings {
            model: Model::Afterpay,
            platform_url: platform_url.as_ref().map(Url::to_string),
            ..plain
        },
        ProviderConfig::Optty {
            auth_url,
            require_shipping,
        } => AccountSettings {
            model: Model::Optty,
            auth_url: Some(auth_url.to_string()),
            require_shipping: *require_shipping,
            ..plain
        },
        ProviderConfig::ResolveCharge {
            access,
            adopt_equal_captures,
            other_writers,
        } => AccountSettings {
            model: Model::ResolveCharge,
            bearer: access.bearer,
            auth_url: access.auth_url.as_ref().map(Url::to_string),
            api_version: access.api_version.clone(),
            adopt_equal_captures: *adopt_equal_captures,
            other_writers: *other_writers,
            ..plain
        },
        ProviderConfig::ResolveOrder { access } => AccountSettings {
            model: Model::ResolveOrder,
            bearer: access.bearer,
            auth_url: access.auth_url.as_ref().map(Url::to_string),
            api_version: access.api_version.clone(),
            ..plain
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Environment, Need, Sources};

    const ACCOUNTS: &str = r#"
        [[account]]
        provider = "afterpay"
        base_url = "http://127.0.0.1:7001"
        merchant_id = "1"
        secret_env = "SECRET"
        platform_url = "https://shop.example"
        [[account]]
        provider = "optty"
        base_url = "http://127.0.0.1:7001"
        auth_url = "http://127.0.0.1:7001/token"
        merchant_id = "2"
        secret_env = "SECRET"
        require_shipping = true
        [[account]]
        provider = "resolve"
        name = "charges"
        model = "charge"
        base_url = "http://127.0.0.1:7001/api"
        merchant_id = "3"
        secret_env = "SECRET"
        other_writers = false
        adopt_equal_captures = true
        [[account]]
        provider = "resolve"
        name = "orders"
        model = "order"
        base_url = "http://127.0.0.1:7001/api"
        merchant_id = "4"
        secret_env = "SECRET"
        bearer = true
        api_version = "2024-01"
    "#;

    fn config(need: Need, environment: Environment) -> Config {
        let file = ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text: ACCOUNTS.to_owned(),
        };
        let sources = Sources {
            file,
            environment,
            need,
            ..Sources::default()
        };
        Config::load(&sources).unwrap().0
    }

    #[test]
    fn each_account_brings_its_own_settings_to_its_adapter() {
        let config = config(Need::Everything, Environment::from([("SECRET", "s")]));
        let of = |index: usize| {
            let account = &config.accounts[index];
            settings(account, &config.worker, account.secret().unwrap().clone())
        };
        assert_eq!(of(0).model, Model::Afterpay);
        assert_eq!(of(0).platform_url.as_deref(), Some("https://shop.example/"));
        assert!(of(1).model == Model::Optty && of(1).require_shipping);
        assert_eq!(of(1).auth_url.as_deref(), Some("http://127.0.0.1:7001/token"));
        assert!(of(2).model == Model::ResolveCharge && of(2).adopt_equal_captures && !of(2).other_writers);
        assert!(of(3).model == Model::ResolveOrder && of(3).bearer);
        assert_eq!(of(3).api_version.as_deref(), Some("2024-01"));
        assert_eq!(of(3).read_timeout, config.worker.read_timeout);
    }

    #[test]
    fn what_providers_can_do_is_known_without_their_secrets() {
        let config = config(Need::DatabaseOnly, Environment::default());
        assert_eq!(abilities(&config).unwrap().len(), 4);
    }

    #[test]
    fn accounts_without_their_secrets_are_all_told_at_once() {
        let error = adapters(&config(Need::DatabaseOnly, Environment::default()))
            .err()
            .unwrap();
        assert_eq!(error.message.lines().count(), 4, "{error}");
    }
}
