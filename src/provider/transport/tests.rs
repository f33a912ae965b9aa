use super::*;
use proptest::prelude::*;

fn base() -> Address {
    Address::parse("https://app.example.com/api/").unwrap()
}

#[test]
fn only_https_and_this_very_machine_are_addresses() {
    for (text, told) in [
        ("https://api.example.com", Ok("api.example.com")),
        ("https://api.example.com:8443/x/", Ok("api.example.com:8443")),
        ("http://127.0.0.1:1", Ok("127.0.0.1:1")),
        ("http://127.1.2.3:1", Ok("127.1.2.3:1")),
        ("http://[::1]:1", Ok("[::1]:1")),
        ("http://localhost", Ok("localhost")),
        ("http://api.example.com", Err(AddressError::Unprotected)),
        ("http://127.0.0.1.example.com", Err(AddressError::Unprotected)),
        ("http://169.254.169.254", Err(AddressError::Unprotected)),
        ("http://0.0.0.0", Err(AddressError::Unprotected)),
        ("file:///etc/passwd", Err(AddressError::NotAUrl)),
        ("unix:/run/socket", Err(AddressError::NotAUrl)),
        ("api.example.com", Err(AddressError::NotAUrl)),
        ("", Err(AddressError::NotAUrl)),
        ("http://127.0.0.1@example.com", Err(AddressError::Unprotected)),
        ("https://user@example.com", Err(AddressError::Overloaded)),
        ("https://example.com?x", Err(AddressError::Overloaded)),
        ("https://example.com#x", Err(AddressError::Overloaded)),
    ] {
        match (Address::parse(text), told) {
            (Ok(address), Ok(host)) => assert_eq!(address.host(), host, "{text}"),
            (Err(error), Err(expected)) => assert_eq!(error, expected, "{text}"),
            (address, _) => panic!("{text}: {address:?}"),
        }
    }
}

#[test]
fn a_resource_lies_below_its_base_whatever_its_id() {
    let of = |segments: &[&str]| base().of(segments).unwrap().to_string();
    assert_eq!(
        of(&["charges", "a", "capture"]),
        "https://app.example.com/api/charges/a/capture"
    );
    assert_eq!(of(&["charges", "../x"]), "https://app.example.com/api/charges/..%2Fx");
    for nowhere in ["", ".", ".."] {
        assert!(base().of(&["charges", nowhere]).is_err(), "{nowhere}");
    }
}

proptest! {
    #[test]
    fn no_id_leaves_its_segment(id in any::<String>()) {
        prop_assume!(is_segment(&id));
        let address = base().of(&["charges", &id, "capture"]).unwrap().to_string();
        let rest = address.strip_prefix("https://app.example.com/api/charges/").unwrap();
        let written = rest.strip_suffix("/capture").unwrap();
        prop_assert!(!written.contains(['/', '?', '#', '\\']), "{}", address);
        let read = percent_encoding::percent_decode_str(written).decode_utf8().unwrap();
        prop_assert_eq!(read.as_ref(), id.as_str());
    }
}
