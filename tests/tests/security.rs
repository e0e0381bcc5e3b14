//! Who is let in: nodes by the cluster's authority, callers of the admin listener by TLS and a token.

use std::{
    fs,
    net::Ipv4Addr,
    process::{Command, Output},
};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    certificates::{Authority, Certificate},
    environment, eventually,
    node::{Node, Site},
    ports,
};

#[test]
fn a_node_without_the_clusters_authority_is_refused() -> anyhow::Result<()> {
    let (ours, theirs) = (Authority::make()?, Authority::make()?);
    let founder_listens = format!("127.0.0.1:{}", ports::free()?);
    let prepare = |name: &str, listens: &str, security: &str| {
        let config = format!(
            "cluster_listen: {listens}\nseeds: [\"{founder_listens}\"]\nbootstrap_expect: 1\n\
             bootstrap: {}\n{security}",
            name == "founder"
        );
        Node::prepare_at(&Site { name: Some(name.to_owned()), ..Site::default() }, &[], &config)
    };
    let elsewhere = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", ports::free()?));
    let by = |ca: &Authority, own: &Certificate| {
        let (ca, certificate, key) = (ca.file(), own.certificate.display(), own.key.display());
        format!("cluster_tls: {{ca_file: {}, cert_file: {certificate}, key_file: {key}}}\n", ca.display())
    };
    let sign = |authority: &Authority, name: &str| authority.sign(name, Ipv4Addr::LOCALHOST.into());
    let mut founder = prepare("founder", &founder_listens, &by(&ours, &sign(&ours, "founder")?))?;
    founder.start_again()?;

    let mut strangers = [
        prepare("of-another-authority", &elsewhere()?, &by(&theirs, &sign(&theirs, "stranger")?))?,
        prepare("with-a-certificate-of-another", &elsewhere()?, &by(&ours, &sign(&theirs, "pretender")?))?,
        prepare("in-the-clear", &elsewhere()?, "cluster_insecure: true\n")?,
    ];
    strangers.iter_mut().try_for_each(Node::start_process)?;
    for stranger in &strangers {
        eventually("it has asked, and was not answered", || {
            let why_not = stranger.why_not_ready()?;
            ensure!(why_not.contains("no answer"), "{}: {why_not:?}", stranger.name());
            Ok(())
        })?;
    }
    // One that comes later, with the right certificate, is in, and they still are not.
    let mut friend = prepare("friend", &elsewhere()?, &by(&ours, &sign(&ours, "friend")?))?;
    friend.start_again()?;
    for stranger in &strangers {
        ensure!(!stranger.why_not_ready()?.is_empty(), "{} is in", stranger.name());
    }
    let mut names: Vec<_> = founder.admin()?.nodes()?.into_iter().map(|node| node.name).collect();
    names.sort();
    ensure!(names == ["founder", "friend"], "{names:?}");
    Ok(())
}

const READ: &str = "only-looks-0123456789";
const OPERATE: &str = "does-everything-0123456789";

#[test]
fn the_admin_listener_takes_tls_and_a_token_that_is_good_for_the_call() -> anyhow::Result<()> {
    let (authority, secrets) = (Authority::make()?, tempfile::tempdir()?);
    let own = authority.sign("node-0", Ipv4Addr::LOCALHOST.into())?;
    fs::write(secrets.path().join("operate"), OPERATE)?;
    let node = Node::start_with(
        &[],
        &format!(
            "admin_tls: {{cert_file: {}, key_file: {}}}\nsecret_roots: [{secrets}]\n\
             admin_tokens: {{read: {READ}, operate: \"${{file:{secrets}/operate}}\"}}\n",
            own.certificate.display(),
            own.key.display(),
            secrets = secrets.path().display(),
        ),
    )?;
    let url = format!("https://{}", node.admin_address());
    let ca = authority.file().display().to_string();
    let ask = |token: Option<&str>, words: &[&str]| sluice(&url, Some(&ca), token, words);
    let (look, act) = (["nodes", "list", "-o", "json"], ["nodes", "drain", "node-0"]);

    ensure!(done(&ask(Some(READ), &look)?)?.contains("\"node-0\""), "who reads sees the nodes");
    done(&ask(Some(READ), &["status"])?)?;
    refused(&ask(Some(READ), &act)?, "may look, and change nothing")?;
    ensure!(!done(&ask(Some(READ), &look)?)?.contains("draining"), "a refusal changes nothing");
    done(&ask(Some(OPERATE), &act)?)?;
    ensure!(done(&ask(Some(OPERATE), &look)?)?.contains("draining"), "who operates also sees");

    for words in [&look[..], &act[..]] {
        refused(&ask(None, words)?, "none was shown")?;
        refused(&ask(Some("neither-0123456789"), words)?, "none of this node's")?;
        // Whoever is not checked could read the token.
        refused(&sluice(&url, None, Some(OPERATE), words)?, "")?;
        refused(&sluice(&url.replace("https", "http"), None, Some(OPERATE), words)?, "")?;
    }
    Ok(())
}

/// Runs the command line as an operator does; the token goes by the environment.
fn sluice(url: &str, ca: Option<&str>, token: Option<&str>, words: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(environment::built("sluice")?);
    command.args(words).args(["--admin", url]);
    command.env_remove("SLUICE_ADMIN").env_remove("SLUICE_ADMIN_CA").env_remove("SLUICE_ADMIN_TOKEN");
    if let Some(ca) = ca {
        command.args(["--admin-ca", ca]);
    }
    if let Some(token) = token {
        command.env("SLUICE_ADMIN_TOKEN", token);
    }
    command.output().context("running sluice")
}

/// What it printed.
fn done(output: &Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn refused(output: &Output, why: &str) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains(why), "not refused with {why:?}: {output:?}");
    Ok(())
}
