//! `capture serve` and `capture key` as processes.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::database::migrated_database;
use crate::world::{answer, client};

fn capture(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capture"));
    command
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", url)
        .env("USER", "tess")
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let ended = capture(url, arguments).output().await.unwrap();
    (
        ended.status.code().unwrap(),
        String::from_utf8(ended.stdout).unwrap(),
        String::from_utf8(ended.stderr).unwrap(),
    )
}

#[tokio::test]
async fn the_first_key_is_made_from_the_command_line_and_opens_the_server_until_it_is_revoked() {
    let url = migrated_database().await;
    let (code, _, said) = run(&url, &["serve", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("there is no live key") && said.contains("capture key create"),
        "{said}"
    );

    let why = ["--reason", "first start"];
    let create = [
        "key",
        "create",
        "shop",
        "--scope",
        "read,enqueue",
        "--expires",
        "90d",
        "-o",
        "json",
    ];
    let (code, made, said) = run(&url, &[&create[..], &why[..]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("cap_") && !said.contains(key), "{made} {said}");
    let (code, _, said) = run(&url, &[&create[..], &why[..]].concat()).await;
    assert!(code == 5 && said.contains("api_keys_name_unique"), "{said}");
    let (_, listed, _) = run(&url, &["key", "list", "-o", "json"]).await;
    assert!(listed.contains(&key[4..12]) && !listed.contains(&key[13..]), "{listed}");

    let mut serving = capture(&url, &["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut log = BufReader::new(serving.stderr.take().unwrap()).lines();
    let base = loop {
        let line: Value = serde_json::from_str(&log.next_line().await.unwrap().unwrap()).unwrap_or_default();
        if let Some(address) = line["address"].as_str() {
            break format!("http://{address}");
        }
    };
    let _ = client();
    let status = async || {
        answer(client().get(format!("{base}/v1/status")).bearer_auth(key))
            .await
            .status
    };
    assert_eq!(status().await, 200);
    let (code, _, said) = run(&url, &[&["key", "revoke", &key[4..12]][..], &why[..]].concat()).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(status().await, 401);
    let pid = Pid::from_raw(i32::try_from(serving.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    while let Ok(Some(line)) = log.next_line().await {
        assert!(!line.contains(&key[13..]), "{line}");
    }
    assert_eq!(serving.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_server_whose_database_cannot_be_reached_does_not_start() {
    let nowhere = "postgres://x@127.0.0.1:1/x";
    let (code, _, said) = run(nowhere, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(code, 8, "{said}");
}
