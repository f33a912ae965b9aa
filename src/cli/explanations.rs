//! What classes, dead reasons and alerts mean, in words: data, so that the command line, `docs/ops.md` (held to it by
//! `tests/cli/guide.rs`) and the alerting rules say the same.

/// What a name is a name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The class of a failure: what an answer says about the money.
    Class,
    /// Why a capture is dead: what became of it.
    DeadReason,
    /// Why somebody was woken: a line of `status --check`, or a rule over the metrics.
    Alert,
}

impl Of {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Of::Class => "class",
            Of::DeadReason => "dead_reason",
            Of::Alert => "alert",
        }
    }
}

/// One class, dead reason or alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// What it is a name of. `rejected` is both.
    pub of: Of,
    /// Its name in SQL, CLI and HTTP.
    pub name: &'static str,
    /// What it says about the money, and what the worker does by itself.
    pub means: &'static str,
    /// Where to look.
    pub look: &'static str,
    /// What to type.
    pub act: &'static str,
}

/// All of them: classes first, then dead reasons, each in the order of the contract; then alerts, the most urgent first.
pub const EXPLANATIONS: [Explanation; 27] = [
    Explanation {
        of: Of::Class,
        name: "transient",
        means: "Surely not processed: no connection came about, or the provider said that it did not take the request. It may \
pass later. The worker tries again with growing pauses, retry.attempts times in all.",
        look: "capture status (is the breaker of the lane open?), the code of the failure (dns, connect_timeout, tls …), the \
network between the worker and the provider, the provider's status page.",
        act: "Nothing while it is retried. If it ended dead as exhausted, and the cause is mended: capture replay --class \
transient --reason '…' -n, then without -n.",
    },
    Explanation {
        of: Of::Class,
        name: "rate_limited",
        means: "Surely not processed: the provider asks for a pause. The whole lane waits as long as it was told; no attempt \
is spent.",
        look: "capture lane list (limited until when), rate_per_minute of the account in capture.toml, and who else calls the \
provider with the same credentials.",
        act: "Nothing. To run into it less often, set rate_per_minute to what the provider allows; all workers share it.",
    },
    Explanation {
        of: Of::Class,
        name: "in_progress",
        means: "An earlier send with our key is still running at the provider. The worker asks again with the same key, with \
growing pauses, for ten minutes; then it reads. No attempt is spent.",
        look: "capture timeline ID: when the first send was, and how often it was asked since.",
        act: "Nothing. It ends by the answer of the first send, or by reads.",
    },
    Explanation {
        of: Of::Class,
        name: "ambiguous",
        means: "Money may have moved: the request was, or may have been, sent, and no answer came that one could rely on. The \
worker verifies before anything else: by the same key where the provider knows keys, else by reads. It is never sent anew \
on a guess.",
        look: "capture list --state verifying --class ambiguous; capture timeline ID --evidence; the provider's dashboard, \
where the capture carries the id of the intent as its reference.",
        act: "Nothing while it is verifying. If it ended dead as undecided, see capture dead explain undecided.",
    },
    Explanation {
        of: Of::Class,
        name: "maybe_done",
        means: "Refused in a way that our own earlier success, or somebody else's capture, would explain. Reads decide: ours \
is there, so it is captured; somebody else's, so it is dead as captured_elsewhere; neither, so it is dead as rejected with \
the code of the refusal. It is never sent again by itself.",
        look: "capture timeline ID --evidence: what the refusal said, and what the reads showed.",
        act: "Nothing while it is verifying.",
    },
    Explanation {
        of: Of::Class,
        name: "rejected",
        means: "The provider refuses this capture for good: amount, state of the order, an order that it does not know. The \
intent is dead at once, unless an earlier attempt is of unknown outcome; then reads come first.",
        look: "the code: the provider's own word for it, or unclassified if this version does not know it. The payment in the \
provider's dashboard: amount open, expired, voided, another environment.",
        act: "See the dead reason rejected.",
    },
    Explanation {
        of: Of::Class,
        name: "misconfigured",
        means: "Ours to mend: credentials, their scope, the address, a firewall. Surely not processed; no attempt is spent. \
The lane pauses, because every other capture of it would fail alike.",
        look: "capture lane list (who paused it, and why), capture config check, the secret and base_url of the account: \
sandbox credentials at the production address look just like this.",
        act: "Mend it, start the workers anew if a setting changed, then capture lane resume PROVIDER/ACCOUNT --reason '…'.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "rejected",
        means: "The provider refused the capture for good, and nothing was captured.",
        look: "capture get ID (last_code), capture timeline ID --evidence, the payment in the provider's dashboard.",
        act: "If the cause lay with the provider or in a setting and is mended: capture replay ID --reason '…' -n says with \
which key it would go again. If the intent itself is wrong (amount, payment), it stays dead, because an intent never \
changes: enqueue the right one under a new capture_ref.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "exhausted",
        means: "Every attempt was spent on failures that may pass, and it is known that nothing was captured.",
        look: "capture dead --group-by provider,class,code: an outage shows as many of one kind. capture status: does the \
provider answer again?",
        act: "When it answers again: capture replay --code CODE --since 24h --reason '…' -n, then without -n. A replay reads \
first.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "expired",
        means: "The authorisation is over, or so nearly that a capture could not be told from a late one; it is known that \
nothing was captured.",
        look: "capture get ID (authorization_expires_at, and in expiry_source who said so), capture timeline ID: what kept it so long? A hold, a paused lane, an \
outage?",
        act: "A replay ends the same way. Ask the customer for a new payment and enqueue that; then capture resolve ID --as \
not-captured --evidence REF --reason '…' closes this one.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "undecided",
        means: "Nobody can tell from here whether money moved: reads went on for long and did not decide, or contradict each \
other. The amount stays reserved on the authorisation until a person decides. This is the one to look at first.",
        look: "the provider's dashboard or support, by the payment, the amount and the time of the attempt; the reference is \
the id of the intent. capture timeline ID --evidence shows what the worker saw.",
        act: "capture resolve ID --as captured --evidence REF --reason '…', or --as not-captured. Only then, if it was not \
captured and still should be, enqueue it under a new capture_ref. A replay reads again, and sends only what reads allow.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "captured_elsewhere",
        means: "The payment was captured by somebody else: the dashboard, a shop plugin, another system. Ours was not added.",
        look: "the provider's dashboard: who captured it, and how much. Why do two systems capture the same payments?",
        act: "If that capture is the one the order wanted: capture resolve ID --as captured --evidence REF --reason '…'. If it \
was a mistake, refund it there.",
    },
    Explanation {
        of: Of::DeadReason,
        name: "poison",
        means: "Workers died with it twice while it was claimed alone, and it was never sent. It was put aside so that it stops \
nobody else.",
        look: "the logs of the workers that died, at the times that capture timeline ID shows; memory limits; the row itself: \
capture get ID -o json.",
        act: "Report it with the log. After an upgrade: capture replay ID --reason '…'.",
    },
    Explanation {
        of: Of::Alert,
        name: "late_receipt",
        means: "A receipt came after its lease had been lost: real money. An intent that was still open ends captured by it, \
by itself. One that had been ended as dead or cancelled meanwhile does not: there the books and the provider differ. \
The check names dead letters until they are closed, and cancelled captures for a week. \
Rule: capture_late_results_total with outcome captured rose.",
        look: "capture doctor (receipts that no capture has), capture timeline ID of those it names; events late_result in the \
feed, with their alarm.",
        act: "Nothing if doctor finds none. A dead one: capture resolve ID --as captured --evidence RECEIPT --reason '…'. A cancelled one: refund at the \
provider, and tell the order system.",
    },
    Explanation {
        of: Of::Alert,
        name: "deadline_near",
        means: "Authorisations end within 24 hours, and their money is not captured. What ends uncaptured is lost, or needs a \
new payment of the customer. Held captures count: nobody has released them. So do dead letters that nobody has closed. An end that \
a provider told or an account assumes (expiry_source) counts until it is over; then it is told once more, and nothing is ended by it.",
        look: "capture list --expires-within 24h: which states? Held: did the shipment not happen, or was it not told? \
Scheduled, ready: what keeps them: a paused lane, an outage, a rate budget? Dead: see dead_letters.",
        act: "Held and shipped: capture release. A paused lane: see lane_paused. What cannot be captured in time: ask the \
customer for a new payment while the old one still shows as authorised.",
    },
    Explanation {
        of: Of::Alert,
        name: "dead_letters",
        means: "Dead letters that nobody has closed, and whose authorisation ends within 24 hours: what is not replayed by \
then cannot be captured any more. The feed told of each when it died, and tells again 48 and 24 hours before the end \
(capture.auth_expiring, state dead). Dead letters with more time, or whose end nobody told us, trip nothing; capture dead \
counts them.",
        look: "capture dead list --expires-within 24h; capture dead explain REASON.",
        act: "Mend the cause, then capture replay --expires-within 24h --reason '…' -n, and without -n. What cannot be captured \
in time: ask the customer for a new payment, then capture resolve ID --as not-captured --evidence REF --reason '…'.",
    },
    Explanation {
        of: Of::Alert,
        name: "undecided",
        means: "Dead letters of which nobody can tell from here whether money moved. Each keeps its amount reserved, and waits for \
a person however much time it has. Rule: capture_dead_letters with reason undecided is above 0.",
        look: "capture dead list; of each capture timeline ID --evidence, and the provider's dashboard.",
        act: "See the dead reason undecided.",
    },
    Explanation {
        of: Of::Alert,
        name: "shipment_unmatched",
        means: "Goods left, and for an hour no capture of theirs was held: money that nobody asks for. The shipment names no \
order that is known, the order system never asked, the capture was cancelled or is dead, or the rule of the account needs \
an amount that was not told. Rule: capture_shipments_unmatched is above 0.",
        look: "capture shipment list --unmatched: what it says of each; capture order ID of the orders that it names. Many at \
once from one source: its settings, or the order system's, changed.",
        act: "A wrong name: capture shipment match SHIPMENT --order ID --reason '…'. Never asked for: let the order system ask \
(hold or not), then the shipment releases it by itself. Not sold here, a gift, a sample: capture shipment match SHIPMENT \
--none --reason '…'.",
    },
    Explanation {
        of: Of::Alert,
        name: "no_worker",
        means: "No worker has sent a heartbeat for a minute: nothing is captured. Nothing is lost either, what is asked for \
waits; authorisations go on ending. Rule: capture_workers is 0.",
        look: "the processes (systemctl status capture, kubectl get pods), their last log lines, capture doctor: does the \
database take them?",
        act: "Start capture work. Several may run at once; what the lost ones held is verified when their leases end.",
    },
    Explanation {
        of: Of::Alert,
        name: "lane_unserved",
        means: "Captures wait in a lane that no running worker serves: its account is in nobody's capture.toml, or the worker \
that has it is down.",
        look: "capture lane list, capture status: which workers, which lanes? Was an order sent with a misspelt account?",
        act: "Add the account to capture.toml and start the workers anew; capture config check says whether it is in order. A \
misspelt account: capture cancel ID, then enqueue it under the right one.",
    },
    Explanation {
        of: Of::Alert,
        name: "lane_paused",
        means: "A lane stands still, by a person or because its account is misconfigured, and captures wait in it.",
        look: "capture lane list says who paused it, when and why. A code such as unauthorized means that the worker paused it.",
        act: "When the cause is mended: capture lane resume PROVIDER/ACCOUNT --reason '…'.",
    },
    Explanation {
        of: Of::Alert,
        name: "breaker_open",
        means: "The provider of a lane has not answered for more than ten minutes, and captures wait in it. One at a time tests \
whether it answers again; the first answer lets all go on. Rule: capture_breaker_open is 1 for ten minutes.",
        look: "capture lane list (open until when), capture dead codes --since 1h, the provider's status page, the network \
between the workers and the provider.",
        act: "Nothing while the provider is down. When it is up again: capture lane probe PROVIDER/ACCOUNT --reason '…' tests at \
once. Watch deadline_near meanwhile.",
    },
    Explanation {
        of: Of::Alert,
        name: "outcome_unknown",
        means: "It has been unknown for over an hour whether these captures moved money. Each is verified again and again; \
nothing is sent on a guess.",
        look: "capture list --state verifying; capture timeline ID --evidence. Does the provider answer reads? Then capture \
status: is the breaker of the lane open?",
        act: "Nothing while reads go on: most end by themselves when the provider answers again. What they cannot decide becomes \
dead as undecided, and is a person's then.",
    },
    Explanation {
        of: Of::Alert,
        name: "ready_too_long",
        means: "What may be captured now has not been claimed for minutes: too few workers or slots, a rate budget below what \
comes in, or a lane whose breaker is open. Rule: capture_oldest_ready_age_seconds over 300.",
        look: "capture status: ready and leased by lane. Leased is the concurrency of all workers, or up to twice that: slots are the limit. Leased is 0: pause, \
breaker or no worker.",
        act: "More workers, a higher concurrency or rate_per_minute of the account, as far as the provider allows; or wait, if a \
peak is passing.",
    },
    Explanation {
        of: Of::Alert,
        name: "dead_letters_rise",
        means: "Many captures died within a short time: more likely one cause than many. Rule: capture_dead_letters grew by \
more than 20 in 15 minutes.",
        look: "capture dead: by reason, class and code. One code on top is the cause.",
        act: "capture dead explain CLASS, mend the cause, then capture replay --code CODE --since 24h --reason '…' -n, and \
without -n.",
    },
    Explanation {
        of: Of::Alert,
        name: "database_errors",
        means: "Workers cannot reach the database, or it refuses their statements. They repeat what is safe to repeat, send \
nothing meanwhile, and go on by themselves. Rule: capture_database_errors_total rises, or capture_database_up is 0.",
        look: "capture doctor; the server's log; connections against max_connections.",
        act: "Mend the database. Workers need no restart. After a fail-over they verify before they send: what was \
asked for before it stands still for one lease (two minutes), is read, and goes on; what is asked for afterwards goes at once.",
    },
    Explanation {
        of: Of::Alert,
        name: "webhooks_behind",
        means: "An endpoint has not taken an event for a quarter of an hour, or the sender disabled it because nothing arrived \
there for days, or because it answered 410. Captures and other endpoints are not touched by it; what is pending is tried again \
for webhooks.give_up_after. Rule: capture_webhook_oldest_pending_age_seconds over 900, or an endpoint that was given up.",
        look: "capture webhook endpoint list: which one, since when; capture webhook delivery list --endpoint ENDPOINT: what it \
answers (refused, timeout, unreachable, redirect, forbidden_address). All of them behind: does a worker with webhooks.deliver \
run, and does an old open transaction hold the feed back?",
        act: "Tell whoever runs the receiver. When it is mended: capture webhook endpoint enable ENDPOINT --reason '…', then \
capture webhook delivery redeliver --endpoint ENDPOINT --since TIME --reason '…' for what it missed. If nobody wants it: capture \
webhook endpoint remove ENDPOINT --reason '…'.",
    },
];

