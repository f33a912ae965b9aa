//! Shipments on the command line: what nothing came of is shown, and a person says whose it is.

use super::place::Place;

/// A parcel of an order that nobody has, told, looked for, and not found for two hours; and one whose provider is not said.
async fn with_unmatched() -> Place {
    let place = Place::with_outbox().await;
    place
        .run_sql(
            "insert into capture.lanes (provider, account, release_on, shipment_amount) values ('afterpay', 'default', 'shipped', 'explicit');
             insert into capture.shipment_events (source, event_id, provider, order_id, tracking_number, kind) values
                 ('wms', '1', 'afterpay', 'misprinted', '1Z1', 'shipped'), ('wms', '2', null, 'o-2', '1Z2', 'shipped');
             select capture.take_shipments(10);
             select capture.match_releases(10);
             update capture.clock set ahead = '2 hours';
             select capture.watch_shipments('1 hour', '30 days', 10)",
        )
        .await;
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn goods_that_left_uncaptured_are_shown_everywhere_until_a_person_has_said_whose_they_are() {
    let place = with_unmatched().await;
    let check = place
        .run(&["status", "--check", "-o", "json"])
        .await
        .ends_with(7)
        .json();
    assert_eq!(
        (&check[0]["check"], &check[0]["intents"]),
        (&"shipment_unmatched".into(), &2.into())
    );
    let page = place.run(&["status"]).await.ends_with(0).stdout;
    assert!(
        page.contains("goods left uncaptured: 2, see capture shipment list --unmatched"),
        "{page}"
    );
    let ids = place
        .run(&["shipment", "list", "--unmatched", "-o", "id"])
        .await
        .ends_with(0);
    assert_eq!(ids.stdout, "2\n1\n");
    let rows = place
        .run(&["shipment", "list", "--unmatched", "-o", "json"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(
        (&rows[1]["order"], &rows[1]["state"]),
        (&"misprinted".into(), &"unmatched".into())
    );
    assert_eq!(rows[0]["says"], "ignored: provider is missing");
    let csv = place.run(&["shipment", "list", "-o", "csv"]).await.ends_with(0).stdout;
    assert_eq!(csv.lines().count(), 3, "{csv}");

    let matched = [
        "shipment",
        "match",
        "1",
        "--order",
        "o-1",
        "--reason",
        "the label was misprinted",
    ];
    place.run(&matched).await.ends_with(0);
    let dismissed = ["shipment", "match", "2", "--none", "--reason", "a gift"];
    place.run(&[&dismissed[..], &["-n"]].concat()).await.ends_with(0);
    place.run(&dismissed).await.ends_with(0);
    place.run(&["status", "--check"]).await.ends_with(0);
    let audit = place.run(&["audit", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(audit[0]["action"], "shipment dismiss");
    assert_eq!(
        (&audit[1]["action"], &audit[1]["reason"]),
        (&"shipment match".into(), &"the label was misprinted".into())
    );
    assert_eq!(audit[1]["detail"]["before"]["order_id"], "misprinted");
    place.run(&["audit", "verify"]).await.ends_with(0);

    let states = place.run(&["shipment", "list", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(
        (&states[0]["state"], &states[1]["state"]),
        (&"dismissed".into(), &"waiting".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_matched_is_told_and_changes_nothing() {
    let place = with_unmatched().await;
    for (arguments, code) in [
        (&["shipment", "match", "1", "--order", "o-1"][..], 2),
        (&["shipment", "match", "1", "--reason", "why"], 2),
        (
            &["shipment", "match", "1", "--order", "o-1", "--none", "--reason", "why"],
            2,
        ),
        (&["shipment", "match", "parcel", "--order", "o-1", "--reason", "why"], 2),
        (&["shipment", "match", "99", "--order", "o-1", "--reason", "why"], 3),
        (&["shipment", "match", "r99", "--order", "o-1", "--reason", "why"], 3),
        (
            &[
                "shipment",
                "match",
                "1",
                "--order",
                "o-1",
                "--provider",
                "nobody",
                "--reason",
                "why",
            ],
            2,
        ),
        (
            &[
                "shipment",
                "match",
                "2",
                "--order",
                "o-1",
                "--reason",
                "nobody has named a provider",
            ],
            2,
        ),
    ] {
        place.run(arguments).await.ends_with(code);
    }
    let ids = place
        .run(&["shipment", "list", "--unmatched", "-o", "id"])
        .await
        .ends_with(0);
    assert_eq!(ids.stdout, "2\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_telling_the_provider_of_a_parcel_is_shown_with_its_capture() {
    let place = Place::with_outbox().await;
    let id = place.enqueue("1001", 1234).await;
    for (state, code, shown) in [
        ("due", "null", "not yet"),
        ("due", "'http_500'", "not yet: http_500"),
        ("told", "null", "told"),
        ("given_up", "'http_422'", "given up: http_422"),
    ] {
        place
            .run_sql(&format!(
                "delete from capture.shipping_notices;
                 insert into capture.shipping_notices (intent, lane, state, due_at, since, ended_at, code)
                 select '{id}', 1, '{state}', case when '{state}' = 'due' then now() end, now(), case when '{state}' <> 'due' then now() end, {code}"
            ))
            .await;
        let one = place.run(&["get", &id, "-o", "json"]).await.ends_with(0).json();
        assert_eq!(one["shipping_data"], shown);
        let order = place.run(&["order", "o-1001", "-o", "json"]).await.ends_with(0).json();
        assert_eq!(order[0]["shipping_data"], shown, "{order}");
    }
}
