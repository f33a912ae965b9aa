//! The sources of shipments, as people write them.

use super::super::{Config, ConfigFile, Environment, Need, Sources};

fn load(text: &str) -> Result<Config, String> {
    let sources = Sources {
        file: ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text: text.to_owned(),
        },
        environment: Environment::from([
            ("WEBHOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("WEBHOOK_BEFORE", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            ("PLAIN", "hush"),
        ]),
        need: Need::DatabaseOnly,
        ..Sources::default()
    };
    Config::load(&sources)
        .map(|(config, _)| config)
        .map_err(|faults| faults.to_string())
}

/// Every source of the guide, as it stands there.
#[test]
fn the_sources_of_the_guide_are_understood() {
    let guide = include_str!("../../docs/fulfilment.md");
    let mut read = 0;
    for block in guide.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        if !block.contains("[[shipment_source]]") {
            continue;
        }
        read += 1;
        let config = load(block).unwrap_or_else(|faults| panic!("{block}\n{faults}"));
        assert!(!config.shipment_sources.is_empty(), "{block}");
    }
    assert!(read >= 3, "the guide shows {read} sources");
}

#[test]
fn a_source_may_have_two_secrets_while_they_are_exchanged() {
    let config = load(
        "[[shipment_source]]\nname = 'wms'\nkind = 'standard'\nsecret_env = 'WEBHOOK'\nprevious_secret_env = 'WEBHOOK_BEFORE'",
    )
    .unwrap();
    assert_eq!(config.shipment_sources[0].secrets.len(), 2);
    assert!(config.missing_source_secrets.is_empty());
    let config = load("[[shipment_source]]\nname = 'wms'\nkind = 'standard'\nsecret_env = 'NOBODY_SET_IT'").unwrap();
    assert_eq!(config.missing_source_secrets.len(), 1, "only serve minds");
}

#[test]
fn what_would_let_anybody_release_captures_or_cannot_be_checked_is_refused_with_its_line() {
    let shopify = "[[shipment_source]]\nname = 's'\nkind = 'shopify'\nprovider = 'afterpay'\nsecret_env = 'PLAIN'\n";
    let hmac = "[[shipment_source]]\nname = 'h'\nkind = 'hmac'\nprovider = 'afterpay'\nsecret_env = 'PLAIN'\norder = '/order'\n";
    assert!(load(shopify).is_ok());
    for (text, told) in [
        (
            "[[shipment_source]]\nname = 'u'\nkind = 'unsigned'\nprovider = 'afterpay'\norder = '/o'".to_owned(),
            "allow_unsigned",
        ),
        (
            "[[shipment_source]]\nname = 'a b'\nkind = 'standard'\nsecret_env = 'WEBHOOK'".to_owned(),
            "no name of a source",
        ),
        (
            "[[shipment_source]]\nkind = 'standard'\nsecret_env = 'WEBHOOK'".to_owned(),
            "name: is missing",
        ),
        ("[[shipment_source]]\nname = 'x'".to_owned(), "kind: is missing"),
        (
            "[[shipment_source]]\nname = 'x'\nkind = 'standard'\nsecret_env = 'PLAIN'".to_owned(),
            "no secret of Standard Webhooks",
        ),
        (
            "[[shipment_source]]\nname = 'x'\nkind = 'shopify'\nsecret_env = 'PLAIN'".to_owned(),
            "provider: is missing",
        ),
        (format!("{shopify}{shopify}"), "a second source s"),
        (format!("{shopify}secret = 'hush'"), "never stands in this file"),
        (format!("{shopify}hook = 1"), "hook"),
        (hmac.to_owned(), "header: is missing"),
        (format!("{hmac}header = 'X-S'\nsigned = 'body'"), "{body}"),
        (
            format!("{hmac}header = 'X-S'\nsigned = '{{timestamp}}.{{body}}'"),
            "timestamp_header",
        ),
        (
            format!("{hmac}header = 'X-S'\ntimestamp_header = 'X-T'"),
            "timestamp_header",
        ),
        (format!("{hmac}header = 'X-S'\nid = 'id'"), "no JSON pointer"),
        (
            format!("{hmac}header = 'X-S'\nstatus = '/s'\nstatuses = {{ GONE = 'flown' }}"),
            "GONE",
        ),
        (
            format!("{}header = 'X-S'", hmac.replace("order = '/order'\n", "")),
            "nothing says what was shipped",
        ),
    ] {
        let faults = load(&text).map(|_| ()).unwrap_err();
        assert!(
            faults.contains(told) && faults.contains("capture.toml:"),
            "{text}\n{faults}"
        );
        assert!(!faults.contains("hush"), "{faults}");
    }
}
