//! `top` on a terminal: its keys, its size, and the terminal as it was before, however it ends.

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::place::Place;
use super::terminal::Terminal;

fn open(place: &Place) -> Option<Terminal> {
    Terminal::open(place, "top --every 500ms")
}

/// Its code; the screen must be as it was.
async fn ended(terminal: Terminal) -> i32 {
    let (code, last) = terminal.ended().await;
    assert!(
        last.contains("\u{1b}[?25h\u{1b}[?1049l"),
        "the cursor and the first screen are not back: {last:?}"
    );
    code
}

fn the_frame_fits(frame: &str, columns: usize) {
    let page = frame.rsplit("\u{1b}[H").next().unwrap();
    for line in page.split("\r\n") {
        // The terminal itself adds one more return.
        let shown = line.replace("\u{1b}[K", "").replace("\u{1b}[J", "").replace('\r', "");
        assert!(shown.chars().count() <= columns, "{shown:?}");
    }
}

#[tokio::test]
async fn top_on_a_terminal_ends_with_q_and_leaves_it_as_it_was() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 1234).await;
    let Some(mut terminal) = open(&place) else {
        return;
    };
    terminal.until("\u{1b}[?1049h").await;
    let frame = terminal.until("operations: none").await;
    the_frame_fits(&frame, 80);
    assert!(
        frame.contains("afterpay/default") && frame.contains("12.34 USD"),
        "{frame:?}"
    );
    // Keys that mean nothing do nothing, and are not shown.
    // Nor do Ctrl-Z and Ctrl-\, which would leave it where nobody can give the terminal back.
    terminal.press(b"x\x1b[A\x1a\x1c").await;
    let more = terminal.until("operations: none").await;
    assert!(!more.contains('x'), "{more:?}");
    terminal.press(b"q").await;
    assert_eq!(ended(terminal).await, 0);
}

#[tokio::test]
async fn top_follows_the_size_of_its_terminal() {
    let place = Place::with_outbox().await;
    place.enqueue("1001", 1234).await;
    let Some(mut terminal) = open(&place) else {
        return;
    };
    let name = terminal.name().await;
    terminal.until("operations: none").await;
    let resize = async |rows: &str, columns: &str| {
        let set = Command::new("/bin/stty")
            .args(["-F", &name, "rows", rows, "cols", columns])
            .status();
        assert!(set.await.unwrap().success());
    };
    // Higher than wide: what does not fit is cut, and nothing wraps.
    resize("40", "40").await;
    while !terminal.until("\u{1b}[J").await.contains("capture ·") {}
    let frame = terminal.until("\u{1b}[J").await;
    the_frame_fits(&frame, 40);
    resize("3", "120").await;
    terminal.until("\u{1b}[J").await;
    let frame = terminal.until("\u{1b}[J").await;
    the_frame_fits(&frame, 120);
    let page = frame.rsplit("\u{1b}[H").next().unwrap();
    assert!(page.matches("\r\n").count() < 3, "{page:?}");
    terminal.press(b"Q").await;
    assert_eq!(ended(terminal).await, 0);
}

#[tokio::test]
async fn ctrl_c_and_sigterm_end_top_and_give_the_terminal_back() {
    let place = Place::with_outbox().await;
    let Some(mut terminal) = open(&place) else {
        return;
    };
    terminal.until("operations: none").await;
    terminal.press(b"\x03").await;
    assert_eq!(ended(terminal).await, 130);

    let Some(mut terminal) = open(&place) else {
        return;
    };
    let name = terminal.name().await;
    terminal.until("operations: none").await;
    let on_it = Command::new("/bin/ps")
        .args(["-t", name.trim_start_matches("/dev/"), "-o", "pid=,args="])
        .output();
    let listed = String::from_utf8(on_it.await.unwrap().stdout).unwrap();
    let top = listed
        .lines()
        .find(|line| line.trim_end().ends_with("capture top --every 500ms"))
        .unwrap();
    let pid = top.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(ended(terminal).await, 130);
}
