use super::*;
use crate::cli::demo::orders::Way;

fn plan(seed: u64, seconds: u64) -> Plan {
    Plan::draw(seed, Duration::from_secs(seconds), Duration::from_secs(10))
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_one_another() {
    let told = |plan: Plan| format!("{plan:?}");
    assert_eq!(told(plan(7, 20)), told(plan(7, 20)));
    assert_ne!(told(plan(7, 20)), told(plan(8, 20)));
}

#[test]
fn even_a_short_run_has_every_fate_and_every_trouble_once() {
    let short = plan(3, 6);
    for (fate, _) in DECK {
        assert!(short.orders.iter().any(|order| order.fate == fate), "{fate:?}");
    }
    for provider in ProviderName::ALL {
        let lost = |what: &Trouble| matches!(what, Trouble::LoseAnswers(whose, ..) | Trouble::Down(whose) if *whose == provider);
        assert!(short.troubles.iter().any(|trouble| lost(&trouble.what)), "{provider}");
    }
    let at = |what: Trouble| short.troubles.iter().find(|trouble| trouble.what == what).unwrap().at;
    assert!(at(Trouble::KillWorker) < at(Trouble::StartWorker));
    assert_eq!(
        at(Trouble::ThawWorker) - at(Trouble::FreezeWorker),
        Duration::from_secs(10)
    );
}

#[test]
fn what_is_held_is_shipped_parcel_by_parcel_or_cancelled() {
    let plan = plan(11, 30);
    for (place, order) in plan.orders.iter().enumerate() {
        let deeds: Vec<Deed> = plan
            .deeds
            .iter()
            .map(|deed| deed.what)
            .filter(|(of, _)| *of == place)
            .map(|(_, deed)| deed)
            .collect();
        let shipped = deeds.iter().filter(|deed| matches!(deed, Deed::Ship(_))).count();
        match order.fate {
            Fate::Shipped | Fate::Parcels => assert_eq!(shipped, order.captures.len()),
            Fate::Cancelled => assert!(shipped == 0 && deeds.contains(&Deed::Cancel)),
            _ => assert_eq!(shipped, 0),
        }
        assert!(order.way != Way::ResolveCharge || order.captures.len() == 1);
        assert!(order.way != Way::Optty || order.fate != Fate::Elsewhere);
    }
    let early = plan
        .deeds
        .iter()
        .position(|deed| matches!(deed.what.1, Deed::Ship(_)))
        .unwrap();
    let (order, _) = plan.deeds[early].what;
    let placed = plan
        .deeds
        .iter()
        .position(|deed| deed.what == (order, Deed::Place))
        .unwrap();
    assert!(early < placed || plan.orders[order].fate == Fate::Parcels);
}
