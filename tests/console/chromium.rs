//! A real browser: Chromium through chromedriver, in a process group of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use uuid::Uuid;

/// Far more than any page takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Chromium {
    pub client: Client,
    driver: Child,
    driver_url: String,
    profile: PathBuf,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // By its id, and with all that it started.
        if let Some(group) = self
            .driver
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).unwrap()))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).flat_map(|place| names.iter().map(move |name| place.join(name)));
    places.into_iter().find(|program| program.is_file())
}

/// A driver that listens, and its port. Given `--port=0` it takes a port that is free for IPv6 and ends where the same
/// is in use for IPv4, as ports beside many tests are; even one found free here may be taken before the driver has it.
async fn driver_started(program: &Path) -> (Child, u16) {
    let mut said = String::new();
    for _ in 0..20 {
        let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut driver = Command::new(program)
            .arg(format!("--port={port}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
        {
            if line.contains("started successfully") {
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return (driver, port);
            }
            said.push_str(&line);
            said.push('\n');
        }
        driver.wait().await.unwrap();
    }
    panic!("chromedriver ended before it listened, twenty times:\n{said}");
}

impl Chromium {
    /// Starts it. Without a browser on a person's machine: `None`, and a word about it; in CI that is a failure.
    pub async fn start() -> Option<Chromium> {
        let found = program(&["chromedriver"]).zip(program(&["chromium", "chromium-browser", "google-chrome"]));
        let Some((driver, browser)) = found else {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "no Chromium and chromedriver here: .ci/run installs them"
            );
            // Past the harness, which keeps for itself what a test that passes has printed: this one has tested nothing.
            let _ = writeln!(
                std::io::stderr(),
                "\nNOT TESTED: no Chromium with chromedriver is here, so a test of the console's pages in a browser has done nothing; \
                 apt-get install chromium chromium-driver, and with CI=true this is a failure\n"
            );
            return None;
        };
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chromium-{}", Uuid::new_v4().simple()));
        let (driver, port) = driver_started(&driver).await;
        let driver_url = format!("http://127.0.0.1:{port}");
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-US",
        ];
        let mut flags: Vec<String> = flags.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", profile.display()));
        let wanted =
            json!({ "goog:chromeOptions": { "binary": browser, "args": flags }, "unhandledPromptBehavior": "ignore" });
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&driver_url)
            .await
            .unwrap();
        Some(Chromium {
            client,
            driver,
            driver_url,
            profile,
        })
    }

    /// Ends the browser as it likes to be ended.
    pub async fn end(self) {
        let _ = self.client.clone().close().await;
    }

    pub async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    pub async fn type_keys(&self, keys: &str) {
        for key in keys.chars() {
            self.client
                .find(Locator::Css("body"))
                .await
                .unwrap()
                .send_keys(&key.to_string())
                .await
                .unwrap();
        }
    }

    pub async fn click(&self, css: &str) {
        let found = self
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await;
        found
            .unwrap_or_else(|error| panic!("{css}: {error}"))
            .click()
            .await
            .unwrap();
    }

    pub async fn write(&self, css: &str, text: &str) {
        self.client
            .find(Locator::Css(css))
            .await
            .unwrap()
            .send_keys(text)
            .await
            .unwrap();
    }

    /// Asks until a script says true.
    pub async fn until(&self, script: &str) {
        let asking = async {
            while self.client.execute(script, Vec::new()).await.ok() != Some(Value::Bool(true)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(2 * PATIENCE, asking).await.is_err() {
            let page = self.run("return location.href + '\\n' + document.body.innerText").await;
            panic!("it never became so: {script}\n{}", page.as_str().unwrap_or_default());
        }
    }

    pub async fn wait_for_path(&self, path: &str) {
        self.until(&format!(
            "return location.pathname.startsWith('{path}') && document.readyState === 'complete'"
        ))
        .await;
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let session = self.client.session_id().await.unwrap().unwrap();
        let url = format!("{}/session/{session}/goog/cdp/execute", self.driver_url);
        let answer = reqwest::Client::new()
            .post(url)
            .json(&json!({ "cmd": command, "params": parameters }))
            .send()
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()["value"].clone()
    }

    /// A screen of that width.
    pub async fn screen(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    }

    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    pub async fn log_in(&self, base: &str, key: &str) {
        self.go(&format!("{base}/login")).await;
        self.write("#key", key).await;
        self.click("button.main").await;
        self.until("return document.querySelector('h1')?.textContent === 'Overview'")
            .await;
    }

    /// Is nothing cut off, and nothing loaded from elsewhere?
    pub async fn is_sound(&self, base: &str, width: u32) {
        let facts = self
            .run(
                "return { path: location.pathname, wide: document.scrollingElement.scrollWidth, inner: innerWidth, pwned: window.pwned ?? null,
                    h1: document.querySelectorAll('h1').length, unlabelled: [...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter((each) => !each.labels?.length && !each.ariaLabel).length,
                    outside: [...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.scroll, pre, .visually-hidden, .nav, table.cards thead')).slice(0, 4).map((each) => each.outerHTML.slice(0, 160)),
                    hosts: performance.getEntriesByType('resource').map((each) => new URL(each.name).origin) }",
            )
            .await;
        let path = &facts["path"];
        assert_eq!(facts["inner"], width, "{path}");
        assert!(
            facts["wide"].as_u64().unwrap() <= u64::from(width),
            "{path} at {width} is cut off: {facts:#}"
        );
        assert_eq!(
            facts["outside"],
            json!([]),
            "{path} at {width} has something that nobody can reach"
        );
        assert_eq!(facts["h1"], 1, "{path} has not one heading");
        assert_eq!(facts["unlabelled"], 0, "{path} has a field without a label");
        assert_eq!(facts["pwned"], Value::Null, "{path} ran what it should show");
        for host in facts["hosts"].as_array().unwrap() {
            assert_eq!(host, base, "{path} asked another host");
        }
    }
}
