//! Runs the checker, and says what came of it.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::law::Sight;
use super::{Action, Law, Scope, State, World};

/// Walks through the whole scope. Every law must hold, and each of `sights` be seen.
pub fn explore(name: &str, scope: Scope, sights: &[Sight]) {
    let began = Instant::now();
    let mut checker = World::new(scope).checker();
    if let Some(most) = std::env::var("MODEL_STATES").ok().and_then(|most| most.parse().ok()) {
        checker = checker.target_state_count(most);
    }
    let checker = checker.spawn_bfs().join();
    let states = checker.unique_state_count();
    let seconds = began.elapsed().as_millis();
    let found = checker.discoveries();
    let seen: Vec<&str> = (Sight::ALL.iter().map(|sight| sight.name()))
        .filter(|sight| found.contains_key(sight))
        .collect();
    println!(
        "{name}: {states} states, {} steps, {} deep, {}.{:03} s; seen: {}",
        checker.state_count(),
        checker.max_depth(),
        seconds / 1000,
        seconds % 1000,
        seen.join("; ")
    );
    for law in Law::ALL {
        if let Some(path) = checker.discovery(law.name()) {
            tell(name, law, path);
            unreachable!("{name}: broken: {}", law.name());
        }
    }
    for sight in sights {
        let sight = sight.name();
        assert!(seen.contains(&sight), "{name}: never seen: {sight}");
    }
}

/// A shortest way to a broken law. There must be one: the scope holds a design with a known mistake.
pub fn counterexample(name: &str, scope: Scope) -> Law {
    let began = Instant::now();
    let checker = World::new(scope)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = Law::ALL
        .into_iter()
        .filter_map(|law| Some((law, checker.discovery(law.name())?)))
        .min_by_key(|(_, path)| path.clone().into_actions().len());
    println!(
        "{name}: {} states, {} ms",
        checker.unique_state_count(),
        began.elapsed().as_millis()
    );
    let (law, path) = found.unwrap();
    tell(name, law, path);
    law
}

fn tell(name: &str, law: Law, path: Path<State, Action>) {
    let steps = path.into_vec();
    println!("{name}: {} steps to the end of: {}", steps.len() - 1, law.name());
    for (state, action) in &steps {
        if let Some(action) = action {
            println!("  {:>4} s  {action:?}", state.now);
        }
    }
    if std::env::var_os("MODEL_LAST").is_some() {
        println!("{:#?}", steps.last());
    }
}
