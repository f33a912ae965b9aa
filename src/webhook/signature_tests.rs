//! Against signatures that others made: `tests/webhooks/vectors.py` says how.

use serde_json::Value;

use super::*;

struct Vector {
    secret: Secret,
    id: String,
    timestamp: i64,
    body: Vec<u8>,
    signature: String,
}

fn vectors() -> Vec<Vector> {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("../../tests/webhooks/vectors.json")).unwrap();
    let text = |vector: &Value, name: &str| vector[name].as_str().unwrap_or_default().to_owned();
    recorded
        .iter()
        .map(|vector| Vector {
            secret: Secret::parse(&text(vector, "secret")).unwrap(),
            id: text(vector, "id"),
            timestamp: vector["timestamp"].as_i64().unwrap(),
            body: match vector["times_x"].as_u64() {
                Some(times) => vec![b'x'; usize::try_from(times).unwrap()],
                None => text(vector, "body").into_bytes(),
            },
            signature: text(vector, "signature"),
        })
        .collect()
}

fn check(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: i64,
) -> Result<(), SignatureFault> {
    let header = |name: &'static str| match name {
        ID => Some(id),
        TIMESTAMP => Some(timestamp),
        SIGNATURE => Some(signature),
        _ => None,
    };
    verify(secrets, header, body, now)
}

#[test]
fn our_signatures_are_those_of_the_standards_library_of_python_and_of_openssl() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 20);
    for v in &vectors {
        let ours = sign(&[v.secret.bytes().clone()], &v.id, v.timestamp, &v.body);
        assert_eq!(ours, v.signature, "{} {}", v.id, v.timestamp);
    }
}

#[test]
fn theirs_are_believed_and_none_of_them_once_anything_is_changed() {
    for v in vectors() {
        let (secret, time) = (std::slice::from_ref(&v.secret), v.timestamp.to_string());
        let checked = |id: &str, body: &[u8]| check(secret, id, &time, &v.signature, body, v.timestamp);
        assert_eq!(checked(&v.id, &v.body), Ok(()));
        assert_eq!(checked("another", &v.body), Err(SignatureFault::NoMatch));
        let longer = [&v.body[..], b" "].concat();
        assert_eq!(checked(&v.id, &longer), Err(SignatureFault::NoMatch));
        let other = [Secret::make().unwrap()];
        let told = check(&other, &v.id, &time, &v.signature, &v.body, v.timestamp);
        assert_eq!(told, Err(SignatureFault::NoMatch));
    }
}

#[test]
fn while_a_secret_is_rotated_both_sign_and_either_is_enough() {
    let (old, new) = (Secret::make().unwrap(), Secret::make().unwrap());
    let signed = sign(&[new.bytes().clone(), old.bytes().clone()], "id", 1000, b"body");
    assert_eq!(signed.split(' ').count(), 2);
    for live in [vec![old.clone()], vec![new.clone()], vec![old, new]] {
        assert_eq!(check(&live, "id", "1000", &signed, b"body", 1000), Ok(()));
    }
}

#[test]
fn what_is_too_old_or_from_the_future_or_not_whole_is_not_believed() {
    let secret = [Secret::make().unwrap()];
    let signed = sign(&[secret[0].bytes().clone()], "id", 1000, b"");
    let at = |now| check(&secret, "id", "1000", &signed, b"", now);
    assert_eq!((at(1300), at(700)), (Ok(()), Ok(())));
    assert_eq!(at(1301), Err(SignatureFault::TooOld(301)));
    assert_eq!(at(699), Err(SignatureFault::TooNew(301)));
    assert_eq!(
        check(&secret, "id", "now", &signed, b"", 1000),
        Err(SignatureFault::Timestamp)
    );
    for nonsense in ["", "v1,", "v1,AAAA", "v1", "v1a,abc", &signed[3..]] {
        let told = check(&secret, "id", "1000", nonsense, b"", 1000);
        assert_eq!(told, Err(SignatureFault::NoMatch), "{nonsense}");
    }
    let told = verify(&secret, |_| None, b"", 1000);
    assert_eq!(told, Err(SignatureFault::Missing(ID)));
}

#[test]
fn a_secret_is_read_as_it_is_written_and_never_printed_by_accident() {
    let secret = Secret::make().unwrap();
    let written = secret.written();
    let written = written.expose_secret();
    assert!(written.starts_with("whsec_") && written.len() == 6 + 44);
    assert_eq!(Secret::parse(written).unwrap().written().expose_secret(), written);
    assert_eq!(format!("{secret:?}"), "Secret");
    for wrong in [
        "",
        "whsec_",
        "whsec_AAAA",
        &written[6..],
        "whsec_!",
        &format!("{written}{}", "A".repeat(80)),
    ] {
        let told = Secret::parse(wrong).expect_err(wrong);
        assert!(wrong.len() < 8 || !told.contains(wrong), "{told}");
    }
}
