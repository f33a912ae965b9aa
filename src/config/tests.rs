use std::time::Duration;

use secrecy::ExposeSecret;

use crate::telemetry;

use super::*;

const SECRETS: [(&str, &str); 3] = [
    ("AFTERPAY_SECRET", "s3cret-a"),
    ("OPTTY_SECRET", "s3cret-o"),
    ("RESOLVE_SECRET", "s3cret-r"),
];

fn load(text: &str, environment: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigFaults> {
    Config::load(&Sources {
        file: ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text: text.to_owned(),
        },
        environment: SECRETS.iter().chain(environment).copied().collect(),
        ..Sources::default()
    })
}

fn faults_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match load(text, environment) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.faults().iter().map(Fault::to_string).collect(),
    }
}

fn warnings_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(text, environment)
        .unwrap()
        .1
        .iter()
        .map(Warning::to_string)
        .collect()
}

const AFTERPAY: &str = r#"
[[account]]
provider = "afterpay"
base_url = "https://global-api-sandbox.afterpay.com"
merchant_id = "400101010"
secret_env = "AFTERPAY_SECRET"
"#;

const RESOLVE: &str = r#"
[[account]]
provider = "resolve"
base_url = "https://app-sandbox.resolvepay.com/api"
merchant_id = "m1"
secret_env = "RESOLVE_SECRET"
"#;

