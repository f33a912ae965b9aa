use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::filter::State;
use crate::intent::{Currency, Money};

const COLUMNS: [Column; 6] = [
    Column::id("id"),
    Column::text("order_id"),
    Column::text("state"),
    Column::money("amount"),
    Column::number("attempts"),
    Column::span("age"),
];

fn usd(minor: i64) -> Money {
    Money::new(minor, Currency::from_code("USD").unwrap())
}

fn two_rows() -> [Vec<Cell>; 2] {
    [
        vec![
            "a1".into(),
            "=cmd|' /C calc'!A0".into(),
            State::Dead.into(),
            usd(123_456).into(),
            3_i64.into(),
            Duration::from_secs(93_784).into(),
        ],
        vec![
            "b2".into(),
            "x\u{1b}[2J,\"y\"".into(),
            State::Captured.into(),
            usd(5).into(),
            Cell::Nothing,
        ],
    ]
}

fn written(format: Format, rows: &[Vec<Cell>]) -> String {
    let output = Output {
        format,
        terminal: false,
        width: None,
        colour: false,
        outlives_reader: false,
    };
    let mut bytes = Vec::new();
    let mut out = output.rows_to(&COLUMNS, &mut bytes).unwrap();
    for row in rows {
        out.row(row).unwrap();
    }
    assert_eq!(out.finish().unwrap(), rows.len());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_table_aligns_numbers_to_the_right_and_is_never_cut_when_piped() {
    assert_eq!(
        written(Format::Table, &two_rows()),
        "ID  ORDER_ID            STATE          AMOUNT  ATTEMPTS      AGE\n\
         a1  =cmd|' /C calc'!A0  dead      1234.56 USD         3  1day 2h\n\
         b2  x\\u{1b}[2J,\"y\"      captured     0.05 USD\n"
    );
    let long = "x".repeat(5000);
    assert!(written(Format::Table, &[vec!["a".into(), long.as_str().into()]]).contains(&long));
}

#[test]
fn json_is_an_array_and_ndjson_an_object_a_line_with_the_names_of_the_contract() {
    let first = r#"{"id":"a1","order_id":"=cmd|' /C calc'!A0","state":"dead","amount_minor":123456,"currency":"USD","attempts":3,"age_seconds":93784}"#;
    let second = r#"{"id":"b2","order_id":"x\u001b[2J,\"y\"","state":"captured","amount_minor":5,"currency":"USD","attempts":null,"age_seconds":null}"#;
    assert_eq!(
        written(Format::Json, &two_rows()),
        format!("[\n{first},\n{second}\n]\n")
    );
    assert_eq!(written(Format::Ndjson, &two_rows()), format!("{first}\n{second}\n"));
    assert_eq!(written(Format::Json, &[]), "[]\n");
    assert_eq!(written(Format::Ndjson, &[]), "");
    assert_eq!(written(Format::Table, &[]), "");
    assert!(serde_json::from_str::<Value>(&written(Format::Json, &two_rows())).is_ok());
}

#[test]
fn csv_never_carries_a_formula_and_keeps_numbers_as_they_are() {
    assert_eq!(
        written(Format::Csv, &two_rows()),
        "id,order_id,state,amount_minor,currency,attempts,age_seconds\n\
         a1,'=cmd|' /C calc'!A0,dead,123456,USD,3,93784\n\
         b2,\"x\u{1b}[2J,\"\"y\"\"\",captured,5,USD,,\n"
    );
    assert_eq!(for_csv(Value::from(-5)), "-5");
    assert_eq!(for_csv(Value::from("-5")), "'-5");
}

#[test]
fn ids_stand_alone_and_rows_without_an_id_say_so() {
    assert_eq!(written(Format::Id, &two_rows()), "a1\nb2\n");
    let output = Output {
        format: Format::Id,
        terminal: false,
        width: None,
        colour: false,
        outlives_reader: false,
    };
    let error = output.rows_to(&[Column::text("class")], Vec::new()).err().unwrap();
    assert_eq!(error.exit, Exit::Usage);
}

#[test]
fn one_thing_is_a_field_a_line_or_an_object() {
    let record = |format| {
        let output = Output {
            format,
            terminal: false,
            width: None,
            colour: false,
            outlives_reader: false,
        };
        let mut bytes = Vec::new();
        output.record_to(&COLUMNS, &two_rows()[0], &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert!(record(Format::Table).starts_with("id        a1\norder_id  =cmd"));
    assert!(record(Format::Table).contains("\namount    1234.56 USD\n"));
    assert!(record(Format::Json).starts_with(r#"{"id":"a1","#));
    assert_eq!(record(Format::Id), "a1\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_any_other_is() {
    struct Gone(io::ErrorKind);
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }
    let ends = |kind, format| {
        let output = Output {
            format,
            terminal: false,
            width: None,
            colour: false,
            outlives_reader: false,
        };
        let mut rows = output.rows_to(&[Column::id("id")], Gone(kind))?;
        rows.row(&["a".into()])?;
        rows.finish()
    };
    for format in [Format::Table, Format::Json, Format::Ndjson, Format::Csv, Format::Id] {
        let quiet = ends(io::ErrorKind::BrokenPipe, format).unwrap_err();
        assert_eq!((quiet.exit, quiet.message.as_str()), (Exit::Done, ""), "{format:?}");
        assert_eq!(ends(io::ErrorKind::StorageFull, format).unwrap_err().exit, Exit::Failed);
    }
}

#[test]
fn an_error_keeps_its_exit_code_on_its_way_through_anyhow() {
    let deep = anyhow::Error::from(Error::state_forbids("captured already").hint("nothing to do"));
    assert_eq!(Error::from(deep).exit, Exit::StateForbids);
    let other = anyhow::anyhow!("no route").context("cannot connect");
    assert_eq!(Error::from(other), Error::failed("cannot connect: no route"));
}

#[test]
fn the_exit_codes_are_those_that_scripts_build_on() {
    let codes = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::NotAllowed,
        Exit::StateForbids,
        Exit::PartlyDone,
        Exit::CheckTripped,
        Exit::Unreachable,
        Exit::Interrupted,
    ];
    assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
}

const YIELDING: [Column; 5] = [
    Column::id("id").shortens(2, 13),
    Column::text("order").shortens(3, 10),
    Column::money("amount"),
    Column::text("paused"),
    Column::text("created").leaves(1),
];

fn at_width(width: u16, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let output = Output {
        format: Format::Table,
        terminal: true,
        width: Some(width),
        colour: false,
        outlives_reader: false,
    };
    let mut bytes = Vec::new();
    let mut out = output.rows_to(columns, &mut bytes).unwrap();
    for row in rows {
        out.row(row).unwrap();
    }
    out.finish().unwrap();
    String::from_utf8(bytes).unwrap()
}

fn yielding_row() -> Vec<Cell> {
    vec![
        "01a200d1-706e-75eb-a49e-2aeca746bf70".into(),
        "order-2026-11-00003".into(),
        usd(123_456).into(),
        Cell::Nothing,
        "2026-11-22T01:14:15Z".into(),
    ]
}

#[test]
fn columns_give_way_in_the_order_that_is_declared() {
    let header = |width| {
        let page = at_width(width, &YIELDING, &[yielding_row()]);
        let lines: Vec<String> = page.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{page}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= usize::from(width)),
            "{page}"
        );
        lines
    };
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // What is blank goes first, then by turns.
    assert_eq!(words(&header(140)[0]), ["ID", "ORDER", "AMOUNT", "PAUSED", "CREATED"]);
    assert_eq!(words(&header(95)[0]), ["ID", "ORDER", "AMOUNT", "CREATED"]);
    assert_eq!(words(&header(80)[0]), ["ID", "ORDER", "AMOUNT"]);
    assert_eq!(
        header(60)[1],
        "…2aeca746bf70  order-2026-11-00003  1234.56 USD",
        "the end of an id, where ids of one minute differ"
    );
    // Cut only as far as it must be, and no further than was said.
    assert_eq!(header(45)[1], "…2aeca746bf70  order-2026-11-00…  1234.56 USD");
    assert_eq!(header(38)[1], "…2aeca746bf70  order-202…  1234.56 USD");
}

#[test]
fn what_wraps_leaves_the_other_columns_whole() {
    let columns = [
        Column::text("at"),
        Column::text("what"),
        Column::text("data").wraps(1, 30),
    ];
    let data = ["word"; 20].join(" ");
    let row = vec![
        "2026-11-22T01:14:15.447Z".into(),
        "outcome_unknown".into(),
        data.as_str().into(),
    ];
    let page = at_width(80, &columns, &[row]);
    let first = page.lines().nth(1).unwrap();
    assert!(
        first.starts_with("2026-11-22T01:14:15.447Z  outcome_unknown  word word"),
        "{page}"
    );
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert_eq!(page.matches("word").count(), 20);
}
