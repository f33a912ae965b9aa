use super::*;
use proptest::prelude::*;

fn now() -> DateTime<Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

fn filter(pairs: &[(&str, &str)]) -> Result<Filter, Vec<FilterFault>> {
    Filter::from_pairs(pairs.iter().copied(), now())
}

#[test]
fn every_condition_is_read() {
    let usd = Currency::from_code("USD").unwrap();
    let all = filter(&[
        ("provider", "afterpay"),
        ("account", "au"),
        ("state", "dead,verifying"),
        ("state", "held"),
        ("class", "maybe_done"),
        ("code", "invalid_amount"),
        ("order", "10042"),
        ("payment", "400101"),
        ("since", "24h"),
        ("until", "2026-03-10T11:00:00+01:00"),
        ("amount", ">=100.00 USD"),
        ("expires-within", "2days"),
        ("limit", "50"),
    ])
    .unwrap();
    assert_eq!(
        all,
        Filter {
            provider: Some("afterpay".into()),
            account: Some("au".into()),
            states: vec![State::Dead, State::Verifying, State::Held],
            class: Some(Class::MaybeDone),
            code: Some("invalid_amount".into()),
            order_id: Some("10042".into()),
            payment_id: Some("400101".into()),
            since: Some("2026-03-09T12:00:00Z".parse().unwrap()),
            until: Some("2026-03-10T10:00:00Z".parse().unwrap()),
            amount: Some((Comparison::AtLeast, Money::new(10_000, usd))),
            expires_within: Some(Duration::from_secs(2 * 24 * 3600)),
            limit: Some(50),
        }
    );
    assert!(!all.means_everything());
    assert!(filter(&[("limit", "5")]).unwrap().means_everything());
}

#[test]
fn amounts_are_compared_by_five_signs() {
    for (text, sign, minor) in [
        ("<1 USD", "<", 100),
        ("<= 1.5 USD", "<=", 150),
        ("= 0.01 USD", "=", 1),
        ("100.00 USD", "=", 10_000),
        ("> 7.10  USD", ">", 710),
        (">=0 USD", ">=", 0),
    ] {
        let (comparison, money) = filter(&[("amount", text)]).unwrap().amount.unwrap();
        assert_eq!((comparison.sign(), money.minor), (sign, minor), "{text}");
    }
}

#[test]
fn a_wrong_filter_is_told_with_what_would_be_right() {
    for (name, text, told) in [
        ("colour", "red", "is no filter"),
        ("state", "ded", "there is no 'ded'"),
        ("class", "fatal", "there is no 'fatal'"),
        ("since", "yesterday", "'yesterday' is no time"),
        ("since", "2026-02-30", "'2026-02-30' is no time"),
        ("since", "9000years", "'9000years' is no time"),
        ("amount", ">=100.00", "'>=100.00' is no amount with its currency"),
        ("amount", ">=100,00 EUR", "'100,00' is not a plain decimal number"),
        ("amount", ">=1.001 EUR", "'1.001' has more decimals than EUR allows (2)"),
        ("amount", ">=1 EURO", "'EURO' is no currency of ISO 4217"),
        ("amount", ">=-1 EUR", "an amount is never negative"),
        ("expires-within", "soon", "'soon' is no span of time"),
        ("expires-within", "0s", "'0s' is no span of time"),
        ("limit", "0", "'0' is no number of rows"),
        ("order", " ", "is empty"),
    ] {
        let faults = filter(&[(name, text)]).unwrap_err();
        assert_eq!(faults.len(), 1, "{name} {text}");
        assert_eq!(faults[0].to_string(), format!("{name}: {told}"));
        assert!(!faults[0].right.is_empty());
    }
}

#[test]
fn all_faults_of_a_filter_are_told_at_once() {
    let faults = filter(&[
        ("limit", "0"),
        ("order", "1"),
        ("order", "2"),
        ("since", "1h"),
        ("until", "2h"),
    ])
    .unwrap_err();
    let names: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(names, ["limit", "order", "until"]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(name in prop::sample::select(Filter::NAMES.to_vec()), text in ".{0,40}") {
        let _ = filter(&[(name, &text)]);
    }

    #[test]
    fn every_state_is_known_by_its_name(state in prop::sample::select(State::ALL.to_vec())) {
        prop_assert_eq!(State::from_name(state.name()), Some(state));
    }
}

#[test]
fn event_types_are_those_of_the_contract_with_or_without_their_prefix() {
    assert_eq!(event_type("capture.held").as_deref(), Ok("capture.held"));
    assert_eq!(event_type(" late_result").as_deref(), Ok("capture.late_result"));
    let (wrong, right) = event_type("capture.dead_leter").unwrap_err();
    assert_eq!(wrong, "there is no 'dead_leter'");
    assert!(right.starts_with("did you mean dead_lettered?"), "{right}");
    // What the document promises to readers of the feed, neither more nor less.
    let readme = include_str!("../README.md");
    let (_, told) = readme.split_once("The feed's types are `capture.` and").unwrap();
    let (told, _) = told.split_once(".\n").unwrap();
    let mut told: Vec<&str> = told.split('`').skip(1).step_by(2).collect();
    let mut known = EVENT_TYPES.to_vec();
    told.sort_unstable();
    known.sort_unstable();
    assert_eq!(told, known);
}
