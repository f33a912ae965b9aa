//! Signatures that others made: openssl and Python's hmac, each with the command that made it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
/// The vector that the libraries of Standard Webhooks share. Made again with
/// `printf '%s.%s.%s' $id 1614265330 '{"test": 2432232314}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:$(base64 -d … | xxd -p) -binary | base64`.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn asked<T>(headers: &[(&str, &str)], body: &[u8], now_s: i64, ask: impl FnOnce(&Incoming<'_>) -> T) -> T {
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    ask(&Incoming {
        header: &|name| headers.get(name).cloned(),
        body,
        now_s,
    })
}

fn secrets(texts: &[&str]) -> Vec<SecretBytes> {
    texts
        .iter()
        .map(|text| SecretBytes::new(standard_secret(text).unwrap()))
        .collect()
}

fn standard_of(signature: &str, body: &[u8], now_s: i64) -> Result<String, SignatureFault> {
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", signature),
    ];
    asked(&headers, body, now_s, |request| standard(request, &secrets(&[SECRET])))
}

#[test]
fn a_signature_of_standard_webhooks_is_believed_for_five_minutes() {
    for age in [-300, 0, 300] {
        assert_eq!(standard_of(SIGNATURE, BODY, AT + age), Ok(ID.to_owned()), "{age}");
    }
    for age in [-301, 301, i64::MAX - AT, i64::MIN] {
        let now = AT.checked_add(age).unwrap_or(i64::MIN);
        assert_eq!(standard_of(SIGNATURE, BODY, now), Err(SignatureFault::Stale), "{age}");
    }
}

#[test]
fn what_is_altered_in_any_byte_is_not_believed() {
    for at in 0..BODY.len() {
        let mut body = BODY.to_vec();
        body[at] ^= 1;
        assert_eq!(standard_of(SIGNATURE, &body, AT), Err(SignatureFault::Wrong));
    }
    for (name, value) in [("webhook-id", "msg_other"), ("webhook-timestamp", "1614265331")] {
        let mut headers = BTreeMap::from([
            ("webhook-id", ID),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", SIGNATURE),
        ]);
        headers.insert(name, value);
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let told = asked(&headers, BODY, AT, |request| standard(request, &secrets(&[SECRET])));
        assert_eq!(told, Err(SignatureFault::Wrong), "{name}");
    }
    let mut cut = STANDARD.decode(SIGNATURE.trim_start_matches("v1,")).unwrap();
    cut.truncate(16);
    let cut = format!("v1,{}", STANDARD.encode(cut));
    assert_eq!(
        standard_of(&cut, BODY, AT),
        Err(SignatureFault::Wrong),
        "a half is none"
    );
}

#[test]
fn one_of_several_signatures_and_one_of_several_secrets_is_enough() {
    let other = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(standard_of(&format!("{other} {SIGNATURE}"), BODY, AT).is_ok());
    assert!(standard_of(&format!("v2,x v1a,y {SIGNATURE} garbage"), BODY, AT).is_ok());
    assert_eq!(standard_of(other, BODY, AT), Err(SignatureFault::Wrong));
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", SIGNATURE),
    ];
    let old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    asked(&headers, BODY, AT, |request| {
        assert!(standard(request, &secrets(&[old, SECRET])).is_ok());
        assert_eq!(standard(request, &secrets(&[old])), Err(SignatureFault::Wrong));
        assert_eq!(
            standard(request, &[]),
            Err(SignatureFault::Wrong),
            "no secret, no belief"
        );
    });
}

#[test]
fn what_is_not_signed_or_cannot_be_read_is_missing() {
    for (id, at, signature) in [
        ("", "1614265330", SIGNATURE),
        ("a.b", "1614265330", SIGNATURE),
        (ID, "1614265330", ""),
        (ID, "1614265330", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (ID, "1614265330", "v1,not base64!"),
    ] {
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", at),
            ("webhook-signature", signature),
        ];
        let told = asked(&headers, BODY, AT, |request| standard(request, &secrets(&[SECRET])));
        assert_eq!(told, Err(SignatureFault::Missing), "{id} {at} {signature}");
    }
    assert_eq!(
        asked(&[], BODY, AT, |request| standard(request, &secrets(&[SECRET]))),
        Err(SignatureFault::Missing)
    );
    assert_eq!(standard_secret("whsec_short"), None);
    assert_eq!(standard_secret("whsec_!"), None);
}

fn plain(text: &str) -> Vec<SecretBytes> {
    vec![SecretBytes::new(text.as_bytes().to_vec())]
}