#[test]
fn without_any_source_the_defaults_are_in_force_and_nothing_is_wrong() {
    let (config, warnings) = Config::load(&Sources {
        file: ConfigFile::Nothing,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.schema, "capture");
    assert_eq!(config.worker.lease, Duration::from_secs(120));
    assert_eq!(config.worker.longest_call(), Duration::from_secs(85));
    assert_eq!(config.retry.multiplier_thousandths, 2000);
    assert_eq!(config.breaker.failures, 20);
    assert_eq!(config.telemetry.listen, None);
    assert!(config.accounts.is_empty());
    let fault = config.database_url().unwrap_err();
    assert!(fault.to_string().contains("--database-url"), "{fault}");
}

#[test]
fn a_complete_file_is_read_into_plain_fields() {
    let (config, warnings) = load(
        r#"
        database_url = "postgres://capture:pw@db/shop"
        schema = "capture_eu"

        [worker]
        lease = "3m"
        connect_timeout = "5s"
        read_timeout = "60s"
        drain_timeout = "70s"
        settle_window = "20ms"
        poll_min = "5ms"
        poll_max = "2s"
        batch = 200
        deadline_margin = "30m"

        [retry]
        initial = "1s"
        multiplier = 1.5
        max = "10m"
        attempts = 8
        verify_quiet = "5m"

        [breaker]
        failures = 10
        open = "2s"
        open_max = "30s"

        [http]
        listen = "0.0.0.0:8443"

        [telemetry]
        listen = "127.0.0.1:0"
        format = "json"
        filter = "warn,capture=debug"

        [[account]]
        provider = "afterpay"
        name = "au"
        base_url = "https://global-api.afterpay.com"
        merchant_id = "1"
        secret_env = "AFTERPAY_SECRET"
        platform_url = "https://shop.example"

        [[account]]
        provider = "optty"
        base_url = "https://api.optty.com"
        auth_url = "https://auth.optty.com/token"
        merchant_id = "client"
        secret_env = "OPTTY_SECRET"
        require_shipping = true

        [[account]]
        provider = "resolve"
        base_url = "http://127.0.0.1:7777/api"
        merchant_id = "m"
        secret_env = "RESOLVE_SECRET"
        model = "charge"
        bearer = true
        api_version = "2024-01"
        adopt_equal_captures = true
        concurrency = 4
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(warnings, []);
    assert_eq!(
        config.database_url().unwrap().expose_secret(),
        "postgres://capture:pw@db/shop"
    );
    assert_eq!(config.schema, "capture_eu");
    assert_eq!(config.worker.settle_window, Duration::from_millis(20));
    assert_eq!(config.worker.batch, 200);
    assert_eq!(config.retry.multiplier_thousandths, 1500);
    assert_eq!(config.telemetry.listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.telemetry.format, telemetry::Format::Json);
    let lanes: Vec<String> = config.accounts.iter().map(|account| account.lane.to_string()).collect();
    assert_eq!(lanes, ["afterpay/au", "optty/default", "resolve/default"]);
    let [afterpay, optty, resolve] = config.accounts.as_slice() else {
        panic!("three accounts");
    };
    assert_eq!(afterpay.concurrency, 32);
    assert_eq!(afterpay.rate_per_minute, None);
    assert!(matches!(
        optty.provider,
        ProviderConfig::Optty {
            require_shipping: true,
            ..
        }
    ));
    assert_eq!(optty.secret().unwrap().expose_secret(), "s3cret-o");
    assert_eq!(resolve.rate_per_minute, Some(100), "what Resolve documents");
    assert_eq!(
        resolve.provider,
        ProviderConfig::ResolveCharge {
            access: ResolveAccess {
                bearer: true,
                auth_url: None,
                api_version: Some("2024-01".to_owned()),
            },
            adopt_equal_captures: true,
            other_writers: true,
        }
    );
}

#[test]
fn seven_faults_are_told_at_once_each_with_its_line_and_what_to_do() {
    let text = r#"schema = "Capture"

[worker]
leese = "60s"
lease = "80s"
settle_window = 10

[retry]
attempts = 0

[[account]]
provider = "afterpay"
base_url = "http://global-api.afterpay.com"
merchant_id = "1"
secret_env = "AFTERPAY_SECRET_EU"
"#;
    let faults = load(text, &[]).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "the settings have 7 faults:
  capture.toml:1: schema: is no plain schema name; use at most 63 lower-case letters, digits and '_', not beginning with a digit
  capture.toml:4: worker.leese: is no setting; did you mean worker.lease?
  capture.toml:5: worker.lease: 1m 20s is shorter than a call may take (1m 25s: connect_timeout + read_timeout + 5s); set lease to 1m 25s or more, or the time-outs lower
  capture.toml:6: worker.settle_window: 10 is no duration; write a number and its unit in quotes, such as \"200ms\", \"15s\" or \"10m\"
  capture.toml:9: retry.attempts: 0 is out of bounds; choose between 1 and 1000
  capture.toml:13: account[afterpay/default].base_url: \"http://global-api.afterpay.com\" would send the credentials unencrypted; write https; http is taken for a loopback address only
  capture.toml:15: account[afterpay/default].secret_env: the environment variable AFTERPAY_SECRET_EU is not set; set AFTERPAY_SECRET_EU, or put the secret into a file and name that in secret_file"
    );
}

#[test]
fn each_fault_names_its_place_and_says_what_to_do() {
    let account = |lines: &str| format!("[[account]]\n{lines}");
    type Case = (String, &'static [(&'static str, &'static str)], &'static str);
    let cases: Vec<Case> = vec![
        (
            "worker = 5".into(),
            &[],
            "capture.toml:1: worker: is a section, not a setting; write a line [worker] and its settings below",
        ),
        (
            "[account]\nname = 'x'".into(),
            &[],
            "capture.toml:2: account.name: is no setting; remove it; `capture config show` lists every setting",
        ),
        (
            "[workers]\npoll_max = '1s'".into(),
            &[],
            "capture.toml:2: workers.poll_max: is no setting; did you mean worker.poll_max?",
        ),
        (
            "[emtpy]".into(),
            &[],
            "capture.toml:1: emtpy: is no setting; remove it; `capture config show` lists every setting",
        ),
        (
            "schema = \"select\"".into(),
            &[],
            "capture.toml:1: schema: is a reserved word of SQL; choose another name",
        ),
        (
            "schema = \"pg_capture\"".into(),
            &[],
            "capture.toml:1: schema: is a schema of PostgreSQL itself; choose another name",
        ),
        (
            "schema = 5".into(),
            &[],
            "capture.toml:1: schema: 5 is no text; write it in quotes",
        ),
        (
            String::new(),
            &[("CAPTURE_WORKER_LEASE", "soon")],
            "env CAPTURE_WORKER_LEASE: worker.lease: \"soon\" is no duration; write a number and its unit in quotes, such as \"200ms\", \"15s\" or \"10m\"",
        ),
        (
            "[worker]\nlease = '2h'".into(),
            &[],
            "capture.toml:2: worker.lease: \"2h\" is out of bounds; choose between 1s and 1h",
        ),
        (
            "[worker]\nread_timeout = '2m'".into(),
            &[],
            "capture.toml:2: worker.lease: 2m is shorter than a call may take (2m 15s: connect_timeout + read_timeout + 5s); set lease to 2m 15s or more, or the time-outs lower",
        ),
        (
            "[worker]\npoll_min = '6s'".into(),
            &[],
            "capture.toml:2: worker.poll_min: 6s is more than worker.poll_max (5s); set it to at most worker.poll_max",
        ),
        (
            "[retry]\nmultiplier = 0.5".into(),
            &[],
            "capture.toml:2: retry.multiplier: 0.5 is out of bounds; choose between 1 and 10",
        ),
        (
            "[retry]\nmultiplier = 1e1".into(),
            &[],
            "capture.toml:2: retry.multiplier: 1e1 is no number with at most three decimals; write one such as 2 or 1.5, without quotes",
        ),
        (
            "[retry]\nverify_quiet = '0s'".into(),
            &[],
            "capture.toml:2: retry.verify_quiet: \"0s\" is out of bounds; choose between 1ms and 1day",
        ),
        (
            "[retry]\nattempts = 99999999999999999999".into(),
            &[],
            "capture.toml:2: retry.attempts: 99999999999999999999 is out of bounds; choose between 1 and 1000",
        ),
        (
            "[worker]\nallow_lost_commits = 'true'".into(),
            &[],
            "capture.toml:2: worker.allow_lost_commits: \"true\" is neither true nor false; write true or false, without quotes",
        ),
        (
            "[telemetry]\nformat = 'xml'".into(),
            &[],
            "capture.toml:2: telemetry.format: \"xml\" is none of the choices; write one of auto, json, text",
        ),
        (
            "[telemetry]\nlisten = 'localhost'".into(),
            &[],
            "capture.toml:2: telemetry.listen: \"localhost\" is no address to listen on; write address and port, such as \"127.0.0.1:9464\"; port 0 takes a free one",
        ),
        (
            account("name = 'x'"),
            &[],
            "capture.toml:1: account[#1].provider: is missing; write provider = \"afterpay\", \"optty\" or \"resolve\"",
        ),
        (
            account("provider = 'paypal'\nbase_url = 'x'"),
            &[],
            "capture.toml:2: account[#1].provider: \"paypal\" is none of the choices; write one of afterpay, optty, resolve",
        ),
        (
            format!("{AFTERPAY}colour = 'red'"),
            &[],
            "capture.toml:7: account.colour: is no setting; an account has adopt_equal_captures, api_version, auth_url, authorization_lifetime, base_url, bearer, concurrency, merchant_id, model, name, other_writers, platform_url, provider, rate_per_minute, release_on, require_shipping, secret_env, secret_file, shipment_amount, tell_shipments",
        ),
        (
            format!("{AFTERPAY}authorization_lifetime = '10m'"),
            &[],
            "capture.toml:7: account[afterpay/default].authorization_lifetime: \"10m\" is out of bounds; choose between 1h and 400d",
        ),
        (
            format!("{AFTERPAY}authorization_lifetime = 13"),
            &[],
            "capture.toml:7: account[afterpay/default].authorization_lifetime: 13 is no duration; write a number and its unit in quotes, such as \"200ms\", \"15s\" or \"10m\"",
        ),
        (
            format!("{AFTERPAY}concurency = 3"),
            &[],
            "capture.toml:7: account.concurency: is no setting; did you mean concurrency?",
        ),
        (
            format!("{AFTERPAY}secret = 'hunter2'"),
            &[],
            "capture.toml:7: account.secret: is no setting; a secret never stands in this file: name its variable in secret_env or its file in secret_file",
        ),
        (
            format!("{AFTERPAY}model = 'order'"),
            &[],
            "capture.toml:7: account[afterpay/default].model: means nothing for afterpay; remove it",
        ),
        (
            format!("{AFTERPAY}{AFTERPAY}"),
            &[],
            "capture.toml:8: account[#2].name: a second account afterpay/default; the first is on line 2; give it another name",
        ),
        (
            format!("{AFTERPAY}name = 'a-b'{AFTERPAY}name = 'a_b'"),
            &[],
            "capture.toml:8: account[#2].name: afterpay/a_b and afterpay/a-b on line 2 have the same environment variables (CAPTURE_ACCOUNT_AFTERPAY_A_B_…); give it another name",
        ),
        (
            AFTERPAY.replace("AFTERPAY_SECRET", "hunter2"),
            &[],
            "capture.toml:6: account[afterpay/default].secret_env: names no environment variable; write the variable's name, in capitals; the secret itself never stands in this file",
        ),
        (
            AFTERPAY.replace("secret_env", "secret_file"),
            &[],
            "capture.toml:6: account[afterpay/default].secret_file: AFTERPAY_SECRET cannot be read: No such file or directory (os error 2); name a file that this process may read",
        ),
        (
            format!("{AFTERPAY}secret_file = '/x'"),
            &[],
            "capture.toml:7: account[afterpay/default].secret: is given twice (capture.toml:6 and capture.toml:7); keep one of them",
        ),
        (
            AFTERPAY.replace("secret_env = \"AFTERPAY_SECRET\"", ""),
            &[],
            "capture.toml:2: account[afterpay/default].secret: is missing; write secret_env = \"NAME_OF_A_VARIABLE\" or secret_file = \"/path\", or set CAPTURE_ACCOUNT_AFTERPAY_DEFAULT_SECRET",
        ),
        (
            AFTERPAY.replace("https://", "https://me:pw@"),
            &[],
            "capture.toml:4: account[afterpay/default].base_url: holds a user or a password; write it like \"https://host/path\"",
        ),
        (
            AFTERPAY.replace("https://", ""),
            &[],
            "capture.toml:4: account[afterpay/default].base_url: \"global-api-sandbox.afterpay.com\" is no address: relative URL without a base; write it like \"https://host/path\"",
        ),
        (
            AFTERPAY.replace(
                "https://global-api-sandbox.afterpay.com",
                "http://127.0.0.1.evil.example",
            ),
            &[],
            "capture.toml:4: account[afterpay/default].base_url: \"http://127.0.0.1.evil.example\" would send the credentials unencrypted; write https; http is taken for a loopback address only",
        ),
        (
            RESOLVE.to_owned(),
            &[],
            "capture.toml:2: account[resolve/default].model: is missing; write model = \"order\" if the merchant has opted in to Resolve's orders, else \"charge\"",
        ),
        (
            format!("{RESOLVE}model = 'order'\nother_writers = false"),
            &[],
            "capture.toml:8: account[resolve/default].other_writers: means nothing for resolve order; remove it",
        ),
        (
            AFTERPAY.replace("400101010", "400101010:hunter2"),
            &[],
            "capture.toml:5: account[afterpay/default].merchant_id: holds a colon; write the merchant's id alone; the secret goes where secret_env or secret_file says",
        ),
        (
            "database_url = \"mysql://root:hunter2@db\"".into(),
            &[],
            "capture.toml:1: database_url: is no PostgreSQL URL; write it like postgres://user@host:5432/database",
        ),
        (
            "database_url_file = \"/nowhere/url\"".into(),
            &[],
            "capture.toml:1: database_url_file: /nowhere/url cannot be read: No such file or directory (os error 2); name a file that this process may read",
        ),
        (
            "lease = ".into(),
            &[],
            "capture.toml:1: not TOML: string values must be quoted, expected literal string; mend this line",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, environment, expected) in &cases {
        let faults = faults_of(text, environment);
        assert!(!faults.concat().contains("hunter2"), "a secret was shown: {faults:?}");
        if faults != [*expected] {
            wrong.push(format!(
                "{text}\n  expected {expected}\n  got      {}",
                faults.join("\n           ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_broken_file_still_tells_its_other_faults_but_nothing_that_may_stand_in_the_broken_part() {
    let faults = faults_of(
        "[worker]\nlease = 5\n[[account]]\nprovider = \"afterpay\nname = 'x'\n",
        &[],
    );
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(
        faults[0].starts_with("capture.toml:2: worker.lease: 5 is no duration"),
        "{faults:#?}"
    );
    assert!(faults[1].starts_with("capture.toml:4: not TOML"), "{faults:#?}");
}

#[test]
fn flags_beat_variables_and_variables_beat_the_file() {
    let text = format!(
        "schema = 'from_file'\ndatabase_url = 'postgres://file/db'\n[worker]\nbatch = 1\nlease = '100s'\n{AFTERPAY}"
    );
    let (config, _) = Config::load(&Sources {
        file: ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text,
        },
        environment: Environment::from([
            ("CAPTURE_SCHEMA", "from_variable"),
            ("CAPTURE_WORKER_BATCH", "2"),
            ("CAPTURE_WORKER_POLL_MAX", "9s"),
            ("CAPTURE_RETRY_MULTIPLIER", "1.25"),
            ("CAPTURE_TELEMETRY_LISTEN", "[::1]:9464"),
            ("DATABASE_URL", "postgres://variable/db"),
            ("CAPTURE_ACCOUNT_AFTERPAY_DEFAULT_SECRET", "stronger"),
            ("CAPTURE_ACCOUNT_AFTERPAY_DEFAULT_CONCURRENCY", "3"),
            ("AFTERPAY_SECRET", "weaker"),
        ]),
        flags: vec![Flag {
            flag: "--schema",
            key: "schema",
            value: "from_flag".to_owned(),
        }],
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(config.schema, "from_flag");
    assert_eq!(config.worker.batch, 2);
    assert_eq!(config.retry.multiplier_thousandths, 1250);
    assert_eq!(config.accounts[0].concurrency, 3);
    assert_eq!(config.accounts[0].secret().unwrap().expose_secret(), "stronger");
    assert_eq!(config.database_url().unwrap().expose_secret(), "postgres://variable/db");
    let source = |key: &str| {
        let setting = config.settings().iter().find(|setting| setting.key == key).unwrap();
        (setting.value.clone().unwrap_or_default(), setting.source.to_string())
    };
    let told = |value: &str, place: &str| (value.to_owned(), place.to_owned());
    assert_eq!(source("schema"), told("from_flag", "--schema"));
    assert_eq!(source("worker.batch"), told("2", "env CAPTURE_WORKER_BATCH"));
    assert_eq!(source("worker.lease"), told("1m 40s", "capture.toml:5"));
    assert_eq!(source("retry.max"), told("15m", "default"));
    assert_eq!(source("database_url"), told("***", "env DATABASE_URL"));
    assert_eq!(
        source("account[afterpay/default].secret"),
        told("***", "env CAPTURE_ACCOUNT_AFTERPAY_DEFAULT_SECRET")
    );
    assert_eq!(
        source("telemetry.listen"),
        told("[::1]:9464", "env CAPTURE_TELEMETRY_LISTEN")
    );
}

#[test]
fn unknown_variables_are_warnings_and_those_of_kubernetes_are_not_even_that() {
    let warnings = warnings_of(
        "",
        &[
            ("CAPTURE_WORKER_LEESE", "60s"),
            ("CAPTURE_SERVICE_HOST", "10.0.0.1"),
            ("CAPTURE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("CAPTURE_PG_BIN", "/usr/lib/postgresql/15/bin"),
            ("CAPTURE_SCHEMA", ""),
            ("HOME", "/root"),
        ],
    );
    assert_eq!(
        warnings,
        ["env CAPTURE_WORKER_LEESE: is no setting; did you mean CAPTURE_WORKER_LEASE?"]
    );
}

#[test]
fn settings_that_work_but_are_risky_are_warned_of() {
    let warnings = warnings_of(
        "[worker]\nread_timeout = '10s'\ndrain_timeout = '20s'\ndeadline_margin = '5s'\nallow_lost_commits = true\n[retry]\nverify_quiet = '1s'\n",
        &[],
    );
    let keys: Vec<&str> = warnings
        .iter()
        .filter_map(|warning| warning.split(": ").nth(1))
        .collect();
    assert_eq!(
        keys,
        [
            "worker.drain_timeout",
            "worker.deadline_margin",
            "retry.verify_quiet",
            "worker.allow_lost_commits"
        ]
    );
}

#[test]
fn a_missing_account_secret_stops_only_those_who_call_providers() {
    let sources = |need| Sources {
        file: ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text: AFTERPAY.to_owned(),
        },
        need,
        ..Sources::default()
    };
    assert!(Config::load(&sources(Need::Everything)).is_err());
    let (config, _) = Config::load(&sources(Need::DatabaseOnly)).unwrap();
    let fault = config.accounts[0].secret().unwrap_err();
    assert!(fault.to_string().contains("AFTERPAY_SECRET is not set"), "{fault}");
}

#[test]
fn secrets_come_from_files_too_relative_to_the_settings_and_without_the_last_line_break() {
    let directory = std::env::temp_dir().join(format!("capture-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("afterpay"), "from a file\r\n").unwrap();
    std::fs::write(directory.join("url"), "postgres://file/db\n").unwrap();
    std::fs::write(directory.join("empty"), "\n").unwrap();
    let path = directory.join("capture.toml");
    let text = AFTERPAY.replace("secret_env = \"AFTERPAY_SECRET\"", "secret_file = \"afterpay\"");
    std::fs::write(&path, &text).unwrap();
    let url_file = directory.join("url").display().to_string();
    let sources = Sources {
        file: ConfigFile::At(path.clone()),
        environment: Environment::from([("CAPTURE_DATABASE_URL_FILE", url_file)]),
        ..Sources::default()
    };
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(config.accounts[0].secret().unwrap().expose_secret(), "from a file");
    assert_eq!(config.database_url().unwrap().expose_secret(), "postgres://file/db");
    std::fs::write(
        &path,
        text.replace("\"afterpay\"\n", "\"empty\"\n")
            .replace("provider = \"empty\"", "provider = \"afterpay\""),
    )
    .unwrap();
    let faults = Config::load(&sources).unwrap_err().to_string();
    assert!(faults.contains("empty is empty; put the secret into it"), "{faults}");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    for sources in [
        Sources {
            file: ConfigFile::At("/nowhere/capture.toml".into()),
            ..Sources::default()
        },
        Sources {
            environment: Environment::from([("CAPTURE_CONFIG", "/nowhere/capture.toml")]),
            ..Sources::default()
        },
    ] {
        let faults = Config::load(&sources).unwrap_err().to_string();
        assert!(
            faults.starts_with("/nowhere/capture.toml: cannot be read: No such file"),
            "{faults}"
        );
    }
}

#[test]
fn printing_the_settings_never_prints_a_secret() {
    let (config, _) = load(&format!("database_url = 'postgres://u:hunter2@db/x'\n{AFTERPAY}"), &[]).unwrap();
    let printed = format!("{config:?}");
    assert!(!printed.contains("hunter2") && !printed.contains("s3cret"), "{printed}");
}

#[test]
fn how_long_authorisations_live_is_read_and_shown_in_days() {
    for (text, shown) in [("13d", "13d"), ("40days", "40d"), ("36h", "1day 12h"), ("24h", "1day")] {
        let (config, _) = load(&format!("{AFTERPAY}authorization_lifetime = '{text}'"), &[]).unwrap();
        let lifetime = config.accounts[0].authorization_lifetime.unwrap();
        assert_eq!(values::written_duration(lifetime), shown);
    }
    let (config, _) = load(AFTERPAY, &[]).unwrap();
    assert_eq!(config.accounts[0].authorization_lifetime, None);
}