/// What is said of that name; `rejected` has two entries.
pub fn explanations_of(name: &str) -> Vec<&'static Explanation> {
    EXPLANATIONS
        .iter()
        .filter(|explanation| explanation.name == name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Class;
    use crate::retry::DeadReason;

    #[test]
    fn every_class_and_every_dead_reason_is_explained_once_in_the_order_of_the_contract() {
        let named = |of| EXPLANATIONS.iter().filter(move |e| e.of == of).map(|e| e.name);
        assert!(named(Of::Class).eq(Class::ALL.map(Class::name)));
        assert!(named(Of::DeadReason).eq(DeadReason::ALL.map(DeadReason::name)));
    }

    #[test]
    fn every_alerting_rule_and_every_check_is_explained() {
        let rules = include_str!("../../deploy/alerts.yml");
        let mut ruled: Vec<&str> = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "))
            .collect();
        ruled.extend(crate::outbox::Check::NAMES);
        for name in &ruled {
            let explained = explanations_of(name).iter().any(|e| e.of == Of::Alert);
            assert!(explained, "{name}");
        }
        for e in EXPLANATIONS.iter().filter(|e| e.of == Of::Alert) {
            assert!(ruled.contains(&e.name), "{} never rings", e.name);
        }
    }

    #[test]
    fn every_verb_that_an_explanation_names_exists() {
        let definition = crate::cli::CommandLine::definition();
        for explanation in EXPLANATIONS {
            for text in [explanation.means, explanation.look, explanation.act] {
                for named in text.split("capture ").skip(1) {
                    let words: Vec<&str> = named.split(|c: char| !c.is_ascii_lowercase()).collect();
                    let verb = definition.find_subcommand(words[0]);
                    let is_prose = !matches!(
                        words[0],
                        "status"
                            | "dead"
                            | "replay"
                            | "resolve"
                            | "lane"
                            | "list"
                            | "get"
                            | "timeline"
                            | "config"
                            | "doctor"
                            | "cancel"
                            | "release"
                            | "work"
                    );
                    assert!(is_prose || verb.is_some(), "{}: {named}", explanation.name);
                }
            }
        }
    }
}
