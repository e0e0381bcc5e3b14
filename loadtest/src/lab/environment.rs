//! Where the programs are that tests start. `tests/run` puts them there.

use std::{
    env,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

/// Apache Kafka's jars: below the cache, `kafka-<version>/libs`.
pub const KAFKA_VERSION: &str = "4.4.0";

/// A class path with Apache Kafka's jars.
///
/// # Errors
/// They are not in the cache.
pub fn kafka_class_path() -> anyhow::Result<String> {
    let libs = cache()?.join(format!("kafka-{KAFKA_VERSION}")).join("libs");
    ensure!(
        libs.join(format!("kafka_2.13-{KAFKA_VERSION}.jar")).is_file(),
        "no Apache Kafka in {}: run tests/run once, it fetches what the tests need",
        libs.display()
    );
    Ok(format!("{}/*", libs.display()))
}

/// HiveMQ CE's jars: below the cache, `hivemq-<version>/libs`.
pub const HIVEMQ_VERSION: &str = "2025.5";

/// A class path with HiveMQ CE's jars.
///
/// # Errors
/// They are not in the cache.
pub fn hivemq_class_path() -> anyhow::Result<String> {
    let libs = cache()?.join(format!("hivemq-{HIVEMQ_VERSION}")).join("libs");
    ensure!(
        libs.join(format!("hivemq-community-edition-embedded-{HIVEMQ_VERSION}.jar")).is_file(),
        "no HiveMQ CE in {}: run tests/run once, it fetches what the tests need",
        libs.display()
    );
    Ok(format!("{}/*", libs.display()))
}

/// The directory that `tests/run` fills: `SLUICE_TEST_CACHE`, or `sluice-tests` in the user's cache.
fn cache() -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::var_os("SLUICE_TEST_CACHE") {
        return Ok(dir.into());
    }
    let home = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(home.context("neither SLUICE_TEST_CACHE nor HOME is set")?.join("sluice-tests"))
}

/// The Java that runs Kafka.
///
/// # Errors
/// There is none.
pub fn java() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("JAVA_HOME") {
        let java = Path::new(&home).join("bin/java");
        if java.is_file() {
            return Ok(java);
        }
    }
    on_path("java")
}

/// Mosquitto. Debian puts it where only root's path leads.
///
/// # Errors
/// There is none.
pub fn mosquitto() -> anyhow::Result<PathBuf> {
    on_path("mosquitto")
}

/// The tool that makes Mosquitto's password files.
///
/// # Errors
/// There is none.
pub fn mosquitto_passwd() -> anyhow::Result<PathBuf> {
    on_path("mosquitto_passwd")
}

/// The tool that makes certificates.
///
/// # Errors
/// There is none.
pub fn openssl() -> anyhow::Result<PathBuf> {
    on_path("openssl")
}

/// The tool that counts instructions.
///
/// # Errors
/// There is none.
pub fn valgrind() -> anyhow::Result<PathBuf> {
    on_path("valgrind")
}

/// iproute2.
///
/// # Errors
/// There is none.
pub fn ip() -> anyhow::Result<PathBuf> {
    on_path("ip")
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// A program of this workspace, built with the same profile as this one.
///
/// # Errors
/// It has not been built.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    // Programs are target/<profile>/<name>, tests target/<profile>/deps/<test>-<hash>, examples beside deps.
    let this = env::current_exe()?;
    let mut profile = this.parent().context("a program lies in a directory")?;
    if profile.ends_with("deps") || profile.ends_with("examples") {
        profile = profile.parent().context("a test runs outside a target directory")?;
    }
    let program = profile.join(name);
    ensure!(
        program.is_file(),
        "no {}: build it with `cargo build --release --workspace --bins`, or use tests/run",
        program.display()
    );
    Ok(program)
}

fn on_path(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    for dir in env::split_paths(&path).chain(extra) {
        let program = dir.join(name);
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("no {name} on PATH: run tests/run once, it installs what the tests need")
}
