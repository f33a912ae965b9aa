//! The three providers over HTTP, faults to play, and a ledger of what was truly captured.
