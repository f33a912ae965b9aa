//! The HTTP ceiling: the HTTP client that the product uses, set as the product sets it, with the product's request, and
//! nothing else. So many tasks send one call after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use reqwest::{Client, redirect, retry};
use uuid::Uuid;

use super::child::{Done, Given, micros, ready};

pub async fn play(given: Given) -> anyhow::Result<Done> {
    let client = client()?;
    ready().await?;

    let started = micros();
    let next = Arc::new(AtomicU64::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..given.concurrency {
        let (client, next, url) = (client.clone(), Arc::clone(&next), given.url.clone());
        calls.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < given.jobs {
                call(&client, &url, Uuid::new_v4()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(Done {
        started,
        finished: micros(),
        jobs: given.jobs,
    })
}

/// As `provider/transport.rs` builds it for a provider whose connections are kept.
pub fn client() -> reqwest::Result<Client> {
    Client::builder()
        .user_agent("capture-bench")
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(usize::MAX)
        .build()
}

/// As Afterpay's adapter asks for the capture of that reference.
pub async fn call(client: &Client, url: &str, reference: Uuid) -> anyhow::Result<()> {
    let body = format!(
        "{{\"requestId\":\"{reference}\",\"amount\":{{\"amount\":\"10.00\",\"currency\":\"USD\"}},\
         \"paymentEventMerchantReference\":\"{reference}\"}}"
    );
    let answer = client
        .post(format!("{url}/v2/payments/100000001/capture"))
        .header("accept", "application/json")
        .header("authorization", "Basic bTpzZWNyZXQ=")
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if status != 201 || body.is_empty() {
        bail!("the stub answered {status}");
    }
    Ok(())
}
