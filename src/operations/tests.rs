use super::*;

fn now() -> chrono::DateTime<chrono::Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

#[test]
fn a_filter_is_kept_under_the_names_it_is_written_with_and_reads_back_the_same() {
    let filter = Filter::from_pairs(
        [
            ("provider", "afterpay"),
            ("state", "dead"),
            ("class", "rejected"),
            ("amount", ">=100.00 USD"),
            ("since", "2026-01-31"),
            ("expires-within", "48h"),
            ("limit", "5"),
        ],
        now(),
    )
    .unwrap();
    let written = written(&filter);
    let object = written.as_object().unwrap();
    let texts: Vec<(String, String)> = object
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name.clone(), text.clone()),
            Value::Array(states) => {
                let states: Vec<&str> = states.iter().map(|state| state.as_str().unwrap()).collect();
                (name.clone(), states.join(","))
            }
            other => (name.clone(), other.to_string()),
        })
        .collect();
    let pairs = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    assert_eq!(Filter::from_pairs(pairs, now()).unwrap(), filter, "{written}");
}

#[test]
fn a_filter_that_means_everything_is_refused_unless_all_are_meant() {
    let replay = Act::Replay { also_resolved: false };
    let everything = Choice::Filter(Filter::default());
    let refused = check_choice(&replay, &everything, false).unwrap_err();
    assert_eq!(refused.code(), Some("operations_filter_means_everything"));
    assert!(check_choice(&replay, &everything, true).is_ok());
    let held = Filter {
        states: vec![State::Held],
        ..Filter::default()
    };
    let refused = check_choice(&replay, &Choice::Filter(held.clone()), true).unwrap_err();
    assert_eq!(refused.to_string(), "replay does nothing to what is held");
    assert!(check_choice(&Act::Cancel, &Choice::Filter(held), false).is_ok());
    assert!(check_choice(&replay, &Choice::Ids(Vec::new()), true).is_err());
}

#[test]
fn an_act_reads_back_as_it_was_stored() {
    for act in [
        Act::Replay { also_resolved: true },
        Act::Cancel,
        Act::Resolve {
            captured: false,
            evidence: "statement 7".to_owned(),
        },
    ] {
        assert_eq!(Act::stored(act.name(), &act.detail()), Some(act));
    }
    assert_eq!(Act::stored("refund", &Value::Null), None);
}