#[test]
fn shopifys_signature_is_base64_of_the_raw_body() {
    // printf '%s' '{"id":255858046,"order_id":450789469,"status":"success"}' | openssl dgst -sha256 -hmac 'hush' -binary | base64
    let made = "mI0/D1LXJmlDXixdDB6V1aWggP4fhT4Ou5RQ1Td9Ug4=";
    let body = br#"{"id":255858046,"order_id":450789469,"status":"success"}"#;
    let scheme = HmacScheme::of_body("x-shopify-hmac-sha256", Encoding::Base64);
    let check = |given: &str, body: &[u8], secret: &str| {
        asked(&[("x-shopify-hmac-sha256", given)], body, AT, |request| {
            scheme.check(request, &plain(secret))
        })
    };
    assert_eq!(check(made, body, "hush"), Ok(None));
    assert_eq!(check(made, body, "husk"), Err(SignatureFault::Wrong));
    assert_eq!(check(made, b"{}", "hush"), Err(SignatureFault::Wrong));
}

#[test]
fn easyposts_signature_is_hex_behind_a_prefix() {
    // printf '%s' '{"id":"evt_1","description":"tracker.updated"}' | openssl dgst -sha256 -hmac 's3cret' -r | cut -d' ' -f1
    let made = "8023f11075de422e2f7badf4527b32cfa7050b5b555a6785909e9497b5b86d0c";
    let body = br#"{"id":"evt_1","description":"tracker.updated"}"#;
    let scheme = HmacScheme {
        prefix: "hmac-sha256-hex=".to_owned(),
        ..HmacScheme::of_body("x-hmac-signature", Encoding::Hex)
    };
    let check = |given: &str| {
        asked(&[("x-hmac-signature", given)], body, AT, |request| {
            scheme.check(request, &plain("s3cret"))
        })
    };
    assert_eq!(check(&format!("hmac-sha256-hex={made}")), Ok(None));
    assert_eq!(check(&format!("hmac-sha256-hex={}", made.to_uppercase())), Ok(None));
    for missing in [made, "hmac-sha256-hex=zz", "hmac-sha256-hex=123", "sha1=00"] {
        assert_eq!(check(missing), Err(SignatureFault::Missing), "{missing}");
    }
}

#[test]
fn a_list_of_fields_has_time_and_signature_in_one_header_as_shippos() {
    // printf '%s' '1614265330.{"event":"track_updated"}' | openssl dgst -sha256 -hmac 's3cret' -r | cut -d' ' -f1
    let made = "a7ead77730f1a82c209d8d74271183911c04572e356e9c2a9411202dceb68c54";
    let body = br#"{"event":"track_updated"}"#;
    let scheme = HmacScheme {
        signature_field: Some("v1".to_owned()),
        timestamp_field: Some("t".to_owned()),
        signed: "{timestamp}.{body}".to_owned(),
        ..HmacScheme::of_body("shippo-auth-signature", Encoding::Hex)
    };
    let check = |given: String, now| {
        asked(&[("shippo-auth-signature", &given)], body, now, |request| {
            scheme.check(request, &plain("s3cret"))
        })
    };
    assert_eq!(check(format!("t=1614265330,v1={made}"), AT + 200), Ok(None));
    assert_eq!(
        check(format!("t=1614265330, v1={made}"), AT + 301),
        Err(SignatureFault::Stale)
    );
    assert_eq!(check(format!("t=1614265331,v1={made}"), AT), Err(SignatureFault::Wrong));
    assert_eq!(check(format!("v1={made}"), AT), Err(SignatureFault::Missing));
    assert_eq!(check("t=1614265330".to_owned(), AT), Err(SignatureFault::Missing));
}

#[test]
fn what_is_signed_is_put_together_as_the_settings_say_the_id_included() {
    // python3 -c "import hmac; print(hmac.new(b's3cret', b'v0:evt-9:1614265330:{}', 'sha256').hexdigest())"
    let made = "8aeb70f1f6c4e70905ce5969007697fa1338c87b04b2f5d810a57e02cc08d584";
    let scheme = HmacScheme {
        timestamp_header: Some("x-time".to_owned()),
        id_header: Some("x-id".to_owned()),
        signed: "v0:{id}:{timestamp}:{body}".to_owned(),
        ..HmacScheme::of_body("x-signature", Encoding::Hex)
    };
    assert!(scheme.signs_id());
    let check = |id, at| {
        let headers = [("x-signature", made), ("x-id", id), ("x-time", at)];
        asked(&headers, b"{}", AT, |request| scheme.check(request, &plain("s3cret")))
    };
    assert_eq!(check("evt-9", "1614265330"), Ok(Some("evt-9".to_owned())));
    assert_eq!(check("evt-8", "1614265330"), Err(SignatureFault::Wrong));
    let no_id = asked(
        &[("x-signature", made), ("x-time", "1614265330")],
        b"{}",
        AT,
        |request| scheme.check(request, &plain("s3cret")),
    );
    assert_eq!(no_id, Err(SignatureFault::Missing));
}
