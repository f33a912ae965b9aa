//! The simulator as a process, and what a worker's settings say of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::output::Error;

use super::control::Control;
use super::orders::Way;
use super::processes::{Launch, Process};

/// The variable that holds the secret of every account; the simulator takes any.
const SECRET: &str = "SIMULATED_SECRET";

/// Starts it; its ledger and its log are in `home`.
pub(in crate::cli) async fn start(
    home: &Path,
    further: impl IntoIterator<Item = String>,
) -> Result<(Process, Control), Error> {
    let mut arguments: Vec<OsString> = [
        "simulate",
        "--listen",
        "127.0.0.1:0",
        "--own-ports",
        "--output",
        "json",
        "--ledger",
    ]
    .map(OsString::from)
    .into();
    arguments.push(ledger(home).into());
    arguments.extend(further.into_iter().map(OsString::from));
    let mut simulator = Process::start(Launch {
        name: "the simulator".to_owned(),
        arguments,
        environment: &[],
        log: home.join("simulator.log"),
        heard: true,
    })?;
    let address = simulator.hears(first_address).await?;
    Ok((simulator, Control::new(address)))
}

/// The providers' truth.
pub(in crate::cli) fn ledger(home: &Path) -> PathBuf {
    home.join("ledger.jsonl")
}

/// The settings of an account that the simulator serves.
pub(in crate::cli) async fn account(control: &Control, way: Way) -> Result<String, Error> {
    let lane = way.lane();
    let base_url = control.base_url(way.provider()).await?;
    let own = match way {
        Way::Afterpay => String::new(),
        Way::Optty => format!("auth_url = \"{base_url}/token\"\n"),
        Way::ResolveCharge => "model = \"charge\"\nrate_per_minute = 0\n".to_owned(),
        Way::ResolveOrder => "model = \"order\"\nrate_per_minute = 0\n".to_owned(),
    };
    Ok(format!(
        "\n[[account]]\nprovider = \"{}\"\nname = \"{}\"\nbase_url = \"{base_url}\"\nmerchant_id = \"simulated-{}\"\n\
         secret_env = \"{SECRET}\"\nconcurrency = 8\n{own}",
        lane.provider, lane.account, lane.account
    ))
}

/// What a worker finds in its environment.
pub(in crate::cli) fn secret() -> (&'static str, String) {
    (SECRET, "not-a-secret".to_owned())
}

/// A database's URL, for sessions that have the rights of a role and no more.
pub(in crate::cli) fn with_role(url: &str, role: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}options=-c%20role%3D{role}")
}

/// An address in a line.
fn first_address(line: &str) -> Option<SocketAddr> {
    let at = line.find("127.0.0.1:")?;
    let rest = line.get(at..)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_whatever_line_tells_it() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 4017)));
        assert_eq!(first_address("listening on http://127.0.0.1:4017/_simulator"), address);
        assert_eq!(first_address(r#"{"listen":"127.0.0.1:4017"}"#), address);
        assert_eq!(first_address("127.0.0.1:4017"), address);
        assert_eq!(first_address("nothing"), None);
    }
}
