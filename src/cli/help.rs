//! The front page of `--help`: verbs by what they are for, each with its own first line.

use clap::Command;

/// The verbs of the front page, by what they are for.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Run", &["demo", "dev", "work", "serve", "simulate"]),
    ("Schema", &["migrate", "doctor", "prune"]),
    (
        "Look",
        &[
            "status", "top", "list", "get", "timeline", "dead", "risk", "order", "events", "export",
        ],
    ),
    (
        "Act",
        &[
            "enqueue",
            "release",
            "shipment",
            "cancel",
            "replay",
            "resolve",
            "operations",
        ],
    ),
    ("Lanes", &["lane"]),
    ("Hooks", &["webhook"]),
    (
        "Other",
        &["audit", "key", "config", "health", "completion", "man", "version"],
    ),
];

const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed · 2 wrong command line or settings · 3 not found · 4 not allowed \
· 5 the state forbids it · 6 partly done · 7 a check tripped · 8 database or API unreachable · 130 interrupted";

/// The same command line, its front page in groups.
pub fn grouped(command: Command) -> Command {
    let width = GROUPS
        .iter()
        .flat_map(|(_, verbs)| verbs.iter())
        .map(|verb| verb.len())
        .max()
        .unwrap_or(0);
    let mut page = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (group, verbs) in GROUPS {
        page.push_str(&format!("\n{group}:\n"));
        for verb in verbs {
            let about = command
                .find_subcommand(verb)
                .and_then(Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default();
            page.push_str(&format!("  {verb:width$}  {about}\n"));
        }
    }
    page.push_str("\nOptions:\n{options}{after-help}");
    let command = command.help_template(page).after_help(EXIT_CODES);
    command.disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CommandLine;

    #[test]
    fn the_front_page_shows_every_verb_once() {
        let command = CommandLine::definition();
        let mut shown: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let mut there: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        shown.sort_unstable();
        there.sort_unstable();
        assert_eq!(shown, there);
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::definition().debug_assert();
    }
}
